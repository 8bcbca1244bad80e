-- What came in, for the console: none of it is needed to answer a request, and all of it goes after a while.
-- These tables are not logged: they are empty after a crash, and cost no WAL.

-- Written by one server at a time, so that nobody who reads on from a number misses one.
CREATE UNLOGGED TABLE usertable.arrival (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  project  bigint NOT NULL,
  refused  boolean NOT NULL,
  at       bigint NOT NULL,
  cuid     bigint,
  document text NOT NULL
);
CREATE INDEX arrival_by_project ON usertable.arrival (project, refused, id);
CREATE INDEX arrival_by_user ON usertable.arrival (project, cuid) WHERE cuid IS NOT NULL;

CREATE UNLOGGED TABLE usertable.arrival_rate (
  project  bigint NOT NULL,
  at       bigint NOT NULL,
  accepted bigint NOT NULL,
  refused  bigint NOT NULL,
  sampled  bigint NOT NULL,
  PRIMARY KEY (project, at)
);

-- By minute. The attribute is '' for refusals that are about none.
CREATE UNLOGGED TABLE usertable.arrival_refusal (
  project   bigint NOT NULL,
  at        bigint NOT NULL,
  kind      text COLLATE "C" NOT NULL,
  attribute text COLLATE "C" NOT NULL,
  count     bigint NOT NULL,
  last      bigint NOT NULL,
  PRIMARY KEY (project, at, kind, attribute)
);

-- When an accepted request last had the attribute.
CREATE TABLE usertable.last_write (
  project   bigint NOT NULL,
  attribute text COLLATE "C" NOT NULL,
  at        bigint NOT NULL,
  PRIMARY KEY (project, attribute)
);
