-- name: probe_inbox
-- The most urgent pending requests of a few units: of each unit the first $9, of these the first $8 of all. What
-- could still come from a unit that has more lies behind its $9th: the answer is complete up to the first of those.
WITH probed AS MATERIALIZED (
    SELECT f.urgent_at, f.request_id, f.place
    FROM unnest($2::bigint[], $3::bigint[]) AS u (unit_id, points_max)
    CROSS JOIN LATERAL (
        SELECT r.urgent_at, r.request_id, row_number() OVER (ORDER BY r.urgent_at, r.request_id) AS place
        FROM request r
        WHERE r.org_id = $1 AND r.state = 'pending' AND r.unit_id = u.unit_id
          AND (r.expires_at IS NULL OR r.expires_at > statement_timestamp())
          AND (r.urgent_at, r.request_id) > ($4::timestamptz, $5::uuid)
          AND coalesce(r.points, 0) <= u.points_max
          AND ($7::text[] IS NULL OR r.request_type = ANY ($7))
          AND r.maker_person_id <> $6
          AND (r.version = 1 OR r.version > r.approvals_required OR NOT EXISTS (
              SELECT FROM decision d WHERE d.org_id = $1 AND d.request_id = r.request_id AND d.person_id = $6))
        ORDER BY r.urgent_at, r.request_id LIMIT $9
    ) f
), cut AS MATERIALIZED (
    SELECT p.urgent_at, p.request_id FROM probed p WHERE p.place = $9 ORDER BY p.urgent_at, p.request_id LIMIT 1
), page AS MATERIALIZED (
    SELECT p.urgent_at, p.request_id FROM probed p ORDER BY p.urgent_at, p.request_id LIMIT $8
)
SELECT o.version AS organisation_version, clock_timestamp() AS now, cut.urgent_at AS cut_at, cut.request_id AS cut_id,
       r.*, voices.document AS decisions
FROM organisation o
LEFT JOIN cut ON true
LEFT JOIN page ON true
LEFT JOIN request r ON r.org_id = $1 AND r.request_id = page.request_id
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE r.version > 1 AND d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
WHERE o.org_id = $1
ORDER BY page.urgent_at, page.request_id

-- name: walk_inbox
-- The same for who decides in so many units that it is quicker to look at all pending requests, $9 of them: those
-- of the units, and up to $10 points those of any unit. Complete up to the last that was looked at.
WITH walked AS MATERIALIZED (
    SELECT r.urgent_at, r.request_id, r.unit_id, r.points, r.request_type, r.maker_person_id, r.version,
           r.approvals_required
    FROM request r
    WHERE r.org_id = $1 AND r.state = 'pending' AND (r.urgent_at, r.request_id) > ($4::timestamptz, $5::uuid)
      AND (r.expires_at IS NULL OR r.expires_at > statement_timestamp())
    ORDER BY r.urgent_at, r.request_id LIMIT $9
), cut AS MATERIALIZED (
    SELECT w.urgent_at, w.request_id FROM walked w ORDER BY w.urgent_at, w.request_id OFFSET $9 - 1 LIMIT 1
), page AS MATERIALIZED (
    SELECT w.urgent_at, w.request_id
    FROM walked w
    LEFT JOIN unnest($2::bigint[], $3::bigint[]) AS u (unit_id, points_max) ON u.unit_id = w.unit_id
    WHERE w.request_type <> 'ADMIN-CHANGE'
      AND coalesce(w.points, 0) <= greatest(u.points_max, $10::bigint)
      AND ($7::text[] IS NULL OR w.request_type = ANY ($7))
      AND w.maker_person_id <> $6
      AND (w.version = 1 OR w.version > w.approvals_required OR NOT EXISTS (
          SELECT FROM decision d WHERE d.org_id = $1 AND d.request_id = w.request_id AND d.person_id = $6))
    ORDER BY w.urgent_at, w.request_id LIMIT $8
)
SELECT o.version AS organisation_version, clock_timestamp() AS now, cut.urgent_at AS cut_at, cut.request_id AS cut_id,
       r.*, voices.document AS decisions
FROM organisation o
LEFT JOIN cut ON true
LEFT JOIN page ON true
LEFT JOIN request r ON r.org_id = $1 AND r.request_id = page.request_id
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE r.version > 1 AND d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
WHERE o.org_id = $1
ORDER BY page.urgent_at, page.request_id
