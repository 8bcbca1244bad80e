"""Verification of secrets: secrets that passed before are recognized at once, others are verified in fair turns.

Hashing a secret that was not generated takes about 25 ms of CPU, on purpose, and anybody can cause it without an account. So
the number of waiting verifications is limited, failed ones are rationed by project and by address, and whoever shares its
project or its address with one that failed lately is verified by a thread of low priority.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import math
import mmap
import os
import secrets
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.keyring import Keyring
from usertable.domain.errors import Overloaded

VERIFICATIONS_WAITING = 1000
"""Maximum number of verifications that wait in one process."""
WAITING_PER_CALLER = 16
"""Maximum number of them from one address for one project."""
VERIFICATION_SECONDS = 10.0
"""Seconds after which a waiting verification is abandoned, with 503."""
FAILURES_AT_ONCE = 20
"""Number of consecutive failed verifications of a project, or an address, before they are rationed."""
FAILURES_PER_SECOND = 10.0
"""Failed verifications per second, of a project and of an address, once they are rationed."""
FAILURE_SECONDS = 10.0
"""Seconds for which a wrong secret is remembered, and refused without hashing it."""
FAILURES_REMEMBERED = 10_000
SUSPECT_SECONDS = 60.0
"""Seconds after a failed verification for which others of its project, and of its address, have a low priority."""
NICENESS = 10
"""By how much a thread of low priority is nicer than the process: requests of known callers get the CPU first."""
UNKNOWN_SHARES = 32
"""Number of shares over which the IDs of projects that do not exist are distributed: there is no limit to such IDs."""
_SHARES_REMEMBERED = 10_000

_KEY_BYTES = 32
_DIGEST_BYTES = 32
_SLOTS = 65_536
SHARED_BYTES = _KEY_BYTES + _SLOTS * _DIGEST_BYTES


class PassedSecrets:
    """The secrets that were verified since the server started, shared by all of its workers.

    Each is an HMAC-SHA256 with a random key of this start, in memory only. It covers the stored hash, so a replaced secret
    is forgotten automatically.

    Args:
        memory: `SHARED_BYTES` that begin with :func:`new_key`; None for a server of one process.
    """

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        if memory is None:
            memory = mmap.mmap(-1, SHARED_BYTES)
            memory[:_KEY_BYTES] = new_key()
        self._memory = memory
        self._key = memory[:_KEY_BYTES]

    def digest(self, project_id: str, secret_hash: bytes, secret: str) -> bytes:
        """Return the digest of a secret, for a hash that the project has stored."""
        parts = (project_id.encode(), secret_hash, secret.encode())
        return hmac.digest(self._key, b"".join(len(part).to_bytes(8, "big") + part for part in parts), "sha256")

    def add(self, digest: bytes) -> None:
        """Remember a digest. One in 65,536 replaces another, which is then verified again."""
        start = self._start(digest)
        self._memory[start : start + _DIGEST_BYTES] = digest

    def __contains__(self, digest: bytes) -> bool:
        # Without a lock: a read during another process's write does not match the digest of any secret.
        start = self._start(digest)
        return hmac.compare_digest(self._memory[start : start + _DIGEST_BYTES], digest)

    def _start(self, digest: bytes) -> int:
        return _KEY_BYTES + int.from_bytes(digest[:8], "big") % _SLOTS * _DIGEST_BYTES


def new_key() -> bytes:
    """Return the beginning of the memory of :class:`PassedSecrets`."""
    return secrets.token_bytes(_KEY_BYTES)


def network(host: str) -> str:
    """Return the address by which callers are distinguished: for IPv6 the first 64 bits, a customer's share."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


_Name = tuple[Literal["project", "address"], str]
"""Names a share."""


class _Share:
    """A project's, or an address's, share of the verifications."""

    __slots__ = ("at", "failed_at", "served", "tokens")

    def __init__(self, now: float, like: _Share | None = None) -> None:
        self.tokens: float = FAILURES_AT_ONCE if like is None else like.tokens
        self.at: float = now if like is None else like.at
        self.served: int = 0 if like is None else like.served
        """The number of its last turn."""
        self.failed_at: float = -math.inf if like is None else like.failed_at

    def fail(self, now: float) -> None:
        self.tokens -= 1
        self.failed_at = now

    def ready_at(self, now: float) -> float:
        """Return when it may have a turn."""
        self.tokens = min(FAILURES_AT_ONCE, self.tokens + (now - self.at) * FAILURES_PER_SECOND)
        self.at = now
        return now if self.tokens >= 1 else now + (1 - self.tokens) / FAILURES_PER_SECOND


class _Worker:
    """A thread that verifies one caller at a time."""

    __slots__ = ("is_busy", "thread")

    def __init__(self, name: str, initializer: Callable[[], None] | None = None) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=initializer)
        self.is_busy = False


@dataclass(slots=True, eq=False)
class _Turn:
    number: int
    project: str
    """The ID as sent."""
    shares: tuple[_Name, _Name]
    """The project's share, and the address's."""
    address: str
    work: Callable[[], Keyring | None]
    found: asyncio.Future[Keyring | None]


class Verifications:
    """Runs verifications: one at a time of those whose project or address had a failure lately, and one of the others.

    Next is the one whose project and address have waited the longest since their last turn.

    On a busy machine a thread of low priority may wait for seconds. A new caller does not wait for it, unless somebody sent
    a wrong secret for its project or from its address.

    So a caller waits for few verifications of others, however many wait, unless it shares project and address with a sender
    of wrong secrets. Behind a proxy all callers have one address, and are distinguished by project.

    The IDs of projects that do not exist are distributed randomly over :data:`UNKNOWN_SHARES`, so that any number of them
    delays others no more than that many projects. A project's own share begins like the one that its ID would have if there
    were no such project, so the order does not reveal that there is one.

    Belongs to one event loop.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._waiting: list[_Turn] = []
        self._shares: OrderedDict[_Name, _Share] = OrderedDict()
        self._key = secrets.token_bytes(_KEY_BYTES)
        """Distributes the IDs of unknown projects over their shares."""
        self._turns = 0
        self._alarm: asyncio.Task[None] | None = None
        self._worker = _Worker("verify")
        self._nice_worker = _Worker("verify nicely", yield_to_others)

    async def run(
        self, project: str, address: str, work: Callable[[], Keyring | None], *, is_known: bool = True
    ) -> Keyring | None:
        """Return the result of `work`, called in a verifying thread. None counts as a failure.

        Args:
            project: the ID of a project, as sent.
            address: the caller's address; see :func:`network`.
            is_known: whether there is such a project.

        Raises:
            Overloaded: too many wait, or it waited too long. Nothing was verified.
        """
        self._make_room(project, address)
        self._turns += 1
        shares: tuple[_Name, _Name] = ("project", self._project_share(project, is_known)), ("address", address)
        turn = _Turn(self._turns, project, shares, address, work, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._begin_next()
        try:
            return await self._clock.limit(VERIFICATION_SECONDS, turn.found)
        except TimeoutError:
            raise Overloaded(f"a caller waited {VERIFICATION_SECONDS:.0f} s to be verified") from None
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        for worker in (self._worker, self._nice_worker):
            worker.thread.shutdown(cancel_futures=True)

    def _make_room(self, project: str, address: str) -> None:
        """Make room for one more, if necessary in place of one whose address, or project, has more waiting than the new
        one's."""
        waiting = self._waiting
        if sum(turn.project == project and turn.address == address for turn in waiting) >= WAITING_PER_CALLER:
            raise Overloaded(f"{WAITING_PER_CALLER} callers of one project from {address} wait to be verified")
        if len(waiting) < VERIFICATIONS_WAITING:
            return
        by_address, by_project = Counter(turn.address for turn in waiting), Counter(turn.project for turn in waiting)
        last = max(waiting, key=lambda turn: (by_address[turn.address], by_project[turn.project], turn.number))
        ours = (by_address[address], by_project[project])
        if ours >= (by_address[last.address], by_project[last.project]):
            raise Overloaded(f"{VERIFICATIONS_WAITING} callers wait to be verified")
        waiting.remove(last)
        if not last.found.done():
            last.found.set_exception(Overloaded(f"{VERIFICATIONS_WAITING} callers wait to be verified"))

    def _begin_next(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        now = self._clock.monotonic()
        ready: dict[_Worker, list[tuple[int, int, int, int, _Turn]]] = {}
        later: list[float] = []
        for turn in self._waiting:
            project, address = (self._share(name, now) for name in turn.shares)
            is_suspect = now - max(project.failed_at, address.failed_at) < SUSPECT_SECONDS
            worker = self._nice_worker if is_suspect else self._worker
            if worker.is_busy:
                continue
            at = max(project.ready_at(now), address.ready_at(now))
            if at > now:
                later.append(at)
            else:
                served = max(project.served, address.served)
                ready.setdefault(worker, []).append((served, project.served, address.served, turn.number, turn))
        for worker, turns in ready.items():
            self._begin(min(turns)[-1], worker, now)
        if later:
            self._alarm = asyncio.create_task(self._begin_after(min(later) - now))

    def _begin(self, turn: _Turn, worker: _Worker, now: float) -> None:
        self._waiting.remove(turn)
        self._turns += 1
        for name in turn.shares:
            self._share(name, now).served = self._turns
        worker.is_busy = True
        done = asyncio.get_running_loop().run_in_executor(worker.thread, turn.work)
        done.add_done_callback(partial(self._finish, turn, worker))

    async def _begin_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm = None
        self._begin_next()

    def _finish(self, turn: _Turn, worker: _Worker, done: asyncio.Future[Keyring | None]) -> None:
        worker.is_busy = False
        if done.cancelled():
            turn.found.cancel()
            return
        failure = done.exception()
        if failure is None and done.result() is None:
            now = self._clock.monotonic()
            for name in turn.shares:
                self._share(name, now).fail(now)
        if not turn.found.done():
            if failure is not None:
                turn.found.set_exception(failure)
            else:
                turn.found.set_result(done.result())
        self._begin_next()

    def _project_share(self, project: str, is_known: bool) -> str:
        """Return the name of a project's share, which exists from then on."""
        digest = hmac.digest(self._key, project.encode(errors="replace"), "sha256")
        # No project has an ID with a space.
        unknown = f"unknown {digest[0] % UNKNOWN_SHARES}"
        if not is_known:
            return unknown
        if ("project", project) not in self._shares:
            now = self._clock.monotonic()
            self._share(("project", project), now, like=self._share(("project", unknown), now))
        return project

    def _share(self, name: _Name, now: float, like: _Share | None = None) -> _Share:
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share(now, like)
            while len(self._shares) > _SHARES_REMEMBERED:
                self._shares.popitem(last=False)
        else:
            self._shares.move_to_end(name)
        return share


def yield_to_others() -> None:
    """Give this thread a lower priority than the process."""
    # On other systems than Linux, a priority applies to the whole process.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(
                os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS
            )
