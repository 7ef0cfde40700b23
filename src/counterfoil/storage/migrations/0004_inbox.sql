-- Inbox and search: how urgent a request is, the indexes that lists are read by, and who may read.

ALTER TABLE organisation ADD COLUMN read_scope text NOT NULL DEFAULT 'organisation'
    CONSTRAINT organisation_read_scope_known CHECK (read_scope IN ('organisation', 'units'));

-- Set at submission, never changed: pages of the inbox hang on it. infinity: nothing of it ends.
ALTER TABLE request ADD COLUMN urgent_at timestamptz NOT NULL DEFAULT 'infinity';

-- The inbox, for who decides everywhere and for who decides in a few units. Only pending requests are in them.
CREATE INDEX request_urgent ON request (org_id, urgent_at, request_id) WHERE state = 'pending';
CREATE INDEX request_urgent_in_unit ON request (org_id, unit_id, urgent_at, request_id) WHERE state = 'pending';

-- The ways into the search that a person expects an answer from at once.
CREATE INDEX request_by_member ON request (org_id, member_id, started_at, request_id) WHERE member_id IS NOT NULL;
CREATE INDEX request_of_unknown_member ON request (org_id, identifier_kind, identifier_value) WHERE member_id IS NULL;
CREATE INDEX request_by_maker ON request (org_id, maker_person_id, started_at, request_id);
CREATE INDEX decision_by_person ON decision (org_id, person_id, request_id);
