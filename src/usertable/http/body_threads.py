"""Large bodies are processed in separate threads, outside of the event loop; large batches only a few at a time.

The threads are separate from the default ones, because a body may take seconds, for which reads of the store and the native
API would wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from usertable.domain.errors import Overloaded
from usertable.http.answers import Receive
from usertable.wire.bodies import SMALL_BODY

THREADS = 2
LARGE_BATCHES = 2
"""Maximum number of large decoded batches in a server process's memory."""
HELD_BODIES = 4
"""Maximum bytes of batch bodies that a server process holds for one project, as a multiple of the largest body."""

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bodies")
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


async def in_body_thread(work: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs) -> _Result:
    """Run `work` in one of the threads for bodies, and return its result."""
    return await asyncio.get_running_loop().run_in_executor(_threads, functools.partial(work, *given, **named))


async def when_decoded(decode: Callable[[bytes], _Result], body: bytes) -> _Result:
    """Decode a body: directly if it is small, else in a thread."""
    return decode(body) if len(body) <= SMALL_BODY else await in_body_thread(decode, body)


class ProjectTurns:
    """Turns for expensive work, at most `at_once` in a server process: a project's own first wait for each other."""

    def __init__(self, at_once: int) -> None:
        self.all = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self._of: dict[str, asyncio.Semaphore] = {}

    def own(self, project: str) -> asyncio.Semaphore:
        """Return the turns of one project, to be waited for before those of all."""
        return self._of.setdefault(project, asyncio.Semaphore(self._at_once))


class Batches:
    """Limits the memory of the batches that are being processed.

    Args:
        body_limit: maximum bytes of a batch's body.
    """

    def __init__(self, body_limit: int) -> None:
        self._max_held = HELD_BODIES * body_limit
        self._held: Counter[str] = Counter()
        self._large = ProjectTurns(LARGE_BATCHES)
        self.huge = asyncio.Lock()
        """Held by the only huge batch."""

    @contextlib.contextmanager
    def holding(self, project: str, receive: Receive) -> Iterator[Receive]:
        """Count the bytes received for a project, until the end of the block.

        The yielded function raises Overloaded if the project's batches together exceed the maximum.
        """
        here = 0

        async def counting() -> MutableMapping[str, Any]:
            nonlocal here
            message = await receive()
            size = len(message.get("body", b""))
            here += size
            self._held[project] += size
            if self._held[project] > self._max_held:
                raise Overloaded(
                    f"the batches of project {project} that are under way have more than {self._max_held} bytes"
                )
            return message

        try:
            yield counting
        finally:
            self._held[project] -= here
            if not self._held[project]:
                del self._held[project]

    @contextlib.asynccontextmanager
    async def large(self, project: str) -> AsyncIterator[None]:
        """Wait until another large batch may be in memory.

        A project's batches first wait for each other, then for other projects'.
        """
        async with self._large.own(project), self._large.all:
            yield
