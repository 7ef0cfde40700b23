-- The life of a request: endings other than a decision, resubmission, comments, delegation, freezes, reason codes.

ALTER TABLE request
    ADD COLUMN expires_at timestamptz,         -- frozen from the policy; null: waits for ever
    ADD COLUMN resubmission_of uuid;           -- the ended request that this one is another try of
CREATE UNIQUE INDEX request_resubmitted_once ON request (org_id, resubmission_of) WHERE resubmission_of IS NOT NULL;
CREATE INDEX request_by_expiry ON request (org_id, expires_at) WHERE ended_at IS NULL AND expires_at IS NOT NULL;

CREATE TRIGGER request_life_never_changes BEFORE UPDATE ON request FOR EACH ROW
    WHEN ((OLD.expires_at, OLD.resubmission_of) IS DISTINCT FROM (NEW.expires_at, NEW.resubmission_of))
    EXECUTE FUNCTION refuse_change();

ALTER TABLE decision
    ADD COLUMN on_behalf_of text,              -- whose right was used; null: the checker's own
    ADD COLUMN reason_code text,
    ADD COLUMN sent_back boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT decision_delegator_is_another CHECK (on_behalf_of NOT IN (person_id, maker_person_id)),
    ADD CONSTRAINT decision_sent_back_is_rejected CHECK (NOT sent_back OR verdict = 'rejected');
CREATE UNIQUE INDEX decision_right_used_once ON decision (org_id, request_id, on_behalf_of)
    WHERE on_behalf_of IS NOT NULL;

CREATE TABLE request_comment (
    org_id      bigint NOT NULL,
    request_id  uuid NOT NULL,
    comment_id  uuid NOT NULL,
    person_id   text NOT NULL,
    user_id     bigint NOT NULL,
    user_name   text NOT NULL,
    message     text NOT NULL CONSTRAINT request_comment_length CHECK (length(message) BETWEEN 1 AND 2000),
    made_at     timestamptz NOT NULL,
    PRIMARY KEY (org_id, request_id, comment_id)
);
CREATE TRIGGER request_comment_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON request_comment FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();

-- A checker lends the deciding right to somebody, for a time and within a scope.
CREATE TABLE delegation (
    org_id         bigint NOT NULL REFERENCES organisation,
    delegation_id  uuid NOT NULL,
    delegator_id   text NOT NULL,
    delegate_id    text NOT NULL,
    unit_id        bigint,                     -- with everything below; null: wherever the delegator may decide
    request_type   text,                       -- null: all
    points_max     bigint CONSTRAINT delegation_points_max_positive CHECK (points_max > 0),
    valid_from     timestamptz NOT NULL,
    valid_until    timestamptz NOT NULL,
    made_at        timestamptz NOT NULL,
    ended_at       timestamptz,                -- ended early
    PRIMARY KEY (org_id, delegation_id),
    FOREIGN KEY (org_id, delegator_id) REFERENCES person,
    FOREIGN KEY (org_id, delegate_id) REFERENCES person,
    FOREIGN KEY (org_id, unit_id) REFERENCES org_unit,
    CONSTRAINT delegation_to_another CHECK (delegator_id <> delegate_id),
    CONSTRAINT delegation_has_time CHECK (valid_from < valid_until)
);
CREATE TRIGGER delegation_only_ends BEFORE UPDATE ON delegation FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL OR (
        OLD.delegator_id, OLD.delegate_id, OLD.unit_id, OLD.request_type, OLD.points_max, OLD.valid_from,
        OLD.valid_until) IS DISTINCT FROM (
        NEW.delegator_id, NEW.delegate_id, NEW.unit_id, NEW.request_type, NEW.points_max, NEW.valid_from,
        NEW.valid_until))
    EXECUTE FUNCTION refuse_change();

-- What is stopped: by one person, until two people lift it.
CREATE TABLE freeze_order (
    org_id             bigint NOT NULL REFERENCES organisation,
    freeze_id          uuid NOT NULL,
    scope              text NOT NULL CONSTRAINT freeze_scope_known
        CHECK (scope IN ('organisation', 'unit', 'type', 'host', 'maker', 'member')),
    target             text NOT NULL,          -- of its scope: a unit, type, host, person or member; '' for the organisation
    reason             text NOT NULL CONSTRAINT freeze_reason_length CHECK (length(reason) BETWEEN 1 AND 500),
    placed_by          text NOT NULL,          -- a person, or an operator
    placed_name        text NOT NULL,
    placed_at          timestamptz NOT NULL,
    lift_proposed_by   text,
    lift_proposed_name text,
    lift_proposed_at   timestamptz,
    lifted_by          text,
    lifted_name        text,
    lifted_at          timestamptz,
    PRIMARY KEY (org_id, freeze_id),
    CONSTRAINT freeze_lifted_by_two CHECK (
        (lifted_by IS NULL) = (lifted_at IS NULL) AND (lifted_by IS NULL OR lifted_by <> lift_proposed_by)),
    CONSTRAINT freeze_proposal_is_whole CHECK (
        (lift_proposed_by IS NULL) = (lift_proposed_at IS NULL)
        AND (lifted_by IS NULL OR lift_proposed_by IS NOT NULL))
);
CREATE INDEX freeze_open ON freeze_order (org_id, freeze_id) WHERE lifted_at IS NULL;
CREATE TRIGGER freeze_lifted_stays_lifted BEFORE UPDATE ON freeze_order FOR EACH ROW
    WHEN (OLD.lifted_at IS NOT NULL OR (
        OLD.scope, OLD.target, OLD.reason, OLD.placed_by, OLD.placed_at) IS DISTINCT FROM (
        NEW.scope, NEW.target, NEW.reason, NEW.placed_by, NEW.placed_at))
    EXECUTE FUNCTION refuse_change();

-- Why a request is rejected, in a few words that can be counted.
CREATE TABLE reason_code (
    org_id        bigint NOT NULL REFERENCES organisation,
    code          text NOT NULL,
    request_type  text NOT NULL,               -- '*': all types
    name          text NOT NULL,
    PRIMARY KEY (org_id, code, request_type)
);
