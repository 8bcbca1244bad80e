-- A write's patch merged into a user's attributes, as `domain/merge.py` says it; a test compares the two.
--
-- values:  {name: value}, for those of the rule overwrite.
-- reports: [[rule, name, value, most elements], …], for those of the other rules.
-- Gives the attributes after the write; '{}' if nothing changes; NULL for all that is not plainly inside a NUMBER's range or
-- a LIST's bounds, which the caller decides itself.
CREATE FUNCTION usertable.merge(attributes jsonb, "values" jsonb, reports jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  delta jsonb := "values";
  report jsonb;
  stored jsonb;
  result jsonb;
  total numeric;
BEGIN
  -- Plain expressions and loops over indexes only: a query inside would cost several times the rest.
  FOR i IN 0 .. jsonb_array_length(reports) - 1 LOOP
    report := reports -> i;
    stored := attributes -> (report ->> 1);
    IF stored IS NULL THEN
      delta := delta || jsonb_build_object(report ->> 1, report -> 2);
    ELSIF report ->> 0 = 'accumulate' THEN
      total := trim_scale(stored::numeric + (report -> 2)::numeric);
      IF abs(total) >= 1e28 OR scale(total) > 10 THEN
        RETURN NULL;
      END IF;
      delta := delta || jsonb_build_object(report ->> 1, total);
    ELSIF report ->> 0 = 'append' THEN
      FOR j IN 0 .. jsonb_array_length(report -> 2) - 1 LOOP
        IF NOT stored ? (report -> 2 ->> j) THEN
          stored := stored || (report -> 2 -> j);
        END IF;
      END LOOP;
      IF jsonb_array_length(stored) > (report ->> 3)::int THEN
        RETURN NULL;
      END IF;
      delta := delta || jsonb_build_object(report ->> 1, stored);
    ELSIF report ->> 0 <> 'once' THEN
      RETURN NULL;
    END IF;
  END LOOP;
  result := attributes || delta;
  IF result = attributes THEN
    RETURN '{}';
  END IF;
  RETURN result;
END $$;
