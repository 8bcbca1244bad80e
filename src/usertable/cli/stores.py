"""`usertable migrate` and `usertable store`."""

from __future__ import annotations

import contextlib
import sys

import click

from usertable.cli.context import load_settings, make_default_folder
from usertable.cli.errors import Failure
from usertable.cli.options import common_options
from usertable.cli.output import print_result, print_table
from usertable.store.urls import redacted_url


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if there is something to do.")
@click.option("--distribute", "distributed", is_flag=True, help="Distribute the tables over a Citus cluster.")
@click.option("--shards", metavar="N", type=click.IntRange(1, 1024), default=8, help="With --distribute; default 8.")
@common_options
def migrate(check: bool, distributed: bool, shards: int) -> None:
    """Bring a store's tables to what this version needs.

    `serve` does so by itself; this is for those who run it apart, before new servers start. Every other command refuses a
    store of an older version. Stop the server of a SQLite file first, and have a backup. It goes forward only, and may be
    run by several at once.

    --distribute turns a PostgreSQL store, filled or empty, into the layout for Citus. Stop the servers for it, and have
    a backup: it cannot be turned back.

    \b
    Examples:
      usertable migrate --store postgresql://usertable@db/usertable --check
      usertable migrate --store postgresql://usertable@coordinator/usertable --distribute --shards 16
    """
    if check and distributed:
        raise click.UsageError("--check changes nothing, so it does not go with --distribute")
    loaded = load_settings()
    from usertable.store import distribute, newest_version, open_store, stored_version

    url = loaded.config.store
    before, newest = stored_version(url), newest_version(url)[1]
    if not check:
        make_default_folder(loaded)
        open_store(url).close()
    found = {
        "store": redacted_url(url),
        "version": before if check else newest,
        "newest": newest,
        "migrated": not check and before < newest,
    }
    if distributed:
        found["distributed"] = distribute(url, shards)

    def show() -> None:
        if check:
            click.echo(f"{found['store']} is at version {before}, the newest is {newest}")
        elif before < newest:
            click.echo(f"{found['store']}: brought from version {before} to {newest}")
        else:
            click.echo(f"{found['store']} is at version {newest}, nothing to do")
        if distributed:
            done = f"distributed over {shards} shards" if found["distributed"] else "is distributed already"
            click.echo(f"{found['store']}: {done}")

    print_result(found, show)
    if check and before < newest:
        raise Failure("the store needs a migration: run usertable migrate")


@click.group()
@common_options
def store() -> None:
    """Whole stores."""


@store.command("copy")
@click.argument("source", metavar="FROM_URL")
@click.argument("target", metavar="TO_URL")
@common_options
def copy_stores(source: str, target: str) -> None:
    """Copy everything from one store into another, empty one, and compare the two.

    Projects, secrets, users, identifiers, answers kept for retries, the record of changes: all of it as it is. Arrivals
    stay behind. Stop the servers of both. If it is interrupted, run it again: it goes on where it was, and a project
    appears in the target only when it is whole. At the end both are read and compared by count and checksum.

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
