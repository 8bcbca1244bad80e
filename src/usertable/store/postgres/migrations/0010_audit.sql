-- The audit log of each project, and of the installation, which is project 0. `facts` is `{"before":{…},"after":{…}}`, or a
-- sentence as a JSON string. The changes that were recorded so far become entries afterwards; see `adopt_changes`.
CREATE TABLE usertable.audit (
  project bigint NOT NULL,
  number  bigint NOT NULL,
  first   bigint NOT NULL,
  at      bigint NOT NULL,
  actor   text COLLATE "C" NOT NULL,
  kind    text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  facts   text NOT NULL,
  request text NOT NULL,
  address text NOT NULL,
  PRIMARY KEY (project, number)
);
CREATE INDEX audit_by_actor ON usertable.audit (project, actor, number);
CREATE INDEX audit_by_kind ON usertable.audit (project, kind, number);
CREATE INDEX audit_by_subject ON usertable.audit (project, subject, number);
CREATE INDEX audit_by_time ON usertable.audit (project, at);
