-- What `counterfoil org apply` and the API would make, a statement per table. {names} are filled in by seed.py.

-- name: organisations
-- Organisations {first} to {last}, each with two people, two trees of units, one till and the contract's host.
INSERT INTO organisation (org_id, name, time_zone, wire_time_zone, country_code, profile, control, echo_credentials)
SELECT o, 'Bench ' || o, 'Asia/Kolkata', 'Asia/Kolkata', '91', 'contract', 'single', 'create'
FROM generate_series({first}, {last}) o;
INSERT INTO org_unit (org_id, unit_id, kind, name, zone_parent_id, concept_parent_id, store_id)
SELECT o, u.* FROM generate_series({first}, {last}) o, (VALUES
    (50682286, 'zone', 'Zone', NULL::bigint, NULL::bigint, NULL::bigint),
    (50678331, 'concept', 'Concept', NULL, NULL, NULL),
    (50682288, 'store', 'Store', 50682286, 50678331, NULL),
    (50682289, 'till', 'Till', NULL, NULL, 50682288)) u;
INSERT INTO person (org_id, person_id, name)
SELECT o, p, p FROM generate_series({first}, {last}) o, (VALUES ('maker@bench'), ('checker@bench')) u (p);
INSERT INTO app_user (org_id, user_id, user_name, person_id, password_hash)
SELECT o, u.id, u.name, u.name, '{password_hash}' FROM generate_series({first}, {last}) o,
    (VALUES (232134, 'maker@bench'), (232135, 'checker@bench')) u (id, name);
INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right)
SELECT o, gen_random_uuid(), g.person, 50682286, g.access_right FROM generate_series({first}, {last}) o,
    (VALUES ('maker@bench', 'CanMakeRequest'), ('checker@bench', 'CanCheckRequest')) g (person, access_right);
INSERT INTO credential (org_id, login, kind, user_id, unit_id, secret_hash)
SELECT o, 'till.' || o, 'basic', 50682289, 50682289, '{till_hash}' FROM generate_series({first}, {last}) o;
INSERT INTO directory (login, org_id) SELECT 'till.' || o, o FROM generate_series({first}, {last}) o;
INSERT INTO host (org_id, host_id, scheme, pattern, port, target)
SELECT o, 'h1', 'https', 'crm-nightly-new.cc.capillarytech.com', 443, 'ledger'
FROM generate_series({first}, {last}) o;
INSERT INTO policy (org_id, revision, document)
SELECT o, 1, '{"approvals": 1}' FROM generate_series({first}, {last}) o;
INSERT INTO programme (org_id, programme_id, name, is_default)
SELECT o, 1, 'Bench', true FROM generate_series({first}, {last}) o;

-- name: members
-- {members} members each, with two awards and their postings: the ledger can be recomputed at the end.
INSERT INTO member (org_id, member_id, programme_id, mobile, available)
SELECT o, m, 1, (919810000000 + m)::text, 2000000000000
FROM generate_series({first}, {last}) o, generate_series(0, {members} - 1) m;
INSERT INTO member_identifier (org_id, kind, value, member_id)
SELECT org_id, 'mobile', mobile, member_id FROM member WHERE org_id BETWEEN {first} AND {last};
INSERT INTO lot (org_id, member_id, lot_id, reference, awarded_at, expires_at, points, remaining)
SELECT org_id, member_id, gen_random_uuid(), 'award-' || n, now() - interval '90 days',
    CASE n WHEN 1 THEN now() + interval '1 year' END, 1000000000000, 1000000000000
FROM member, generate_series(1, 2) n WHERE org_id BETWEEN {first} AND {last};
INSERT INTO journal (org_id, journal_id, kind, member_id, at)
SELECT org_id, lot_id, 'award', member_id, awarded_at FROM lot WHERE org_id BETWEEN {first} AND {last};
INSERT INTO posting (org_id, journal_id, line, source, destination, lot_id, points)
SELECT org_id, lot_id, 1, 'issued', 'available', lot_id, points FROM lot WHERE org_id BETWEEN {first} AND {last};

-- name: requests
-- {stored} requests of the organisation {first}, spread over a year, {pending} of them undecided; payloads are as
-- long as that of the contract's example. {unit} and {urgent} say where and how urgent the n-th is.
INSERT INTO request (
    org_id, request_id, request_type, state, version, maker_person_id, maker_user_id, maker_user_name, maker_login,
    entity_info, unit_id, till_id, store_id, zone_id, concept_id, points, member_id, identifier_kind, identifier_value,
    external_reference, host_id, host_revision, payload, sealed_headers, digest, policy_revision, approvals_required,
    requirement, flags, started_at, decided_at, ended_at, urgent_at)
SELECT {first}, md5(n::text)::uuid, 'POINTS-REDEMPTION', CASE WHEN open THEN 'pending' ELSE 'rejected' END,
    CASE WHEN open THEN 1 ELSE 2 END, 'maker@bench', 232134, 'maker@bench', 'till.{first}', '{}', {unit}, 50682289,
    50682288, 50682286, 50678331, 1000, member, 'mobile', mobile, 'stored-' || n, 'h1', 1,
    replace(replace('{payload}', 'MOBILE', mobile), 'REFERENCE', 'stored-' || n)::bytea, '\x80',
    sha256(n::text::bytea), 1, 1, '[]', '{}', at, CASE WHEN NOT open THEN at + interval '1 hour' END,
    CASE WHEN NOT open THEN at + interval '1 hour' END, {urgent}
FROM (
    SELECT n, n % ({stored} / {pending}) = 0 AS open, n % {members} AS member,
        (919810000000 + n % {members})::text AS mobile,
        now() - interval '366 days' + n * (interval '365 days' / {stored}) AS at
    FROM generate_series(1, {stored}) n) numbered;
INSERT INTO decision (org_id, request_id, number, person_id, maker_person_id, user_id, user_name, verdict, message, decided_at)
SELECT org_id, request_id, 1, 'checker@bench', maker_person_id, 232135, 'checker@bench', 'rejected', 'seen', decided_at
FROM request WHERE org_id = {first} AND ended_at IS NOT NULL;

-- name: chain
-- For the organisation {first}: ten zones of twenty stores of two tills, units 1 to 10, 1001 to 1200 and 10000 to
-- 10399; the checker's 50 grants are two of the zones, 37 other stores, ten other tills and the zone of the example.
INSERT INTO org_unit (org_id, unit_id, kind, name) SELECT {first}, z, 'zone', 'Zone ' || z FROM generate_series(1, 10) z;
INSERT INTO org_unit (org_id, unit_id, kind, name, zone_parent_id, concept_parent_id)
SELECT {first}, 1000 + s, 'store', 'Store ' || s, 1 + (s - 1) / 20, 50678331 FROM generate_series(1, 200) s;
INSERT INTO org_unit (org_id, unit_id, kind, name, store_id)
SELECT {first}, 10000 + t, 'till', 'Till ' || t, 1001 + t / 2 FROM generate_series(0, 399) t;
INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right)
SELECT {first}, gen_random_uuid(), 'checker@bench', u, 'CanCheckRequest' FROM (
    SELECT z AS u FROM generate_series(1, 2) z
    UNION ALL SELECT 1041 + 4 * s FROM generate_series(0, 36) s
    UNION ALL SELECT 10000 + 84 + 8 * t FROM generate_series(0, 9) t) chosen;

-- name: external
-- Organisations {first} to {last} execute on the host that listens at {url}, which has two entries so that fresh
-- requests can be told from others; `dead` is a host that answers nobody.
UPDATE host SET target = 'external', base_url = '{url}', plain_http = true, private = true, concurrency = 64
WHERE org_id BETWEEN {first} AND {last};
INSERT INTO host (org_id, host_id, scheme, pattern, port, target, base_url, plain_http, private, concurrency)
SELECT o, h.id, 'https', h.id || '.example', 443, 'external', h.url, true, true, 64
FROM generate_series({first}, {last}) o, (VALUES ('h2', '{url}'), ('dead', '{dead}')) h (id, url);

-- name: approved
-- Requests that are approved and wait for their call: $1 organisations, $2 requests, $3 members, $4 references,
-- $5 sealed headers, all of the host $6 with the payload $7.
INSERT INTO request (
    org_id, request_id, request_type, state, version, maker_person_id, maker_user_id, maker_user_name, maker_login,
    entity_info, unit_id, till_id, store_id, zone_id, concept_id, points, identifier_kind, identifier_value,
    external_reference, host_id, host_revision, payload, sealed_headers, digest, policy_revision, approvals_required,
    requirement, flags, started_at, decided_at, due_at)
SELECT n.org_id, n.request_id, 'POINTS-REDEMPTION', 'approved', 2, 'maker@bench', 232134, 'maker@bench', 'till.bench',
    '{}', 50682289, 50682289, 50682288, 50682286, 50678331, 1000, 'mobile', n.mobile, n.reference, $6, 1,
    replace(replace($7::text, 'MOBILE', n.mobile), 'REFERENCE', n.reference)::bytea, n.sealed,
    sha256(n.reference::bytea), 1, 1, '[]', '{}', now(), now(), now()
FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::bytea[])
    AS n (org_id, request_id, mobile, reference, sealed)

-- name: approvals
-- The voices that have approved them: $1 organisations, $2 requests.
INSERT INTO decision (org_id, request_id, number, person_id, maker_person_id, user_id, user_name, verdict, message,
    decided_at)
SELECT n.*, 1, 'checker@bench', 'maker@bench', 232135, 'checker@bench', 'approved', 'seen', now()
FROM unnest($1::bigint[], $2::uuid[]) AS n

-- name: check
-- What must hold after any load; each row is a broken rule.
SELECT 'a succeeded request without its one redemption' AS broken, count(*) AS times
FROM request r FULL JOIN redemption d ON d.org_id = r.org_id AND d.request_id = r.request_id
WHERE (r.state = 'succeeded') IS DISTINCT FROM (d.redemption_id IS NOT NULL) HAVING count(*) > 0
UNION ALL
SELECT 'held points that are not those of the open holds', count(*)
FROM (SELECT org_id, member_id, sum(points) AS points FROM hold WHERE state = 'open' GROUP BY 1, 2) h
FULL JOIN member m ON m.org_id = h.org_id AND m.member_id = h.member_id
WHERE coalesce(h.points, 0) <> coalesce(m.held, 0) HAVING count(*) > 0
UNION ALL
SELECT 'available points that are not those of the postings', count(*)
FROM member m JOIN (
    SELECT j.org_id, j.member_id,
        sum(CASE WHEN p.destination = 'available' THEN p.points WHEN p.source = 'available' THEN -p.points ELSE 0 END) AS points
    FROM posting p JOIN journal j ON j.org_id = p.org_id AND j.journal_id = p.journal_id GROUP BY 1, 2
) p ON p.org_id = m.org_id AND p.member_id = m.member_id
WHERE p.points <> m.available HAVING count(*) > 0
UNION ALL
SELECT 'a request without exactly one event for each of its states', count(*)
FROM request r WHERE (SELECT count(*) FROM event e WHERE e.org_id = r.org_id AND e.subject_id = r.request_id
    AND e.kind <> 'voice') <> CASE WHEN r.state = 'pending' THEN 1 ELSE 2 END HAVING count(*) > 0
