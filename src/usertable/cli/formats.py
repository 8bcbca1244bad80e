"""The formats of files that are imported and exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from usertable.files.options import compression_of

if TYPE_CHECKING:
    from usertable.files.options import Format

ENDINGS: Mapping[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED = {".xz": "xz -dc", ".bz2": "bzip2 -dc", ".zip": "unzip -p"}
"""What unpacks a file that is not unpacked here, by its ending."""
FORMAT = click.Choice(["csv", "ndjson", "parquet"])


def file_format(given: str | None, file: str) -> Format:
    """The format that is given, or the one that the file's name ends in, before `.gz` or `.zst`.

    Raises:
        UsageError: none is given, and the name ends in none; or it is a compressed Parquet file.
    """
    compression, inner = compression_of(file)
    name = Path(inner)
    found = given or ENDINGS.get(name.suffix.lower())
    if found is None and name.suffix.lower() in _PACKED:
        form = ENDINGS.get(Path(name.stem).suffix.lower(), "csv")
        tool = _PACKED[name.suffix.lower()]
        raise click.UsageError(
            f"{file} is compressed; unpack it first: `{tool} {file} | usertable import - --format {form} …`"
        )
    if found is None:
        raise click.UsageError(f"--format is needed: {inner} does not end in {', '.join(ENDINGS)}")
    if found == "parquet" and compression:
        raise click.UsageError(f"a Parquet file is compressed inside, so it is not named {Path(file).suffix}: {file}")
    return cast("Format", found)
