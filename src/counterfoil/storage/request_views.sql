-- name: fetch_file
-- One request with its voices, its member's account, its hold and what else has its reference.
SELECT o.version AS organisation_version, clock_timestamp() AS now, r.*, voices.document AS decisions,
       account.document AS account, held.document AS hold, used.redemption_id IS NOT NULL AS reference_used,
       same.ids AS same_reference
FROM organisation o
LEFT JOIN request r ON r.org_id = o.org_id AND r.request_id = $2 AND r.request_type <> 'ADMIN-CHANGE'
LEFT JOIN LATERAL (
    SELECT coalesce(r.member_id, (
        SELECT i.member_id FROM member_identifier i
        WHERE i.org_id = $1 AND i.kind = r.identifier_kind AND i.value = r.identifier_value)) AS member_id
) owner ON true
LEFT JOIN LATERAL (
    SELECT m.document FROM member_account m WHERE m.org_id = $1 AND m.member_id = owner.member_id OFFSET 0
) account ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', d.person_id, 'user_id', d.user_id, 'user_name', d.user_name, 'verdict', d.verdict,
        'message', d.message, 'decided_at', d.decided_at, 'on_behalf_of', d.on_behalf_of,
        'reason_code', d.reason_code, 'sent_back', d.sent_back) ORDER BY d.number) AS document
    FROM decision d WHERE d.org_id = $1 AND d.request_id = r.request_id
) voices ON true
LEFT JOIN LATERAL (
    SELECT json_build_object(
        'request_id', h.request_id, 'points', h.points, 'expires_at', h.expires_at, 'state', h.state,
        'allocations', (
            SELECT json_agg(json_build_object('lot_id', p.lot_id, 'points', p.points))
            FROM hold_lot p WHERE p.org_id = $1 AND p.request_id = h.request_id)) AS document
    FROM hold h WHERE h.org_id = $1 AND h.request_id = r.request_id
) held ON true
LEFT JOIN redemption used ON used.org_id = $1 AND used.external_reference = r.external_reference
LEFT JOIN LATERAL (
    SELECT array_agg(s.request_id ORDER BY s.request_id) AS ids FROM (
        SELECT s.request_id FROM request s
        WHERE s.org_id = $1 AND s.external_reference = r.external_reference AND s.request_id <> r.request_id
        LIMIT 20) s
) same ON true
WHERE o.org_id = $1
