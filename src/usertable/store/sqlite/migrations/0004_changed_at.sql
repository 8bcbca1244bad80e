-- When the attributes of a user last changed, as JSON, see `domain/profile.py`. Of the users that are there it is not known.
-- This line is run for each project's table of users.
ALTER TABLE {users} ADD COLUMN changed_at TEXT NOT NULL DEFAULT '{"":0}';
