-- Statements of people.py.

-- name: people
SELECT id, document FROM person ORDER BY email;

-- name: person
SELECT id, document FROM person WHERE id = :id;

-- name: person_by_email
SELECT id, document FROM person WHERE email = :email;

-- name: keep_person
INSERT INTO person (id, email, document) VALUES (:id, :email, :document)
ON CONFLICT (id) DO UPDATE SET email = excluded.email, document = excluded.document;

-- name: remove_person
DELETE FROM person WHERE id = :id;
DELETE FROM console_session WHERE person = :id;

-- name: session
-- With its person, if it has one.
SELECT s.digest, s.person, s.begun, s.seen, s.expires, s.address, s.browser, s.proof, p.document
FROM console_session s LEFT JOIN person p ON p.id = s.person
WHERE s.digest = :digest;

-- name: sessions
SELECT digest, person, begun, seen, expires, address, browser, proof FROM console_session
WHERE person = :person ORDER BY begun DESC, digest;

-- name: add_session
INSERT INTO console_session (digest, person, begun, seen, expires, address, browser, proof)
VALUES (:digest, :person, :begun, :seen, :expires, :address, :browser, :proof);

-- name: renew_session
-- Unless it has been ended.
UPDATE console_session SET seen = :seen, expires = :expires WHERE digest = :digest;

-- name: end_sessions
DELETE FROM console_session WHERE person = :person AND digest <> :but;

-- name: keep_newest_sessions
DELETE FROM console_session WHERE digest IN (
  SELECT digest FROM console_session WHERE person = :person ORDER BY seen DESC, digest LIMIT -1 OFFSET :count
);

-- name: expire_sessions
DELETE FROM console_session WHERE digest IN (SELECT digest FROM console_session WHERE expires < :before LIMIT :limit);

-- name: see_session
UPDATE console_session SET seen = :seen WHERE digest = :digest AND seen < :seen;
