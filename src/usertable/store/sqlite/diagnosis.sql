-- Statements of diagnosis.py.

-- name: newest_moment
-- The newest stored time, without users: those have no index by time. Rows that belong to no project have none.
SELECT max(at) FROM (
  SELECT max(at) AS at FROM receipt
  UNION ALL SELECT max(at) FROM audit
  UNION ALL SELECT max(at) FROM last_write WHERE project > 0
);
