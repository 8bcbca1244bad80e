-- Where a user's previous change is, for each change of a packed block, so that the database follows a user's changes through
-- packed blocks too (statement `walk` of history.sql).
--
-- backs:  by index of the change in the block (the first is 1), its number minus that of the user's previous change; 0 if
--         there is none, or if it is 2^31 or more.
-- firsts: the places of changes, ascending, that are not the one after the place of the change before.
-- shifts: for each of these, the place minus the index; the same up to the next one.
--
-- NULL in blocks that are not packed, and in those that a server of an earlier version packed.
-- One statement: Citus does not change a distributed table by one among several.
ALTER TABLE usertable.history
  ADD COLUMN firsts bigint[],
  ADD COLUMN shifts bigint[],
  ADD COLUMN backs int[];
