"""Permissions: scopes, which keys have, and roles, which people have and which stand for scopes.

Every check asks for a scope, whoever the caller is: `Scope.ERASE in granted`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """One permission, in a project or in the installation."""

    WRITE = "write"
    """Set attributes of users: PUT, batches."""
    REGISTER = "register"
    """Exchange identifier values for CUIDs, which creates missing users."""
    IMPORT = "import"
    """Import users, including users with CUIDs of their own."""
    READ = "read"
    """Read the project, its schema, its users, exports and records."""
    SCHEMA = "schema"
    """Declare, edit and delete attributes and identifiers."""
    ERASE = "erase"
    """Erase users."""
    UNDO = "undo"
    """Undo changes."""
    WEBHOOKS = "webhooks"
    """Edit webhooks."""
    KEYS = "keys"
    """Create and revoke keys, and edit the project's settings."""
    INSTALLATION = "installation"
    """Everything outside of projects: creating projects, their QPS limits, people. No key has it."""


ALL_SCOPES = frozenset(Scope)
"""The scopes of the admin token and of the role `admin`."""
PROJECT_SCOPES = ALL_SCOPES - {Scope.INSTALLATION}
"""The scopes that a key can have."""


class Role(StrEnum):
    """A person's role: in the installation (`admin`), or in a project (the others)."""

    ADMIN = "admin"
    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


_VIEWER = frozenset({Scope.READ})
_EDITOR = _VIEWER | {Scope.SCHEMA, Scope.WRITE, Scope.REGISTER, Scope.IMPORT}
_ROLES = {Role.ADMIN: ALL_SCOPES, Role.OWNER: PROJECT_SCOPES, Role.EDITOR: _EDITOR, Role.VIEWER: _VIEWER}


def scopes_of(role: Role) -> frozenset[Scope]:
    """Return the scopes of a role in its project; for `admin`, in every project and in the installation."""
    return _ROLES[role]


def ordered(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """Return the scopes in display order."""
    wanted = frozenset(scopes)
    return tuple(scope for scope in Scope if scope in wanted)
