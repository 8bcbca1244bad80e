"""Refused sign-ins in the audit log, grouped so that nobody can fill the disk with them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from usertable.app.audit import AuditLog
from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditKind, Facts

WINDOW_MS = 10 * 60_000
"""Milliseconds for which refusals of one account from one address are counted before the count is recorded."""
PAIRS = 20
"""Maximum number of accounts and addresses that are counted separately in that time. All others are one count."""
ACCOUNT_LENGTH = 254
"""Maximum characters of a recorded account: those of an email address."""

_OTHERS = ("", "")


@dataclass(slots=True)
class _Window:
    begin: int
    """Milliseconds since 1970 UTC."""
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    """By account and address, the refusals that are not recorded yet."""


class RefusedSignIns:
    """Records the first refusal of an account from an address at once, and later a single entry with the number of others.

    An attacker who tries many accounts from many addresses creates at most 41 entries per ten minutes in each process of the
    server. A process that is killed loses the counts of these ten minutes, but never the first refusal.

    Args:
        clock: milliseconds since 1970 UTC.
    """

    def __init__(self, log: AuditLog, clock: Callable[[], int]) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._window = _Window(clock())
        self._due: deque[tuple[str, str, int]] = deque()
        """Account, address and number of refusals in ended windows, to be recorded."""

    def add(self, account: str, actor: Actor, reason: str = "") -> None:
        """Record a refused sign-in, or count it.

        Args:
            account: the account: an email address as typed; `admin-token`.
            actor: the caller, with the request.
            reason: a word for a refusal that is recorded at once; empty for a wrong secret.

        Raises:
            Unavailable: the store is down. The refusal is counted.
        """
        pair = (account[:ACCOUNT_LENGTH], actor.address)
        with self._lock:
            self._end_window(at_once=False)
            counts = self._window.counts
            is_new = pair not in counts and len(counts.keys() - {_OTHERS}) < PAIRS
            counted = pair if is_new or pair in counts else _OTHERS
            counts[counted] = counts.get(counted, 0) + 1
        if is_new:
            self._log.record(INSTALLATION, actor, _event(pair[0], 1, reason))
            with self._lock:
                # It stays in the window, so that the next one is not the first.
                counts[pair] -= 1

    def settle(self, *, at_once: bool = False) -> None:
        """Record the counts of windows that have ended.

        Args:
            at_once: even if it has not ended.

        Raises:
            Unavailable: the store is down. What is not recorded yet is kept for the next call.
        """
        with self._lock:
            self._end_window(at_once=at_once)
        with self._settling:
            while self._due:
                account, address, count = self._due[0]
                self._log.record(INSTALLATION, Actor.anonymous().with_origin("", address), _event(account, count))
                self._due.popleft()

    def _end_window(self, *, at_once: bool) -> None:
        now = self._clock()
        window = self._window
        if at_once or not window.begin <= now < window.begin + WINDOW_MS:
            self._due += ((*pair, count) for pair, count in window.counts.items() if count)
            self._window = _Window(now)


def _event(account: str, count: int, reason: str = "") -> AuditEvent:
    why: Facts = {"reason": reason} if reason else {}
    return AuditEvent(AuditKind.REFUSE_SIGN_IN, account, after={"count": count, **why})
