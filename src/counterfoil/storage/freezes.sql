-- name: lock_organisation_for_freezes
-- Whoever changes an organisation waits here for whoever else does.
SELECT version FROM organisation WHERE org_id = $1 FOR NO KEY UPDATE

-- name: read_for_freezes
-- One row per command: the freeze that it places or lifts, and whether the command was carried out before.
SELECT a.command_id, clock_timestamp() AS now, o.version AS organisation_version,
    written.event_id IS NOT NULL AS already_written, f.freeze_id, f.scope, f.target, f.reason, f.placed_by,
    f.placed_name, f.placed_at, f.lift_proposed_by, f.lift_proposed_name, f.lift_proposed_at, f.lifted_by,
    f.lifted_name, f.lifted_at
FROM unnest($2::uuid[], $3::uuid[]) AS a (command_id, freeze_id)
JOIN organisation o ON o.org_id = $1
LEFT JOIN freeze_order f ON f.org_id = $1 AND f.freeze_id = a.freeze_id
LEFT JOIN event written ON written.org_id = $1 AND written.subject_id = a.freeze_id AND written.event_id = a.command_id

-- name: list_freezes
-- A page of freezes, newest first, from the one after $2 on; $3: those that were lifted as well.
SELECT o.version AS organisation_version, f.*
FROM organisation o
LEFT JOIN LATERAL (
    SELECT l.freeze_id, l.scope, l.target, l.reason, l.placed_by, l.placed_name, l.placed_at, l.lift_proposed_by,
        l.lift_proposed_name, l.lift_proposed_at, l.lifted_by, l.lifted_name, l.lifted_at
    FROM freeze_order l
    WHERE l.org_id = $1 AND ($2::uuid IS NULL OR l.freeze_id < $2) AND ($3 OR l.lifted_at IS NULL)
    ORDER BY l.freeze_id DESC LIMIT $4
) f ON true
WHERE o.org_id = $1
ORDER BY f.freeze_id DESC
