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

REST = 2
"""After each step, it rests for so many times as long as the processor worked on it.

So packing has at most a third of a processor and of the interpreter's lock, which requests need too. What a step waits for
is not counted, so that a server that is never idle packs too: faster than it writes, because to pack a change takes a tenth
of the work of a PUT, or less. A lower priority of the thread would give no such bound, and whoever waits for the
interpreter's lock would wait for a thread that does not run.
"""
LONGEST_REST = 1.0
"""Maximum seconds of a rest, for which the end of a server waits."""

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
        self.kept = KeptHistory()
        """As of the last run."""
        self.pruned: Counter[PruneReason] = Counter()
        """Changes that this process has removed."""
        self.packed = 0
        """Blocks that this process has packed."""

    def run(self, day_ago: int | None) -> None:
        """Remove what is to be removed, and pack what can be packed: in short transactions, which let others go first.

        Args:
            day_ago: moment before which everything is more than a day old, whatever the system's clock says; ms since 1970
                UTC. None while that is not known: then nothing is removed for its age.
        """
        kept = KeptHistory()
        for project in self._store.projects():
            if project.history.is_on:
                self._keep(project, day_ago)
            else:
                self._prune(project, PruneReason.OFF, None)
            figures, since = self._store.history_figures(project.number), self._store.history_since(project.number)
            kept.bytes += figures.bytes
            kept.changes += figures.changes
            if since is not None:
                kept.since = max(since, kept.since or 0)
                kept.shortened += self._is_shortened(project, figures.bytes, since)
        self.kept = kept

    def _keep(self, project: Project, day_ago: int | None) -> None:
        number, now = project.number, self._clock.now_ms()
        if self._store.history_since(number) is None:
            self._store.transact(lambda transaction: begin_history(transaction, project.id, self._clock.now_ms))
        if day_ago is not None:
            self._prune(project, PruneReason.DAYS, _horizon(project.history, day_ago))
        while not self._stopping():
            began = self._worked()
            blocks = self._store.pack_history(number, now - PACK_AGE_MS)
            if not blocks:
                break
            self.packed += blocks
            self._rest(began)
        excess = self._store.history_figures(number).bytes - project.history.gigabytes * GIGABYTE
        if excess > 0:
            self._prune(project, PruneReason.GIGABYTES, 0, excess)

    def _prune(self, project: Project, reason: PruneReason, before: int | None, excess: int = 0) -> None:
        while not self._stopping():
            began = self._worked()
            removed = self._store.prune_history(project.number, before, excess, self._clock.now_ms())
            if not removed.blocks:
                break
            excess -= removed.bytes
            self.pruned[reason] += removed.changes
            self._rest(began)

    def _rest(self, began: float) -> None:
        """Let requests go first, after a step before which the thread had worked so long."""
        self._clock.pause(min(REST * (self._worked() - began), LONGEST_REST))

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
