"""Who may do what: a project's secret is verified once, and who passed is recognized from then on."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from zoneinfo import ZoneInfo

from usertable.app.activity import ActivityRecorder, ProjectActivity
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.limits import RateLimit, SharedCounts
from usertable.app.projects import Projects
from usertable.app.verification import FAILURE_SECONDS, FAILURES_REMEMBERED, PassedSecrets, Verifications
from usertable.domain.errors import Overloaded
from usertable.domain.schema import Project

REFRESH_SECONDS = 0.25
"""Seconds between two looks for changed projects."""
HEADERS_PER_PROJECT = 64
"""Maximum number of forms of the `Authorization` header that are remembered of a project."""
LONGEST_HEADER = 1024
"""Maximum bytes of each of them."""


class ProjectAccess:
    """A project as the requests that proved to know its secret see it: its schema of now, and its rate limits.

    Args:
        limits: those of this project by API, shared by all who have access to it.
        activity: where its requests are counted; None if nobody wants to know.
    """

    __slots__ = ("_clock", "_counts", "_limits", "activity", "project", "zone")

    def __init__(
        self,
        project: Project,
        limits: dict[str, RateLimit],
        counts: SharedCounts | None = None,
        activity: ProjectActivity | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.project = project
        self._clock = clock
        self.activity = activity or ActivityRecorder(clock.now_ms).project(project.number)
        self.zone: ZoneInfo = project.zone
        self._limits = limits
        self._counts = counts

    def limit(self, api: str) -> RateLimit | None:
        """The rate limit of an API ("attribute", "register", …) for this project; None if there is none."""
        if self.project.qps is None:
            return None
        limit = self._limits.get(api)
        if limit is None or limit.limit != self.project.qps:
            count = self._counts.count(self.project.number, api) if self._counts else None
            limit = self._limits[api] = RateLimit(self.project.qps, count, self._clock.monotonic)
        return limit


class Authenticator:
    """Who is who, remembered: verifying a secret is slow on purpose, so a running server does it once for each secret.

    Whoever passed is found in a dictionary by the header as sent. That tells nothing of a secret by its time: bytes are
    compared only when their hashes agree, and those are keyed by chance at every start. A secret that passed under another
    form of the header, or at another worker, is recognized too. Both hold until the project's own secret changes, which is
    looked for every quarter of a second; no other change makes a caller wait.

    Args:
        counts: what the workers of this server know together; None if this process is the server.
        recorder: where requests are counted for the console; None if nobody wants to know.
    """

    def __init__(
        self,
        projects: Projects,
        counts: SharedCounts | None = None,
        recorder: ActivityRecorder | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._projects = projects
        self._clock = clock
        self._recorder = recorder or ActivityRecorder(clock.now_ms)
        self._counts = counts
        self._epoch = projects.epoch()
        self._versions = projects.versions()
        self._accesses: dict[int, ProjectAccess] = {}
        """By the project's number; all callers of a project share one."""
        self._numbers: dict[str, int] = {}
        """Those of the projects in `_accesses`, by id."""
        self._verified: dict[bytes, ProjectAccess] = {}
        self._headers: dict[int, dict[bytes, None]] = {}
        """Those in `_verified`, by the project's number, the oldest first."""
        self._hashes: dict[str, tuple[int, bytes]] = {}
        """By the id of a project that was asked for: its version, and the stored hash of its secret."""
        self._passed = counts.passed if counts else PassedSecrets()
        self._failed: OrderedDict[bytes, float] = OrderedDict()
        """Until when a wrong secret is remembered, by its digest."""
        self._under_way: dict[bytes, asyncio.Task[Project | None]] = {}
        self._verifications = Verifications(clock)
        self._polling = threading.Lock()

    def known(self, authorization: bytes) -> ProjectAccess | None:
        """The access that this header value was granted before; quick."""
        return self._verified.get(authorization)

    async def verify(self, authorization: bytes, project_id: str, secret: str, address: str = "") -> ProjectAccess | None:
        """Grant access to a caller whose header is not known, or None.

        Args:
            address: of the caller; it decides, with the project, whose turn it is to be verified.

        Raises:
            Unavailable: too many wait to be verified, or the store is down.
        """
        for _ in range(3):
            stored = await self._stored_hash(project_id)
            digest = self._passed.digest(project_id, stored, secret)
            if self._failed.get(digest, 0.0) > self._clock.monotonic():
                return None
            if stored and digest in self._passed:
                project = await self._project(project_id, stored)
                if project is None or project.secret_hash != stored:
                    continue
            else:
                project = await self._verified_project(digest, project_id, secret, address)
                if project is None:
                    return None
            if access := self._remember(authorization, project):
                return access
        raise Overloaded(f"project {project_id} keeps changing")

    async def _stored_hash(self, project_id: str) -> bytes:
        """The stored hash of a project's secret, as of the last poll or later; empty if there was no such project."""
        version = self._versions.get(project_id)
        if version is None:
            return b""
        known, stored = self._hashes.get(project_id, (-1, b""))
        if known < version:
            project = await asyncio.to_thread(self._projects.find_project, project_id)
            if project is not None:
                known, stored = self._hashes[project_id] = (project.version, project.secret_hash)
        return stored

    async def _project(self, project_id: str, stored: bytes) -> Project | None:
        """The project with this hash of its secret, at hand or read."""
        number = self._numbers.get(project_id)
        if number is not None and self._accesses[number].project.secret_hash == stored:
            return self._accesses[number].project
        return await asyncio.to_thread(self._projects.find_project, project_id)

    async def _verified_project(self, digest: bytes, project_id: str, secret: str, address: str) -> Project | None:
        verification = self._under_way.get(digest)
        if verification is None:
            verification = asyncio.create_task(self._verify(digest, project_id, secret, address))
            self._under_way[digest] = verification
        return await asyncio.shield(verification)

    async def _verify(self, digest: bytes, project_id: str, secret: str, address: str) -> Project | None:
        # Projects that do not exist have one share: there is no end to their names.
        named = project_id if project_id in self._versions else ""
        try:
            project = await self._verifications.run(named, address, lambda: self._projects.verify(project_id, secret))
        finally:
            del self._under_way[digest]
        if project is not None:
            self._passed.add(self._passed.digest(project_id, project.secret_hash, secret))
            return project
        self._failed[digest] = self._clock.monotonic() + FAILURE_SECONDS
        while len(self._failed) > FAILURES_REMEMBERED:
            self._failed.popitem(last=False)
        return None

    def _remember(self, authorization: bytes, project: Project) -> ProjectAccess | None:
        """Know this header from now on; None if the project has changed since it was read."""
        access = self.grant(project)
        if len(authorization) <= LONGEST_HEADER:
            headers = self._headers.setdefault(project.number, {})
            headers[authorization] = None
            self._verified[authorization] = access
            if len(headers) > HEADERS_PER_PROJECT:
                self._verified.pop(next(iter(headers)), None)
                del headers[next(iter(headers))]
        # Last: a poll that sees a change says so first, and then forgets the headers that it finds.
        if self._versions.get(project.id, 0) > project.version:
            self._verified.pop(authorization, None)
            return None
        return access

    def grant(self, project: Project) -> ProjectAccess:
        """Access for somebody who need not know the project's secret, such as the admin. The project is as just read."""
        access = self._accesses.get(project.number)
        if access is None:
            access = ProjectAccess(project, {}, self._counts, self._recorder.project(project.number), self._clock)
            access = self._accesses.setdefault(project.number, access)
            self._numbers[project.id] = project.number
        elif project.version > access.project.version:
            is_rotated = project.secret_hash != access.project.secret_hash
            access.project = project
            access.zone = project.zone
            self._hashes[project.id] = (project.version, project.secret_hash)
            if is_rotated:
                for header in list(self._headers.pop(project.number, {})):
                    self._verified.pop(header, None)
        return access

    async def refresh(self, access: ProjectAccess) -> None:
        """Reload an access's project, because a write found it stale."""
        current = self.grant(await asyncio.to_thread(self._projects.project, access.project.id))
        access.project, access.zone = current.project, current.zone

    def poll(self) -> None:
        """See what was changed since the last look: of a project whose secret is another one, callers are forgotten.

        Blocks for one small read, and one more for each project that was changed.
        """
        with self._polling:
            epoch = self._projects.epoch()
            if epoch == self._epoch:
                return
            self._versions = self._projects.versions()
            for access in list(self._accesses.values()):
                before = access.project
                if before.version < self._versions.get(before.id, 0):
                    self.grant(self._projects.project(before.id))
            self._epoch = epoch

    def close(self) -> None:
        self._verifications.close()
