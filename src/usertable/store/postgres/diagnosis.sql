-- What diagnosis.py runs.

-- name: clock
-- The database's clock, in milliseconds since 1970 UTC.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- name: newest_moment
-- The newest moment that was stored, but for users: those have no index by time.
SELECT greatest(
  (SELECT max(at) FROM usertable.receipt),
  (SELECT max(at) FROM usertable.schema_change),
  (SELECT max(at) FROM usertable.last_write)
);

-- name: connections
-- How many there may be, how many others have, and how many usertable has without this one.
SELECT current_setting('max_connections')::int,
  count(*) FILTER (WHERE application_name <> 'usertable'),
  count(*) FILTER (WHERE application_name = 'usertable' AND pid <> pg_backend_pid())
FROM pg_stat_activity WHERE backend_type = 'client backend';
