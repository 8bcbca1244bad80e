"""Parts of a page that change while it is open, by server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from usertable.console.visit import Visit
from usertable.domain.errors import Refused, Unavailable

log = logging.getLogger("usertable.console")

MOST_STREAMS = 100
"""So many open pages of a server process are kept up to date; further ones show what was when they were opened."""
LONGEST_SECONDS = 1800
"""Then a stream ends, and the browser asks again: by then its session may have ended."""

Parts = Mapping[str, str]
"""Markup by the name of the part it belongs into."""
_open = 0


def stream(visit: Visit, look: Callable[[], Awaitable[tuple[Parts, bool]]], seconds: float) -> Response:
    """The answer that tells of every change that `look` finds, asked again and again with `seconds` in between.

    `look` gives the parts as they are now, and whether that is the end of it.
    """
    if _open >= MOST_STREAMS:
        return PlainTextResponse("too many pages are open", 503, {"retry-after": "60"})
    return StreamingResponse(
        _events(visit, look, seconds), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def _events(visit: Visit, look: Callable[[], Awaitable[tuple[Parts, bool]]], seconds: float) -> AsyncIterator[str]:
    global _open
    _open += 1
    try:
        told: dict[str, str] = {}
        quiet = 0
        for _ in range(int(LONGEST_SECONDS / seconds)):
            if visit.console.is_stopping():
                return
            try:
                parts, ended = await look()
            except (Refused, Unavailable) as failure:
                # The page is open still; what cannot be seen now is seen later.
                log.info("a page is not kept up to date: %s", failure)
                parts, ended = {}, isinstance(failure, Refused)
            quiet += 1
            for name, markup in parts.items():
                if told.get(name) != markup:
                    told[name] = markup
                    quiet = 0
                    yield _event(name, markup)
            if ended:
                yield _event("end", "")
                return
            if quiet * seconds > 15:
                # So that whatever is in between does not take the connection for dead.
                quiet = 0
                yield ":\n\n"
            await asyncio.sleep(seconds)
    finally:
        _open -= 1


def _event(name: str, content: str) -> str:
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in content.split("\n")) + "\n"
