-- The first storey: organisations, access, requests, members and their ledger, audit.
--
-- org_id leads every primary key, unique index and foreign key, so that the same schema can be
-- distributed by it. Points are thousandths of a point. Constraints are named after their rule.

-- ---------------------------------------------------------------- organisations and access

CREATE TABLE organisation (
    org_id          bigint PRIMARY KEY CONSTRAINT organisation_id_positive CHECK (org_id > 0),
    name            text NOT NULL,
    time_zone       text NOT NULL,
    wire_time_zone  text NOT NULL,
    country_code    text NOT NULL CONSTRAINT organisation_country_code_digits CHECK (country_code ~ '^[0-9]{1,3}$'),
    profile         text NOT NULL CONSTRAINT organisation_profile_known CHECK (profile IN ('contract', 'strict')),
    control         text NOT NULL CONSTRAINT organisation_control_known CHECK (control IN ('single', 'dual')),
    echo_credentials text NOT NULL CONSTRAINT organisation_echo_known CHECK (echo_credentials IN ('create', 'all')),
    version         bigint NOT NULL DEFAULT 1,  -- rises with every administrative write: readers reload on a change
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Which organisation a login belongs to: the one table that is read without an org_id.
CREATE TABLE directory (
    login   text PRIMARY KEY,
    org_id  bigint NOT NULL
);

CREATE TABLE org_unit (
    org_id            bigint NOT NULL REFERENCES organisation,
    unit_id           bigint NOT NULL,
    kind              text NOT NULL CONSTRAINT org_unit_kind_known CHECK (kind IN ('zone', 'concept', 'store', 'till')),
    name              text NOT NULL,
    code              text,
    zone_parent_id    bigint,   -- of a zone or a store
    concept_parent_id bigint,   -- of a concept or a store
    store_id          bigint,   -- of a till
    active            boolean NOT NULL DEFAULT true,
    PRIMARY KEY (org_id, unit_id),
    FOREIGN KEY (org_id, zone_parent_id) REFERENCES org_unit,
    FOREIGN KEY (org_id, concept_parent_id) REFERENCES org_unit,
    FOREIGN KEY (org_id, store_id) REFERENCES org_unit,
    CONSTRAINT org_unit_parents_fit_kind CHECK (
        CASE kind
            WHEN 'zone' THEN concept_parent_id IS NULL AND store_id IS NULL
            WHEN 'concept' THEN zone_parent_id IS NULL AND store_id IS NULL
            WHEN 'store' THEN store_id IS NULL
            ELSE zone_parent_id IS NULL AND concept_parent_id IS NULL AND store_id IS NOT NULL
        END)
);

CREATE TABLE person (
    org_id     bigint NOT NULL REFERENCES organisation,
    person_id  text NOT NULL,  -- the staff id
    name       text NOT NULL,
    active     boolean NOT NULL DEFAULT true,
    PRIMARY KEY (org_id, person_id)
);

CREATE TABLE app_user (
    org_id         bigint NOT NULL REFERENCES organisation,
    user_id        bigint NOT NULL,
    user_name      text NOT NULL,
    person_id      text NOT NULL,
    password_hash  text,                       -- argon2id; null: cannot sign in
    epoch          bigint NOT NULL DEFAULT 1,  -- rises when the password changes: older tokens end
    active         boolean NOT NULL DEFAULT true,
    PRIMARY KEY (org_id, user_id),
    CONSTRAINT app_user_name_unique UNIQUE (org_id, user_name),
    FOREIGN KEY (org_id, person_id) REFERENCES person
);

CREATE TABLE credential (
    org_id       bigint NOT NULL REFERENCES organisation,
    login        text NOT NULL,
    kind         text NOT NULL CONSTRAINT credential_kind_known CHECK (kind IN ('basic', 'oauth')),
    user_id      bigint NOT NULL,              -- what userId shows when the client itself is the maker
    person_id    text,                         -- who answers for it; null: it can neither make nor decide
    unit_id      bigint,                       -- the till that it calls for
    secret_hash  text NOT NULL,                -- argon2id of the md5 form of the password
    rights       text[] NOT NULL DEFAULT '{}',
    epoch        bigint NOT NULL DEFAULT 1,
    active       boolean NOT NULL DEFAULT true,
    PRIMARY KEY (org_id, login),
    FOREIGN KEY (org_id, person_id) REFERENCES person,
    FOREIGN KEY (org_id, unit_id) REFERENCES org_unit
);

CREATE TABLE access_grant (
    org_id        bigint NOT NULL REFERENCES organisation,
    grant_id      uuid NOT NULL,
    person_id     text NOT NULL,
    unit_id       bigint,                      -- null: the whole organisation
    access_right  text NOT NULL,
    request_type  text,                        -- null: all types
    points_max    bigint CONSTRAINT access_grant_points_max_positive CHECK (points_max > 0),
    valid_from    timestamptz,
    valid_until   timestamptz,
    PRIMARY KEY (org_id, grant_id),
    FOREIGN KEY (org_id, person_id) REFERENCES person,
    FOREIGN KEY (org_id, unit_id) REFERENCES org_unit
);

CREATE TABLE host (
    org_id      bigint NOT NULL REFERENCES organisation,
    host_id     text NOT NULL,
    scheme      text NOT NULL CONSTRAINT host_scheme_known CHECK (scheme IN ('http', 'https')),
    pattern     text NOT NULL,                 -- a host name, or *.suffix
    port        integer NOT NULL CONSTRAINT host_port_range CHECK (port BETWEEN 1 AND 65535),
    target      text NOT NULL CONSTRAINT host_target_known CHECK (target IN ('ledger', 'external')),
    base_url    text,
    plain_http  boolean NOT NULL DEFAULT false,
    private     boolean NOT NULL DEFAULT false,
    revision    integer NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, host_id),
    CONSTRAINT host_address_unique UNIQUE (org_id, scheme, pattern, port)
);

CREATE TABLE policy (
    org_id      bigint NOT NULL REFERENCES organisation,
    revision    integer NOT NULL,
    document    json NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, revision)
);

CREATE TABLE programme (
    org_id            bigint NOT NULL REFERENCES organisation,
    programme_id      bigint NOT NULL,
    name              text NOT NULL,
    currency_per_point numeric(18, 6) NOT NULL DEFAULT 1
        CONSTRAINT programme_currency_positive CHECK (currency_per_point > 0),
    hold_days         integer NOT NULL DEFAULT 7 CONSTRAINT programme_hold_days_positive CHECK (hold_days > 0),
    release_grace_hours integer NOT NULL DEFAULT 24
        CONSTRAINT programme_grace_not_negative CHECK (release_grace_hours >= 0),
    is_default        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (org_id, programme_id)
);

-- ---------------------------------------------------------------- members and their points

CREATE TABLE member (
    org_id        bigint NOT NULL,
    member_id     bigint NOT NULL,
    programme_id  bigint NOT NULL,
    mobile        text NOT NULL DEFAULT '',
    email         text NOT NULL DEFAULT '',
    external_id   text NOT NULL DEFAULT '',
    available     bigint NOT NULL DEFAULT 0 CONSTRAINT member_available_not_negative CHECK (available >= 0),
    held          bigint NOT NULL DEFAULT 0 CONSTRAINT member_held_not_negative CHECK (held >= 0),
    version       bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, member_id),
    FOREIGN KEY (org_id, programme_id) REFERENCES programme
) WITH (fillfactor = 80);

CREATE TABLE member_identifier (
    org_id     bigint NOT NULL,
    kind       text NOT NULL CONSTRAINT member_identifier_kind_known
        CHECK (kind IN ('mobile', 'email', 'external_id', 'card_number')),
    value      text NOT NULL,
    member_id  bigint NOT NULL,
    PRIMARY KEY (org_id, kind, value),
    FOREIGN KEY (org_id, member_id) REFERENCES member
);
CREATE INDEX member_identifier_of_member ON member_identifier (org_id, member_id);

-- The points of one award with one expiry. remaining includes what is held.
CREATE TABLE lot (
    org_id       bigint NOT NULL,
    member_id    bigint NOT NULL,
    lot_id       uuid NOT NULL,
    reference    text NOT NULL,                -- of the award: importing it twice awards it once
    awarded_at   timestamptz NOT NULL,
    expires_at   timestamptz,                  -- exclusive; null: never
    grace_until  timestamptz,                  -- set when a pinned part comes back after the expiry
    points       bigint NOT NULL CONSTRAINT lot_points_positive CHECK (points > 0),
    remaining    bigint NOT NULL CONSTRAINT lot_remaining_range CHECK (remaining BETWEEN 0 AND points),
    held         bigint NOT NULL DEFAULT 0 CONSTRAINT lot_held_range CHECK (held BETWEEN 0 AND remaining),
    spent        boolean NOT NULL GENERATED ALWAYS AS (remaining = 0) STORED,
    PRIMARY KEY (org_id, member_id, lot_id),
    CONSTRAINT lot_reference_unique UNIQUE (org_id, member_id, reference),
    FOREIGN KEY (org_id, member_id) REFERENCES member
) WITH (fillfactor = 80);
-- By a flag that seldom changes, so that spending a part of a lot need not touch its indexes.
CREATE INDEX lot_spendable ON lot (org_id, member_id) WHERE NOT spent;

-- ---------------------------------------------------------------- requests

CREATE TABLE request (
    org_id             bigint NOT NULL,
    request_id         uuid NOT NULL,
    request_type       text NOT NULL CONSTRAINT request_type_known CHECK (request_type IN (
        'POINTS-REDEMPTION', 'GOODWILL-POINTS', 'EARN-BADGE', 'ISSUE-BADGE', 'CUSTOMER-STATUS-CHANGE',
        'RETRO-TRANSACTION', 'ADMIN-CHANGE')),
    state              text NOT NULL CONSTRAINT request_state_known CHECK (state IN (
        'pending', 'approved', 'unknown', 'succeeded', 'failed', 'rejected', 'withdrawn', 'expired')),
    version            integer NOT NULL DEFAULT 1,
    maker_person_id    text NOT NULL,
    maker_user_id      bigint NOT NULL,
    maker_user_name    text NOT NULL,
    maker_login        text NOT NULL,          -- the calling system
    entity_info        bytea NOT NULL,         -- as sent, JSON
    unit_id            bigint NOT NULL,        -- where access is judged
    till_id            bigint,
    store_id           bigint,
    zone_id            bigint,
    concept_id         bigint,
    points             bigint CONSTRAINT request_points_positive CHECK (points > 0),
    member_id          bigint,                 -- null: unknown when it was submitted
    identifier_kind    text,
    identifier_value   text,
    external_reference text,
    host_id            text NOT NULL,
    host_revision      integer NOT NULL,
    payload            bytea NOT NULL,         -- the stored form: compact JSON, credentials masked
    sealed_headers     bytea NOT NULL,         -- the masked header values, each encrypted
    till_login         text,                   -- whose credential the payload carries, where it was right …
    till_epoch         bigint,                 -- … and at which epoch of it
    digest             bytea NOT NULL,         -- of what is approved
    policy_revision    integer NOT NULL,
    approvals_required integer NOT NULL CONSTRAINT request_approvals_positive CHECK (approvals_required >= 1),
    requirement        bytea NOT NULL,         -- frozen from the policy revision, JSON
    flags              text[] NOT NULL,
    duplicate_of       uuid,
    outcome            bytea,                  -- the facts of the execution, JSON
    started_at         timestamptz NOT NULL,
    decided_at         timestamptz,
    ended_at           timestamptz,
    lease_owner        text,
    lease_until        timestamptz,
    fence              integer NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, request_id),
    CONSTRAINT request_final_has_end CHECK (
        (state IN ('succeeded', 'failed', 'rejected', 'withdrawn', 'expired')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX request_by_start ON request (org_id, started_at, request_id);
CREATE INDEX request_open ON request (org_id, started_at, request_id) WHERE ended_at IS NULL;
CREATE INDEX request_by_reference ON request (org_id, external_reference) WHERE external_reference IS NOT NULL;

CREATE TABLE decision (
    org_id           bigint NOT NULL,
    request_id       uuid NOT NULL,
    number           integer NOT NULL,         -- 1, 2, …: the order of the voices
    person_id        text NOT NULL,
    maker_person_id  text NOT NULL,
    user_id          bigint NOT NULL,
    user_name        text NOT NULL,
    verdict          text NOT NULL CONSTRAINT decision_verdict_known CHECK (verdict IN ('approved', 'rejected')),
    message          text NOT NULL,
    decided_at       timestamptz NOT NULL,
    PRIMARY KEY (org_id, request_id, person_id),
    CONSTRAINT decision_maker_is_not_checker CHECK (maker_person_id <> person_id)
);

CREATE TABLE idempotency_key (
    org_id      bigint NOT NULL,
    caller      text NOT NULL,
    path        text NOT NULL,
    key         text NOT NULL CONSTRAINT idempotency_key_length CHECK (length(key) BETWEEN 1 AND 255),
    digest      bytea NOT NULL,
    request_id  uuid NOT NULL,
    PRIMARY KEY (org_id, caller, path, key)
);

-- Points set aside by a pending request; hold_lot pins the lots.
CREATE TABLE hold (
    org_id      bigint NOT NULL,
    request_id  uuid NOT NULL,
    member_id   bigint NOT NULL,
    points      bigint NOT NULL CONSTRAINT hold_points_positive CHECK (points > 0),
    state       text NOT NULL CONSTRAINT hold_state_known CHECK (state IN ('open', 'captured', 'released', 'expired')),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, request_id)
) WITH (fillfactor = 80);
CREATE INDEX hold_open ON hold (org_id, member_id) WHERE state = 'open';

CREATE TABLE hold_lot (
    org_id      bigint NOT NULL,
    request_id  uuid NOT NULL,
    lot_id      uuid NOT NULL,
    points      bigint NOT NULL CONSTRAINT hold_lot_points_positive CHECK (points > 0),
    PRIMARY KEY (org_id, request_id, lot_id)
);

-- One atomic set of postings. A posting moves points from a source to a destination and is always
-- positive: an unbalanced journal cannot be written down.
CREATE TABLE journal (
    org_id      bigint NOT NULL,
    journal_id  uuid NOT NULL,
    kind        text NOT NULL CONSTRAINT journal_kind_known
        CHECK (kind IN ('award', 'place', 'capture', 'release', 'redeem', 'expire', 'reverse', 'adjust')),
    member_id   bigint NOT NULL,
    request_id  uuid,
    at          timestamptz NOT NULL,
    PRIMARY KEY (org_id, journal_id)
);

CREATE TABLE posting (
    org_id       bigint NOT NULL,
    journal_id   uuid NOT NULL,
    line         integer NOT NULL,
    source       text NOT NULL,
    destination  text NOT NULL,
    lot_id       uuid NOT NULL,
    points       bigint NOT NULL CONSTRAINT posting_points_positive CHECK (points > 0),
    PRIMARY KEY (org_id, journal_id, line),
    CONSTRAINT posting_accounts_differ CHECK (source <> destination),
    CONSTRAINT posting_accounts_known CHECK (
        source IN ('issued', 'available', 'held', 'redeemed', 'expired') AND
        destination IN ('issued', 'available', 'held', 'redeemed', 'expired'))
);

CREATE TABLE redemption (
    org_id              bigint NOT NULL,
    redemption_id       text NOT NULL CONSTRAINT redemption_id_form CHECK (redemption_id ~ '^[0-9A-Za-z]{6}$'),
    member_id           bigint NOT NULL,
    request_id          uuid,                  -- null: redeemed directly
    points              bigint NOT NULL CONSTRAINT redemption_points_positive CHECK (points > 0),
    external_reference  text,
    transaction_number  text NOT NULL DEFAULT '',
    notes               text NOT NULL DEFAULT '',
    till_login          text NOT NULL,
    redeemed_at         timestamptz NOT NULL,
    PRIMARY KEY (org_id, redemption_id)
);
CREATE UNIQUE INDEX redemption_request_unique ON redemption (org_id, request_id) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX redemption_reference_unique ON redemption (org_id, external_reference)
    WHERE external_reference IS NOT NULL;

-- One outbound call to an external host: planned and committed before the first byte leaves.
CREATE TABLE attempt (
    org_id       bigint NOT NULL,
    request_id   uuid NOT NULL,
    number       integer NOT NULL,
    state        text NOT NULL CONSTRAINT attempt_state_known CHECK (state IN ('planned', 'sent', 'answered')),
    fence        integer NOT NULL,
    host_id      text NOT NULL,
    reference    text NOT NULL,
    sent_digest  bytea NOT NULL,
    outcome      text CONSTRAINT attempt_outcome_known
        CHECK (outcome IN ('succeeded', 'refused', 'retryable', 'unknown')),
    response     bytea,
    planned_at   timestamptz NOT NULL,
    sent_at      timestamptz,
    answered_at  timestamptz,
    PRIMARY KEY (org_id, request_id, number),
    FOREIGN KEY (org_id, request_id) REFERENCES request
);

-- ---------------------------------------------------------------- evidence and messages

-- Append-only. facts is canonical JSON in which personal values stand as salted commitments;
-- personal holds the salt and the values and is the only part that can ever be erased.
CREATE TABLE event (
    org_id      bigint NOT NULL,
    subject_id  uuid NOT NULL,                 -- the request, redemption or administrative change
    event_id    uuid NOT NULL,
    kind        text NOT NULL,
    at          timestamptz NOT NULL,
    facts       bytea NOT NULL,
    personal    bytea,
    leaf_hash   bytea NOT NULL,
    PRIMARY KEY (org_id, subject_id, event_id)
);

CREATE TABLE outbox (
    org_id      bigint NOT NULL,
    outbox_id   uuid NOT NULL,
    topic       text NOT NULL,
    subject_id  uuid NOT NULL,
    event_id    uuid NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, outbox_id)
);

-- A member with everything that the rules need, as one JSON document. Read from the statement's snapshot:
-- compare version with the locked row's to know that it is current.
CREATE VIEW member_account AS
SELECT m.org_id, m.member_id, m.version, json_build_object(
    'member_id', m.member_id, 'available', m.available, 'held', m.held, 'version', m.version,
    'mobile', m.mobile, 'email', m.email, 'external_id', m.external_id,
    'lots', coalesce((
        SELECT json_agg(json_build_object(
            'lot_id', l.lot_id, 'awarded_at', l.awarded_at, 'remaining', l.remaining, 'held', l.held,
            'expires_at', l.expires_at, 'grace_until', l.grace_until))
        FROM lot l WHERE l.org_id = m.org_id AND l.member_id = m.member_id AND NOT l.spent), '[]'),
    'overdue_holds', coalesce((
        SELECT json_agg(json_build_object(
            'request_id', h.request_id, 'points', h.points, 'expires_at', h.expires_at, 'state', h.state,
            'allocations', (
                SELECT json_agg(json_build_object('lot_id', p.lot_id, 'points', p.points))
                FROM hold_lot p WHERE p.org_id = h.org_id AND p.request_id = h.request_id)))
        FROM hold h
        WHERE h.org_id = m.org_id AND h.member_id = m.member_id AND h.state = 'open'
          AND h.expires_at <= clock_timestamp()), '[]')
) AS document
FROM member m;

-- ---------------------------------------------------------------- guards
-- Each rule also lives in the program and in privileges; these are the second wall.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % breaks the rule %', TG_OP, TG_TABLE_NAME, TG_NAME
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME;
END $$;

CREATE TRIGGER request_transition BEFORE UPDATE ON request FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state || '>' || NEW.state) NOT IN (
        'pending>approved', 'pending>succeeded', 'pending>failed', 'pending>rejected', 'pending>withdrawn',
        'pending>expired', 'approved>unknown', 'approved>succeeded', 'approved>failed',
        'unknown>approved', 'unknown>succeeded', 'unknown>failed'))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER request_final_never_changes BEFORE UPDATE ON request FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL AND (
        OLD.state, OLD.outcome, OLD.ended_at) IS DISTINCT FROM (NEW.state, NEW.outcome, NEW.ended_at))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER request_content_never_changes BEFORE UPDATE ON request FOR EACH ROW
    WHEN ((OLD.digest, OLD.payload, OLD.points, OLD.maker_person_id, OLD.approvals_required, OLD.host_id,
           OLD.host_revision, OLD.identifier_kind, OLD.identifier_value, OLD.external_reference) IS DISTINCT FROM
          (NEW.digest, NEW.payload, NEW.points, NEW.maker_person_id, NEW.approvals_required, NEW.host_id,
           NEW.host_revision, NEW.identifier_kind, NEW.identifier_value, NEW.external_reference))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER request_never_deleted BEFORE DELETE OR TRUNCATE ON request FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER decision_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decision FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER posting_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posting FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER redemption_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON redemption FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER hold_lot_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hold_lot FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_append_only BEFORE DELETE OR TRUNCATE ON event FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_facts_never_change BEFORE UPDATE ON event FOR EACH ROW
    WHEN ((OLD.org_id, OLD.subject_id, OLD.event_id, OLD.kind, OLD.at, OLD.facts, OLD.leaf_hash) IS DISTINCT FROM
          (NEW.org_id, NEW.subject_id, NEW.event_id, NEW.kind, NEW.at, NEW.facts, NEW.leaf_hash)
          OR NEW.personal IS NOT NULL)
    EXECUTE FUNCTION refuse_change();
