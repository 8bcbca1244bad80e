"""How far an import or an export is: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from usertable.cli.options import common_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


PROGRESS_SECONDS = 10.0
"""Seconds between two lines of progress if stderr is not a terminal, which shows a bar."""


def progress_bar(console: Console, verb: str, wide: str, narrow: str) -> Progress:
    """A progress bar as wide as there is room for beside the numbers: `wide` on a terminal of 80 columns, else `narrow`."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    has_room = console.width >= 80
    # So many columns have the others, with numbers of eight digits.
    others = 68 if has_room else 36
    return Progress(
        TextColumn(verb),
        BarColumn(bar_width=max(4, min(40, console.width - others))),
        TaskProgressColumn(),
        TextColumn(wide if has_room else narrow),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def report_regularly(console: Console, report: Callable[[], tuple[Mapping[str, int | None], str]]) -> Iterator[None]:
    """Write a line to stderr every ten seconds, for programs if --json is given, unless that is a terminal."""
    done = threading.Event()
    as_json = common_option("json")

    def write() -> None:
        while not done.wait(PROGRESS_SECONDS):
            found, text = report()
            click.echo(json.dumps({"progress": found}) if as_json else text, err=True)

    thread = threading.Thread(target=write, name="progress", daemon=True)
    if not console.is_terminal:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()
