-- As before, but a value that is overwritten is looked up once: what stood before takes 9,600 instructions for a write of 5
-- attributes instead of 13,700.
CREATE OR REPLACE FUNCTION usertable.merged_with_befores(
  attributes jsonb, changed_at jsonb, at bigint, overwriting jsonb, reports jsonb, shape jsonb
) RETURNS jsonb[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  delta jsonb := overwriting;
  overwritten jsonb := shape -> 'w';
  times jsonb := shape -> 'm';
  wanted int := (shape -> 'n' -> 0)::int;
  befores jsonb[] := '{}';
  report jsonb;
  stored jsonb;
  added jsonb;
  total numeric;
BEGIN
  FOR i IN 0 .. wanted - 1 LOOP
    stored := attributes -> (overwritten ->> i);
    befores := array_append(befores, stored);
    IF stored = overwriting -> (overwritten ->> i) THEN
      times := times - (overwritten ->> i);
    END IF;
  END LOOP;
  FOR i IN wanted .. jsonb_array_length(overwritten) - 1 LOOP
    IF attributes -> (overwritten ->> i) = overwriting -> (overwritten ->> i) THEN
      times := times - (overwritten ->> i);
    END IF;
  END LOOP;
  wanted := (shape -> 'n' -> 1)::int;
  FOR i IN 0 .. jsonb_array_length(reports) - 1 LOOP
    report := reports -> i;
    stored := attributes -> (report ->> 1);
    IF stored IS NULL THEN
      delta := delta || jsonb_build_object(report ->> 1, report -> 2);
    ELSIF report ->> 0 = 'accumulate' THEN
      total := trim_scale(stored::numeric + (report -> 2)::numeric);
      IF abs(total) >= 1e28 OR scale(total) > 10 THEN
        RETURN NULL;
      ELSIF total = stored::numeric THEN
        times := times - (report ->> 1);
      ELSE
        delta := delta || jsonb_build_object(report ->> 1, total);
      END IF;
    ELSIF report ->> 0 = 'append' THEN
      added := '[]';
      FOR j IN 0 .. jsonb_array_length(report -> 2) - 1 LOOP
        IF NOT stored ? (report -> 2 ->> j) THEN
          added := added || (report -> 2 -> j);
        END IF;
      END LOOP;
      IF added = '[]' THEN
        times := times - (report ->> 1);
      ELSIF jsonb_array_length(stored) + jsonb_array_length(added) > (report -> 3)::int THEN
        RETURN NULL;
      ELSE
        delta := delta || jsonb_build_object(report ->> 1, stored || added);
      END IF;
      stored := to_jsonb(jsonb_array_length(stored));
      IF jsonb_array_length(added) < jsonb_array_length(report -> 2) THEN
        stored := jsonb_build_array(stored, added);
      END IF;
    ELSIF report ->> 0 = 'once' THEN
      times := times - (report ->> 1);
    ELSE
      RETURN NULL;
    END IF;
    IF i < wanted THEN
      befores := array_append(befores, stored);
    END IF;
  END LOOP;
  IF times = '{}' THEN
    RETURN '{}';
  ELSIF attributes = '{}' THEN
    RETURN ARRAY[delta, jsonb_build_object('', at)] || befores;
  END IF;
  RETURN ARRAY[attributes || delta, changed_at || times] || befores;
END $$;
