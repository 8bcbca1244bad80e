-- The keys of each project. `default`, which every project has, is not here if an older usertable made the project: it is
-- made of the secret in the project's document then.
CREATE TABLE project_key (
  project  INTEGER NOT NULL,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

-- When a key was last used, to the minute.
CREATE TABLE key_use (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
