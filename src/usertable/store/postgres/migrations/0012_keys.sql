-- The keys of each project. `default`, which every project has, is not here if an older usertable made the project: it is
-- made of the secret in the project's document then. On Citus they are on every machine, as projects are.
CREATE TABLE usertable.project_key (
  project  bigint NOT NULL,
  name     text COLLATE "C" NOT NULL,
  document text NOT NULL,
  PRIMARY KEY (project, name)
);

-- When a key was last used, to the minute. On Citus it stays on the coordinator.
CREATE TABLE usertable.key_use (
  project bigint NOT NULL,
  name    text COLLATE "C" NOT NULL,
  at      bigint NOT NULL,
  PRIMARY KEY (project, name)
);
