-- Statements of reads.py.

-- name: user
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text, head, sole_actor
FROM usertable.users
WHERE project = %(project)s AND cuid = %(cuid)s;

-- name: users
-- OFFSET 0 makes the database look up each user separately: PostgreSQL 15 and 16 would read all users of a project if the last
-- ANALYZE found only one. So do the next two statements for what they look up.
SELECT u.*
FROM unnest(%(cuids)s::bigint[]) AS wanted (cuid)
CROSS JOIN LATERAL (
  SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text, head, sole_actor
  FROM usertable.users
  WHERE project = %(project)s AND cuid = wanted.cuid
  OFFSET 0
) u;

-- name: users_in_shards
-- The same on Citus, which determines the shards from the CUIDs. So do the next two statements with `_in_shards`.
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text, head, sole_actor
FROM usertable.users
WHERE project = %(project)s AND cuid = ANY(%(cuids)s::bigint[]);

-- name: values_of_users
-- The identifier values of some users.
SELECT v.*
FROM unnest(%(cuids)s::bigint[]) AS wanted (cuid)
CROSS JOIN LATERAL (
  SELECT cuid, identifier, value FROM usertable.user_identifier
  WHERE project = %(project)s AND cuid = wanted.cuid
  OFFSET 0
) v
ORDER BY identifier, value;

-- name: values_of_users_in_shards
SELECT cuid, identifier, value FROM usertable.user_identifier
WHERE project = %(project)s AND cuid = ANY(%(cuids)s::bigint[])
ORDER BY identifier, value;

-- name: owners
-- Owned values of an identifier, and the owners' CUIDs.
SELECT o.*
FROM unnest(%(values)s::text[]) AS wanted (value)
CROSS JOIN LATERAL (
  SELECT value, cuid FROM usertable.identifier_value
  WHERE project = %(project)s AND identifier = %(identifier)s AND value = wanted.value
  OFFSET 0
) o;

-- name: owners_in_shards
SELECT value, cuid FROM usertable.identifier_value
WHERE project = %(project)s AND identifier = %(identifier)s AND value = ANY(%(values)s::text[]);

-- name: projects
SELECT
  number, id, version, document,
  ARRAY(SELECT attribute FROM usertable.reported WHERE project = number),
  ARRAY(
    SELECT ARRAY[k.name, k.document] FROM usertable.project_key k
    WHERE k.project = number AND (k.name = 'default' OR position('"revoked_at":' IN k.document) = 0)
  )
FROM usertable.project ORDER BY number;

-- name: project_by_number
SELECT
  number, id, version, document,
  ARRAY(SELECT attribute FROM usertable.reported WHERE project = number),
  ARRAY(
    SELECT ARRAY[k.name, k.document] FROM usertable.project_key k
    WHERE k.project = number AND (k.name = 'default' OR position('"revoked_at":' IN k.document) = 0)
  )
FROM usertable.project WHERE number = %(project)s;

-- name: stored_key
SELECT name, document FROM usertable.project_key WHERE project = %(project)s AND name = %(name)s;

-- name: revoked_keys
-- Revoked keys after one, which was revoked at a time; the last revoked first.
SELECT name, document FROM (
  SELECT name, document, (document::json ->> 'revoked_at')::bigint AS at FROM usertable.project_key
  WHERE project = %(project)s AND position('"revoked_at":' IN document) > 0
) AS revoked
WHERE %(at)s::bigint IS NULL OR at < %(at)s OR (at = %(at)s AND name > %(name)s)
ORDER BY at DESC, name LIMIT %(limit)s;

-- name: has_values
-- Has a row if any user has a value of the identifier.
SELECT 1 FROM usertable.identifier_value WHERE project = %(project)s AND identifier = %(identifier)s LIMIT 1;

-- name: audit
-- Entries of an audit log, newest first.
SELECT number, first, at, actor, kind, subject, facts, request, address FROM usertable.audit
WHERE {where} ORDER BY number DESC LIMIT %(limit)s;

-- name: audit_after
-- The same, oldest first.
SELECT number, first, at, actor, kind, subject, facts, request, address FROM usertable.audit
WHERE {where} ORDER BY number LIMIT %(limit)s;

-- name: epoch
-- The epoch, and whether the database is writable.
SELECT value, current_setting('transaction_read_only') FROM usertable.epoch;

-- name: snapshot_users
SELECT cuid, attributes::text FROM usertable.users WHERE project = %(project)s ORDER BY cuid;

-- name: snapshot_rows
-- Versions and times of the users from the first to the last.
SELECT version, created_at, updated_at FROM usertable.users
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s
ORDER BY cuid;

-- name: values_of_span
-- The identifier values of the users from the first to the last.
SELECT cuid, identifier, value FROM usertable.user_identifier
WHERE project = %(project)s AND cuid BETWEEN %(first)s AND %(last)s
ORDER BY cuid, identifier, value;
