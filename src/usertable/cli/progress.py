"""Progress of imports, exports and other long commands: a bar on a terminal, otherwise a line every ten seconds."""

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
"""Seconds between two lines of progress when stderr is not a terminal."""


@contextlib.contextmanager
def show_progress(
    console: Console, verb: str, wide: str, narrow: str, report: Callable[[], tuple[Mapping[str, int | None], str]]
) -> Iterator[Progress]:
    """Show a bar if stderr is a terminal; otherwise write a line to it every :data:`PROGRESS_SECONDS`.

    Args:
        wide: format of the numbers beside the bar on a terminal of 80 or more columns; `narrow` on others.
        report: returns the progress, for programs if `--json` is given, and for people.
    """
    with _bar(console, verb, wide, narrow) as bar:
        if console.is_terminal:
            yield bar
        else:
            with _lines(report):
                yield bar


@contextlib.contextmanager
def show_bytes(verb: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress in bytes. The yielded function takes the bytes done and the total, 0 if unknown."""
    from rich.console import Console

    console = Console(stderr=True)
    done = total = 0

    def report() -> tuple[dict[str, int | None], str]:
        return {"bytes": done, "of": total}, f"{verb}: {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB"

    wide = "{task.completed:,.0f} of {task.total:,.0f} MiB"
    with show_progress(console, verb, wide, "{task.completed:,.0f} MiB", report) as bar:
        task = bar.add_task(verb, total=0)

        def progress(bytes_done: int, bytes_total: int) -> None:
            nonlocal done, total
            done, total = bytes_done, bytes_total
            bar.update(task, completed=done / 2**20, total=total / 2**20)

        yield progress


def _bar(console: Console, verb: str, wide: str, narrow: str) -> Progress:
    """Return a bar that fills the width beside the numbers."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    has_room = console.width >= 80
    # Width of everything except the bar, for numbers of eight digits.
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
