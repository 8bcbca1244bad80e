-- How far each import came; the state changes in the transaction of the rows that it tells of.
CREATE TABLE import_job (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  state   TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
