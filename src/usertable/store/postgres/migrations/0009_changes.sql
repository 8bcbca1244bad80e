-- What a write changed of the attributes that it sent, as `Decision.changes` in `domain/merge.py` says it; a test compares the
-- two.
--
-- before, after: the user's attributes before and after the write.
-- names: [[rule, name], …] of the write, as for `usertable.outcomes`.
-- Gives {name: [value before, value after], …} of those that changed; null stands for no value.
CREATE FUNCTION usertable.changes(before jsonb, after jsonb, names jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  told jsonb := '{}';
  name text;
BEGIN
  FOR i IN 0 .. jsonb_array_length(names) - 1 LOOP
    name := names -> i ->> 1;
    IF before -> name IS DISTINCT FROM after -> name THEN
      told := told || jsonb_build_object(name, jsonb_build_array(before -> name, after -> name));
    END IF;
  END LOOP;
  RETURN told;
END $$;
