-- Statements of scans.py. {conditions} is replaced by filter.py's predicate.

-- name: chunk_upward
-- The first and the last of the next users, and their number.
SELECT min(cuid), max(cuid), count(*)
FROM (
  SELECT cuid FROM usertable.users WHERE project = %(project)s AND cuid > %(begin)s ORDER BY cuid LIMIT %(examine)s
) chunk;

-- name: chunk_downward
SELECT min(cuid), max(cuid), count(*)
FROM (
  SELECT cuid FROM usertable.users WHERE project = %(project)s AND cuid <= %(begin)s ORDER BY cuid DESC LIMIT %(examine)s
) chunk;

-- name: select_upward
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text, head, sole_actor
FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s {conditions}
ORDER BY cuid LIMIT %(limit)s;

-- name: select_downward
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text, head, sole_actor
FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s {conditions}
ORDER BY cuid DESC LIMIT %(limit)s;

-- name: count_matching_newest
-- The users updated last, each with the number of all that meet the conditions.
SELECT updated_at, cuid, count(*) OVER () FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s {conditions}
ORDER BY updated_at DESC, cuid DESC LIMIT %(limit)s;

-- name: count_matching_oldest
SELECT updated_at, cuid, count(*) OVER () FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s {conditions}
ORDER BY updated_at, cuid LIMIT %(limit)s;

-- name: column_values
-- The values of an attribute.
SELECT (attributes->%(attribute)s)::text FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s AND jsonb_exists(attributes, %(attribute)s)
ORDER BY cuid;

-- name: count_filled
-- The number of users with a value, by attribute.
SELECT key, count(*) FROM usertable.users, jsonb_object_keys(attributes) AS key
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s GROUP BY key;

-- name: cuid_range
SELECT min(cuid), max(cuid) FROM usertable.users WHERE project = %(project)s;
