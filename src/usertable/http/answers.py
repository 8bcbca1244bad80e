"""The parts that all answers share: sending bytes, request IDs, reading a body within its limit."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from usertable.app.limits import RateLimit
from usertable.domain.errors import Overloaded, Problem, ProblemKind, Unavailable, excerpt, phrase, refusal
from usertable.domain.phrases import PhraseKind
from usertable.wire.messages import Language, negotiate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
RETRY_SOON: Header = (b"retry-after", b"1")
CLOSE: Header = (b"connection", b"close")

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
# The server's own IDs: the prefix distinguishes processes, the count distinguishes requests.
_prefix = secrets.token_hex(6).encode()
_count = itertools.count(1)


def request_id(headers: dict[bytes, bytes]) -> bytes:
    """Return the caller's `X-Request-Id` if it is 1 to 128 visible ASCII characters, else a generated one."""
    sent = headers.get(b"x-request-id")
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    return b"%b-%x" % (_prefix, next(_count))


def language(headers: dict[bytes, bytes], default: Language) -> Language:
    """Return the language of an answer's messages."""
    accepted = headers.get(b"accept-language")
    return default if accepted is None else negotiate(accepted.decode("latin-1"), default)


async def answer(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    """Send a whole answer."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def rate_limit_headers(limit: RateLimit) -> tuple[Header, Header, Header]:
    """Return the headers with the caller's current limit. The window is one second."""
    return (
        (b"ratelimit-limit", b"%d" % limit.limit),
        (b"ratelimit-remaining", b"%d" % limit.remaining),
        (b"ratelimit-reset", b"1"),
    )


SOURCE_FORM = re.compile(rb"[!-~]([ -~]{0,98}[!-~])?")
"""What `Usertable-Source` may be: the name of a release or a job, 1 to 100 visible ASCII characters."""


def source(headers: dict[bytes, bytes]) -> str:
    """Return the name that the caller gave for what it runs; empty for none. Raises Refused if it is malformed."""
    sent = headers.get(b"usertable-source", b"")
    if sent and not SOURCE_FORM.fullmatch(sent):
        raise refusal(ProblemKind.PARAMETER, name="Usertable-Source", expected=phrase(PhraseKind.VISIBLE_ASCII, maximum=100))
    return sent.decode()


KEY_FORM = re.compile(rb"[!-~]{1,255}")
"""The form of an `Idempotency-Key`."""


class Disconnected(Exception):
    """The client disconnected before its request was complete."""


ACCEPTS_NO_CODING: Header = (b"accept-encoding", b"identity")


async def read_json_body(
    receive: Receive, headers: dict[bytes, bytes], limit: int, *, coded: bool = False
) -> bytes | Problem:
    """Return the request's body, or the problem with its content type, coding or size. Raises Disconnected.

    Args:
        coded: it may have a content coding, which is left to the caller.
    """
    content_type = headers.get(b"content-type")
    if content_type is not None and content_type != b"application/json" and not _is_json(content_type):
        return Problem(ProblemKind.CONTENT_TYPE, None, {"value": excerpt(content_type.decode("latin-1"))})
    coding = headers.get(b"content-encoding", b"").decode("latin-1")
    if not coded and coding.strip().lower() not in ("", "identity"):
        return Problem(ProblemKind.CONTENT_CODING, None, {"value": excerpt(coding), "have": "identity"})
    announced = headers.get(b"content-length", b"0")
    if len(announced) > 18 or int(announced) > limit:
        return Problem(ProblemKind.BODY_TOO_LARGE, None, {"limit": str(limit)})
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        pieces = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                return Problem(ProblemKind.BODY_TOO_LARGE, None, {"limit": str(limit)})
        body = b"".join(pieces)
    if message["type"] == "http.disconnect":
        raise Disconnected
    return body


def _is_json(content_type: bytes) -> bool:
    essence, _, parameters = content_type.lower().partition(b";")
    essence = essence.strip()
    parameters = parameters.replace(b" ", b"").replace(b'"', b"")
    charset_fits = b"charset=" not in parameters or b"charset=utf-8" in parameters or b"charset=utf8" in parameters
    is_json = essence == b"application/json" or (essence.startswith(b"application/") and essence.endswith(b"+json"))
    return is_json and charset_fits


def unavailable(failure: Unavailable) -> Problem:
    """Return the problem to answer if something cannot be done now."""
    return Problem(ProblemKind.OVERLOADED if isinstance(failure, Overloaded) else ProblemKind.STORE_DOWN)
