"""Large bodies: handled beside the event loop, in threads of their own, and large batches a few at a time.

Threads of their own, because a body may take seconds, and what waits in the default threads (reads of the store, the native
API) would wait for it.
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
"""Maximum number of large batches that a server process has in memory, decoded, at once."""
HELD_BODIES = 4
"""Maximum bytes of bodies of batches that a server process holds for one project, in bodies of the largest size."""

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bodies")
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


async def in_body_thread(work: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs) -> _Result:
    """What `work` gives, made in one of the threads for bodies."""
    return await asyncio.get_running_loop().run_in_executor(_threads, functools.partial(work, *given, **named))


async def when_decoded(decode: Callable[[bytes], _Result], body: bytes) -> _Result:
    """What `decode` makes of a body: at once if the body is small, else in a thread."""
    return decode(body) if len(body) <= SMALL_BODY else await in_body_thread(decode, body)


class Batches:
    """Keeps the batches that are under way within memory.

    Args:
        body_limit: bytes of the largest body of a batch.
    """

    def __init__(self, body_limit: int) -> None:
        self._max_held = HELD_BODIES * body_limit
        self._held: Counter[str] = Counter()
        self._large = asyncio.Semaphore(LARGE_BATCHES)
        self.huge = asyncio.Lock()
        """Held by the one huge batch that may be among them."""
        self._large_of: dict[str, asyncio.Semaphore] = {}

    @contextlib.contextmanager
    def holding(self, project: str, receive: Receive) -> Iterator[Receive]:
        """Count what is received for a project, until the end of the block.

        What is given raises Overloaded if the project's batches together hold too many bytes.
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
        """Wait until another large batch may be in memory. A project's wait behind each other first, not before others'."""
        own = self._large_of.setdefault(project, asyncio.Semaphore(LARGE_BATCHES))
        async with own, self._large:
            yield
