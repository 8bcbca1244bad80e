-- What merge.py runs: the database merges plain writes by itself, as `domain/merge.py` says it (migrations/0008_merged.sql).
--
-- patches, shapes: see `usertable.store.encoding.encode_patches`.
-- limit:           rows of more bytes than this, as the database has them, are left alone.
--
-- No locks are taken: a user that got another version since it was read is left alone. Each gives the CUIDs of the users
-- whose writes are done. The function is called once for each patch (OFFSET 0), and what it gives is taken apart before the
-- UPDATE, because an UPDATE that does so makes Citus crash.

-- name: merge
-- OFFSET 0 makes the database look up each user of the batch by itself, and ctid is where it found the row: there is no
-- other way through this statement, whatever is believed about the table's size.
WITH merged AS MATERIALIZED (
  SELECT *, now[1] AS attributes, now[2] AS changed_at, now = '{}' AS unchanged
  FROM (
    SELECT u.cuid, u.row_at, u.version, p.t, usertable.merged(
      u.attributes, u.changed_at, p.t, p.s, %(shapes)s::jsonb -> p.h -> 'w', p.o, %(shapes)s::jsonb -> p.h -> 'm') AS now
    FROM jsonb_to_recordset(%(patches)s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb)
    CROSS JOIN LATERAL (
      SELECT cuid, version, attributes, changed_at, ctid AS row_at FROM usertable.users
      WHERE project = %(project)s AND cuid = p.c OFFSET 0
    ) u
    WHERE EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
    OFFSET 0
  ) found
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at
  FROM merged m
  WHERE u.ctid = m.row_at AND u.version = m.version AND pg_column_size(m.attributes) <= %(limit)s
  RETURNING u.cuid
)
SELECT cuid FROM changed UNION ALL SELECT cuid FROM merged WHERE unchanged;

-- name: merge_with_receipts
-- The same, of writes of which some have a key. A key that is kept already is declined; one that another transaction keeps
-- meanwhile is a conflict. Not NOT EXISTS, for which the planner reads all receipts there are.
WITH merged AS MATERIALIZED (
  SELECT *, now[1] AS attributes, now[2] AS changed_at, now = '{}' AS unchanged
  FROM (
    SELECT u.cuid, u.row_at, u.version, u.attributes AS before, p.t, p.k, p.f, p.n, usertable.merged(
      u.attributes, u.changed_at, p.t, p.s, %(shapes)s::jsonb -> p.h -> 'w', p.o, %(shapes)s::jsonb -> p.h -> 'm') AS now
    FROM jsonb_to_recordset(%(patches)s::jsonb) AS p (
      c bigint, t bigint, h int, s jsonb, o jsonb, k text, f text, n jsonb)
    CROSS JOIN LATERAL (
      SELECT cuid, version, attributes, changed_at, ctid AS row_at FROM usertable.users
      WHERE project = %(project)s AND cuid = p.c OFFSET 0
    ) u
    WHERE EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
      AND (SELECT r.cuid FROM usertable.receipt r WHERE r.project = %(project)s AND r.key = p.k LIMIT 1) IS NULL
    OFFSET 0
  ) found
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at
  FROM merged m
  WHERE u.ctid = m.row_at AND u.version = m.version AND pg_column_size(m.attributes) <= %(limit)s
  RETURNING u.cuid, u.version, m.before, u.attributes, m.t, m.k, m.f, m.n
), done AS MATERIALIZED (
  SELECT * FROM changed
  UNION ALL
  SELECT cuid, version, before, '{}'::jsonb, t, k, f, n FROM merged WHERE unchanged
), kept AS (
  INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)
  SELECT %(project)s, k, cuid, decode(f, 'hex'),
    jsonb_build_array(version, usertable.outcomes(before, attributes, n), NULL)::text, false, t
  FROM done WHERE k IS NOT NULL
)
SELECT cuid FROM done;

-- name: merge_in_shard
-- The same, on Citus, of users in one shard, who are named apart (cuids): by that Citus finds out that they are.
-- pg_column_size is STABLE, which Citus refuses in the WHERE of an UPDATE.
WITH merged AS MATERIALIZED (
  SELECT *, now[1] AS attributes, now[2] AS changed_at, now = '{}' AS unchanged, pg_column_size(now[1]) AS size
  FROM (
    SELECT u.cuid, u.version, p.t, usertable.merged(
      u.attributes, u.changed_at, p.t, p.s, %(shapes)s::jsonb -> p.h -> 'w', p.o, %(shapes)s::jsonb -> p.h -> 'm') AS now
    FROM jsonb_to_recordset(%(patches)s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb)
    JOIN usertable.users u ON u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[]) AND u.cuid = p.c
    WHERE EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
    OFFSET 0
  ) found
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at
  FROM merged m
  WHERE u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[]) AND u.cuid = m.cuid
    AND u.version = m.version AND m.size <= %(limit)s
  RETURNING u.cuid
)
SELECT cuid FROM changed UNION ALL SELECT cuid FROM merged WHERE unchanged;
