"""Diagnosis of a SQLite store, its files and its disk, without changing anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw

from usertable.domain.errors import StoreFault
from usertable.store.diagnosis import MIB, Finding, free_space, newest_moment
from usertable.store.migrations import migrations
from usertable.store.queries import load_queries
from usertable.store.sqlite.connection import opened_for_reading
from usertable.store.sqlite.files import StoreFiles
from usertable.store.sqlite.migrations import check_ours

LOG_WARNING = 1024 * MIB
"""Bytes of the WAL above which something probably prevents its checkpoints."""
_SQL = load_queries("usertable.store.sqlite", "diagnosis.sql")
_RESET_BUG = "https://sqlite.org/wal.html#the_wal_reset_bug"
_RESET_FIXED, _RESET_BACKPORTED = (3, 51, 3), {(3, 50): 7, (3, 44): 6}
"""The first version without that bug, and the patch releases of earlier versions with the fix."""
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "lustre", "afs")


def diagnose(path: str, now_ms: int) -> Iterator[Finding]:
    """See :func:`usertable.store.diagnose`."""
    files = StoreFiles(path)
    yield _library()
    try:
        files.check_place()
        empty = files.is_empty()
    except StoreFault as fault:
        yield Finding("store", "problem", str(fault), "Do what it says, then run usertable doctor again")
        return
    if empty:
        yield Finding("store", "warning", f"there is no store at {path} yet", "usertable serve creates it")
    else:
        yield from _content(files, now_ms)
        yield from _log(files)
    yield _lock(files)
    yield from _modes(files)
    yield _space(files)
    if (file_system := _file_system(files)) is not None:
        yield file_system


def _library() -> Finding:
    version = apsw.sqlite_lib_version()
    if has_reset_bug(version):
        return Finding(
            "engine",
            "problem",
            f"SQLite {version} can lose acknowledged writes ({_RESET_BUG})",
            "Install apsw from PyPI, which comes with a current SQLite: pip install --force-reinstall apsw",
        )
    return Finding("engine", "ok", f"SQLite {version}, without known bugs that lose data")


def has_reset_bug(version: str) -> bool:
    """Return whether SQLite of this version, such as `3.40.1`, may lose a commit during a checkpoint."""
    major, minor, patch = [*map(int, version.split(".")), 0, 0][:3]
    backported = _RESET_BACKPORTED.get((major, minor))
    return (major, minor, patch) < _RESET_FIXED and not (backported is not None and patch >= backported)


def _content(files: StoreFiles, now_ms: int) -> Iterator[Finding]:
    newest = len(migrations("sqlite"))
    try:
        with opened_for_reading(files) as db:
            check_ours(db, files.path)
            version = db.pragma("user_version")
            yield Finding("store", "ok", f"{files.path} can be read")
            if version < newest:
                yield Finding(
                    "store version",
                    "warning",
                    f"{version}; this usertable needs {newest}",
                    "Stop the server, run usertable backup, then usertable migrate, or start the new server",
                )
            else:
                yield Finding("store version", "ok", f"{version}")
                yield newest_moment(db.execute(_SQL["newest_moment"]).get, now_ms)
    except StoreFault as fault:
        yield Finding("store", "problem", str(fault), "Name the store you mean with --store, or install a newer usertable")
    except apsw.Error as error:
        yield Finding(
            "store",
            "problem",
            f"{files.path} cannot be read: {error}",
            "Run this as the user of the server. If the file is damaged, restore a backup with usertable restore",
        )


def _log(files: StoreFiles) -> Iterator[Finding]:
    sizes = files.figures().file_bytes
    log = sizes.get("log", 0)
    shown = f"{log / MIB:,.0f} MiB, beside {sizes['database'] / MIB:,.0f} MiB of the database"
    if log >= LOG_WARNING:
        yield Finding(
            "log",
            "warning",
            shown,
            "A reader that never ends, such as a hung export or backup, keeps it from being checkpointed: find the process"
            f" with lsof {files.real}",
        )
    else:
        yield Finding("log", "ok", shown)


def _lock(files: StoreFiles) -> Finding:
    server = files.server()
    if note := files.trouble_noted():
        return Finding("lock", "problem", note, "See docs/explanation/durability.md")
    return Finding("lock", "ok", f"held by the server, process {server}" if server else "free: no server has the store open")


def _modes(files: StoreFiles) -> Iterator[Finding]:
    there = [Path(f"{files.real}{suffix}") for suffix in ("", "-wal", "-shm", ".lock")]
    found = {path: path.stat() for path in there if path.exists()}
    open_to_others = [str(path) for path, each in found.items() if stat.S_IMODE(each.st_mode) & 0o077]
    owners = {each.st_uid for each in found.values()}
    folder = Path(files.real).parent
    mode = folder.stat().st_mode if folder.exists() else 0
    if open_to_others:
        yield Finding(
            "file modes",
            "warning",
            f"users other than the owner can open {', '.join(open_to_others)}",
            f"chmod 600 {' '.join(open_to_others)}",
        )
    elif len(owners) > 1:
        yield Finding(
            "file modes",
            "problem",
            f"the store's files belong to several users: {', '.join(map(str, sorted(owners)))}",
            f"Let the server's user own them: chown USER {files.real}*; then run commands with sudo -u USER",
        )
    elif mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield Finding("file modes", "problem", f"every user can replace files in {folder}", f"chmod o-w {folder}")
    else:
        yield Finding("file modes", "ok", "only the owner can open the store")


def _space(files: StoreFiles) -> Finding:
    figures = files.figures()
    folder = Path(files.real).parent
    if figures.free_bytes is None:
        return Finding(
            "disk space", "problem", f"the free space of {folder} cannot be determined", "Check how it is mounted"
        )
    return free_space("disk space", folder, figures.free_bytes, figures.file_bytes.get("database", 0))


def _file_system(files: StoreFiles) -> Finding | None:
    """Return the finding about the file system; None if the system does not show it."""
    folder = Path(files.real).parent
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return Finding(
            "file system",
            "problem",
            f"{folder} is on a file system that is mounted read-only",
            "Mount it for writing; look at the kernel's log for disk errors",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            "file system", "problem", f"this user may not write to {folder}", "Run this as the user of the server"
        )
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return None
    real = os.path.realpath(folder)
    # The last mount on a folder hides earlier ones. The longest path that contains the store counts.
    name, kind = max(
        ((mount[1], mount[2]) for mount in mounts if Path(real).is_relative_to(mount[1])), key=lambda each: len(each[0])
    )
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        return Finding(
            "file system",
            "problem",
            f"{name} is a network file system ({kind})",
            "Put the store on a local disk: SQLite's log needs memory that processes of one machine share",
        )
    return Finding("file system", "ok", f"{kind}, mounted at {name}")
