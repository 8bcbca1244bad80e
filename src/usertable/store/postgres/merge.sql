-- Statements of merge.py: the database merges plain writes itself, like `domain/merge.py` (migrations/0014_history.sql).
--
-- patches, shapes: see `usertable.store.encoding.EncodedPatches`.
-- receipts:        the same, in the order of the patches.
-- limit:           rows with more bytes than this in the database are skipped.
-- body:            of the block of history, see `usertable.store.history.encode_merged`; NULL if the writes are not recorded.
--
-- No locks are taken beforehand: a user that got another version or another newest change since it was read is skipped. So is
-- a user that was changed later than the write, and a write that changes nothing but may have to be recorded. Each returns the
-- CUIDs of the users whose writes are done. The function is called once for each patch (OFFSET 0), and its result is split
-- before the UPDATE, because an UPDATE that does so makes Citus crash.
--
-- The block's number is drawn when the first user is changed, so after the statement's snapshot: whoever recorded a change of
-- one of these users under a higher number did so later, and that user is skipped. If the project was edited since the
-- snapshot, drawing fails (migrations/0018_draw_block.sql).
--
-- In `recorded`, a place of a write that was not done has NULL in `befores`, and its CUID below 0 in `previous`: the body has
-- what was sent, so erasing the user finds it.
--
-- {name} stands for the statement or the part of one with that name.

-- name: unrecorded
-- The attributes whose history is off.
SELECT attribute ->> 'name'
FROM usertable.project CROSS JOIN jsonb_array_elements(document::jsonb -> 'attributes') attribute
WHERE number = %(project)s AND attribute -> 'history_since' = 'null';

-- name: keyframe
-- Part of the following: what a keyframe has of the attributes of a row of `changed`; nothing if there is to be none. The rule
-- is that of `usertable.store.keyframes`, and so are {versions} and {row_bytes}.
SELECT attributes - ARRAY({unrecorded})
WHERE mod(version, {versions}) = 0 AND mod(version / {versions}, 1 + octet_length(attributes::text) / {row_bytes}) = 0;

-- name: record
-- Part of the next two: records the rows of `changed`, if that is wanted.
recorded AS (
  INSERT INTO usertable.history (project, cuid, block, last, changes, latest, previous, befores, body)
  SELECT %(project)s, 0, (SELECT block FROM drawn), (SELECT block FROM drawn), count(before), max(t),
    array_agg(previous ORDER BY place), array_agg(before ORDER BY place), %(body)s
  FROM (
    SELECT place, t, previous, before FROM changed
    UNION ALL
    SELECT i - 1, NULL, -c, NULL
    FROM ROWS FROM (jsonb_to_recordset(%(patches)s::jsonb) AS (c bigint)) WITH ORDINALITY AS p (c, i)
    WHERE jsonb_array_length(%(patches)s::jsonb) > (SELECT count(*) FROM changed)
      AND NOT EXISTS (SELECT 1 FROM changed WHERE place = i - 1)
  ) places
  WHERE %(body)s::bytea IS NOT NULL
  HAVING count(before) > 0
), framed AS (
  INSERT INTO usertable.keyframe (project, number, cuid, version, at, attributes)
  SELECT %(project)s, (SELECT block FROM drawn) * 1024 + place, cuid, version, t, kept.attributes
  FROM changed CROSS JOIN LATERAL ({keyframe}) AS kept (attributes)
  WHERE %(body)s::bytea IS NOT NULL
);

-- name: merge
-- OFFSET 0 makes the database look up each user of the batch separately, and ctid is where it found the row: there is no
-- other plan for this statement, whatever the statistics say about the table's size.
WITH merged AS MATERIALIZED (
  SELECT cuid, row_at, version, head, i - 1 AS place, t, now[1] AS attributes, now[2] AS changed_at,
    concat_ws(',', version, updated_at, nullif(array_to_string(now[3:], ',', 'null'), '')) AS before,
    CASE WHEN is_new OR sole_actor = actor THEN actor ELSE '' END AS sole_actor,
    now = '{}' AND (actor = '' OR sole_actor = actor AND NOT all_reports) AS unchanged
  FROM (
    SELECT u.cuid, u.row_at, u.version, u.updated_at, u.head, u.sole_actor, u.attributes = '{}' AS is_new, p.i, p.t,
      %(shapes)s::jsonb -> p.h ->> 'a' AS actor, %(shapes)s::jsonb -> p.h ? 'r' AS all_reports,
      usertable.merged_with_befores(u.attributes, u.changed_at, p.t, p.s, p.o, %(shapes)s::jsonb -> p.h) AS now
    FROM ROWS FROM (
      jsonb_to_recordset(%(patches)s::jsonb) AS (c bigint, t bigint, h int, s jsonb, o jsonb)
    ) WITH ORDINALITY AS p (c, t, h, s, o, i)
    CROSS JOIN LATERAL (
      SELECT cuid, version, updated_at, attributes, changed_at, head, sole_actor, ctid AS row_at FROM usertable.users
      WHERE project = %(project)s AND cuid = p.c OFFSET 0
    ) u
    WHERE u.updated_at <= p.t
      AND EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
    OFFSET 0
  ) found
), drawn AS MATERIALIZED (
  SELECT usertable.draw_block(%(project)s, %(version)s) AS block
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at,
    head = CASE WHEN %(body)s::bytea IS NULL THEN m.head ELSE (SELECT block FROM drawn) * 1024 + m.place END,
    sole_actor = m.sole_actor
  FROM merged m
  WHERE u.ctid = m.row_at AND u.version = m.version AND u.head = m.head AND pg_column_size(m.attributes) <= %(limit)s
  RETURNING u.cuid, u.version, u.attributes, m.t, m.place, m.head AS previous, m.before
), {record}
SELECT cuid FROM changed UNION ALL SELECT cuid FROM merged WHERE unchanged;

-- name: merge_with_receipts
-- The same, for writes some of which have a key. A key that is already stored is declined; one that another transaction
-- stores meanwhile is a conflict. Not NOT EXISTS, for which the planner reads all receipts.
WITH merged AS MATERIALIZED (
  SELECT cuid, row_at, version, head, i - 1 AS place, t, k, f, n, stored, now[1] AS attributes, now[2] AS changed_at,
    concat_ws(',', version, updated_at, nullif(array_to_string(now[3:], ',', 'null'), '')) AS before,
    CASE WHEN is_new OR sole_actor = actor THEN actor ELSE '' END AS sole_actor,
    now = '{}' AND (actor = '' OR sole_actor = actor AND NOT all_reports) AS unchanged
  FROM (
    SELECT u.cuid, u.row_at, u.version, u.updated_at, u.head, u.sole_actor, u.attributes = '{}' AS is_new, p.i, p.t,
      p.k, p.f, %(shapes)s::jsonb -> p.h -> 'o' AS n, u.attributes AS stored,
      %(shapes)s::jsonb -> p.h ->> 'a' AS actor, %(shapes)s::jsonb -> p.h ? 'r' AS all_reports,
      usertable.merged_with_befores(u.attributes, u.changed_at, p.t, p.s, p.o, %(shapes)s::jsonb -> p.h) AS now
    FROM ROWS FROM (
      jsonb_to_recordset(%(patches)s::jsonb) AS (c bigint, t bigint, h int, s jsonb, o jsonb),
      jsonb_to_recordset(%(receipts)s::jsonb) AS (k text, f text)
    ) WITH ORDINALITY AS p (c, t, h, s, o, k, f, i)
    CROSS JOIN LATERAL (
      SELECT cuid, version, updated_at, attributes, changed_at, head, sole_actor, ctid AS row_at FROM usertable.users
      WHERE project = %(project)s AND cuid = p.c OFFSET 0
    ) u
    WHERE u.updated_at <= p.t
      AND EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
      AND (SELECT r.cuid FROM usertable.receipt r WHERE r.project = %(project)s AND r.key = p.k LIMIT 1) IS NULL
    OFFSET 0
  ) found
), drawn AS MATERIALIZED (
  SELECT usertable.draw_block(%(project)s, %(version)s) AS block
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at,
    head = CASE WHEN %(body)s::bytea IS NULL THEN m.head ELSE (SELECT block FROM drawn) * 1024 + m.place END,
    sole_actor = m.sole_actor
  FROM merged m
  WHERE u.ctid = m.row_at AND u.version = m.version AND u.head = m.head AND pg_column_size(m.attributes) <= %(limit)s
  RETURNING u.cuid, u.version, m.stored, u.attributes, m.t, m.k, m.f, m.n, m.place, m.head AS previous, m.before,
    CASE WHEN %(body)s::bytea IS NOT NULL THEN u.head END AS number
), {record}, done AS MATERIALIZED (
  SELECT cuid, version, stored, attributes, t, k, f, n, number FROM changed
  UNION ALL
  SELECT cuid, version, stored, '{}'::jsonb, t, k, f, n, NULL FROM merged WHERE unchanged
), kept AS (
  INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)
  SELECT %(project)s, k, cuid, decode(f, 'hex'),
    jsonb_build_array(version, usertable.outcomes(stored, attributes, n), NULL, NULL, number)::text, false, t
  FROM done WHERE k IS NOT NULL
)
SELECT cuid FROM done;

-- name: merge_in_shard
-- The same, on Citus, for users in one shard. They are a separate parameter (cuids), from which Citus determines the shard.
-- pg_column_size is STABLE, which Citus refuses in the WHERE of an UPDATE.
--
-- block: the number of the block in which the writes are recorded, drawn on the coordinator before; NULL if they are not. So a
--        user who has a change with a higher number is skipped as well.
--
-- Each row is a user whose write is done, with what is to be recorded of it: place, time, previous change, what stood before,
-- version, and the attributes of a keyframe if there is to be one. The place is NULL if the write changed nothing.
WITH merged AS MATERIALIZED (
  SELECT cuid, version, head, i - 1 AS place, t, now[1] AS attributes, now[2] AS changed_at, pg_column_size(now[1]) AS size,
    concat_ws(',', version, updated_at, nullif(array_to_string(now[3:], ',', 'null'), '')) AS before,
    CASE WHEN is_new OR sole_actor = actor THEN actor ELSE '' END AS sole_actor,
    now = '{}' AND (actor = '' OR sole_actor = actor AND NOT all_reports) AS unchanged
  FROM (
    SELECT u.cuid, u.version, u.updated_at, u.head, u.sole_actor, u.attributes = '{}' AS is_new, p.i, p.t,
      %(shapes)s::jsonb -> p.h ->> 'a' AS actor, %(shapes)s::jsonb -> p.h ? 'r' AS all_reports,
      usertable.merged_with_befores(u.attributes, u.changed_at, p.t, p.s, p.o, %(shapes)s::jsonb -> p.h) AS now
    FROM ROWS FROM (
      jsonb_to_recordset(%(patches)s::jsonb) AS (c bigint, t bigint, h int, s jsonb, o jsonb)
    ) WITH ORDINALITY AS p (c, t, h, s, o, i)
    JOIN usertable.users u ON u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[]) AND u.cuid = p.c
    WHERE u.updated_at <= p.t AND u.head < coalesce(%(block)s::bigint * 1024, u.head + 1)
      AND EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
    OFFSET 0
  ) found
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at,
    head = coalesce(%(block)s::bigint * 1024 + m.place, m.head), sole_actor = m.sole_actor
  FROM merged m
  WHERE u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[]) AND u.cuid = m.cuid
    AND u.version = m.version AND u.head = m.head AND m.size <= %(limit)s
  RETURNING u.cuid, m.place, m.t, m.head AS previous, m.before, u.version, u.attributes
)
SELECT cuid, place, t, previous, before, version, ({keyframe})::text FROM changed
UNION ALL
SELECT cuid, NULL, NULL, NULL, NULL, NULL, NULL FROM merged WHERE unchanged;

-- name: record_in_shard
-- The block of what was merged in a shard, in the same transaction. With an INSERT among its parts, Citus would not send the
-- statement to the shard as a whole, and a batch would take more than twice the time.
--
-- place: a CUID of the shard, beside whose users the block is stored.
INSERT INTO usertable.history (project, cuid, block, last, changes, latest, previous, befores, body)
VALUES (%(project)s, %(place)s, %(block)s, %(block)s, %(changes)s, %(latest)s, %(previous)s::bigint[], %(befores)s::text[],
  %(body)s);
