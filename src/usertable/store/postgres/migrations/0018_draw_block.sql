-- A number for a block of writes that the database merges for one version of a project. The statement that draws it may have
-- begun before an edit that turns the history of an attribute on. It would record the writes without the attribute, under a
-- number from which on changes have it. So the project cannot be edited until the statement is committed, and if it was edited
-- since the statement's snapshot, drawing fails: a volatile function reads what is committed now. The lock is `LOCK_CLASS` of
-- `usertable/store/postgres/locks.py`.
CREATE FUNCTION usertable.draw_block(project bigint, version bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(1970561585, project::int);
  IF NOT EXISTS (
    SELECT 1 FROM usertable.project p WHERE p.number = draw_block.project AND p.version = draw_block.version
  ) THEN
    RAISE 'project % was edited', project USING ERRCODE = 'serialization_failure';
  END IF;
  RETURN usertable.draw_block();
END $$;
