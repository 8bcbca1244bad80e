-- What reads.py runs. {project} stands for the number of a project.

-- name: users
-- The users that meet a condition.
SELECT cuid, version, created_at, updated_at, attributes, changed_at FROM user_{project} WHERE {where};

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
-- Values of an identifier that somebody has, and the CUIDs.
SELECT value, cuid FROM identifier_value
WHERE project = :project AND identifier = :identifier AND value IN (SELECT value FROM json_each(:values));

-- name: has_values
-- Has a row if anybody has a value of the identifier.
SELECT 1 FROM identifier_value WHERE project = :project AND identifier = :identifier LIMIT 1;

-- name: schema_changes
-- The newest changes of a project.
SELECT at, who, what FROM schema_change WHERE project = :project ORDER BY id DESC LIMIT :limit;

-- name: page_rows
-- Versions and times of the users from the first to the last.
SELECT version, created_at, updated_at FROM user_{project} WHERE cuid BETWEEN :first AND :last ORDER BY cuid;

-- name: page
-- The users of a page of a snapshot, as one row, for which the interpreter lock is taken once.
SELECT group_concat(cuid), CAST(group_concat(attributes, char(10)) AS BLOB)
FROM (SELECT cuid, attributes FROM user_{project} WHERE cuid > :after ORDER BY cuid LIMIT :rows);
