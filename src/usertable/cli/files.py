"""What the import and the export of a file share."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from usertable.files.options import Format


ENDINGS: Mapping[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED = {".gz": "gunzip -c", ".zst": "zstd -dc", ".xz": "xz -dc", ".bz2": "bzip2 -dc", ".zip": "unzip -p"}
"""What unpacks a file, by its ending."""
FORMAT = click.Choice(["csv", "ndjson", "parquet"])


def file_format(given: str | None, file: str) -> Format:
    name = Path(file)
    found = given or ENDINGS.get(name.suffix.lower())
    if found is None and name.suffix.lower() in _PACKED:
        inner = ENDINGS.get(Path(name.stem).suffix.lower(), "csv")
        tool = _PACKED[name.suffix.lower()]
        raise click.UsageError(
            f"{file} is compressed; unpack it first: `{tool} {file} | usertable import - --format {inner} …`"
        )
    if found is None:
        raise click.UsageError(f"--format is needed: {file} does not end in {', '.join(ENDINGS)}")
    return cast("Format", found)


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Have SIGTERM leave as little behind as Ctrl-C does; the exit code is 143."""

    def end(number: int, frame: FrameType | None) -> None:
        # Once is enough: another one must not cut the tidying short.
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def expect_no_cycles() -> None:
    """Rows make none, and what lives long is not worth looking through for some again and again."""
    gc.freeze()
    gc.set_threshold(500_000, 20, 100)
