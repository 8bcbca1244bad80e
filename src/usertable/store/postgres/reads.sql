-- What reads.py runs.

-- name: user
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text FROM usertable.users
WHERE project = %(project)s AND cuid = %(cuid)s;

-- name: users
SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text FROM usertable.users
WHERE project = %(project)s AND cuid = ANY(%(cuids)s::bigint[]);

-- name: values_of_users
-- The identifier values of some users.
SELECT cuid, identifier, value FROM usertable.user_identifier
WHERE project = %(project)s AND cuid = ANY(%(cuids)s::bigint[])
ORDER BY identifier, value;

-- name: owners
-- Values of an identifier that somebody has, and the CUIDs.
SELECT value, cuid FROM usertable.identifier_value
WHERE project = %(project)s AND identifier = %(identifier)s AND value = ANY(%(values)s::text[]);

-- name: projects
SELECT number, id, version, document, ARRAY(SELECT attribute FROM usertable.reported WHERE project = number)
FROM usertable.project ORDER BY number;

-- name: project_by_number
SELECT number, id, version, document, ARRAY(SELECT attribute FROM usertable.reported WHERE project = number)
FROM usertable.project WHERE number = %(project)s;

-- name: has_values
-- Has a row if anybody has a value of the identifier.
SELECT 1 FROM usertable.identifier_value WHERE project = %(project)s AND identifier = %(identifier)s LIMIT 1;

-- name: schema_changes
-- The newest changes of a project.
SELECT at, who, what FROM usertable.schema_change WHERE project = %(project)s ORDER BY number DESC LIMIT %(limit)s;

-- name: epoch
-- The epoch, and whether the database takes writes.
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
