-- When the attributes of a user last changed, see `domain/profile.py`. Of the users that are there it is not known, nor of
-- those that a server of the version before makes, if it runs beside newer ones.
-- One statement: Citus does not change a distributed table by one among several.
ALTER TABLE usertable.users ADD COLUMN changed_at jsonb NOT NULL DEFAULT '{"":0}';
