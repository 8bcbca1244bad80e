-- A PostgreSQL store of version 9, made and filled by the usertable of that time.

CREATE SCHEMA usertable;

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

CREATE FUNCTION usertable.merged(attributes jsonb, changed_at jsonb, at bigint, overwriting jsonb, overwritten jsonb, reports jsonb, times jsonb) RETURNS jsonb[]
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

CREATE SEQUENCE usertable.arrival_number
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE UNLOGGED TABLE usertable.arrival (
    id bigint DEFAULT nextval('usertable.arrival_number'::regclass) NOT NULL,
    project bigint NOT NULL,
    refused boolean NOT NULL,
    at bigint NOT NULL,
    cuid bigint,
    document text NOT NULL
);

CREATE UNLOGGED TABLE usertable.arrival_rate (
    project bigint NOT NULL,
    at bigint NOT NULL,
    accepted bigint NOT NULL,
    refused bigint NOT NULL,
    sampled bigint NOT NULL
);

CREATE UNLOGGED TABLE usertable.arrival_refusal (
    project bigint NOT NULL,
    at bigint NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    attribute text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    last bigint NOT NULL
);

CREATE TABLE usertable.cuid_counter (
    project bigint NOT NULL,
    next_cuid bigint NOT NULL
);

CREATE TABLE usertable.epoch (
    value bigint NOT NULL
);

CREATE TABLE usertable.erased (
    project bigint NOT NULL,
    cuid bigint NOT NULL
);

CREATE TABLE usertable.identifier_value (
    project bigint NOT NULL,
    identifier text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C",
    cuid bigint NOT NULL
);

CREATE TABLE usertable.import_job (
    project bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL
);

CREATE TABLE usertable.last_write (
    project bigint NOT NULL,
    attribute text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL
);

CREATE TABLE usertable.migration (
    number integer NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE usertable.project (
    number bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    document text NOT NULL
);

CREATE TABLE usertable.receipt (
    project bigint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    cuid bigint NOT NULL,
    fingerprint bytea NOT NULL,
    written text NOT NULL,
    personal boolean NOT NULL,
    at bigint NOT NULL
);

CREATE TABLE usertable.reported (
    project bigint NOT NULL,
    attribute text NOT NULL COLLATE pg_catalog."C"
);

CREATE TABLE usertable.schema_change (
    project bigint NOT NULL,
    number bigint NOT NULL,
    at bigint NOT NULL,
    who text NOT NULL,
    what text NOT NULL
);

CREATE TABLE usertable.user_identifier (
    project bigint NOT NULL,
    cuid bigint NOT NULL,
    identifier text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C"
);

CREATE TABLE usertable.users (
    project bigint NOT NULL,
    cuid bigint NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    attributes jsonb NOT NULL,
    changed_at jsonb DEFAULT '{"": 0}'::jsonb NOT NULL
)
WITH (fillfactor='80');

INSERT INTO usertable.cuid_counter (project, next_cuid) VALUES
	(1, 10000004),
	(2, 10000002);

INSERT INTO usertable.epoch (value) VALUES
	(28);

INSERT INTO usertable.erased (project, cuid) VALUES
	(1, 10000003);

INSERT INTO usertable.identifier_value (project, identifier, value, cuid) VALUES
	(1, 'phone', 'a', 10000001),
	(1, 'phone', 'b', 10000002),
	(2, 'phone', 'a', 10000001);

INSERT INTO usertable.migration (number, applied_at) VALUES
	(1, '2026-11-30 19:10:48.542337+00'),
	(2, '2026-11-30 19:10:48.542337+00'),
	(3, '2026-11-30 19:10:48.542337+00'),
	(4, '2026-11-30 19:10:48.542337+00'),
	(5, '2026-11-30 19:10:48.542337+00'),
	(6, '2026-11-30 19:10:48.542337+00'),
	(7, '2026-11-30 19:10:48.542337+00'),
	(8, '2026-11-30 19:10:48.542337+00'),
	(9, '2026-11-30 19:10:48.542337+00');

INSERT INTO usertable.project (number, id, version, document) VALUES
	(2, 'two', 14, '{"name":"two","secret_salt":"Zg8E2To1OI1lCs4KlvLQCA==","secret_hash":"T61CDJLBkUZjI9k+F+U163NzYBYOfNZz1vEc6LEmnDg=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}'),
	(1, 'one', 14, '{"name":"one","secret_salt":"aZRfN6YF7agZWML0V8HRUA==","secret_hash":"AS++HovfZhVnNZIct2F6a1IYzKddnfypI+otj0ThhI8=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');

INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at) VALUES
	(1, 'key a 1', 10000001, '\x', '[2,{"user_string_overwrite":"applied","user_number_accumulate":"applied","user_list_append":"applied","user_bool_once":"applied","user_datetime_overwrite":"applied","user_number_overwrite":"applied"},null]', false, 1700000000000),
	(1, 'key a 2', 10000001, '\x', '[3,{"user_number_accumulate":"applied","user_list_append":"applied"},{"user_bool_once":true,"user_list_append":["x","y","z"],"user_number_overwrite":12345678901234567890.0123456789,"user_string_overwrite":"a","user_number_accumulate":3.5,"user_datetime_overwrite":1709179200000}]', true, 1700000000010);

INSERT INTO usertable.reported (project, attribute) VALUES
	(1, 'user_bool_once'),
	(1, 'user_datetime_overwrite'),
	(1, 'user_list_append'),
	(1, 'user_number_accumulate'),
	(1, 'user_number_overwrite'),
	(1, 'user_string_overwrite'),
	(1, 'user_string_once'),
	(2, 'user_number_accumulate'),
	(2, 'user_string_overwrite');

INSERT INTO usertable.schema_change (project, number, at, who, what) VALUES
	(1, 1, 1700000000000, 'test', '[{"kind":"create project","subject":"","before":{},"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}]'),
	(1, 2, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_number_overwrite","before":{},"after":{"type":"NUMBER","rule":"overwrite"}}]'),
	(1, 3, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_number_once","before":{},"after":{"type":"NUMBER","rule":"once"}}]'),
	(1, 4, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_number_accumulate","before":{},"after":{"type":"NUMBER","rule":"accumulate"}}]'),
	(1, 5, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_string_overwrite","before":{},"after":{"type":"STRING","rule":"overwrite"}}]'),
	(1, 6, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_string_once","before":{},"after":{"type":"STRING","rule":"once"}}]'),
	(1, 7, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_bool_overwrite","before":{},"after":{"type":"BOOL","rule":"overwrite"}}]'),
	(1, 8, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_bool_once","before":{},"after":{"type":"BOOL","rule":"once"}}]'),
	(1, 9, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_datetime_overwrite","before":{},"after":{"type":"DATETIME","rule":"overwrite"}}]'),
	(1, 10, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_datetime_once","before":{},"after":{"type":"DATETIME","rule":"once"}}]'),
	(1, 11, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_list_overwrite","before":{},"after":{"type":"LIST","rule":"overwrite"}}]'),
	(1, 12, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_list_once","before":{},"after":{"type":"LIST","rule":"once"}}]'),
	(1, 13, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_list_append","before":{},"after":{"type":"LIST","rule":"append"}}]'),
	(1, 14, 1700000000000, 'test', '[{"kind":"declare identifier","subject":"phone","before":{},"after":{"unique":true}}]'),
	(2, 1, 1700000000000, 'test', '[{"kind":"create project","subject":"","before":{},"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}]'),
	(2, 2, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_number_overwrite","before":{},"after":{"type":"NUMBER","rule":"overwrite"}}]'),
	(2, 3, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_number_once","before":{},"after":{"type":"NUMBER","rule":"once"}}]'),
	(2, 4, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_number_accumulate","before":{},"after":{"type":"NUMBER","rule":"accumulate"}}]'),
	(2, 5, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_string_overwrite","before":{},"after":{"type":"STRING","rule":"overwrite"}}]'),
	(2, 6, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_string_once","before":{},"after":{"type":"STRING","rule":"once"}}]'),
	(2, 7, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_bool_overwrite","before":{},"after":{"type":"BOOL","rule":"overwrite"}}]'),
	(2, 8, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_bool_once","before":{},"after":{"type":"BOOL","rule":"once"}}]'),
	(2, 9, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_datetime_overwrite","before":{},"after":{"type":"DATETIME","rule":"overwrite"}}]'),
	(2, 10, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_datetime_once","before":{},"after":{"type":"DATETIME","rule":"once"}}]'),
	(2, 11, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_list_overwrite","before":{},"after":{"type":"LIST","rule":"overwrite"}}]'),
	(2, 12, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_list_once","before":{},"after":{"type":"LIST","rule":"once"}}]'),
	(2, 13, 1700000000000, 'test', '[{"kind":"declare attribute","subject":"user_list_append","before":{},"after":{"type":"LIST","rule":"append"}}]'),
	(2, 14, 1700000000000, 'test', '[{"kind":"declare identifier","subject":"phone","before":{},"after":{"unique":true}}]');

INSERT INTO usertable.user_identifier (project, cuid, identifier, value) VALUES
	(1, 10000001, 'phone', 'a'),
	(1, 10000002, 'phone', 'b'),
	(2, 10000001, 'phone', 'a');

INSERT INTO usertable.users (project, cuid, version, created_at, updated_at, attributes, changed_at) VALUES
	(1, 10000002, 2, 1700000000000, 1700000000000, '{"user_string_once": "b"}', '{"": 1700000000000}'),
	(2, 10000001, 2, 1700000000000, 1700000000000, '{"user_string_overwrite": "a", "user_number_accumulate": 1}', '{"": 1700000000000}'),
	(1, 10000001, 3, 1700000000000, 1700000000010, '{"user_bool_once": true, "user_list_append": ["x", "y", "z"], "user_number_overwrite": 12345678901234567890.0123456789, "user_string_overwrite": "a", "user_number_accumulate": 3.5, "user_datetime_overwrite": 1709179200000}', '{"": 1700000000000, "user_list_append": 1700000000010, "user_number_accumulate": 1700000000010}');

SELECT pg_catalog.setval('usertable.arrival_number', 1, false);

ALTER TABLE ONLY usertable.arrival
    ADD CONSTRAINT arrival_pkey PRIMARY KEY (id);

ALTER TABLE ONLY usertable.arrival_rate
    ADD CONSTRAINT arrival_rate_pkey PRIMARY KEY (project, at);

ALTER TABLE ONLY usertable.arrival_refusal
    ADD CONSTRAINT arrival_refusal_pkey PRIMARY KEY (project, at, kind, attribute);

ALTER TABLE ONLY usertable.cuid_counter
    ADD CONSTRAINT cuid_counter_pkey PRIMARY KEY (project);

ALTER TABLE ONLY usertable.erased
    ADD CONSTRAINT erased_pkey PRIMARY KEY (project, cuid);

ALTER TABLE ONLY usertable.identifier_value
    ADD CONSTRAINT identifier_value_pkey PRIMARY KEY (project, identifier, value);

ALTER TABLE ONLY usertable.import_job
    ADD CONSTRAINT import_job_pkey PRIMARY KEY (project, name);

ALTER TABLE ONLY usertable.last_write
    ADD CONSTRAINT last_write_pkey PRIMARY KEY (project, attribute);

ALTER TABLE ONLY usertable.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY usertable.project
    ADD CONSTRAINT project_id_key UNIQUE (id);

ALTER TABLE ONLY usertable.project
    ADD CONSTRAINT project_pkey PRIMARY KEY (number);

ALTER TABLE ONLY usertable.receipt
    ADD CONSTRAINT receipt_pkey PRIMARY KEY (project, key);

ALTER TABLE ONLY usertable.reported
    ADD CONSTRAINT reported_pkey PRIMARY KEY (project, attribute);

ALTER TABLE ONLY usertable.schema_change
    ADD CONSTRAINT schema_change_pkey PRIMARY KEY (project, number);

ALTER TABLE ONLY usertable.user_identifier
    ADD CONSTRAINT user_identifier_pkey PRIMARY KEY (project, cuid, identifier, value);

ALTER TABLE ONLY usertable.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (project, cuid);

CREATE INDEX arrival_by_project ON usertable.arrival USING btree (project, refused, id);

CREATE INDEX arrival_by_user ON usertable.arrival USING btree (project, cuid) WHERE (cuid IS NOT NULL);

CREATE INDEX receipt_at ON usertable.receipt USING btree (at);

CREATE INDEX receipt_personal ON usertable.receipt USING btree (project, cuid) WHERE personal;
