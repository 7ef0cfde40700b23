-- name: list_approved
-- Approved redemptions of one host with what is known of their members, in the order of their submission.
SELECT r.request_id, r.started_at, r.external_reference, r.points, r.identifier_kind, r.identifier_value,
    coalesce(r.ended_at, r.decided_at) AS at, r.ended_at IS NOT NULL AS settled,
    convert_from(r.outcome, 'UTF8')::json ->> 'redemption_id' AS redemption_id,
    m.member_id, m.mobile, m.email, m.external_id
FROM request r LEFT JOIN member m ON m.org_id = $1 AND m.member_id = r.member_id
WHERE r.org_id = $1 AND r.request_type = 'POINTS-REDEMPTION' AND r.host_id = $2
  AND r.state IN ('approved', 'unknown', 'succeeded')
  AND r.decided_at < $4 AND (r.ended_at IS NULL OR r.ended_at >= $3)
  AND r.started_at < $4 AND (r.started_at, r.request_id) > ($5, $6)
ORDER BY r.started_at, r.request_id LIMIT $7

-- name: list_redeemed
-- Redemptions on the built-in ledger, in the order of their ids.
SELECT d.redemption_id, d.external_reference, d.points, d.redeemed_at, m.member_id, m.mobile, m.email, m.external_id
FROM redemption d LEFT JOIN member m ON m.org_id = $1 AND m.member_id = d.member_id
WHERE d.org_id = $1 AND d.redeemed_at >= $2 AND d.redeemed_at < $3 AND d.redemption_id > $4
ORDER BY d.redemption_id LIMIT $5

-- name: fetch_time
-- The database's clock.
SELECT clock_timestamp() FROM organisation WHERE org_id = $1
