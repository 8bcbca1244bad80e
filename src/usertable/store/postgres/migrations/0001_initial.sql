-- Texts are compared byte by byte (COLLATE "C"): `Alice` and `alice` are two values, and so are all forms of an accent.
-- No sequences and no foreign keys: numbers are given under a lock, and all tables can be distributed.

-- A number that grows with every change of any project: what a running server polls.
CREATE TABLE usertable.epoch (value bigint NOT NULL);
INSERT INTO usertable.epoch VALUES (0);

CREATE TABLE usertable.project (
  number   bigint PRIMARY KEY,
  id       text COLLATE "C" NOT NULL UNIQUE,
  version  bigint NOT NULL,
  document text NOT NULL
);

-- Locked by whoever makes users, so that a project's CUIDs are given one after the other.
CREATE TABLE usertable.cuid_counter (
  project   bigint PRIMARY KEY,
  next_cuid bigint NOT NULL
);

CREATE TABLE usertable.reported (
  project   bigint NOT NULL,
  attribute text COLLATE "C" NOT NULL,
  PRIMARY KEY (project, attribute)
);

CREATE TABLE usertable.schema_change (
  project bigint NOT NULL,
  number  bigint NOT NULL,
  at      bigint NOT NULL,
  who     text NOT NULL,
  what    text NOT NULL,
  PRIMARY KEY (project, number)
);

-- A fifth of each page stays free, so that new versions of a row stand beside the old one and no index is touched (HOT).
CREATE TABLE usertable.users (
  project    bigint NOT NULL,
  cuid       bigint NOT NULL,
  version    bigint NOT NULL,
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL,
  attributes jsonb NOT NULL,
  PRIMARY KEY (project, cuid)
) WITH (fillfactor = 80);

CREATE TABLE usertable.identifier_value (
  project    bigint NOT NULL,
  identifier text COLLATE "C" NOT NULL,
  value      text COLLATE "C" NOT NULL,
  cuid       bigint NOT NULL,
  PRIMARY KEY (project, identifier, value)
);

-- The same by user: where users are distributed, the values of a user stand beside the user.
CREATE TABLE usertable.user_identifier (
  project    bigint NOT NULL,
  cuid       bigint NOT NULL,
  identifier text COLLATE "C" NOT NULL,
  value      text COLLATE "C" NOT NULL,
  PRIMARY KEY (project, cuid, identifier, value)
);

-- CUIDs of erased users, which are never given again.
CREATE TABLE usertable.erased (
  project bigint NOT NULL,
  cuid    bigint NOT NULL,
  PRIMARY KEY (project, cuid)
);

CREATE TABLE usertable.receipt (
  project     bigint NOT NULL,
  key         text COLLATE "C" NOT NULL,
  cuid        bigint NOT NULL,
  fingerprint bytea NOT NULL,
  written     text NOT NULL,
  personal    boolean NOT NULL,
  at          bigint NOT NULL,
  CONSTRAINT receipt_pkey PRIMARY KEY (project, key)
);
CREATE INDEX receipt_personal ON usertable.receipt (project, cuid) WHERE personal;
CREATE INDEX receipt_at ON usertable.receipt (at);
