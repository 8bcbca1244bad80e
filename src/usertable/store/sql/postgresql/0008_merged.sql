-- A write's patch merged into a user's row, as `domain/merge.py` says it; a test compares the two.
--
-- at:          the write's moment.
-- overwriting: {name: value}, for those of the rule overwrite; overwritten has their names.
-- reports:     [[rule, name, value, most elements], …], for those of the other rules.
-- times:       {name: at}, of all of them.
-- Gives the attributes, and when they changed, after the write; '{}' for both if nothing changes; NULL for all that is not
-- plainly inside a NUMBER's range or a LIST's bounds, which the caller decides itself.
--
-- `usertable.merge` stays for servers of the version before, which may run beside newer ones.
CREATE FUNCTION usertable.merged(
  INOUT attributes jsonb, INOUT changed_at jsonb,
  at bigint, overwriting jsonb, overwritten jsonb, reports jsonb, times jsonb
)
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
    name := overwritten ->> i;
    IF attributes -> name = overwriting -> name THEN
      times := times - name;
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
        attributes := NULL;
        changed_at := NULL;
        RETURN;
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
        attributes := NULL;
        changed_at := NULL;
        RETURN;
      ELSIF stored = attributes -> name THEN
        times := times - name;
      ELSE
        delta := delta || jsonb_build_object(name, stored);
      END IF;
    ELSIF report ->> 0 = 'once' THEN
      times := times - name;
    ELSE
      attributes := NULL;
      changed_at := NULL;
      RETURN;
    END IF;
  END LOOP;
  IF times = '{}' THEN
    attributes := '{}';
    changed_at := '{}';
  ELSE
    IF attributes = '{}' THEN
      changed_at := jsonb_build_object('', at);
    ELSE
      changed_at := changed_at || times;
    END IF;
    attributes := attributes || delta;
  END IF;
END $$;
