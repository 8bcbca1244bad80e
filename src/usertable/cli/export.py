"""`usertable export`."""

from __future__ import annotations

import codecs
import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

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
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.files.options import Format, Numbers, compression_of

if TYPE_CHECKING:
    from usertable.domain.schema import Attribute, Project, Schema
    from usertable.files.export_options import Identifiers
    from usertable.store.protocol import Snapshot

_NAMES: Mapping[Format, str] = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet"}


@click.command("export")
@project_option
@click.option("--format", "given_format", type=FORMAT, help="Default: by the file's ending, else csv.")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; it is there when it is whole. Default: stdout.")
@click.option(
    "--attribute",
    "--attributes",
    "attributes",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Only these, in this order; repeatable. * stands for all visible ones. Also @version, @created_at and @updated_at.",
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
@click.option("--utc", is_flag=True, help="Of CSV and NDJSON: write DATETIME values in UTC, as in 2024-10-27 00:30:00Z.")
@click.option(
    "--offsets",
    is_flag=True,
    help="Of CSV and NDJSON: write DATETIME values with their offset from UTC, as in 2024-10-27 02:30:00+02:00.",
)
@click.option(
    "--numbers",
    type=click.Choice(get_args(Numbers)),
    help="Of Parquet: what a NUMBER is. auto: INT64 where all values are whole, else DECIMAL(38, 18); decimal: always"
    " DECIMAL(38, 18); float: DOUBLE, which rounds. Default: auto.",
)
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
    utc: bool,
    offsets: bool,
    numbers: Numbers | None,
    bom: bool,
) -> None:
    """Export the user table as CSV, NDJSON or Parquet.

    CSV and NDJSON are compressed with gzip or zstd if the file's name says so: users.csv.gz, users.ndjson.zst.

    It is the table as of the moment of the call, whatever is written meanwhile: cuid, the identifiers in full, and the
    visible attributes, or those that are named. A CONDITION is written as for `usertable user list`. `usertable import`
    of the file, with --register, gives back the same table.

    --identifiers says which identifiers go into the file: all in full, none, those named, or masked: the values of masked
    identifiers are cut to their first 4 characters, in columns named masked:NAME, which no import takes. With all and
    masked, a preset of the platform that no user has a value of is left out.

    The pseudo-columns @version, @created_at and @updated_at go into the file if they are named. An import ignores them.

    \b
    Examples:
      usertable export --project 100102 -o users.parquet
      usertable export --project 100102 --where level:ge:10 --attributes level,city > vips.csv
      usertable export --project 100102 --where @updated_at:ge:2026-01-02T00:00:00Z --attributes '*,@updated_at'
      usertable export --project 100102 --identifiers none -o for-analysts.parquet
    """
    from usertable.files.export import export
    from usertable.files.export_options import ExportOptions

    form = file_format(given_format or ("csv" if output == "-" else None), output)
    if utc and offsets:
        raise click.UsageError("--utc and --offsets contradict each other; give one of them")
    _check_format(form, ["csv"], {"escape-formulas": escape_formulas, "bom": bom})
    _check_format(form, ["csv", "ndjson"], {"utc": utc, "offsets": offsets})
    _check_format(form, ["parquet"], {"numbers": numbers})
    _check_output(form, output)
    names = [name for given in attributes for name in given.split(",")]
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(opened_store())
        snapshot = stack.enter_context(store.snapshot(project_id or only_project(store.projects(), store_place())))
        project = snapshot.project
        chosen = _attributes(project.schema, names, hidden=hidden)
        options = ExportOptions(
            form,
            chosen,
            _identifiers(project, identifier_names),
            parse_conditions(conditions, project.schema, project.zone),
            escape_formulas,
            "utc" if utc else "offset" if offsets else "local",
            numbers or "auto",
        )
        with _output(output, form) as stream:
            if bom:
                stream.write(codecs.BOM_UTF8)
            with _progress(snapshot) as progress:
                expect_no_cycles()
                done = export(snapshot, stream, options, progress)
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


def _check_format(form: Format, formats: Sequence[Format], given: Mapping[str, object]) -> None:
    """Refuse options, by name, that are only for some formats."""
    for name, value in given.items():
        if value and form not in formats:
            raise click.UsageError(f"--{name} is for {' and '.join(_NAMES[each] for each in formats)}")


def _check_output(form: Format, output: str) -> None:
    """Refuse an output that the format, or a whole file, cannot be written to."""
    if output == "-":
        if form == "parquet" and sys.stdout.isatty():
            raise click.UsageError("a Parquet file is not for a terminal; name a file with -o")
        return
    # A file that is put in its place when it is whole would replace a device, too.
    target = Path(output).resolve()
    if target.exists() and not target.is_file():
        raise click.UsageError(f"-o is {output}, which is no regular file; leave -o out and redirect the output")


def _attributes(schema: Schema, names: Sequence[str], *, hidden: bool) -> list[Attribute]:
    """Those that are named, pseudo-columns among them; or all, hidden ones if wanted."""
    if len(set(names)) < len(names):
        raise click.UsageError("--attributes names one twice")
    found: dict[str, Attribute] = {}
    for name in names or ["*"]:
        if name == "*":
            found |= {a.name: a for a in schema.attributes.values() if hidden or not a.hidden}
        elif name in PSEUDO_COLUMNS:
            found[name] = PSEUDO_COLUMNS[name]
        else:
            found[name] = schema.attribute(name)
    # That is the first column anyway.
    found.pop("@cuid", None)
    return list(found.values())


def _identifiers(project: Project, given: str) -> Identifiers:
    """Those that --identifiers names. One that is called like a word of that option is named with a comma: `all,`."""
    from usertable.files.export_options import Identifiers, used_identifiers

    if given == "none":
        return Identifiers(())
    if given in ("all", "masked"):
        chosen = used_identifiers(project)
        return Identifiers(chosen, frozenset(i.name for i in chosen if i.masked and given == "masked"))
    schema = project.schema
    names = [name for name in given.split(",") if name]
    for name in names:
        schema.identifier(name)
    return Identifiers([i for i in schema.identifiers if i.name in names])


@contextlib.contextmanager
def _output(file: str, form: Format) -> Iterator[IO[bytes]]:
    """The stream to write to: a file that appears when it is whole, or stdout, by way of a temporary file for Parquet."""
    from usertable.files.compression import compressed
    from usertable.files.disk import spooled, whole_file

    if file != "-":
        with whole_file(Path(file).resolve()) as stream, compressed(stream, compression_of(file)[0]) as packed:
            yield packed
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
