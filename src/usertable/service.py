"""The use cases. The API, the CLI and every other edge call these and nothing below them.

:class:`Service` has those that take their time (the Data Center, Get CUID, reading), all blocking; :class:`Intake` has the
one that must be quick, setting attributes, which is asynchronous and commits in groups.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from usertable.arrivals import ProjectArrivals, Recorder
from usertable.commit import GroupCommit
from usertable.domain.arrival import Arrival, Rate, RefusalGroup
from usertable.domain.condition import Condition
from usertable.domain.errors import (
    Kind,
    Overloaded,
    Problem,
    ProjectChanged,
    Refused,
    Unavailable,
    check_all,
    excerpt,
    refuse,
)
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch, validate
from usertable.domain.profile import Profile
from usertable.domain.schema import (
    MAX_ATTRIBUTES,
    Attribute,
    Identifier,
    Project,
    Schema,
    Step,
    difference,
)
from usertable.limit import RateLimit, SharedCounts
from usertable.store.encoding import encode_attributes
from usertable.store.protocol import KEPT_SAMPLES, Store
from usertable.store.records import (
    MAX_CUID,
    Batch,
    Incoming,
    IncomingRows,
    Receipt,
    Refusal,
    Replayed,
    Result,
    SchemaChange,
    SchemaStale,
    Taken,
    User,
    UserUnknown,
    Write,
    Written,
)
from usertable.verification import FAILURE_SECONDS, FAILURES_REMEMBERED, PassedSecrets, Verifications
from usertable.wire.columns import identifier_values, read_row
from usertable.wire.jiguang import is_identity_value

log = logging.getLogger("usertable.service")

DEFAULT_TIMEZONE = "Asia/Shanghai"
DEFAULT_QPS = 100
MAX_QPS = 1_000_000
MAX_PAGE = 1000
EXAMINED_PER_PAGE = 50_000
"""A filtered page looks at so many users at most, so that no request reads a whole large table."""
REFRESH_SECONDS = 0.25
# The ids `.` and `..` could not be addressed: browsers and proxies take them for steps in a path.
_PROJECT_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
_SECRET = re.compile(r"[!-~]{1,128}")
HEADERS_PER_PROJECT = 64
"""Forms of the `Authorization` header that are remembered of a project, each of at most so many bytes:"""
LONGEST_HEADER = 1024
_ENTRIES_AT_ONCE = 128
_CHECKED_AT_ONCE = 32


def now_ms() -> int:
    """The time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def _hash_secret(secret: str, salt: bytes) -> bytes:
    # An operator may bring a short secret along, so the hash is a slow one; a running server remembers who passed.
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**13, r=8, p=1, dklen=32)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the user table. `next` continues after it; None if it was the last."""

    users: list[User]
    next: int | None


class Service:
    """The use cases that may block. Every method may raise Unavailable; those that change something, Refused.

    A `version` that is given must be the project's when the change is made, else it is refused and nothing is changed: so
    whoever read the project before changes what was read, and nobody else's change in between is undone.

    Args:
        clock: milliseconds since 1970 UTC.
        max_attributes: attributes per project.
        rules: what decides all writes.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], int] = now_ms,
        max_attributes: int = MAX_ATTRIBUTES,
        rules: Rules = Rules(),  # noqa: B008
    ) -> None:
        self.store = store
        self.rules = rules
        self._clock = clock
        self._max_attributes = max_attributes

    # projects

    def create_project(
        self,
        name: str,
        *,
        id: str | None = None,
        secret: str | None = None,
        timezone: str = DEFAULT_TIMEZONE,
        qps: int | None = DEFAULT_QPS,
        who: str,
    ) -> tuple[Project, str]:
        """A new project, and its secret, which is not kept and cannot be shown again.

        `id` and `secret` are made if they are not given: an id of digits, a secret of 32 random hex characters.
        """
        check_all(
            lambda: _check_project_name(name),
            lambda: _check_project_id(id),
            lambda: _check_timezone(timezone),
            lambda: _check_qps(qps),
            lambda: _checked_secret(secret),
        )
        secret = _checked_secret(secret)
        salt = secrets.token_bytes(16)
        while True:
            project = Project(
                number=0,
                id=id or str(100_000 + secrets.randbelow(900_000)),
                name=name,
                secret_salt=salt,
                secret_hash=_hash_secret(secret, salt),
                timezone=timezone,
                qps=qps,
                created_at=self._clock(),
            )
            try:
                return self.store.add_project(project, who), secret
            except Refused:
                if id is not None:
                    raise

    def projects(self) -> list[Project]:
        """All projects, in order of creation."""
        return self.store.projects()

    def project(self, project_id: str) -> Project:
        """The project with that id."""
        if found := self.store.project(project_id):
            return found
        raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)

    def edit_project(
        self,
        project_id: str,
        *,
        name: str | None = None,
        timezone: str | None = None,
        qps: int | None = None,
        unlimited: bool = False,
        version: int | None = None,
        who: str,
    ) -> Project:
        """Change some settings of a project; what is None stays. `unlimited` lifts the QPS limit.

        Moments are kept in UTC, so another time zone changes how they are shown and how later ones are read.
        """
        check_all(
            lambda: _check_project_name(name),
            lambda: _check_timezone(timezone),
            lambda: _check_qps(None if unlimited else qps),
        )
        sent = {"name": name, "timezone": timezone, "qps": qps}
        changes: dict[str, Any] = {key: value for key, value in sent.items() if value is not None}
        if unlimited:
            changes["qps"] = None
        return self._edit(project_id, lambda project: replace(project, **changes), who, version)

    def rotate_secret(
        self, project_id: str, *, secret: str | None = None, version: int | None = None, who: str
    ) -> tuple[Project, str]:
        """Replace a project's secret; the old one stops working within a second. The new one cannot be shown again."""
        secret = _checked_secret(secret)
        salt = secrets.token_bytes(16)
        hashed = _hash_secret(secret, salt)
        project = self._edit(project_id, lambda p: replace(p, secret_salt=salt, secret_hash=hashed), who, version)
        return project, secret

    def schema_changes(self, project_id: str, limit: int = 100) -> list[SchemaChange]:
        """The newest changes of a project and its schema, newest first."""
        return self.store.schema_changes(self.project(project_id).number, limit)

    def verify(self, project_id: str, secret: str) -> Project | None:
        """The project, if the secret is its own. Takes some 25 ms of CPU, whether the project exists or not."""
        project = self.store.project(project_id)
        salt, expected = (project.secret_salt, project.secret_hash) if project else (b"-" * 16, b"-" * 32)
        matches = hmac.compare_digest(_hash_secret(secret, salt), expected)
        return project if matches else None

    # attributes

    def declare_attribute(self, project_id: str, attribute: Attribute, *, version: int | None = None, who: str) -> Attribute:
        """Declare an attribute; see :meth:`~usertable.domain.schema.Schema.declare` for what is refused."""
        self._edit_schema(project_id, lambda s: s.declare(attribute, self._max_attributes), who, version)
        return attribute

    def edit_attribute(
        self, project_id: str, name: str, *, version: int | None = None, who: str, **changes: str | bool
    ) -> Attribute:
        """Change `display_name`, `description` or `hidden` of an attribute."""
        return self._edit_schema(project_id, lambda s: s.edit(name, **changes), who, version).schema.attribute(name)

    def delete_attribute(self, project_id: str, name: str, *, version: int | None = None, who: str) -> None:
        """Delete an attribute for which no value was ever reported; else refused."""

        def edit(project: Project) -> Project:
            return replace(project, schema=project.schema.delete(name, project.reported))

        self._edit(project_id, edit, who, version)

    # identifiers

    def declare_identifier(
        self, project_id: str, identifier: Identifier, *, version: int | None = None, who: str
    ) -> Identifier:
        """Declare an identifier, with a priority below the declared ones and above the presets that stand last."""
        self._edit_schema(project_id, lambda s: s.declare_identifier(identifier), who, version)
        return identifier

    def edit_identifier(
        self, project_id: str, name: str, *, version: int | None = None, who: str, **changes: str | bool
    ) -> Identifier:
        """Change `display_name` or `masked` of an identifier."""
        edited = self._edit_schema(project_id, lambda s: s.edit_identifier(name, **changes), who, version)
        return edited.schema.identifier(name)

    def delete_identifier(self, project_id: str, name: str, *, version: int | None = None, who: str) -> None:
        """Delete an identifier that is no preset and that no user has a value of."""

        def edit(project: Project) -> Project:
            return replace(project, schema=project.schema.delete_identifier(name, project.identifying))

        self._edit(project_id, edit, who, version)

    def order_identifiers(self, project_id: str, names: Sequence[str], *, version: int | None = None, who: str) -> Project:
        """Set the priority order; `names` must name every identifier once, the first gets priority 1."""
        return self._edit_schema(project_id, lambda s: s.order_identifiers(names), who, version)

    # schema as code

    def plan_schema(self, project_id: str, wanted: Schema, *, version: int | None = None) -> tuple[list[Step], list[Step]]:
        """The steps that would turn the project's schema into `wanted`, and those that would be refused."""
        project = self.project(project_id)
        _check_version(project, version)
        return difference(project.schema, wanted)

    def apply_schema(self, project_id: str, wanted: Schema, *, version: int | None = None, who: str) -> list[Step]:
        """Turn the project's schema into `wanted`, whole or not at all; the steps that were done.

        Raises:
            Refused: a step would lose or reinterpret data, or a new attribute or identifier is not legal.
        """
        done: list[Step] = []

        def edit(project: Project) -> Project:
            steps, refused = difference(project.schema, wanted)
            if refused:
                raise refuse_steps(refused)
            schema = project.schema
            for name, attribute in wanted.attributes.items():
                if name not in schema.attributes:
                    schema = schema.declare(attribute, self._max_attributes)
                else:
                    schema = schema.edit(
                        name,
                        display_name=attribute.display_name,
                        description=attribute.description,
                        hidden=attribute.hidden,
                        limits=attribute.limits,
                    )
            known = {i.name for i in schema.identifiers}
            for identifier in wanted.identifiers:
                if identifier.name not in known:
                    schema = schema.declare_identifier(identifier)
                else:
                    schema = schema.edit_identifier(
                        identifier.name, display_name=identifier.display_name, masked=identifier.masked
                    )
            done[:] = steps
            return replace(project, schema=schema.order_identifiers(i.name for i in wanted.identifiers))

        self._edit(project_id, edit, who, version)
        return done

    # users

    def register(self, project: Project, identifier: str, values: Sequence[str]) -> list[int]:
        """Get CUID: the CUID of each value, in order; a value never seen creates a user."""
        return self.store.register(project.number, identifier, values, self._clock())

    def add_user(self, project: Project, cuid: int, identifiers: Mapping[str, str]) -> User:
        """Import one user with the CUID it already has elsewhere."""
        if not 1 <= cuid <= MAX_CUID:
            raise refuse(Kind.CUID_MALFORMED, value=cuid)
        self.store.add_user(project.number, cuid, identifiers, self._clock())
        return self.user(project, cuid)

    def user(self, project: Project, cuid: int) -> User:
        """The user's row with its identifiers."""
        if found := self.store.read(project.number, cuid):
            return found
        raise refuse(Kind.CUID_UNKNOWN, cuid=cuid)

    def find_user(self, project: Project, identifier: str, value: str) -> User:
        """The user that an identifier's value points to."""
        cuid = self.find_cuids(project, identifier, [value]).get(value)
        if cuid is None:
            raise refuse(Kind.CUID_UNKNOWN, cuid=f"{identifier}={value}")
        return self.user(project, cuid)

    def find_cuids(self, project: Project, identifier: str, values: Sequence[str]) -> dict[str, int]:
        """The CUIDs that an identifier's values point to; one that points to nobody is left out."""
        project.schema.identifier(identifier)
        # SQLite's JSON would end a value at a NUL; none that was ever kept has one.
        return self.store.resolve_identifiers(project.number, identifier, [v for v in values if is_identity_value(v)])

    def users(
        self,
        project: Project,
        *,
        after: int | None = None,
        limit: int = 100,
        conditions: Sequence[Condition] = (),
        descending: bool = False,
    ) -> Page:
        """A page of the user table by CUID, of the users that meet all conditions; `descending` goes down from `after`.

        A page with conditions may hold fewer than `limit` users, even none, and still have a next one.
        """
        limit = max(1, min(limit, MAX_PAGE))
        examine = EXAMINED_PER_PAGE if conditions else limit
        found = self.store.select(project.number, conditions, after, limit, examine, descending)
        return Page(found.users, found.end)

    def users_of(self, project: Project, cuids: Sequence[int]) -> list[User]:
        """Those of the users that exist, in the order of `cuids`."""
        return self.store.read_many(project.number, cuids)

    def erase_user(self, project: Project, cuid: int) -> None:
        """Remove a user for good: the row, identifier values, and stored answers that show the user's data."""
        if not self.store.erase(project.number, cuid):
            raise refuse(Kind.CUID_UNKNOWN, cuid=cuid)

    def take(
        self, project: Project, entries: Sequence[Entry], *, register: bool, dry: bool = False
    ) -> list[tuple[int | None, Result]] | None:
        """Take entries as rows of an import, in order, all that are right in one transaction.

        The CUID of each, if it is known, and what came of it; None if the project was changed meanwhile.
        """
        results: dict[int, tuple[int | None, Result]] = {}
        rows: list[Incoming] = []
        names: set[str] = set()
        for place, entry in enumerate(entries):
            row = _row(project, entry)
            if isinstance(row, list):
                results[place] = (entry.cuid, Refusal(row))
            else:
                rows.append(row[0])
                names.update(row[1])
        if rows:
            batch = Batch(
                project.number,
                project.version,
                IncomingRows.of(rows),
                frozenset(names),
                self._clock(),
                register,
                dry=dry,
                receipts=[entry.receipt for place, entry in enumerate(entries) if place not in results],
            )
            taken = self.store.take(batch, self.rules)
            if isinstance(taken, SchemaStale):
                return None
            assert isinstance(taken, Taken)
            told = iter(taken.told)
            results |= {place: next(told) for place in range(len(entries)) if place not in results}
        return [results[place] for place in range(len(entries))]

    # what came in

    def arrivals(
        self, project: Project, *, after: int = 0, limit: int = 50, refused: bool | None = None
    ) -> list[tuple[int, Arrival]]:
        """The newest samples of what came in, newest first, each with its number; `after`: only greater numbers."""
        return self.store.arrivals(project.number, after, limit, refused=refused)

    def arrivals_of(self, project: Project, cuid: int) -> list[Arrival]:
        """The samples that are about a user, newest first."""
        kept = self.store.arrivals(project.number, 0, 2 * KEPT_SAMPLES)
        return [arrival for _, arrival in kept if arrival.cuid == cuid]

    def rates(self, project: Project, *, since: int, step: int) -> list[Rate]:
        """How many requests came in, by steps of `step` ms from the moment `since` on."""
        return self.store.rates(project.number, since, step)

    def refusals(self, project: Project, *, since: int, attribute: str | None = None) -> list[RefusalGroup]:
        """What was refused from the moment `since` on, by kind and attribute, most of them first, each with a sample.

        `attribute`: only what is about this one.
        """
        samples: dict[tuple[Kind, str | None], Arrival] = {}
        for _, arrival in self.store.arrivals(project.number, 0, KEPT_SAMPLES, refused=True):
            for problem in arrival.problems:
                samples.setdefault((problem.kind, problem.attribute), arrival)
        groups = [
            RefusalGroup(kind, name, count, last, samples.get((kind, name)))
            for kind, name, count, last in self.store.refusals(project.number, since)
            if attribute is None or name == attribute
        ]
        return sorted(groups, key=lambda group: (-group.count, group.kind, group.attribute or ""))

    def registrations(self, project: Project, identifier: str, *, since: int) -> int:
        """How many of the samples, from the moment `since` on, are a Get CUID with that identifier."""
        kept = self.store.arrivals(project.number, 0, KEPT_SAMPLES, refused=False)
        return sum(a.api == "register" and a.subject == identifier and a.at >= since for _, a in kept)

    def last_writes(self, project: Project) -> dict[str, int]:
        """By attribute, when an accepted request last had it; ms since 1970 UTC, to the second."""
        return self.store.last_writes(project.number)

    def _edit(self, project_id: str, edit: Callable[[Project], Project], who: str, version: int | None = None) -> Project:
        def checked(project: Project) -> Project:
            _check_version(project, version)
            return edit(project)

        return self.store.edit_project(project_id, checked, who, self._clock())

    def _edit_schema(
        self, project_id: str, edit: Callable[[Schema], Schema], who: str, version: int | None = None
    ) -> Project:
        return self._edit(project_id, lambda p: replace(p, schema=edit(p.schema)), who, version)


def _row(project: Project, entry: Entry) -> tuple[Incoming, Iterable[str]] | list[Problem]:
    """An entry as a row of an import, with the names of its attributes; or all that is wrong with it."""
    schema = project.schema
    problems = list(entry.problems)
    if entry.cuid is not None and entry.cuid < 1:
        problems.append(Problem(Kind.CUID_MALFORMED, None, {"value": excerpt(entry.cuid)}))
    given = dict([entry.identity] if entry.identity else entry.identifiers or {})
    pairs: list[tuple[str, str]] = []
    # In the order of their priority, in which they are asked whose row it is.
    for identifier in schema.identifiers:
        if identifier.name in given:
            values = identifier_values(identifier, given.pop(identifier.name))
            if isinstance(values, Problem):
                problems.append(values)
            else:
                pairs += [(identifier.name, value) for value in values]
    for name in given:
        try:
            schema.identifier(name)
        except Refused as refused:
            problems += refused.problems
    if entry.cuid is None and not pairs and not problems:
        problems.append(Problem(Kind.USER_UNNAMED))
    patch = read_row(schema, entry.data or {}, project.zone)
    if isinstance(patch, list):
        problems += patch
    if problems:
        return problems
    assert isinstance(patch, Patch)
    values_by_name = {attribute.name: value for attribute, value in patch.entries}
    return (entry.cuid, tuple(pairs), encode_attributes(values_by_name)), values_by_name


def refuse_steps(steps: Sequence[Step]) -> Refused:
    """The refusal of a schema that would lose or reinterpret data, naming every such step."""
    return Refused([Problem(Kind.ATTRIBUTE_FIXED, None, {"steps": "; ".join(map(str, steps))})])


def _check_version(project: Project, version: int | None) -> None:
    if version is not None and version != project.version:
        raise ProjectChanged(version, project.version)


def _check_project_name(name: str | None) -> None:
    if name is not None and (not name.strip() or len(name) > 200 or not name.isprintable()):
        raise refuse(Kind.PROJECT_NAME, limit=200)


def _check_project_id(id: str | None) -> None:
    if id is not None and not _PROJECT_ID.fullmatch(id):
        raise refuse(Kind.PROJECT_ID, id=id)


def _check_timezone(name: str | None) -> None:
    if name is not None and name not in available_timezones():
        raise refuse(Kind.TIMEZONE, value=name)


def _check_qps(qps: int | None) -> None:
    if qps is not None and not 1 <= qps <= MAX_QPS:
        raise refuse(Kind.QPS, value=qps, most=MAX_QPS)


def _checked_secret(secret: str | None) -> str:
    if secret is None:
        return secrets.token_hex(16)
    if not _SECRET.fullmatch(secret):
        raise refuse(Kind.SECRET, most=128)
    return secret


class Access:
    """A project as the requests that proved to know its secret see it: its schema of now, and its rate limits.

    Args:
        limits: those of this project by API, shared by all who have access to it.
        arrivals: where its requests are counted; None if nobody wants to know.
    """

    __slots__ = ("_counts", "_limits", "arrivals", "project", "zone")

    def __init__(
        self,
        project: Project,
        limits: dict[str, RateLimit],
        counts: SharedCounts | None = None,
        arrivals: ProjectArrivals | None = None,
    ) -> None:
        self.project = project
        self.arrivals = arrivals or Recorder(now_ms).project(project.number)
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
            limit = self._limits[api] = RateLimit(self.project.qps, count)
        return limit


class Gate:
    """Who is who, remembered: verifying a secret is slow on purpose, so a running server does it once for each secret.

    Whoever passed is found in a dictionary by the header as sent. That tells nothing of a secret by its time: bytes are
    compared only when their hashes agree, and those are keyed by chance at every start. A secret that passed under another
    form of the header, or at another worker, is recognized too. Both hold until the project's own secret changes, which is
    looked for every quarter of a second; no other change makes a caller wait.

    Args:
        counts: what the workers of this server know together; None if this process is the server.
        recorder: where requests are counted for the console; None if nobody wants to know.
    """

    def __init__(self, service: Service, counts: SharedCounts | None = None, recorder: Recorder | None = None) -> None:
        self._service = service
        self._recorder = recorder or Recorder(now_ms)
        self._counts = counts
        self._epoch = service.store.epoch()
        self._versions = service.store.versions()
        self._accesses: dict[int, Access] = {}
        """By the project's number; all callers of a project share one."""
        self._numbers: dict[str, int] = {}
        """Those of the projects in `_accesses`, by id."""
        self._verified: dict[bytes, Access] = {}
        self._headers: dict[int, dict[bytes, None]] = {}
        """Those in `_verified`, by the project's number, the oldest first."""
        self._hashes: dict[str, tuple[int, bytes]] = {}
        """By the id of a project that was asked for: its version, and the stored hash of its secret."""
        self._passed = counts.passed if counts else PassedSecrets()
        self._failed: OrderedDict[bytes, float] = OrderedDict()
        """Until when a wrong secret is remembered, by its digest."""
        self._under_way: dict[bytes, asyncio.Task[Project | None]] = {}
        self._verifications = Verifications()
        self._polling = threading.Lock()

    def known(self, authorization: bytes) -> Access | None:
        """The access that this header value was granted before; quick."""
        return self._verified.get(authorization)

    async def verify(self, authorization: bytes, project_id: str, secret: str, address: str = "") -> Access | None:
        """Grant access to a caller whose header is not known, or None.

        Args:
            address: of the caller; it decides, with the project, whose turn it is to be verified.

        Raises:
            Unavailable: too many wait to be verified, or the store is down.
        """
        for _ in range(3):
            stored = await self._stored_hash(project_id)
            digest = self._passed.digest(project_id, stored, secret)
            if self._failed.get(digest, 0.0) > time.monotonic():
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
            project = await asyncio.to_thread(self._service.store.project, project_id)
            if project is not None:
                known, stored = self._hashes[project_id] = (project.version, project.secret_hash)
        return stored

    async def _project(self, project_id: str, stored: bytes) -> Project | None:
        """The project with this hash of its secret, at hand or read."""
        number = self._numbers.get(project_id)
        if number is not None and self._accesses[number].project.secret_hash == stored:
            return self._accesses[number].project
        return await asyncio.to_thread(self._service.store.project, project_id)

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
            project = await self._verifications.run(named, address, lambda: self._service.verify(project_id, secret))
        finally:
            del self._under_way[digest]
        if project is not None:
            self._passed.add(self._passed.digest(project_id, project.secret_hash, secret))
            return project
        self._failed[digest] = time.monotonic() + FAILURE_SECONDS
        while len(self._failed) > FAILURES_REMEMBERED:
            self._failed.popitem(last=False)
        return None

    def _remember(self, authorization: bytes, project: Project) -> Access | None:
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

    def grant(self, project: Project) -> Access:
        """Access for somebody who need not know the project's secret, such as the admin. The project is as just read."""
        access = self._accesses.get(project.number)
        if access is None:
            access = Access(project, {}, self._counts, self._recorder.project(project.number))
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

    async def refresh(self, access: Access) -> None:
        """Load an access's project anew, because a write found it stale."""
        current = self.grant(await asyncio.to_thread(self._service.project, access.project.id))
        access.project, access.zone = current.project, current.zone

    def poll(self) -> None:
        """See what was changed since the last look: of a project whose secret is another one, callers are forgotten.

        Blocks for one small read, and one more for each project that was changed.
        """
        store = self._service.store
        with self._polling:
            epoch = store.epoch()
            if epoch == self._epoch:
                return
            self._versions = store.versions()
            for access in list(self._accesses.values()):
                before = access.project
                if before.version < self._versions.get(before.id, 0):
                    self.grant(self._service.project(before.id))
            self._epoch = epoch

    def close(self) -> None:
        self._verifications.close()


@dataclass(slots=True)
class Entry:
    """One record of a batch: whose attributes to set, by CUID or by (identifier, value), and to what."""

    cuid: int | None
    identity: tuple[str, str] | None
    data: Mapping[str, Any] | None
    receipt: Receipt | None = None
    problems: Sequence[Problem] = ()
    """What is wrong with its form; without any, there is `data`, and either `cuid` or `identity`, or `identifiers`."""
    identifiers: Mapping[str, Any] | None = None
    """Of a row of an import: values by identifier, unchecked."""


class Intake:
    """Setting attributes: validate, join the waiting batch, answer after the durable commit."""

    def __init__(self, service: Service, gate: Gate, commit: GroupCommit, *, clock: Callable[[], int] = now_ms) -> None:
        self._service = service
        self._gate = gate
        self._commit = commit
        self._clock = clock
        self._taking = asyncio.Lock()
        self._rows = 0
        """Rows of imports that are being taken, or wait for it."""

    def begin(
        self,
        access: Access,
        cuid: int,
        data: Mapping[str, Any],
        receipt: Receipt | None = None,
        *,
        dry: bool = False,
        details: bool = True,
        size: int = 0,
    ) -> asyncio.Future[Result] | None:
        """Queue a write and return at once; None if something is wrong with `data`. Raises Overloaded."""
        project = access.project
        patch = validate(project.schema, data, access.zone)
        if type(patch) is not Patch:
            return None
        write = Write(project.number, cuid, patch, project.version, self._clock(), receipt, dry, details, True, size)
        return self._commit.submit(write)

    async def set_attributes(
        self,
        access: Access,
        cuid: int,
        data: Mapping[str, Any],
        receipt: Receipt | None = None,
        *,
        dry: bool = False,
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
            begun = begun or self.begin(access, cuid, data, receipt, dry=dry, details=details, size=size)
            if begun is None:
                return Refusal(await self.problems(access, cuid, [], data))
            result = await begun
            begun = None
            if type(result) is SchemaStale:
                await self._gate.refresh(access)
            elif type(result) is UserUnknown:
                return Refusal([_unknown(cuid)])
            else:
                return result
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")

    async def set_many(
        self, access: Access, entries: Sequence[Entry], *, register: bool, dry: bool = False
    ) -> list[tuple[int | None, Result]]:
        """Write every entry by itself; the CUID it was for, if that is known, and what came of it, in order.

        Entries of one user are decided in order in one transaction, and each sees what the ones before it did. If one cannot
        be written now (its result is an exception), those of the same user after it are not written and have the same
        result: a retry of all that failed so keeps their order.

        Args:
            register: whether a value that points to nobody makes a user (Get CUID), or is refused.
        """
        cuids, results = await self._find_users(access, entries, register=register, dry=dry)
        turns: dict[tuple[int | None, int], list[int]] = {}
        for place, cuid in enumerate(cuids):
            if place not in results:
                # One that is for nobody known is in nobody's way.
                turns.setdefault((cuid, place if cuid is None else 0), []).append(place)

        async def write(cuid: int | None, places: Sequence[int]) -> None:
            found = await self._set_entries(access, cuid, [entries[place] for place in places], dry=dry)
            results.update(zip(places, found, strict=True))

        tasks = []
        for count, ((cuid, _), places) in enumerate(turns.items(), start=1):
            tasks.append(asyncio.create_task(write(cuid, places)))
            if count % _ENTRIES_AT_ONCE == 0:
                # Single calls that came meanwhile have their turn.
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return [(cuid, results[place]) for place, cuid in enumerate(cuids)]

    async def take(
        self, access: Access, entries: Sequence[Entry], *, register: bool, dry: bool = False
    ) -> list[tuple[int | None, Result]]:
        """Write entries as rows of an import, one batch after the other; otherwise like :meth:`set_many`.

        Args:
            register: whether users and identifier values that are not there are made, or the entry is refused.
        """
        try:
            # The first may be of any size, as it may where single writes wait.
            if self._rows and self._rows + len(entries) > self._commit.capacity:
                raise Overloaded(f"{self._rows} rows of imports are waiting")
            self._rows += len(entries)
            try:
                async with self._taking:
                    return await self._take(access, entries, register=register, dry=dry)
            finally:
                self._rows -= len(entries)
        except Unavailable as unavailable:
            failure: Exception = unavailable
        except Exception as defect:
            log.exception("a batch of an import failed")
            failure = defect
        return [(entry.cuid, failure) for entry in entries]

    async def _take(
        self, access: Access, entries: Sequence[Entry], *, register: bool, dry: bool
    ) -> list[tuple[int | None, Result]]:
        for _ in range(3):
            project = access.project
            found = await asyncio.to_thread(self._service.take, project, entries, register=register, dry=dry)
            if found is not None:
                return found
            await self._gate.refresh(access)
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")

    async def _set_entries(self, access: Access, cuid: int | None, entries: Sequence[Entry], *, dry: bool) -> list[Result]:
        """Write entries of one user, in order; the result of each."""
        results: dict[int, Result] = {}
        try:
            if cuid is None:
                return [await self._set_of_nobody(access, entry, dry=dry) for entry in entries]
            await self._write_together(access, cuid, entries, results, dry=dry)
            await self._refuse_rest(access, cuid, entries, results)
        except Exception as failure:
            if not isinstance(failure, Unavailable):
                log.error("a record of a batch failed", exc_info=failure)
            for place in range(len(entries)):
                results.setdefault(place, failure)
        return [results[place] for place in range(len(entries))]

    async def _write_together(
        self, access: Access, cuid: int, entries: Sequence[Entry], results: dict[int, Result], *, dry: bool
    ) -> None:
        """Write the entries that are right, in one transaction, and add the result of each to `results`.

        Raises whatever keeps one from being written. What is not in `results` then was not written either.
        """
        for _ in range(3):
            writes: dict[int, Write] = {}
            project, now = access.project, self._clock()
            for place, entry in enumerate(entries):
                await _give_way(place)
                if place in results or entry.problems or entry.data is None:
                    continue
                patch = validate(project.schema, entry.data, access.zone)
                if type(patch) is Patch:
                    writes[place] = Write(
                        *(project.number, cuid, patch, project.version, now, entry.receipt, dry),
                        row=False,
                        size=patch.most_bytes(),
                    )
            found = await self._committed(list(writes.values()))
            for place, result in zip(writes, found, strict=True):
                if isinstance(result, Exception):
                    raise result
                if type(result) is not SchemaStale:
                    results[place] = Refusal([_unknown(cuid)]) if type(result) is UserUnknown else result
            if writes.keys() <= results.keys():
                return
            await self._gate.refresh(access)
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")

    async def _committed(self, writes: Sequence[Write]) -> list[Result]:
        """What came of writes of one user. After one that failed, which is an exception, none was written."""
        if not writes:
            return []
        futures = self._commit.submit_together(writes)
        found: list[Result] = list(await asyncio.gather(*futures, return_exceptions=True))  # type: ignore[arg-type]
        if len(writes) == 1 or not isinstance(found[0], Exception) or isinstance(found[0], Unavailable):
            return found
        # Together they met a defect, and nothing of them is stored: those before the one that has it are.
        found = []
        for write in writes:
            found += await asyncio.gather(self._commit.submit(write), return_exceptions=True)  # type: ignore[arg-type]
            if isinstance(found[-1], Exception):
                break
        return found + found[-1:] * (len(writes) - len(found))

    async def _refuse_rest(self, access: Access, cuid: int, entries: Sequence[Entry], results: dict[int, Result]) -> None:
        """Add to `results` what is wrong with the entries that have none."""
        rest = [place for place in range(len(entries)) if place not in results]
        if not rest:
            return
        is_there = any(isinstance(result, Written | Replayed) for result in results.values())
        unknown: list[Problem] = [] if is_there else await self.problems(access, cuid, [], None)
        for number, place in enumerate(rest):
            await _give_way(number)
            entry = entries[place]
            problems = await self.problems(access, None, [*entry.problems, *unknown], entry.data)
            # Without a problem, the schema changed since.
            results[place] = Refusal(problems) if problems else Overloaded("the schema keeps changing")

    async def _set_of_nobody(self, access: Access, entry: Entry, *, dry: bool) -> Result:
        """What is wrong with an entry that names nobody, or what would come of one whose user a dry run does not make."""
        patch = validate(access.project.schema, entry.data, access.zone) if entry.data is not None else []
        if entry.problems or type(patch) is not Patch:
            return Refusal(await self.problems(access, None, entry.problems, entry.data))
        assert dry, "whose user would be made"
        now = self._clock()
        decision = self._service.rules(Profile.new(now), patch, now)
        if decision.problems:
            return Refusal(decision.problems)
        return Written(decision.profile.version, decision.outcomes, decision.profile.attributes)

    async def _find_users(
        self, access: Access, entries: Sequence[Entry], *, register: bool, dry: bool
    ) -> tuple[list[int | None], dict[int, Result]]:
        """The CUID of each entry, if it is known; and by its place, the result of each entry that fails for want of it."""
        cuids = [entry.cuid for entry in entries]
        results: dict[int, Result] = {}
        wanted: dict[str, list[int]] = {}
        for place, entry in enumerate(entries):
            if entry.identity is not None and not entry.problems:
                wanted.setdefault(entry.identity[0], []).append(place)
        for name, places in wanted.items():
            try:
                known = await self._find_cuids(access, name, [entries[p] for p in places], register=register and not dry)
            except Refused as refused:
                results |= {place: Refusal(list(refused.problems)) for place in places}
                continue
            except Unavailable as failure:
                results |= dict.fromkeys(places, failure)
                continue
            for place in places:
                identity = entries[place].identity
                assert identity is not None
                cuids[place] = known.get(identity[1])
                if cuids[place] is not None or (register and dry):
                    continue
                known_problems = [] if register else [_unknown("=".join(identity))]
                problems = await self.problems(access, None, known_problems, entries[place].data)
                # Without a problem, the schema changed since.
                results[place] = Refusal(problems) if problems else Overloaded("the schema keeps changing")
        return cuids, results

    async def _find_cuids(self, access: Access, name: str, entries: Sequence[Entry], *, register: bool) -> dict[str, int]:
        """The CUIDs of the values of one identifier; with `register`, also of those not seen before. May raise Refused."""
        project = access.project
        if register:
            project.schema.registration_identifier(name)
        values = list(dict.fromkeys(entry.identity[1] for entry in entries if entry.identity))
        known = await asyncio.to_thread(self._service.find_cuids, project, name, values)
        if register:
            # Nobody is made for an entry that will be refused.
            new: dict[str, None] = {}
            for number, entry in enumerate(entries):
                await _give_way(number)
                if (
                    entry.identity
                    and entry.identity[1] not in known
                    and type(validate(project.schema, entry.data or {}, access.zone)) is Patch
                ):
                    new[entry.identity[1]] = None
            if new:
                made = await asyncio.to_thread(self._service.register, project, name, list(new))
                known |= zip(new, made, strict=True)
        return known

    async def problems(
        self, access: Access, cuid: int | None, known: Sequence[Problem], data: Mapping[str, Any] | None
    ) -> list[Problem]:
        """All that is wrong with a request that will be refused: `known`, an unknown CUID, then its attributes."""
        problems = list(known)
        if cuid is not None and await asyncio.to_thread(self._service.store.read, access.project.number, cuid) is None:
            problems.append(_unknown(cuid))
        if data is not None:
            checked = validate(access.project.schema, data, access.zone)
            if type(checked) is list:
                problems += checked
        return problems


async def _give_way(number: int) -> None:
    """Give other requests their turn, now and then: checking a batch of entries with many attributes takes long."""
    if number % _CHECKED_AT_ONCE == _CHECKED_AT_ONCE - 1:
        await asyncio.sleep(0)


def _unknown(cuid: int | str) -> Problem:
    return Problem(Kind.CUID_UNKNOWN, None, {"cuid": excerpt(cuid)})
