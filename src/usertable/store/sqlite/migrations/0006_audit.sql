-- The audit log of each project, and of the installation, which is project 0. `facts` is `{"before":{…},"after":{…}}`, or a
-- sentence as a JSON string. The changes that were recorded so far become entries, each change of an edit one.
CREATE TABLE audit (
  project INTEGER NOT NULL,
  number  INTEGER NOT NULL,
  first   INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  facts   TEXT NOT NULL,
  request TEXT NOT NULL,
  address TEXT NOT NULL,
  PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;
INSERT INTO audit
SELECT project, number, min(number) OVER (PARTITION BY id), at, who, kind, subject, facts, '', ''
FROM (
  SELECT
    c.project, row_number() OVER (PARTITION BY c.project ORDER BY c.id, e.key) AS number, c.id, c.at, c.who,
    CASE e.type WHEN 'object' THEN e.value ->> 'kind' ELSE '' END AS kind,
    CASE e.type WHEN 'object' THEN coalesce(e.value ->> 'subject', '') ELSE '' END AS subject,
    CASE e.type
      WHEN 'object' THEN json_object(
        'before', json(coalesce(e.value -> 'before', '{}')), 'after', json(coalesce(e.value -> 'after', '{}')))
      ELSE json_quote(e.value)
    END AS facts
  FROM schema_change c
  JOIN json_each(CASE WHEN c.what LIKE '[%' THEN c.what ELSE json_array(c.what) END) e
);
DROP TABLE schema_change;
CREATE INDEX audit_by_actor ON audit (project, actor, number);
CREATE INDEX audit_by_kind ON audit (project, kind, number);
CREATE INDEX audit_by_subject ON audit (project, subject, number);
CREATE INDEX audit_by_time ON audit (project, at);
