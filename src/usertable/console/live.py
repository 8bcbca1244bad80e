"""Parts of a page that change while it is open, by server-sent events."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from usertable.console.context import HOME, PageContext
from usertable.domain.errors import Refused, Unavailable

log = logging.getLogger("usertable.console")

MAX_STREAMS = 100
"""So many open pages of a server process are kept up to date; further ones show what was when they were opened."""
LONGEST_SECONDS = 1800
"""Then a stream ends, and the browser asks again."""
_HEADERS = {"x-accel-buffering": "no"}

Parts = Mapping[str, str]
"""Markup by the name of the part it belongs into."""
_open = 0


def open_pages() -> int:
    """How many open pages of this process are kept up to date."""
    return _open


def stream(context: PageContext, look: Callable[[], Awaitable[tuple[Parts, bool]]], seconds: float) -> Response:
    """The answer that tells of every change that `look` finds, asked again and again with `seconds` in between.

    `look` gives the parts as they are now, and whether that is the end of it.
    """
    if _open >= MAX_STREAMS:
        return notice(context, "live.too_many", "live.reload", context.came_from)
    return StreamingResponse(_events(context, look, seconds), media_type="text/event-stream", headers=_HEADERS)


def signed_out(context: PageContext) -> Response:
    """The answer to a page that is open still, though its session is over."""
    return notice(context, "live.session_ended", "sign_in", f"{HOME}/sign-in?{urlencode({'next': context.came_from})}")


def notice(context: PageContext, key: str, link: str, address: str) -> Response:
    """A stream that only says why there is none. A browser gives up on any answer that is not a stream, and says nothing."""
    sent = context.fragment("live_notice.html", key=key, link=link, address=address)
    return Response(_event("notice", sent) + _event("end", ""), media_type="text/event-stream", headers=_HEADERS)


async def _events(
    context: PageContext, look: Callable[[], Awaitable[tuple[Parts, bool]]], seconds: float
) -> AsyncIterator[str]:
    global _open
    _open += 1
    try:
        sent: dict[str, str] = {}
        quiet = 0
        sessions, clock = context.console.sessions, context.console.clock
        # A session in use is renewed by requests in its second half, and a page that one looks at is in use.
        until = clock.monotonic() + min(LONGEST_SECONDS, sessions.seconds / 4)
        yield "retry: 1000\n\n"
        while clock.monotonic() < until and not sessions.is_over(context.session):
            if context.console.is_stopping():
                return
            try:
                parts, ended = await look()
            except (Refused, Unavailable) as failure:
                # The page is open still; what cannot be seen now is seen later.
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
                # So that whatever is in between does not take the connection for dead.
                quiet = 0
                yield ":\n\n"
            await clock.sleep(seconds)
    finally:
        _open -= 1


def _event(name: str, content: str) -> str:
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in content.split("\n")) + "\n"
