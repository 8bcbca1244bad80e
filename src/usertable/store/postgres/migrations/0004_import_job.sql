-- How far each import came; the state changes in the transaction of the rows that it tells of. On Citus it stays on the
-- coordinator.
CREATE TABLE usertable.import_job (
  project bigint NOT NULL,
  name    text COLLATE "C" NOT NULL,
  state   text NOT NULL,
  PRIMARY KEY (project, name)
);
