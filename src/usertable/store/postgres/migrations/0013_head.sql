-- A user's newest recorded change, and the actor behind all its values, if there is only one: see usertable/store/history.py.
-- Constant defaults: no row is rewritten. A server of the version before, if it runs beside newer ones, writes rows without
-- changes: their versions then show that some are missing.
-- One statement: Citus does not change a distributed table by one among several.
ALTER TABLE usertable.users
  ADD COLUMN head bigint NOT NULL DEFAULT 0,
  ADD COLUMN sole_actor text COLLATE "C" NOT NULL DEFAULT '';
