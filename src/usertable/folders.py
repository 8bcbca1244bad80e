"""Names of files and folders that outlive a power cut, as a name does once its folder is synced; and files without one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file that is being written, and has a name of its own until it is whole: `.users.csv.0123456789abcdef.part`."""

    path: Path
    descriptor: int


@contextlib.contextmanager
def part_file(target: Path, *, replace: bool = True) -> Iterator[PartFile]:
    """A new file for its owner only, which is at `target`, durable, when the block is left; if the block raises, it is gone.

    Args:
        replace: a file that is there already; if not, that one stays.

    Raises:
        FileExistsError: there is one, and it stays.
    """
    # Its name is known before it is there, so that a signal finds no moment in which it would be left behind.
    path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            yield PartFile(path, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            path.replace(target)
        else:
            _rename_to_free(path, target)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    sync_folder(target.parent)


def _rename_to_free(path: Path, target: Path) -> None:
    """Rename a file unless there is one of the new name. Raises FileExistsError if there is."""
    try:
        target.hardlink_to(path)
    except OSError as error:
        # Either that, or the file system has no hard links.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        path.rename(target)
    else:
        path.unlink()


def file_in_memory() -> IO[bytes]:
    """A new file without a name, in memory where the system can do that: no folder need be writable."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("usertable"), "w+b")
    return tempfile.TemporaryFile()
