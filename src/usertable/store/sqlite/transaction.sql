-- Statements of transaction.py. {project} is replaced by a project's number.

-- name: version_and_users
-- A project's version, and some of its users as one JSON array of [CUID, version, …]: a single SQLite step.
SELECT
  (SELECT version FROM project WHERE number = {project}),
  CAST('[' || group_concat(
    '[' || cuid || ',' || version || ',' || created_at || ',' || updated_at || ',' || attributes || ','
      || changed_at || ',' || head || ',' || json_quote(sole_actor) || ']'
  ) || ']' AS BLOB)
FROM user_{project} WHERE cuid IN (SELECT value FROM json_each(:cuids));

-- name: receipts
-- Receipts with some keys.
SELECT key, fingerprint, written FROM receipt
WHERE project = :project AND key IN (SELECT value FROM json_each(:keys));

-- name: span
-- Whether there is a user, or an erased one, with a CUID from the first to the last.
SELECT
  EXISTS (SELECT 1 FROM user_{project} WHERE cuid BETWEEN :first AND :last),
  EXISTS (SELECT 1 FROM erased WHERE project = {project} AND cuid BETWEEN :first AND :last);

-- name: erased
-- The erased ones of some CUIDs.
SELECT cuid FROM erased WHERE project = {project} AND cuid IN (SELECT value FROM json_each(:cuids));

-- name: is_used
-- Has a row if the CUID was ever assigned.
SELECT 1 FROM user_{project} WHERE cuid = :cuid
UNION ALL
SELECT 1 FROM erased WHERE project = {project} AND cuid = :cuid;

-- name: make_user_table
-- The table of a project's users. The CUID is the rowid.
CREATE TABLE IF NOT EXISTS user_{project} (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL, head INTEGER NOT NULL,
  sole_actor TEXT NOT NULL) STRICT;

-- name: create_users
-- New users. {now} is the time of creation: like {head} and {actor}, it is the same for all rows, so it is not bound for each.
INSERT INTO user_{project} (cuid, version, created_at, updated_at, attributes, changed_at, head, sole_actor)
VALUES (:cuid, :version, {now}, {now}, :attributes, '{}', {head}, {actor});

-- name: replace_users
-- Whole rows; values for many rows follow.
REPLACE INTO user_{project} (cuid, version, created_at, updated_at, attributes, changed_at, head, sole_actor) VALUES;

-- name: add_values
-- New identifier values.
INSERT INTO identifier_value (project, cuid, identifier, value) VALUES ({project}, :cuid, :identifier, :value);

-- name: add_receipts
-- Values for many rows follow.
INSERT INTO receipt (project, key, cuid, fingerprint, written, personal, at) VALUES;

-- name: expired_receipts
SELECT id FROM receipt WHERE at < :before ORDER BY at LIMIT 2000;

-- name: raise_counter
-- The next CUID that the project assigns is this one, unless it is higher already.
UPDATE project SET next_cuid = :next_cuid WHERE number = :project AND next_cuid < :next_cuid;

-- name: erase
-- A user, and everything that shows its data.
DELETE FROM user_{project} WHERE cuid = :cuid;
INSERT INTO erased (project, cuid) VALUES ({project}, :cuid);
DELETE FROM identifier_value WHERE project = {project} AND cuid = :cuid;
DELETE FROM receipt WHERE project = {project} AND cuid = :cuid AND personal;
DELETE FROM arrival WHERE project = {project} AND cuid = :cuid;

-- name: add_project
INSERT INTO project (id, version, next_cuid, document) VALUES (:id, :version, :next_cuid, :document);

-- name: keep_key
REPLACE INTO project_key (project, name, document) VALUES (:project, :name, :document);

-- name: record
-- An entry of an audit log.
INSERT INTO audit (project, number, first, at, actor, kind, subject, facts, request, address)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
