"""How a file is to be read: its format, and what the options of an import say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["csv", "ndjson", "parquet"]
MomentStyle = Literal["local", "offset", "utc"]
"""How a text file shows DATETIMEs; see :func:`usertable.files.moment_texts.moment_text`."""
Numbers = Literal["auto", "decimal", "float"]
"""What a NUMBER is in Parquet: an integer of 64 bits where all values are such, else DECIMAL(38, 18); always the latter; or
DOUBLE, which rounds."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a file is to be read."""

    format: Format
    encoding: str = "auto"
    """Of CSV and NDJSON: a codec, as :func:`~usertable.files.encodings.encoding_codec` names it, or auto."""
    delimiter: str | None = None
    """Of CSV; otherwise what a first line such as `sep=;` says, or a comma."""
    list_separator: str | None = None
    """Of CSV: what stands between the elements of a LIST. Otherwise its cells are JSON arrays."""
    nulls: frozenset[str] = frozenset()
    """Texts that count as an empty cell."""
    empty: Literal["skip", "refuse"] = "skip"
    """What an empty cell or null means: the attribute is not set, or the row is refused."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By column, the attribute or identifier that it is for; empty for nothing."""
    rows: int = 5000
    """So many rows make a block."""
