-- name: write_changes
-- Everything that one batch changed, in one statement: what is not touched comes as empty arrays.
WITH new_request AS (
    INSERT INTO request (
        org_id, request_id, request_type, state, version, maker_person_id, maker_user_id, maker_user_name, maker_login,
        entity_info, unit_id, till_id, store_id, zone_id, concept_id, points, member_id, identifier_kind,
        identifier_value, external_reference, host_id, host_revision, payload, sealed_headers, till_login, till_epoch,
        digest, policy_revision, approvals_required, requirement, flags, duplicate_of, started_at)
    SELECT $1, n.request_id, n.request_type, n.state, 1, n.maker_person_id, n.maker_user_id, n.maker_user_name,
        n.maker_login, n.entity_info, n.unit_id, n.till_id, n.store_id, n.zone_id, n.concept_id, n.points, n.member_id,
        n.identifier_kind, n.identifier_value, n.external_reference, n.host_id, n.host_revision, n.payload,
        n.sealed_headers, n.till_login, n.till_epoch, n.digest, n.policy_revision, n.approvals_required, n.requirement,
        string_to_array(n.flags, ','), n.duplicate_of, n.started_at
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bytea[],
        $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::text[], $18::text[], $19::text[], $20::text[], $21::integer[], $22::bytea[], $23::bytea[], $24::text[],
        $25::bigint[], $26::bytea[], $27::integer[], $28::integer[], $29::bytea[], $30::text[], $31::uuid[],
        $32::timestamptz[]) AS n (
        request_id, request_type, state, maker_person_id, maker_user_id, maker_user_name, maker_login, entity_info,
        unit_id, till_id, store_id, zone_id, concept_id, points, member_id, identifier_kind, identifier_value,
        external_reference, host_id, host_revision, payload, sealed_headers, till_login, till_epoch, digest,
        policy_revision, approvals_required, requirement, flags, duplicate_of, started_at)
), changed_request AS (
    UPDATE request r
    SET state = c.state, version = c.version, member_id = c.member_id, decided_at = c.decided_at,
        ended_at = c.ended_at, outcome = c.outcome
    FROM unnest($33::uuid[], $34::text[], $35::integer[], $36::bigint[], $37::timestamptz[], $38::timestamptz[],
        $39::bytea[]) AS c (request_id, state, version, member_id, decided_at, ended_at, outcome)
    WHERE r.org_id = $1 AND r.request_id = c.request_id
), new_decision AS (
    INSERT INTO decision (org_id, request_id, person_id, maker_person_id, user_id, user_name, verdict, message,
        decided_at)
    SELECT $1, n.* FROM unnest($40::uuid[], $41::text[], $42::text[], $43::bigint[], $44::text[], $45::text[],
        $46::text[], $47::timestamptz[]) AS n
), new_hold AS (
    INSERT INTO hold (org_id, request_id, member_id, points, state, expires_at)
    SELECT $1, n.* FROM unnest($48::uuid[], $49::bigint[], $50::bigint[], $51::text[], $52::timestamptz[]) AS n
), new_hold_lot AS (
    INSERT INTO hold_lot (org_id, request_id, lot_id, points)
    SELECT $1, n.* FROM unnest($53::uuid[], $54::uuid[], $55::bigint[]) AS n
), changed_hold AS (
    UPDATE hold h SET state = c.state
    FROM unnest($56::uuid[], $57::text[]) AS c (request_id, state)
    WHERE h.org_id = $1 AND h.request_id = c.request_id AND h.state = 'open'
), new_journal AS (
    INSERT INTO journal (org_id, journal_id, kind, member_id, request_id, at)
    SELECT $1, n.* FROM unnest($58::uuid[], $59::text[], $60::bigint[], $61::uuid[], $62::timestamptz[]) AS n
), new_posting AS (
    INSERT INTO posting (org_id, journal_id, line, source, destination, lot_id, points)
    SELECT $1, n.* FROM unnest($63::uuid[], $64::integer[], $65::text[], $66::text[], $67::uuid[], $68::bigint[]) AS n
), new_redemption AS (
    INSERT INTO redemption (org_id, redemption_id, member_id, request_id, points, external_reference,
        transaction_number, notes, till_login, redeemed_at)
    SELECT $1, n.* FROM unnest($69::text[], $70::bigint[], $71::uuid[], $72::bigint[], $73::text[], $74::text[],
        $75::text[], $76::text[], $77::timestamptz[]) AS n
), changed_member AS (
    UPDATE member m SET available = c.available, held = c.held, version = c.version
    FROM unnest($78::bigint[], $79::bigint[], $80::bigint[], $81::bigint[]) AS c (member_id, available, held, version)
    WHERE m.org_id = $1 AND m.member_id = c.member_id
), changed_lot AS (
    UPDATE lot l SET remaining = c.remaining, held = c.held, grace_until = c.grace_until
    FROM unnest($82::bigint[], $83::uuid[], $84::bigint[], $85::bigint[], $86::timestamptz[])
        AS c (member_id, lot_id, remaining, held, grace_until)
    WHERE l.org_id = $1 AND l.member_id = c.member_id AND l.lot_id = c.lot_id
), freed_key AS (
    DELETE FROM idempotency_key k USING unnest($87::uuid[]) AS c (request_id)
    WHERE k.org_id = $1 AND k.request_id = c.request_id
      AND (k.caller, k.path, k.key) IN (SELECT * FROM unnest($88::text[], $89::text[], $90::text[]))
)
INSERT INTO event (org_id, subject_id, event_id, kind, at, facts, personal, leaf_hash)
SELECT $1, n.* FROM unnest($91::uuid[], $92::uuid[], $93::text[], $94::timestamptz[], $95::bytea[], $96::bytea[],
    $97::bytea[]) AS n
