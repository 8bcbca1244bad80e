"""What failures of the database mean."""

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
"""What the operator can mend; anything else is a defect of ours."""

CONFLICTS = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.UniqueViolation,
    errors.LockNotAvailable,
    errors.QueryCanceled,
)
"""What others caused, or the operator's time limits: the transaction is undone, and the next attempt may succeed."""


def error_text(error: Exception) -> str:
    """What the database said, in one line, without its details, which quote what is stored."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split()) or type(error).__name__
