-- One integer identifies a block of history: `project << 40 | block`. It is the rowid, so that a commit need not write a page
-- of an index, too. Blocks move in slices: so free pages are used again, and little of them is in memory.

ALTER TABLE history RENAME TO history_by_project;

CREATE TABLE history (
  id      INTEGER PRIMARY KEY,
  last    INTEGER NOT NULL,
  changes INTEGER NOT NULL,
  latest  INTEGER NOT NULL,
  body    BLOB NOT NULL
) STRICT;

CREATE TRIGGER block_moved AFTER DELETE ON history_by_project BEGIN
  INSERT INTO history VALUES (old.project << 40 | old.block, old.last, old.changes, old.latest, old.body);
END;

DELETE FROM history_by_project
WHERE rowid IN (SELECT rowid FROM history_by_project ORDER BY project, block LIMIT {slice});

DROP TABLE history_by_project;
