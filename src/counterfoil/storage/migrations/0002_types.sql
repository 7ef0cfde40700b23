-- The request types beside redemptions: goodwill on the built-in ledger, and members' status labels.

ALTER TABLE programme
    ADD COLUMN goodwill_expiry_days integer   -- null: goodwill cannot be given
        CONSTRAINT programme_goodwill_expiry_positive CHECK (goodwill_expiry_days > 0),
    ADD COLUMN goodwill_points_max bigint     -- of one request; null: no cap
        CONSTRAINT programme_goodwill_max_positive CHECK (goodwill_points_max > 0);

-- Points that were given; the lot has the id of the request.
CREATE TABLE goodwill (
    org_id      bigint NOT NULL,
    request_id  uuid NOT NULL,
    member_id   bigint NOT NULL,
    points      bigint NOT NULL CONSTRAINT goodwill_points_positive CHECK (points > 0),
    reference   text NOT NULL,
    awarded_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, request_id),
    CONSTRAINT goodwill_reference_unique UNIQUE (org_id, reference)
);

CREATE TABLE member_status (
    org_id      bigint NOT NULL,
    member_id   bigint NOT NULL,
    label       text NOT NULL CONSTRAINT member_status_label_length CHECK (length(label) BETWEEN 1 AND 100),
    request_id  uuid NOT NULL,                 -- that changed it last
    changed_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, member_id),
    FOREIGN KEY (org_id, member_id) REFERENCES member
);

CREATE TRIGGER goodwill_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON goodwill FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
