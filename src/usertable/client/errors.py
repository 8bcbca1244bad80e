"""Exceptions of the client.

The exception tree::

    ClientError
    ├── ApiError               the server refused, with code, text and all problems; a subclass per code below
    ├── Unreachable            no answer after all attempts
    ├── BatchFailed            a batch was not completed; carries the results so far
    ├── RecordsRefused         records of a buffer that the server refused
    ├── NotDelivered           records that a buffer could not deliver in time
    ├── BufferFull             a buffer is full, and is configured not to wait
    └── SpoolFault             the spool on disk cannot be used
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usertable.client.core import Record, RecordResult


@dataclass(frozen=True, slots=True)
class ProblemShown:
    """One problem in a request. `kind` is meant for programs and never changes."""

    kind: str
    attribute: str | None
    text: str


class ClientError(Exception):
    """Base class of the client's exceptions, except ValueError and TypeError for values that cannot be sent.

    All of them can be pickled with their attributes, so they pass unchanged through a process pool.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is pickled as a call of its class with `args`, which is only the message.
        state = dict(self.__dict__)
        if isinstance(self.__cause__, ClientError):
            state["__cause__"] = self.__cause__
        return copyreg.__newobj__, (type(self), *self.args), state  # type: ignore[attr-defined]


class ApiError(ClientError):
    """The server refused the request.

    Attributes:
        code: the platform's code, or the HTTP status where a route of the native API has none.
        problems: everything that is wrong; the first is in the message. Empty if the server does not list them.
        status: the HTTP status; None for a record of a batch.
        request_id: the ID to quote when asking about the request.
    """

    def __init__(
        self, code: int, text: str, problems: Sequence[ProblemShown] = (), status: int | None = None, request_id: str = ""
    ) -> None:
        super().__init__(f"{text} (code {code})")
        self.code = code
        self.text = text
        self.problems = tuple(problems)
        self.status = status
        self.request_id = request_id


class AuthenticationFailed(ApiError):
    """4009: the project's ID or secret is wrong, or its key lacks a scope."""


class InvalidParameter(ApiError):
    """40002: a value, or the request, has the wrong type or form."""


class UserUnknown(ApiError):
    """40003: the project has no user with this CUID."""


class UserMissing(ApiError):
    """40007: no CUID was sent."""


class ValueEmpty(ApiError):
    """40009: the value of an attribute is empty."""


class AttributeUnknown(ApiError):
    """40010: the attribute is not declared."""


class RateLimited(ApiError):
    """4029: over the project's QPS limit, after all attempts."""


class ServerFailed(ApiError):
    """-1: the server failed, after all attempts. If the status is not 503, a write may have been applied."""


ERRORS: dict[int, type[ApiError]] = {
    4009: AuthenticationFailed,
    40002: InvalidParameter,
    40003: UserUnknown,
    40007: UserMissing,
    40009: ValueEmpty,
    40010: AttributeUnknown,
    4029: RateLimited,
    -1: ServerFailed,
}
"""The class for each code. Any other code is a plain ApiError."""


def api_error(
    code: int, text: str, problems: Sequence[ProblemShown] = (), status: int | None = None, request_id: str = ""
) -> ApiError:
    """Return an error of the class for the code."""
    return ERRORS.get(code, ApiError)(code, text, problems, status, request_id)


class Unreachable(ClientError):
    """No answer after all attempts.

    Attributes:
        maybe_done: whether an attempt may have reached the server, so that a write may have been applied.
    """

    def __init__(self, text: str, *, maybe_done: bool) -> None:
        super().__init__(text)
        self.maybe_done = maybe_done


class Stale(Unreachable):
    """A write was sent so long ago that the server may have forgotten its key. It may or may not have been applied.

    Sending it again could apply it twice, so it is not sent again. Look at the user and decide.
    """


class BatchFailed(ClientError):
    """A batch was not completed.

    Attributes:
        results: one per record, in order; None for a record whose result is unknown.
        cause: the reason. Also `__cause__`, unless a process pool replaced that with the other process's traceback.
    """

    def __init__(self, text: str, results: Sequence[RecordResult | None], cause: ClientError | None = None) -> None:
        super().__init__(text)
        self.results = list(results)
        self.cause = cause


class RecordsRefused(ClientError):
    """Records of a buffer were refused, and the buffer has no `on_error`.

    Attributes:
        failures: record and error of the first 1,000.
        count: number of refused records.
    """

    def __init__(self, failures: Sequence[tuple[Record, ClientError]], count: int) -> None:
        record, error = failures[0]
        super().__init__(f"{count} records were refused; the first, for {record.user}: {error}")
        self.failures = list(failures)
        self.count = count


class NotDelivered(ClientError):
    """Records were not delivered in time. Records in a spool stay there and are delivered when the spool is opened again.

    If the spool's files were removed meanwhile, `records` has those that could still be read, and the message says what is
    left.

    Attributes:
        records: the undelivered records that are only in memory, with their keys: adding them to any buffer again does not
            apply a write twice. Empty with a spool whose files are there.
        count: number of undelivered records.
    """

    def __init__(self, text: str, records: Sequence[Record], count: int) -> None:
        super().__init__(text)
        self.records = list(records)
        self.count = count


class BufferFull(ClientError):
    """The buffer is full or closed; the record was not accepted."""


class SpoolFault(ClientError):
    """The spool cannot be used: it is damaged, in use by another process, or of another version.

    Or its folder or a file in it was removed, moved or replaced while it was in use. The record was not accepted.
    """
