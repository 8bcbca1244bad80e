"""Looks at a server's settings and the machine that it is to run on, and changes nothing."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from usertable.config import TOKENS, Config, LoadedConfig, is_loopback, items
from usertable.store import redacted_url
from usertable.store.diagnosis import MIB, Finding, free_space
from usertable.store.urls import sqlite_file
from usertable.version import version

SPARE_FILES = 200
"""Open files that a server needs besides its connections."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def diagnose(loaded: LoadedConfig) -> Iterator[Finding]:
    """What is found of the settings and of the machine."""
    config = loaded.config
    yield Finding("version", "ok", f"usertable {version()}")
    yield from _secrets(loaded)
    yield from _addresses(config)
    if config.workers > 1 and config.store.startswith("sqlite:"):
        yield Finding(
            "workers",
            "problem",
            f"workers is {config.workers}, and a SQLite file can have one server process only",
            "Set workers to 1, or use PostgreSQL",
        )
    yield _open_files(config)
    if (memory := _memory(config)) is not None:
        yield memory
    yield _temporary_folder()


def _secrets(loaded: LoadedConfig) -> Iterator[Finding]:
    in_file = [name for name in TOKENS if loaded.sources[name] == "file"]
    if loaded.sources["store"] == "file" and redacted_url(loaded.config.store) != loaded.config.store:
        in_file.append("store")
    files = {*loaded.secret_files, *([loaded.file] if in_file and loaded.file else [])}
    readable = [file for file in sorted(files) if stat.S_IMODE(Path(file).stat().st_mode) & 0o077]
    if readable:
        yield Finding(
            "secrets",
            "warning",
            f"others than the owner may read {', '.join(readable)}",
            f"chmod 600 {' '.join(readable)}; in Kubernetes, defaultMode: 0400",
        )
    elif files:
        yield Finding("secrets", "ok", "only the owner may read the files that hold secrets")
    if loaded.config.admin_token_previous:
        yield Finding(
            "admin token",
            "warning",
            "the previous one is valid too",
            "When everybody has the new one, remove admin_token_previous and send SIGHUP",
        )


def _addresses(config: Config) -> Iterator[Finding]:
    if config.is_local:
        shown = f"the Unix socket {config.uds}" if config.uds else f"{config.host} port {config.port}"
        yield Finding("address", "ok", f"{shown}: this machine only")
    else:
        yield Finding(
            "address",
            "warning",
            f"{config.host} port {config.port}: other machines may reach it, by HTTP without TLS",
            "Put a TLS-terminating proxy in front of it, and let only the proxy reach this port",
        )
    if everyone := [proxy for proxy in items(config.trusted_proxies) if proxy.endswith("/0")]:
        yield Finding(
            "trusted proxies",
            "problem",
            f"{', '.join(everyone)} is everyone, so any caller may claim any address",
            "Name the addresses of your proxies in trusted_proxies",
        )
    host = config.metrics_address.rpartition(":")[0].strip("[]")
    if config.metrics_address and not config.metrics_address.startswith("unix:") and not config.metrics_token:
        if is_loopback(host):
            yield Finding("metrics", "ok", f"{config.metrics_address}: this machine only")
        else:
            yield Finding(
                "metrics",
                "warning",
                f"{config.metrics_address}: everyone who reaches it may read them",
                "Set metrics_token, or let only your Prometheus reach that port",
            )


def _open_files(config: Config) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.max_connections + SPARE_FILES
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return Finding("open files", "ok", f"{'no limit' if hard == resource.RLIM_INFINITY else hard}")
    return Finding(
        "open files",
        "warning",
        f"a server started from here may open {hard}, and max_connections is {config.max_connections}",
        f"Allow the server {needed} or more, as LimitNOFILE in the systemd unit does, or lower max_connections",
    )


def _memory(config: Config) -> Finding | None:
    """None for a store that keeps no pages here."""
    if not config.store.startswith("sqlite:"):
        return None
    _, cache_mb = sqlite_file(config.store)
    limit = memory_limit() // MIB
    shown = f"{limit:,} MiB, of which SQLite may take {cache_mb:,} MiB for pages"
    if cache_mb > limit // 2:
        return Finding(
            "memory", "warning", shown, f"Add ?cache_mb={max(1, limit // 4)} to the store's URL, or give more memory"
        )
    return Finding("memory", "ok", shown)


def memory_limit() -> int:
    """Bytes of memory that this process may have: the machine's, or its control group's if that is less."""
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
            "no folder for temporary files can be written, so imports from stdin are kept in memory",
            "Set TMPDIR to a folder that can be written",
        )
    disk = os.statvfs(folder)
    return free_space("temporary folder", folder, disk.f_bavail * disk.f_frsize, 0)
