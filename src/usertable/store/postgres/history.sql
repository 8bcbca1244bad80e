-- Statements of history.py. A change's number is block * 1024 + its place.

-- name: draw_numbers
SELECT usertable.draw_block() FROM generate_series(1, %(wanted)s);

-- name: add_block
INSERT INTO usertable.history (project, cuid, block, last, changes, latest, previous, body, firsts, shifts, backs)
VALUES (%s, %s, %s, %s, %s, %s, %s::bigint[], %s, %s::bigint[], %s::bigint[], %s::int[]);

-- name: walk
-- A user's changes from a number on, newest first: for each its number, its block, its place there, its index in a packed
-- block (NULL if no change is at that place), and of a block that the database merged, what it found at that place. The body
-- is NULL if it is that of the change before. It ends at a block that does not say where the previous change is, at one
-- without changes after a moment (NULL for none), and once the rows have so many bytes.
WITH RECURSIVE walk AS (
  SELECT 0::bigint AS number, %(number)s::bigint AS previous, 0 AS step, 0::bigint AS size, 0::bigint AS block,
    0::bigint AS last, 0 AS changes, 9223372036854775807 AS latest, NULL::bytea AS body, 0::bigint AS place, 0::bigint AS index,
    NULL::text AS before
  UNION ALL
  SELECT w.previous,
    CASE
      WHEN h.backs IS NULL THEN h.previous[h.place + 1]
      ELSE w.previous - nullif(h.backs[i.index + 1], 0)
    END,
    w.step + 1,
    w.size + coalesce(octet_length(h.before), 0) + CASE WHEN h.block = w.block THEN 0 ELSE octet_length(h.body) END,
    h.block, h.last, h.changes, h.latest, CASE WHEN h.block = w.block THEN NULL ELSE h.body END, h.place, i.index, h.before
  FROM walk w
  CROSS JOIN LATERAL (
    SELECT *, w.previous - block * 1024 AS place, befores[w.previous - block * 1024 + 1] AS before,
      width_bucket(w.previous - block * 1024, firsts) AS run
    FROM usertable.history
    WHERE project = %(project)s AND cuid = %(cuid)s AND block <= w.previous >> 10
    ORDER BY block DESC LIMIT 1
  ) h
  CROSS JOIN LATERAL (
    SELECT CASE
      WHEN h.place - h.shifts[h.run] < coalesce(h.firsts[h.run + 1] - h.shifts[h.run + 1], cardinality(h.backs))
      THEN h.place - h.shifts[h.run]
    END AS index
  ) i
  WHERE w.previous > 0 AND w.step < %(steps)s AND w.size < %(bytes)s AND h.last >= w.previous >> 10
    AND (w.latest > %(after)s::bigint) IS NOT FALSE
)
SELECT number, block, last, changes, latest, body, place, index, before, previous FROM walk WHERE step > 0 ORDER BY step;

-- name: places_with
-- On Citus, where blocks are whose numbers span a change's. Reads all older blocks.
SELECT DISTINCT cuid FROM usertable.history
WHERE project = %(project)s AND block <= %(number)s::bigint >> 10 AND last >= %(number)s::bigint >> 10;

-- name: blocks_below
SELECT block, last, changes, latest, body, befores, previous FROM usertable.history
WHERE project = %(project)s AND block < coalesce(%(below)s::bigint, 9223372036854775807)
ORDER BY block DESC LIMIT %(limit)s;

-- name: places
SELECT DISTINCT cuid FROM usertable.history WHERE project = %(project)s;

-- name: blocks_of_place
SELECT block, last, changes, latest, body, befores, previous FROM usertable.history
WHERE project = %(project)s AND cuid = %(cuid)s AND block < %(below)s
ORDER BY block DESC LIMIT %(limit)s;

-- name: blocks_after
SELECT cuid, block, last, changes, latest, body, befores, previous FROM usertable.history
WHERE project = %(project)s AND block > %(after)s
ORDER BY block LIMIT %(limit)s;

-- name: blocks_around
-- Of the last blocks of a shard up to a number, those whose numbers continue after it.
SELECT cuid, block, last, changes, latest, body, befores, previous FROM (
  SELECT * FROM usertable.history
  WHERE project = %(project)s AND cuid = %(cuid)s AND block <= %(after)s
  ORDER BY block DESC LIMIT %(limit)s
) h
WHERE last > %(after)s;

-- name: raise_numbers
-- Numbers that are drawn from here on are higher than the last one of these blocks. Only drawing needs no more than the
-- privilege USAGE.
SELECT count(nextval('usertable.history_block'))
FROM generate_series(coalesce(pg_sequence_last_value('usertable.history_block'), 0) + 1, %(last)s::bigint);

-- name: keep_history_since
INSERT INTO usertable.history_since (project, at) VALUES (%(project)s, %(at)s)
ON CONFLICT (project) DO UPDATE SET at = excluded.at;

-- name: newest_moment
-- The newest time of the last blocks.
SELECT max(latest) FROM (
  SELECT latest FROM usertable.history WHERE project = %(project)s ORDER BY block DESC LIMIT %(limit)s
) newest;

-- name: head
SELECT head FROM usertable.users WHERE project = %(project)s AND cuid = %(cuid)s;

-- name: stored_blocks
-- The block with a number, and the shard that it belongs to.
SELECT cuid, block, last, changes, latest, body, befores, previous FROM usertable.history
WHERE project = %(project)s AND block = %(block)s;

-- name: undone
-- Of a page of blocks, the number of the last one, and the users of writes that were not done, in blocks that the database
-- merged.
SELECT max(block), array_agg(DISTINCT -number) FILTER (WHERE number IS NOT NULL)
FROM (
  SELECT block, CASE WHEN befores IS NOT NULL THEN previous END AS previous FROM usertable.history
  WHERE project = %(project)s AND cuid = %(cuid)s AND block > %(after)s AND block <= %(settled)s
  ORDER BY block LIMIT %(limit)s
) page
LEFT JOIN LATERAL unnest(previous) number ON number < 0;

-- name: blocks_with_undone
-- The blocks that the database merged, after one and up to another, with writes of users that were not done. The users are
-- given as their CUIDs below 0.
SELECT cuid, block, last, changes, latest, body, befores, previous FROM usertable.history
WHERE project = %(project)s AND block > %(after)s AND block <= %(last)s AND befores IS NOT NULL
  AND previous && %(undone)s::bigint[];

-- name: newest_with_undone
-- The same among the newest blocks.
SELECT cuid, block, last, changes, latest, body, befores, previous FROM (
  SELECT * FROM usertable.history
  WHERE project = %(project)s AND cuid = %(place)s ORDER BY block DESC LIMIT %(limit)s
) newest
WHERE befores IS NOT NULL AND previous && %(undone)s::bigint[];

-- name: replace_body
UPDATE usertable.history SET body = %(body)s, befores = NULL
WHERE project = %(project)s AND cuid = %(cuid)s AND block = %(block)s;

-- name: figures
-- How much is stored.
SELECT count(*), coalesce(sum(changes), 0)::bigint,
  coalesce(sum(octet_length(body) + coalesce(pg_column_size(befores), 0)
    + coalesce(pg_column_size(previous), pg_column_size(firsts) + pg_column_size(shifts) + pg_column_size(backs), 0)), 0)::bigint, max(latest)
FROM usertable.history WHERE project = %(project)s;

-- name: oldest_moment
-- The time of the newest change of the oldest block. By itself: Citus would send a row for each block to the coordinator.
SELECT latest FROM usertable.history WHERE project = %(project)s ORDER BY block LIMIT 1;

-- name: growth
SELECT coalesce(sum(changes), 0)::bigint,
  coalesce(sum(octet_length(body) + coalesce(pg_column_size(befores), 0)
    + coalesce(pg_column_size(previous), pg_column_size(firsts) + pg_column_size(shifts) + pg_column_size(backs), 0)), 0)::bigint
FROM usertable.history WHERE project = %(project)s AND latest >= %(since)s;

-- name: keyframe_bytes
-- Of keyframes since a moment, below a number. Citus does not take it as a part of another statement.
SELECT coalesce(sum(pg_column_size(attributes)), 0)::bigint FROM usertable.keyframe
WHERE project = %(project)s AND at >= %(since)s AND number < %(below)s;

-- name: oldest_blocks
-- The oldest blocks, without the newest of all, by their last numbers.
SELECT * FROM (
  SELECT block, last, changes, latest, octet_length(body) + coalesce(pg_column_size(befores), 0)
    + coalesce(pg_column_size(previous), pg_column_size(firsts) + pg_column_size(shifts) + pg_column_size(backs), 0)
  FROM usertable.history
  WHERE project = %(project)s AND block < (SELECT max(block) FROM usertable.history WHERE project = %(project)s)
  ORDER BY block LIMIT %(limit)s
) oldest
ORDER BY last;

-- name: remove_blocks
-- A block has up to 1,024 changes, so old history is few rows, and deleting them leaves little to vacuum: partitions, of
-- which the oldest would be dropped, were not worth a look-up of the partition in every read.
-- The range limits what PostgreSQL 15 and 16 read if the last ANALYZE found one block. So it does in the next statements.
DELETE FROM usertable.history
WHERE project = %(project)s AND block BETWEEN %(first)s AND %(last)s AND block = ANY(%(blocks)s);

-- name: move_history_since
-- History that is off has no row.
UPDATE usertable.history_since SET at = greatest(at, %(at)s) WHERE project = %(project)s;

-- name: drawn
-- The last number for a block that was drawn.
SELECT coalesce(pg_sequence_last_value('usertable.history_block'), 0);

-- name: transaction
-- In a later statement than `drawn`: whoever has drawn that number or a lower one has an ID below this one.
SELECT pg_current_xact_id()::text::bigint;

-- name: oldest_transaction
-- All transactions with IDs below this one have ended.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint;

-- name: newest_packed
-- The last blocks below one, and whether they are packed: such a body begins with a byte of 1.
SELECT block, substring(body, 1, 1) = '\x01'::bytea FROM usertable.history
WHERE project = %(project)s AND cuid = %(cuid)s AND block < %(below)s ORDER BY block DESC LIMIT %(limit)s;

-- name: settled_blocks
-- Blocks after one, as far as no lower number can appear any more.
SELECT block, last, changes, latest, body, befores, previous FROM usertable.history
WHERE project = %(project)s AND cuid = %(cuid)s AND block > %(after)s AND block <= %(settled)s
ORDER BY block LIMIT %(limit)s;

-- name: remove_packed
DELETE FROM usertable.history
WHERE project = %(project)s AND cuid = %(cuid)s AND block BETWEEN %(first)s AND %(last)s AND block = ANY(%(blocks)s);

-- name: add_keyframe
INSERT INTO usertable.keyframe (project, number, cuid, version, at, attributes) VALUES (%s, %s, %s, %s, %s, %s);

-- name: keyframe_after
-- A user's oldest keyframe after a moment.
SELECT number, cuid, version, at, attributes::text FROM usertable.keyframe
WHERE project = %(project)s AND cuid = %(cuid)s AND at > %(after)s ORDER BY at, number LIMIT 1;

-- name: remove_keyframes_of_users
DELETE FROM usertable.keyframe
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s AND cuid = ANY(%(cuids)s);

-- name: remove_keyframes
DELETE FROM usertable.keyframe WHERE project = %(project)s AND number < %(below)s;
