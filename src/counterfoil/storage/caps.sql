-- name: lock_for_submission
-- The counters that new requests may be counted in, of today: made where they are missing, locked in order and read.
-- A member is counted under one number, whatever identifier is sent. $8 is the organisation's time zone.
WITH asked AS MATERIALIZED (
    SELECT a.request_id, a.cap, (clock_timestamp() AT TIME ZONE $8)::date AS day,
        CASE WHEN a.per <> 'member' THEN a.subject
             ELSE coalesce('member ' || i.member_id, a.kind || ' ' || a.subject) END AS subject
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS a (request_id, cap, per, subject, kind, value)
    LEFT JOIN member_identifier i ON a.per = 'member' AND i.org_id = $1 AND i.kind = a.kind AND i.value = a.value
), locked AS (
    INSERT INTO cap_counter AS c (org_id, cap, subject, day)
    SELECT $1, n.cap, n.subject, n.day FROM (SELECT DISTINCT cap, subject, day FROM asked) n
    ORDER BY n.cap, n.subject, n.day
    ON CONFLICT (org_id, cap, subject, day) DO UPDATE SET points = c.points
    RETURNING cap, subject, day, points
)
SELECT a.request_id, a.cap, a.subject, a.day, l.points
FROM asked a JOIN locked l ON l.cap = a.cap AND l.subject = a.subject AND l.day = a.day

-- name: lock_for_decision
-- The counters that requests are counted in, and those of maker and checker that a voice may be counted in: locked in
-- order, after the requests themselves. One row for each use (points of the use), one for each
-- pair cap that is frozen on a request and each checker ($3, $4) who approves it.
WITH locked_request AS MATERIALIZED (
    SELECT r.request_id, r.maker_person_id, r.requirement FROM request r
    WHERE r.org_id = $1 AND r.request_id = ANY ($2::uuid[]) AND r.request_type <> 'ADMIN-CHANGE'
    ORDER BY r.request_id FOR NO KEY UPDATE
), wanted AS MATERIALIZED (
    SELECT u.request_id, NULL::text AS checker, u.cap, u.subject, u.day, u.points
    FROM cap_use u JOIN locked_request r ON r.request_id = u.request_id
    WHERE u.org_id = $1
    UNION ALL
    SELECT r.request_id, p.checker, cap.document ->> 'name', r.maker_person_id || ' | ' || p.checker,
        (clock_timestamp() AT TIME ZONE $5)::date, NULL
    FROM unnest($3::uuid[], $4::text[]) AS p (request_id, checker)
    JOIN locked_request r ON r.request_id = p.request_id
    CROSS JOIN LATERAL json_array_elements(convert_from(r.requirement, 'UTF8')::json -> 'pair_caps') cap (document)
), locked AS (
    INSERT INTO cap_counter AS c (org_id, cap, subject, day)
    SELECT $1, n.cap, n.subject, n.day FROM (SELECT DISTINCT cap, subject, day FROM wanted) n
    ORDER BY n.cap, n.subject, n.day
    ON CONFLICT (org_id, cap, subject, day) DO UPDATE SET points = c.points
    RETURNING cap, subject, day, points
)
SELECT w.request_id, w.checker, w.cap, w.subject, w.day, w.points AS used, l.points
FROM wanted w JOIN locked l ON l.cap = w.cap AND l.subject = w.subject AND l.day = w.day
