"""What the answers of a server mean: what was done, or the error that says why not."""

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
    """As JSON: most are never looked at."""
    problems: list[dict[str, Any]]
    replayed: bool
    effect: str | None = None

    @property
    def error(self) -> ApiError | None:
        """Why it was not done; None if it was."""
        return api_error(self.code, self.msg, shown_problems(self.problems)) if self.code else None


class _BatchAnswer(msgspec.Struct):
    results: list[RecordAnswer]


_batch_decoder = msgspec.json.Decoder(_BatchAnswer)
_outcomes_decoder = msgspec.json.Decoder(dict[str, str])


def platform_answer(reply: Reply) -> dict[str, Any]:
    """The answer of the platform's endpoints. Raises ApiError for any code but 0."""
    answer = _document(reply)
    code = answer.get("code")
    if code == 0 and reply.status < 400:
        return answer
    told = answer.get("data")
    problems = shown_problems(told.get("problems", ())) if isinstance(told, dict) else []
    number = code if isinstance(code, int) and code else -1
    raise api_error(number, str(answer.get("msg", "")), problems, reply.status, reply.headers.get("x-request-id", ""))


def native_answer(reply: Reply) -> dict[str, Any]:
    """The answer of the native API. Raises ApiError for problem details, with the platform's code for their kind."""
    answer = _document(reply)
    if reply.status < 400:
        return answer
    kind = answer.get("code")
    number = code(ProblemKind(kind))[0] if kind in set(ProblemKind) else reply.status
    problems = shown_problems(answer.get("problems", ()))
    raise api_error(number, str(answer.get("detail", "")), problems, reply.status, str(answer.get("request_id", "")))


def refusal(reply: Reply) -> ApiError:
    """The error that an answer of the native API tells."""
    try:
        native_answer(reply)
    except ApiError as refused:
        return refused
    raise AssertionError(reply.status)


def batch_answers(reply: Reply) -> list[RecordAnswer]:
    """The answers to the records of a batch. Raises ApiError if it was refused as a whole."""
    if reply.status >= 400:
        raise refusal(reply)
    try:
        return _batch_decoder.decode(reply.content).results
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _foreign(reply, "no answer to a batch") from None


def outcomes(answer: RecordAnswer) -> dict[str, str]:
    """What became of each attribute of a record."""
    return _outcomes_decoder.decode(answer.outcomes)


def shown_problems(entries: Iterable[Mapping[str, Any]]) -> list[ProblemShown]:
    """The problems of a record, or of a request."""
    return [ProblemShown(e.get("kind") or e["code"], e["attribute"], e.get("msg") or e.get("detail", "")) for e in entries]


def _document(reply: Reply) -> dict[str, Any]:
    document = decode_object(reply.content)
    if isinstance(document, Problem):
        raise _foreign(reply, "no JSON object")
    return document


def _foreign(reply: Reply, what: str) -> ApiError:
    """The error for an answer that is not from a server of this kind: a proxy's error page, most likely."""
    shown = reply.content[:80].decode("utf-8", "replace")
    code = {401: 4009, 429: 4029}.get(reply.status, -1 if reply.status >= 500 else reply.status)
    return api_error(code, f"HTTP {reply.status}, and {what}: {shown!r}", status=reply.status)
