"""`usertable migrate` and `usertable store`."""

from __future__ import annotations

import contextlib
import sys

import click

from usertable.cli.context import actor, load_settings, make_default_folder
from usertable.cli.errors import Failure
from usertable.cli.options import common_options
from usertable.cli.output import noun, print_result, print_table
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditKind


@click.command()
@click.option("--check", is_flag=True, help="Change nothing. The exit code is 1 if the store needs a migration.")
@click.option("--distribute", "distributed", is_flag=True, help="Distribute the tables over a Citus cluster.")
@click.option(
    "--shards",
    metavar="N",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    help="Number of shards, with --distribute.",
)
@common_options
def migrate(check: bool, distributed: bool, shards: int) -> None:
    """Migrate a store to the version that this usertable needs.

    `serve` migrates when it starts; use this command to migrate separately, before new servers start. No other command
    opens a store of an older version. Stop the server of a SQLite file and make a backup first: a migration cannot be
    reversed. Several hosts may run this command at the same time.

    --distribute converts a PostgreSQL store, with or without data, to the table layout for Citus. Stop the servers and
    make a backup first: it cannot be reversed.

    \b
    Examples:
      usertable migrate --store postgresql://usertable@db/usertable --check
      usertable migrate --store postgresql://usertable@coordinator/usertable --distribute --shards 16
    """
    if check and distributed:
        raise click.UsageError("--check and --distribute exclude each other; give one of them")
    loaded = load_settings()
    from usertable.app.service import Service
    from usertable.store import distribute, newest_version, open_store, stored_version
    from usertable.store.urls import redacted_url

    url = loaded.config.store
    before, newest = stored_version(url), newest_version(url)[1]
    if not check:
        make_default_folder(loaded)
        with contextlib.closing(open_store(url)) as opened:
            Service(opened).record_migration(actor())
    found = {
        "store": redacted_url(url),
        "version": before if check else newest,
        "newest": newest,
        "migrated": not check and before < newest,
    }
    if distributed:
        found["distributed"] = distribute(url, shards)
        if found["distributed"]:
            with contextlib.closing(open_store(url)) as opened:
                event = AuditEvent(AuditKind.DISTRIBUTE_STORE, after={"shards": shards})
                Service(opened).record(INSTALLATION, actor(), event)

    def show() -> None:
        if check:
            click.echo(f"{found['store']} is at version {before}, the newest is {newest}")
        elif before < newest:
            click.echo(f"{found['store']}: migrated from version {before} to {newest}")
        else:
            click.echo(f"{found['store']} is at version {newest}, nothing to do")
        if distributed:
            done = f"distributed over {shards} {noun(shards, 'shard')}" if found["distributed"] else "is already distributed"
            click.echo(f"{found['store']}: {done}")

    print_result(found, show)
    if check and before < newest:
        raise Failure("the store needs a migration: run usertable migrate")


@click.group()
@common_options
def store() -> None:
    """Operations on whole stores."""


@store.command("copy")
@click.argument("source", metavar="FROM_URL", help="URL of the store to copy.")
@click.argument("target", metavar="TO_URL", help="URL of an empty store. It is created if it does not exist.")
@common_options
def copy_stores(source: str, target: str) -> None:
    """Copy a store into another, empty store, and compare the two.

    Copies people, projects, keys, users, identifiers, receipts and the audit log. Arrivals and console sessions are not
    copied: people sign in again. Stop the servers of both stores first. Run an interrupted copy again to resume it. A
    project appears in the target when it is complete. At the end, both stores are read and compared by row count and
    checksum.

    \b
    Example:
      usertable store copy sqlite:///users.db postgresql://usertable@db/usertable
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from usertable.store import open_store
    from usertable.store.copy import copy_store

    if source == target:
        raise click.UsageError("FROM_URL and TO_URL are the same store")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("users"),
        TimeRemainingColumn(),
    )
    with contextlib.ExitStack() as stores:
        original, copy = (
            stores.enter_context(contextlib.closing(open_store(url, alone=True, create=url == target, migrate=False)))
            for url in (source, target)
        )
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            tasks = {what: bar.add_task(what) for what in ("copy", "verify")}
            sums = copy_store(original, copy, lambda what, done, of: bar.update(tasks[what], completed=done, total=of))
    rows = [
        (project, table, found.rows, found.checksum) for project, parts in sums.items() for table, found in parts.items()
    ]
    print_result(
        {
            project: {table: {"rows": s.rows, "checksum": s.checksum} for table, s in parts.items()}
            for project, parts in sums.items()
        },
        lambda: print_table(("project", "table", "rows", "checksum"), [(*row[:3], row[3][:12]) for row in rows]),
    )
