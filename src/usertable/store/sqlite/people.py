"""People and their sessions; see :class:`usertable.store.protocol.SigningIn`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import apsw

from usertable.domain.person import Person, Session, email_key
from usertable.store.encoding import decode_person, encode_person
from usertable.store.queries import load_queries

_SQL = load_queries("usertable.store.sqlite", "people.sql")


def people(db: apsw.Connection) -> list[Person]:
    return _decoded(db.execute(_SQL["people"]))


def person(db: apsw.Connection, id: str) -> Person | None:
    return next(iter(_decoded(db.execute(_SQL["person"], {"id": id}))), None)


def person_by_email(db: apsw.Connection, email: str) -> Person | None:
    return next(iter(_decoded(db.execute(_SQL["person_by_email"], {"email": email_key(email)}))), None)


def keep_person(db: apsw.Connection, person: Person) -> None:
    row = {"id": person.id, "email": email_key(person.email), "document": encode_person(person)}
    db.execute(_SQL["keep_person"], row)


def remove_person(db: apsw.Connection, id: str) -> None:
    db.execute(_SQL["remove_person"], {"id": id})


def session(db: apsw.Connection, digest: bytes) -> tuple[Session, Person | None] | None:
    found = db.execute(_SQL["session"], {"digest": digest}).fetchone()
    if found is None:
        return None
    *row, document = found
    session = Session(*row)
    return session, decode_person(session.person, document) if document is not None else None


def sessions(db: apsw.Connection, person: str) -> list[Session]:
    return [Session(*row) for row in db.execute(_SQL["sessions"], {"person": person})]


def add_session(db: apsw.Connection, s: Session) -> None:
    db.execute(_SQL["add_session"], (s.digest, s.person, s.begun, s.seen, s.expires, s.address, s.browser, s.proof))


def renew_session(db: apsw.Connection, session: Session) -> None:
    db.execute(_SQL["renew_session"], {"digest": session.digest, "seen": session.seen, "expires": session.expires})


def end_session(db: apsw.Connection, digest: bytes) -> None:
    db.execute("DELETE FROM console_session WHERE digest = ?", (digest,))


def end_sessions(db: apsw.Connection, person: str, but: bytes) -> int:
    db.execute(_SQL["end_sessions"], {"person": person, "but": but})
    return db.changes()


def see_sessions(db: apsw.Connection, seen: Mapping[bytes, int]) -> None:
    db.executemany(_SQL["see_session"], [{"digest": digest, "seen": at} for digest, at in seen.items()])


def keep_newest_sessions(db: apsw.Connection, person: str, count: int) -> None:
    db.execute(_SQL["keep_newest_sessions"], {"person": person, "count": count})


def expire_sessions(db: apsw.Connection, before: int, limit: int) -> int:
    db.execute(_SQL["expire_sessions"], {"before": before, "limit": limit})
    return db.changes()


def _decoded(rows: Iterable[tuple[str, str]]) -> list[Person]:
    return [decode_person(id, document) for id, document in rows]
