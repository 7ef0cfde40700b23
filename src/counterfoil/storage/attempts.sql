-- name: organisations_with_work
-- Which organisations have something due, without a lock: whoever claims names the organisation again. The version
-- shows whether the freezes and hosts that are known are those of now. (The clock of the statement is one that an
-- index can be asked with.)
SELECT o.org_id, o.version FROM organisation o
CROSS JOIN LATERAL (
    SELECT FROM request r WHERE r.org_id = o.org_id AND r.due_at <= statement_timestamp() LIMIT 1
) any_of_them
ORDER BY o.org_id

-- name: organisations_with_open
-- Which organisations have anything open outside, due or not.
SELECT o.org_id FROM organisation o
WHERE EXISTS (SELECT FROM request r WHERE r.org_id = o.org_id AND r.state IN ('approved', 'unknown'))
ORDER BY o.org_id

-- name: claim
-- Takes what is due, a few of each host: $3 hosts with $4 free slots each, $5 of any other host. What somebody else
-- is about to take is skipped, and so are the frozen units ($7), types ($8), makers ($9) and members ($10). The hosts
-- are found one by one, each by a step into the index, however many requests wait for it.
WITH RECURSIVE waiting AS (
    SELECT (SELECT min(r.host_id) FROM request r WHERE r.org_id = $1 AND r.due_at IS NOT NULL) AS host_id
    UNION ALL
    SELECT (SELECT min(r.host_id) FROM request r
            WHERE r.org_id = $1 AND r.due_at IS NOT NULL AND r.host_id > w.host_id)
    FROM waiting w WHERE w.host_id IS NOT NULL
), free AS MATERIALIZED (
    SELECT w.host_id, coalesce(k.slots, $5::integer) AS slots
    FROM waiting w LEFT JOIN unnest($3::text[], $4::integer[]) AS k (host_id, slots) ON k.host_id = w.host_id
    WHERE w.host_id IS NOT NULL
), due AS MATERIALIZED (
    SELECT d.request_id FROM free f CROSS JOIN LATERAL (
        SELECT r.request_id FROM request r
        WHERE r.org_id = $1 AND r.host_id = f.host_id AND r.due_at <= statement_timestamp()
          AND r.unit_id <> ALL ($7::bigint[]) AND r.request_type <> ALL ($8::text[])
          AND r.maker_person_id <> ALL ($9::text[]) AND coalesce(r.member_id <> ALL ($10::bigint[]), true)
        ORDER BY r.due_at LIMIT f.slots FOR NO KEY UPDATE SKIP LOCKED
    ) d
)
UPDATE request r
SET lease_owner = $2, lease_until = clock_timestamp() + make_interval(secs => $6),
    due_at = clock_timestamp() + make_interval(secs => $6), fence = r.fence + 1
WHERE r.org_id = $1 AND r.request_id = ANY (ARRAY(SELECT d.request_id FROM due d))
RETURNING r.request_id, r.fence, r.host_id

-- name: extend_leases
-- A heartbeat: those that are still ours stay ours. What is not returned was taken by somebody else.
UPDATE request r
SET lease_until = clock_timestamp() + make_interval(secs => $5), due_at = clock_timestamp() + make_interval(secs => $5)
FROM unnest($3::uuid[], $4::integer[]) AS c (request_id, fence)
WHERE r.org_id = $1 AND r.request_id = c.request_id AND r.fence = c.fence AND r.lease_owner = $2
RETURNING r.request_id

-- name: lock_executions
-- The requests that are executed or settled, in the order in which everybody locks them.
SELECT r.request_id FROM request r
WHERE r.org_id = $1 AND r.request_id = ANY ($2::uuid[])
ORDER BY r.request_id FOR NO KEY UPDATE

-- name: read_executions
-- Everything about them but who has approved them, read after the lock.
SELECT r.*, o.version AS organisation_version, clock_timestamp() AS now,
    NULL::json AS decisions, tries.document AS attempts,
    searches.n AS look_ups, searches.of_last AS look_ups_of_last,
    i.incident_id
FROM request r
JOIN organisation o ON o.org_id = r.org_id
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'number', a.number, 'state', a.state, 'fence', a.fence, 'outcome', a.outcome, 'planned_at', a.planned_at,
        'answered_at', a.answered_at,
        'maybe_sent', a.state = 'planned' OR a.sent_at IS NOT NULL) ORDER BY a.number) AS document
    FROM attempt a WHERE a.org_id = r.org_id AND a.request_id = r.request_id
) tries ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS n, count(*) FILTER (WHERE l.attempt = (
        SELECT max(a.number) FROM attempt a WHERE a.org_id = l.org_id AND a.request_id = l.request_id)) AS of_last
    FROM look_up l WHERE l.org_id = r.org_id AND l.request_id = r.request_id
) searches ON true
LEFT JOIN incident i ON i.org_id = r.org_id AND i.request_id = r.request_id AND i.settled_at IS NULL
WHERE r.org_id = $1 AND r.request_id = ANY ($2::uuid[])

-- name: list_holders
-- Which requests have claimed these references, and whether they have succeeded.
SELECT h.host_id, h.request_type, h.reference, h.request_id, r.state = 'succeeded' AS succeeded
FROM unnest($2::text[], $3::text[], $4::text[]) AS a (host_id, request_type, reference)
JOIN reference_claim h ON h.org_id = $1 AND h.host_id = a.host_id AND h.request_type = a.request_type
    AND h.reference = a.reference
JOIN request r ON r.org_id = h.org_id AND r.request_id = h.request_id

-- name: list_attempts
-- The attempts of one request, and the organisation's version to judge the reader by.
SELECT o.version AS organisation_version, r.unit_id, a.number, a.state, a.outcome, a.reference, a.sent_digest,
    a.owner, a.late, a.response, a.planned_at, a.sent_at, a.answered_at
FROM organisation o
LEFT JOIN request r ON r.org_id = o.org_id AND r.request_id = $2 AND r.request_type <> 'ADMIN-CHANGE'
LEFT JOIN attempt a ON a.org_id = r.org_id AND a.request_id = r.request_id
WHERE o.org_id = $1
ORDER BY a.number

-- name: list_look_ups
-- What the look-ups of one request have found.
SELECT l.number, l.attempt, l.verdict, l.response, l.asked_at, l.answered_at
FROM look_up l WHERE l.org_id = $1 AND l.request_id = $2 ORDER BY l.number

-- name: oldest_open
-- Since when the oldest approved and the oldest unknown request of an organisation wait, and the open incidents.
SELECT
    (SELECT r.decided_at FROM request r WHERE r.org_id = $1 AND r.state = 'approved'
     ORDER BY r.decided_at LIMIT 1) AS approved,
    (SELECT r.decided_at FROM request r WHERE r.org_id = $1 AND r.state = 'unknown'
     ORDER BY r.decided_at LIMIT 1) AS unknown,
    (SELECT count(*) FROM incident i WHERE i.org_id = $1 AND i.settled_at IS NULL) AS incidents
