-- What became of each attribute of a write that `usertable.merge` merged, for its receipt; as `domain/merge.py` says it, and a
-- test compares the two.
--
-- before, after: the user's attributes before the write and what `merge` gave.
-- names: [[rule, name], …] of the write.
CREATE FUNCTION usertable.outcomes(before jsonb, after jsonb, names jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  told jsonb := '{}';
  name text;
  outcome text;
BEGIN
  FOR i IN 0 .. jsonb_array_length(names) - 1 LOOP
    name := names -> i ->> 1;
    outcome := 'applied';
    IF before ? name THEN
      IF names -> i ->> 0 = 'once' THEN
        outcome := 'kept';
      ELSIF after = '{}' OR after -> name = before -> name THEN
        outcome := 'unchanged';
      END IF;
    END IF;
    told := told || jsonb_build_object(name, outcome);
  END LOOP;
  RETURN told;
END $$;
