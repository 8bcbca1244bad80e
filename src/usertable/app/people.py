"""People who may use the console: their roles, their passwords, and the links for setting a password."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from usertable.app.passwords import hash_password, is_outdated, is_password
from usertable.app.use_cases import UseCases
from usertable.commands import people
from usertable.commands.people import Recording
from usertable.domain.actor import Actor, ActorKind
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditKind
from usertable.domain.errors import ProblemKind, check_all, refusal
from usertable.domain.permissions import Role
from usertable.domain.person import PasswordLink, Person, Session, checked_email, checked_name
from usertable.store.transaction import Transaction

LINK_HOURS = 72
"""Hours for which an invitation or a password link is valid."""
PASSWORD_PATH = "/console/password"
"""Path of the console page on which a person sets a password by a link."""
PROJECT_ROLES = (Role.OWNER, Role.EDITOR, Role.VIEWER)
"""The roles that a person can have in a project, the one with the most scopes first."""
EXPIRED_AT_ONCE = 500
"""Maximum number of expired sessions that one transaction deletes."""
_MAX_BROWSER = 400
"""Maximum number of characters kept of a browser's user agent."""


class People(UseCases):
    """Use cases about people. E-mail addresses are compared without regard to case."""

    def people(self) -> list[Person]:
        """Return all people, ordered by e-mail address."""
        return self._store.people()

    def person(self, email: str) -> Person:
        """Return the person with that e-mail address. Raises Refused if there is none."""
        if found := self.find_person(email):
            return found
        raise refusal(ProblemKind.PERSON_UNKNOWN, email=email)

    def person_with_id(self, id: str) -> Person:
        """Return the person with that id. Raises Refused if there is none."""
        if found := self._store.person(id):
            return found
        raise refusal(ProblemKind.PERSON_UNKNOWN, email=id)

    def find_person(self, email: str) -> Person | None:
        return self._store.person_by_email(email)

    def add_person(
        self,
        email: str,
        *,
        name: str = "",
        admin: bool = False,
        roles: Mapping[str, str] | None = None,
        password: str | None = None,
        as_first: bool = False,
        actor: Actor,
    ) -> Person:
        """Add a person, and return them. Without a password, they can sign in once they have set one by a link.

        See :meth:`make_password_link` for the link.

        Args:
            roles: role by project id.
            as_first: raise Refused if anybody is already registered.
        """
        numbers = self._checked_roles(roles or {})
        check_all(lambda: checked_email(email), lambda: checked_name(name))
        person = Person(
            id=secrets.token_hex(8),
            email=checked_email(email),
            name=checked_name(name),
            password_hash="" if password is None else hash_password(password),
            admin=admin,
            roles={number: role for number, role in numbers.items() if role},
            created_at=self._clock(),
            created_by=str(actor),
        )
        recording = self._recording(actor)
        return self._store.transact(lambda tx: people.add(tx, person, recording, as_first=as_first))

    def edit_person(
        self,
        email: str,
        *,
        name: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        roles: Mapping[str, str | None] | None = None,
        actor: Actor,
    ) -> Person:
        """Change a person. A parameter that is None leaves its field unchanged.

        Disabling a person ends all their sessions within a second.

        Args:
            roles: the roles to change, by project id; None removes the role.
        """
        if name is not None:
            name = checked_name(name)
        numbers = self._checked_roles(roles or {})

        def edited(person: Person) -> Person:
            kept = {number: role for number, role in ({**person.roles, **numbers}).items() if role}
            return replace(
                person,
                name=person.name if name is None else name,
                admin=person.admin if admin is None else admin,
                disabled=person.disabled if disabled is None else disabled,
                roles=kept,
            )

        id, recording = self.person(email).id, self._recording(actor)
        return self._store.transact(lambda tx: people.edit(tx, id, edited, recording))

    def remove_person(self, email: str, *, actor: Actor) -> Person:
        """Remove a person permanently and end their sessions. Their entries stay in the audit log."""
        id, recording = self.person(email).id, self._recording(actor)
        return self._store.transact(lambda tx: people.remove(tx, id, recording))

    # passwords

    def make_password_link(self, email: str, *, secret: str | None = None, actor: Actor) -> tuple[Person, str]:
        """Return the person and the token of a link for setting a password.

        The link works once, within :data:`LINK_HOURS`, and replaces the previous one. For a person without a password it is
        an invitation.

        Args:
            secret: at least 128 random bits that only the caller knows; None to generate it.
        """
        id, recording = self.person(email).id, self._recording(actor)
        secret = secret or secrets.token_urlsafe(24)
        link = PasswordLink(_digest(secret), self._clock() + LINK_HOURS * 3_600_000)
        kind = AuditKind.MAKE_PASSWORD_LINK
        person = self._store.transact(
            lambda tx: people.edit(tx, id, lambda found: replace(found, link=link), recording, kind)
        )
        return person, f"{id}.{secret}"

    def person_of_link(self, sent: str) -> Person:
        """Return the person that a valid link is for. Raises Refused if the link is not valid."""
        id, _, secret = sent.partition(".")
        person = self._store.person(id)
        if person is None or not self._holds(person, secret):
            raise refusal(ProblemKind.LINK_OVER)
        return person

    def set_password_by_link(self, sent: str, password: str, *, name: str | None = None, caller: Actor) -> Person:
        """Set a person's password by a link, which is then used up, and end all their sessions. Takes 30 ms of CPU.

        Args:
            name: the person's new name; None to leave it unchanged.
            caller: the request, for the audit log.
        """
        person = self.person_of_link(sent)
        hashed = hash_password(password)
        if name is not None:
            name = checked_name(name)
        secret = sent.partition(".")[2]

        def edited(found: Person) -> Person:
            if not self._holds(found, secret):
                raise refusal(ProblemKind.LINK_OVER)
            return replace(found, password_hash=hashed, link=None, name=found.name if name is None else name)

        return self._set_password(person, edited, caller)

    def change_password(self, id: str, old: str, new: str, *, but: bytes = b"", caller: Actor) -> Person:
        """Change a person's password, given the old one, and end all sessions except one. Takes 60 ms of CPU."""
        person = self._store.person(id)
        if person is None or not is_password(person.password_hash, old):
            raise refusal(ProblemKind.PASSWORD_WRONG)
        hashed = hash_password(new)

        def edited(found: Person) -> Person:
            if found.password_hash != person.password_hash:
                raise refusal(ProblemKind.PASSWORD_WRONG)
            return replace(found, password_hash=hashed, link=None)

        return self._set_password(person, edited, caller, but=but)

    def _set_password(
        self, person: Person, edited: Callable[[Person], Person], caller: Actor, *, but: bytes = b""
    ) -> Person:
        recording = self._recording(replace(caller, kind=ActorKind.PERSON, name=person.email))
        kind = AuditKind.SET_PASSWORD
        return self._store.transact(
            lambda tx: people.edit(tx, person.id, edited, recording, kind, ends_sessions=True, but=but)
        )

    def _holds(self, person: Person, secret: str) -> bool:
        link = person.link
        if link is None or person.disabled or link.expires <= self._clock():
            return False
        return hmac.compare_digest(link.digest, _digest(secret))

    # sessions

    def find_session(self, token: str) -> tuple[Session, Person | None] | None:
        """Return the session of a browser's token and its person, who is None for the admin token. Fast.

        Returns None if the session was ended or has expired, or if the person may no longer sign in.
        """
        found = self._store.session(_digest(token))
        if found is None:
            return None
        session, person = found
        if session.expires <= self._clock() or (session.person and (person is None or person.disabled)):
            return None
        return session, person

    def begin_session(
        self, person: Person, *, seconds: int, browser: str, caller: Actor, password: str | None = None
    ) -> str | None:
        """Begin a session for a person who has been authenticated, and return the token for their browser.

        Returns None if the person may no longer sign in.

        Args:
            seconds: how long the session lasts without a request.
            browser: the browser's user agent.
            caller: the request and its network address, for the audit log.
            password: the password that authenticated them, which must still be theirs; None if it was another method.
        """
        token, session = self._new_session(person.id, seconds, browser, caller)
        proven = None if password is None else person.password_hash
        new_hash = hash_password(password) if password is not None and is_outdated(person.password_hash) else None
        begun = self._store.transact(lambda tx: people.begin_session(tx, session, caller, proven, new_hash))
        return token if begun else None

    def begin_token_session(self, prove: Callable[[str], bytes], *, seconds: int, browser: str, caller: Actor) -> str:
        """Begin a session of the admin token, which belongs to no person, and return the token for the browser.

        Args:
            prove: returns the session's `proof` for the browser's token.
        """
        token, session = self._new_session("", seconds, browser, caller)
        session = replace(session, proof=prove(token))
        self._store.transact(lambda tx: people.begin_token_session(tx, session, caller))
        return token

    def renew_session(self, session: Session, seconds: int) -> None:
        """Extend a session to `seconds` from now, unless it has been ended."""
        now = self._clock()
        renewed = replace(session, seen=now, expires=now + seconds * 1000)
        self._store.transact(lambda tx: tx.renew_session(renewed))

    def sessions(self, person: Person) -> list[Session]:
        """Return a person's sessions that have not expired, newest first."""
        return [session for session in self._store.sessions(person.id) if session.expires > self._clock()]

    def sign_out(self, session: Session, actor: Actor) -> None:
        """End a session at the request of its browser. It ends at once, on every worker and host."""
        now = self._clock()

        def command(tx: Transaction) -> None:
            tx.end_session(session.digest)
            tx.record(INSTALLATION, actor, [AuditEvent(AuditKind.SIGN_OUT, actor.name or str(actor))], now)

        self._store.transact(command)

    def end_session(self, person: Person, session: Session, *, actor: Actor) -> None:
        """End one session of a person. It ends at once, on every worker and host."""
        recording = self._recording(actor)
        self._store.transact(lambda tx: people.end_sessions(tx, person, recording, one=session.digest))

    def end_sessions(self, person: Person, *, but: bytes = b"", actor: Actor) -> int:
        """End all sessions of a person, except the one with the digest `but`, and return how many were ended."""
        recording = self._recording(actor)
        return self._store.transact(lambda tx: people.end_sessions(tx, person, recording, but=but))

    def see_sessions(self, seen: Mapping[bytes, int]) -> None:
        """Store when sessions were last used (milliseconds since 1970-01-01 UTC), by digest."""
        self._store.see_sessions(seen)

    def expire_sessions(self) -> int:
        """Delete up to :data:`EXPIRED_AT_ONCE` expired sessions. Return how many."""
        return self._store.expire_sessions(self._clock(), EXPIRED_AT_ONCE)

    def _new_session(self, person: str, seconds: int, browser: str, caller: Actor) -> tuple[str, Session]:
        token = secrets.token_urlsafe(32)
        now = self._clock()
        shown = "".join(c for c in browser[:_MAX_BROWSER] if c.isprintable())
        return token, Session(_digest(token), person, now, now, now + seconds * 1000, caller.address, shown)

    def _recording(self, actor: Actor) -> Recording:
        projects = {project.number: project.id for project in self._store.projects()}
        return Recording(actor, projects, self._clock())

    def _checked_roles(self, roles: Mapping[str, str | None]) -> dict[int, Role | None]:
        """Return roles by project number. Raises Refused for an unknown project or role."""
        for role in roles.values():
            if role is not None and role not in PROJECT_ROLES:
                raise refusal(ProblemKind.ROLE, value=role, legal=tuple(PROJECT_ROLES))
        return {self.project(id).number: None if role is None else Role(role) for id, role in roles.items()}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
