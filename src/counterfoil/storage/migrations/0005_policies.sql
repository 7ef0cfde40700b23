-- Groups of people, policies with rules, and the counters of their caps.

CREATE TABLE person_group (
    org_id    bigint NOT NULL REFERENCES organisation,
    group_id  text NOT NULL,
    name      text NOT NULL,
    PRIMARY KEY (org_id, group_id)
);

CREATE TABLE person_group_member (
    org_id     bigint NOT NULL,
    group_id   text NOT NULL,
    person_id  text NOT NULL,
    PRIMARY KEY (org_id, group_id, person_id),
    FOREIGN KEY (org_id, group_id) REFERENCES person_group,
    FOREIGN KEY (org_id, person_id) REFERENCES person
);

ALTER TABLE access_grant
    ALTER COLUMN person_id DROP NOT NULL,
    ADD COLUMN group_id text,
    ADD FOREIGN KEY (org_id, group_id) REFERENCES person_group,
    ADD CONSTRAINT access_grant_of_person_or_group CHECK (num_nonnulls(person_id, group_id) = 1);

-- By which identifiers a person is a member, too: they neither make nor decide what is about themselves.
CREATE TABLE person_identifier (
    org_id     bigint NOT NULL,
    person_id  text NOT NULL,
    kind       text NOT NULL CONSTRAINT person_identifier_kind_known
        CHECK (kind IN ('mobile', 'email', 'external_id', 'card_number')),
    value      text NOT NULL,
    PRIMARY KEY (org_id, person_id, kind, value),
    FOREIGN KEY (org_id, person_id) REFERENCES person
);

ALTER TABLE request
    ADD COLUMN auto_rule text;         -- the rule of the policy that approved it without a checker

-- The points of a day that a cap counts, pending and executed together: the sum of the uses of requests that are
-- open or have succeeded. Locked after the request rows and before the member rows.
CREATE TABLE cap_counter (
    org_id   bigint NOT NULL,
    cap      text NOT NULL,
    subject  text NOT NULL,             -- a member, a maker, a maker and a checker, or all
    day      date NOT NULL,             -- in the organisation's time zone
    points   bigint NOT NULL DEFAULT 0 CONSTRAINT cap_counter_not_negative CHECK (points >= 0),
    PRIMARY KEY (org_id, cap, subject, day)
) WITH (fillfactor = 50);

-- Which counters a request is counted in. Its end without effect takes the points out of them again.
CREATE TABLE cap_use (
    org_id      bigint NOT NULL,
    request_id  uuid NOT NULL,
    cap         text NOT NULL,
    subject     text NOT NULL,
    day         date NOT NULL,
    points      bigint NOT NULL CONSTRAINT cap_use_points_not_negative CHECK (points >= 0),
    PRIMARY KEY (org_id, request_id, cap, subject, day)
);

CREATE TRIGGER cap_use_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON cap_use FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER request_requirement_never_changes BEFORE UPDATE ON request FOR EACH ROW
    WHEN ((OLD.requirement, OLD.policy_revision, OLD.auto_rule, OLD.expires_at) IS DISTINCT FROM
          (NEW.requirement, NEW.policy_revision, NEW.auto_rule, NEW.expires_at))
    EXECUTE FUNCTION refuse_change();
