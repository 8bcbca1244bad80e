-- Statements of transaction.py.

-- name: versions
SELECT number, version FROM usertable.project WHERE number = ANY(%(projects)s::bigint[]);

-- name: locked_job
SELECT state FROM usertable.import_job WHERE project = %(project)s AND name = %(name)s FOR UPDATE;

-- name: locked_counter
-- From here on, no other transaction creates or erases users of the project.
SELECT next_cuid FROM usertable.cuid_counter WHERE project = %(project)s FOR UPDATE;

-- name: locked_users
-- A JSON array per user: [CUID, version, …]. OFFSET 0 makes the database look up each user separately: PostgreSQL 15 and 16
-- would read all users of a project if the last ANALYZE found only one. The CUIDs ascend, so that locks are taken in order.
SELECT u.profile
FROM unnest(%(cuids)s::bigint[]) AS wanted (cuid)
CROSS JOIN LATERAL (
  SELECT '[' || cuid || ',' || version || ',' || created_at || ',' || updated_at || ','
    || attributes::text || ',' || changed_at::text || ',' || head || ',' || to_json(sole_actor) || ']' AS profile
  FROM usertable.users
  WHERE project = %(project)s AND cuid = wanted.cuid
  OFFSET 0 FOR NO KEY UPDATE
) u;

-- name: locked_users_in_shard
-- The same on Citus, which determines the shard from the CUIDs.
SELECT '[' || cuid || ',' || version || ',' || created_at || ',' || updated_at || ','
  || attributes::text || ',' || changed_at::text || ',' || head || ',' || to_json(sole_actor) || ']'
FROM usertable.users
WHERE project = %(project)s AND cuid = ANY(%(cuids)s::bigint[])
ORDER BY cuid FOR NO KEY UPDATE;

-- name: erased
-- The erased ones of some CUIDs. OFFSET 0 as in `locked_users`.
SELECT e.cuid
FROM unnest(%(cuids)s::bigint[]) AS wanted (cuid)
CROSS JOIN LATERAL (SELECT cuid FROM usertable.erased WHERE project = %(project)s AND cuid = wanted.cuid OFFSET 0) e;

-- name: erased_in_shards
-- The same on Citus.
SELECT cuid FROM usertable.erased WHERE project = %(project)s AND cuid = ANY(%(cuids)s::bigint[]);

-- name: receipts
-- OFFSET 0 as in `locked_users`.
SELECT r.key, r.fingerprint, r.written
FROM unnest(%(keys)s::text[]) AS wanted (key)
CROSS JOIN LATERAL (
  SELECT key, fingerprint, written FROM usertable.receipt WHERE project = %(project)s AND key = wanted.key OFFSET 0
) r;

-- name: receipts_in_shards
-- The same on Citus.
SELECT key, fingerprint, written FROM usertable.receipt WHERE project = %(project)s AND key = ANY(%(keys)s::text[]);

-- name: receipts_of_users
-- On Citus, this stays in the users' shard.
SELECT key, fingerprint, written FROM usertable.receipt
WHERE project = %(project)s AND key = ANY(%(keys)s::text[]) AND cuid = ANY(%(cuids)s::bigint[]);

-- name: users_of_span
SELECT cuid FROM usertable.users WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s;

-- name: erased_of_span
SELECT cuid FROM usertable.erased WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s;

-- name: create_users
-- COPY: the rows follow.
COPY usertable.users (project, cuid, version, created_at, updated_at, changed_at, head, sole_actor, attributes) FROM STDIN;

-- name: change_users
-- Of users that are locked. rows: see `usertable.store.encoding.encode_user_changes`. OFFSET 0 as in `locked_users`.
UPDATE usertable.users u
SET version = p.v, updated_at = p.t, attributes = (u.attributes - coalesce(p.r, '{}')) || p.a, changed_at = p.m,
  head = p.h, sole_actor = p.w
FROM jsonb_to_recordset(%(rows)s::jsonb)
  AS p (c bigint, v bigint, t bigint, a jsonb, r text[], m jsonb, h bigint, w text)
CROSS JOIN LATERAL (
  SELECT ctid AS row_at FROM usertable.users WHERE project = %(project)s AND cuid = p.c OFFSET 0
) found
WHERE u.ctid = found.row_at;

-- name: change_users_in_shard
-- The same on Citus. The CUIDs are a separate parameter, from which it determines the shard.
UPDATE usertable.users u
SET version = p.v, updated_at = p.t, attributes = (u.attributes - coalesce(p.r, '{}')) || p.a, changed_at = p.m,
  head = p.h, sole_actor = p.w
FROM jsonb_to_recordset(%(rows)s::jsonb) AS p (c bigint, v bigint, t bigint, a jsonb, r text[], m jsonb, h bigint, w text)
WHERE u.project = %(project)s AND u.cuid = p.c AND u.cuid = ANY(%(cuids)s::bigint[]);

-- name: add_owners
INSERT INTO usertable.identifier_value (project, cuid, identifier, value)
SELECT %(project)s, * FROM unnest(%(cuids)s::bigint[], %(identifiers)s::text[], %(values)s::text[]);

-- name: add_values
-- The same, by user.
INSERT INTO usertable.user_identifier (project, cuid, identifier, value)
SELECT %(project)s, * FROM unnest(%(cuids)s::bigint[], %(identifiers)s::text[], %(values)s::text[]);

-- name: add_receipts
INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)
SELECT * FROM unnest(
  %(projects)s::bigint[], %(keys)s::text[], %(cuids)s::bigint[], %(fingerprints)s::bytea[], %(written)s::text[],
  %(personal)s::boolean[], %(moments)s::bigint[]);

-- name: add_reported
INSERT INTO usertable.reported (project, attribute)
SELECT * FROM unnest(%(projects)s::bigint[], %(attributes)s::text[])
ON CONFLICT DO NOTHING;

-- name: raise_counter
UPDATE usertable.cuid_counter SET next_cuid = %(next_cuid)s WHERE project = %(project)s AND next_cuid < %(next_cuid)s;

-- name: keep_job
INSERT INTO usertable.import_job (project, name, state) VALUES (%(project)s, %(name)s, %(state)s)
ON CONFLICT (project, name) DO UPDATE SET state = excluded.state;

-- name: remove_values
-- An erased user's identifier values, which are returned.
DELETE FROM usertable.user_identifier WHERE project = %(project)s AND cuid = %(cuid)s RETURNING identifier, value;

-- name: remove_owner
DELETE FROM usertable.identifier_value
WHERE project = %(project)s AND identifier = %(identifier)s AND value = %(value)s;

-- name: remove_user
DELETE FROM usertable.users WHERE project = %(project)s AND cuid = %(cuid)s;

-- name: add_erased
INSERT INTO usertable.erased (project, cuid) VALUES (%(project)s, %(cuid)s);

-- name: plan_by_order
-- From here on, a statement with ORDER BY uses an index that has this order.
SET LOCAL enable_sort = off;

-- name: plan_with_sort
SET LOCAL enable_sort = on;

-- name: remove_personal_receipts
-- Receipts that show the user's data. With `plan_by_order`, only the index that has the user is right: if the last ANALYZE
-- found one receipt, the database would read those of the whole project by the primary key.
DELETE FROM usertable.receipt WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM usertable.receipt
  WHERE project = %(project)s AND cuid BETWEEN %(cuid)s AND %(cuid)s AND personal ORDER BY cuid
));

-- name: remove_personal_receipts_in_shard
-- The same on Citus, which determines the shard from the CUID.
DELETE FROM usertable.receipt WHERE project = %(project)s AND cuid = %(cuid)s AND personal;

-- name: remove_samples
-- With `plan_by_order`, as in `remove_personal_receipts`.
DELETE FROM usertable.arrival WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM usertable.arrival
  WHERE project = %(project)s AND cuid BETWEEN %(cuid)s AND %(cuid)s ORDER BY cuid
));

-- name: add_project
INSERT INTO usertable.project (number, id, version, document)
VALUES (%(project)s, %(id)s, %(version)s, %(document)s);

-- name: replace_project
UPDATE usertable.project SET version = %(version)s, document = %(document)s WHERE number = %(project)s;

-- name: keep_key
INSERT INTO usertable.project_key (project, name, document) VALUES (%(project)s, %(name)s, %(document)s)
ON CONFLICT (project, name) DO UPDATE SET document = excluded.document;

-- name: record
-- An entry of an audit log.
INSERT INTO usertable.audit (project, number, first, at, actor, kind, subject, facts, request, address)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: last_entry
-- The number of the newest entry of an audit log.
SELECT coalesce(max(number), 0) FROM usertable.audit WHERE project = %(project)s;
