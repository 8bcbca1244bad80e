"""`usertable backup` and `usertable restore`."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usertable.cli.context import actor, load_settings, make_default_folder, refuse_memory
from usertable.cli.errors import Failure
from usertable.cli.options import common_options
from usertable.cli.output import print_lines, print_result
from usertable.cli.process import exit_on_sigterm
from usertable.cli.progress import show_bytes
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditKind, Facts
from usertable.domain.errors import StoreFault, Unavailable
from usertable.wire.native import documents

if TYPE_CHECKING:
    from usertable.config import LoadedConfig
    from usertable.store.backup import BackupContent

_SKIPPED_CUIDS = 1_000_000
"""Number of CUIDs to skip: more than are usually assigned between a backup and its restore, and few of 2^63."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), help="File to create. An existing file is not overwritten.")
@common_options
@exit_on_sigterm()
def backup(file: Path) -> None:
    """Back up a SQLite store while servers and commands use it.

    The backup holds everything that was acknowledged before the command started, as of one moment: projects and their
    secrets, users, identifiers, receipts, the audit log, arrivals, import jobs. FILE appears when the backup is
    complete, synced to disk and verified: SQLite's integrity check passed, and every table has as many rows as the store
    had at that moment.

    A PostgreSQL store is not copied. The command checks that pg_basebackup and pg_dump are installed in a version that
    fits the database, prints the commands to run, and exits with code 1.

    With --json: `store`, `file`, `as_of`, `bytes`, `version` (of the store), `projects`, `users`, `receipts`, `seconds`. For
    a PostgreSQL store: `store`, `server` (version of the database), `distributed`, `tools` (each with `name`, `path`,
    `version`, `problem`) and `commands`.

    \b
    Example:
      usertable backup /backup/users-$(date +%F).db --store sqlite:////var/lib/usertable/usertable.db
    """
    loaded = _settings()
    if _is_database(loaded):
        _show_database_tools(loaded.config.store, file, restore=False)
    from usertable.store import back_up
    from usertable.store.urls import redacted_url

    began, as_of = time.monotonic(), time.time_ns() // 1_000_000
    with show_bytes("backup") as progress:
        content = back_up(loaded.config.store, file, progress)
    document = {
        "store": redacted_url(loaded.config.store),
        "file": str(file),
        "as_of": documents.moment(as_of),
        **asdict(content),
        "seconds": round(time.monotonic() - began, 2),
    }
    print_result(
        document, lambda: click.echo(f"{file}: {_shown(content)}, as of {document['as_of']}, in {document['seconds']} s")
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path), help="Backup to restore, written by `usertable backup`.")
@click.option(
    "--replace",
    is_flag=True,
    help="Replace an existing store: rename it, and its log, to STORE.replaced-TIME. Without this option, an existing store"
    " is an error.",
)
@click.option(
    "--skip-cuids",
    metavar="N",
    type=click.IntRange(0, 2**40),
    default=_SKIPPED_CUIDS,
    show_default=True,
    help="Number of CUIDs that each project skips, because they may have been assigned after the backup.",
)
@common_options
@exit_on_sigterm()
def restore(file: Path, replace: bool, skip_cuids: int) -> None:
    """Restore the SQLite store that --store names from a backup. Stop its server first.

    FILE is copied and verified before anything changes. If the command is interrupted, the store is either the earlier one
    or the restored one, or the next command reports that the restore was interrupted. Nothing is restored while a server or
    another command has the store open. A backup of an older version is not migrated, so the usertable that wrote it can
    serve it again.

    Users who were registered after the backup are lost, but other systems may know their CUIDs. So that these CUIDs are not
    assigned to other users, each project skips --skip-cuids of them.

    For a PostgreSQL store, the command checks that createdb and pg_restore are installed, prints the commands to run, and
    exits with code 1.

    With --json: `store`, `file`, `kept` (path of the renamed store, or null), `skipped_cuids`, `bytes`, `version`,
    `projects`, `users`, `receipts`, `seconds`.

    \b
    Example:
      usertable restore /backup/users-2026-11-30.db --store sqlite:////var/lib/usertable/usertable.db --replace
    """
    loaded = _settings()
    if _is_database(loaded):
        _show_database_tools(loaded.config.store, file, restore=True)
    make_default_folder(loaded)
    from usertable.store import restore as restore_store
    from usertable.store.urls import redacted_url

    began = time.monotonic()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    with show_bytes("restore") as progress:
        restored = restore_store(
            loaded.config.store, file, replace=replace, stamp=stamp, skip_cuids=skip_cuids, progress=progress
        )
    facts: Facts = {"file": str(file), "users": restored.content.users, "skipped_cuids": skip_cuids}
    _record_restore(loaded.config.store, facts)
    url, kept, seconds = redacted_url(loaded.config.store), restored.kept, round(time.monotonic() - began, 2)
    document = {
        "store": url,
        "file": str(file),
        "kept": None if kept is None else str(kept),
        "skipped_cuids": skip_cuids,
        **asdict(restored.content),
        "seconds": seconds,
    }

    def show() -> None:
        click.echo(f"{url}: {_shown(restored.content)}, restored from {file} in {seconds} s")
        if kept is not None:
            click.echo(f"The earlier store is {kept}. Delete it, and its log if there is one, when you no longer need it")

    print_result(document, show)


def _record_restore(url: str, facts: Facts) -> None:
    """Add an audit entry to the restored store. The restore is complete whether or not this succeeds."""
    from usertable.app.service import Service
    from usertable.store import newest_version, open_store, stored_version

    try:
        if stored_version(url) < newest_version(url)[1]:
            # The store keeps its older version, for the usertable that wrote it.
            return
        with contextlib.closing(open_store(url, create=False, migrate=False)) as store:
            Service(store).record(INSTALLATION, actor(), AuditEvent(AuditKind.RESTORE_STORE, after=facts))
    except (StoreFault, Unavailable) as failure:
        click.echo(f"Warning: the store is restored, but the audit log has no entry for it: {failure}", err=True)


def _settings() -> LoadedConfig:
    loaded = load_settings()
    refuse_memory(loaded)
    return loaded


def _is_database(loaded: LoadedConfig) -> bool:
    from usertable.store import newest_version

    engine, _ = newest_version(loaded.config.store)
    return engine == "postgresql"


def _shown(content: BackupContent) -> str:
    return (
        f"users {content.users}, receipts {content.receipts}, projects {content.projects},"
        f" store version {content.version}, {content.bytes / 2**20:,.1f} MiB, checked"
    )


def _show_database_tools(url: str, file: Path, *, restore: bool) -> None:
    """Print the commands that back up or restore a PostgreSQL store. Raises Failure, as nothing was done."""
    from usertable.store import database_tools
    from usertable.store.urls import redacted_url

    found = database_tools(url, file, restore=restore)

    def show() -> None:
        click.echo(f"{redacted_url(url)} is on PostgreSQL {found.server}. Use PostgreSQL's own tools:")
        print_lines((f"  {tool.name}", tool.version or "", tool.problem or f"ok, {tool.path}") for tool in found.tools)
        if found.distributed:
            click.echo(
                "Its tables are spread over a Citus cluster: run pg_basebackup on the coordinator and on every worker."
                " A dump does not restore the distribution."
            )
        for command in found.commands:
            click.echo(f"  {command}")
        if not restore:
            click.echo("pg_basebackup needs a role with REPLICATION, pg_dump the owner of the tables: change user=")
        click.echo("For point-in-time recovery, also archive the write-ahead log")

    print_result({"store": redacted_url(url), **asdict(found)}, show)
    done = "restored" if restore else "backed up"
    raise Failure(f"nothing was {done}: use PostgreSQL's own tools for a PostgreSQL store")
