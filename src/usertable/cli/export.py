"""`usertable export`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

import click
from msgspec import UNSET

from usertable.cli.backend import only_project, opened_server
from usertable.cli.context import opened_service
from usertable.cli.errors import Failure, store_place
from usertable.cli.formats import FORMAT, file_format
from usertable.cli.options import backend_options, common_option, project_option, where_option
from usertable.cli.output import noun, print_result
from usertable.cli.process import exit_on_sigterm, expect_no_cycles
from usertable.cli.progress import show_bytes, show_progress
from usertable.files.options import FORMATS_OF, Format, Numbers, compression_of
from usertable.wire.native import queries

if TYPE_CHECKING:
    from usertable.store.protocol import Snapshot


@dataclass(frozen=True, slots=True)
class _Done:
    """The result of an export."""

    users: int
    as_text: frozenset[str]
    """NUMBERs that were written as text."""
    moment: str = ""
    """The moment that --as-of named, in UTC; empty without it."""
    not_kept: Sequence[str] = ()
    """Columns whose values at the moment are not known."""


_NAMES: Mapping[Format, str] = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet"}


@click.command("export")
@project_option
@click.option(
    "--format", "given_format", type=FORMAT, show_default="by the file's extension, else csv", help="Format of the file."
)
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    show_default="stdout",
    help="File to write. It appears when the export is complete.",
)
@click.option(
    "--attribute",
    "--attributes",
    "attributes",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Attributes to export, in this order. Repeatable. * means all visible attributes; @version, @created_at and"
    " @updated_at can be named too.",
)
@where_option
@click.option(
    "--as-of",
    metavar="MOMENT",
    help="Export the table as it was at this moment, from history: 2026-11-30, '2026-11-30 08:00:00' in the project's time"
    " zone, or 2026-11-30T00:00:00Z.",
)
@click.option("--hidden", is_flag=True, help="Include hidden attributes.")
@click.option(
    "--identifiers",
    "identifier_names",
    metavar="all|none|masked|NAME[,NAME]",
    default="all",
    show_default=True,
    help="Identifiers to export. masked: all, with the values of masked identifiers shortened to 4 characters.",
)
@click.option(
    "--escape-formulas", is_flag=True, help="CSV: put ' in front of texts that a spreadsheet would run as a formula."
)
@click.option("--utc", is_flag=True, help="CSV and NDJSON: write DATETIME values in UTC, such as 2024-10-27 00:30:00Z.")
@click.option(
    "--offsets",
    is_flag=True,
    help="CSV and NDJSON: write DATETIME values with their offset from UTC, such as 2024-10-27 02:30:00+02:00.",
)
@click.option(
    "--numbers",
    type=click.Choice(get_args(Numbers)),
    show_default="auto",
    help="Parquet: column type of NUMBER attributes. auto: INT64 if all values are integers, else DECIMAL(38, 18); decimal:"
    " always DECIMAL(38, 18); float: DOUBLE, which rounds.",
)
@click.option("--bom", is_flag=True, help="CSV: start with a byte order mark, so that Excel reads the file as UTF-8.")
@backend_options
@exit_on_sigterm()
def export_table(
    project_id: str | None,
    given_format: str | None,
    output: str,
    attributes: tuple[str, ...],
    conditions: tuple[str, ...],
    as_of: str | None,
    hidden: bool,
    identifier_names: str,
    escape_formulas: bool,
    utc: bool,
    offsets: bool,
    numbers: Numbers | None,
    bom: bool,
) -> None:
    """Export the user table as CSV, NDJSON or Parquet.

    The file has the table as of the moment the export starts, or as of an earlier one with --as-of: cuid, identifiers, and
    the visible attributes or those that are named. Importing the file with --register restores the same table. CSV and
    NDJSON files are compressed with gzip or zstd if the file's name ends in .gz or .zst: users.csv.gz, users.ndjson.zst.

    A CONDITION is written as for `usertable user list`.

    --identifiers masked writes shortened values to columns named masked:NAME, which `usertable import` rejects. With all and
    masked, presets of the platform that no user has a value for are left out. For an identifier named all, none or masked,
    add a comma: `none,`.

    The pseudo-columns @version, @created_at and @updated_at are exported if named. An import ignores them.

    With --as-of, users that were created later or have been erased since are left out, and columns are those of today's
    schema. An attribute whose history was off then or later is an empty column, which a warning names.

    With --url, the server writes the file and sends it when it is complete. A file that arrives incomplete is an error.

    \b
    Examples:
      usertable export --project 100102 -o users.parquet
      usertable export --project 100102 --where level:ge:10 --attributes level,city > vips.csv
      usertable export --project 100102 --where @updated_at:ge:2026-01-02T00:00:00Z --attributes '*,@updated_at'
      usertable export --project 100102 --as-of 2026-11-30T00:00:00Z -o november.csv.gz
      usertable export --project 100102 --identifiers none -o for-analysts.parquet
      usertable export --project 100102 --url https://usertable.example.com -o users.csv.gz
    """
    form = file_format(given_format or ("csv" if output == "-" else None), output)
    if utc and offsets:
        raise click.UsageError("--utc and --offsets exclude each other; give one of them")
    given = {"escape_formulas": escape_formulas, "bom": bom, "datetimes": utc or offsets, "numbers": numbers}
    _check_format(form, given, {"datetimes": "--utc" if utc else "--offsets"})
    _check_output(form, output)
    names = [name for given in attributes for name in given.split(",")] or ["*"]
    if len(set(names)) < len(names):
        raise click.UsageError("--attributes names an attribute twice")
    query = queries.ExportQuery(
        form,
        ",".join(names),
        list(conditions),
        "1" if hidden else "0",
        identifier_names,
        "utc" if utc else "offset" if offsets else "local",
        numbers or "auto",
        "1" if escape_formulas else "0",
        "1" if bom else "0",
        UNSET if as_of is None else as_of,
    )
    export = _export_from_store if common_option("url") is None else _export_from_server
    done = export(project_id, query, output)
    if done.not_kept:
        click.echo(
            f"empty, because their history was off at {done.moment} or later: {', '.join(done.not_kept)}",
            err=True,
        )
    if done.as_text:
        click.echo(
            f"stored as text, because DECIMAL(38, 18) cannot hold all their values: {', '.join(sorted(done.as_text))}",
            err=True,
        )
    if output != "-":
        told = {"users": done.users, "file": output, "as_text": sorted(done.as_text)}
        if done.moment:
            told |= {"as_of": done.moment, "not_kept": list(done.not_kept)}
        of = f" as of {done.moment}" if done.moment else ""
        print_result(told, lambda: click.echo(f"{done.users} {noun(done.users, 'user')}{of} written to {output}"))


def _export_from_store(project_id: str | None, query: queries.ExportQuery, output: str) -> _Done:
    from usertable.domain.history import moment_text
    from usertable.files.as_of import TableAsOf
    from usertable.files.export import export
    from usertable.files.export_options import export_options

    with contextlib.ExitStack() as stack:
        service = stack.enter_context(opened_service())
        project_id = project_id or only_project(service.projects(), store_place())
        # Before the snapshot, which then has everything up to the moment.
        moment = None if query.as_of is UNSET else service.moment(service.project(project_id), "as_of", query.as_of)
        snapshot = stack.enter_context(service.snapshot(project_id))
        options = export_options(snapshot.project, query)
        expect_no_cycles()
        past = None
        if moment is not None:
            with _history_progress() as progress:
                past = stack.enter_context(contextlib.closing(TableAsOf(snapshot, moment, query, progress)))
        with _output(output, query.format, may_refuse=past is not None) as stream, _progress(snapshot) as progress:
            done = export(past or snapshot, stream, options, progress)
    if past is None:
        return _Done(done.users, done.as_text)
    return _Done(done.users, done.as_text, moment_text(past.moment), past.not_kept)


def _export_from_server(project_id: str | None, query: queries.ExportQuery, output: str) -> _Done:
    digest, done = hashlib.sha256(), 0
    with opened_server() as server, _output(output, query.format) as stream, show_bytes("export") as progress:

        def keep(piece: bytes, size: int) -> None:
            nonlocal done
            digest.update(piece)
            done += len(piece)
            stream.write(piece)
            progress(done, size)

        headers = server.download("export_users", keep, query=query, project=project_id or server.default_project())
        expected = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        if headers.get("repr-digest") != expected:
            raise Failure(f"the file from {server.place} arrived incomplete or damaged; export again")
        moment = headers.get("usertable-as-of", "")
        if query.as_of is not UNSET and not moment:
            raise Failure(f"{server.place} does not know --as-of, and sent the current table; upgrade it")
    texts, not_kept = (headers.get(f"usertable-{name}", "").split(",") for name in ("text-columns", "columns-not-kept"))
    return _Done(int(headers["usertable-users"]), frozenset(filter(None, texts)), moment, list(filter(None, not_kept)))


def _check_format(form: Format, given: Mapping[str, object], options: Mapping[str, str]) -> None:
    """Reject options that do not apply to the format.

    Args:
        given: values of options, by their names in the query.
        options: names of command-line options that differ from those in the query.
    """
    for name, formats in FORMATS_OF.items():
        if given[name] and form not in formats:
            option = options.get(name, f"--{name.replace('_', '-')}")
            raise click.UsageError(f"{option} applies to {' and '.join(_NAMES[each] for each in formats)}")


def _check_output(form: Format, output: str) -> None:
    """Reject an output that the format, or a file that is replaced atomically, cannot be written to."""
    if output == "-":
        if form == "parquet" and sys.stdout.isatty():
            raise click.UsageError("a Parquet file cannot be written to a terminal; name a file with -o")
        return
    # Moving the complete file to its path would replace a device, too.
    target = Path(output).resolve()
    if target.exists() and not target.is_file():
        raise click.UsageError(f"-o is {output}, which is not a regular file; omit -o and redirect stdout")


@contextlib.contextmanager
def _output(file: str, form: Format, *, may_refuse: bool = False) -> Iterator[IO[bytes]]:
    """Yield the stream to write to: a file that appears when complete, or stdout.

    Args:
        may_refuse: whether the export may be refused after rows have been written. Stdout then gets them at the end.
    """
    from usertable.files.compression import compressed
    from usertable.files.disk import spooled, whole_file

    if file != "-":
        with whole_file(Path(file).resolve()) as stream, compressed(stream, compression_of(file)[0]) as packed:
            yield packed
        return
    stdout = sys.stdout.buffer
    if form == "parquet" or may_refuse:
        # The Parquet writer needs a seekable file, too.
        with spooled(io.BytesIO()) as stream:
            yield stream
            stream.seek(0)
            shutil.copyfileobj(stream, stdout, 2**20)
    else:
        yield stdout
    stdout.flush()


@contextlib.contextmanager
def _history_progress() -> Iterator[Callable[[int], None]]:
    from rich.console import Console

    read = 0

    def report() -> tuple[dict[str, int | None], str]:
        return {"changes": read}, f"history: {read:,} {noun(read, 'change')} read"

    numbers = "{task.completed:,.0f} changes"
    with show_progress(Console(stderr=True), "history", numbers, numbers, report) as bar:
        task = bar.add_task("history", total=None)

        def progress(changes: int) -> None:
            nonlocal read
            read = changes
            bar.update(task, completed=changes)

        yield progress


@contextlib.contextmanager
def _progress(snapshot: Snapshot) -> Iterator[Callable[[int], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    looked_at = 0

    def report() -> tuple[dict[str, int | None], str]:
        return {"users": looked_at}, f"export: {looked_at:,} {noun(looked_at, 'user')} read"

    wide = "{task.completed:,.0f} of {task.total:,.0f} users"
    with show_progress(console, "export", wide, "{task.completed:,.0f} users", report) as bar:
        task = bar.add_task("export", total=snapshot.count() if console.is_terminal else None)

        def progress(users: int) -> None:
            nonlocal looked_at
            looked_at = users
            bar.update(task, completed=users)

        yield progress
