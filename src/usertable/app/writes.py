"""Setting attributes: validate, join the waiting batch, answer after the durable commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.clock import now_ms
from usertable.app.users import Users
from usertable.domain.errors import Overloaded, Problem, ProblemKind, excerpt
from usertable.domain.patch import Patch, validate
from usertable.pipeline.group_commit import GroupCommit
from usertable.store.records import Receipt, Refusal, Result, SchemaStale, UserUnknown, Write


class AttributeWriter:
    """Sets attributes of one user: validate, join the waiting batch, answer after the durable commit."""

    def __init__(
        self, users: Users, authenticator: Authenticator, commit: GroupCommit, *, clock: Callable[[], int] = now_ms
    ) -> None:
        self._users = users
        self._authenticator = authenticator
        self.commit = commit
        self._clock = clock

    def begin(
        self,
        access: ProjectAccess,
        cuid: int,
        data: Mapping[str, Any],
        receipt: Receipt | None = None,
        *,
        dry_run: bool = False,
        details: bool = True,
        size: int = 0,
    ) -> asyncio.Future[Result] | None:
        """Queue a write and return at once; None if something is wrong with `data`. Raises Overloaded."""
        project = access.project
        patch = validate(project.schema, data, access.zone)
        if type(patch) is not Patch:
            return None
        write = Write(project.number, cuid, patch, project.version, self._clock(), receipt, dry_run, details, True, size)
        return self.commit.submit(write)

    async def set_attributes(
        self,
        access: ProjectAccess,
        cuid: int,
        data: Mapping[str, Any],
        receipt: Receipt | None = None,
        *,
        dry_run: bool = False,
        details: bool = True,
        size: int = 0,
        begun: asyncio.Future[Result] | None = None,
    ) -> Result:
        """Write `data` to the user by each attribute's rule; all of it or nothing.

        A :class:`Refusal` lists every problem, that of an unknown CUID first.

        Args:
            details: whether the caller looks at what a :class:`~usertable.store.records.Written` holds.
            size: bytes that it was sent in.
            begun: what :meth:`begin` gave for this very write, to see it through.

        Raises:
            Unavailable: the queue is full or the store is down; a retry is right, safest with a receipt.
        """
        # A patch goes stale only by a change of the schema in the last quarter of a second; twice in a row is rare.
        for _ in range(3):
            begun = begun or self.begin(access, cuid, data, receipt, dry_run=dry_run, details=details, size=size)
            if begun is None:
                return Refusal(await self.problems(access, cuid, [], data))
            result = await begun
            begun = None
            if type(result) is SchemaStale:
                await self._authenticator.refresh(access)
            elif type(result) is UserUnknown:
                return Refusal([unknown_user(cuid)])
            else:
                return result
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")

    async def problems(
        self, access: ProjectAccess, cuid: int | None, known: Sequence[Problem], data: Mapping[str, Any] | None
    ) -> list[Problem]:
        """All that is wrong with a request that will be refused: `known`, an unknown CUID, then its attributes."""
        problems = list(known)
        if cuid is not None and not await asyncio.to_thread(self._users.exists, access.project, cuid):
            problems.append(unknown_user(cuid))
        if data is not None:
            checked = validate(access.project.schema, data, access.zone)
            if type(checked) is list:
                problems += checked
        return problems


def unknown_user(cuid: int | str) -> Problem:
    return Problem(ProblemKind.CUID_UNKNOWN, None, {"cuid": excerpt(cuid)})
