-- History: a row per block of changes, see usertable/store/history.py.
--
-- cuid:     on Citus, a CUID of the shard whose users' changes these are, which puts the block beside them; otherwise 0.
-- previous: by place (the first is 1), the number of the user's change before; NULL if that is in the body only.
-- befores:  if the database merged these writes, by place `version before,updated_at before,value before,…` as
--           `usertable.merged_with_befores` gives the values; NULL where a write was not done, with -CUID in `previous`. The
--           body then lacks all that.
--
-- Blocks stand in their rows as far as they fit a page, and are not compressed a second time.
CREATE TABLE usertable.history (
  project  bigint NOT NULL,
  cuid     bigint NOT NULL,
  block    bigint NOT NULL,
  last     bigint NOT NULL,
  changes  int NOT NULL,
  latest   bigint NOT NULL,
  previous bigint[],
  befores  text[],
  body     bytea NOT NULL,
  PRIMARY KEY (project, block, cuid)
) WITH (toast_tuple_target = 8160);
ALTER TABLE usertable.history ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE SEQUENCE usertable.history_block;

-- A number for a block. The transaction has its ID before it has the number: so once all transactions older than one that
-- began later have ended, no lower number can appear any more.
CREATE FUNCTION usertable.draw_block() RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM pg_current_xact_id();
  RETURN nextval('usertable.history_block');
END $$;

-- Since when all changes of a project are kept. Projects whose history is off are not in it.
CREATE TABLE usertable.history_since (
  project bigint PRIMARY KEY,
  at      bigint NOT NULL
);

-- What was written before is not recorded.
INSERT INTO usertable.history_since (project, at)
SELECT number, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 1 FROM usertable.project;

-- Like `usertable.merged`, for a write that is recorded: also gives what stood before.
--
-- shape:     {"w": names in `overwriting`, "m": {name: at}, "n": [of how many of those, and of how many `reports`, the values
--            before are wanted: the first ones]}.
-- Gives the attributes, and when they changed, and then the values before: of `overwriting`, then of `reports`; NULL for none.
-- Of a list that is appended to it is the number of elements, or [number, [added element, …]] if not all were new.
CREATE FUNCTION usertable.merged_with_befores(
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
  FOR i IN 0 .. jsonb_array_length(overwritten) - 1 LOOP
    IF attributes -> (overwritten ->> i) = overwriting -> (overwritten ->> i) THEN
      times := times - (overwritten ->> i);
    END IF;
  END LOOP;
  FOR i IN 0 .. wanted - 1 LOOP
    befores := array_append(befores, attributes -> (overwritten ->> i));
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
