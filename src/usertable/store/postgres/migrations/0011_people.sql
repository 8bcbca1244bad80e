-- Who signs in to the console. `email` is the address as `email_key` in `domain/person.py` makes it, and the document has it as
-- it was typed, with all else. On Citus both tables stay on the coordinator.
CREATE TABLE usertable.person (
  id       text COLLATE "C" PRIMARY KEY,
  email    text COLLATE "C" NOT NULL UNIQUE,
  document text NOT NULL
);

-- Browsers that are signed in, by the SHA-256 of their token. Those of the admin token have an empty person.
CREATE TABLE usertable.console_session (
  digest  bytea PRIMARY KEY,
  person  text COLLATE "C" NOT NULL,
  begun   bigint NOT NULL,
  seen    bigint NOT NULL,
  expires bigint NOT NULL,
  address text NOT NULL,
  browser text NOT NULL,
  proof   bytea NOT NULL
);
CREATE INDEX console_session_by_person ON usertable.console_session (person);
