"""What `usertable import` does: check its options, import, and say what became of the rows."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import click
from rich.console import Console

from usertable.cli.backend import StoreBackend
from usertable.cli.context import opened_service
from usertable.cli.errors import Failure
from usertable.cli.formats import file_format
from usertable.cli.input_file import can_reopen, job_for_content, opened_input
from usertable.cli.options import common_option, environment_secret
from usertable.cli.output import print_result, printable
from usertable.cli.process import expect_no_cycles
from usertable.cli.progress import show_progress
from usertable.config import SECRET
from usertable.files.cell_texts import is_date_format
from usertable.files.column_map import column_map
from usertable.files.encodings import NAMED, encoding_codec
from usertable.files.options import Format, ReadOptions, compression_of

if TYPE_CHECKING:
    from usertable.app.service import Service
    from usertable.files.import_job import ImportJob, ImportState, RowPreview
    from usertable.files.reasons import ReasonGroup

STORE_BATCH, SERVER_BATCH = 5000, 1000
"""Rows per commit unless --batch says otherwise. A server takes no more at once."""


REASONS_SHOWN, VALUES_SHOWN = 10, 3
"""Maximum number of reasons for refused rows that are told at the end, and of different values with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The options of `usertable import`, as click read them; their meaning is in its help."""

    file: str
    project_id: str | None
    format: str | None
    pairs: tuple[tuple[str, str], ...]
    map_file: IO[bytes] | None
    register: bool
    empty: Literal["skip", "refuse"]
    nulls: tuple[str, ...]
    encoding: str
    delimiter: str | None
    list_separator: str | None
    date_formats: tuple[str, ...]
    decimal_comma: bool
    true_texts: tuple[str, ...]
    false_texts: tuple[str, ...]
    defaults: tuple[tuple[str, str], ...]
    dry_run: bool
    resume: bool
    restart: bool
    job: str | None
    rejects: str | None
    batch: int | None
    secret: str | None
    state: str | None
    receipt_hours: int

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UsageError: they do.
        """
        if self.resume and self.restart:
            raise click.UsageError("--resume continues and --restart starts over; give one of them")
        if self.dry_run and (self.resume or self.restart):
            raise click.UsageError(
                "a dry run reads the whole file and keeps nothing, so it does not go with --resume or --restart"
            )
        delimiter = self._delimiter
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise click.UsageError(f"--delimiter is {delimiter!r}; expected one character, such as ; or \\t")
        self._check_texts()
        if self.url is None:
            self._check_for_store()
        else:
            self._check_for_server()

    def server_secret(self) -> str:
        """The project's secret for a server, from the command line or the environment; empty if there is none."""
        return self.secret or environment_secret()

    def _check_texts(self) -> None:
        for form in self.date_formats:
            if not is_date_format(form):
                raise click.UsageError(
                    f"--date-format is {form!r}; expected the year, the month and the day in the form of strftime, such as"
                    " '%d.%m.%Y %H:%M'; %z for an offset, and no %Z"
                )
        if both := set(self.true_texts) & set(self.false_texts):
            raise click.UsageError(f"{min(both)!r} is given to --true and to --false")
        names = [name for name, _ in self.defaults]
        if len(set(names)) < len(names):
            raise click.UsageError("--default gives a value to the same attribute twice")
        if any(not text for _, text in self.defaults):
            raise click.UsageError("--default gives an empty value; leave it out, and no value is set")

    def _check_for_store(self) -> None:
        for name, value in (("secret", self.secret), ("state", self.state)):
            if value is not None:
                raise click.UsageError(f"--{name} is for an import through the API; it goes with --url")

    def _check_for_server(self) -> None:
        if common_option("store"):
            raise click.UsageError("--store imports into a store and --url through a server; give one of them")
        if not self.project_id:
            raise click.UsageError(f"--project is needed: the secret in {SECRET} is that of one project; name it")
        if not self.server_secret():
            raise click.UsageError(f"the project's secret is needed; put it into {SECRET}, or give --secret")
        if self.job is not None:
            raise click.UsageError(
                "with --url an import is known by the file that holds its position; name one with --state"
            )
        if self.batch is not None and self.batch > SERVER_BATCH:
            raise click.UsageError(f"--batch is {self.batch}; a server takes {SERVER_BATCH} rows at once at most")

    def read_options(self) -> ReadOptions:
        """How the file is to be read.

        Raises:
            UsageError: the format or the encoding is not known, or the columns are mapped twice.
        """
        form = file_format(self.format, self.file)
        codec = encoding_codec(self.encoding)
        if codec is None:
            raise click.UsageError(
                f"--encoding is {self.encoding!r}; expected auto or an encoding such as {', '.join(NAMED)}"
            )
        if form == "parquet" and codec != "auto":
            raise click.UsageError("--encoding is for CSV and NDJSON; a Parquet file says how its texts are encoded")
        return ReadOptions(
            form,
            codec,
            self._delimiter,
            self.list_separator or None,
            frozenset(self.nulls),
            self.empty,
            self._columns(),
            self.batch or (STORE_BATCH if self.url is None else SERVER_BATCH),
            compression_of(self.file)[0],
            self.date_formats,
            self.decimal_comma,
            self.true_texts,
            self.false_texts,
            tuple(sorted(self.defaults)),
        )

    @property
    def url(self) -> str | None:
        """The server to import through; None for an import into a store."""
        url: str | None = common_option("url")
        return url

    @property
    def _delimiter(self) -> str | None:
        return "\t" if self.delimiter == "\\t" else self.delimiter

    def _columns(self) -> dict[str, str]:
        columns = dict(column_map(self.map_file.read())) if self.map_file else {}
        for column, name in self.pairs:
            if (not name and columns.get(column)) or columns.get(column) == "":
                raise click.UsageError(f"column {column} is mapped, and left out too")
            columns[column] = f"{columns[column]},{name}" if column in columns else name
        return columns

    @property
    def mode(self) -> Literal["new", "resume", "restart"]:
        """Where to begin."""
        return "resume" if self.resume else "restart" if self.restart else "new"

    def rejects_file(self, form: Format) -> Path:
        """The file for refused rows."""
        base = Path(compression_of(self.file)[1]).with_suffix("") if can_reopen(self.file) else "import"
        return Path(self.rejects or f"{base}.rejects.{'csv' if form == 'csv' else 'ndjson'}")

    def state_file(self) -> Path:
        """The file for the position of an import through a server."""
        return Path(self.state or (f"{self.file}.import.json" if can_reopen(self.file) else "import.json"))


def run_import(options: ImportOptions) -> None:
    """Import a file, show how far it is, and print what became of its rows.

    Raises:
        UsageError: the options do not fit together.
        Failure: a row was refused.
        Refused: the file cannot be read, or the import not begun or continued.
        Unavailable: the store or the server was down for too long.
    """
    options.check()
    how = options.read_options()
    rejects = options.rejects_file(how.format)
    settings = {"register": options.register, "rejects": rejects, "dry_run": options.dry_run}
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(opened_service(create=not options.dry_run)) if options.url is None else None
        stream = stack.enter_context(opened_input(options.file, how.format))
        if service:
            work = _import_to_store(options, service, stream, how, settings)
        else:
            work = _import_to_server(options, stream, how, settings)
        stack.callback(work.close)
        work.begin(options.mode)
        before = work.state
        if service:
            # A server's answers make some.
            expect_no_cycles()
        _run(work, os.fstat(stream.fileno()).st_size)
        for column in sorted(work.unseen):
            click.echo(f"column [{column}] is mapped, and no row has it", err=True)
        for number, reason in work.problems:
            click.echo(f"row {number}: {reason}", err=True)
    _print_outcome(options, rejects, before, work.state, work.reasons())


def _import_to_store(
    options: ImportOptions, service: Service, stream: IO[bytes], how: ReadOptions, settings: Mapping[str, Any]
) -> ImportJob:
    from usertable.files.import_to_store import StoreImport

    job, head = options.job, b""
    if job is None and not can_reopen(options.file):
        job, head = job_for_content(stream, how.format)
    job = job or str(Path(options.file).resolve())
    project_id = options.project_id or StoreBackend(service).default_project()
    return StoreImport(service, project_id, stream, how, job=job, head=head, **settings)


def _import_to_server(options: ImportOptions, stream: IO[bytes], how: ReadOptions, settings: Mapping[str, Any]) -> ImportJob:
    from usertable.files.import_to_api import ApiImport, ServerProject

    url, project_id = options.url, options.project_id
    assert url is not None
    assert project_id is not None
    server = ServerProject(url.rstrip("/"), project_id, options.server_secret(), options.receipt_hours)
    try:
        return ApiImport(server, stream, how, position=options.state_file(), job=options.file, **settings)
    except ValueError as error:
        raise click.UsageError(f"--url is {url!r}; expected something like https://usertable.example.com") from error


def _run(work: ImportJob, size: int) -> None:
    """Take the rows, and show on stderr the first ones, and how far it is.

    Args:
        size: bytes of the file, 0 if that is not known.
    """
    console = Console(stderr=True)
    start, began = work.state.rows, time.monotonic()
    position = 0

    def rate() -> float:
        return (work.state.rows - start) / max(time.monotonic() - began, 0.001)

    def report() -> tuple[dict[str, int | None], str]:
        rows, refused, speed = work.state.rows, work.state.refused, rate()
        of_size = f" of {size:,}" if size else ""
        return (
            {
                "rows": rows,
                "refused": refused,
                "rows_per_second": round(speed),
                "position": position,
                "size": size or None,
            },
            f"import: {rows:,} rows, {refused:,} refused, {speed:,.0f} rows/s, {position:,}{of_size} bytes",
        )

    wide = "{task.fields[rows]:,} rows, {task.fields[refused]:,} refused, {task.fields[rate]:,.0f} rows/s"
    with show_progress(console, "import", wide, "{task.fields[rows]:,} rows", report) as bar:
        task = bar.add_task("import", total=size or None, rows=start, refused=work.state.refused, rate=0.0)

        def progress(state: ImportState, read: int) -> None:
            nonlocal position
            position = read
            bar.update(task, completed=position, rows=state.rows, refused=state.refused, rate=rate())

        def preview(rows: list[RowPreview]) -> None:
            console.print("The first rows, as they would be stored:", highlight=False)
            for row in rows:
                console.print(printable(_preview_line(row)), highlight=False, markup=False, soft_wrap=True)

        work.run(progress, preview)


def _preview_line(row: RowPreview) -> str:
    if row.reason:
        return f"row {row.number}: refused: {row.reason}"
    cells = [f"{name}={printable(value)}" for name, value in row.attributes.items()]
    return f"row {row.number}: {row.user}: {', '.join(cells) or 'no attributes'}"


def _reason_line(group: ReasonGroup) -> str:
    """Why some rows were refused: `11,212 rows: the value […] of … is invalid; … (n/a: 11,000, -: 200 and 7 others)`."""
    rows = "1 row" if group.rows == 1 else f"{group.rows:,} rows"
    shown = ", ".join(f"{value}: {count:,}" for value, count in group.values[:VALUES_SHOWN])
    more = len(group.values) - VALUES_SHOWN
    return f"{rows}: {group.reason}" + (f" ({shown}{f' and {more:,} others' if more > 0 else ''})" if shown else "")


def _print_outcome(
    options: ImportOptions, rejects: Path, before: ImportState, after: ImportState, reasons: Sequence[ReasonGroup]
) -> None:
    found = {
        "rows": after.rows,
        "created": after.created,
        "changed": after.changed,
        "unchanged": after.unchanged,
        "refused": after.refused,
        "moments_cut": after.cut,
        "rejects": str(rejects) if after.rejects else None,
        "resumed_after": before.rows,
        "dry_run": options.dry_run,
        "reasons": [
            {"rows": group.rows, "reason": group.reason, "values": dict(group.values[:VALUES_SHOWN])}
            for group in reasons[:REASONS_SHOWN]
        ],
    }

    def show() -> None:
        would = "would be " if options.dry_run else ""
        done = "done already: " if before.finished else ""
        click.echo(
            f"{done}{after.rows} rows: {after.created} users {would}created, {after.changed} {would}changed,"
            f" {after.unchanged} unchanged, {after.refused} {would}refused"
        )
        if after.cut:
            were = "moment was" if after.cut == 1 else "moments were"
            click.echo(f"{after.cut} {were} finer than a millisecond, and {would}cut to it")

    print_result(found, show)
    for group in reasons[:REASONS_SHOWN]:
        click.echo(printable(_reason_line(group)), err=True)
    if len(reasons) > REASONS_SHOWN:
        rest = sum(group.rows for group in reasons[REASONS_SHOWN:])
        click.echo(f"{rest:,} rows: {len(reasons) - REASONS_SHOWN} other reasons", err=True)
    if after.refused and not before.finished:
        rows, they, them = ("row was", "it is", "it") if after.refused == 1 else ("rows were", "they are", "them")
        where = f"{they} in {rejects}; fix {them} there and import that file" if after.rejects else "nothing was kept"
        raise Failure(f"{after.refused} {rows} refused: {where}")
