-- name: search_requests
-- The newest requests behind a place, found by one {way} and looked at up to a depth; of these the ones that fit all
-- filters. Complete up to the last that was looked at. A member is meant by number, or by an identifier; requests
-- that were made before the member was known are found by the identifier they name.
WITH named AS MATERIALIZED (
    SELECT coalesce($12::bigint, (
        SELECT i.member_id FROM member_identifier i WHERE i.org_id = $1 AND i.kind = $13 AND i.value = $14)) AS member_id
), spelled AS MATERIALIZED (
    SELECT $13::text AS kind, $14::text AS value WHERE $13 IS NOT NULL
    UNION
    SELECT i.kind, i.value FROM named n JOIN member_identifier i ON i.org_id = $1 AND i.member_id = n.member_id
), walked AS MATERIALIZED (
    {way}
), cut AS MATERIALIZED (
    SELECT w.key_at, w.started_at, w.request_id FROM walked w
    ORDER BY w.key_at DESC, w.request_id DESC OFFSET $4 - 1 LIMIT 1
), page AS MATERIALIZED (
    SELECT w.key_at, w.request_id
    FROM walked w LEFT JOIN named n ON true
    WHERE w.request_type <> 'ADMIN-CHANGE'
      AND w.started_at >= $6 AND w.started_at < $7::timestamptz
      AND w.state = ANY ($8::text[])
      AND ($9::text IS NULL OR w.request_type = $9)
      AND ($10::bigint[] IS NULL OR w.unit_id = ANY ($10))
      AND ($11::text IS NULL OR w.external_reference = $11)
      AND (($12::bigint IS NULL AND $13::text IS NULL) OR w.member_id = n.member_id OR (
          w.member_id IS NULL AND (w.identifier_kind, w.identifier_value) IN (SELECT s.kind, s.value FROM spelled s)))
      AND ($15::text IS NULL OR w.maker_person_id = $15)
      AND ($16::text IS NULL OR EXISTS (
          SELECT FROM decision d WHERE d.org_id = $1 AND d.request_id = w.request_id AND d.person_id = $16))
    ORDER BY w.key_at DESC, w.request_id DESC LIMIT $5
)
SELECT o.version AS organisation_version, clock_timestamp() AS now,
       cut.started_at AS cut_at, cut.request_id AS cut_id, r.*, voices.document AS decisions
FROM organisation o
LEFT JOIN cut ON true
LEFT JOIN page ON true
LEFT JOIN request r ON r.org_id = $1 AND r.request_id = page.request_id
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
WHERE o.org_id = $1
ORDER BY page.key_at DESC, page.request_id DESC

-- name: way_in
-- All ways but two: {only} is what their index knows.
SELECT r.started_at AS key_at, r.started_at, r.request_id, r.state, r.request_type, r.unit_id, r.external_reference,
    r.member_id, r.identifier_kind, r.identifier_value, r.maker_person_id
FROM request r
WHERE r.org_id = $1 {only}
  AND (r.started_at, r.request_id) < ($2::timestamptz, $3::uuid) AND r.started_at >= $6::timestamptz
ORDER BY r.started_at DESC, r.request_id DESC LIMIT $4

-- name: way_in_by_checker
-- A person's decisions, newest request first: ids sort by time, and the decision does not know the request's start.
SELECT NULL::timestamptz AS key_at, r.started_at, r.request_id, r.state, r.request_type, r.unit_id,
    r.external_reference, r.member_id, r.identifier_kind, r.identifier_value, r.maker_person_id
FROM decision d JOIN request r ON r.org_id = d.org_id AND r.request_id = d.request_id
WHERE d.org_id = $1 AND d.person_id = $16 AND d.request_id < $3::uuid AND $2::timestamptz IS NOT NULL
ORDER BY d.request_id DESC LIMIT $4

-- name: way_in_by_member
-- The member's requests, and those that name the member and were made before the member was known.
SELECT r.started_at AS key_at, r.*
FROM (
    (SELECT r.started_at, r.request_id, r.state, r.request_type, r.unit_id, r.external_reference, r.member_id,
        r.identifier_kind, r.identifier_value, r.maker_person_id
    FROM named n JOIN request r ON r.org_id = $1 AND r.member_id = n.member_id
    WHERE (r.started_at, r.request_id) < ($2::timestamptz, $3::uuid)
    ORDER BY r.started_at DESC, r.request_id DESC LIMIT $4)
    UNION ALL
    (SELECT r.started_at, r.request_id, r.state, r.request_type, r.unit_id, r.external_reference, r.member_id,
        r.identifier_kind, r.identifier_value, r.maker_person_id
    FROM spelled s JOIN request r ON r.org_id = $1 AND r.member_id IS NULL
        AND r.identifier_kind = s.kind AND r.identifier_value = s.value
    WHERE (r.started_at, r.request_id) < ($2::timestamptz, $3::uuid)
    ORDER BY r.started_at DESC, r.request_id DESC LIMIT $4)
) r
ORDER BY r.started_at DESC, r.request_id DESC LIMIT $4
