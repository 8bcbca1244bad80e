"""Advisory locks, which are held until the transaction ends. Which are for what is said by the package's docstring."""

from __future__ import annotations

from collections.abc import Sequence

from usertable.store.postgres.connection import Connection

LOCK_CLASS = 0x75746231
"""The first key of our advisory locks; the second is a project's number, or one of the next."""
LOCK_PROJECTS = 0
LOCK_MIGRATIONS = -1
LOCK_EXPIRY = -2
LOCK_ARRIVALS = -3
USERS_LOCK_CLASS = LOCK_CLASS + 1
"""The first key of those who commit users that they made or erased; the second is the project's number."""


def share(db: Connection, projects: Sequence[int]) -> None:
    """Keep these projects as they are."""
    db.execute("SELECT pg_advisory_xact_lock_shared(%s, n) FROM unnest(%s::int[]) n", (LOCK_CLASS, list(projects)))


def lock(db: Connection, number: int) -> None:
    """Wait until nobody else has the lock."""
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, number))


def lock_users(db: Connection, project: int) -> None:
    """Have others wait until users of the project are committed on every machine of a cluster."""
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (USERS_LOCK_CLASS, project))


def wait_for_users(db: Connection, project: int) -> None:
    """Wait until nobody is committing users of the project. What is read next has them all, or none."""
    db.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (USERS_LOCK_CLASS, project))


def try_lock(db: Connection, number: int) -> bool:
    """Take the lock unless somebody has it."""
    taken: bool = db.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, number)).fetchall()[0][0]
    return taken
