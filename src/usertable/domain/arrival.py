"""Arrivals: accepted and refused requests, as the console shows them under *Live requests*."""

from __future__ import annotations

from dataclasses import dataclass, field

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.profile import Outcome

ENTRIES = 50
"""Maximum number of attributes stored with a sampled request."""
GROUPS = 100
"""Maximum number of groups of refusals per second. Further refusals are counted without their attribute."""


@dataclass(frozen=True, slots=True)
class SampledAttribute:
    """One attribute of a sampled request."""

    attribute: str
    value: str | None
    """An excerpt of the value sent; None if payloads are not stored."""
    outcome: Outcome | None
    """None if the request was refused, or answered from a receipt."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was stored as a sample."""

    at: int
    """Milliseconds since 1970 UTC."""
    api: str
    """`attribute`, `register`, …"""
    request: str
    """The request ID: the caller's own, or the server's."""
    cuid: int | None = None
    subject: str = ""
    """The identifier's name, for a request without a CUID."""
    values: int = 0
    """Number of identifier values or users in the request; 0 if it is about one user."""
    entries: tuple[SampledAttribute, ...] = ()
    left_out: int = 0
    """Number of further attributes in the request that are not stored."""
    problems: tuple[Problem, ...] = ()
    """The request was refused if this is not empty."""
    repeated: bool = False
    """A retry, answered with the result of the first request."""
    key: str = ""
    """Name of the caller's key; empty without one, and in samples of an older usertable."""


@dataclass(slots=True)
class Arrivals:
    """The requests to one project within about a second: all are counted, some are stored as samples."""

    project: int
    at: int
    """The second, in ms since 1970 UTC."""
    accepted: int = 0
    refused: int = 0
    written: set[str] = field(default_factory=set)
    """The attributes in accepted requests and imported rows."""
    refusals: dict[tuple[ProblemKind, str | None], int] = field(default_factory=dict)
    samples: list[Arrival] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    """Keys used for the first time in their minute."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not self.accepted and not self.refused


@dataclass(frozen=True, slots=True)
class Rate:
    """Number of requests in a time step that begins at `at`; for `sampled` of them a sample was stored."""

    at: int
    accepted: int
    refused: int
    sampled: int


@dataclass(frozen=True, slots=True)
class RefusalGroup:
    """Refusals of one kind for one attribute."""

    kind: ProblemKind
    attribute: str | None
    count: int
    last: int
    """The second of the newest one, in ms since 1970 UTC."""
    sample: Arrival | None
    """The newest sample that still exists."""
