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


@contextlib.contextmanager
def show_progress(
    console: Console, verb: str, wide: str, narrow: str, report: Callable[[], tuple[Mapping[str, int | None], str]]
) -> Iterator[Progress]:
    """Show a bar if stderr is a terminal, else write a line to it every :data:`PROGRESS_SECONDS`.

    Args:
        wide: numbers beside the bar, for a terminal of 80 columns or more; `narrow` for others.
        report: how far it is, for programs if --json is given, and for people.
    """
    with _bar(console, verb, wide, narrow) as bar:
        if console.is_terminal:
            yield bar
        else:
            with _lines(report):
                yield bar


def _bar(console: Console, verb: str, wide: str, narrow: str) -> Progress:
    """A bar as wide as there is room for beside the numbers."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    has_room = console.width >= 80
    # Columns that all but the bar have, with numbers of eight digits.
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
def _lines(report: Callable[[], tuple[Mapping[str, int | None], str]]) -> Iterator[None]:
    done = threading.Event()
    as_json = common_option("json")

    def write() -> None:
        while not done.wait(PROGRESS_SECONDS):
            found, text = report()
            click.echo(json.dumps({"progress": found}) if as_json else text, err=True)

    thread = threading.Thread(target=write, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
