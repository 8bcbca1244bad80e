"""Setting attributes: validate, join the waiting batch, answer after the durable commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.clock import now_ms
from usertable.app.users import Users
from usertable.domain.change import Origin
from usertable.domain.errors import Overloaded, Problem, ProblemKind, excerpt
from usertable.domain.patch import Patch, validate
from usertable.domain.permissions import Scope
from usertable.pipeline.group_commit import GroupCommit
from usertable.store.records import Receipt, Refusal, Replayed, Result, SchemaStale, UserUnknown, Write, Written


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
        origin: Origin | None = None,
        request: bytes = b"",
    ) -> asyncio.Future[Result] | None:
        """Queue a write and return at once. None if `data` is invalid. Raises Overloaded."""
        project = access.project
        patch = validate(project.schema, data, access.zone)
        if type(patch) is not Patch:
            return None
        number, version, all_reports = project.number, project.version, project.history.all_reports
        request_id = request.decode() if origin is not None else ""
        now = self._clock()
        write = Write(
            number, cuid, patch, version, now, receipt, dry_run, details, True, size, origin, request_id, all_reports
        )
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
        origin: Origin | None = None,
        request: bytes = b"",
        begun: asyncio.Future[Result] | None = None,
    ) -> Result:
        """Write `data` to the user by each attribute's rule, completely or not at all.

        A :class:`Refusal` lists every problem, that of an unknown CUID first.

        Args:
            details: whether the caller reads the contents of :class:`~usertable.store.records.Written`.
            size: bytes of the request.
            origin: who writes; None if the project's history is off.
            request: the ID of the request.
            begun: the result of :meth:`begin` for this write, to finish it.

        Raises:
            Unavailable: the queue is full or the store is down. Retry, preferably with a receipt.
        """
        # A patch becomes outdated only if the schema changed in the last quarter of a second; twice in a row is rare.
        for _ in range(3):
            begun = begun or self.begin(
                access, cuid, data, receipt, dry_run=dry_run, details=details, size=size, origin=origin, request=request
            )
            if begun is None:
                return Refusal(await self.problems(access, cuid, [], data))
            result = await begun
            begun = None
            if type(result) is SchemaStale:
                await self._authenticator.refresh(access)
            elif type(result) is UserUnknown:
                return Refusal([unknown_user(cuid)])
            else:
                return visible(access, result)
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")

    async def problems(
        self, access: ProjectAccess, cuid: int | None, known: Sequence[Problem], data: Mapping[str, Any] | None
    ) -> list[Problem]:
        """Return all problems of a request that will be refused: `known`, an unknown CUID, then its attributes."""
        problems = list(known)
        if cuid is not None and not await asyncio.to_thread(self._users.exists, access.project, cuid):
            problems.append(unknown_user(cuid))
        if data is not None:
            checked = validate(access.project.schema, data, access.zone)
            if type(checked) is list:
                problems += checked
        return problems


def visible(access: ProjectAccess, result: Result) -> Result:
    """What the callers may know of a result: without the scope `read`, nothing that others have stored of the user."""
    if Scope.READ in access.scopes:
        return result
    if type(result) is Written:
        return replace(result, attributes=None)
    if type(result) is Replayed:
        return Replayed(replace(result.written, attributes=None))
    if type(result) is Refusal:
        return Refusal([_without_stored(problem) for problem in result.problems])
    return result


def _without_stored(problem: Problem) -> Problem:
    if "stored" not in problem.params:
        return problem
    return replace(problem, params={**problem.params, "stored": "…"})


def unknown_user(cuid: int | str) -> Problem:
    return Problem(ProblemKind.CUID_UNKNOWN, None, {"cuid": excerpt(cuid)})
