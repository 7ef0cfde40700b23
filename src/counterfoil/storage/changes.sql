-- name: requests
-- A request that was submitted.
INSERT INTO request (
    org_id, request_id, request_type, state, version, maker_person_id, maker_user_id, maker_user_name, maker_login,
    entity_info, unit_id, till_id, store_id, zone_id, concept_id, points, member_id, identifier_kind,
    identifier_value, external_reference, host_id, host_revision, payload, sealed_headers, till_login, till_epoch,
    digest, policy_revision, approvals_required, requirement, flags, duplicate_of, started_at, expires_at,
    resubmission_of, urgent_at, auto_rule, decided_at, ended_at, outcome)
SELECT $1, n.request_id, n.request_type, n.state, n.version, n.maker_person_id, n.maker_user_id, n.maker_user_name,
    n.maker_login, n.entity_info, n.unit_id, n.till_id, n.store_id, n.zone_id, n.concept_id, n.points, n.member_id,
    n.identifier_kind, n.identifier_value, n.external_reference, n.host_id, n.host_revision, n.payload,
    n.sealed_headers, n.till_login, n.till_epoch, n.digest, n.policy_revision, n.approvals_required, n.requirement,
    string_to_array(n.flags, ','), n.duplicate_of, n.started_at, n.expires_at, n.resubmission_of, n.urgent_at,
    n.auto_rule, n.decided_at, n.ended_at, n.outcome
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bytea[],
    $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
    $17::text[], $18::text[], $19::text[], $20::text[], $21::integer[], $22::bytea[], $23::bytea[], $24::text[],
    $25::bigint[], $26::bytea[], $27::integer[], $28::integer[], $29::bytea[], $30::text[], $31::uuid[],
    $32::timestamptz[], $33::timestamptz[], $34::uuid[], $35::timestamptz[], $36::text[], $37::integer[],
    $38::timestamptz[], $39::timestamptz[], $40::bytea[]) AS n (
    request_id, request_type, state, maker_person_id, maker_user_id, maker_user_name, maker_login, entity_info,
    unit_id, till_id, store_id, zone_id, concept_id, points, member_id, identifier_kind, identifier_value,
    external_reference, host_id, host_revision, payload, sealed_headers, till_login, till_epoch, digest,
    policy_revision, approvals_required, requirement, flags, duplicate_of, started_at, expires_at, resubmission_of,
    urgent_at, auto_rule, version, decided_at, ended_at, outcome)

-- name: changed_requests
-- A request whose state, version or outcome moved.
UPDATE request r
SET state = c.state, version = c.version, member_id = c.member_id, decided_at = c.decided_at,
    ended_at = c.ended_at, outcome = c.outcome, due_at = c.due_at, lease_owner = c.lease_owner,
    lease_until = c.lease_until, fence = c.fence
FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
    $8::bytea[], $9::timestamptz[], $10::text[], $11::timestamptz[], $12::integer[])
    AS c (request_id, state, version, member_id, decided_at, ended_at, outcome, due_at, lease_owner, lease_until,
    fence)
WHERE r.org_id = $1 AND r.request_id = c.request_id

-- name: decisions
-- A checker's voice.
INSERT INTO decision (org_id, request_id, number, person_id, maker_person_id, user_id, user_name, verdict, message,
    decided_at, on_behalf_of, reason_code, sent_back)
SELECT $1, n.* FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
    $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::boolean[]) AS n

-- name: comments
-- What somebody said about a request.
INSERT INTO request_comment (org_id, request_id, comment_id, person_id, user_id, user_name, message, made_at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::text[],
    $8::timestamptz[]) AS n

-- name: holds
-- Points set aside for a request.
INSERT INTO hold (org_id, request_id, member_id, points, state, expires_at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[]) AS n

-- name: hold_lots
-- The lots that a hold is pinned to.
INSERT INTO hold_lot (org_id, request_id, lot_id, points)
SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS n

-- name: changed_holds
-- A hold that was captured, released or has expired; once only.
UPDATE hold h SET state = c.state
FROM unnest($2::uuid[], $3::text[]) AS c (request_id, state)
WHERE h.org_id = $1 AND h.request_id = c.request_id AND h.state = 'open'

-- name: journals
-- One atomic set of postings.
INSERT INTO journal (org_id, journal_id, kind, member_id, request_id, at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::uuid[], $6::timestamptz[]) AS n

-- name: postings
-- Points that moved from a source to a destination.
INSERT INTO posting (org_id, journal_id, line, source, destination, lot_id, points)
SELECT $1, n.* FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[], $6::uuid[], $7::bigint[]) AS n

-- name: redemptions
-- Points spent; its reference is taken for good.
INSERT INTO redemption (org_id, redemption_id, member_id, request_id, points, external_reference,
    transaction_number, notes, till_login, redeemed_at)
SELECT $1, n.* FROM unnest($2::text[], $3::bigint[], $4::uuid[], $5::bigint[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::timestamptz[]) AS n

-- name: members
-- A member's new totals.
UPDATE member m SET available = c.available, held = c.held, version = c.version
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS c (member_id, available, held, version)
WHERE m.org_id = $1 AND m.member_id = c.member_id

-- name: lots
-- What is left of a lot.
UPDATE lot l SET remaining = c.remaining, held = c.held, grace_until = c.grace_until
FROM unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::timestamptz[])
    AS c (member_id, lot_id, remaining, held, grace_until)
WHERE l.org_id = $1 AND l.member_id = c.member_id AND l.lot_id = c.lot_id

-- name: new_lots
-- Points of a new award, as the batch leaves them.
INSERT INTO lot (org_id, member_id, lot_id, reference, awarded_at, expires_at, grace_until, points, remaining, held)
SELECT $1, n.* FROM unnest($2::bigint[], $3::uuid[], $4::text[], $5::timestamptz[], $6::timestamptz[],
    $7::timestamptz[], $8::bigint[], $9::bigint[], $10::bigint[]) AS n

-- name: goodwills
-- Goodwill that was given; its reference is taken for good.
INSERT INTO goodwill (org_id, request_id, member_id, points, awarded_at, reference)
SELECT $1, n.* FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::text[]) AS n

-- name: statuses
-- A member's status label.
INSERT INTO member_status (org_id, member_id, label, request_id, changed_at)
SELECT $1, n.* FROM unnest($2::bigint[], $3::text[], $4::uuid[], $5::timestamptz[]) AS n
ON CONFLICT (org_id, member_id) DO UPDATE
SET label = EXCLUDED.label, request_id = EXCLUDED.request_id, changed_at = EXCLUDED.changed_at

-- name: cap_counters
-- What a batch adds to counters that it has locked, or takes out of them.
UPDATE cap_counter c SET points = c.points + n.points
FROM unnest($2::text[], $3::text[], $4::date[], $5::bigint[]) AS n (cap, subject, day, points)
WHERE c.org_id = $1 AND c.cap = n.cap AND c.subject = n.subject AND c.day = n.day

-- name: cap_uses
-- Which counters a request is counted in.
INSERT INTO cap_use (org_id, request_id, cap, subject, day, points)
SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::date[], $6::bigint[]) AS n

-- name: direct_uses
-- What calling systems with a daily cap have redeemed on their latest day.
UPDATE direct_use u SET day = c.day, points = c.points
FROM unnest($2::text[], $3::date[], $4::bigint[]) AS c (login, day, points)
WHERE u.org_id = $1 AND u.login = c.login

-- name: freed_keys
-- The idempotency key of a command that was refused.
DELETE FROM idempotency_key k USING unnest($2::uuid[]) AS c (request_id)
WHERE k.org_id = $1 AND k.request_id = c.request_id
  AND (k.caller, k.path, k.key) IN (SELECT * FROM unnest($3::text[], $4::text[], $5::text[]))

-- name: events
-- One audit event.
INSERT INTO event (org_id, subject_id, event_id, kind, at, facts, personal, leaf_hash)
SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bytea[],
    $8::bytea[]) AS n

-- name: refusals
-- An audit line of a refused access. The same command may be run again after a lost connection: one line is enough.
INSERT INTO event (org_id, subject_id, event_id, kind, at, facts, personal, leaf_hash)
SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bytea[],
    $8::bytea[]) AS n
ON CONFLICT DO NOTHING

-- name: delegations
-- A deciding right that is lent.
INSERT INTO delegation (org_id, delegation_id, delegator_id, delegate_id, unit_id, request_type, points_max,
    valid_from, valid_until, made_at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[]) AS n

-- name: ended_delegations
-- A delegation that was ended early.
UPDATE delegation d SET ended_at = c.ended_at
FROM unnest($2::uuid[], $3::timestamptz[]) AS c (delegation_id, ended_at)
WHERE d.org_id = $1 AND d.delegation_id = c.delegation_id

-- name: freezes
-- A freeze that was placed.
INSERT INTO freeze_order (org_id, freeze_id, scope, target, reason, placed_by, placed_name, placed_at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::timestamptz[]) AS n

-- name: changed_freezes
-- A freeze whose lifting was proposed, or done by a second person.
UPDATE freeze_order f
SET lift_proposed_by = c.lift_proposed_by, lift_proposed_name = c.lift_proposed_name,
    lift_proposed_at = c.lift_proposed_at, lifted_by = c.lifted_by, lifted_name = c.lifted_name,
    lifted_at = c.lifted_at
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::timestamptz[])
    AS c (freeze_id, lift_proposed_by, lift_proposed_name, lift_proposed_at, lifted_by, lifted_name, lifted_at)
WHERE f.org_id = $1 AND f.freeze_id = c.freeze_id

-- name: versions
-- The organisation's version, by which every process sees with its next call that something changed.
UPDATE organisation o SET version = o.version + 1
WHERE o.org_id = $1 AND o.version = ANY ($2::bigint[])

-- name: reference_claims
-- A reference at a host, taken with the first intent: the unique index is what keeps a second request from it.
INSERT INTO reference_claim (org_id, host_id, request_type, reference, request_id)
SELECT $1, n.* FROM unnest($2::text[], $3::text[], $4::text[], $5::uuid[]) AS n

-- name: freed_references
-- The reference of a request that failed.
DELETE FROM reference_claim k
USING unnest($2::text[], $3::text[], $4::text[], $5::uuid[]) AS c (host_id, request_type, reference, request_id)
WHERE k.org_id = $1 AND k.host_id = c.host_id AND k.request_type = c.request_type AND k.reference = c.reference
    AND k.request_id = c.request_id

-- name: attempts
-- The intent to call, before the first byte leaves.
INSERT INTO attempt (org_id, request_id, number, state, fence, host_id, reference, sent_digest, owner, planned_at)
SELECT $1, n.request_id, n.number, 'planned', n.fence, n.host_id, n.reference, n.sent_digest, n.owner,
    clock_timestamp()
FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::text[], $7::bytea[], $8::text[])
    AS n (request_id, number, fence, host_id, reference, sent_digest, owner)

-- name: answered_attempts
-- What became of a call. Of one whose maker has gone only the outcome is known, and no answer.
UPDATE attempt a
SET state = CASE WHEN c.response IS NULL THEN a.state ELSE 'answered' END, outcome = coalesce(a.outcome, c.outcome),
    response = c.response, sent_at = c.sent_at, answered_at = c.answered_at, late = c.late
FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[], $8::boolean[])
    AS c (request_id, number, outcome, response, sent_at, answered_at, late)
WHERE a.org_id = $1 AND a.request_id = c.request_id AND a.number = c.number AND a.response IS NULL

-- name: look_ups
-- What a look-up has found.
INSERT INTO look_up (org_id, request_id, number, attempt, verdict, response, asked_at, answered_at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::bytea[], $7::timestamptz[],
    $8::timestamptz[]) AS n

-- name: incidents
-- What no machine can clear up.
INSERT INTO incident (org_id, incident_id, request_id, kind, message, opened_at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[]) AS n

-- name: settled_incidents
-- An incident that people have settled; once only.
UPDATE incident i SET settled_as = c.settled_as, settled_at = c.settled_at
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS c (incident_id, settled_as, settled_at)
WHERE i.org_id = $1 AND i.incident_id = c.incident_id AND i.settled_at IS NULL

-- name: incident_voices
-- What one person found out about an incident.
INSERT INTO incident_voice (org_id, incident_id, person_id, maker_person_id, user_id, user_name, settled_as, reason,
    evidence, at)
SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::timestamptz[]) AS n
