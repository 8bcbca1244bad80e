"""One request and its answer, as far as all endpoints share them. Failures are answered, counted and logged in one place."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence

from usertable.app.activity import ProjectActivity
from usertable.app.limits import RateLimit
from usertable.domain.errors import Problem, ProblemKind, Refused, Unavailable, refusal
from usertable.http.answers import (
    RETRY_SOON,
    Disconnected,
    Header,
    Send,
    rate_limit_headers,
    request_id,
    unavailable,
)
from usertable.http.request_counts import RequestCounts

log = logging.getLogger("usertable.http")


class Exchange(ABC):
    """One request and its answer.

    Args:
        sent: the headers of the request.
        send: sends the answer, as in ASGI.
    """

    activity: ProjectActivity | None = None
    """Where the request is counted, once its project is known."""

    def __init__(self, sent: dict[bytes, bytes], send: Send) -> None:
        self.sent = sent
        self.send = send
        self.id = request_id(sent)
        self.headers: list[Header] = []
        """Additional headers of the answer."""

    @property
    @abstractmethod
    def counts(self) -> RequestCounts:
        """The process's counts of requests."""

    @abstractmethod
    async def answer_refusal(self, problems: Sequence[Problem]) -> None:
        """Answer a request that is refused."""

    async def refuse(self, problems: Sequence[Problem]) -> None:
        """Count and answer a request that is refused."""
        self.counts.refusals[problems[0].kind] += 1
        await self.answer_refusal(problems)

    async def run(self, work: Awaitable[None]) -> None:
        """Wait for the request to be answered. Exceptions are answered here, without internal details."""
        try:
            await work
        except Disconnected:
            return
        except Refused as refused:
            await self.refuse(refused.problems)
        except Unavailable as failure:
            self.counts.unavailable.add(failure)
            self.headers.append(RETRY_SOON)
            await self.refuse([unavailable(failure)])
        except Exception:
            log.exception("a request failed; it was answered with 500")
            await self.refuse([Problem(ProblemKind.INTERNAL, None, {"request": self.id.decode()})])

    def count_against(self, limit: RateLimit | None) -> None:
        """Count the request. Raises Refused if it exceeds the limit."""
        if limit is None:
            return
        allowed = limit.allow()
        self.headers += rate_limit_headers(limit)
        if not allowed:
            self.headers.append(RETRY_SOON)
            raise refusal(ProblemKind.RATE_LIMITED, limit=limit.limit)

    def refuse_method(self, method: str, allowed: str) -> Refused:
        """Return the refusal of a method that the path does not have."""
        self.headers.append((b"allow", allowed.encode()))
        return refusal(ProblemKind.NO_METHOD, method=method, allowed=tuple(allowed.split(", ")))
