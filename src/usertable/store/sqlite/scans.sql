-- What scans.py runs. {project} stands for the number of a project, {where} for conditions, {order} for ASC or DESC.

-- name: chunk
-- The outermost CUID of a chunk, and how many users it has; {last} is max, or min for a descending one.
SELECT {last}(cuid), count(*)
FROM (SELECT cuid FROM user_{project} WHERE {where} ORDER BY cuid {order} LIMIT ?);

-- name: count_matching
-- The users that meet the conditions for sure, of whom the outermost are told with the count of all, and those in doubt with
-- their attributes. What is compared is taken out of the documents once.
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
-- The documents that have a value at a path such as '$."name"'. The value is taken out of the document's own text in Python: as a
-- SQL value, a decimal would be rounded.
SELECT attributes FROM user_{project} WHERE {where} AND json_type(attributes, {path}) IS NOT NULL ORDER BY cuid;

-- name: count_filled
-- How many users have a value, by attribute.
SELECT key, count(*) FROM user_{project}, json_each(attributes) WHERE {where} GROUP BY key;
