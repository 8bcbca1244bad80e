"""Adding, editing and removing people, and their sign-ins, with entries in the audit log.

Rules that concern all people are checked in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from usertable.domain.actor import Actor, ActorKind
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditKind, Fact
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.person import Person, Session, email_key
from usertable.store.transaction import Transaction

MAX_SESSIONS = 100
"""Maximum number of sessions of a person, and of the admin token: one more ends the one that was used least recently."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The actor, and what the audit log needs for the entry.

    Args:
        projects: the IDs of projects by number.
        now: ms since 1970 UTC.
    """

    actor: Actor
    projects: Mapping[int, str]
    now: int


def add(transaction: Transaction, person: Person, recording: Recording, *, as_first: bool = False) -> Person:
    """Store a new person.

    Args:
        as_first: refuse if there are people already.

    Raises:
        Refused: another person has the email address; or `as_first` is set and there are people.
    """
    people = transaction.people()
    if as_first and people:
        raise refusal(ProblemKind.NOT_FIRST)
    _check_free(person, people.values())
    transaction.keep_person(person)
    _record(transaction, AuditKind.CREATE_PERSON, None, person, recording)
    return person


def edit(
    transaction: Transaction,
    id: str,
    edited: Callable[[Person], Person],
    recording: Recording,
    kind: AuditKind = AuditKind.EDIT_PERSON,
    *,
    ends_sessions: bool = False,
    but: bytes = b"",
) -> Person:
    """Replace a person by `edited(person)`. A disabled person is signed out everywhere.

    Args:
        ends_sessions: end all of the person's sessions.
        but: the digest of the session to keep.

    Raises:
        Refused: there is no such person; another one has the email address; no admin would be left who can sign in.
    """
    people = transaction.people()
    before = people.get(id)
    if before is None:
        raise refusal(ProblemKind.PERSON_UNKNOWN, email=id)
    after = edited(before)
    if after != before:
        others = [person for person in people.values() if person.id != id]
        _check_free(after, others)
        _check_admins(people.values(), [*others, after])
        transaction.keep_person(after)
        if after.disabled or ends_sessions:
            transaction.end_sessions(id, but=but)
        _record(transaction, kind, before, after, recording)
    return after


def remove(transaction: Transaction, id: str, recording: Recording) -> Person:
    """Remove a person, and end their sessions. Raises Refused like :func:`edit`."""
    people = transaction.people()
    before = people.get(id)
    if before is None:
        raise refusal(ProblemKind.PERSON_UNKNOWN, email=id)
    _check_admins(people.values(), [person for person in people.values() if person.id != id])
    transaction.remove_person(id)
    _record(transaction, AuditKind.REMOVE_PERSON, before, None, recording)
    return before


def begin_session(
    transaction: Transaction, session: Session, caller: Actor, proven: str | None = None, new_hash: str | None = None
) -> Person | None:
    """Store a person's new session and the sign-in. Return the person, or None if they may not sign in.

    Args:
        caller: the request of the sign-in.
        proven: the hash that the password was verified against; None if they signed in another way.
        new_hash: replaces that hash.
    """
    person = transaction.people().get(session.person)
    if person is None or person.disabled or proven not in (None, person.password_hash):
        return None
    person = replace(
        person,
        password_hash=person.password_hash if new_hash is None else new_hash,
        last_sign_in=session.begun,
        last_address=session.address,
    )
    transaction.keep_person(person)
    _add_session(transaction, session)
    actor = replace(caller, kind=ActorKind.PERSON, name=person.email)
    transaction.record(INSTALLATION, actor, [AuditEvent(AuditKind.SIGN_IN, person.email)], session.begun)
    return person


def begin_token_session(transaction: Transaction, session: Session, caller: Actor) -> None:
    """Store a new session of the admin token."""
    _add_session(transaction, session)
    actor = replace(caller, kind=ActorKind.ADMIN_TOKEN, name="")
    transaction.record(INSTALLATION, actor, [AuditEvent(AuditKind.SIGN_IN, str(actor))], session.begun)


def _add_session(transaction: Transaction, session: Session) -> None:
    transaction.keep_newest_sessions(session.person, MAX_SESSIONS - 1)
    transaction.add_session(session)


def end_sessions(
    transaction: Transaction, person: Person, recording: Recording, *, one: bytes = b"", but: bytes = b""
) -> int:
    """End sessions of a person and record it. Return how many were ended.

    Args:
        one: the digest of the only session to end; empty for all.
        but: the digest of a session to keep.
    """
    if one:
        transaction.end_session(one)
        ended = 1
    else:
        ended = transaction.end_sessions(person.id, but=but)
    if not ended:
        return 0
    event = AuditEvent(AuditKind.END_SESSIONS, person.email, after={"count": ended})
    transaction.record(INSTALLATION, recording.actor, [event], recording.now)
    return ended


def _record(
    transaction: Transaction, kind: AuditKind, before: Person | None, after: Person | None, recording: Recording
) -> None:
    """Record a change of a person in the installation's log, and in the log of each project where their role changes."""
    person = after or before
    assert person is not None
    old, new = (_facts(each, recording.projects) if each else {} for each in (before, after))
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    roles = [each.roles if each else {} for each in (before, after)]
    for project in sorted(roles[0].keys() | roles[1].keys()):
        then, now = (each.get(project) for each in roles)
        if then != now:
            member = AuditEvent(
                AuditKind.EDIT_MEMBER,
                person.email,
                {"role": str(then)} if then else {},
                {"role": str(now)} if now else {},
            )
            transaction.record(project, recording.actor, [member], recording.now)
    event = AuditEvent(
        kind,
        person.email,
        {name: value for name, value in old.items() if name in changed},
        {name: value for name, value in new.items() if name in changed},
    )
    transaction.record(INSTALLATION, recording.actor, [event], recording.now)


def _facts(person: Person, projects: Mapping[int, str]) -> dict[str, Fact]:
    """Return what the audit log shows of a person: `{"admin": False, "roles": ["100102=owner"], …}`."""
    account: dict[str, Fact] = {"openid": str(person.openid)} if person.openid else {}
    return {
        "name": person.name,
        "admin": person.admin,
        "disabled": person.disabled,
        "roles": sorted(f"{projects.get(number, number)}={role}" for number, role in person.roles.items()),
        **account,
    }


def _check_free(person: Person, others: Iterable[Person]) -> None:
    if any(email_key(other.email) == email_key(person.email) for other in others):
        raise refusal(ProblemKind.PERSON_EXISTS, email=person.email)


def _check_admins(before: Iterable[Person], after: Iterable[Person]) -> None:
    if any(map(_is_active_admin, before)) and not any(map(_is_active_admin, after)):
        raise refusal(ProblemKind.LAST_ADMIN)


def _is_active_admin(person: Person) -> bool:
    return person.admin and person.can_sign_in
