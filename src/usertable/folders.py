"""Files and folders whose names survive a power cut, because their folder is synced; and files without a name."""

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
    """Create a folder and its missing parents. Their names are durable when this returns. Raises OSError.

    Args:
        mode: mode of the folder itself; parents have the default mode.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links, which need not lead anywhere yet
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    # A process may have been killed after creating this folder and before syncing it. Everything above is older.
    made = [folder, *reversed(missing)]
    for each in made:
        if each is not folder:
            each.mkdir(mode if each is made[-1] else 0o777, exist_ok=True)
        # A folder that is writable but not readable cannot be synced.
        with contextlib.suppress(PermissionError):
            sync_folder(each.parent)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file that is being written, under a temporary name: `.users.csv.0123456789abcdef.part`."""

    path: Path
    descriptor: int


@contextlib.contextmanager
def part_file(target: Path, *, replace: bool = True) -> Iterator[PartFile]:
    """Create a file for its owner only, which is durably at `target` after the block. If the block raises, it is removed.

    Args:
        replace: whether to replace an existing file. If false, the existing file is kept.

    Raises:
        FileExistsError: a file exists and is kept.
    """
    # The name is chosen before the file exists, so a signal can never leave the file behind.
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
    """Rename a file unless the new name exists. Raises FileExistsError if it does."""
    try:
        target.hardlink_to(path)
    except OSError as error:
        # Either it exists, or the file system has no hard links.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        path.rename(target)
    else:
        path.unlink()


def file_in_memory() -> IO[bytes]:
    """Return a new file without a name, in memory where the system supports it. Needs no writable folder."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("usertable"), "w+b")
    return tempfile.TemporaryFile()
