-- Statements of scans.py. {project} is replaced by a project's number, {where} by conditions, {order} by ASC or DESC.

-- name: chunk
-- The last CUID of a chunk, and its number of users; {last} is max, or min for a descending one.
SELECT {last}(cuid), count(*)
FROM (SELECT cuid FROM user_{project} WHERE {where} ORDER BY cuid {order} LIMIT ?);

-- name: count_matching
-- The users that certainly meet the conditions: the first or last of them, with the number of all; and the uncertain ones,
-- with their attributes. Compared values are extracted from the documents once.
WITH found AS MATERIALIZED (
  SELECT updated_at, cuid, coalesce({sure}, 0) AS sure, attributes FROM user_{project} WHERE {where}
)
SELECT * FROM (
  SELECT updated_at, cuid, count(*) OVER (), NULL FROM found WHERE sure
  ORDER BY updated_at {order}, cuid {order} LIMIT ?
)
UNION ALL
SELECT updated_at, cuid, 0, attributes FROM found WHERE NOT sure;

-- name: column_values
-- The documents that have a value at a path such as '$."name"'. The value is extracted from the document's text in Python: as
-- a SQL value, a decimal would be rounded.
SELECT attributes FROM user_{project} WHERE {where} AND json_type(attributes, {path}) IS NOT NULL ORDER BY cuid;

-- name: count_filled
-- The number of users with a value, by attribute.
SELECT key, count(*) FROM user_{project}, json_each(attributes) WHERE {where} GROUP BY key;
