-- Execution on external hosts: the host entry's own settings, claims of work, attempts, look-ups, incidents.

ALTER TABLE host
    ADD COLUMN link_local boolean NOT NULL DEFAULT false,
    ADD COLUMN ca_pem text,                    -- certificates to trust instead of the public ones
    ADD COLUMN credential_sealed text,         -- Authorization that replaces the payload's, sealed, in hex …
    ADD COLUMN credential_mac text,            -- … and its digest, to see whether it changed
    ADD COLUMN attempt_seconds double precision NOT NULL DEFAULT 20
        CONSTRAINT host_attempt_seconds_positive CHECK (attempt_seconds > 0),
    ADD COLUMN overall_seconds double precision NOT NULL DEFAULT 900
        CONSTRAINT host_overall_seconds_positive CHECK (overall_seconds > 0),
    ADD COLUMN absent_after_seconds double precision  -- null: never sure that a lost call has no effect
        CONSTRAINT host_absent_after_seconds_positive CHECK (absent_after_seconds > 0),
    ADD COLUMN look_up boolean NOT NULL DEFAULT true,
    ADD COLUMN concurrency integer NOT NULL DEFAULT 16
        CONSTRAINT host_concurrency_positive CHECK (concurrency > 0);

ALTER TABLE organisation ADD COLUMN incident_quorum integer NOT NULL DEFAULT 1
    CONSTRAINT organisation_incident_quorum_positive CHECK (incident_quorum >= 1);

-- When an executor may take the request: now, at the next attempt or look-up, or when its lease has ended.
-- Null: there is nothing to do, or an incident waits for a person.
ALTER TABLE request ADD COLUMN due_at timestamptz;
CREATE INDEX request_due ON request (org_id, host_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX request_executing ON request (org_id, state, decided_at) WHERE state IN ('approved', 'unknown');

ALTER TABLE attempt DROP CONSTRAINT attempt_outcome_known;
ALTER TABLE attempt
    ADD CONSTRAINT attempt_outcome_known
        CHECK (outcome IN ('succeeded', 'failed', 'retry', 'unknown', 'already_done')),
    ADD COLUMN owner text NOT NULL DEFAULT '',       -- the process that made the call
    ADD COLUMN late boolean NOT NULL DEFAULT false;  -- its answer came when the request was another's already

-- One live or succeeded claim of a reference of a type at a host: taken with the first intent, given back by a failure.
CREATE TABLE reference_claim (
    org_id        bigint NOT NULL,
    host_id       text NOT NULL,
    request_type  text NOT NULL,
    reference     text NOT NULL,
    request_id    uuid NOT NULL,
    PRIMARY KEY (org_id, host_id, request_type, reference)
);

-- What the host said when a lost call was looked up.
CREATE TABLE look_up (
    org_id       bigint NOT NULL,
    request_id   uuid NOT NULL,
    number       integer NOT NULL,
    attempt      integer NOT NULL,             -- the attempt that was looked up
    verdict      text NOT NULL CONSTRAINT look_up_verdict_known CHECK (verdict IN ('found', 'absent', 'no_verdict')),
    response     bytea NOT NULL,
    asked_at     timestamptz NOT NULL,
    answered_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, request_id, number)
);

-- What no machine can clear up. Executors leave its request alone until people have settled it.
CREATE TABLE incident (
    org_id       bigint NOT NULL,
    incident_id  uuid NOT NULL,
    request_id   uuid NOT NULL,
    kind         text NOT NULL,
    message      text NOT NULL,
    opened_at    timestamptz NOT NULL,
    settled_as   text CONSTRAINT incident_settled_as_known CHECK (settled_as IN ('executed', 'not_executed')),
    settled_at   timestamptz,
    PRIMARY KEY (org_id, incident_id),
    CONSTRAINT incident_settled_has_time CHECK ((settled_as IS NULL) = (settled_at IS NULL))
);
CREATE UNIQUE INDEX incident_open_unique ON incident (org_id, request_id) WHERE settled_at IS NULL;
CREATE INDEX incident_of_request ON incident (org_id, request_id);
CREATE INDEX incident_open ON incident (org_id, incident_id) WHERE settled_at IS NULL;

CREATE TABLE incident_voice (
    org_id           bigint NOT NULL,
    incident_id      uuid NOT NULL,
    person_id        text NOT NULL,
    maker_person_id  text NOT NULL,
    user_id          bigint NOT NULL,
    user_name        text NOT NULL,
    settled_as       text NOT NULL CONSTRAINT incident_voice_known CHECK (settled_as IN ('executed', 'not_executed')),
    reason           text NOT NULL,
    evidence         text NOT NULL,
    at               timestamptz NOT NULL,
    PRIMARY KEY (org_id, incident_id, person_id),
    CONSTRAINT incident_voice_maker_settles_nothing CHECK (maker_person_id <> person_id)
);

-- Which database this is. After a restore it is another one, and what has happened since is not known to it.
CREATE TABLE restore_mark (
    only_row           boolean PRIMARY KEY CONSTRAINT restore_mark_only_row CHECK (only_row),
    system_identifier  text NOT NULL,
    timeline           text NOT NULL,
    marked_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER look_up_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON look_up FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER incident_voice_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON incident_voice FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER incident_settled_never_changes BEFORE UPDATE ON incident FOR EACH ROW
    WHEN (OLD.settled_at IS NOT NULL) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER incident_never_deleted BEFORE DELETE OR TRUNCATE ON incident FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER attempt_never_deleted BEFORE DELETE OR TRUNCATE ON attempt FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER attempt_answer_never_changes BEFORE UPDATE ON attempt FOR EACH ROW
    WHEN (OLD.response IS NOT NULL AND (OLD.response, OLD.outcome) IS DISTINCT FROM (NEW.response, NEW.outcome)
          OR (OLD.reference, OLD.sent_digest, OLD.fence, OLD.planned_at)
             IS DISTINCT FROM (NEW.reference, NEW.sent_digest, NEW.fence, NEW.planned_at))
    EXECUTE FUNCTION refuse_change();
