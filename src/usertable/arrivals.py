"""What comes in to a server process, counted on the way and handed to the store about once a second.

Every request is counted, and the attributes of those that were accepted are noted. Of the first few of a project in each
second a sample is kept, so that a flood costs no more than a trickle; how many were left out is known from the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from usertable.domain.arrival import ENTRIES, GROUPS, Arrival, Arrivals, Entry
from usertable.domain.errors import Kind, Problem, Unavailable, excerpt
from usertable.domain.profile import Outcome
from usertable.domain.schema import NAME_LENGTH
from usertable.store.protocol import Store

KEPT_MS = 3_600_000
"""What came in is shown for an hour."""
SAMPLES = 10
"""Of the accepted and of the refused requests of a project, so many are kept as samples in each second."""
STRANGERS = 100
"""So many requests with a wrong secret are counted in each second."""
_PAYLOAD = ("value", "stored")
"""The facts of a problem that hold something of the user's."""
HELD_BATCHES = 60
"""What a store that is down could not take is held for so many seconds."""


Taken = tuple[list[Arrivals], list[tuple[str, bytes]]]
"""What came in, and who was not let in: the project's id and the request's."""


class ProjectArrivals:
    """What comes in to one project. Belongs to the event loop, like all that counts here."""

    __slots__ = ("_accepted_quota", "_clock", "_payloads", "_refused_quota", "_unclaimed", "came", "number")

    def __init__(self, number: int, clock: Callable[[], int], payloads: bool) -> None:
        self.number = number
        self._clock = clock
        self._payloads = payloads
        self.begin()

    def begin(self) -> None:
        """Begin another second."""
        self.came = Arrivals(self.number, 0)
        self._accepted_quota = SAMPLES
        self._refused_quota = SAMPLES
        self._unclaimed = SAMPLES

    def claim_sample(self) -> bool:
        """Whether a request that is about to be written shall tell its outcomes, for a sample, if it is accepted.

        So many may as there will be samples: what tells its outcomes costs the store several times as much.
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
    ) -> None:
        """Count a write that was accepted, and keep a sample of it if it is the turn of one, and outcomes are given."""
        came = self.came
        came.accepted += 1
        came.written.update(data)
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
                )
            )

    def accepted_registration(self, request: bytes, identifier: str, cuids: Sequence[int]) -> None:
        """Count a Get CUID. The identifier's values are never kept."""
        self.came.accepted += 1
        if self._accepted_quota > 0:
            self._accepted_quota -= 1
            cuid = cuids[0] if len(cuids) == 1 else None
            subject = excerpt(identifier, NAME_LENGTH)
            self._keep(Arrival(self._clock(), "register", request.decode(), cuid, subject, len(cuids)))

    def refused(
        self,
        api: str,
        request: bytes,
        problems: Sequence[Problem],
        cuid: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Count a request that was refused, and keep a sample of it."""
        came = self.came
        came.refused += 1
        # If it had claimed a sample of the accepted, another one may.
        self._unclaimed += 1
        for problem in problems[:ENTRIES]:
            group = (problem.kind, None if problem.attribute is None else excerpt(problem.attribute, NAME_LENGTH))
            if group not in came.refusals and len(came.refusals) >= GROUPS:
                group = (problem.kind, None)
            came.refusals[group] = came.refusals.get(group, 0) + 1
        if self._refused_quota > 0:
            self._refused_quota -= 1
            entries, left_out = self._entries(data or {}, {})
            kept = tuple(
                Problem(
                    p.kind,
                    None if p.attribute is None else excerpt(p.attribute, NAME_LENGTH),
                    p.facts if self._payloads else {k: "…" if k in _PAYLOAD else v for k, v in p.facts.items()},
                )
                for p in problems[:ENTRIES]
            )
            self._keep(
                Arrival(self._clock(), api, request.decode(), cuid, entries=entries, left_out=left_out, problems=kept)
            )

    def _entries(self, data: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> tuple[tuple[Entry, ...], int]:
        names = list(data)[:ENTRIES]
        entries = tuple(
            Entry(excerpt(name, NAME_LENGTH), excerpt(data[name]) if self._payloads else None, outcomes.get(name))
            for name in names
        )
        return entries, len(data) - len(names)

    def _keep(self, arrival: Arrival) -> None:
        self.came.samples.append(arrival)


class Recorder:
    """What comes in to all projects of a server process.

    Args:
        clock: milliseconds since 1970 UTC.
        payloads: keep excerpts of the values that were sent.
    """

    def __init__(self, clock: Callable[[], int], *, payloads: bool = False) -> None:
        self._clock = clock
        self._payloads = payloads
        self._projects: dict[int, ProjectArrivals] = {}
        self._strangers: list[tuple[str, bytes]] = []
        self._held: list[list[Arrivals]] = []

    def project(self, number: int) -> ProjectArrivals:
        """Where the requests to a project are counted."""
        found = self._projects.get(number)
        if found is None:
            found = self._projects[number] = ProjectArrivals(number, self._clock, self._payloads)
        return found

    def stranger(self, project_id: str, request: bytes) -> None:
        """Note a request that named a project and did not know its secret."""
        if len(self._strangers) < STRANGERS:
            self._strangers.append((project_id, request))

    def take(self) -> Taken:
        """What came in since the last call."""
        second = self._clock() // 1000 * 1000
        came = []
        for arrivals in self._projects.values():
            if not arrivals.came.is_empty:
                arrivals.came.at = second
                came.append(arrivals.came)
                arrivals.begin()
        strangers, self._strangers = self._strangers, []
        return came, strangers

    def hand_over(self, store: Store, taken: Taken) -> None:
        """Give the store what was taken; blocks. If it is down, that is held for the next time, and Unavailable raised."""
        came, strangers = taken
        came = [*came, *self._attributed(store, strangers)]
        if came:
            self._held.append(came)
            del self._held[:-HELD_BATCHES]
        while self._held:
            store.keep_arrivals(self._held[0])
            del self._held[0]

    def _attributed(self, store: Store, strangers: Sequence[tuple[str, bytes]]) -> list[Arrivals]:
        """What strangers sent, by the projects they named; those that do not exist are nobody's."""
        projects: dict[str, ProjectArrivals | None] = {}
        for project_id, request in strangers:
            if project_id not in projects:
                try:
                    found = store.project(project_id)
                except Unavailable:
                    return []
                projects[project_id] = ProjectArrivals(found.number, self._clock, self._payloads) if found else None
            if arrivals := projects[project_id]:
                arrivals.refused("", request, [Problem(Kind.CREDENTIALS)])
        second = self._clock() // 1000 * 1000
        for arrivals in filter(None, projects.values()):
            arrivals.came.at = second
        return [arrivals.came for arrivals in projects.values() if arrivals]
