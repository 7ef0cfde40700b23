-- name: insert_change
-- A proposed change; it is made at no unit and goes to no host.
INSERT INTO request (
    org_id, request_id, request_type, state, maker_person_id, maker_user_id, maker_user_name, maker_login, entity_info,
    payload, sealed_headers, digest, policy_revision, approvals_required, requirement, flags, started_at)
VALUES ($1, $2, 'ADMIN-CHANGE', 'pending', $3, $4, $5, $6, $7, $8, '', $9, 0, 1,
    '[{"count":1,"right":"CanAdminister"}]', '{}', $10)

-- name: fetch_change
-- One change with its voices, and the organisation's version and the time to judge the reader by.
SELECT o.version AS organisation_version, clock_timestamp() AS now, r.*, voices.document AS decisions
FROM organisation o
LEFT JOIN request r ON r.org_id = o.org_id AND r.request_id = $2 AND r.request_type = 'ADMIN-CHANGE'
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at) ORDER BY d.number) AS document
    FROM decision d WHERE d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
WHERE o.org_id = $1

-- name: lock_change
-- After the organisation's own lock, which makes administrators wait for each other.
SELECT request_id FROM request WHERE org_id = $1 AND request_id = $2 FOR NO KEY UPDATE

-- name: is_written
-- Whether this voice was written before its connection was lost.
SELECT EXISTS (SELECT FROM event WHERE org_id = $1 AND subject_id = $2 AND event_id = $3)

-- name: list_changes
-- A page of changes, the newest first, without what they change.
SELECT o.version AS organisation_version, clock_timestamp() AS now, page.*
FROM organisation o
LEFT JOIN LATERAL (
    SELECT r.request_id, r.state, r.maker_person_id, r.maker_user_name, r.entity_info, r.started_at, r.ended_at
    FROM request r
    WHERE r.org_id = $1 AND r.request_type = 'ADMIN-CHANGE'
      AND ($2::text IS NULL OR r.state = $2)
      AND ($3::timestamptz IS NULL OR (r.started_at, r.request_id) < ($3, $4::uuid))
    ORDER BY r.started_at DESC, r.request_id DESC LIMIT $5
) page ON true
WHERE o.org_id = $1
ORDER BY page.started_at DESC, page.request_id DESC

-- name: end_change
-- The change after its voice.
UPDATE request SET state = $3, version = $4, decided_at = $5, ended_at = $5, outcome = $6
WHERE org_id = $1 AND request_id = $2

-- name: insert_decision
-- The voice of the second administrator.
INSERT INTO decision (org_id, request_id, number, person_id, maker_person_id, user_id, user_name, verdict, message,
    decided_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9)

-- name: suspend
-- People whose sign-in was changed decide nothing until then.
UPDATE person SET suspended_until = $3 WHERE org_id = $1 AND person_id = ANY ($2::text[])

-- name: take_back
-- What people whose sign-in was changed have lent ends with that.
UPDATE delegation SET ended_at = $3 WHERE org_id = $1 AND delegation_id = ANY ($2::uuid[])

-- name: hold_back_issuers
-- Whoever knows a key that is new could sign in as anybody: nothing is decided with its tokens until then.
UPDATE ui_token_issuer SET decides_from = $3 WHERE org_id = $1 AND issuer = ANY ($2::text[])
