-- A PostgreSQL store of version 14, made and filled by the usertable of that time.

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
    body bytea NOT NULL
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

INSERT INTO usertable.audit VALUES (1, 1, 1, 1700000000000, 'cli:test', 'create project', '', '{"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}', '', '');
INSERT INTO usertable.audit VALUES (0, 1, 1, 1700000000000, 'cli:test', 'create project', 'one', '{"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}', '', '');
INSERT INTO usertable.audit VALUES (1, 2, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_number_overwrite', '{"after":{"type":"NUMBER","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 3, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_number_once', '{"after":{"type":"NUMBER","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 4, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_number_accumulate', '{"after":{"type":"NUMBER","rule":"accumulate"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 5, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_string_overwrite', '{"after":{"type":"STRING","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 6, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_string_once', '{"after":{"type":"STRING","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 7, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_bool_overwrite', '{"after":{"type":"BOOL","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 8, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_bool_once', '{"after":{"type":"BOOL","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 9, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_datetime_overwrite', '{"after":{"type":"DATETIME","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 10, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_datetime_once', '{"after":{"type":"DATETIME","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 11, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_list_overwrite', '{"after":{"type":"LIST","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 12, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_list_once', '{"after":{"type":"LIST","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 13, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_list_append', '{"after":{"type":"LIST","rule":"append"}}', '', '');
INSERT INTO usertable.audit VALUES (1, 14, 2, 1700000000000, 'cli:test', 'declare identifier', 'phone', '{"after":{"unique":true}}', '', '');
INSERT INTO usertable.audit VALUES (2, 1, 1, 1700000000000, 'cli:test', 'create project', '', '{"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}', '', '');
INSERT INTO usertable.audit VALUES (0, 2, 2, 1700000000000, 'cli:test', 'create project', 'two', '{"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}', '', '');
INSERT INTO usertable.audit VALUES (2, 2, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_number_overwrite', '{"after":{"type":"NUMBER","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 3, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_number_once', '{"after":{"type":"NUMBER","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 4, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_number_accumulate', '{"after":{"type":"NUMBER","rule":"accumulate"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 5, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_string_overwrite', '{"after":{"type":"STRING","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 6, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_string_once', '{"after":{"type":"STRING","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 7, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_bool_overwrite', '{"after":{"type":"BOOL","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 8, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_bool_once', '{"after":{"type":"BOOL","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 9, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_datetime_overwrite', '{"after":{"type":"DATETIME","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 10, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_datetime_once', '{"after":{"type":"DATETIME","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 11, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_list_overwrite', '{"after":{"type":"LIST","rule":"overwrite"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 12, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_list_once', '{"after":{"type":"LIST","rule":"once"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 13, 2, 1700000000000, 'cli:test', 'declare attribute', 'user_list_append', '{"after":{"type":"LIST","rule":"append"}}', '', '');
INSERT INTO usertable.audit VALUES (2, 14, 2, 1700000000000, 'cli:test', 'declare identifier', 'phone', '{"after":{"unique":true}}', '', '');
INSERT INTO usertable.audit VALUES (1, 15, 15, 0, 'cli:test', 'erase user', '10000003', '{}', '', '');
INSERT INTO usertable.audit VALUES (2, 15, 15, 1700000000010, 'cli:test', 'create key', 'billing', '{"after":{"scopes":["write"]}}', '', '');
INSERT INTO usertable.audit VALUES (2, 16, 16, 1700000000010, 'cli:test', 'create key', 'old', '{"after":{"scopes":["read"]}}', '', '');
INSERT INTO usertable.audit VALUES (2, 17, 17, 1700000000010, 'cli:test', 'revoke key', 'old', '{}', '', '');
INSERT INTO usertable.audit VALUES (0, 3, 3, 1700000000010, 'cli:test', 'create person', 'ann@example.com', '{"after":{"name":"Ann","admin":true,"disabled":false,"roles":[]}}', '', '');
INSERT INTO usertable.audit VALUES (2, 18, 18, 1700000000010, 'cli:test', 'edit member', 'bo@example.com', '{"after":{"role":"editor"}}', '', '');
INSERT INTO usertable.audit VALUES (0, 4, 4, 1700000000010, 'cli:test', 'create person', 'bo@example.com', '{"after":{"name":"Bo","admin":false,"disabled":false,"roles":["two=editor"]}}', '', '');
INSERT INTO usertable.audit VALUES (2, 19, 19, 1796098653480, 'cli:test', 'add user', '20000001', '{}', '', '');
INSERT INTO usertable.audit VALUES (2, 20, 20, 1796098653480, 'cli:test', 'add user', '20000002', '{}', '', '');

INSERT INTO usertable.cuid_counter VALUES (1, 10000004);
INSERT INTO usertable.cuid_counter VALUES (2, 20000003);

INSERT INTO usertable.epoch VALUES (7);

INSERT INTO usertable.erased VALUES (1, 10000003);

INSERT INTO usertable.history VALUES (2, 0, 23, 23, 2, 1796185074480, '{22528,22529}', NULL, '\x28b52ffd602b0005050012ca1f1c6035769895fb7eb4d77915e0a68806c12d1ef4819a325a905314054aeeeead3c68d8e23abcd29ccb2df8d8d6939a0fd91378ff04a8c5b1071df7a428a9e766d254dc37cd52d0614d7db9955bf3e16a918949b2d47b84894ebd7762a6949a8b63ad31c430f000a94b408571ec1a0481b66070712056a29795b55b795b37a50c007e3000a86d3027348f5525da2e1b070a5e5149ea1a80058b29f80270');
INSERT INTO usertable.history VALUES (2, 0, 1, 22, 42, 1796098673480, NULL, NULL, '\x018901000028b52ffd606303fd0b001613391d6045eb5b9476ce4a8dc9b0174a795c87614018a0fa872a3095431004342f0033003000cbe22b9366f3b2265352950dfd07be1b4e619a3f7cab75d3ac029f33cd86cb222332aff29d60c4a67cbf9849554a290a6ecedf77a39b553c022a689224cdec31788e90430fd27ccb231f900042e1909c426238e022074588aaa3488f81e66b6efd1dccaef9a37b9951a05f25d39c314fb0b84bafc51ca2a017d910e18c33b953bc83bc9a2fd082377112b685af395ecdb40d4a25550a390762cb70ee83f420c3e9774b27c7a107a9ca07091a660280ad5fffbe4abe386cbd9cb1d85659fd1f033ea0518d35d0a1a149ca35c63002428c85b503359cf66627284fddb9165ebf3483573682512ca46dc7ccda9a6b32629d48204dbe2903ee20d028fc2bbd0736a861e767b549098b08dd0cdbcd002f8bd76d4de288763e689dff71c91f6421af1c732fdc98a568c7811349044b0572311d297248f771ab85038603dbfd18d7ada41a219e37510d9899cb413b181e6a1a613288b221fe3c703528b52ffd00608400004001010102000404000200c133f6382d740000300101e90000030200403994600844000010010201004b80054c000018020201010028dd10cc000090414101797900d2d2002f2f00a2a200010100065403002240540000200101020301007b1c115001000101020203030404050506060707080809090a0a0b0b0c0c0d0d0e0e0f0f10101111121213131414151584000038010101000008040200f187f82bd7103c0000000100a3a10504640000180003020200298e272ec106f40000705b2231225d0a5b223233343536300720c03307d810c81dd344ee585be5f40000b86e756c6c0a310a320a330a340a350a360a5b372c5b5d5d010043536902a000000102030405060708090a0b0c0d0e0f1011121314a00000000103060a0f151c242d37424e5b69788899abbe3400000001008b56403c000008000100984c2104020094022276616c75652031220a32333435363738393130313233343536373839220a2276616c75652032302212a810e8eb19d0eb106604e007a7f67aa862f56e197c00000005400029ada12d85e7ee21c88b06010000');
INSERT INTO usertable.history VALUES (2, 0, 24, 24, 2, 1796185075480, '{23552,23553}', NULL, '\x28b52ffd602900150500e2c91f1e60b5ce011824b178ff453a22336bcb6e51d42666f5b6627f51121d456005cccc4aec9758e8623bb4b29aba2be8e85a94cf86cb13781d390ca0591e8498d78f754ecdf5549a7e9ec620b4b8b316fbdd67c3e6221393a4b1d7062636ec351473ad7c2ace290c74403e3d214a2544194732101d100ebddaa4d7177b4dfbb4560c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 25, 25, 2, 1796185076480, '{24576,24577}', NULL, '\x28b52ffd602900150500e2c91f1d5065aa0e20b639384cdff584468d48cc4cb7f4ff134aa24b908c9959c1cccc4bec17b112ce57686595eeda404ff822bdb65c2240ecc87186668912626e3fda5957db5569fa799e93d002cfabd8afbdb67c703233499e8b4d6066e36243535bd3ab029d41401ff4e9096145429871a4025186e050679bd4d5d95ea57d6a2d0c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 26, 26, 2, 1796185077480, '{25600,25601}', NULL, '\x28b52ffd602d001d050022ca201e6047ac0360516e1fa3558e55016e220282389c1a611b926ca7025b146505ccccc4b04fc3ca37db402b8b94480bd0f3b5825e5bba6810bb50c016e8a26c98d7d53a2ba1ebaac026101a938d7b6743edd35e5bb6379999248dc546980959ec66ea5a7a5da07bcf2102074da03f3f4732ce91943ac5818c00859ef6a0a3177b74f667ad0b007e3000a86d3027348f5525da2e1b070a5e5149e89a2826c4028003');
INSERT INTO usertable.history VALUES (2, 0, 27, 27, 2, 1796185078480, '{26624,26625}', NULL, '\x28b52ffd6029001d0500e209201e70a7d50120408b184433f5a543feb115f4ffaf08a23509297eb1e2eabf84cccc87d82362a18bada08f3579d0027474ed90cf86c843787d283003057970615e4feb9c27d7f350da60680c2e883bab061cedb36173318986d1d86b82242aecf51273ad7c1eae3090d00779bdaa93541d951429530824f3b36a6e5eec8dee75ad0c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 28, 28, 2, 1796185079480, '{27648,27649}', NULL, '\x28b52ffd602900250500e249201e6047ac036051eeff81c7424f0c16910bc3140edd253449db295951145c02cccc69d8ab61259c6fa08f459ad4127ac257d06b4b241ac42e2c8e4041a26c98db573b6bd2763d946698e76483c0735a80abbdb67c7026d3309e8b2d904cc5c56ea6b6a6d7032e01075da03f3f8c608711c53a8921552c74620f3afadaa3b33fad050c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 29, 29, 2, 1796185080480, '{28672,28673}', NULL, '\x28b52ffd602d00050500f2c91f1b70470f884592d0e288a3087e76ecffffb9561025fa2bcbabaa0903eeee8a685e44d358dfe0954eab5603bec6f72cef53380df39f825b249cd4716fbc1afbaa6dbc8afca6798e3a30b22723c0ab799fbe58999a24cfcd47982add7ca76e6bcbbb481823440487272ca363215620860c96d4b112178d122766cd0935a3d6020c007e3000a86d3027348f5525da2e1b070a5e5149ea1a80d58aa9b80570');
INSERT INTO usertable.history VALUES (2, 0, 30, 30, 2, 1796185081480, '{29696,29697}', NULL, '\x28b52ffd6029001d0500e209201e6047dc0660828d281e714d756b8890fc9264614c5a0747364274c7300c96cccc88d02fa18ebd55d0881e44ab857e6c1df0d82e6908ad0f8c325892e61ae67494ce98988ec8d206c352ae49d87911c0578fed167bca3b8ea55a13286f51ad9b8729e11161cc40421fe0f3b945e6166733608f8081ce0bcdf373437f529f29050c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 31, 31, 2, 1796185082480, '{30720,30721}', NULL, '\x28b52ffd602900050500e209201e6047e30660d16c3de2877ed5d918dc422008c75123c666ed5f64a3a308accccca7d8a3621d7baba091553c6801fab195c063bba421b44e1c94819234b730a71fe98c8ae988288d402ce596849d8d34477b6cb7d833bc4261a9d60486a7a8d6cbc394f088b0c340421fe0f3798ce6317b52e0a8810ebdd9d4eb33e09afb4c290b007e1840686a1bccf9cc635589b6cbc68182575412ba668b09b100e0');
INSERT INTO usertable.history VALUES (2, 0, 32, 32, 2, 1796185083480, '{31744,31745}', NULL, '\x28b52ffd602b001d050012ca201e6047ab036021db8e7690853f82df4d0041a0152e0aeb2eba53b2a228b804cccc06c039926fb6814e8e51e32c22f47ceda0d7962e1ac43e143005ba2817e6f5629df5e8ba26b00d86c6e4e2de9940e98bae2ddb9b8589208dc53e0a13b2d8cbd4b5f4aa40f79e3b040e9a40bf5f95ceaa84d412ca041885793a6b6e6ed0cd9eef5a010b007e3000a86d3027348f5525dc2e05070a5e5149e89a2826c4028003');
INSERT INTO usertable.history VALUES (2, 0, 33, 33, 2, 1796185084480, '{32768,32769}', NULL, '\x28b52ffd602700150500c2c91f1e6047ac036051eeff81c7424f0c16910bc3144e8b7f9246f4a2243a8ac00acccce81b80a08bada08fb3a98b003aba56c86743e421bc2e2ccc40411e6c98d78b754e94eb7928cd308dc10671e781485ff46cd85c4ca26134f69a20890a7bddc45c2b9f875b0612fa20af579590aa94940e6a0981629f8eeef7077df55cd70a0c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 34, 34, 2, 1796185085480, '{33792,33793}', NULL, '\x28b52ffd6029001d0500e209201d6027541d18ba5920425ff584c64d0804e1d8fb7892da5f944447115801cccc2ba827414938df402369759302e809dfa3d796493488fd308e6049a27498db8b76d6a5ed8a2cdd34cf49278167c2584feadaf2c1a9cce3782eb680321717db99da9a5e11c8041c74811e1db1b5105b0343035bc228f62ba1fd5ea92f4a47ad050c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 35, 35, 2, 1796185086480, '{34816,34817}', NULL, '\x28b52ffd602d00250500220a211e6067aa033090eec7148f06a9c4742b8020b8dd20ff9e66fb940a6c519415cccca7d86fb1f2cd36d08563f4ec02f47c2da1d7962e1ac44e143003745126ccebc73a6bd2752dc046201a93897b6775d277af2ddb9b87492034161b394cc8622753d7d2ab01baf71c2270d004faf2a2502a0a19aa24658c80c31c9d626e8ef6a69c97b5020b007e3000a86d3027348f5525da2e1b070a5e5149e89a2826c4028003');
INSERT INTO usertable.history VALUES (2, 0, 36, 36, 2, 1796185087480, '{35840,35841}', NULL, '\x28b52ffd602900250500e249201e7025d6015023d56f401575ad82604941ff7f2582e82f514194c9abaa0703cccc694857439270be804608a449a5414ff81ebdb64c2241ec8771024b12a5c3dc6eb4b32e6d5764e9a6794e3a093ca3555ca56bcb07a7328fe3b9d800ca5c5c6c676a6b7a45205328e801fd7e995acb94c1b66068110c74452c3a7a918e96f8b6160c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 37, 37, 2, 1796185088480, '{36864,36865}', NULL, '\x28b52ffd602900250500320a211e6047ac0360516e2f22a2c218138345640fc35467c52f690bea94600d03afcccc89405704822eb681568ab367e64c0a017474ed90cf86cb33787d2830026679b061de1f7b4ecd7d2a4c1b0c8dc166716785a82bf46cd85c24c42469ecb5002132ec751373379f8a2b041c74415eaf2b1dbad25aaad63190e33c157a7e6ea01f2daebb010b007e182034073fd3da60aecf3cbe0b1c018d575412ba668b09b100e0');
INSERT INTO usertable.history VALUES (2, 0, 38, 38, 2, 1796185089480, '{37888,37889}', NULL, '\x28b52ffd602d00250500220a211e7025d6014083d44c68c64a5c54012e22fcffaf6a44ff890aa24c5e553d18cccc07819e0824df6c01cd14478f84063d5f3be8b5a58b04b10f038c005d940df33ab2ce7a745d19d8064363b271efbc283da16bcbf666612e4b63b195c2842c7633752dbd12a07bcf2900052da0dfaf32d42a23517ba89312e4dc28f6fc1c413f5b7cd70a0b007e3000a86d3027348f5525da2e1b070a5e5149e89a2826c4028003');
INSERT INTO usertable.history VALUES (2, 0, 39, 39, 2, 1796185090480, '{38912,38913}', NULL, '\x28b52ffd602900150500b2891f1d5065580760ea36c0bfc61a93806ec2999941fa768575ff30109399d961cccc8c586fc4a2b2c642232a2d6b2bd055c667bf4d930930fb61a06149267598dfdb3bafdaf745966e9a08a993c83363ec6d7d9b4659957a1c11ce26287581b39dbaefed1791cc20a00f7b6438e40a6420814bcc68e98542e9e96e3d2175f45e0d007e182034073fd3da60ce671eab4ab45d360e14bca292d4f5070b1753470be0');
INSERT INTO usertable.history VALUES (2, 0, 40, 40, 2, 1796185091480, '{39936,39937}', NULL, '\x28b52ffd6029000d0500e2891f1c70c73a0823d56fc0811d55109710545569185104f80ba24c3afdbf10ccccab5067859270be422b46d2c514a0277c915e5b2e11113b729ca159a28498db573babd276559a7e9ee724b4c0b3da75a6ae2d1f9ccc4c92e7621398d9b8d8d0d4d6f4aa406790e8837ebfecd865474236c0920059e987b1e9e9887a5ae3db5a0c007e182034073fd3da60ce671eab4ab45d360e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 41, 41, 2, 1796185092480, '{40960,40961}', NULL, '\x28b52ffd602d00250500220a211e7037d50110208b0c85bda24221ffa909ffff371a592849236d65b2fe7f86ccccc8304f86812eb2813e944d940ca1a3638b7c366ccfe0f5a2602190f660c2ac7ea8739e54cf03d20a055b3069eebce77832cf86ccc5443418d87a5d484464bd4e622a954f04d29c6b05818326c8eb159d55744a5200b401e9d89fa2fbbd9eaf96ab52010b007e3000a86d3027348f5525da2e1b070a5e5149e89a2826c4028003');
INSERT INTO usertable.history VALUES (2, 0, 42, 42, 2, 1796185093480, '{41984,41985}', NULL, '\x28b52ffd6027001d0500d209201e6035d6019895fb7fa0636384202e214392040c9205f84d6a440b5c92e00acccc6c405c4938dfa191849411ab043de17bf4da328902b11fc6012c49940e73bbd1ce5a68bb224b37cd73d249e07997f155d7960f4e651ec773b10dca5c5c6c676a6b7a45205318e800fd7e974abb14c1b65888c00c7495161d1da9a34ddfd6020c007e182034073fd3da60ce671eab4ab85d0a0e14bca292d0355b4c88050007');
INSERT INTO usertable.history VALUES (2, 0, 43, 43, 1, 1796185094480, '{43008}', NULL, '\x28b52ffd20a5ed030092881b1a70c73ac02ed485d7c69b2c37d1ff274a1f553461f499f5ff33046badf5a64542abdaf679e33105bed83a2eef70cd0ee44ae55a57261c93b4e679c3ddc5d787760d6487f23a2eacddc25ca9e70910218c040e624343e13d4f2a628022e6a401b482546cf2d1cdcdc3b97a52950a0400514523ddc5c55cdc0238');

INSERT INTO usertable.history_since VALUES (1, 1796098653480);
INSERT INTO usertable.history_since VALUES (2, 1796098653480);

INSERT INTO usertable.identifier_value VALUES (1, 'phone', 'a', 10000001);
INSERT INTO usertable.identifier_value VALUES (1, 'phone', 'b', 10000002);
INSERT INTO usertable.identifier_value VALUES (2, 'phone', 'a', 10000001);
INSERT INTO usertable.identifier_value VALUES (2, 'jg_registration_id', '1a0018970a', 20000001);

INSERT INTO usertable.import_job VALUES (2, 'old job', 'done');

INSERT INTO usertable.migration VALUES (1, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (2, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (3, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (4, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (5, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (6, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (7, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (8, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (9, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (10, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (11, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (12, '2026-11-30 22:42:09.0042+00');
INSERT INTO usertable.migration VALUES (13, '2026-12-01 04:17:33.465162+00');
INSERT INTO usertable.migration VALUES (14, '2026-12-01 04:17:33.465162+00');

INSERT INTO usertable.person VALUES ('e448acb7febcbcca', 'ann@example.com', '{"email":"ann@example.com","created_at":1700000000010,"created_by":"cli:test","name":"Ann","password_hash":"$argon2id$v=19$m=19456,t=2,p=1$AY3ymp16q67qEqPK0SJ0aQ$e7OjZbVxEw/gsY/1dUKEgAdcfW2xS80qYQoW69gdH8o","admin":true}');
INSERT INTO usertable.person VALUES ('3ff5e3a64d933390', 'bo@example.com', '{"email":"bo@example.com","created_at":1700000000010,"created_by":"cli:test","name":"Bo","roles":{"2":"editor"}}');

INSERT INTO usertable.project VALUES (1, 'one', 2, '{"name":"one","secret_salt":"vSZrrYn0510jL+JLBZs9Ag==","secret_hash":"4nmjXmXQQXw58L/r0Xa0kqpdEKK/k89zSLXoeTDuMNU=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
INSERT INTO usertable.project VALUES (2, 'two', 5, '{"name":"two","secret_salt":"vSZrrYn0510jL+JLBZs9Ag==","secret_hash":"4nmjXmXQQXw58L/r0Xa0kqpdEKK/k89zSLXoeTDuMNU=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');

INSERT INTO usertable.project_key VALUES (1, 'default', '{"scopes":["write","register","import","read","schema","erase","undo","webhooks","keys"],"created_at":1796078529332,"created_by":"cli:test","proofs":[{"hash":"4nmjXmXQQXw58L/r0Xa0kqpdEKK/k89zSLXoeTDuMNU=","salt":"vSZrrYn0510jL+JLBZs9Ag=="}]}');
INSERT INTO usertable.project_key VALUES (2, 'default', '{"scopes":["write","register","import","read","schema","erase","undo","webhooks","keys"],"created_at":1796078529332,"created_by":"cli:test","proofs":[{"hash":"4nmjXmXQQXw58L/r0Xa0kqpdEKK/k89zSLXoeTDuMNU=","salt":"vSZrrYn0510jL+JLBZs9Ag=="}]}');
INSERT INTO usertable.project_key VALUES (2, 'billing', '{"scopes":["write"],"created_at":1700000000010,"created_by":"cli:test","proofs":[{"hash":"Nr8i9c0zS/oTAl4DALYTkBpALaToI+9EkMyQ2tNdmRs=","salt":"vSZrrYn0510jL+JLBZs9Ag=="}]}');
INSERT INTO usertable.project_key VALUES (2, 'old', '{"scopes":["read"],"created_at":1700000000010,"created_by":"cli:test","revoked_at":1700000000010,"revoked_by":"cli:test"}');

INSERT INTO usertable.receipt VALUES (1, 'key a 1', 10000001, '\x', '[2,{"user_string_overwrite":"applied","user_number_accumulate":"applied","user_list_append":"applied","user_bool_once":"applied","user_datetime_overwrite":"applied","user_number_overwrite":"applied"},null]', false, 1700000000000);
INSERT INTO usertable.receipt VALUES (1, 'key a 2', 10000001, '\x', '[3,{"user_number_accumulate":"applied","user_list_append":"applied"},{"user_bool_once":true,"user_list_append":["x","y","z"],"user_number_overwrite":12345678901234567890.0123456789,"user_string_overwrite":"a","user_number_accumulate":3.5,"user_datetime_overwrite":1709179200000}]', true, 1700000000010);
INSERT INTO usertable.receipt VALUES (2, 'key 1', 20000001, '\x', '[2,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]', false, 1796098654480);
INSERT INTO usertable.receipt VALUES (2, 'key 3', 20000001, '\x', '[4,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]', false, 1796098656480);
INSERT INTO usertable.receipt VALUES (2, 'key 5', 20000001, '\x', '[6,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]', false, 1796098658480);
INSERT INTO usertable.receipt VALUES (2, 'key 7', 20000001, '\x', '[8,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]', false, 1796098660480);
INSERT INTO usertable.receipt VALUES (2, 'key 9', 20000001, '\x', '[10,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796098662480);
INSERT INTO usertable.receipt VALUES (2, 'key 11', 20000001, '\x', '[12,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796098664480);
INSERT INTO usertable.receipt VALUES (2, 'key 13', 20000001, '\x', '[14,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796098666480);
INSERT INTO usertable.receipt VALUES (2, 'key 15', 20000001, '\x', '[16,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796098668480);
INSERT INTO usertable.receipt VALUES (2, 'key 17', 20000001, '\x', '[18,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796098670480);
INSERT INTO usertable.receipt VALUES (2, 'key 19', 20000001, '\x', '[20,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796098672480);
INSERT INTO usertable.receipt VALUES (2, 'key 21', 20000001, '\x', '[22,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185074480);
INSERT INTO usertable.receipt VALUES (2, 'key 23', 20000001, '\x', '[24,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185076480);
INSERT INTO usertable.receipt VALUES (2, 'key 25', 20000001, '\x', '[26,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185078480);
INSERT INTO usertable.receipt VALUES (2, 'key 27', 20000001, '\x', '[28,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185080480);
INSERT INTO usertable.receipt VALUES (2, 'key 29', 20000001, '\x', '[30,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185082480);
INSERT INTO usertable.receipt VALUES (2, 'key 31', 20000001, '\x', '[32,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185084480);
INSERT INTO usertable.receipt VALUES (2, 'key 33', 20000001, '\x', '[34,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185086480);
INSERT INTO usertable.receipt VALUES (2, 'key 35', 20000001, '\x', '[36,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185088480);
INSERT INTO usertable.receipt VALUES (2, 'key 37', 20000001, '\x', '[38,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185090480);
INSERT INTO usertable.receipt VALUES (2, 'key 39', 20000001, '\x', '[40,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]', false, 1796185092480);

INSERT INTO usertable.reported VALUES (1, 'user_bool_once');
INSERT INTO usertable.reported VALUES (1, 'user_datetime_overwrite');
INSERT INTO usertable.reported VALUES (1, 'user_list_append');
INSERT INTO usertable.reported VALUES (1, 'user_number_accumulate');
INSERT INTO usertable.reported VALUES (1, 'user_number_overwrite');
INSERT INTO usertable.reported VALUES (1, 'user_string_overwrite');
INSERT INTO usertable.reported VALUES (1, 'user_string_once');
INSERT INTO usertable.reported VALUES (2, 'user_number_accumulate');
INSERT INTO usertable.reported VALUES (2, 'user_string_overwrite');
INSERT INTO usertable.reported VALUES (2, 'user_list_append');
INSERT INTO usertable.reported VALUES (2, 'user_number_overwrite');

INSERT INTO usertable.user_identifier VALUES (1, 10000001, 'phone', 'a');
INSERT INTO usertable.user_identifier VALUES (1, 10000002, 'phone', 'b');
INSERT INTO usertable.user_identifier VALUES (2, 10000001, 'phone', 'a');
INSERT INTO usertable.user_identifier VALUES (2, 20000001, 'jg_registration_id', '1a0018970a');

INSERT INTO usertable.users VALUES (1, 10000002, 2, 1700000000000, 1700000000000, '{"user_string_once": "b"}', '{"": 1700000000000}', 0, '');
INSERT INTO usertable.users VALUES (2, 10000001, 2, 1700000000000, 1700000000000, '{"user_string_overwrite": "a", "user_number_accumulate": 1}', '{"": 1700000000000}', 0, '');
INSERT INTO usertable.users VALUES (1, 10000001, 3, 1700000000000, 1700000000010, '{"user_bool_once": true, "user_list_append": ["x", "y", "z"], "user_number_overwrite": 12345678901234567890.0123456789, "user_string_overwrite": "a", "user_number_accumulate": 3.5, "user_datetime_overwrite": 1709179200000}', '{"": 1700000000000, "user_list_append": 1700000000010, "user_number_accumulate": 1700000000010}', 0, '');
INSERT INTO usertable.users VALUES (2, 20000002, 41, 1796098653480, 1796185093480, '{"user_number_overwrite": 4}', '{"": 1796098654480, "user_number_overwrite": 1796185093480}', 43009, 'key:default');
INSERT INTO usertable.users VALUES (2, 20000001, 42, 1796098653480, 1796185094480, '{"user_list_append": ["1", "2", "3", "4", "5", "6", "0"], "user_string_overwrite": "imported", "user_number_accumulate": 820}', '{"": 1796098654480, "user_list_append": 1796098660480, "user_string_overwrite": 1796185094480, "user_number_accumulate": 1796185093480}', 44032, '');

SELECT pg_catalog.setval('usertable.arrival_number', 1, false);

SELECT pg_catalog.setval('usertable.history_block', 43, true);

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

CREATE INDEX receipt_at ON usertable.receipt USING btree (at);

CREATE INDEX receipt_personal ON usertable.receipt USING btree (project, cuid) WHERE personal;
