-- name: organisations_with_sealed_values
-- Every organisation, also one that nobody calls any more.
SELECT o.org_id FROM organisation o ORDER BY o.org_id

-- name: list_headers
-- The sealed headers of some requests, whatever their state, in the order of their ids.
SELECT request_id, sealed_headers FROM request
WHERE org_id = $1 AND request_id > $2 AND request_type <> 'ADMIN-CHANGE' ORDER BY request_id LIMIT $3

-- name: write_headers
-- The same headers, sealed anew; only where they still are as they were read. Locked in the order of all others.
WITH wanted AS (
    SELECT n.* FROM unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS n (request_id, before, after)
), locked AS (
    SELECT r.request_id FROM request r
    WHERE r.org_id = $1 AND r.request_id = ANY ($2::uuid[]) ORDER BY r.request_id FOR NO KEY UPDATE
)
UPDATE request r SET sealed_headers = wanted.after
FROM wanted JOIN locked USING (request_id)
WHERE r.org_id = $1 AND r.request_id = wanted.request_id AND r.sealed_headers = wanted.before

-- name: list_hosts
-- The credentials of host entries.
SELECT host_id, credential_sealed FROM host WHERE org_id = $1 AND credential_sealed IS NOT NULL ORDER BY host_id

-- name: list_issuers
-- The secrets of trusted issuers; what the others have are public keys.
SELECT issuer, keys FROM ui_token_issuer WHERE org_id = $1 AND algorithm = 'HS256' ORDER BY issuer

-- name: list_proposals
-- What is proposed and not decided; it may carry sealed values, which are a part of what was signed off.
SELECT request_id, payload FROM request
WHERE org_id = $1 AND request_type = 'ADMIN-CHANGE' AND ended_at IS NULL AND request_id > $2
ORDER BY request_id LIMIT $3

-- name: write_hosts
-- The same credentials, sealed anew. The revision stays: a request goes where it was approved to go.
UPDATE host h SET credential_sealed = n.sealed
FROM unnest($2::text[], $3::text[]) AS n (host_id, sealed) WHERE h.org_id = $1 AND h.host_id = n.host_id

-- name: write_issuers
-- The same secrets, sealed anew.
UPDATE ui_token_issuer i SET keys = n.sealed
FROM unnest($2::text[], $3::text[]) AS n (issuer, sealed) WHERE i.org_id = $1 AND i.issuer = n.issuer

-- name: next_version
-- By this every process sees that something has changed; the time is that of the audit event.
UPDATE organisation SET version = version + 1 WHERE org_id = $1 RETURNING version, clock_timestamp() AS now
