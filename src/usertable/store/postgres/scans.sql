-- What scans.py runs. {conditions} stands for what filter.py makes.

-- name: chunk_upward
-- The first and the last of the next users, and how many they are.
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
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s {conditions}
ORDER BY cuid LIMIT %(limit)s;

-- name: select_downward
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s {conditions}
ORDER BY cuid DESC LIMIT %(limit)s;

-- name: count_matching_newest
-- Those that were updated last, each with the count of all that meet the conditions.
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
-- How many users have a value, by attribute.
SELECT key, count(*) FROM usertable.users, jsonb_object_keys(attributes) AS key
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s GROUP BY key;

-- name: cuid_range
SELECT min(cuid), max(cuid) FROM usertable.users WHERE project = %(project)s;
