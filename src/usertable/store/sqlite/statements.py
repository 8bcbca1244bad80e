"""Functions for the statements of several modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw

SQLITE_LENGTH = 1_000_000_000
"""Maximum bytes of a value or a row: SQLite's own limit."""
_ROWS_PER_STATEMENT = 256


def for_project(statement: str, project: int) -> str:
    """Return a statement about `user_{project}` for the project with this number."""
    return statement.replace("{project}", str(project))


def json_array(cuids: Iterable[int]) -> str:
    """Return CUIDs for `json_each`, for example `[10000001,10000002]`."""
    return f"[{','.join(map(str, cuids))}]"


def insert_rows(db: apsw.Connection, head: str, width: int, parameters: Sequence[Any]) -> None:
    """Run `head (?, …), (?, …)` for all rows, in statements of 256, 128, … rows: few texts, so all of them stay prepared.

    Args:
        head: the statement up to `VALUES`.
        width: number of columns of a row.
        parameters: the values of all rows, one row after the other.
    """
    row = f"({', '.join('?' * width)})"
    done, rows, size = 0, len(parameters) // width, _ROWS_PER_STATEMENT
    while done < rows:
        while size > rows - done:
            size //= 2
        db.execute(f"{head} {', '.join([row] * size)}", parameters[done * width : (done + size) * width])
        done += size
