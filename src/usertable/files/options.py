"""How a file is read: its format, and the options of an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Format = Literal["csv", "ndjson", "parquet"]
Compression = Literal["gzip", "zstd"]
MomentStyle = Literal["local", "offset", "utc"]
"""How a text file shows DATETIMEs; see :func:`usertable.files.moment_texts.moment_text`."""
Numbers = Literal["auto", "decimal", "float"]
"""The type of a NUMBER in Parquet. `auto`: INT64 if all values are 64-bit integers, else DECIMAL(38, 18). `decimal`: always
DECIMAL(38, 18). `float`: DOUBLE, which rounds."""

FORMATS_OF: Mapping[str, Sequence[Format]] = {
    "escape_formulas": ("csv",),
    "bom": ("csv",),
    "datetimes": ("csv", "ndjson"),
    "numbers": ("parquet",),
}
"""The formats that have an option of an export. All formats have the other options."""

_COMPRESSIONS: Mapping[str, Compression] = {".gz": "gzip", ".zst": "zstd"}


def compression_of(file: str) -> tuple[Compression | None, str]:
    """Return a file's compression, by its name, and the name without the suffix: `users.csv` for `users.csv.gz`."""
    path = Path(file)
    found = _COMPRESSIONS.get(path.suffix.lower())
    return found, str(path.with_suffix("")) if found else file


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a file is read."""

    format: Format
    encoding: str = "auto"
    """For CSV and NDJSON: a codec, as :func:`~usertable.files.encodings.encoding_codec` names it, or auto."""
    delimiter: str | None = None
    """For CSV. If None, the delimiter in a first line such as `sep=;`, or a comma."""
    list_separator: str | None = None
    """For CSV: separator of a LIST's elements. If None, its cells are JSON arrays."""
    nulls: frozenset[str] = frozenset()
    """Texts that count as an empty cell."""
    empty: Literal["skip", "refuse"] = "skip"
    """For an empty cell or null: do not set the attribute, or refuse the row."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By column, its attribute or identifier, or several separated by commas; empty for none."""
    rows: int = 5000
    """Number of rows per block."""
    # The following were added later. The digest of an import's options contains them only if they are set.
    compression: Compression | None = field(default=None, repr=False)
    date_formats: tuple[str, ...] = field(default=(), repr=False)
    """Formats of DATETIMEs, as for :meth:`datetime.datetime.strptime`. The first that matches is used."""
    decimal_comma: bool = field(default=False, repr=False)
    """Texts for NUMBERs have a decimal comma, and may have a point or a blank between thousands."""
    true_texts: tuple[str, ...] = field(default=(), repr=False)
    """Additional texts for a BOOL that is true."""
    false_texts: tuple[str, ...] = field(default=(), repr=False)
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Attributes and the cell that a row without a value is read from."""
