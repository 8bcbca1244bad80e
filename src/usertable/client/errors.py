"""What the client raises.

The exception tree::

    ClientError
    ├── ApiError               the server refused, with its code, text and all problems; a class per code below
    ├── Unreachable            no answer, after all tries
    ├── BatchFailed            a batch as a whole could not be finished; carries the results so far
    ├── RecordsRefused         what a buffer could not deliver because it was refused
    ├── NotDelivered           what a buffer still holds when its time to deliver is over
    ├── BufferFull             a buffer takes no more, and was told not to wait
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
    """One thing that is wrong, as the server says it: `kind` is for programs and never changes."""

    kind: str
    attribute: str | None
    text: str


class ClientError(Exception):
    """Everything that the client raises on purpose, but for ValueError and TypeError of values that cannot be sent.

    All of them can be pickled, with their attributes, so that they come out of a pool of processes as they went in.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled as a call of their class with `args`, which is the message only.
        state = dict(self.__dict__)
        if isinstance(self.__cause__, ClientError):
            state["__cause__"] = self.__cause__
        return copyreg.__newobj__, (type(self), *self.args), state  # type: ignore[attr-defined]


class ApiError(ClientError):
    """The server answered, and refused.

    Attributes:
        code: the platform's code, or the HTTP status where a route of the native API has none.
        problems: all that is wrong; the first gave the message. Empty if the server does not list them.
        status: the HTTP status; None for a record of a batch.
        request_id: what to quote when asking about it.
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
    """4009: the project's id or secret is wrong."""


class InvalidParameter(ApiError):
    """40002: a value has the wrong type or form, or the request has."""


class UserUnknown(ApiError):
    """40003: there is no user with that CUID in the project."""


class UserMissing(ApiError):
    """40007: no CUID was sent."""


class ValueEmpty(ApiError):
    """40009: the value of an attribute is empty."""


class AttributeUnknown(ApiError):
    """40010: the attribute is not declared."""


class RateLimited(ApiError):
    """4029: over the project's QPS limit, still so after all tries."""


class ServerFailed(ApiError):
    """-1: the server could not do it, still so after all tries. A write may have been done if the status is not 503."""


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
"""The class per code; any other code is an ApiError itself."""


def api_error(
    code: int, text: str, problems: Sequence[ProblemShown] = (), status: int | None = None, request_id: str = ""
) -> ApiError:
    """The error of the class that the code has."""
    return ERRORS.get(code, ApiError)(code, text, problems, status, request_id)


class Unreachable(ClientError):
    """No answer, after all tries.

    Attributes:
        maybe_done: whether a try may have reached the server, so that a write may have been done.
    """

    def __init__(self, text: str, *, maybe_done: bool) -> None:
        super().__init__(text)
        self.maybe_done = maybe_done


class Stale(Unreachable):
    """A write was sent so long ago that the server may have forgotten its key; it may or may not have been done.

    To send it again might do it twice, so it is not sent again. Look at the user and decide.
    """


class BatchFailed(ClientError):
    """A batch could not be finished.

    Attributes:
        results: one per record, in order; None for a record of which nothing is known.
        cause: why; it is `__cause__` too, except where a pool of processes has put the other process's traceback there.
    """

    def __init__(self, text: str, results: Sequence[RecordResult | None], cause: ClientError | None = None) -> None:
        super().__init__(text)
        self.results = list(results)
        self.cause = cause


class RecordsRefused(ClientError):
    """Records that a buffer handed over were refused, and no callback was there to be told.

    Attributes:
        failures: record and error, the first 1,000 of them.
        count: how many there were.
    """

    def __init__(self, failures: Sequence[tuple[Record, ClientError]], count: int) -> None:
        record, error = failures[0]
        super().__init__(f"{count} records were refused; the first, for {record.user}: {error}")
        self.failures = list(failures)
        self.count = count


class NotDelivered(ClientError):
    """The time for delivering is over. What is in a spool stays there, and is delivered when the spool is opened again.

    If the spool's files were removed meanwhile, `records` has what could be read of them, and the message says what is left.

    Attributes:
        records: what was not delivered and is in memory only, with the keys: whoever hands these over again, to any buffer,
            does nothing twice. Empty with a spool whose files are there.
        count: how many records are left.
    """

    def __init__(self, text: str, records: Sequence[Record], count: int) -> None:
        super().__init__(text)
        self.records = list(records)
        self.count = count


class BufferFull(ClientError):
    """The buffer takes no more now; the record was not taken."""


class SpoolFault(ClientError):
    """The spool cannot be used: it is broken in the middle, in use by another process, or of another version.

    Or its folder or a file in it was removed, moved or replaced while it was in use. The record was not taken.
    """
