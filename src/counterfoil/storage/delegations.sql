-- name: lock_organisation_for_delegations
-- Whoever changes an organisation waits here for whoever else does.
SELECT version FROM organisation WHERE org_id = $1 FOR NO KEY UPDATE

-- name: read_for_delegations
-- One row per command: the delegation that it makes or ends, whether the command was carried out before, and how
-- many delegations of the same delegator are not over.
SELECT a.command_id, clock_timestamp() AS now, o.version AS organisation_version,
    written.event_id IS NOT NULL AS already_written, d.delegation_id, d.delegator_id, d.delegate_id, d.valid_from,
    d.valid_until, d.unit_id, d.request_type, d.points_max, d.made_at, d.ended_at,
    (SELECT count(*) FROM delegation e
     WHERE e.org_id = $1 AND e.delegator_id = a.delegator_id AND e.ended_at IS NULL
       AND e.valid_until > clock_timestamp()) AS earlier
FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS a (command_id, delegation_id, delegator_id)
JOIN organisation o ON o.org_id = $1
LEFT JOIN delegation d ON d.org_id = $1 AND d.delegation_id = a.delegation_id
LEFT JOIN event written ON written.org_id = $1 AND written.subject_id = a.delegation_id
    AND written.event_id = a.command_id

-- name: list_delegations
-- A page of delegations, newest first, from the one after $3 on; of one person if $2 names them; $4: those that
-- are over as well.
SELECT o.version AS organisation_version, clock_timestamp() AS now, d.*
FROM organisation o
LEFT JOIN LATERAL (
    SELECT l.delegation_id, l.delegator_id, l.delegate_id, l.valid_from, l.valid_until, l.unit_id, l.request_type,
        l.points_max, l.made_at, l.ended_at
    FROM delegation l
    WHERE l.org_id = $1 AND ($2::text IS NULL OR $2 IN (l.delegator_id, l.delegate_id))
      AND ($3::uuid IS NULL OR l.delegation_id < $3)
      AND ($4 OR (l.ended_at IS NULL AND l.valid_until > clock_timestamp()))
    ORDER BY l.delegation_id DESC LIMIT $5
) d ON true
WHERE o.org_id = $1
ORDER BY d.delegation_id DESC
