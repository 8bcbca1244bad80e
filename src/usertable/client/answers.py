"""The meaning of a server's answers: a result, or the error that says why the request failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from usertable.client.errors import ApiError, ProblemShown, api_error
from usertable.dialects.jiguang.codes import code
from usertable.domain.errors import Problem, ProblemKind
from usertable.wire.bodies import decode_object

if TYPE_CHECKING:
    from usertable.client.core import Reply


class RecordAnswer(msgspec.Struct):
    """The answer to one record of a batch."""

    code: int
    msg: str
    cuid: int | None
    version: int | None
    outcomes: msgspec.Raw
    """JSON, decoded only when it is used; most are never read."""
    problems: list[dict[str, Any]]
    replayed: bool
    effect: str | None = None
    change: int | None = None

    @property
    def error(self) -> ApiError | None:
        """The error; None if the record was written."""
        return api_error(self.code, self.msg, shown_problems(self.problems)) if self.code else None


class _BatchAnswer(msgspec.Struct):
    results: list[RecordAnswer]


_batch_decoder = msgspec.json.Decoder(_BatchAnswer)
_outcomes_decoder = msgspec.json.Decoder(dict[str, str])


def platform_answer(reply: Reply) -> dict[str, Any]:
    """Return the answer of one of the platform's endpoints. Raises ApiError for any code except 0."""
    answer = _document(reply)
    code = answer.get("code")
    if code == 0 and reply.status < 400:
        return answer
    told = answer.get("data")
    problems = shown_problems(told.get("problems", ())) if isinstance(told, dict) else []
    number = code if isinstance(code, int) and code else -1
    raise api_error(number, str(answer.get("msg", "")), problems, reply.status, reply.headers.get("x-request-id", ""))


def native_answer(reply: Reply) -> dict[str, Any]:
    """Return the answer of the native API. Raises ApiError for problem details, with the platform's code for their kind."""
    answer = _document(reply)
    if reply.status < 400:
        return answer
    kind = answer.get("code")
    number = code(ProblemKind(kind))[0] if kind in set(ProblemKind) else reply.status
    problems = shown_problems(answer.get("problems", ()))
    raise api_error(number, str(answer.get("detail", "")), problems, reply.status, str(answer.get("request_id", "")))


def refusal(reply: Reply) -> ApiError:
    """Return the error in an answer of the native API."""
    try:
        native_answer(reply)
    except ApiError as refused:
        return refused
    raise AssertionError(reply.status)


def batch_answers(reply: Reply) -> list[RecordAnswer]:
    """Return the answers to the records of a batch. Raises ApiError if the whole batch was refused."""
    if reply.status >= 400:
        raise refusal(reply)
    try:
        return _batch_decoder.decode(reply.content).results
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _foreign(reply, "not an answer to a batch") from None


def outcomes(answer: RecordAnswer) -> dict[str, str]:
    """Return the outcome of each attribute of a record."""
    return _outcomes_decoder.decode(answer.outcomes)


def shown_problems(entries: Iterable[Mapping[str, Any]]) -> list[ProblemShown]:
    """Return the problems of a record or a request."""
    return [ProblemShown(e.get("kind") or e["code"], e["attribute"], e.get("msg") or e.get("detail", "")) for e in entries]


def _document(reply: Reply) -> dict[str, Any]:
    document = decode_object(reply.content)
    if isinstance(document, Problem):
        raise _foreign(reply, "not a JSON object")
    return document


def _foreign(reply: Reply, what: str) -> ApiError:
    """Return the error for an answer that is not from usertable: most likely a proxy's error page."""
    shown = reply.content[:80].decode("utf-8", "replace")
    code = {401: 4009, 429: 4029}.get(reply.status, -1 if reply.status >= 500 else reply.status)
    return api_error(code, f"HTTP {reply.status}, and {what}: {shown!r}", status=reply.status)
