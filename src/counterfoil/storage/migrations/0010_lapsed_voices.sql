-- A voice whose right is gone uses up nobody: its person, and whoever lent them the right, may speak once more.

ALTER TABLE decision DROP CONSTRAINT decision_pkey, ADD PRIMARY KEY (org_id, request_id, number);
DROP INDEX decision_right_used_once;
