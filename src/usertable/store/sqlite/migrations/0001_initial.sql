-- A number that grows with every change of any project: what a running server polls.
CREATE TABLE epoch (value INTEGER NOT NULL) STRICT;
INSERT INTO epoch VALUES (0);

-- AUTOINCREMENT: the number of a project is never given again, because it names that project's table of users.
CREATE TABLE project (
  number    INTEGER PRIMARY KEY AUTOINCREMENT,
  id        TEXT NOT NULL UNIQUE,
  version   INTEGER NOT NULL,
  next_cuid INTEGER NOT NULL,
  document  TEXT NOT NULL
) STRICT;

CREATE TABLE reported (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;

CREATE TABLE identifier_value (
  project    INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  value      TEXT NOT NULL,
  cuid       INTEGER NOT NULL,
  PRIMARY KEY (project, identifier, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX identifier_value_by_user ON identifier_value (project, cuid);

-- CUIDs of erased users, which are never given again.
CREATE TABLE erased (
  project INTEGER NOT NULL,
  cuid    INTEGER NOT NULL,
  PRIMARY KEY (project, cuid)
) STRICT, WITHOUT ROWID;

-- By id they stand in order of their making, which is how they expire.
CREATE TABLE receipt (
  id          INTEGER PRIMARY KEY,
  project     INTEGER NOT NULL,
  key         TEXT NOT NULL,
  cuid        INTEGER NOT NULL,
  fingerprint BLOB NOT NULL,
  written     TEXT NOT NULL,
  personal    INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  UNIQUE (project, key)
) STRICT;
CREATE INDEX receipt_personal ON receipt (project, cuid) WHERE personal;

CREATE TABLE schema_change (
  id      INTEGER PRIMARY KEY,
  project INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  who     TEXT NOT NULL,
  what    TEXT NOT NULL
) STRICT;
CREATE INDEX schema_change_by_project ON schema_change (project, id);
