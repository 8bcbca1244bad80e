"""What is told of a backup, a restore, and the programs that PostgreSQL has for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are copied."""


@dataclass(frozen=True, slots=True)
class BackupContent:
    """What a backup holds, counted in it after its integrity was checked."""

    bytes: int
    version: int
    """The number of the store's newest migration."""
    projects: int
    users: int
    receipts: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore."""

    content: BackupContent
    kept: Path | None
    """Where the database is that was replaced; its log and its index, if it had some, are beside it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program of PostgreSQL's that backs a database up or restores it."""

    name: str
    path: str | None
    """None if it is not installed."""
    version: str | None
    """For example `15.9`."""
    problem: str | None
    """Why it cannot be used with this database, and what to do; None if it can."""


@dataclass(frozen=True, slots=True)
class DatabaseTools:
    """What a PostgreSQL store is backed up and restored with."""

    server: str
    """The database's version, for example `15.9`."""
    distributed: bool
    """Whether the tables are spread over the machines of a Citus cluster."""
    tools: list[Tool]
    commands: list[str]
    """For a shell, without a password."""
