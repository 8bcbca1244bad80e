"""Results of a backup and a restore, and PostgreSQL's programs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with the number of bytes copied and their total."""


@dataclass(frozen=True, slots=True)
class BackupContent:
    """The content of a backup, counted in the backup after its integrity was checked."""

    bytes: int
    version: int
    """The number of the store's newest migration."""
    projects: int
    users: int
    receipts: int


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore."""

    content: BackupContent
    kept: Path | None
    """Path of the database that was replaced. Its log and its index, if any, are next to it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A PostgreSQL program that backs up a database or restores it."""

    name: str
    path: str | None
    """None if it is not installed."""
    version: str | None
    """For example `15.9`."""
    problem: str | None
    """Why it cannot be used with this database, and what to do; None if it can."""


@dataclass(frozen=True, slots=True)
class DatabaseTools:
    """The programs to back up and restore a PostgreSQL store."""

    server: str
    """The database's version, for example `15.9`."""
    distributed: bool
    """Whether the tables are distributed over the machines of a Citus cluster."""
    tools: list[Tool]
    commands: list[str]
    """Commands for a shell, without a password."""
