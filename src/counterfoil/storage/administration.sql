-- name: insert_organisation
-- A new organisation gets its row, so that there is one to lock; an existing one stays as it is.
INSERT INTO organisation (
    org_id, name, time_zone, wire_time_zone, country_code, profile, control, echo_credentials, read_scope,
    incident_quorum)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
RETURNING org_id

-- name: lock_organisation
-- The one lock of administration: whoever changes an organisation waits here for whoever else does.
SELECT org_id FROM organisation WHERE org_id = $1 FOR NO KEY UPDATE

-- name: fetch_now
-- The time of the change, read after the lock, and whether any member is there.
SELECT clock_timestamp() AS now, EXISTS (SELECT FROM member WHERE org_id = $1) AS has_members

-- name: list_login_owners
-- Whose the logins are, over all organisations (the directory's exception).
SELECT login, org_id FROM directory WHERE login = ANY ($1::text[])

-- name: list_member_identifiers
-- The members among these ids, with a row for each identifier.
SELECT m.member_id, i.kind, i.value
FROM member m LEFT JOIN member_identifier i ON i.org_id = m.org_id AND i.member_id = m.member_id
WHERE m.org_id = $1 AND m.member_id = ANY ($2::bigint[])

-- name: list_lots
-- Every lot ever awarded to these members.
SELECT member_id, reference, points, awarded_at, expires_at
FROM lot WHERE org_id = $1 AND member_id = ANY ($2::bigint[])

-- name: list_identifier_owners
-- Which members have these identifiers.
SELECT i.kind, i.value, i.member_id
FROM unnest($2::text[], $3::text[]) AS a (kind, value)
JOIN member_identifier i ON i.org_id = $1 AND i.kind = a.kind AND i.value = a.value

-- name: update_organisation
-- The organisation's own fields, and the version by which every process sees that something changed.
UPDATE organisation
SET name = $2, time_zone = $3, wire_time_zone = $4, country_code = $5, profile = $6, control = $7,
    echo_credentials = $8, read_scope = $9, incident_quorum = $10, version = $11
WHERE org_id = $1

-- name: write_units
-- Units that are new or differ; a unit never goes and never changes its kind.
INSERT INTO org_unit (
    org_id, unit_id, kind, name, code, zone_parent_id, concept_parent_id, store_id, active, external_ids)
SELECT $1, n.unit_id, n.kind, n.name, n.code, n.zone_parent_id, n.concept_parent_id, n.store_id, n.active,
    string_to_array(n.external_ids, ',')
FROM unnest(
    $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::boolean[],
    $10::text[])
    AS n (unit_id, kind, name, code, zone_parent_id, concept_parent_id, store_id, active, external_ids)
ON CONFLICT (org_id, unit_id) DO UPDATE
SET name = EXCLUDED.name, code = EXCLUDED.code, zone_parent_id = EXCLUDED.zone_parent_id,
    concept_parent_id = EXCLUDED.concept_parent_id, store_id = EXCLUDED.store_id, active = EXCLUDED.active,
    external_ids = EXCLUDED.external_ids

-- name: write_people
-- People who are new or differ.
INSERT INTO person (org_id, person_id, name, active)
SELECT $1, n.* FROM unnest($2::text[], $3::text[], $4::boolean[]) AS n
ON CONFLICT (org_id, person_id) DO UPDATE SET name = EXCLUDED.name, active = EXCLUDED.active

-- name: delete_person_identifiers
-- By which identifiers people are members, too: all of those who differ, to be inserted again.
DELETE FROM person_identifier WHERE org_id = $1 AND person_id = ANY ($2::text[])

-- name: insert_person_identifiers
-- By which identifiers people are members, too.
INSERT INTO person_identifier (org_id, person_id, kind, value)
SELECT $1, n.* FROM unnest($2::text[], $3::text[], $4::text[]) AS n

-- name: delete_group_members
-- The people of groups that go or differ: those that differ are inserted again.
DELETE FROM person_group_member WHERE org_id = $1 AND group_id = ANY ($2::text[])

-- name: delete_groups
-- Groups that go.
DELETE FROM person_group WHERE org_id = $1 AND group_id = ANY ($2::text[])

-- name: write_groups
-- Groups that are new or differ.
INSERT INTO person_group (org_id, group_id, name)
SELECT $1, n.* FROM unnest($2::text[], $3::text[]) AS n
ON CONFLICT (org_id, group_id) DO UPDATE SET name = EXCLUDED.name

-- name: insert_group_members
-- The people of groups.
INSERT INTO person_group_member (org_id, group_id, person_id)
SELECT $1, n.* FROM unnest($2::text[], $3::text[]) AS n

-- name: free_user_names
-- Takes away the names of users that get another one, so that two can swap theirs in the write that follows.
UPDATE app_user SET user_name = 'renamed: ' || user_id::text
WHERE org_id = $1 AND user_id = ANY ($2::bigint[])

-- name: write_users
-- Users that are new or differ.
INSERT INTO app_user (org_id, user_id, user_name, person_id, password_hash, epoch, active)
SELECT $1, n.* FROM unnest(
    $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::boolean[]) AS n
ON CONFLICT (org_id, user_id) DO UPDATE
SET user_name = EXCLUDED.user_name, person_id = EXCLUDED.person_id, password_hash = EXCLUDED.password_hash,
    epoch = EXCLUDED.epoch, active = EXCLUDED.active

-- name: write_credentials
-- Credentials that are new or differ. The rights come as one text, because arrays of arrays must be even.
INSERT INTO credential (
    org_id, login, kind, user_id, person_id, unit_id, secret_hash, rights, epoch, active, token_seconds,
    access_group, direct_cap_per_call, direct_cap_per_day)
SELECT $1, n.login, n.kind, n.user_id, n.person_id, n.unit_id, n.secret_hash, string_to_array(n.rights, ','),
    n.epoch, n.active, n.token_seconds, n.access_group, n.direct_cap_per_call, n.direct_cap_per_day
FROM unnest(
    $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::boolean[],
    $10::text[], $11::integer[], $12::text[], $13::bigint[], $14::bigint[])
    AS n (login, user_id, person_id, unit_id, secret_hash, rights, epoch, active, kind, token_seconds, access_group,
        direct_cap_per_call, direct_cap_per_day)
ON CONFLICT (org_id, login) DO UPDATE
SET user_id = EXCLUDED.user_id, person_id = EXCLUDED.person_id, unit_id = EXCLUDED.unit_id,
    secret_hash = EXCLUDED.secret_hash, rights = EXCLUDED.rights, epoch = EXCLUDED.epoch, active = EXCLUDED.active,
    token_seconds = EXCLUDED.token_seconds, access_group = EXCLUDED.access_group,
    direct_cap_per_call = EXCLUDED.direct_cap_per_call, direct_cap_per_day = EXCLUDED.direct_cap_per_day

-- name: insert_direct_use
-- The counter of a daily cap, so that there is always one to lock; one that is there goes on.
INSERT INTO direct_use (org_id, login, day, points)
SELECT $1, login, '-infinity', 0 FROM unnest($2::text[]) AS n (login)
ON CONFLICT DO NOTHING

-- name: insert_logins
-- Claims logins in the directory; one that another organisation claims at this moment is waited for.
INSERT INTO directory (login, org_id)
SELECT login, $1 FROM unnest($2::text[]) AS n (login) ORDER BY login
ON CONFLICT DO NOTHING

-- name: delete_grants
-- Grants that are revoked.
DELETE FROM access_grant WHERE org_id = $1 AND grant_id = ANY ($2::uuid[])

-- name: insert_grants
-- Grants that are given.
INSERT INTO access_grant (
    org_id, grant_id, person_id, group_id, unit_id, access_right, request_type, points_max, valid_from, valid_until)
SELECT $1, n.* FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::timestamptz[],
    $10::timestamptz[]) AS n

-- name: delete_hosts
-- Hosts that go or differ: those that differ are inserted again, so that two can swap their addresses.
DELETE FROM host WHERE org_id = $1 AND host_id = ANY ($2::text[])

-- name: insert_hosts
-- Hosts that come or differ.
INSERT INTO host (org_id, host_id, scheme, pattern, port, target, revision, base_url, plain_http, private, link_local,
    ca_pem, credential_sealed, credential_mac, attempt_seconds, overall_seconds, absent_after_seconds, look_up,
    concurrency)
SELECT $1, n.* FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::integer[], $8::text[], $9::boolean[],
    $10::boolean[], $11::boolean[], $12::text[], $13::text[], $14::text[], $15::double precision[],
    $16::double precision[], $17::double precision[], $18::boolean[], $19::integer[]) AS n

-- name: insert_policy
-- A further revision of the policy; requests that were made under an earlier one keep that one.
INSERT INTO policy (org_id, revision, document, created_at)
VALUES ($1, $2, $3::json, $4)

-- name: write_programme
-- The loyalty programme.
INSERT INTO programme (
    org_id, programme_id, name, currency_per_point, hold_days, release_grace_hours, goodwill_expiry_days,
    goodwill_points_max, is_default)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, true)
ON CONFLICT (org_id, programme_id) DO UPDATE
SET name = EXCLUDED.name, currency_per_point = EXCLUDED.currency_per_point, hold_days = EXCLUDED.hold_days,
    release_grace_hours = EXCLUDED.release_grace_hours, goodwill_expiry_days = EXCLUDED.goodwill_expiry_days,
    goodwill_points_max = EXCLUDED.goodwill_points_max

-- name: delete_reason_codes
-- Reason codes that go or differ.
DELETE FROM reason_code c USING unnest($2::text[], $3::text[]) AS g (code, request_type)
WHERE c.org_id = $1 AND c.code = g.code AND c.request_type = g.request_type

-- name: insert_reason_codes
-- Reason codes that come or differ.
INSERT INTO reason_code (org_id, code, request_type, name)
SELECT $1, n.* FROM unnest($2::text[], $3::text[], $4::text[]) AS n

-- name: lock_members
-- The members that change, in the order in which everybody locks members.
SELECT member_id FROM member
WHERE org_id = $1 AND member_id = ANY ($2::bigint[])
ORDER BY member_id FOR NO KEY UPDATE

-- name: delete_identifiers
-- Identifiers that their members give up.
DELETE FROM member_identifier i
USING unnest($2::text[], $3::text[], $4::bigint[]) AS g (kind, value, member_id)
WHERE i.org_id = $1 AND i.kind = g.kind AND i.value = g.value AND i.member_id = g.member_id

-- name: insert_members
-- New members, with the points of their first lots.
INSERT INTO member (org_id, programme_id, member_id, mobile, email, external_id, available)
SELECT $1, (SELECT programme_id FROM programme WHERE org_id = $1 AND is_default), n.*
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS n

-- name: update_members
-- Members that differ: the identifiers that answers show, and the points of further lots.
UPDATE member m
SET mobile = c.mobile, email = c.email, external_id = c.external_id, available = m.available + c.points,
    version = m.version + 1
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    AS c (member_id, mobile, email, external_id, points)
WHERE m.org_id = $1 AND m.member_id = c.member_id

-- name: insert_identifiers
-- Identifiers that members get.
INSERT INTO member_identifier (org_id, kind, value, member_id)
SELECT $1, n.* FROM unnest($2::text[], $3::text[], $4::bigint[]) AS n

-- name: insert_awards
-- Lots, each with the journal and the posting that brought its points into being.
WITH awarded AS MATERIALIZED (
    SELECT * FROM unnest(
        $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::bigint[], $7::timestamptz[], $8::timestamptz[])
        AS a (journal_id, lot_id, member_id, reference, points, awarded_at, expires_at)
), new_lot AS (
    INSERT INTO lot (org_id, member_id, lot_id, reference, awarded_at, expires_at, points, remaining)
    SELECT $1, member_id, lot_id, reference, awarded_at, expires_at, points, points FROM awarded
), new_journal AS (
    INSERT INTO journal (org_id, journal_id, kind, member_id, at)
    SELECT $1, journal_id, 'award', member_id, $9 FROM awarded
)
INSERT INTO posting (org_id, journal_id, line, source, destination, lot_id, points)
SELECT $1, journal_id, 1, 'issued', 'available', lot_id, points FROM awarded

-- name: insert_events
-- The audit trail of the change.
INSERT INTO event (org_id, subject_id, event_id, kind, at, facts, personal, leaf_hash)
SELECT $1, n.* FROM unnest(
    $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bytea[], $8::bytea[]) AS n

-- name: analyse
-- Plans that were made for empty tables cost most of the throughput after an import.
ANALYZE member, member_identifier, lot, journal, posting
