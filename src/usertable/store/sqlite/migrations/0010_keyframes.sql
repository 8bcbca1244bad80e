-- Whole rows among users' changes: see usertable/store/keyframes.py.

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
