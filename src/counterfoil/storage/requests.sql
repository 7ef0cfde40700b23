-- name: insert_idempotency_keys
-- Takes the keys first of all locks, sorted; a key in flight elsewhere is waited for.
INSERT INTO idempotency_key (org_id, caller, path, key, digest, request_id)
SELECT $1, k.caller, k.path, k.key, k.digest, k.request_id
FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::uuid[]) AS k (caller, path, key, digest, request_id)
ORDER BY k.caller, k.path, k.key
ON CONFLICT DO NOTHING

-- name: lock_for_submission
-- One row per command: locks the members (sorted), reads what the rule needs. Waiting for a lock does not
-- refresh the snapshot, so the caller compares locked_version with seen_version and runs it again if they differ.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::uuid[])
        AS a (request_id, request_type, kind, value, reference, host_id, caller, key, resubmission_of)
), named AS MATERIALIZED (
    SELECT a.request_id, i.member_id
    FROM asked a JOIN member_identifier i ON i.org_id = $1 AND i.kind = a.kind AND i.value = a.value
    UNION ALL
    SELECT a.request_id, m.member_id
    FROM asked a CROSS JOIN LATERAL (
        SELECT m.member_id FROM member m
        WHERE m.org_id = $1 AND m.member_id = CASE a.kind WHEN 'id' THEN a.value::bigint END OFFSET 0  -- one probe each
    ) m
), locked AS MATERIALIZED (
    SELECT m.member_id, m.version FROM member m
    WHERE m.org_id = $1 AND m.member_id IN (SELECT member_id FROM named)
    ORDER BY m.member_id FOR NO KEY UPDATE
), account AS MATERIALIZED (
    SELECT l.member_id, l.version AS locked_version, s.version AS seen_version, s.document
    FROM locked l
    CROSS JOIN LATERAL (
        SELECT m.version, m.document FROM member_account m
        WHERE m.org_id = $1 AND m.member_id = l.member_id OFFSET 0  -- one probe each, never a scan of all members
    ) s
)
SELECT a.request_id, clock_timestamp() AS now, statement_timestamp() AS statement_at,
       o.version AS organisation_version, n.member_id,
       account.locked_version, account.seen_version, account.document,
       earlier.request_id IS NOT NULL AS already_written,
       twin.request_id AS duplicate_of,
       k.request_id AS key_request_id, k.digest AS key_digest,
       before.state AS before_state, before.request_type AS before_type, before.maker_person_id AS before_maker,
       before.expires_at AS before_expires_at, another.request_id AS resubmitted_as
FROM asked a
JOIN organisation o ON o.org_id = $1
LEFT JOIN named n ON n.request_id = a.request_id
LEFT JOIN account ON account.member_id = n.member_id
LEFT JOIN request earlier ON earlier.org_id = $1 AND earlier.request_id = a.request_id
LEFT JOIN idempotency_key k ON k.org_id = $1 AND k.caller = a.caller AND k.path = $11 AND k.key = a.key
LEFT JOIN request before ON before.org_id = $1 AND before.request_id = a.resubmission_of
    AND before.request_type <> 'ADMIN-CHANGE'
LEFT JOIN request another ON another.org_id = $1 AND another.resubmission_of = a.resubmission_of
LEFT JOIN LATERAL (
    SELECT r.request_id FROM request r
    WHERE r.org_id = $1 AND r.external_reference = a.reference AND r.host_id = a.host_id
      AND r.request_type = a.request_type
      AND r.request_id <> a.request_id AND r.state IN ('pending', 'approved', 'unknown', 'succeeded')
      AND (r.state <> 'pending' OR r.expires_at IS NULL OR r.expires_at > clock_timestamp())
    ORDER BY r.started_at LIMIT 1
) twin ON a.reference IS NOT NULL

-- name: read_for_execution
-- What the ledger must know before it executes requests that a policy approves by itself; their members are locked.
SELECT a.request_id, (used.redemption_id IS NOT NULL OR given.request_id IS NOT NULL) AS reference_used,
       CASE WHEN taken.redemption_id IS NULL THEN a.first_choice ELSE a.second_choice END AS redemption_id
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS a (request_id, request_type, reference, first_choice, second_choice)
LEFT JOIN redemption used ON used.org_id = $1 AND used.external_reference = a.reference
    AND a.request_type = 'POINTS-REDEMPTION'
LEFT JOIN goodwill given ON given.org_id = $1 AND given.reference = a.reference
    AND a.request_type = 'GOODWILL-POINTS'
LEFT JOIN redemption taken ON taken.org_id = $1 AND taken.redemption_id = a.first_choice

-- name: lock_for_decision
-- One row per command: locks the requests, then their members (each sorted), reads what the rule needs.
-- Run again where a locked version differs from the one seen.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[])
        AS a (decision_id, request_id, first_choice, second_choice)
), locked_request AS MATERIALIZED (
    SELECT r.* FROM request r
    WHERE r.org_id = $1 AND r.request_id = ANY ($3::uuid[]) AND r.request_type <> 'ADMIN-CHANGE'
    ORDER BY r.request_id FOR NO KEY UPDATE
), owner AS MATERIALIZED (
    SELECT r.request_id, coalesce(r.member_id, i.member_id, m.member_id) AS member_id
    FROM locked_request r
    LEFT JOIN member_identifier i ON r.member_id IS NULL
        AND i.org_id = $1 AND i.kind = r.identifier_kind AND i.value = r.identifier_value
    LEFT JOIN LATERAL (
        SELECT m.member_id FROM member m
        WHERE m.org_id = $1 AND r.member_id IS NULL
          AND m.member_id = CASE r.identifier_kind WHEN 'id' THEN r.identifier_value::bigint END OFFSET 0
    ) m ON true
), locked AS MATERIALIZED (
    SELECT m.member_id, m.version FROM member m
    WHERE m.org_id = $1 AND m.member_id IN (SELECT member_id FROM owner)
    ORDER BY m.member_id FOR NO KEY UPDATE
), account AS MATERIALIZED (
    SELECT l.member_id, l.version AS locked_version, s.version AS seen_version, s.document
    FROM locked l
    CROSS JOIN LATERAL (
        SELECT m.version, m.document FROM member_account m
        WHERE m.org_id = $1 AND m.member_id = l.member_id OFFSET 0  -- one probe each, never a scan of all members
    ) s
)
SELECT a.decision_id, a.request_id AS asked_request_id, clock_timestamp() AS now, statement_timestamp() AS statement_at,
       o.version AS organisation_version,
       r.*, seen.version AS seen_request_version,
       account.member_id AS account_member_id, account.locked_version, account.seen_version, account.document,
       written.event_id IS NOT NULL AS already_written,
       voices.document AS decisions, held.document AS hold,
       used.redemption_id IS NOT NULL OR given.request_id IS NOT NULL AS reference_used,
       CASE WHEN taken.redemption_id IS NULL THEN a.first_choice ELSE a.second_choice END AS redemption_id
FROM asked a
JOIN organisation o ON o.org_id = $1
LEFT JOIN locked_request r ON r.request_id = a.request_id
LEFT JOIN request seen ON seen.org_id = $1 AND seen.request_id = r.request_id
LEFT JOIN owner ON owner.request_id = r.request_id
LEFT JOIN account ON account.member_id = owner.member_id
LEFT JOIN event written ON written.org_id = $1 AND written.subject_id = a.request_id
    AND written.event_id = a.decision_id
LEFT JOIN redemption used ON r.request_type = 'POINTS-REDEMPTION'
    AND used.org_id = $1 AND used.external_reference = r.external_reference
LEFT JOIN LATERAL (
    SELECT g.request_id FROM goodwill g
    WHERE r.request_type = 'GOODWILL-POINTS' AND g.org_id = $1 AND g.reference = r.external_reference OFFSET 0
) given ON true
LEFT JOIN redemption taken ON taken.org_id = $1 AND taken.redemption_id = a.first_choice
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
LEFT JOIN LATERAL (
    SELECT json_build_object(
        'request_id', h.request_id, 'points', h.points, 'expires_at', h.expires_at, 'state', h.state,
        'allocations', (
            SELECT json_agg(json_build_object('lot_id', p.lot_id, 'points', p.points))
            FROM hold_lot p WHERE p.org_id = $1 AND p.request_id = h.request_id)) AS document
    FROM hold h WHERE h.org_id = $1 AND h.request_id = r.request_id
) held ON true

-- name: fetch_request
-- One request with its voices, and the organisation's version to judge the reader by.
SELECT o.version AS organisation_version, statement_timestamp() AS now, r.*, voices.document AS decisions,
    another.request_id AS resubmitted_as
FROM organisation o
LEFT JOIN request r ON r.org_id = o.org_id AND r.request_id = $2 AND r.request_type <> 'ADMIN-CHANGE'
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
LEFT JOIN request another ON another.org_id = $1 AND another.resubmission_of = r.request_id
WHERE o.org_id = $1

-- name: claim_overdue
-- Pending requests whose time is over, oldest end first, with their members: whatever somebody else has locked
-- is left alone, so that this waits for nobody.
WITH overdue AS MATERIALIZED (
    SELECT r.request_id, r.member_id FROM request r
    WHERE r.org_id = $1 AND r.ended_at IS NULL AND r.expires_at <= clock_timestamp() AND r.state = 'pending'
    ORDER BY r.expires_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
), free AS MATERIALIZED (
    SELECT m.member_id FROM member m
    WHERE m.org_id = $1 AND m.member_id IN (SELECT member_id FROM overdue)
    ORDER BY m.member_id FOR NO KEY UPDATE SKIP LOCKED
)
SELECT request_id FROM overdue WHERE member_id IS NULL OR member_id IN (SELECT member_id FROM free)

-- name: has_overdue
-- Whether any pending request's time is over: a look that locks nothing.
SELECT EXISTS (
    SELECT FROM request r
    WHERE r.org_id = $1 AND r.ended_at IS NULL AND r.expires_at <= clock_timestamp() AND r.state = 'pending')

-- name: list_events
-- The audit trail of one request, in order.
SELECT o.version AS organisation_version, r.unit_id, e.event_id, e.kind, e.at, e.facts, e.personal, e.leaf_hash
FROM organisation o
LEFT JOIN request r ON r.org_id = o.org_id AND r.request_id = $2
LEFT JOIN event e ON e.org_id = o.org_id AND e.subject_id = $2
WHERE o.org_id = $1
ORDER BY e.at, e.event_id

-- name: oldest_pending
-- When the oldest open request of an organisation was submitted.
SELECT min(r.started_at) AS started_at FROM request r WHERE r.org_id = $1 AND r.ended_at IS NULL

-- name: list_requests
-- One page of the contract's list with its exact total. {only_open} lets the list of open requests use
-- its own small index; {order} is one of four closed orders.
WITH chosen AS NOT MATERIALIZED (
    SELECT r.* FROM request r
    WHERE r.org_id = $1 {only_open} AND r.request_type <> 'ADMIN-CHANGE'
      AND CASE WHEN r.state = 'pending' AND r.expires_at <= statement_timestamp() THEN 'expired' ELSE r.state END
          = ANY ($2::text[])
      AND ($3::text IS NULL OR r.request_type = $3)
      AND ($4::bigint IS NULL OR r.maker_user_id = $4)
      AND ($5::bigint IS NULL OR r.till_id = $5)
      AND ($6::bigint IS NULL OR r.store_id = $6)
      AND ($7::bigint IS NULL OR r.zone_id = $7)
      AND ($8::bigint IS NULL OR r.concept_id = $8)
      AND r.started_at >= $9::timestamptz AND r.started_at < $10::timestamptz
      AND ($13::bigint[] IS NULL OR r.unit_id = ANY ($13))
), page AS MATERIALIZED (
    SELECT * FROM chosen ORDER BY {order} LIMIT $11 OFFSET $12
)
SELECT o.version AS organisation_version, statement_timestamp() AS now, total.n AS total, page.*,
    voices.document AS decisions
FROM organisation o
CROSS JOIN (SELECT count(*) AS n FROM chosen) total
LEFT JOIN page ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE d.org_id = $1 AND d.request_id = page.request_id
) voices ON true
WHERE o.org_id = $1
ORDER BY {order}
