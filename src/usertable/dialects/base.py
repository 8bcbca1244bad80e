"""The interface of a wire format. Requests are served in :mod:`usertable.http`, in the same way for every dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Protocol

from usertable.domain.errors import Problem
from usertable.domain.profile import Outcome
from usertable.domain.schema import Schema
from usertable.domain.values import Value
from usertable.wire.messages import Language
from usertable.wire.set_request import SetRequest


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint's address, such as `PUT /smartop/api/v1/user/attribute`."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it is sent, for display."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    problems: Sequence[Problem] = ()
    """All problems of the request."""


@dataclass(slots=True)
class RegisterRequest:
    """A decoded Get CUID request: the identifier's name and the values, or its problems."""

    name: str = ""
    values: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class EncodeSet(Protocol):
    """Encodes the answer to a write for a caller that requests outcomes and, if `attributes` are known, the user's row.

    `change` is the number of the change in the user's history; None if there is none.
    """

    def __call__(
        self,
        cuid: int,
        version: int,
        change: int | None,
        outcomes: Mapping[str, Outcome],
        attributes: Mapping[str, Value] | None,
        schema: Schema,
        zone: tzinfo,
    ) -> bytes: ...


class EncodeRefusal(Protocol):
    """Encodes a refusal as HTTP status and body; with `details`, it contains every problem."""

    def __call__(self, problems: Sequence[Problem], language: Language, *, details: bool = False) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire format: its endpoints, its authentication, and the encoding of requests and answers."""

    language: Language
    """Language of messages, unless the caller requests another."""
    authorization: bytes
    """The header with the caller's credentials."""
    credentials: Callable[[bytes], tuple[str, str] | None]
    """Returns the project ID and secret in that header; None if it is malformed."""
    challenge: tuple[bytes, bytes]
    """The header of an answer that asks for credentials."""
    encode_refusal: EncodeRefusal

    set: Endpoint
    """Sets attributes of one user."""
    decode_set: Callable[[bytes], SetRequest]
    set_done: bytes
    """The answer to a write for a caller that requests no details."""
    encode_set: EncodeSet

    register: Endpoint
    """Get CUID."""
    decode_register: Callable[[bytes], RegisterRequest]
    encode_registered: Callable[[Sequence[str], Sequence[int]], bytes]
