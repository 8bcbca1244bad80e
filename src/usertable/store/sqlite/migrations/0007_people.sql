-- Who signs in to the console. `email` is the address as `email_key` in `domain/person.py` makes it, and the document has it as
-- it was typed, with all else.
CREATE TABLE person (
  id       TEXT PRIMARY KEY,
  email    TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Browsers that are signed in, by the SHA-256 of their token. Those of the admin token have an empty person.
CREATE TABLE console_session (
  digest  BLOB PRIMARY KEY,
  person  TEXT NOT NULL,
  begun   INTEGER NOT NULL,
  seen    INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  address TEXT NOT NULL,
  browser TEXT NOT NULL,
  proof   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX console_session_by_person ON console_session (person);
