-- Statements of history.py. The ID of a block is `project << 40 | block`, so that blocks need no other index.

-- name: next_block
-- The number for the next block of history. The newest block is never deleted, so numbers are not used twice.
SELECT last + 1 FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40 ORDER BY id DESC LIMIT 1;

-- name: newest_moment
-- The newest time of the last blocks.
SELECT max(latest) FROM (
  SELECT latest FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40 ORDER BY id DESC LIMIT :limit);

-- name: keep_block
REPLACE INTO history (id, last, changes, latest, body) VALUES (:project << 40 | :block, :last, :changes, :latest, :body);

-- name: keep_history_since
REPLACE INTO history_since (project, at) VALUES (:project, :at);

-- name: block_of
-- The block that may contain a change's number: the last one that does not begin after it.
SELECT id & 0xffffffffff, last, changes, latest, body FROM history
WHERE id >= :project << 40 AND id <= :project << 40 | :block ORDER BY id DESC LIMIT 1;

-- name: blocks_below
SELECT id & 0xffffffffff, last, changes, latest, body FROM history
WHERE id >= :project << 40 AND id < (:project << 40) + min(:below, 1 << 40) ORDER BY id DESC LIMIT :limit;

-- name: ends
-- The first and the last block.
SELECT
  (SELECT min(id) FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40) & 0xffffffffff,
  (SELECT max(id) FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40) & 0xffffffffff;

-- name: count
SELECT count(*) FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40;

-- name: sizes
-- How much is stored in the blocks of a range, and in their keyframes, by the hour of their newest changes. The length of a
-- body is known without reading it.
SELECT latest / 3600000, count(*), sum(changes), sum(length(body)), 0 FROM history
WHERE id > (:project << 40) + :after AND id <= :project << 40 | :last GROUP BY 1
UNION ALL
SELECT at / 3600000, 0, 0, 0, sum(octet_length(attributes)) FROM keyframe
WHERE project = :project AND number >= (:after + 1) * 1024 AND number < (:last + 1) * 1024 GROUP BY 1;

-- name: ages
-- The times of the first and the last block.
SELECT
  (SELECT latest FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40 ORDER BY id LIMIT 1),
  (SELECT latest FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40 ORDER BY id DESC LIMIT 1);

-- name: oldest_blocks
-- The oldest blocks, without the newest of all.
SELECT id & 0xffffffffff, changes, latest, length(body) FROM history
WHERE id >= :project << 40 AND id < (SELECT max(id) FROM history WHERE id < (:project + 1) << 40)
ORDER BY id LIMIT :limit;

-- name: remove_block
DELETE FROM history WHERE id = :project << 40 | :block;

-- name: move_history_since
-- History that is off has no row.
UPDATE history_since SET at = max(at, :at) WHERE project = :project;

-- name: blocks_after
SELECT id & 0xffffffffff, last, changes, latest, body FROM history
WHERE id > (:project << 40) + :after AND id < (:project + 1) << 40 ORDER BY id;

-- name: blocks_between
SELECT id & 0xffffffffff, last, changes, latest, body FROM history
WHERE id BETWEEN :project << 40 | :first AND :project << 40 | :last ORDER BY id;

-- name: newest_packed
-- The last blocks below one, and whether they are packed: such a body begins with a byte of 1.
SELECT id & 0xffffffffff, substr(body, 1, 1) = x'01' FROM history
WHERE id >= :project << 40 AND id < (:project << 40) + min(:below, 1 << 40) ORDER BY id DESC LIMIT :limit;

-- name: unrecorded
-- The attributes whose history is off.
SELECT attribute.value ->> 'name' FROM project, json_each(document, '$.attributes') attribute
WHERE number = :project AND json_type(attribute.value, '$.history_since') = 'null';

-- name: add_keyframe
INSERT INTO keyframe (project, number, cuid, version, at, attributes) VALUES (?, ?, ?, ?, ?, ?);

-- name: keyframe_after
-- A user's oldest keyframe after a moment.
SELECT number, cuid, version, at, attributes FROM keyframe
WHERE project = :project AND cuid = :cuid AND at > :after ORDER BY at, number LIMIT 1;

-- name: remove_keyframes_of_user
DELETE FROM keyframe WHERE project = ? AND cuid = ?;

-- name: remove_keyframes
-- Those whose changes are no longer kept.
DELETE FROM keyframe
WHERE project = :project AND number < 1024 * (
  SELECT min(id) & 0xffffffffff FROM history WHERE id >= :project << 40 AND id < (:project + 1) << 40)
RETURNING number / 1024, 0, at, octet_length(attributes);

-- name: keyframe_bytes
SELECT coalesce((SELECT bytes FROM keyframe_bytes WHERE project = :project), 0);
