-- name: read_for_comments
-- One row per command: the request that it is about, and whether it was written before. Nothing is locked: a
-- comment changes no row.
SELECT a.comment_id, clock_timestamp() AS now, o.version AS organisation_version, r.request_type, r.unit_id,
    r.maker_person_id, c.request_id, c.person_id, c.user_id, c.user_name, c.message, c.made_at
FROM unnest($2::uuid[], $3::uuid[]) AS a (comment_id, request_id)
JOIN organisation o ON o.org_id = $1
LEFT JOIN request r ON r.org_id = $1 AND r.request_id = a.request_id AND r.request_type <> 'ADMIN-CHANGE'
LEFT JOIN request_comment c ON c.org_id = $1 AND c.request_id = a.request_id AND c.comment_id = a.comment_id

-- name: list_comments
-- A page of the comments on a request, oldest first, from the one after $3 on.
SELECT o.version AS organisation_version, r.request_id AS found, c.comment_id, c.request_id, c.person_id, c.user_id,
    c.user_name, c.message, c.made_at
FROM organisation o
LEFT JOIN request r ON r.org_id = o.org_id AND r.request_id = $2 AND r.request_type <> 'ADMIN-CHANGE'
LEFT JOIN LATERAL (
    SELECT m.* FROM request_comment m
    WHERE m.org_id = $1 AND m.request_id = $2 AND ($3::uuid IS NULL OR m.comment_id > $3)
    ORDER BY m.comment_id LIMIT $4
) c ON true
WHERE o.org_id = $1
ORDER BY c.comment_id
