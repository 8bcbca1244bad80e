"""The meaning of the database's failures."""

from __future__ import annotations

import psycopg
from psycopg import errors

DOWN = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.ReadOnlySqlTransaction,
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
)
"""Failures that the operator can fix. Any other is a defect in usertable."""

CONFLICTS = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.UniqueViolation,
    errors.LockNotAvailable,
    errors.QueryCanceled,
)
"""Failures caused by other transactions, or by the operator's time limits: rolled back, and a retry may succeed."""


def error_text(error: Exception) -> str:
    """Return the database's message in one line, without its details, which quote stored values."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split()) or type(error).__name__
