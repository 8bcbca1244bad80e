-- Whole rows among users' changes: see usertable/store/keyframes.py. On Citus they are beside their users.
CREATE TABLE usertable.keyframe (
  project    bigint NOT NULL,
  number     bigint NOT NULL,
  cuid       bigint NOT NULL,
  version    bigint NOT NULL,
  at         bigint NOT NULL,
  attributes jsonb NOT NULL,
  PRIMARY KEY (project, number, cuid)
);

CREATE INDEX keyframe_of_user ON usertable.keyframe (project, cuid, at);
