"""Retention: removing history that is too old or too much, and packing what is kept for long."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from usertable.app.clock import Clock
from usertable.commands.projects import begin_history
from usertable.domain.history import moment_text
from usertable.domain.moments import DAY_MS, HOUR_MS
from usertable.domain.schema import HistorySettings, Project
from usertable.store.protocol import Store

log = logging.getLogger("usertable.history")

PACK_AGE_MS = HOUR_MS
"""Age in milliseconds from which changes are packed. Newer ones are read and written more often."""

LATE_MS = 12 * HOUR_MS
"""Age in milliseconds from which changes that are not packed are late."""

PATIENT_REST = 40
"""After each packed block, it rests for so many times as long as the processor worked on it.

So packing has about a fortieth of a processor and of the interpreter's lock, which requests need too. What a step waits for
is not counted, so that a server that is never idle packs too. A lower priority of the thread would give no such bound, and
whoever waits for the interpreter's lock would wait for a thread that does not run.
"""
REST = 2
"""The same for removing, and for packing that cannot wait: changes are late, or a history that exceeds its size was not
packed within a run. This is faster than the server writes: to pack a change takes a tenth of the work of a PUT, or less."""
PACKING_SECONDS = 60.0
"""Seconds of a run after which packing lets removal have its turn again."""
PAUSE = 0.1
"""Maximum seconds without looking whether the server is about to end."""

GIGABYTE = 10**9
FULL = 0.99
"""Part of the maximum size from which a history counts as full: it is cut to a block's size below the maximum."""


class PruneReason(StrEnum):
    """Why history was removed."""

    DAYS = "days"
    """It was older than the project's days."""
    GIGABYTES = "gigabytes"
    """There was more of it than the project's gigabytes."""
    OFF = "off"
    """The project's history was turned off."""


@dataclass(slots=True)
class KeptHistory:
    """How much history of all projects is kept."""

    bytes: int = 0
    changes: int = 0
    since: int | None = None
    """Since when the history of all projects is kept that have any, in ms since 1970 UTC: the latest of their moments."""
    shortened: int = 0
    """Number of projects whose history is not kept for their days, because of its size."""


class HistoryRetention:
    """Keeps the history of a store's projects within their settings. Several servers may do so at once.

    Args:
        worked: seconds that processors have worked for the calling thread.
        stopping: returns whether the server is about to end. What is left is then done after the next start.
    """

    def __init__(
        self, store: Store, clock: Clock, stopping: Callable[[], bool], worked: Callable[[], float] = time.thread_time
    ) -> None:
        self._store = store
        self._clock = clock
        self._stopping = stopping
        self._worked = worked
        self._shortened: set[int] = set()
        """Projects whose history is known not to be kept for their days."""
        self._exceeding: dict[int, int] = {}
        """Projects that exceed their gigabytes and have more to pack, with their bytes as of the last run."""
        self.kept = KeptHistory()
        """As of the last run."""
        self.pruned: Counter[PruneReason] = Counter()
        """Changes that this process has removed."""
        self.packed = 0
        """Blocks that this process has packed."""

    def run(self, day_ago: int | None) -> bool:
        """Remove what is to be removed, and pack what can be packed: in short transactions, which let others go first.

        What is too old is removed first, of all projects. What exceeds a size is removed last: packing makes it smaller.

        Args:
            day_ago: moment before which everything is more than a day old, whatever the system's clock says; ms since 1970
                UTC. None while that is not known: then nothing is removed for its age.

        Returns:
            whether there is more to pack, so that the next run is due at once.
        """
        projects = self._store.projects()
        for project in projects:
            self._store.forget_erased(project.number)
            self._remove_old(project, day_ago)
        unfinished = {project.number for project in self._pack([project for project in projects if project.history.is_on])}
        kept, exceeding = KeptHistory(), {}
        for project in projects:
            number, figures, is_unknown = project.number, self._store.history_figures(project.number), False
            excess = figures.bytes - project.history.gigabytes * GIGABYTE
            if project.history.is_on and excess > 0:
                if number in unfinished:
                    exceeding[number] = figures.bytes
                    is_unknown = not self._packing_is_too_slow(project, figures.bytes)
                if not is_unknown:
                    self._prune(project, PruneReason.GIGABYTES, 0, excess)
                    figures = self._store.history_figures(number)
            since = self._store.history_since(number)
            kept.bytes += figures.bytes
            kept.changes += figures.changes
            if since is not None:
                kept.since = max(since, kept.since or 0)
                # Until it is packed, nobody knows whether its size allows its days.
                kept.shortened += (
                    number in self._shortened if is_unknown else self._is_shortened(project, figures.bytes, since)
                )
        self.kept, self._exceeding = kept, exceeding
        return bool(unfinished) and not self._stopping()

    def _remove_old(self, project: Project, day_ago: int | None) -> None:
        if not project.history.is_on:
            self._prune(project, PruneReason.OFF, None)
            return
        if self._store.history_since(project.number) is None:
            self._store.transact(lambda transaction: begin_history(transaction, project.id, self._clock.now_ms))
        if day_ago is not None:
            self._prune(project, PruneReason.DAYS, _horizon(project.history, day_ago))

    def _pack(self, projects: list[Project]) -> list[Project]:
        """Pack a block of each project in turn until the time is up, and return the projects that have more."""
        now, end = self._clock.now_ms(), self._clock.monotonic() + PACKING_SECONDS
        rest = REST if self._exceeding else PATIENT_REST
        while projects:
            unfinished = []
            for project in projects:
                if self._stopping():
                    return projects
                began = self._worked()
                packed = self._store.pack_history(project.number, now - PACK_AGE_MS)
                if packed.is_busy:
                    self._clock.pause(PAUSE)
                elif not packed.blocks:
                    continue
                unfinished.append(project)
                self.packed += packed.blocks
                if packed.blocks and packed.latest < now - LATE_MS:
                    rest = REST
                self._rest(rest * (self._worked() - began))
            projects = unfinished
            if self._clock.monotonic() >= end:
                break
        return projects

    def _packing_is_too_slow(self, project: Project, size: int) -> bool:
        """Return whether a run has not made a history smaller, although it rested as little as it may."""
        return size >= self._exceeding.get(project.number, size + 1)

    def _prune(self, project: Project, reason: PruneReason, before: int | None, excess: int = 0) -> None:
        while not self._stopping():
            began = self._worked()
            removed = self._store.prune_history(project.number, before, excess, self._clock.now_ms())
            if not removed.blocks:
                break
            excess -= removed.bytes
            self.pruned[reason] += removed.changes
            self._rest(REST * (self._worked() - began))

    def _rest(self, seconds: float) -> None:
        """Let requests go first."""
        while seconds > 0 and not self._stopping():
            self._clock.pause(min(seconds, PAUSE))
            seconds -= PAUSE

    def _is_shortened(self, project: Project, size: int, since: int) -> bool:
        """Return whether a project's size does not allow its days. It is logged once, until it does again."""
        settings, number = project.history, project.number
        if size < FULL * settings.gigabytes * GIGABYTE or since <= _horizon(settings, self._clock.now_ms() - DAY_MS):
            self._shortened.discard(number)
            return False
        if number not in self._shortened:
            self._shortened.add(number)
            log.warning(
                "project %s: its history has reached %d GB, so it is kept since %s only, and not for %d days; raise its"
                " gigabytes, or lower its days",
                project.id,
                settings.gigabytes,
                moment_text(since),
                settings.days,
            )
        return True


def _horizon(settings: HistorySettings, day_ago: int) -> int:
    """Return the moment before which history is removed; ms since 1970 UTC."""
    return day_ago - (settings.days - 1) * DAY_MS
