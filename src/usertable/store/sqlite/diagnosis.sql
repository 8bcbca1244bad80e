-- What diagnosis.py runs.

-- name: newest_moment
-- The newest moment that was stored, but for users: those have no index by time. What belongs to no project is no moment.
SELECT max(at) FROM (
  SELECT max(at) AS at FROM receipt
  UNION ALL SELECT max(at) FROM schema_change
  UNION ALL SELECT max(at) FROM last_write WHERE project > 0
);
