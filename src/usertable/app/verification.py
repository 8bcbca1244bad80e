"""Verification of secrets: who passed before is recognized at once, everybody else is verified in fair turns.

Hashing a secret takes some 25 ms of CPU, on purpose, and anybody can ask for it without an account. So one thread of low
priority does it, the verifications that wait are bounded, and those that fail are rationed by project and by address.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
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

from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.domain.errors import Overloaded
from usertable.domain.schema import Project

VERIFICATIONS_WAITING = 1000
"""Maximum number of verifications that wait in one process."""
WAITING_PER_CALLER = 16
"""Maximum number of them from one address for one project."""
VERIFICATION_SECONDS = 10.0
"""Seconds after which a verification that still waits is given up, with 503."""
FAILURES_AT_ONCE = 20
"""Failed verifications that a project, or an address, may have in a row before they are rationed."""
FAILURES_PER_SECOND = 10.0
"""Failed verifications per second, of a project and of an address, once they are rationed."""
FAILURE_SECONDS = 10.0
"""Seconds for which a wrong secret is remembered, and refused without hashing it."""
FAILURES_REMEMBERED = 10_000
NICENESS = 10
"""Scheduling priority of the verifying thread: requests of known callers get the CPU first."""
_SHARES_REMEMBERED = 10_000

_KEY_BYTES = 32
_DIGEST_BYTES = 32
_SLOTS = 65_536
SHARED_BYTES = _KEY_BYTES + _SLOTS * _DIGEST_BYTES


class PassedSecrets:
    """Which secrets were verified since the server was started, known to all of its workers.

    Of each there is an HMAC-SHA256 with a random key of this start, in memory only. It covers the project's stored hash,
    so a secret that is replaced is forgotten without being looked for.

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
        """What a secret is recognized by, under the hash that the project has now; empty if there is no such project."""
        parts = (project_id.encode(), secret_hash, secret.encode())
        return hmac.digest(self._key, b"".join(len(part).to_bytes(8, "big") + part for part in parts), "sha256")

    def add(self, digest: bytes) -> None:
        """Remember it. One in 65,536 takes the place of another, which is then verified again."""
        start = self._start(digest)
        self._memory[start : start + _DIGEST_BYTES] = digest

    def __contains__(self, digest: bytes) -> bool:
        # Without a lock: what is read while another process writes is no digest of a secret.
        start = self._start(digest)
        return hmac.compare_digest(self._memory[start : start + _DIGEST_BYTES], digest)

    def _start(self, digest: bytes) -> int:
        return _KEY_BYTES + int.from_bytes(digest[:8], "big") % _SLOTS * _DIGEST_BYTES


def new_key() -> bytes:
    """What the memory of :class:`PassedSecrets` begins with."""
    return secrets.token_bytes(_KEY_BYTES)


def network(host: str) -> str:
    """The address by which callers are told apart: of IPv6 its first 64 bits, which one customer of a network has."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class _Share:
    """What a project, or an address, had of the verifications."""

    __slots__ = ("at", "served", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(FAILURES_AT_ONCE)
        self.at = now
        self.served = 0
        """The number of its last turn."""

    def ready_at(self, now: float) -> float:
        """When it may have a turn."""
        self.tokens = min(FAILURES_AT_ONCE, self.tokens + (now - self.at) * FAILURES_PER_SECOND)
        self.at = now
        return now if self.tokens >= 1 else now + (1 - self.tokens) / FAILURES_PER_SECOND


@dataclass(slots=True, eq=False)
class _Turn:
    number: int
    project: str
    address: str
    work: Callable[[], Project | None]
    found: asyncio.Future[Project | None]


class Verifications:
    """Runs verifications, one at a time. Next is the one whose project and address were served the longest ago.

    So a caller waits for few verifications of others, however many wait, unless project and address are those of whoever
    sends wrong secrets. Behind a proxy all callers have one address; there it is the project that tells them apart.

    Belongs to one event loop.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._waiting: list[_Turn] = []
        self._shares: OrderedDict[tuple[str, str], _Share] = OrderedDict()
        self._turns = 0
        self._busy = False
        self._alarm: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verify", initializer=_yield_to_others)

    async def run(self, project: str, address: str, work: Callable[[], Project | None]) -> Project | None:
        """What `work` gives, in the verifying thread; None counts as a failure.

        Args:
            project: the id of a project that exists, or one text for all that do not.
            address: where the caller is; see :func:`network`.

        Raises:
            Overloaded: too many wait, or it waited too long. Nothing was verified.
        """
        self._make_room(project, address)
        self._turns += 1
        turn = _Turn(self._turns, project, address, work, asyncio.get_running_loop().create_future())
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
        self._thread.shutdown(cancel_futures=True)

    def _make_room(self, project: str, address: str) -> None:
        """Let one more wait: if need be, in place of one whose address, or project, has more waiting than the new one's."""
        waiting = self._waiting
        if sum(turn.project == project and turn.address == address for turn in waiting) >= WAITING_PER_CALLER:
            raise Overloaded(f"{WAITING_PER_CALLER} callers of project {project!r} from {address} wait to be verified")
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
        if self._busy or not self._waiting:
            return
        now = self._clock.monotonic()
        ready: list[tuple[int, int, int, int, _Turn]] = []
        later: list[float] = []
        for turn in self._waiting:
            project, address = self._share("project", turn.project, now), self._share("address", turn.address, now)
            at = max(project.ready_at(now), address.ready_at(now))
            if at > now:
                later.append(at)
            else:
                served = max(project.served, address.served)
                ready.append((served, project.served, address.served, turn.number, turn))
        if not ready:
            self._alarm = asyncio.create_task(self._begin_after(min(later) - now))
            return
        turn = min(ready)[-1]
        self._waiting.remove(turn)
        self._turns += 1
        for kind, name in (("project", turn.project), ("address", turn.address)):
            self._share(kind, name, now).served = self._turns
        self._busy = True
        done = asyncio.get_running_loop().run_in_executor(self._thread, turn.work)
        done.add_done_callback(partial(self._finish, turn))

    async def _begin_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm = None
        self._begin_next()

    def _finish(self, turn: _Turn, done: asyncio.Future[Project | None]) -> None:
        self._busy = False
        if done.cancelled():
            turn.found.cancel()
            return
        failure = done.exception()
        if failure is None and done.result() is None:
            for kind, name in (("project", turn.project), ("address", turn.address)):
                self._share(kind, name, self._clock.monotonic()).tokens -= 1
        if not turn.found.done():
            if failure is not None:
                turn.found.set_exception(failure)
            else:
                turn.found.set_result(done.result())
        self._begin_next()

    def _share(self, kind: str, name: str, now: float) -> _Share:
        share = self._shares.get((kind, name))
        if share is None:
            share = self._shares[kind, name] = _Share(now)
            while len(self._shares) > _SHARES_REMEMBERED:
                self._shares.popitem(last=False)
        else:
            self._shares.move_to_end((kind, name))
        return share


def _yield_to_others() -> None:
    # Elsewhere than on Linux a priority belongs to the whole process.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
