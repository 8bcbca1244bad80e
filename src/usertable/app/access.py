"""Authenticate callers: a secret is verified once, and its `Authorization` header is recognized from then on."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from zoneinfo import ZoneInfo

from usertable.app.activity import ActivityRecorder, KeyActivity, ProjectActivity
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.keyring import Keyring, Match
from usertable.app.limits import RateLimit, SharedCounts
from usertable.app.projects import Projects
from usertable.app.verification import FAILURE_SECONDS, FAILURES_REMEMBERED, PassedSecrets, Verifications
from usertable.domain.actor import Actor
from usertable.domain.change import Origin
from usertable.domain.errors import Overloaded
from usertable.domain.key import Key
from usertable.domain.permissions import ALL_SCOPES, Scope
from usertable.domain.schema import Project

REFRESH_SECONDS = 0.25
"""Seconds between two polls for changed projects and expired secrets."""
TRUST_SECONDS = 1.0
"""Seconds for which a known caller is let in after its project was last found unchanged, or read.

Whether its key was revoked since is then asked of the store, even if polls do not return."""
HEADERS_PER_KEY = 64
"""Maximum number of `Authorization` header values remembered per key."""
LONGEST_HEADER = 1024
"""Maximum bytes of a header value that is remembered."""
ADMIN = ""
"""In place of a key's name: access without a key, which allows everything."""


class KeyChanged(Overloaded):
    """The caller's key was revoked, or its secret replaced, after the caller was authenticated."""


class ProjectAccess:
    """A project as the callers with one key see it: the current schema, their permissions, and the project's rate limits.

    Args:
        limits: rate limits by API, shared by every access to the project.
        activity: where the project's requests are counted; None to count none.
        key: the callers' key; None for access that allows everything.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_limits",
        "_origin",
        "activity",
        "actor",
        "key",
        "key_name",
        "may_write",
        "project",
        "scopes",
        "use",
        "zone",
    )

    def __init__(
        self,
        project: Project,
        limits: dict[str, RateLimit],
        counts: SharedCounts | None = None,
        activity: ProjectActivity | None = None,
        clock: Clock = SYSTEM_CLOCK,
        key: Key | None = None,
    ) -> None:
        self.project = project
        self._clock = clock
        self.activity = activity or ActivityRecorder(clock.now_ms).project(project.number)
        self.zone: ZoneInfo = project.zone
        self._limits = limits
        self._counts = counts
        self.key_name = ADMIN if key is None else key.name
        self.actor = Actor.admin_token() if key is None else Actor.key(key.name)
        """The callers, as actors."""
        self._origin = Origin(str(self.actor))
        self.use: KeyActivity = self.activity.key(self.key_name)
        self.permit(key)

    def permit(self, key: Key | None) -> None:
        """Set the permissions of the callers to those of the key; None for callers without one, who may do everything."""
        self.key = key
        self.scopes: frozenset[Scope] = ALL_SCOPES
        if key is not None:
            self.scopes = key.scopes if key.revoked_at is None else frozenset()
        self.may_write = Scope.WRITE in self.scopes

    def origin(self, source: str = "", actor: Actor | None = None) -> Origin | None:
        """Return the origin of a request's changes; None if the project's history is off.

        Args:
            actor: the caller, if it is known better.
        """
        if not self.project.history.days:
            return None
        if actor is not None:
            return Origin(str(actor), source)
        if source != self._origin.source:
            self._origin = replace(self._origin, source=source)
        return self._origin

    def limit(self, api: str) -> RateLimit | None:
        """Return the project's rate limit for an API ("attribute", "register", …); None if there is none."""
        if self.project.qps is None:
            return None
        limit = self._limits.get(api)
        if limit is None or limit.limit != self.project.qps:
            count = self._counts.count(self.project.number, api) if self._counts else None
            limit = self._limits[api] = RateLimit(self.project.qps, count, self._clock.monotonic)
        return limit


class Authenticator:
    """Authenticates callers and remembers them, because verifying a secret can be slow by design.

    A verified caller is looked up by the header as sent. The time of the lookup reveals nothing about a secret: bytes are
    compared only if their hashes are equal, and the hashes are keyed randomly at every start. A secret that was not
    generated here, and was verified with another header value or by another worker, is recognized too. Both hold until the
    key itself is changed or expires, which is polled every :data:`REFRESH_SECONDS`. No other change makes a caller wait.

    Args:
        counts: state that the workers of this server share; None if the server is one process.
        recorder: where requests are counted for the console; None to count none.
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
        self._polled = clock.monotonic()
        """When the last successful poll began."""
        self._read: dict[int, float] = {}
        """When :meth:`_reread` began to read a project, by number."""
        self._reading: dict[int, asyncio.Task[None]] = {}
        self._epoch = projects.epoch()
        self._versions = projects.versions()
        self._at_hand: dict[str, Project] = {}
        """Projects that a caller has access to, by id."""
        self._limits: dict[int, dict[str, RateLimit]] = {}
        """Rate limits by project number and API."""
        self._accesses: dict[int, dict[str, ProjectAccess]] = {}
        """Accesses by project number and key name. All callers with the same key share one."""
        self._verified: dict[bytes, ProjectAccess] = {}
        self._headers: dict[tuple[int, str], dict[bytes, None]] = {}
        """The headers in `_verified` by project number and key name, oldest first."""
        self._ends: dict[bytes, int] = {}
        """When the secret of a header in `_verified` stops working, in milliseconds since 1970-01-01 UTC, if it does."""
        self._keyrings: dict[str, Keyring] = {}
        """Keyrings by requested project id."""
        self._passed = counts.passed if counts else PassedSecrets()
        self._failed: OrderedDict[bytes, float] = OrderedDict()
        """Until when a wrong secret is remembered, by its digest."""
        self._under_way: dict[bytes, asyncio.Task[Keyring | None]] = {}
        self._verifications = Verifications(clock)
        self._polling = threading.Lock()

    def now(self) -> float:
        """Return seconds of the monotonic clock."""
        return self._clock.monotonic()

    def known(self, authorization: bytes) -> ProjectAccess | None:
        """Return the access that was granted before for this header value. Fast.

        Its key may have been revoked since, unknown to this process. That does not matter for a write, because the store
        accepts none for an outdated project; anything else needs :meth:`confirm`.
        """
        return self._verified.get(authorization)

    async def confirm(self, access: ProjectAccess, asked: float) -> bool:
        """Return whether the project of an access is known as of one second before the caller asked, or later.

        If not, read it again and return False: the caller must be looked up again. Fast as long as polls return.

        Args:
            asked: when the caller asked for access, by the monotonic clock.

        Raises:
            Unavailable: the store does not tell whether the key was revoked.
        """
        number, oldest = access.project.number, asked - TRUST_SECONDS
        if max(self._polled, self._read.get(number, self._polled)) >= oldest:
            return True
        reading = self._reading.get(number)
        if reading is None:
            reading = self._reading[number] = asyncio.create_task(self._reread(access.project))
        await asyncio.shield(reading)
        return False

    async def _reread(self, project: Project) -> None:
        began = self._clock.monotonic()
        try:
            self._update(await asyncio.to_thread(self._projects.project, project.id))
            self._read[project.number] = began
        finally:
            del self._reading[project.number]

    async def verify(self, authorization: bytes, project_id: str, secret: str, address: str = "") -> ProjectAccess | None:
        """Verify the secret of a caller whose header is not known, and return the access.

        A correct generated secret is found at once. Any other secret, correct or wrong, waits for its turn. A wrong one
        takes the same work whether or not the project exists, so neither the time nor the answer reveals that.

        Args:
            address: the caller's network address. With the project, it decides the order of verification.

        Raises:
            Unavailable: too many callers are waiting to be verified, or the store is down.
        """
        for _ in range(3):
            keyring, project = await self._keyring(project_id)
            match = self._match(keyring, project_id, secret)
            if match is None:
                failure = self._passed.digest(project_id, keyring.mark, secret)
                if self._failed.get(failure, 0.0) > self._clock.monotonic():
                    return None
                verified = await self._verified_keyring(failure, project_id, secret, address)
                if verified is None:
                    return None
                keyring, project, match = verified, None, self._match(verified, project_id, secret)
            if project is None:
                project = await asyncio.to_thread(self._projects.find_project, project_id)
                if project is None or project.version != keyring.version:
                    self._keyrings[project_id] = Keyring(project)
                    continue
            if match is not None and (access := self._remember(authorization, project, match)):
                return access
        raise Overloaded(f"project {project_id} keeps changing")

    async def _keyring(self, project_id: str) -> tuple[Keyring, Project | None]:
        """Return a project's keyring as of the last poll or later, and the project if this version of it is loaded."""
        version = self._versions.get(project_id)
        keyring = self._keyring_at_hand(project_id, version)
        if keyring is None:
            return await asyncio.to_thread(self._load, project_id)
        project = self._at_hand.get(project_id)
        return keyring, project if project is not None and project.version == keyring.version else None

    def _keyring_at_hand(self, project_id: str, version: int | None) -> Keyring | None:
        """Return the keyring of this version of a project, or a later one; None if it must be loaded."""
        if version is None:
            return Keyring(None)
        keyring, project = self._keyrings.get(project_id), self._at_hand.get(project_id)
        if keyring is not None and keyring.version >= version:
            return keyring
        if project is None or project.version < version:
            return None
        keyring = self._keyrings[project_id] = Keyring(project)
        return keyring

    def _load(self, project_id: str) -> tuple[Keyring, Project | None]:
        project = self._projects.find_project(project_id)
        keyring = Keyring(project)
        if project is not None:
            self._keyrings[project_id] = keyring
        return keyring, project

    def _match(self, keyring: Keyring, project_id: str, secret: str) -> Match | None:
        """Return the key with this secret, if it was generated or any worker verified it before. Fast."""
        now = self._clock.now_ms()
        if match := keyring.find_generated(secret, now):
            return match
        for match, proof in keyring.brought:
            if not match.is_over(now) and self._passed.digest(project_id, proof.hash, secret) in self._passed:
                return match
        return None

    async def _verified_keyring(self, failure: bytes, project_id: str, secret: str, address: str) -> Keyring | None:
        verification = self._under_way.get(failure)
        if verification is None:
            verification = asyncio.create_task(self._verify(failure, project_id, secret, address))
            self._under_way[failure] = verification
        return await asyncio.shield(verification)

    async def _verify(self, failure: bytes, project_id: str, secret: str, address: str) -> Keyring | None:
        is_known = project_id in self._versions
        try:
            work = partial(self._verify_slowly, project_id, secret)
            if keyring := await self._verifications.run(project_id, address, work, is_known=is_known):
                return keyring
        finally:
            del self._under_way[failure]
        self._failed[failure] = self._clock.monotonic() + FAILURE_SECONDS
        while len(self._failed) > FAILURES_REMEMBERED:
            self._failed.popitem(last=False)
        return None

    def _verify_slowly(self, project_id: str, secret: str) -> Keyring | None:
        """Return the project's keyring if one of its keys has the secret; :meth:`_match` then finds it at once.

        Takes one small read and 25 ms of CPU, whether or not the project exists. The project itself is only read if it has
        changed: that takes longer than for one that does not exist.
        """
        # The project, or its key, may have been created just now.
        version = self._projects.versions().get(project_id)
        keyring = self._keyring_at_hand(project_id, version) or self._load(project_id)[0]
        now = self._clock.now_ms()
        if keyring.find_generated(secret, now):
            return keyring
        found = keyring.find_brought(secret, now)
        if found is None:
            return None
        self._passed.add(self._passed.digest(project_id, found[1].hash, secret))
        return keyring

    def _remember(self, authorization: bytes, project: Project, match: Match) -> ProjectAccess | None:
        """Remember this header. Returns None if the project has changed since it was read."""
        access = self.grant(project, match.key)
        if len(authorization) <= LONGEST_HEADER:
            headers = self._headers.setdefault((project.number, match.key), {})
            headers[authorization] = None
            if match.until is not None:
                self._ends[authorization] = match.until
            self._verified[authorization] = access
            if len(headers) > HEADERS_PER_KEY:
                self._forget(next(iter(headers)), access)
        # Last, because a poll that sees a change first announces it and then forgets the headers it finds.
        if self._versions.get(project.id, 0) > project.version:
            self._forget(authorization, access)
            return None
        return access

    def _forget(self, authorization: bytes, access: ProjectAccess) -> None:
        self._verified.pop(authorization, None)
        self._ends.pop(authorization, None)
        self._headers.get((access.project.number, access.key_name), {}).pop(authorization, None)

    def grant(self, project: Project, key: str = ADMIN) -> ProjectAccess:
        """Return access to a project that was read just now, with one of its keys, or without one to allow everything."""
        # From the project as it was read, because the key may have been revoked since.
        granted = None if key == ADMIN else project.key(key)
        self._update(project)
        project = self._at_hand[project.id]
        accesses = self._accesses.setdefault(project.number, {})
        access = accesses.get(key)
        if access is None:
            limits = self._limits.setdefault(project.number, {})
            access = ProjectAccess(
                project,
                limits,
                self._counts,
                self._recorder.project(project.number),
                self._clock,
                granted,
            )
            access = accesses.setdefault(key, access)
        return access

    def _update(self, project: Project) -> None:
        """Replace a project by its current version, and forget the callers whose own key was changed."""
        known = self._at_hand.get(project.id)
        if known is not None and known.version >= project.version:
            return
        self._at_hand[project.id] = project
        self._keyrings[project.id] = Keyring(project)
        keys = {key.name: key for key in project.keys}
        accesses = self._accesses.get(project.number, {})
        for name, access in list(accesses.items()):
            access.project, access.zone = project, project.zone
            key = keys.get(name)
            if key is None and access.key is not None:
                # A project is loaded without revoked keys.
                key = replace(access.key, proofs=(), revoked_at=self._clock.now_ms())
            if key != access.key:
                access.permit(key)
                if key is not None and key.revoked_at is not None:
                    del accesses[name]
                for header in list(self._headers.pop((project.number, name), {})):
                    self._forget(header, access)

    async def refresh(self, access: ProjectAccess) -> None:
        """Reload the project of an access, because a write found it outdated.

        Raises:
            KeyChanged: the key was revoked, or its secret replaced. A revoked key therefore writes nothing even at a server
                that could not reach the store for a while.
        """
        before = access.key
        self._update(await asyncio.to_thread(self._projects.project, access.project.id))
        if before is not None and (access.key is None or not access.key.admits_all_of(before)):
            raise KeyChanged(f"the key {access.key_name} of project {access.project.id} was changed")
        current = self._at_hand[access.project.id]
        access.project, access.zone = current, current.zone

    def poll(self) -> None:
        """Load the changes since the last poll, and forget callers whose key was changed or whose secret has expired.

        Blocks for one small read, plus one for each changed project.
        """
        with self._polling:
            self.forget_ended()
            began = self._clock.monotonic()
            epoch = self._projects.epoch()
            if epoch != self._epoch:
                self._versions = self._projects.versions()
                for project in list(self._at_hand.values()):
                    if project.version < self._versions.get(project.id, 0):
                        self._update(self._projects.project(project.id))
                self._epoch = epoch
            self._polled = began
            self._read.clear()

    def forget_ended(self) -> None:
        """Forget callers whose secret has expired. Fast: unlike :meth:`poll`, it does not read from the store."""
        now = self._clock.now_ms()
        for header, end in list(self._ends.items()):
            if end <= now and (access := self._verified.get(header)):
                self._forget(header, access)

    def close(self) -> None:
        self._verifications.close()
