-- The tables of a store that is made now, after all migrations. Written by `make schemas`; never run.

-- Each project has a table of users by its number, like `user_1`.

CREATE TABLE arrival (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  project  INTEGER NOT NULL,
  refused  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  cuid     INTEGER,
  document TEXT NOT NULL
) STRICT;

CREATE INDEX arrival_by_project ON arrival (project, refused, id);

CREATE INDEX arrival_by_user ON arrival (project, cuid) WHERE cuid IS NOT NULL;

CREATE TABLE arrival_rate (
  project  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  accepted INTEGER NOT NULL,
  refused  INTEGER NOT NULL,
  sampled  INTEGER NOT NULL,
  PRIMARY KEY (project, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE arrival_refusal (
  project   INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  attribute TEXT NOT NULL,
  count     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  PRIMARY KEY (project, at, kind, attribute)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  project INTEGER NOT NULL,
  number  INTEGER NOT NULL,
  first   INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  facts   TEXT NOT NULL,
  request TEXT NOT NULL,
  address TEXT NOT NULL,
  PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_actor ON audit (project, actor, number);

CREATE INDEX audit_by_kind ON audit (project, kind, number);

CREATE INDEX audit_by_subject ON audit (project, subject, number);

CREATE INDEX audit_by_time ON audit (project, at);

CREATE TABLE console_session (
  digest  BLOB PRIMARY KEY,
  person  TEXT NOT NULL,
  begun   INTEGER NOT NULL,
  seen    INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  address TEXT NOT NULL,
  browser TEXT NOT NULL,
  proof   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX console_session_by_person ON console_session (person);

CREATE TABLE epoch (value INTEGER NOT NULL) STRICT;

CREATE TABLE erased (
  project INTEGER NOT NULL,
  cuid    INTEGER NOT NULL,
  PRIMARY KEY (project, cuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
  id      INTEGER PRIMARY KEY,
  last    INTEGER NOT NULL,
  changes INTEGER NOT NULL,
  latest  INTEGER NOT NULL,
  body    BLOB NOT NULL
) STRICT;

CREATE TABLE history_since (
  project INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL
) STRICT;

CREATE TABLE identifier_value (
  project    INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  value      TEXT NOT NULL,
  cuid       INTEGER NOT NULL,
  PRIMARY KEY (project, identifier, value)
) STRICT, WITHOUT ROWID;

CREATE INDEX identifier_value_by_user ON identifier_value (project, cuid);

CREATE TABLE import_job (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  state   TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_use (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER keyframe_added AFTER INSERT ON keyframe BEGIN
  INSERT INTO keyframe_bytes VALUES (new.project, octet_length(new.attributes))
  ON CONFLICT (project) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER keyframe_removed AFTER DELETE ON keyframe BEGIN
  UPDATE keyframe_bytes SET bytes = bytes - octet_length(old.attributes) WHERE project = old.project;
END;

CREATE TABLE keyframe (
  project    INTEGER NOT NULL,
  number     INTEGER NOT NULL,
  cuid       INTEGER NOT NULL,
  version    INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  attributes TEXT NOT NULL,
  PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX keyframe_of_user ON keyframe (project, cuid, at);

CREATE TABLE keyframe_bytes (
  project INTEGER PRIMARY KEY,
  bytes   INTEGER NOT NULL
) STRICT;

CREATE TABLE last_write (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;

CREATE TABLE person (
  id       TEXT PRIMARY KEY,
  email    TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE project (
  number    INTEGER PRIMARY KEY AUTOINCREMENT,
  id        TEXT NOT NULL UNIQUE,
  version   INTEGER NOT NULL,
  next_cuid INTEGER NOT NULL,
  document  TEXT NOT NULL
) STRICT;

CREATE TABLE project_key (
  project  INTEGER NOT NULL,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

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

CREATE INDEX receipt_at ON receipt (at);

CREATE INDEX receipt_personal ON receipt (project, cuid) WHERE personal;

CREATE TABLE reported (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_1 (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL, head INTEGER NOT NULL,
  sole_actor TEXT NOT NULL) STRICT;
