-- What teams add to a PostgreSQL table to keep its history, for history.py. Each is written for the one table that pgbench
-- updates, `(id int PRIMARY KEY, document jsonb)`, so it does less than an extension that works for every table.

-- name: trigger
-- A log of changes: the document before and after as jsonb, written by a trigger, and an index to find a user's.
CREATE TABLE changes_trigger (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id     int NOT NULL,
  at     timestamptz NOT NULL DEFAULT now(),
  before jsonb NOT NULL,
  after  jsonb NOT NULL
);
CREATE INDEX ON changes_trigger (id);
CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes_trigger (id, before, after) VALUES (old.id, old.document, new.document);
  RETURN NULL;
END $$;
CREATE TRIGGER log_change AFTER UPDATE ON merged_trigger FOR EACH ROW EXECUTE FUNCTION log_change();

-- name: versions
-- The way of temporal_tables: a row has the period since when it is valid, and each earlier version is copied to a table of
-- versions when its period ends. An update in the same microsecond gets a period of its own.
ALTER TABLE merged_versions ADD COLUMN period tstzrange NOT NULL DEFAULT tstzrange(now(), NULL);
CREATE TABLE changes_versions (LIKE merged_versions);
CREATE INDEX ON changes_versions (id);
CREATE FUNCTION keep_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  began timestamptz := lower(old.period);
  ended timestamptz := greatest(now(), began + interval '1 microsecond');
BEGIN
  INSERT INTO changes_versions (id, document, period) VALUES (old.id, old.document, tstzrange(began, ended));
  new.period := tstzrange(ended, NULL);
  RETURN new;
END $$;
CREATE TRIGGER keep_version BEFORE UPDATE ON merged_versions FOR EACH ROW EXECUTE FUNCTION keep_version();

-- name: audit
-- The way of supa_audit: whole rows before and after as jsonb in one table for all tables of a database, with the operation,
-- the table, and a UUID of the row's key, and four indexes.
CREATE TYPE audited AS ENUM ('INSERT', 'UPDATE', 'DELETE');
CREATE TABLE changes_audit (
  id         bigserial PRIMARY KEY,
  row_key    uuid,
  old_key    uuid,
  operation  audited NOT NULL,
  at         timestamptz NOT NULL DEFAULT now(),
  table_oid  oid NOT NULL,
  table_path text NOT NULL,
  row        jsonb,
  old_row    jsonb
);
CREATE INDEX ON changes_audit (row_key) WHERE row_key IS NOT NULL;
CREATE INDEX ON changes_audit (old_key) WHERE old_key IS NOT NULL;
CREATE INDEX ON changes_audit USING brin (at);
CREATE INDEX ON changes_audit (table_oid);
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  key uuid := md5(TG_RELID || ' ' || new.id)::uuid;
BEGIN
  INSERT INTO changes_audit (row_key, old_key, operation, table_oid, table_path, row, old_row)
  VALUES (key, key, TG_OP::audited, TG_RELID, TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, to_jsonb(new), to_jsonb(old));
  RETURN NULL;
END $$;
CREATE TRIGGER audit_row AFTER UPDATE ON merged_audit FOR EACH ROW EXECUTE FUNCTION audit_row();
