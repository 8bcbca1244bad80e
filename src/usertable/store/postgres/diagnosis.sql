-- Statements of diagnosis.py.

-- name: clock
-- The database's clock, in milliseconds since 1970 UTC.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- name: newest_moment
-- The newest stored time, without users: those have no index by time.
SELECT greatest(
  (SELECT max(at) FROM usertable.receipt),
  (SELECT max(at) FROM usertable.audit),
  (SELECT max(at) FROM usertable.last_write)
);

-- name: connections
-- The maximum number of connections, those of other programs, and usertable's without this one.
SELECT current_setting('max_connections')::int,
  count(*) FILTER (WHERE application_name <> 'usertable'),
  count(*) FILTER (WHERE application_name = 'usertable' AND pid <> pg_backend_pid())
FROM pg_stat_activity WHERE backend_type = 'client backend';
