-- name: find_identity
-- Which database this is: a restore to a point in time ends on another timeline, a copied one is another system.
SELECT s.system_identifier::text AS system_identifier,
    CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,
    m.system_identifier AS marked_system, m.timeline AS marked_timeline, clock_timestamp() AS now
FROM pg_control_system() s LEFT JOIN restore_mark m ON m.only_row

-- name: insert_mark
-- The first start on a new database: it is what it is.
INSERT INTO restore_mark (only_row, system_identifier, timeline) VALUES (true, $1, $2) ON CONFLICT DO NOTHING

-- name: update_mark
-- The operator has looked after what the restore has lost.
UPDATE restore_mark SET system_identifier = $1, timeline = $2, marked_at = clock_timestamp() WHERE only_row

-- name: list_approved
-- What may have been executed after the moment to which the database was restored.
SELECT r.request_id FROM request r
WHERE r.org_id = $1 AND r.state = 'approved' AND r.due_at IS NOT NULL ORDER BY r.decided_at LIMIT $2
