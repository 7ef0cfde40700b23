-- The careful way by hand: what a good engineer writes without this product. One transaction for each step, one
-- statement each, every check under lock; none of the extras: no audit, no postings, no lots, no flags.

-- name: tables
CREATE SCHEMA by_hand;
CREATE TABLE by_hand.member (
    org_id bigint NOT NULL, member_id bigint NOT NULL, mobile text NOT NULL,
    available bigint NOT NULL CHECK (available >= 0), held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    PRIMARY KEY (org_id, member_id), UNIQUE (org_id, mobile)) WITH (fillfactor = 80);
CREATE TABLE by_hand.request (
    org_id bigint NOT NULL, request_id uuid NOT NULL, state text NOT NULL, maker text NOT NULL, checker text,
    member_id bigint NOT NULL, points bigint NOT NULL, reference text NOT NULL, payload bytea NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
    PRIMARY KEY (org_id, request_id), CHECK (maker <> checker)) WITH (fillfactor = 70);
CREATE INDEX ON by_hand.request (org_id, started_at) WHERE state = 'pending';
CREATE TABLE by_hand.redemption (
    org_id bigint NOT NULL, request_id uuid NOT NULL, member_id bigint NOT NULL, points bigint NOT NULL,
    reference text NOT NULL, redeemed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, request_id), UNIQUE (org_id, reference));
INSERT INTO by_hand.member (org_id, member_id, mobile, available)
SELECT org_id, member_id, mobile, available FROM member;
VACUUM ANALYZE by_hand.member;

-- name: submit
-- The update locks the member, checks the points and sets them aside; without it nothing is inserted.
WITH m AS (
    UPDATE by_hand.member SET available = available - $4, held = held + $4
    WHERE org_id = $1 AND mobile = $3 AND available >= $4 RETURNING member_id
)
INSERT INTO by_hand.request (org_id, request_id, state, maker, member_id, points, reference, payload)
SELECT $1, $2, 'pending', $5, m.member_id, $4, $6, $7 FROM m

-- name: approve
-- The update of the request is the lock and the check; the redemption and the balance follow from its row.
WITH r AS (
    UPDATE by_hand.request SET state = 'succeeded', checker = $3, ended_at = now()
    WHERE org_id = $1 AND request_id = $2 AND state = 'pending' AND maker <> $3
    RETURNING member_id, points, reference
), m AS (
    UPDATE by_hand.member m SET held = m.held - r.points FROM r WHERE m.org_id = $1 AND m.member_id = r.member_id
)
INSERT INTO by_hand.redemption (org_id, request_id, member_id, points, reference)
SELECT $1, $2, r.member_id, r.points, r.reference FROM r
