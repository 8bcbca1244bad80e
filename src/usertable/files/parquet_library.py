"""pyarrow, which only the extra `parquet` installs."""

from __future__ import annotations

from typing import Any

from usertable.domain.errors import ProblemKind, refusal


def parquet_library() -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet.

    Raises:
        Refused: they are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise refusal(ProblemKind.PARQUET_LIBRARY) from error
    return pyarrow, parquet
