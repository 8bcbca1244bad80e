"""What came in: requests that were accepted or refused, as the console's Arrivals shows them."""

from __future__ import annotations

from dataclasses import dataclass, field

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.profile import Outcome

ENTRIES = 50
"""So many attributes of a request are kept with its sample."""
GROUPS = 100
"""So many groups of refusals are told apart within a second; further ones are counted without their attribute."""


@dataclass(frozen=True, slots=True)
class SampledAttribute:
    """One attribute of a sampled request."""

    attribute: str
    value: str | None
    """An excerpt of what was sent; None if payloads are not kept."""
    outcome: Outcome | None
    """None if the request was refused, or a stored answer was given again."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was kept as a sample."""

    at: int
    """Milliseconds since 1970 UTC."""
    api: str
    """`attribute`, `register`, …"""
    request: str
    """The request id: the caller's own, or the server's."""
    cuid: int | None = None
    subject: str = ""
    """What a request without a CUID was about: the identifier's name."""
    values: int = 0
    """How many identifier values, or users, it had; 0 where it is about one user."""
    entries: tuple[SampledAttribute, ...] = ()
    left_out: int = 0
    """So many further attributes came with it."""
    problems: tuple[Problem, ...] = ()
    """Not empty: it was refused."""
    repeated: bool = False
    """A retry, answered with what came of the first."""


@dataclass(slots=True)
class Arrivals:
    """What came in to one project within about a second: all of it counted, some of it kept as samples."""

    project: int
    at: int
    """The second, ms since 1970 UTC."""
    accepted: int = 0
    refused: int = 0
    written: set[str] = field(default_factory=set)
    """The attributes that accepted requests, or rows of an import, had."""
    refusals: dict[tuple[ProblemKind, str | None], int] = field(default_factory=dict)
    samples: list[Arrival] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.accepted and not self.refused


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests came in from `at` on, within a step of time; of `sampled` of them a sample was kept."""

    at: int
    accepted: int
    refused: int
    sampled: int


@dataclass(frozen=True, slots=True)
class RefusalGroup:
    """Refusals of one kind about one attribute."""

    kind: ProblemKind
    attribute: str | None
    count: int
    last: int
    """The second of the newest, ms since 1970 UTC."""
    sample: Arrival | None
    """The newest that is still kept."""
