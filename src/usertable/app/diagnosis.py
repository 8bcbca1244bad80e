"""Diagnosis of a server's settings and the machine that it will run on, without changing anything."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from usertable.config import SECRETS, Config, LoadedConfig, is_loopback, items
from usertable.store import redacted_url
from usertable.store.diagnosis import MIB, Finding, free_space
from usertable.store.urls import sqlite_file
from usertable.version import version

SPARE_FILES = 200
"""Number of open files that a server needs in addition to its connections."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def diagnose(loaded: LoadedConfig) -> Iterator[Finding]:
    """Yield the findings about the settings and the machine."""
    config = loaded.config
    yield Finding("version", "ok", f"usertable {version()}")
    yield from _secrets(loaded)
    yield from _addresses(config)
    if config.workers > 1 and config.store.startswith("sqlite:"):
        yield Finding(
            "workers",
            "problem",
            f"workers is {config.workers}, but only one server process can serve a SQLite file",
            "Set workers to 1, or use PostgreSQL",
        )
    yield _open_files(config)
    if (memory := _memory(config)) is not None:
        yield memory
    yield _temporary_folder()


def _secrets(loaded: LoadedConfig) -> Iterator[Finding]:
    in_file = [name for name in SECRETS if loaded.sources[name] == "file"]
    if loaded.sources["store"] == "file" and redacted_url(loaded.config.store) != loaded.config.store:
        in_file.append("store")
    files = {*loaded.secret_files, *([loaded.file] if in_file and loaded.file else [])}
    readable = [file for file in sorted(files) if others_may_read(Path(file).stat())]
    if readable:
        yield Finding(
            "secrets",
            "warning",
            f"users other than the server's can read {', '.join(readable)}",
            f"chmod 600 {' '.join(readable)}, or 640 if root owns it; in Kubernetes, defaultMode: 0400",
        )
    elif files:
        yield Finding("secrets", "ok", "only the server's user and root can read the files that contain secrets")
    if loaded.config.admin_token_previous:
        yield Finding(
            "admin token",
            "warning",
            "the previous one is still valid",
            "When all callers use the new one, remove admin_token_previous and send SIGHUP",
        )


def others_may_read(status: os.stat_result) -> bool:
    """Return whether users other than the server and root may read a file that contains a secret.

    The group may read a file that belongs to root, `-rw-r----- root usertable`: the server can read it but not change it.
    `docs/howto/run-with-systemd.md` creates the settings this way.
    """
    allowed = 0o640 if status.st_uid == 0 and status.st_gid != 0 else 0o600
    return bool(stat.S_IMODE(status.st_mode) & 0o077 & ~allowed)


def _addresses(config: Config) -> Iterator[Finding]:
    if config.is_local:
        shown = f"the Unix socket {config.uds}" if config.uds else f"{config.host} port {config.port}"
        yield Finding("address", "ok", f"{shown}: this machine only")
    else:
        yield Finding(
            "address",
            "warning",
            f"{config.host} port {config.port}: other machines can reach it, over HTTP without TLS",
            "Put a TLS-terminating proxy in front of it, and allow only the proxy to reach this port",
        )
    if everyone := [proxy for proxy in items(config.trusted_proxies) if proxy.endswith("/0")]:
        yield Finding(
            "trusted proxies",
            "problem",
            f"{', '.join(everyone)} covers every address, so any caller can claim any address",
            "List only the addresses of your proxies in trusted_proxies",
        )
    host = config.metrics_address.rpartition(":")[0].strip("[]")
    if config.metrics_address and not config.metrics_address.startswith("unix:") and not config.metrics_token:
        if is_loopback(host):
            yield Finding("metrics", "ok", f"{config.metrics_address}: this machine only")
        else:
            yield Finding(
                "metrics",
                "warning",
                f"{config.metrics_address}: everyone who can reach it can read them",
                "Set metrics_token, or allow only your Prometheus to reach that port",
            )


def _open_files(config: Config) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.max_connections + SPARE_FILES
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return Finding("open files", "ok", f"{'no limit' if hard == resource.RLIM_INFINITY else hard}")
    return Finding(
        "open files",
        "warning",
        f"a server started from here can open {hard}, and max_connections is {config.max_connections}",
        f"Allow the server {needed} or more, as LimitNOFILE in the systemd unit does, or lower max_connections",
    )


def _memory(config: Config) -> Finding | None:
    """Return the finding about memory; None for a store that keeps no pages in this process."""
    if not config.store.startswith("sqlite:"):
        return None
    _, cache_mb = sqlite_file(config.store)
    limit = memory_limit() // MIB
    shown = f"{limit:,} MiB, of which SQLite uses up to {cache_mb:,} MiB for pages"
    if cache_mb > limit // 2:
        return Finding("memory", "warning", shown, f"Add ?cache_mb={max(1, limit // 4)} to the store's URL, or add memory")
    return Finding("memory", "ok", shown)


def memory_limit() -> int:
    """Return the maximum bytes of memory for this process: the machine's, or its control group's if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return machine


def _temporary_folder() -> Finding:
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Finding(
            "temporary folder",
            "warning",
            "no folder for temporary files is writable, so imports from stdin are kept in memory",
            "Set TMPDIR to a writable folder",
        )
    disk = os.statvfs(folder)
    return free_space("temporary folder", folder, disk.f_bavail * disk.f_frsize, 0)
