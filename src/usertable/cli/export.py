"""`usertable export`."""

from __future__ import annotations

import codecs
import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from usertable.cli.backend import only_project
from usertable.cli.context import opened_store
from usertable.cli.errors import store_place
from usertable.cli.formats import FORMAT, file_format
from usertable.cli.options import common_options, project_option
from usertable.cli.output import print_result
from usertable.cli.process import exit_on_sigterm, expect_no_cycles
from usertable.cli.progress import show_progress
from usertable.domain.condition import parse_conditions

if TYPE_CHECKING:
    from usertable.domain.schema import Attribute, Schema
    from usertable.files.options import Format
    from usertable.files.writers.table import Identifiers
    from usertable.store.protocol import Snapshot


@click.command("export")
@project_option
@click.option("--format", "given_format", type=FORMAT, help="Default: by the file's ending, else csv.")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; it is there when it is whole. Default: stdout.")
@click.option(
    "--attribute", "--attributes", "attributes", multiple=True, metavar="NAME[,NAME]", help="Only these; repeatable."
)
@click.option("--where", "conditions", multiple=True, metavar="CONDITION", help="Only users that meet it; repeatable.")
@click.option("--hidden", is_flag=True, help="Hidden attributes too.")
@click.option(
    "--identifiers",
    "identifier_names",
    metavar="all|none|masked|NAME[,NAME]",
    default="all",
    show_default=True,
    help="Identifiers to export. masked: all, with the values of masked ones shortened as in lists.",
)
@click.option("--escape-formulas", is_flag=True, help="Of CSV: put ' before texts that a spreadsheet takes for formulas.")
@click.option("--bom", is_flag=True, help="Of CSV: start with a byte order mark, so that Excel reads it as UTF-8.")
@common_options
@exit_on_sigterm()
def export_table(
    project_id: str | None,
    given_format: str | None,
    output: str,
    attributes: tuple[str, ...],
    conditions: tuple[str, ...],
    hidden: bool,
    identifier_names: str,
    escape_formulas: bool,
    bom: bool,
) -> None:
    """Export the user table as CSV, NDJSON or Parquet.

    It is the table as of the moment of the call, whatever is written meanwhile: cuid, the identifiers in full, and the
    visible attributes, or those that are named. A CONDITION is written as for `usertable user list`. `usertable import`
    of the file, with --register, gives back the same table.

    --identifiers says which identifiers go into the file: all in full, none, those named, or masked: the values of masked
    identifiers are cut to their first 4 characters, in columns named masked:NAME, which no import takes.

    \b
    Examples:
      usertable export --project 100102 -o users.parquet
      usertable export --project 100102 --where level:ge:10 --attributes level,city > vips.csv
      usertable export --project 100102 --identifiers none -o for-analysts.parquet
    """
    from usertable.files.export import export

    form = file_format(given_format or ("csv" if output == "-" else None), output)
    _check(form, output, escape_formulas=escape_formulas, bom=bom)
    names = [name for given in attributes for name in given.split(",")]
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(opened_store())
        snapshot = stack.enter_context(store.snapshot(project_id or only_project(store.projects(), store_place())))
        project = snapshot.project
        chosen = _attributes(project.schema, names, hidden=hidden)
        identifiers = _identifiers(project.schema, identifier_names)
        parsed = parse_conditions(conditions, project.schema, project.zone)
        with _output(output, form) as stream:
            if bom:
                stream.write(codecs.BOM_UTF8)
            with _progress(snapshot) as progress:
                expect_no_cycles()
                done = export(
                    snapshot,
                    stream,
                    form,
                    chosen,
                    parsed,
                    progress,
                    identifiers=identifiers,
                    escape_formulas=escape_formulas,
                )
    if done.as_text:
        click.echo(
            f"written as text, because DECIMAL(38, 18) does not hold all their values: {', '.join(sorted(done.as_text))}",
            err=True,
        )
    if output != "-":
        print_result(
            {"users": done.users, "file": output, "as_text": sorted(done.as_text)},
            lambda: click.echo(f"{done.users} users written to {output}"),
        )


def _check(form: Format, output: str, *, escape_formulas: bool, bom: bool) -> None:
    """Refuse options that do not go with the format or the output."""
    if escape_formulas and form != "csv":
        raise click.UsageError("--escape-formulas is for CSV")
    if bom and form != "csv":
        raise click.UsageError("--bom is for CSV")
    if output == "-":
        if form == "parquet" and sys.stdout.isatty():
            raise click.UsageError("a Parquet file is not for a terminal; name a file with -o")
        return
    # A file that is put in its place when it is whole would replace a device, too.
    target = Path(output).resolve()
    if target.exists() and not target.is_file():
        raise click.UsageError(f"-o is {output}, which is no regular file; leave -o out and redirect the output")


def _attributes(schema: Schema, names: Sequence[str], *, hidden: bool) -> list[Attribute]:
    """Those that are named, or all, hidden ones if wanted."""
    if len(set(names)) < len(names):
        raise click.UsageError("--attributes names one twice")
    named = [schema.attribute(name) for name in names]
    return named or [a for a in schema.attributes.values() if hidden or not a.hidden]


def _identifiers(schema: Schema, given: str) -> Identifiers:
    """Those that --identifiers names. One that is called like a word of that option is named with a comma: `all,`."""
    from usertable.files.writers.table import Identifiers

    if given == "all":
        return Identifiers(schema.identifiers)
    if given == "none":
        return Identifiers(())
    if given == "masked":
        return Identifiers(schema.identifiers, frozenset(i.name for i in schema.identifiers if i.masked))
    names = [name for name in given.split(",") if name]
    for name in names:
        schema.identifier(name)
    return Identifiers([i for i in schema.identifiers if i.name in names])


@contextlib.contextmanager
def _output(file: str, form: Format) -> Iterator[IO[bytes]]:
    """The stream to write to: a file that appears when it is whole, or stdout, by way of a temporary file for Parquet."""
    from usertable.files.disk import spooled, whole_file

    if file != "-":
        with whole_file(Path(file).resolve()) as stream:
            yield stream
        return
    stdout = sys.stdout.buffer
    if form == "parquet":
        # Its writer needs to seek.
        with spooled(io.BytesIO()) as stream:
            yield stream
            stream.seek(0)
            shutil.copyfileobj(stream, stdout, 2**20)
    else:
        yield stdout
    stdout.flush()


@contextlib.contextmanager
def _progress(snapshot: Snapshot) -> Iterator[Callable[[int], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    looked_at = 0

    def report() -> tuple[dict[str, int | None], str]:
        return {"users": looked_at}, f"export: {looked_at:,} users looked at"

    wide = "{task.completed:,.0f} of {task.total:,.0f} users"
    with show_progress(console, "export", wide, "{task.completed:,.0f} users", report) as bar:
        task = bar.add_task("export", total=snapshot.count() if console.is_terminal else None)

        def progress(users: int) -> None:
            nonlocal looked_at
            looked_at = users
            bar.update(task, completed=users)

        yield progress
