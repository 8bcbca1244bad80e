-- History: see usertable/store/history.py. A user's row has the number of its newest change, and the actor behind all its
-- values, if there is only one.

ALTER TABLE {users} ADD COLUMN head INTEGER NOT NULL DEFAULT 0;

ALTER TABLE {users} ADD COLUMN sole_actor TEXT NOT NULL DEFAULT '';

CREATE TABLE history (
  project INTEGER NOT NULL,
  block   INTEGER NOT NULL,
  last    INTEGER NOT NULL,
  changes INTEGER NOT NULL,
  latest  INTEGER NOT NULL,
  body    BLOB NOT NULL,
  PRIMARY KEY (project, block)
) STRICT;

CREATE TABLE history_since (
  project INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL
) STRICT;

-- What was written before is not recorded.
INSERT INTO history_since (project, at)
SELECT number, CAST(unixepoch('subsec') * 1000 AS INTEGER) + 1 FROM project;
