"""Names of folders that outlive a power cut, which a name does once its folder is synced; and files without a name."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder with all that are missing above it; their names are durable when this returns. Raises OSError.

    Args:
        mode: of the folder itself; those above it have the default.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links, which need not lead anywhere yet
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    # A process that was killed may have made this one and not come to syncing it. Above it all is older.
    made = [folder, *reversed(missing)]
    for each in made:
        if each is not folder:
            each.mkdir(mode if each is made[-1] else 0o777, exist_ok=True)
        # A folder that may be written and not read cannot be synced.
        with contextlib.suppress(PermissionError):
            sync_folder(each.parent)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")


def file_in_memory() -> IO[bytes]:
    """A new file without a name, in memory where the system can do that: no folder need be writable."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("usertable"), "w+b")
    return tempfile.TemporaryFile()
