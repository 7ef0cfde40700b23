-- name: fetch_organisation
-- The whole snapshot of one organisation as one JSON document, so that it is of one moment.
SELECT json_build_object(
    'org_id', o.org_id, 'version', o.version, 'name', o.name, 'time_zone', o.time_zone,
    'wire_time_zone', o.wire_time_zone, 'country_code', o.country_code, 'profile', o.profile, 'control', o.control,
    'echo_credentials', o.echo_credentials, 'read_scope', o.read_scope, 'incident_quorum', o.incident_quorum,
    'units', coalesce((SELECT json_agg(json_build_object(
        'unit_id', u.unit_id, 'kind', u.kind, 'name', u.name, 'code', u.code, 'zone_parent_id', u.zone_parent_id,
        'concept_parent_id', u.concept_parent_id, 'store_id', u.store_id, 'active', u.active,
        'external_ids', u.external_ids))
        FROM org_unit u WHERE u.org_id = $1), '[]'),
    'people', coalesce((SELECT json_agg(json_build_object(
        'person_id', p.person_id, 'name', p.name, 'active', p.active, 'suspended_until', p.suspended_until,
        'member_identifiers', coalesce((SELECT json_agg(json_build_array(i.kind, i.value) ORDER BY i.kind, i.value)
            FROM person_identifier i WHERE i.org_id = $1 AND i.person_id = p.person_id), '[]'),
        'member_ids', coalesce((SELECT json_agg(DISTINCT m.member_id)
            FROM person_identifier i
            JOIN member_identifier m ON m.org_id = $1 AND m.kind = i.kind AND m.value = i.value
            WHERE i.org_id = $1 AND i.person_id = p.person_id), '[]')))
        FROM person p WHERE p.org_id = $1), '[]'),
    'groups', coalesce((SELECT json_agg(json_build_object(
        'group_id', g.group_id, 'name', g.name,
        'people', coalesce((SELECT json_agg(m.person_id ORDER BY m.person_id)
            FROM person_group_member m WHERE m.org_id = $1 AND m.group_id = g.group_id), '[]')))
        FROM person_group g WHERE g.org_id = $1), '[]'),
    'users', coalesce((SELECT json_agg(json_build_object(
        'user_id', u.user_id, 'user_name', u.user_name, 'person_id', u.person_id,
        'password_hash', u.password_hash, 'epoch', u.epoch, 'active', u.active))
        FROM app_user u WHERE u.org_id = $1), '[]'),
    'credentials', coalesce((SELECT json_agg(json_build_object(
        'login', c.login, 'user_id', c.user_id, 'secret_hash', c.secret_hash, 'person_id', c.person_id,
        'unit_id', c.unit_id, 'rights', c.rights, 'epoch', c.epoch, 'active', c.active, 'kind', c.kind,
        'token_seconds', c.token_seconds, 'access_group', c.access_group,
        'direct_cap_per_call', c.direct_cap_per_call, 'direct_cap_per_day', c.direct_cap_per_day))
        FROM credential c WHERE c.org_id = $1), '[]'),
    'access_groups', coalesce((SELECT json_agg(json_build_object('name', a.name, 'resources', a.resources))
        FROM access_group a WHERE a.org_id = $1), '[]'),
    'issuers', coalesce((SELECT json_agg(json_build_object(
        'issuer', i.issuer, 'algorithm', i.algorithm, 'audience', i.audience, 'user_id_claim', i.user_id_claim,
        'user_name_claim', i.user_name_claim, 'organisation_claim', i.organisation_claim, 'keys', i.keys,
        'decides_from', i.decides_from))
        FROM ui_token_issuer i WHERE i.org_id = $1), '[]'),
    'grants', coalesce((SELECT json_agg(json_build_object(
        'grant_id', g.grant_id, 'person_id', coalesce(g.person_id, ''), 'group_id', g.group_id, 'access_right', g.access_right, 'unit_id', g.unit_id,
        'request_type', g.request_type, 'points_max', g.points_max, 'valid_from', g.valid_from,
        'valid_until', g.valid_until))
        FROM access_grant g WHERE g.org_id = $1), '[]'),
    'delegations', coalesce((SELECT json_agg(json_build_object(
        'delegation_id', d.delegation_id, 'delegator_id', d.delegator_id, 'delegate_id', d.delegate_id,
        'valid_from', d.valid_from, 'valid_until', d.valid_until, 'unit_id', d.unit_id,
        'request_type', d.request_type, 'points_max', d.points_max, 'made_at', d.made_at))
        FROM delegation d
        WHERE d.org_id = $1 AND d.ended_at IS NULL AND d.valid_until > clock_timestamp()), '[]'),
    'freezes', coalesce((SELECT json_agg(json_build_object(
        'freeze_id', f.freeze_id, 'scope', f.scope, 'target', f.target, 'reason', f.reason,
        'placed_by', f.placed_by, 'placed_name', f.placed_name, 'placed_at', f.placed_at,
        'lift_proposed_by', f.lift_proposed_by, 'lift_proposed_name', f.lift_proposed_name,
        'lift_proposed_at', f.lift_proposed_at) ORDER BY f.freeze_id)
        FROM freeze_order f WHERE f.org_id = $1 AND f.lifted_at IS NULL), '[]'),
    'reason_codes', coalesce((SELECT json_agg(json_build_object(
        'code', c.code, 'name', c.name, 'request_type', nullif(c.request_type, '*'))
        ORDER BY c.code, c.request_type)
        FROM reason_code c WHERE c.org_id = $1), '[]'),
    'hosts', coalesce((SELECT json_agg(json_build_object(
        'host_id', h.host_id, 'scheme', h.scheme, 'pattern', h.pattern, 'port', h.port, 'target', h.target,
        'revision', h.revision, 'base_url', h.base_url, 'plain_http', h.plain_http, 'private', h.private,
        'link_local', h.link_local, 'ca_pem', h.ca_pem, 'credential_sealed', h.credential_sealed,
        'credential_mac', h.credential_mac, 'attempt_seconds', h.attempt_seconds,
        'overall_seconds', h.overall_seconds, 'absent_after_seconds', h.absent_after_seconds,
        'look_up', h.look_up, 'concurrency', h.concurrency))
        FROM host h WHERE h.org_id = $1), '[]'),
    'policy', (SELECT json_build_object(
        'revision', p.revision, 'document', p.document)
        FROM policy p WHERE p.org_id = $1 ORDER BY p.revision DESC LIMIT 1),
    'ever_capped', EXISTS (SELECT FROM policy p WHERE p.org_id = $1 AND p.document ->> 'counts' = 'true'),
    'programme', (SELECT json_build_object(
        'programme_id', p.programme_id, 'name', p.name, 'currency_per_point', p.currency_per_point::text,
        'hold_days', p.hold_days, 'release_grace_hours', p.release_grace_hours,
        'goodwill_expiry_days', p.goodwill_expiry_days, 'goodwill_points_max', p.goodwill_points_max)
        FROM programme p WHERE p.org_id = $1 AND p.is_default LIMIT 1))
FROM organisation o WHERE o.org_id = $1

-- name: organisation_of_login
-- The one read without an org_id: authentication finds the organisation of a login.
SELECT org_id FROM directory WHERE login = $1

-- name: list_organisations
-- Which organisations there are, for metrics and sweepers (the directory's exception).
SELECT DISTINCT org_id FROM directory ORDER BY org_id

-- name: fetch_version
-- The organisation's current version.
SELECT version FROM organisation WHERE org_id = $1
