"""Arrivals at a server process, counted as they come and written to the store about once a second.

Every request is counted, and the attributes of accepted ones are recorded. The first few requests of a project in each
second are stored as samples, so that a flood costs no more than a trickle. The counts show how many were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from usertable.app.use_cases import UseCases
from usertable.domain.arrival import ENTRIES, GROUPS, Arrival, Arrivals, Rate, RefusalGroup, SampledAttribute
from usertable.domain.errors import Problem, ProblemKind, Unavailable, excerpt
from usertable.domain.profile import Outcome
from usertable.domain.schema import NAME_LENGTH, Project
from usertable.store.protocol import KEPT_SAMPLES

KEPT_MS = 3_600_000
"""Milliseconds for which arrivals are shown: one hour."""
SAMPLES = 10
"""Maximum number of samples of a project per second, for accepted and for refused requests each."""
FAILED_LOGINS = 100
"""Maximum number of requests with a wrong secret that are counted per second."""
_PAYLOAD = ("value", "stored")
"""The parameters of a problem that contain a user's data."""
MINUTE_MS = 60_000
HELD_BATCHES = 60
"""Maximum seconds of activity that are held while the store is down."""


Drained = tuple[list[Arrivals], list[tuple[str, bytes]]]
"""Activity by project, and requests with a wrong secret: the project's ID and the request's."""


class KeyActivity:
    """Whether a key was used since the last check. Requests only set a flag."""

    __slots__ = ("minute", "used")

    def __init__(self) -> None:
        self.used = False
        self.minute = 0
        """The last reported minute of use: minutes since 1970 UTC."""


class ProjectActivity:
    """Arrivals at one project. Belongs to the event loop, like everything that counts here."""

    __slots__ = ("_accepted_quota", "_clock", "_payloads", "_refused_quota", "_unclaimed", "current", "keys", "number")

    def __init__(self, number: int, clock: Callable[[], int], payloads: bool) -> None:
        self.number = number
        self._clock = clock
        self._payloads = payloads
        self.keys: dict[str, KeyActivity] = {}
        """By key name."""
        self.begin()

    def begin(self) -> None:
        """Begin another second."""
        self.current = Arrivals(self.number, 0)
        self._accepted_quota = SAMPLES
        self._refused_quota = SAMPLES
        self._unclaimed = SAMPLES

    def key(self, name: str) -> KeyActivity:
        """Return the activity of a key."""
        return self.keys.setdefault(name, KeyActivity())

    def note_uses(self, second: int) -> None:
        """Record the keys used for the first time in this minute. `second` is in ms since 1970 UTC."""
        minute = second // MINUTE_MS
        for name, use in list(self.keys.items()):
            if use.used:
                use.used = False
                if name and use.minute != minute:
                    use.minute = minute
                    self.current.keys.add(name)

    def claim_sample(self) -> bool:
        """Return whether a write should return its outcomes, for a sample, if it is accepted.

        The number is limited to that of the samples: a write that returns outcomes costs the store several times as much.
        """
        if self._accepted_quota <= 0 or self._unclaimed <= 0:
            return False
        self._unclaimed -= 1
        return True

    def accepted(
        self,
        api: str,
        request: bytes,
        cuid: int | None,
        data: Mapping[str, Any],
        outcomes: Mapping[str, Outcome],
        *,
        repeated: bool = False,
        key: str = "",
    ) -> None:
        """Count an accepted write. Store a sample of it if samples are still wanted and outcomes are given."""
        current = self.current
        current.accepted += 1
        current.written.update(data)
        if self._accepted_quota > 0 and outcomes:
            self._accepted_quota -= 1
            entries, left_out = self._entries(data, outcomes)
            self._keep(
                Arrival(
                    self._clock(),
                    api,
                    request.decode(),
                    cuid,
                    entries=entries,
                    left_out=left_out,
                    repeated=repeated,
                    key=key,
                )
            )

    def accepted_registration(self, request: bytes, identifier: str, cuids: Sequence[int], key: str = "") -> None:
        """Count a Get CUID. The identifier's values are never stored."""
        self.current.accepted += 1
        if self._accepted_quota > 0:
            self._accepted_quota -= 1
            cuid = cuids[0] if len(cuids) == 1 else None
            subject = excerpt(identifier, NAME_LENGTH)
            self._keep(Arrival(self._clock(), "register", request.decode(), cuid, subject, len(cuids), key=key))

    def refused(
        self,
        api: str,
        request: bytes,
        problems: Sequence[Problem],
        cuid: int | None = None,
        data: Mapping[str, Any] | None = None,
        key: str = "",
    ) -> None:
        """Count a refused request, and store a sample of it."""
        current = self.current
        current.refused += 1
        # If it had reserved a sample of accepted requests, another one may use it.
        self._unclaimed += 1
        for problem in problems[:ENTRIES]:
            group = (problem.kind, None if problem.attribute is None else excerpt(problem.attribute, NAME_LENGTH))
            if group not in current.refusals and len(current.refusals) >= GROUPS:
                group = (problem.kind, None)
            current.refusals[group] = current.refusals.get(group, 0) + 1
        if self._refused_quota > 0:
            self._refused_quota -= 1
            entries, left_out = self._entries(data or {}, {})
            kept = tuple(
                Problem(
                    p.kind,
                    None if p.attribute is None else excerpt(p.attribute, NAME_LENGTH),
                    p.params if self._payloads else {k: "…" if k in _PAYLOAD else v for k, v in p.params.items()},
                )
                for p in problems[:ENTRIES]
            )
            self._keep(
                Arrival(
                    self._clock(), api, request.decode(), cuid, entries=entries, left_out=left_out, problems=kept, key=key
                )
            )

    def _entries(self, data: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> tuple[tuple[SampledAttribute, ...], int]:
        names = list(data)[:ENTRIES]
        entries = tuple(
            SampledAttribute(excerpt(name, NAME_LENGTH), excerpt(data[name]) if self._payloads else None, outcomes.get(name))
            for name in names
        )
        return entries, len(data) - len(names)

    def _keep(self, arrival: Arrival) -> None:
        self.current.samples.append(arrival)


class ActivityRecorder:
    """Arrivals at all projects of a server process.

    Args:
        clock: milliseconds since 1970 UTC.
        payloads: store excerpts of the values sent.
    """

    def __init__(self, clock: Callable[[], int], *, payloads: bool = False) -> None:
        self._clock = clock
        self._payloads = payloads
        self._projects: dict[int, ProjectActivity] = {}
        self._failed_logins: list[tuple[str, bytes]] = []
        self._held: list[list[Arrivals]] = []
        self.samples_kept = 0
        """Number of samples passed to the store since the process started."""

    @property
    def held(self) -> int:
        """Seconds of activity that wait for a store that is down."""
        return len(self._held)

    def project(self, number: int) -> ProjectActivity:
        """Return the counts of a project."""
        found = self._projects.get(number)
        if found is None:
            found = self._projects[number] = ProjectActivity(number, self._clock, self._payloads)
        return found

    def failed_login(self, project_id: str, request: bytes) -> None:
        """Count a request with the ID of a project and a wrong secret."""
        if len(self._failed_logins) < FAILED_LOGINS:
            self._failed_logins.append((project_id, request))

    def drain(self) -> Drained:
        """Return the activity since the last call."""
        second = self._clock() // 1000 * 1000
        seconds = []
        for arrivals in self._projects.values():
            arrivals.note_uses(second)
            if not arrivals.current.is_empty or arrivals.current.keys:
                arrivals.current.at = second
                seconds.append(arrivals.current)
                arrivals.begin()
        failed_logins, self._failed_logins = self._failed_logins, []
        return seconds, failed_logins

    def hand_over(self, activity: Activity, drained: Drained) -> None:
        """Store the drained activity; blocks. If the store is down, it is held for the next call, and Unavailable raised."""
        seconds, failed_logins = drained
        seconds = [*seconds, *self._attributed(activity, failed_logins)]
        if seconds:
            self._held.append(seconds)
            del self._held[:-HELD_BATCHES]
        while self._held:
            activity.keep_activity(self._held[0])
            self.samples_kept += sum(len(arrivals.samples) for arrivals in self._held[0])
            del self._held[0]

    def _attributed(self, activity: Activity, failed_logins: Sequence[tuple[str, bytes]]) -> list[Arrivals]:
        """Return requests with a wrong secret by project. Those with the ID of no project are dropped."""
        projects: dict[str, ProjectActivity | None] = {}
        for project_id, request in failed_logins:
            if project_id not in projects:
                try:
                    found = activity.find_project(project_id)
                except Unavailable:
                    return []
                projects[project_id] = ProjectActivity(found.number, self._clock, self._payloads) if found else None
            if arrivals := projects[project_id]:
                arrivals.refused("", request, [Problem(ProblemKind.CREDENTIALS)])
        second = self._clock() // 1000 * 1000
        for arrivals in filter(None, projects.values()):
            arrivals.current.at = second
        return [arrivals.current for arrivals in projects.values() if arrivals]


class Activity(UseCases):
    """Use cases about recent requests."""

    def keep_activity(self, seconds: Sequence[Arrivals]) -> None:
        """Store seconds of activity, by project."""
        self._store.keep_arrivals(seconds)

    def expire_activity(self) -> None:
        """Delete activity that is too old to be shown."""
        self._store.expire_arrivals(self._clock() - KEPT_MS)

    def expire_receipts(self, before: int) -> int:
        """Delete some of the receipts created before that moment. Return how many."""
        return self._store.expire_receipts(before)

    def arrivals(
        self, project: Project, *, after: int = 0, limit: int = 50, refused: bool | None = None
    ) -> list[tuple[int, Arrival]]:
        """Return the newest samples of requests, newest first, each with its number. `after`: only higher numbers."""
        return self._store.arrivals(project.number, after, limit, refused=refused)

    def arrivals_of(self, project: Project, cuid: int) -> list[Arrival]:
        """Return the samples about a user, newest first."""
        kept = self._store.arrivals(project.number, 0, 2 * KEPT_SAMPLES)
        return [arrival for _, arrival in kept if arrival.cuid == cuid]

    def rates(self, project: Project, *, since: int, step: int) -> list[Rate]:
        """Return the number of requests since `since`, in steps of `step` ms."""
        return self._store.rates(project.number, since, step)

    def refusals(self, project: Project, *, since: int, attribute: str | None = None) -> list[RefusalGroup]:
        """Return the refusals since `since`, by kind and attribute, the most frequent first, each with a sample.

        `attribute`: only those about this attribute.
        """
        samples: dict[tuple[ProblemKind, str | None], Arrival] = {}
        for _, arrival in self._store.arrivals(project.number, 0, KEPT_SAMPLES, refused=True):
            for problem in arrival.problems:
                samples.setdefault((problem.kind, problem.attribute), arrival)
        groups = [
            RefusalGroup(kind, name, count, last, samples.get((kind, name)))
            for kind, name, count, last in self._store.refusals(project.number, since)
            if attribute is None or name == attribute
        ]
        return sorted(groups, key=lambda group: (-group.count, group.kind, group.attribute or ""))

    def registrations(self, project: Project, identifier: str, *, since: int) -> int:
        """Return the number of samples since `since` that are a Get CUID with this identifier."""
        kept = self._store.arrivals(project.number, 0, KEPT_SAMPLES, refused=False)
        return sum(a.api == "register" and a.subject == identifier and a.at >= since for _, a in kept)

    def last_writes(self, project: Project) -> dict[str, int]:
        """Return, by attribute, when an accepted request or an import last had it; ms since 1970 UTC, to the second."""
        return self._store.last_writes(project.number)
