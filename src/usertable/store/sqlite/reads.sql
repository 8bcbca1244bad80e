-- Statements of reads.py. {project} is replaced by a project's number.

-- name: users
-- The users that meet a condition.
SELECT cuid, version, created_at, updated_at, attributes, changed_at, head, sole_actor FROM user_{project} WHERE {where};

-- name: values_of_users
-- The identifier values of some users.
SELECT cuid, identifier, value FROM identifier_value
WHERE project = :project AND cuid IN (SELECT value FROM json_each(:cuids))
ORDER BY cuid, identifier, value;

-- name: values_of_span
-- The identifier values of the users from the first to the last.
SELECT cuid, identifier, value FROM identifier_value
WHERE project = :project AND cuid BETWEEN :first AND :last
ORDER BY cuid, identifier, value;

-- name: owners
-- Owned values of an identifier, and the owners' CUIDs.
SELECT value, cuid FROM identifier_value
WHERE project = :project AND identifier = :identifier AND value IN (SELECT value FROM json_each(:values));

-- name: keys
-- The keys of a project: `default`, and those that are not revoked.
SELECT name, document FROM project_key
WHERE project = :project AND (name = 'default' OR instr(document, '"revoked_at":') = 0);

-- name: revoked_keys
-- Revoked keys after one, which was revoked at a time; the last revoked first.
SELECT name, document FROM (
  SELECT name, document, json_extract(document, '$.revoked_at') AS at FROM project_key
  WHERE project = :project AND instr(document, '"revoked_at":') > 0
)
WHERE :at IS NULL OR at < :at OR (at = :at AND name > :name)
ORDER BY at DESC, name LIMIT :limit;

-- name: has_values
-- Has a row if any user has a value of the identifier.
SELECT 1 FROM identifier_value WHERE project = :project AND identifier = :identifier LIMIT 1;

-- name: audit
-- Entries of an audit log.
SELECT number, first, at, actor, kind, subject, facts, request, address FROM audit
WHERE {where} ORDER BY number {order} LIMIT :limit;

-- name: page_rows
-- Versions and times of the users from the first to the last.
SELECT version, created_at, updated_at FROM user_{project} WHERE cuid BETWEEN :first AND :last ORDER BY cuid;

-- name: page
-- The users of a page of a snapshot, as one row, so that the interpreter lock is acquired only once.
SELECT group_concat(cuid), CAST(group_concat(attributes, char(10)) AS BLOB)
FROM (SELECT cuid, attributes FROM user_{project} WHERE cuid > :after ORDER BY cuid LIMIT :rows);
