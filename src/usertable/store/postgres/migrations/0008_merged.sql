-- A write's patch merged into a user's row, as `domain/merge.py` says it; a test compares the two.
--
-- at:          the write's moment.
-- overwriting: {name: value}, for those of the rule overwrite; overwritten has their names.
-- reports:     [[rule, name, value, most elements], …], for those of the other rules.
-- times:       {name: at}, of all of them.
-- Gives the attributes, and when they changed, after the write, as an array, which costs less than a row; an empty one if
-- nothing changes; NULL for all that is not plainly inside a NUMBER's range or a LIST's bounds, which the caller decides itself.
--
-- `usertable.merge` stays for servers of the version before, which may run beside newer ones.
CREATE FUNCTION usertable.merged(
  attributes jsonb, changed_at jsonb, at bigint, overwriting jsonb, overwritten jsonb, reports jsonb, times jsonb
) RETURNS jsonb[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  delta jsonb := overwriting;
  name text;
  report jsonb;
  stored jsonb;
  total numeric;
BEGIN
  -- Plain expressions and loops over indexes only: a query inside would cost several times the rest. And what does not
  -- change is taken out of `times`, which is seldom much, instead of putting in all that does.
  FOR i IN 0 .. jsonb_array_length(overwritten) - 1 LOOP
    IF attributes -> (overwritten ->> i) = overwriting -> (overwritten ->> i) THEN
      times := times - (overwritten ->> i);
    END IF;
  END LOOP;
  FOR i IN 0 .. jsonb_array_length(reports) - 1 LOOP
    report := reports -> i;
    name := report ->> 1;
    stored := attributes -> name;
    IF stored IS NULL THEN
      delta := delta || jsonb_build_object(name, report -> 2);
    ELSIF report ->> 0 = 'accumulate' THEN
      total := trim_scale(stored::numeric + (report -> 2)::numeric);
      IF abs(total) >= 1e28 OR scale(total) > 10 THEN
        RETURN NULL;
      ELSIF total = stored::numeric THEN
        times := times - name;
      ELSE
        delta := delta || jsonb_build_object(name, total);
      END IF;
    ELSIF report ->> 0 = 'append' THEN
      FOR j IN 0 .. jsonb_array_length(report -> 2) - 1 LOOP
        IF NOT stored ? (report -> 2 ->> j) THEN
          stored := stored || (report -> 2 -> j);
        END IF;
      END LOOP;
      IF jsonb_array_length(stored) > (report ->> 3)::int THEN
        RETURN NULL;
      ELSIF stored = attributes -> name THEN
        times := times - name;
      ELSE
        delta := delta || jsonb_build_object(name, stored);
      END IF;
    ELSIF report ->> 0 = 'once' THEN
      times := times - name;
    ELSE
      RETURN NULL;
    END IF;
  END LOOP;
  IF times = '{}' THEN
    RETURN '{}';
  ELSIF attributes = '{}' THEN
    RETURN ARRAY[delta, jsonb_build_object('', at)];
  END IF;
  RETURN ARRAY[attributes || delta, changed_at || times];
END $$;
