"""Formats of imported and exported files."""

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
"""Command that decompresses a file, by the extension of formats that are not supported directly."""
FORMAT = click.Choice(["csv", "ndjson", "parquet"])


def file_format(given: str | None, file: str) -> Format:
    """Return the given format, or the one of the file's extension before `.gz` or `.zst`.

    Raises:
        UsageError: no format is given and the extension is unknown, or the file is a compressed Parquet file.
    """
    compression, inner = compression_of(file)
    name = Path(inner)
    found = given or ENDINGS.get(name.suffix.lower())
    if found is None and name.suffix.lower() in _PACKED:
        form = ENDINGS.get(Path(name.stem).suffix.lower(), "csv")
        tool = _PACKED[name.suffix.lower()]
        raise click.UsageError(
            f"{file} is compressed; decompress it first: `{tool} {file} | usertable import - --format {form} …`"
        )
    if found is None:
        raise click.UsageError(f"--format is required: {inner} does not end in {', '.join(ENDINGS)}")
    if found == "parquet" and compression:
        raise click.UsageError(f"Parquet files are compressed internally; remove {Path(file).suffix} from the name: {file}")
    return cast("Format", found)
