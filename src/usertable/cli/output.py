"""Output of commands: JSON for programs, tables and lines for people."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import click

from usertable.cli.options import common_option
from usertable.wire.native import documents


def print_result(document: object, show: Callable[[], None]) -> None:
    """Print the document if `--json` is given; otherwise call `show()`."""
    if common_option("json"):
        click.echo(documents.encode(document))
    else:
        show()


def printable(value: object) -> str:
    """Return `value` on one line, with no characters that control a terminal."""
    shown = value if isinstance(value, str) else "" if value is None else documents.shown_value(value)  # type: ignore[arg-type]
    if shown.isprintable():
        return shown
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in shown
    )


def noun(number: float, singular: str) -> str:
    """Return the singular if the number is 1, otherwise the regular plural."""
    return singular if number == 1 else f"{singular}s"


def print_lines(rows: Iterable[Sequence[object]]) -> None:
    """Print one line per row, of any length, with aligned columns."""
    from rich.cells import cell_len

    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip(" "))


def is_terminal() -> bool:
    """Return whether stdout is a terminal. If not, a script may read what is printed."""
    return sys.stdout is not None and sys.stdout.isatty()


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that fits the terminal's width. If stdout is not a terminal, print lines that a script can read."""
    if not is_terminal():
        print_lines([heads, *rows])
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
