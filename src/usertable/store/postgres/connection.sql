-- Statements of connection.py.

-- name: begin_session
-- Set on every connection, because a role, a database or PGOPTIONS may differ. usertable's locks need READ COMMITTED,
-- and what is answered must be durable.
SET default_transaction_isolation = 'read committed';
SET standard_conforming_strings = on;
SET search_path = pg_catalog, pg_temp;
SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false);

-- name: plan_by_index
-- Set on every pooled connection. Each statement on a large table has an index for it, and no other plan is ever right.
-- Without this, a database that has not analyzed a newly loaded table scans all users for every batch, and so does a
-- plan that was cached when there were few. All other plans then have a huge estimated cost, which alone would trigger
-- JIT. And each row read in vain counts: otherwise PostgreSQL 15 and 16 may prefer to filter all of a project's users by CUID,
-- of which they expect two or three. With such costs they would then plan each execution of a prepared statement, in the hope
-- of a cheaper plan. Citus does plan each one, by its parameters, and cannot do otherwise.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET cpu_tuple_cost = 100;
SET jit = off;
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL;

-- name: other_connections
-- The number of usertable's other connections. A URL may set another name, which this connection then has too.
SELECT count(*) FROM pg_stat_activity
WHERE application_name IN ('usertable', current_setting('application_name'))
  AND pid <> pg_backend_pid() AND datname = current_database();

-- name: time_limits
-- Which of these settings are set, and their values.
SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) name
WHERE current_setting(name, true) NOT IN ('', '0');
