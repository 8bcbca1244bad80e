"""What the server asks of a wire format. Requests are served in :mod:`usertable.http`, the same way in every dialect."""

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
    """An answer as it is sent, to be shown."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    problems: Sequence[Problem] = ()
    """All that was wrong."""


@dataclass(slots=True)
class RegisterRequest:
    """A decoded Get CUID: the identifier's name and the values, or what is wrong."""

    name: str = ""
    values: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class EncodeSet(Protocol):
    """Encodes the answer to a write for a caller that asks for outcomes and, if `attributes` are known, the user's row."""

    def __call__(
        self,
        cuid: int,
        version: int,
        outcomes: Mapping[str, Outcome],
        attributes: Mapping[str, Value] | None,
        schema: Schema,
        zone: tzinfo,
    ) -> bytes: ...


class EncodeRefusal(Protocol):
    """Encodes a refusal as HTTP status and body; with `details`, every problem is in it."""

    def __call__(self, problems: Sequence[Problem], language: Language, *, details: bool = False) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire format: its endpoints, how a caller proves who it is, and how requests and answers are written."""

    language: Language
    """Of messages, unless a caller asks for another one."""
    authorization: bytes
    """The header by which a caller is recognized."""
    credentials: Callable[[bytes], tuple[str, str] | None]
    """Project id and secret in that header; None if it is malformed."""
    challenge: tuple[bytes, bytes]
    """The header of an answer that asks for credentials."""
    encode_refusal: EncodeRefusal

    set: Endpoint
    """Sets attributes of one user."""
    decode_set: Callable[[bytes], SetRequest]
    set_done: bytes
    """The answer to a write for a caller that asks for nothing more."""
    encode_set: EncodeSet

    register: Endpoint
    """Get CUID."""
    decode_register: Callable[[bytes], RegisterRequest]
    encode_registered: Callable[[Sequence[str], Sequence[int]], bytes]
