"""`usertable backup` and `usertable restore`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usertable.cli.context import load_settings, make_default_folder, refuse_memory
from usertable.cli.errors import Failure
from usertable.cli.options import common_options
from usertable.cli.output import print_lines, print_result
from usertable.cli.process import exit_on_sigterm
from usertable.cli.progress import show_progress
from usertable.store.urls import redacted_url
from usertable.wire.native import documents

if TYPE_CHECKING:
    from usertable.config import LoadedConfig
    from usertable.store.backup import BackupContent, Progress

_SKIPPED_CUIDS = 1_000_000
"""More than are usually given between a backup and its restore, and few of the 2^63 that there are."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@common_options
@exit_on_sigterm()
def backup(file: Path) -> None:
    """Back up a SQLite store into FILE, while a server reads and writes it.

    FILE has everything that was answered before the command began, as of one moment: projects and their secrets, users,
    identifiers, receipts, the record of changes, arrivals, import jobs. It appears when it is complete, synced to the disk
    and checked: SQLite's integrity check passed, and every table has as many rows as the store had at that moment. An
    existing file is not overwritten.

    Nothing is copied from a PostgreSQL store. The command checks that PostgreSQL's own programs are installed, prints how
    to call them, and ends with exit code 1.

    \b
    Example:
      usertable backup /backup/users-$(date +%F).db --store sqlite:////var/lib/usertable/usertable.db
    """
    loaded = _settings()
    if _is_database(loaded):
        _show_database_tools(loaded.config.store, file, restore=False)
    from usertable.store import back_up

    began, as_of = time.monotonic(), time.time_ns() // 1_000_000
    with _progress("backup") as progress:
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
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="If there is a store, rename it to STORE.replaced-TIME, and put the backup in its place."
)
@click.option(
    "--skip-cuids",
    metavar="N",
    type=click.IntRange(0, 2**40),
    default=_SKIPPED_CUIDS,
    show_default=True,
    help="Number of CUIDs that each project skips, because users may have got them after the backup.",
)
@common_options
@exit_on_sigterm()
def restore(file: Path, replace: bool, skip_cuids: int) -> None:
    """Make the backup FILE the SQLite store that --store names. Stop its server first.

    FILE is copied and checked before anything changes. Whenever the command is interrupted, the store is the earlier one
    or the restored one, or the next command says that the restore was interrupted. While a server or another command has
    the store open, nothing is restored. A store of an older version stays at that version, so that the usertable that
    wrote it can serve it again.

    Users who were registered after the backup are not in it, but their CUIDs may be known elsewhere. So that they are not
    given to others, each project skips some CUIDs.

    For a PostgreSQL store, the command prints how to call PostgreSQL's own programs, and ends with exit code 1.

    \b
    Example:
      usertable restore /backup/users-2026-11-30.db --store sqlite:////var/lib/usertable/usertable.db --replace
    """
    loaded = _settings()
    if _is_database(loaded):
        _show_database_tools(loaded.config.store, file, restore=True)
    make_default_folder(loaded)
    from usertable.store import restore as restore_store

    began = time.monotonic()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    with _progress("restore") as progress:
        restored = restore_store(
            loaded.config.store, file, replace=replace, stamp=stamp, skip_cuids=skip_cuids, progress=progress
        )
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
    """Print how a PostgreSQL store is backed up or restored. Raises Failure: this command does not do it."""
    from usertable.store import database_tools

    found = database_tools(url, file, restore=restore)

    def show() -> None:
        click.echo(f"{redacted_url(url)} is on PostgreSQL {found.server}, which has programs of its own for this:")
        print_lines((f"  {tool.name}", tool.version or "", tool.problem or f"ok, {tool.path}") for tool in found.tools)
        if found.distributed:
            click.echo(
                "Its tables are spread over a Citus cluster: run pg_basebackup on the coordinator and on every worker."
                " A dump does not bring the distribution back."
            )
        for command in found.commands:
            click.echo(f"  {command}")
        click.echo("To recover to any moment, archive the database's log as well")

    print_result({"store": redacted_url(url), **asdict(found)}, show)
    done = "restored" if restore else "backed up"
    raise Failure(f"nothing was {done}: use PostgreSQL's own programs for a PostgreSQL store")


@contextlib.contextmanager
def _progress(verb: str) -> Iterator[Progress]:
    from rich.console import Console

    console = Console(stderr=True)
    done = total = 0

    def report() -> tuple[dict[str, int | None], str]:
        return {"bytes": done, "of": total}, f"{verb}: {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB"

    wide = "{task.completed:,.0f} of {task.total:,.0f} MiB"
    with show_progress(console, verb, wide, "{task.completed:,.0f} MiB", report) as bar:
        task = bar.add_task(verb, total=None)

        def progress(bytes_done: int, bytes_total: int) -> None:
            nonlocal done, total
            done, total = bytes_done, bytes_total
            bar.update(task, completed=done / 2**20, total=total / 2**20)

        yield progress
