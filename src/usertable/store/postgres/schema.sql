-- The tables of a store that is made now, after all migrations. Written by `make schemas`; never run.

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

CREATE FUNCTION usertable.draw_block() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
BEGIN
  PERFORM pg_current_xact_id();
  RETURN nextval('usertable.history_block');
END $$;

CREATE FUNCTION usertable.draw_block(project bigint, version bigint) RETURNS bigint
    LANGUAGE plpgsql
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

CREATE FUNCTION usertable.merged_with_befores(attributes jsonb, changed_at jsonb, at bigint, overwriting jsonb, reports jsonb, shape jsonb) RETURNS jsonb[]
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

CREATE TABLE usertable.audit (
    project bigint NOT NULL,
    number bigint NOT NULL,
    first bigint NOT NULL,
    at bigint NOT NULL,
    actor text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C",
    facts text NOT NULL,
    request text NOT NULL,
    address text NOT NULL
);

CREATE TABLE usertable.console_session (
    digest bytea NOT NULL,
    person text NOT NULL COLLATE pg_catalog."C",
    begun bigint NOT NULL,
    seen bigint NOT NULL,
    expires bigint NOT NULL,
    address text NOT NULL,
    browser text NOT NULL,
    proof bytea NOT NULL
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

CREATE TABLE usertable.history (
    project bigint NOT NULL,
    cuid bigint NOT NULL,
    block bigint NOT NULL,
    last bigint NOT NULL,
    changes integer NOT NULL,
    latest bigint NOT NULL,
    previous bigint[],
    befores text[],
    body bytea NOT NULL,
    firsts bigint[],
    shifts bigint[],
    backs integer[]
)
WITH (toast_tuple_target='8160');
ALTER TABLE ONLY usertable.history ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE SEQUENCE usertable.history_block
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE usertable.history_since (
    project bigint NOT NULL,
    at bigint NOT NULL
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

CREATE TABLE usertable.key_use (
    project bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL
);

CREATE TABLE usertable.keyframe (
    project bigint NOT NULL,
    number bigint NOT NULL,
    cuid bigint NOT NULL,
    version bigint NOT NULL,
    at bigint NOT NULL,
    attributes jsonb NOT NULL
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

CREATE TABLE usertable.person (
    id text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL
);

CREATE TABLE usertable.project (
    number bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    document text NOT NULL
);

CREATE TABLE usertable.project_key (
    project bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
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
    changed_at jsonb DEFAULT '{"": 0}'::jsonb NOT NULL,
    head bigint DEFAULT 0 NOT NULL,
    sole_actor text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
)
WITH (fillfactor='80');

ALTER TABLE ONLY usertable.arrival
    ADD CONSTRAINT arrival_pkey PRIMARY KEY (id);

ALTER TABLE ONLY usertable.arrival_rate
    ADD CONSTRAINT arrival_rate_pkey PRIMARY KEY (project, at);

ALTER TABLE ONLY usertable.arrival_refusal
    ADD CONSTRAINT arrival_refusal_pkey PRIMARY KEY (project, at, kind, attribute);

ALTER TABLE ONLY usertable.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (project, number);

ALTER TABLE ONLY usertable.console_session
    ADD CONSTRAINT console_session_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY usertable.cuid_counter
    ADD CONSTRAINT cuid_counter_pkey PRIMARY KEY (project);

ALTER TABLE ONLY usertable.erased
    ADD CONSTRAINT erased_pkey PRIMARY KEY (project, cuid);

ALTER TABLE ONLY usertable.history
    ADD CONSTRAINT history_pkey PRIMARY KEY (project, block, cuid);

ALTER TABLE ONLY usertable.history_since
    ADD CONSTRAINT history_since_pkey PRIMARY KEY (project);

ALTER TABLE ONLY usertable.identifier_value
    ADD CONSTRAINT identifier_value_pkey PRIMARY KEY (project, identifier, value);

ALTER TABLE ONLY usertable.import_job
    ADD CONSTRAINT import_job_pkey PRIMARY KEY (project, name);

ALTER TABLE ONLY usertable.key_use
    ADD CONSTRAINT key_use_pkey PRIMARY KEY (project, name);

ALTER TABLE ONLY usertable.keyframe
    ADD CONSTRAINT keyframe_pkey PRIMARY KEY (project, number, cuid);

ALTER TABLE ONLY usertable.last_write
    ADD CONSTRAINT last_write_pkey PRIMARY KEY (project, attribute);

ALTER TABLE ONLY usertable.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY usertable.person
    ADD CONSTRAINT person_email_key UNIQUE (email);

ALTER TABLE ONLY usertable.person
    ADD CONSTRAINT person_pkey PRIMARY KEY (id);

ALTER TABLE ONLY usertable.project
    ADD CONSTRAINT project_id_key UNIQUE (id);

ALTER TABLE ONLY usertable.project_key
    ADD CONSTRAINT project_key_pkey PRIMARY KEY (project, name);

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

CREATE INDEX audit_by_actor ON usertable.audit USING btree (project, actor, number);

CREATE INDEX audit_by_kind ON usertable.audit USING btree (project, kind, number);

CREATE INDEX audit_by_subject ON usertable.audit USING btree (project, subject, number);

CREATE INDEX audit_by_time ON usertable.audit USING btree (project, at);

CREATE INDEX console_session_by_person ON usertable.console_session USING btree (person);

CREATE INDEX keyframe_of_user ON usertable.keyframe USING btree (project, cuid, at);

CREATE INDEX receipt_at ON usertable.receipt USING btree (at);

CREATE INDEX receipt_personal ON usertable.receipt USING btree (project, cuid) WHERE personal;
