-- name: find_balance
-- A member's points as of now: what has expired but is not swept yet does not count. $2 is 'id' or an identifier kind.
SELECT o.version AS organisation_version, clock_timestamp() AS now, account.document
FROM organisation o
LEFT JOIN LATERAL (
    SELECT CASE WHEN $2 = 'id' THEN $4::bigint
                ELSE (SELECT i.member_id FROM member_identifier i WHERE i.org_id = $1 AND i.kind = $2 AND i.value = $3)
           END AS member_id
) named ON true
LEFT JOIN LATERAL (
    SELECT m.document FROM member_account m WHERE m.org_id = $1 AND m.member_id = named.member_id OFFSET 0
) account ON true
WHERE o.org_id = $1

-- name: find_status
-- A member's status label; none where nobody has changed it.
SELECT o.version AS organisation_version, m.member_id, s.label, s.request_id, s.changed_at
FROM organisation o
LEFT JOIN member m ON m.org_id = $1 AND m.member_id = $2
LEFT JOIN member_status s ON s.org_id = $1 AND s.member_id = $2
WHERE o.org_id = $1

-- name: lock_for_redemption
-- One row per direct redemption: locks the counters of daily caps, then the members (each sorted), reads what the rule needs. Run again where
-- a locked version differs from the one seen.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
        AS a (redeem_id, kind, value, reference, first_choice, second_choice, login)
), counter AS MATERIALIZED (
    SELECT u.login, u.day, u.points FROM direct_use u
    WHERE u.org_id = $1 AND u.login IN (SELECT login FROM asked)
    ORDER BY u.login FOR NO KEY UPDATE
), named AS MATERIALIZED (
    SELECT a.redeem_id, i.member_id
    FROM asked a JOIN member_identifier i ON i.org_id = $1 AND i.kind = a.kind AND i.value = a.value
), locked AS MATERIALIZED (
    SELECT m.member_id, m.version FROM member m
    WHERE m.org_id = $1 AND m.member_id IN (SELECT member_id FROM named)
      AND (SELECT count(*) FROM counter) >= 0  -- counters are locked before members
    ORDER BY m.member_id FOR NO KEY UPDATE
), account AS MATERIALIZED (
    SELECT l.member_id, l.version AS locked_version, s.version AS seen_version, s.document
    FROM locked l
    CROSS JOIN LATERAL (
        SELECT m.version, m.document FROM member_account m
        WHERE m.org_id = $1 AND m.member_id = l.member_id OFFSET 0  -- one probe each, never a scan of all members
    ) s
)
SELECT a.redeem_id, clock_timestamp() AS now, statement_timestamp() AS statement_at,
       o.version AS organisation_version, n.member_id, account.locked_version, account.seen_version, account.document,
       used.redemption_id IS NOT NULL AS reference_used,
       written.facts AS written, counter.day AS counted_day, counter.points AS counted_points,
       CASE WHEN taken.redemption_id IS NULL THEN a.first_choice ELSE a.second_choice END AS redemption_id
FROM asked a
JOIN organisation o ON o.org_id = $1
LEFT JOIN counter ON counter.login = a.login
LEFT JOIN named n ON n.redeem_id = a.redeem_id
LEFT JOIN account ON account.member_id = n.member_id
LEFT JOIN event written ON written.org_id = $1 AND written.subject_id = a.redeem_id AND written.event_id = a.redeem_id
LEFT JOIN redemption used ON used.org_id = $1 AND used.external_reference = a.reference
LEFT JOIN redemption taken ON taken.org_id = $1 AND taken.redemption_id = a.first_choice
