"""Update parts of an open page with server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from usertable.console.context import PageContext
from usertable.domain.errors import Refused, Unavailable

log = logging.getLogger("usertable.console")

MAX_STREAMS = 100
"""Maximum number of open pages per server process that are updated. Further pages keep their initial content."""
MAX_STREAMS_OF_ONE = 30
"""Maximum number of those pages per person, or for the admin token."""
LONGEST_SECONDS = 1800
"""Seconds after which a stream ends and the browser reconnects."""
_HEADERS = {"x-accel-buffering": "no"}

Parts = Mapping[str, str]
"""Markup by name of the part of the page that it replaces."""
_open: Counter[str] = Counter()
"""Number of streams by who opened them."""


def open_pages() -> int:
    """Return the number of open pages that this process updates."""
    return _open.total()


def stream(context: PageContext, look: Callable[[], Awaitable[tuple[Parts, bool]]], seconds: float) -> Response:
    """Return a stream of the changes that `look` finds. It is called every `seconds`.

    `look` returns the current parts, and whether they are final.
    """
    if open_pages() >= MAX_STREAMS or _open[_opener(context)] >= MAX_STREAMS_OF_ONE:
        return notice(context, "live.too_many", "live.reload", context.came_from)
    return StreamingResponse(_events(context, look, seconds), media_type="text/event-stream", headers=_HEADERS)


def signed_out(context: PageContext) -> Response:
    """Return the response to a page that is still open although its session has ended."""
    return notice(
        context, "live.session_ended", "sign_in", f"{context.home}/sign-in?{urlencode({'next': context.came_from})}"
    )


def notice(context: PageContext, key: str, link: str, address: str) -> Response:
    """Return a stream with only a notice. With any other response, the browser would give up and show nothing."""
    sent = context.fragment("live_notice.html", key=key, link=link, address=address)
    return Response(_event("notice", sent) + _event("end", ""), media_type="text/event-stream", headers=_HEADERS)


async def _events(
    context: PageContext, look: Callable[[], Awaitable[tuple[Parts, bool]]], seconds: float
) -> AsyncIterator[str]:
    opener = _opener(context)
    _open[opener] += 1
    try:
        sent: dict[str, str] = {}
        quiet = 0
        sessions, clock = context.console.sessions, context.console.clock
        # Only a request in the second half of a session renews it. A stream ends after a quarter, so that the browser's next
        # request renews the session of an open page.
        until = clock.monotonic() + min(LONGEST_SECONDS, sessions.seconds / 4)
        yield "retry: 1000\n\n"
        while clock.monotonic() < until:
            if context.console.is_stopping():
                return
            try:
                if not await asyncio.to_thread(context.is_still_allowed):
                    return
                parts, ended = await look()
            except (Refused, Unavailable) as failure:
                # The page stays open, and is updated once the data is available again.
                log.info("a page is not kept up to date: %s", failure)
                parts, ended = {}, isinstance(failure, Refused)
            quiet += 1
            for name, markup in parts.items():
                if sent.get(name) != markup:
                    sent[name] = markup
                    quiet = 0
                    yield _event(name, markup)
            if ended:
                yield _event("end", "")
                return
            if quiet * seconds > 15:
                # Keep proxies from closing an idle connection.
                quiet = 0
                yield ":\n\n"
            await clock.sleep(seconds)
    finally:
        _open[opener] -= 1
        if not _open[opener]:
            del _open[opener]


def _opener(context: PageContext) -> str:
    return str(context.visitor.actor)


def _event(name: str, content: str) -> str:
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in content.split("\n")) + "\n"
