"""`usertable import`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import click

from usertable.cli.context import opened_service
from usertable.cli.errors import Failure
from usertable.cli.files import FORMAT, exit_on_sigterm, expect_no_cycles, file_format
from usertable.cli.options import Pair, common_option, common_options, project_option
from usertable.cli.output import print_result, printable
from usertable.cli.progress import progress_bar, report_regularly
from usertable.config import SECRET

if TYPE_CHECKING:
    from usertable.files.import_job import Import, Preview, State
    from usertable.files.options import Format, Reading


def _read_secret(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The secret without the line end that one from a file has."""
    secret = value and value.rstrip("\r\n")
    if secret and any(character < " " or character == "\x7f" for character in secret):
        # Not shown, as it is a secret.
        raise click.UsageError("the project's secret has a line break or another control character in it")
    return secret


@click.command("import")
@click.argument("file", metavar="FILE|-")
@project_option
@click.option("--format", "format_", type=FORMAT, help="Default: by the file's ending.")
@click.option("--map", "pairs", type=Pair(), multiple=True, metavar="COLUMN=NAME", help="What a column is for; repeatable.")
@click.option("--map-file", type=click.File("rb"), metavar="FILE", help="The same as a YAML file of COLUMN: NAME.")
@click.option("--register", is_flag=True, help="Create users, and identifier values, that are not there.")
@click.option(
    "--empty",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="An empty cell: the attribute is not set, or the row is refused.",
)
@click.option(
    "--null", "nulls", multiple=True, metavar="TEXT", help="A cell that counts as empty, such as NULL; repeatable."
)
@click.option(
    "--encoding",
    default="auto",
    metavar="NAME",
    help="Of CSV and NDJSON, such as gb18030, big5, shift_jis, euc-kr, cp1252, latin-1, utf-16le. Default: by the byte order"
    " mark, else UTF-8.",
)
@click.option(
    "--delimiter",
    metavar="CHARACTER",
    help="Of CSV; \\t for a tab. Default: what a first line such as sep=; says, else a comma.",
)
@click.option(
    "--list-separator", metavar="TEXT", help="Of CSV: what stands between a LIST's elements. Default: JSON arrays."
)
@click.option("--dry-run", is_flag=True, help="Check every row, show the first ones and what is wrong; keep nothing.")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume after the last row that an interrupted import of this file stored; start if there was none.",
)
@click.option("--restart", is_flag=True, help="Start over, although an import of this file was interrupted.")
@click.option(
    "--job", metavar="NAME", help="The name to resume by. Default: the file's path, or of stdin and pipes, their content."
)
@click.option("--rejects", metavar="FILE", help="Where refused rows go. Default: FILE.rejects.csv or .ndjson.")
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Rows per commit. Default: 5000; with --url, 1000, which is also the most.",
)
@click.option("--url", metavar="URL", help="Import through the API of the server there, instead of into a store.")
@click.option(
    "--secret",
    metavar="SECRET",
    envvar=SECRET,
    callback=_read_secret,
    help=f"With --url: the project's secret. Better: {SECRET}.",
)
@click.option("--state", metavar="FILE", help="With --url: where the position is kept. Default: FILE.import.json.")
@click.option(
    "--receipt-hours",
    type=click.IntRange(24, 24 * 365),
    default=24,
    show_default=True,
    metavar="N",
    help="With --url: the server's setting of that name.",
)
@common_options
@exit_on_sigterm()
def import_table(
    file: str,
    project_id: str,
    format_: str | None,
    pairs: tuple[tuple[str, str], ...],
    map_file: IO[bytes] | None,
    register: bool,
    empty: Literal["skip", "refuse"],
    nulls: tuple[str, ...],
    encoding: str,
    delimiter: str | None,
    list_separator: str | None,
    dry_run: bool,
    resume: bool,
    restart: bool,
    job: str | None,
    rejects: str | None,
    batch: int | None,
    url: str | None,
    secret: str | None,
    state: str | None,
    receipt_hours: int,
) -> None:
    """Import users from a CSV, NDJSON or Parquet file, or from stdin.

    Every row names its user by cuid, or by the value of an identifier. Its other columns are attributes, which merge by
    their rules, row by row. A row with anything wrong is refused whole and goes to the rejects file, with its number and
    the reason; fix it there and import that file. The exit code is 1 if a row was refused.

    If it is interrupted, --resume continues exactly after the last row that was stored: nothing is applied twice. It
    works beside a running server.

    With --url the rows go to a server, in batches, with the project's secret. How far it came is kept in a file, --state,
    without which it cannot be resumed.

    \b
    Examples:
      usertable import crm.csv --project 100102 --register --map Phone=phone --map 'Old id=' --dry-run
      usertable import crm.csv --project 100102 --register --map Phone=phone --map 'Old id='
      zcat users.ndjson.gz | usertable import - --format ndjson --project 100102
      usertable import crm.csv --project 100102 --url https://usertable.example.com
    """
    if resume and restart:
        raise click.UsageError("--resume continues and --restart starts over; give one of them")
    if dry_run and (resume or restart):
        raise click.UsageError(
            "a dry run reads the whole file and keeps nothing, so it does not go with --resume or --restart"
        )
    delimiter = "\t" if delimiter == "\\t" else delimiter
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise click.UsageError(f"--delimiter is {delimiter!r}; expected one character, such as ; or \\t")
    if url is None:
        _refuse_without_url(secret=secret if _from_command_line("secret") else None, state=state)
    else:
        _check_url_options(url, secret, job, batch)
    from usertable.files.encodings import NAMED, encoding_codec
    from usertable.files.options import Reading

    form = file_format(format_, file)
    codec = encoding_codec(encoding)
    if codec is None:
        raise click.UsageError(f"--encoding is {encoding!r}; expected auto or an encoding such as {', '.join(NAMED)}")
    if form == "parquet" and codec != "auto":
        raise click.UsageError("--encoding is for CSV and NDJSON; a Parquet file says how its texts are encoded")
    reading = Reading(
        form,
        codec,
        delimiter,
        list_separator or None,
        frozenset(nulls),
        empty,
        _columns(pairs, map_file),
        batch or (5000 if url is None else 1000),
    )
    ending = "csv" if form == "csv" else "ndjson"
    is_named = _is_named(file)
    target = Path(rejects or f"{Path(file).with_suffix('') if is_named else 'import'}.rejects.{ending}")
    settings = {"register": register, "rejects": target, "dry": dry_run}
    with contextlib.ExitStack() as stack:
        work: Import
        if url is None:
            from usertable.files.import_to_store import StoreImport

            service = stack.enter_context(opened_service(create=not dry_run))
            stream = stack.enter_context(_input(file, reading))
            head = b""
            if job is None and not is_named:
                job, head = _job_of(stream, form)
            work = StoreImport(
                service, project_id, stream, reading, job=job or str(Path(file).resolve()), head=head, **settings
            )
        else:
            from usertable.files.import_to_api import ApiImport, Server

            position = Path(state or (f"{file}.import.json" if is_named else "import.json"))
            stream = stack.enter_context(_input(file, reading))
            server = Server(url.rstrip("/"), project_id, secret or "", receipt_hours)
            try:
                work = ApiImport(server, stream, reading, position=position, job=file, **settings)
            except ValueError as error:
                raise click.UsageError(f"--url is {url!r}; expected something like https://usertable.example.com") from error
        stack.callback(work.close)
        work.begin("resume" if resume else "restart" if restart else "new")
        resumed, was_finished = work.state.rows, work.state.finished
        if url is None:
            # As answers of a server do.
            expect_no_cycles()
        _run(work, os.fstat(stream.fileno()).st_size)
        for column in sorted(work.unseen):
            click.echo(f"column [{column}] is mapped, and no row has it", err=True)
        for number, reason in work.problems:
            click.echo(f"row {number}: {reason}", err=True)
    done = work.state
    found = {
        "rows": done.rows,
        "created": done.created,
        "changed": done.changed,
        "unchanged": done.unchanged,
        "refused": done.refused,
        "moments_cut": done.cut,
        "rejects": str(target) if done.rejects else None,
        "resumed_after": resumed,
        "dry_run": dry_run,
    }
    print_result(found, lambda: _show(done, dry_run, was_finished))
    if done.refused and not was_finished:
        rows, they, them = ("row was", "it is", "it") if done.refused == 1 else ("rows were", "they are", "them")
        where = f"{they} in {target}; fix {them} there and import that file" if done.rejects else "nothing was kept"
        raise Failure(f"{done.refused} {rows} refused: {where}")


def _from_command_line(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE


def _refuse_without_url(**options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"--{name} is for an import through the API; it goes with --url")


def _check_url_options(url: str, secret: str | None, job: str | None, batch: int | None) -> None:
    if common_option("store"):
        raise click.UsageError("--store imports into a store and --url through a server; give one of them")
    if not secret:
        raise click.UsageError(f"the project's secret is needed; put it into {SECRET}, or give --secret")
    if job is not None:
        raise click.UsageError("with --url an import is known by the file that holds its position; name one with --state")
    if batch is not None and batch > 1000:
        raise click.UsageError(f"--batch is {batch}; a server takes 1000 rows at once at most")


def _show(state: State, dry_run: bool, was_finished: bool) -> None:
    would = "would be " if dry_run else ""
    done = "done already: " if was_finished else ""
    click.echo(
        f"{done}{state.rows} rows: {state.created} users {would}created, {state.changed} {would}changed,"
        f" {state.unchanged} unchanged, {state.refused} {would}refused"
    )
    if state.cut:
        were = "moment was" if state.cut == 1 else "moments were"
        click.echo(f"{state.cut} {were} finer than a millisecond, and {would}cut to it")


def _columns(pairs: Sequence[tuple[str, str]], file: IO[bytes] | None) -> dict[str, str]:
    columns: dict[str, str] = {}
    if file is not None:
        from usertable.files.column_map import column_map

        columns = column_map(file.read())
    for column, name in pairs:
        if column in columns:
            raise click.UsageError(f"column {column} is mapped twice")
        columns[column] = name
    return columns


_HEAD_BYTES = 65536
"""Bytes at the start of a stream without a name that identify it. A resumed import also compares its first rows."""


def _is_named(file: str) -> bool:
    """Whether a path leads to the same content another time: not that of stdin, a pipe, a device or a descriptor."""
    path = Path(file)
    if file == "-" or (path.exists() and not path.is_file()):
        return False
    return not str(path.absolute()).startswith(("/dev/fd/", "/dev/std", "/proc/"))


def _job_of(stream: IO[bytes], form: Format) -> tuple[str, bytes]:
    """A name of an import for what the stream holds, and what was read from it for that if it cannot seek."""
    start = stream.tell() if stream.seekable() else None
    parts: list[bytes] = []
    left = _HEAD_BYTES
    while left and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    digest = hashlib.blake2b(head := b"".join(parts), digest_size=16)
    if form == "parquet":
        # The footer tells more than the beginning.
        end = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, end - _HEAD_BYTES))
        digest.update(b"%d " % end + stream.read(_HEAD_BYTES))
    if start is not None:
        stream.seek(start)
        head = b""
    return f"content {digest.hexdigest()}", head


@contextlib.contextmanager
def _input(file: str, reading: Reading) -> Iterator[IO[bytes]]:
    """The file, unread; stdin as a file of its own, copied if it must be sought in or is no real one."""
    from usertable.files.disk import spooled

    if file != "-":
        with Path(file).open("rb", buffering=0) as stream:
            yield stream
        return
    stdin = sys.stdin.buffer
    try:
        descriptor = os.dup(stdin.fileno())
    except OSError:
        with spooled(stdin) as stream:
            yield stream
        return
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if reading.format == "parquet" and not stream.seekable():
            with spooled(stream) as copy:
                yield copy
        else:
            yield stream


def _run(work: Import, size: int) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    start = work.state.rows
    began = time.monotonic()
    position = 0

    def rate(state: State) -> float:
        return (state.rows - start) / max(time.monotonic() - began, 0.001)

    def report() -> tuple[dict[str, int | None], str]:
        state = work.state
        found = {
            "rows": state.rows,
            "refused": state.refused,
            "rows_per_second": round(rate(state)),
            "position": position,
            "size": size or None,
        }
        share = f" of {size:,}" if size else ""
        text = (
            f"import: {state.rows:,} rows, {state.refused:,} refused, {rate(state):,.0f} rows/s, {position:,}{share} bytes"
        )
        return found, text

    wide = "{task.fields[rows]:,} rows, {task.fields[refused]:,} refused, {task.fields[rate]:,.0f} rows/s"
    with progress_bar(console, "import", wide, "{task.fields[rows]:,} rows") as bar, report_regularly(console, report):
        task = bar.add_task("import", total=size or None, rows=start, refused=work.state.refused, rate=0.0)

        def progress(state: State, read: int) -> None:
            nonlocal position
            position = read
            bar.update(task, completed=position, rows=state.rows, refused=state.refused, rate=rate(state))

        def preview(rows: list[Preview]) -> None:
            console.print("The first rows, as they would be stored:", highlight=False)
            for row in rows:
                if row.reason:
                    line = f"row {row.number}: refused: {row.reason}"
                else:
                    cells = [f"{name}={printable(value)}" for name, value in row.attributes.items()]
                    line = f"row {row.number}: {row.user}: {', '.join(cells) or 'no attributes'}"
                console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

        work.run(progress, preview)
