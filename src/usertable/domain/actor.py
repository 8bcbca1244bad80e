"""Actors: who did something, as the audit log names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from usertable.domain.errors import ProblemKind, other_value, phrase, refusal
from usertable.domain.phrases import PhraseKind


class ActorKind(StrEnum):
    """The kind of credentials or job that an actor used."""

    KEY = "key"
    PERSON = "person"
    ADMIN_TOKEN = "admin-token"
    CLI = "cli"
    IMPORT = "import"
    UNDO = "undo"
    ANONYMOUS = "anonymous"


_NAMELESS = frozenset({ActorKind.ADMIN_TOKEN, ActorKind.ANONYMOUS})
ACTOR_PATTERN = r"^(admin-token|anonymous|(key|person|cli|import|undo):[\s\S]+)$"
"""The same as :func:`is_actor`, for JSON Schema."""
_FORMS = ("key:NAME", "person:EMAIL", "admin-token", "cli:OS_USER", "import:JOB", "undo:NUMBER", "anonymous")


def is_actor(text: str) -> bool:
    """Return whether a text has the form of an actor, as `key:orders` has. `orders` and `key:` have not."""
    kind, colon, name = text.partition(":")
    if not colon:
        return kind in _NAMELESS
    return name != "" and kind in set(ActorKind) - _NAMELESS


def check_actor(text: str) -> None:
    """Raise Refused if the parameter `actor` does not have the form of an actor.

    An actor that is not known has: a deleted person and a revoked key keep what they did.
    """
    if not is_actor(text):
        expected = other_value(phrase(PhraseKind.ONE_OF, choices=_FORMS), text)
        raise refusal(ProblemKind.PARAMETER, name="actor", expected=expected)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something, and the request that it came with.

    As text: `key:orders`, `person:ann@example.com`, `admin-token`, `cli:deploy`, `import:crm-2026-11`, `undo:17`,
    `anonymous`. Entries that an older usertable recorded may have another text, such as `project 100102`.
    """

    kind: ActorKind
    name: str = ""
    """The key's name, the person's email address, the operating system's user, the import job, or the number of the undo."""
    request_id: str = ""
    """ID of the HTTP request; empty if there was none."""
    address: str = ""
    """Network address of the caller; empty if there was none."""
    source: str = ""
    """Name that the caller gave for what it runs, such as a release; empty for none."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    def with_origin(self, request_id: str, address: str, source: str = "") -> Actor:
        """Return this actor with the request that it came with."""
        return replace(self, request_id=request_id, address=address, source=source)

    @classmethod
    def key(cls, name: str) -> Self:
        """Return the actor for a caller with a project's key."""
        return cls(ActorKind.KEY, name)

    @classmethod
    def person(cls, email: str) -> Self:
        """Return the actor for a person who is signed in to the console."""
        return cls(ActorKind.PERSON, email)

    @classmethod
    def admin_token(cls) -> Self:
        """Return the actor for the server's admin token, and for the one-time link of a server without one."""
        return cls(ActorKind.ADMIN_TOKEN)

    @classmethod
    def cli(cls, os_user: str) -> Self:
        """Return the actor for a user of the operating system who ran a command on a store."""
        return cls(ActorKind.CLI, os_user)

    @classmethod
    def import_job(cls, job: str) -> Self:
        """Return the actor for an import."""
        return cls(ActorKind.IMPORT, job)

    @classmethod
    def undo(cls, number: int) -> Self:
        """Return the actor for an undo."""
        return cls(ActorKind.UNDO, str(number))

    @classmethod
    def anonymous(cls) -> Self:
        """Return the actor for a caller without credentials."""
        return cls(ActorKind.ANONYMOUS)
