-- What came in, for the console: none of it is needed to answer a request, and all of it goes after a while.

-- By id they stand in order of their coming.
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

-- By minute. The attribute is '' for refusals that are about none.
CREATE TABLE arrival_refusal (
  project   INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  attribute TEXT NOT NULL,
  count     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  PRIMARY KEY (project, at, kind, attribute)
) STRICT, WITHOUT ROWID;

-- When an accepted request last had the attribute.
CREATE TABLE last_write (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;
