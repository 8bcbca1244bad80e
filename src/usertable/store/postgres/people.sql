-- Statements of people.py.

-- name: people
SELECT id, document FROM usertable.person ORDER BY email;

-- name: person
SELECT id, document FROM usertable.person WHERE id = %(id)s;

-- name: person_by_email
SELECT id, document FROM usertable.person WHERE email = %(email)s;

-- name: keep_person
INSERT INTO usertable.person (id, email, document) VALUES (%(id)s, %(email)s, %(document)s)
ON CONFLICT (id) DO UPDATE SET email = excluded.email, document = excluded.document;

-- name: remove_person
DELETE FROM usertable.person WHERE id = %(id)s;

-- name: session
-- With its person, if it has one.
SELECT s.digest, s.person, s.begun, s.seen, s.expires, s.address, s.browser, s.proof, p.document
FROM usertable.console_session s LEFT JOIN usertable.person p ON p.id = s.person
WHERE s.digest = %(digest)s;

-- name: sessions
SELECT digest, person, begun, seen, expires, address, browser, proof FROM usertable.console_session
WHERE person = %(person)s ORDER BY begun DESC, digest;

-- name: add_session
INSERT INTO usertable.console_session (digest, person, begun, seen, expires, address, browser, proof)
VALUES (%(digest)s, %(person)s, %(begun)s, %(seen)s, %(expires)s, %(address)s, %(browser)s, %(proof)s);

-- name: renew_session
-- Unless it has been ended.
UPDATE usertable.console_session SET seen = %(seen)s, expires = %(expires)s WHERE digest = %(digest)s;

-- name: end_sessions
DELETE FROM usertable.console_session WHERE person = %(person)s AND digest <> %(but)s;

-- name: keep_newest_sessions
DELETE FROM usertable.console_session WHERE digest IN (
  SELECT digest FROM usertable.console_session WHERE person = %(person)s ORDER BY seen DESC, digest OFFSET %(count)s
);

-- name: expire_sessions
-- Those that another server is deleting, or extending, are left out.
DELETE FROM usertable.console_session WHERE digest IN (
  SELECT digest FROM usertable.console_session WHERE expires < %(before)s LIMIT %(limit)s FOR UPDATE SKIP LOCKED
);

-- name: see_session
UPDATE usertable.console_session SET seen = %(seen)s WHERE digest = %(digest)s AND seen < %(seen)s;
