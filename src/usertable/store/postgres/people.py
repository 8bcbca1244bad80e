"""People and their sessions; see :class:`usertable.store.protocol.SigningIn`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from usertable.domain.person import Person, Session, email_key
from usertable.store.encoding import decode_person, encode_person
from usertable.store.postgres.connection import Connection
from usertable.store.queries import load_queries
from usertable.store.tables import Row

_SQL = load_queries("usertable.store.postgres", "people.sql")


def people(db: Connection) -> list[Person]:
    return _decoded(db.execute(_SQL["people"]))


def person(db: Connection, id: str) -> Person | None:
    return _found(db, "person", "id", id)


def person_by_email(db: Connection, email: str) -> Person | None:
    return _found(db, "person_by_email", "email", email_key(email))


def keep_person(db: Connection, person: Person) -> None:
    row = {"id": person.id, "email": email_key(person.email), "document": encode_person(person)}
    db.execute(_SQL["keep_person"], row)


def remove_person(db: Connection, id: str) -> None:
    db.execute("DELETE FROM usertable.person WHERE id = %s", (id,))
    end_sessions(db, id, b"")


def session(db: Connection, digest: bytes) -> tuple[Session, Person | None] | None:
    found = db.execute(_SQL["session"], {"digest": digest}).fetchone()
    if found is None:
        return None
    *row, document = found
    session = Session(*row)
    return session, decode_person(session.person, document) if document is not None else None


def sessions(db: Connection, person: str) -> list[Session]:
    return [Session(*row) for row in db.execute(_SQL["sessions"], {"person": person})]


def add_session(db: Connection, session: Session) -> None:
    row = {name: getattr(session, name) for name in Session.__slots__}
    db.execute(_SQL["add_session"], row)


def renew_session(db: Connection, session: Session) -> None:
    db.execute(_SQL["renew_session"], {"digest": session.digest, "seen": session.seen, "expires": session.expires})


def end_session(db: Connection, digest: bytes) -> None:
    db.execute("DELETE FROM usertable.console_session WHERE digest = %s", (digest,))


def end_sessions(db: Connection, person: str, but: bytes) -> int:
    return db.execute(_SQL["end_sessions"], {"person": person, "but": but}).rowcount


def see_sessions(db: Connection, seen: Mapping[bytes, int]) -> None:
    if seen:
        with db.cursor() as cursor:
            # In the same order everywhere, so that two servers do not deadlock.
            cursor.executemany(_SQL["see_session"], [{"digest": digest, "seen": at} for digest, at in sorted(seen.items())])


def keep_newest_sessions(db: Connection, person: str, count: int) -> None:
    db.execute(_SQL["keep_newest_sessions"], {"person": person, "count": count})


def expire_sessions(db: Connection, before: int, limit: int) -> int:
    return db.execute(_SQL["expire_sessions"], {"before": before, "limit": limit}).rowcount


def _found(db: Connection, query: str, name: str, value: str) -> Person | None:
    # PostgreSQL cannot store a text with NUL.
    if "\0" in value:
        return None
    return next(iter(_decoded(db.execute(_SQL[query], {name: value}))), None)


def _decoded(rows: Iterable[Row]) -> list[Person]:
    return [decode_person(id, document) for id, document in rows]
