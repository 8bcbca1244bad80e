"""Users: register (Get CUID), add, read, list, erase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from usertable.app.use_cases import UseCases
from usertable.commands import users
from usertable.domain.actor import Actor
from usertable.domain.condition import Condition
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.domain.identity import is_cuid, is_identifier_value, malformed_cuid
from usertable.domain.schema import Project
from usertable.store.protocol import Snapshot
from usertable.store.records import User

MAX_PAGE = 1000
EXAMINED_PER_PAGE = 50_000
"""Maximum number of users examined for a filtered page, so that no request reads a whole large table."""


@dataclass(frozen=True, slots=True)
class FoundUsers:
    """A page of the user table. `next` continues after it; None if it was the last."""

    users: list[User]
    next: int | None


class Users(UseCases):
    """Use cases about users."""

    def register(self, project: Project, identifier: str, values: Sequence[str], *, actor: Actor) -> list[int]:
        """Call Get CUID: return the CUID of each value, in order. A new value creates a user."""
        now = self._clock()
        return self._store.transact(lambda tx: users.register(tx, project.number, identifier, values, actor, now))

    def add_user(self, project: Project, cuid: int, identifiers: Mapping[str, str], *, actor: Actor) -> User:
        """Import one user with the CUID that it has elsewhere."""
        if not is_cuid(cuid):
            raise Refused([malformed_cuid(cuid)])
        now = self._clock()
        self._store.transact(lambda tx: users.add(tx, project.number, cuid, identifiers, actor, now))
        return self.user(project, cuid)

    def user(self, project: Project, cuid: int) -> User:
        """Return the user's row with its identifiers."""
        if found := self._store.read(project.number, cuid):
            return found
        raise refusal(ProblemKind.CUID_UNKNOWN, cuid=cuid)

    def exists(self, project: Project, cuid: int) -> bool:
        """Return whether a user has this CUID."""
        return self._store.read(project.number, cuid) is not None

    def find_user(self, project: Project, identifier: str, value: str) -> User:
        """Return the owner of an identifier value."""
        cuid = self.find_cuids(project, identifier, [value]).get(value)
        if cuid is None:
            raise refusal(ProblemKind.CUID_UNKNOWN, cuid=f"{identifier}={value}")
        return self.user(project, cuid)

    def find_cuids(self, project: Project, identifier: str, values: Sequence[str]) -> dict[str, int]:
        """Return the CUIDs that own an identifier's values. Values without an owner are left out."""
        project.schema.identifier(identifier)
        # SQLite's JSON would end a value at a NUL. No stored value contains one.
        return self._store.resolve_identifiers(project.number, identifier, [v for v in values if is_identifier_value(v)])

    def users(
        self,
        project: Project,
        *,
        after: int | None = None,
        limit: int = 100,
        conditions: Sequence[Condition] = (),
        descending: bool = False,
    ) -> FoundUsers:
        """Return a page of the user table by CUID, of the users that meet all conditions.

        `descending` goes down from `after`.

        A page with conditions may have fewer than `limit` users, even none, and still be followed by another.
        """
        limit = max(1, min(limit, MAX_PAGE))
        examine = EXAMINED_PER_PAGE if conditions else limit
        found = self._store.select(project.number, conditions, after, limit, examine, descending)
        return FoundUsers(found.users, found.end)

    def snapshot(self, project_id: str) -> AbstractContextManager[Snapshot]:
        """Return the project with all its users, as of now; see :meth:`usertable.store.protocol.Store.snapshot`."""
        return self._store.snapshot(project_id)

    def users_of(self, project: Project, cuids: Sequence[int]) -> list[User]:
        """Return the users with these CUIDs, in this order, without CUIDs that do not exist."""
        return self._store.read_many(project.number, cuids)

    def erase_user(self, project: Project, cuid: int, *, actor: Actor) -> None:
        """Remove a user permanently: the row, identifier values, and receipts that show the user's data."""
        now = self._clock()
        if not self._store.transact(lambda tx: users.erase(tx, project.number, cuid, actor, now)):
            raise refusal(ProblemKind.CUID_UNKNOWN, cuid=cuid)
