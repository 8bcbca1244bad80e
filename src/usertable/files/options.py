"""How a file is to be read: its format, and what the options of an import say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Format = Literal["csv", "ndjson", "parquet"]
Compression = Literal["gzip", "zstd"]
MomentStyle = Literal["local", "offset", "utc"]
"""How a text file shows DATETIMEs; see :func:`usertable.files.moment_texts.moment_text`."""
Numbers = Literal["auto", "decimal", "float"]
"""What a NUMBER is in Parquet: an integer of 64 bits where all values are such, else DECIMAL(38, 18); always the latter; or
DOUBLE, which rounds."""


_COMPRESSIONS: Mapping[str, Compression] = {".gz": "gzip", ".zst": "zstd"}


def compression_of(file: str) -> tuple[Compression | None, str]:
    """How a file is compressed by its name, and the name without that: `users.csv` of `users.csv.gz`."""
    path = Path(file)
    found = _COMPRESSIONS.get(path.suffix.lower())
    return found, str(path.with_suffix("")) if found else file


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
    """By column, the attribute or identifier that it is for, or several with commas between; empty for nothing."""
    rows: int = 5000
    """So many rows make a block."""
    # What follows was added later: in the digest of an import's options it stands only where it is not left out.
    compression: Compression | None = field(default=None, repr=False)
    date_formats: tuple[str, ...] = field(default=(), repr=False)
    """The forms of texts that are DATETIMEs, as :meth:`datetime.datetime.strptime` has them: the first one that fits."""
    decimal_comma: bool = field(default=False, repr=False)
    """Texts that are NUMBERs have a decimal comma, and may have a point or a blank between thousands."""
    true_texts: tuple[str, ...] = field(default=(), repr=False)
    """Further texts that are true as a BOOL."""
    false_texts: tuple[str, ...] = field(default=(), repr=False)
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Attributes with the cells that they are read from where a row has none."""
