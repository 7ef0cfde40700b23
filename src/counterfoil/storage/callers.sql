-- name: write_access_groups
-- Access groups that are new or differ. The resources come as one text, because arrays of arrays must be even.
INSERT INTO access_group (org_id, name, resources)
SELECT $1, n.name, string_to_array(n.resources, ',') FROM unnest($2::text[], $3::text[]) AS n (name, resources)
ON CONFLICT (org_id, name) DO UPDATE SET resources = EXCLUDED.resources

-- name: delete_access_groups
-- Access groups that go; no credential has one of them any more.
DELETE FROM access_group WHERE org_id = $1 AND name = ANY ($2::text[])

-- name: write_issuers
-- Trusted issuers that are new or differ.
INSERT INTO ui_token_issuer (
    org_id, issuer, algorithm, audience, user_id_claim, user_name_claim, organisation_claim, keys)
SELECT $1, n.* FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) AS n
ON CONFLICT (org_id, issuer) DO UPDATE
SET algorithm = EXCLUDED.algorithm, audience = EXCLUDED.audience, user_id_claim = EXCLUDED.user_id_claim,
    user_name_claim = EXCLUDED.user_name_claim, organisation_claim = EXCLUDED.organisation_claim,
    keys = EXCLUDED.keys

-- name: delete_issuers
-- Issuers that are trusted no more.
DELETE FROM ui_token_issuer WHERE org_id = $1 AND issuer = ANY ($2::text[])
