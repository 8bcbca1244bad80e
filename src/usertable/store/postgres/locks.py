"""Advisory locks, which are held until the transaction ends. The package's docstring lists their purposes."""

from __future__ import annotations

from collections.abc import Sequence

from usertable.store.postgres.connection import Connection

LOCK_CLASS = 0x75746231
"""The first key of usertable's advisory locks. The second is a project's number, or one of the following."""
LOCK_PROJECTS = 0
LOCK_MIGRATIONS = -1
LOCK_EXPIRY = -2
LOCK_ARRIVALS = -3
LOCK_PEOPLE = -4
USERS_LOCK_CLASS = LOCK_CLASS + 1
"""The first key for committing created or erased users. The second is the project's number."""

AUDIT_LOCK_CLASS = LOCK_CLASS + 2
"""The first key for adding to an audit log. The second is the project's number, 0 for the installation."""

HISTORY_LOCK_CLASS = LOCK_CLASS + 3
"""The first key for changing stored blocks of history. The second is the project's number."""


def share(db: Connection, projects: Sequence[int]) -> None:
    """Prevent edits of these projects."""
    db.execute("SELECT pg_advisory_xact_lock_shared(%s, n) FROM unnest(%s::int[]) n", (LOCK_CLASS, list(projects)))


def lock(db: Connection, number: int) -> None:
    """Take the lock, waiting until it is free."""
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, number))


def lock_users(db: Connection, project: int) -> None:
    """Make others wait until the project's users are committed on every machine of a cluster."""
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (USERS_LOCK_CLASS, project))


def wait_for_users(db: Connection, project: int) -> None:
    """Wait until no transaction is committing users of the project. Later reads see all of them, or none."""
    db.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (USERS_LOCK_CLASS, project))


def lock_audit(db: Connection, project: int) -> None:
    """Make other writers of the audit log wait for this commit, so that numbers follow the order of commits."""
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (AUDIT_LOCK_CLASS, project))


def lock_history(db: Connection, project: int) -> None:
    """Make others that change the project's stored blocks of history wait for this commit."""
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (HISTORY_LOCK_CLASS, project))


def try_lock_history(db: Connection, project: int) -> bool:
    """Take that lock if it is free. Return whether it was."""
    taken: bool = db.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (HISTORY_LOCK_CLASS, project)).fetchall()[0][0]
    return taken


def try_lock(db: Connection, number: int) -> bool:
    """Take the lock if it is free. Return whether it was."""
    taken: bool = db.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, number)).fetchall()[0][0]
    return taken
