-- What connection.py runs.

-- name: begin_session
-- Said on every connection, because a role, a database or PGOPTIONS may say otherwise. Our locks hold under READ COMMITTED
-- only, and what is answered must be durable.
SET default_transaction_isolation = 'read committed';
SET standard_conforming_strings = on;
SET search_path = pg_catalog, pg_temp;
SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false);

-- name: plan_by_index
-- Said on every connection that is kept. Each statement on a large table has an index for it, and no other plan is ever
-- right. Without this, a database that has not analysed a table just loaded goes through all users for every batch, and so
-- does a plan that was made when there were few. Every other plan counts as immensely dear then, which alone would set off
-- JIT.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;

-- name: other_connections
-- How many others of ours there are; a URL may give them another name, which ours has too then.
SELECT count(*) FROM pg_stat_activity
WHERE application_name IN ('usertable', current_setting('application_name'))
  AND pid <> pg_backend_pid() AND datname = current_database();

-- name: time_limits
-- Which of these settings are set, and to what.
SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) name
WHERE current_setting(name, true) NOT IN ('', '0');
