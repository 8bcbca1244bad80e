"""The audit log: who did what, and when. There is one per project, and one for the installation."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum

INSTALLATION = 0
"""Used in place of a project's number for the installation's log."""

Fact = str | int | bool | list[str] | None
Facts = Mapping[str, Fact]
"""Values of fields by name; the names are those of the native API."""


class AuditKind(StrEnum):
    """What was done. A store may contain kinds of a newer usertable that are unknown here."""

    CREATE_PROJECT = "create project"
    EDIT_PROJECT = "edit project"
    EDIT_HISTORY = "edit history"
    """How much of it is kept."""
    PRUNE_HISTORY = "prune history"
    ROTATE_SECRET = "rotate secret"
    CREATE_KEY = "create key"
    REVOKE_KEY = "revoke key"
    DECLARE_ATTRIBUTE = "declare attribute"
    EDIT_ATTRIBUTE = "edit attribute"
    DELETE_ATTRIBUTE = "delete attribute"
    DECLARE_IDENTIFIER = "declare identifier"
    EDIT_IDENTIFIER = "edit identifier"
    DELETE_IDENTIFIER = "delete identifier"
    ORDER_IDENTIFIERS = "order identifiers"
    ADD_USER = "add user"
    ERASE_USER = "erase user"
    BEGIN_IMPORT = "begin import"
    FINISH_IMPORT = "finish import"
    SIGN_IN = "sign in"
    REFUSE_SIGN_IN = "refuse sign-in"
    MIGRATE_STORE = "migrate store"
    DISTRIBUTE_STORE = "distribute store"
    RESTORE_STORE = "restore store"
    CREATE_PERSON = "create person"
    EDIT_PERSON = "edit person"
    REMOVE_PERSON = "remove person"
    EDIT_MEMBER = "edit member"
    LINK_PERSON = "link person"
    """To an account of an OpenID Connect provider."""
    REFRESH_ROLES = "refresh roles"
    """By what an OpenID Connect provider says."""
    MAKE_PASSWORD_LINK = "make password link"
    SET_PASSWORD = "set password"
    SIGN_OUT = "sign out"
    END_SESSIONS = "end sessions"


ATTRIBUTE_KINDS = frozenset({AuditKind.DECLARE_ATTRIBUTE, AuditKind.EDIT_ATTRIBUTE, AuditKind.DELETE_ATTRIBUTE})
IDENTIFIER_KINDS = frozenset(
    {
        AuditKind.DECLARE_IDENTIFIER,
        AuditKind.EDIT_IDENTIFIER,
        AuditKind.DELETE_IDENTIFIER,
        AuditKind.ORDER_IDENTIFIERS,
    }
)
PROJECT_KINDS = frozenset(
    {AuditKind.CREATE_PROJECT, AuditKind.EDIT_PROJECT, AuditKind.EDIT_HISTORY, AuditKind.ROTATE_SECRET}
)
KEY_KINDS = frozenset({AuditKind.CREATE_KEY, AuditKind.REVOKE_KEY})
PROJECT_LOG_KINDS = frozenset(
    {AuditKind.ADD_USER, AuditKind.ERASE_USER, AuditKind.BEGIN_IMPORT, AuditKind.FINISH_IMPORT}
    | {AuditKind.PRUNE_HISTORY, AuditKind.EDIT_MEMBER}
    | PROJECT_KINDS
    | KEY_KINDS
    | ATTRIBUTE_KINDS
    | IDENTIFIER_KINDS
)
"""The kinds of entries in a project's log."""
INSTALLATION_KINDS = frozenset(AuditKind) - PROJECT_LOG_KINDS | {AuditKind.CREATE_PROJECT}
"""The kinds of entries in the installation's log."""
SCHEMA_CHANGES = PROJECT_KINDS | KEY_KINDS | ATTRIBUTE_KINDS | IDENTIFIER_KINDS
"""The kinds that the list of changes to a project and its schema shows."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that was done: its subject, and the fields it changed, before and after.

    AuditEvent(AuditKind.EDIT_ATTRIBUTE, "level", before={"hidden": False}, after={"hidden": True})
    """

    kind: str
    """An :class:`AuditKind`, or a kind of a newer usertable. Empty for an entry that is only a sentence."""
    subject: str = ""
    """The name of an attribute, identifier or key, a CUID, a person, or an import job."""
    before: Facts = field(default_factory=dict)
    after: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event as recorded."""

    number: int
    """1, 2, 3, … in each log, without gaps."""
    first: int
    """Number of the first entry recorded in the same transaction."""
    at: int
    """Milliseconds since 1970 UTC."""
    actor: str
    """See :class:`usertable.domain.actor.Actor`."""
    event: AuditEvent
    request_id: str = ""
    address: str = ""
    sentence: str = ""
    """What was done, in English, for an entry recorded before events had a kind."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The changes made to a project and its schema at once."""

    at: int
    """Milliseconds since 1970 UTC."""
    actor: str
    what: list[AuditEvent] | str
    """A text is an entry that an older usertable recorded: what was done, in English."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Selects entries. None and an empty set select all."""

    actor: str | None = None
    kinds: Set[str] = frozenset()
    subject: str | None = None
    since: int | None = None
    """Milliseconds since 1970 UTC, inclusive."""
    until: int | None = None
    """Milliseconds since 1970 UTC, exclusive."""

    def includes(self, entry: AuditEntry) -> bool:
        """Return whether an entry is selected."""
        return (
            self.actor in (None, entry.actor)
            and (not self.kinds or entry.event.kind in self.kinds)
            and self.subject in (None, entry.event.subject)
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
        )
