-- Administration under dual control: changes of an organisation are requests of the type ADMIN-CHANGE.

-- Such a request is made at no unit and goes to no host, and only such a one.
ALTER TABLE request ALTER COLUMN unit_id DROP NOT NULL;
ALTER TABLE request ALTER COLUMN host_id DROP NOT NULL;
ALTER TABLE request ALTER COLUMN host_revision DROP NOT NULL;
ALTER TABLE request ADD CONSTRAINT request_has_place_unless_admin_change CHECK (
    (request_type = 'ADMIN-CHANGE') = (unit_id IS NULL)
    AND (request_type = 'ADMIN-CHANGE') = (host_id IS NULL)
    AND (host_id IS NULL) = (host_revision IS NULL));
CREATE INDEX request_admin_change ON request (org_id, started_at, request_id) WHERE request_type = 'ADMIN-CHANGE';

-- Dual control is one-way.
CREATE TRIGGER organisation_control_one_way BEFORE UPDATE ON organisation FOR EACH ROW
    WHEN (OLD.control = 'dual' AND NEW.control <> 'dual')
    EXECUTE FUNCTION refuse_change();

-- Until then the person's voice does not count: somebody else may have got at the sign-in.
ALTER TABLE person ADD COLUMN suspended_until timestamptz;

-- How much a calling system may redeem without a request, in thousandths of a point; null: no limit.
ALTER TABLE credential ADD COLUMN direct_cap_per_call bigint
    CONSTRAINT credential_direct_cap_per_call_positive CHECK (direct_cap_per_call > 0);
ALTER TABLE credential ADD COLUMN direct_cap_per_day bigint
    CONSTRAINT credential_direct_cap_per_day_positive CHECK (direct_cap_per_day > 0);

-- What a calling system with a daily cap has redeemed on its latest day. The row is there from the moment that the
-- cap is, so that there is always one to lock.
CREATE TABLE direct_use (
    org_id  bigint NOT NULL,
    login   text NOT NULL,
    day     date NOT NULL,
    points  bigint NOT NULL CONSTRAINT direct_use_points_not_negative CHECK (points >= 0),
    PRIMARY KEY (org_id, login),
    FOREIGN KEY (org_id, login) REFERENCES credential
);
