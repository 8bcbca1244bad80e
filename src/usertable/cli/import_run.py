"""Run `usertable import`: check its options, import the file, and report the result."""

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

from usertable.cli.backend import ServerBackend, StoreBackend, server_credentials
from usertable.cli.context import actor, opened_service
from usertable.cli.errors import Failure
from usertable.cli.formats import file_format
from usertable.cli.input_file import can_reopen, job_for_content, opened_input
from usertable.cli.options import common_option
from usertable.cli.output import noun, print_result, printable
from usertable.cli.process import expect_no_cycles
from usertable.cli.progress import show_progress
from usertable.files.cell_texts import is_date_format
from usertable.files.column_map import column_map
from usertable.files.encodings import NAMED, encoding_codec
from usertable.files.options import Format, ReadOptions, compression_of

if TYPE_CHECKING:
    from usertable.app.service import Service
    from usertable.files.import_job import ImportJob, ImportState, RowPreview
    from usertable.files.reasons import ReasonGroup

STORE_BATCH, SERVER_BATCH = 5000, 1000
"""Rows per commit, unless --batch is given. The value for a server is its maximum."""


REASONS_SHOWN, VALUES_SHOWN = 10, 3
"""Maximum number of reasons for rejected rows in the final report, and of different values with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The options of `usertable import`, as click parsed them. The command's help explains them."""

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
        """Reject contradictory options.

        Raises:
            UsageError: two options contradict each other.
        """
        if self.resume and self.restart:
            raise click.UsageError("--resume and --restart exclude each other; give one of them")
        if self.dry_run and (self.resume or self.restart):
            raise click.UsageError(
                "--dry-run reads the whole file and stores nothing, so it excludes --resume and --restart"
            )
        delimiter = self._delimiter
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise click.UsageError(f"--delimiter is {delimiter!r}; expected one character, such as ; or \\t")
        self._check_texts()
        if self.url is None:
            self._check_for_store()
        else:
            self._check_for_server()

    def _check_texts(self) -> None:
        for form in self.date_formats:
            if not is_date_format(form):
                raise click.UsageError(
                    f"--date-format is {form!r}; expected year, month and day in the notation of strptime, such as"
                    " '%d.%m.%Y %H:%M'; use %z for an offset, not %Z"
                )
        if both := set(self.true_texts) & set(self.false_texts):
            raise click.UsageError(f"{min(both)!r} is given to both --true and --false")
        names = [name for name, _ in self.defaults]
        if len(set(names)) < len(names):
            raise click.UsageError("--default names the same attribute twice")
        if any(not text for _, text in self.defaults):
            raise click.UsageError("--default has an empty value; omit the option to set no value")

    def _check_for_store(self) -> None:
        for name, value in (("secret", self.secret), ("state", self.state)):
            if value is not None:
                raise click.UsageError(f"--{name} requires --url")

    def _check_for_server(self) -> None:
        if common_option("store"):
            raise click.UsageError("--store and --url exclude each other; give one of them")
        if self.job is not None:
            raise click.UsageError(
                "--job and --url exclude each other: with --url, the file that --state names identifies the import"
            )
        if self.batch is not None and self.batch > SERVER_BATCH:
            raise click.UsageError(f"--batch is {self.batch}; the maximum with --url is {SERVER_BATCH}")

    def read_options(self) -> ReadOptions:
        """Return how to read the file.

        Raises:
            UsageError: the format or the encoding is unknown, or a column is mapped twice.
        """
        form = file_format(self.format, self.file)
        codec = encoding_codec(self.encoding)
        if codec is None:
            raise click.UsageError(
                f"--encoding is {self.encoding!r}; expected auto or an encoding such as {', '.join(NAMED)}"
            )
        if form == "parquet" and codec != "auto":
            raise click.UsageError("--encoding applies to CSV and NDJSON; a Parquet file states its own encoding")
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
        """The URL of the server to import through; None to import into a store."""
        url: str | None = common_option("url")
        return url

    @property
    def _delimiter(self) -> str | None:
        return "\t" if self.delimiter == "\\t" else self.delimiter

    def _columns(self) -> dict[str, str]:
        columns = dict(column_map(self.map_file.read())) if self.map_file else {}
        for column, name in self.pairs:
            if (not name and columns.get(column)) or columns.get(column) == "":
                raise click.UsageError(f"column {column} is both mapped and left out")
            columns[column] = f"{columns[column]},{name}" if column in columns else name
        return columns

    @property
    def mode(self) -> Literal["new", "resume", "restart"]:
        """Whether to begin a new import, resume, or restart."""
        return "resume" if self.resume else "restart" if self.restart else "new"

    def rejects_file(self, form: Format) -> Path:
        """Return the path of the rejects file."""
        base = Path(compression_of(self.file)[1]).with_suffix("") if can_reopen(self.file) else "import"
        return Path(self.rejects or f"{base}.rejects.{'csv' if form == 'csv' else 'ndjson'}")

    def state_file(self) -> Path:
        """Return the path of the file with the position of an import through a server."""
        return Path(self.state or (f"{self.file}.import.json" if can_reopen(self.file) else "import.json"))


def run_import(options: ImportOptions) -> None:
    """Import a file, show the progress, and print the result.

    Raises:
        UsageError: the options contradict each other.
        Failure: a row was rejected.
        Refused: the file cannot be read, or the import cannot be started or resumed.
        Unavailable: the store or the server was unavailable for too long.
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
            # Decoding the responses of a server creates reference cycles.
            expect_no_cycles()
        _run(work, os.fstat(stream.fileno()).st_size)
        for column in sorted(work.unseen):
            click.echo(f"column [{column}] is mapped, but no row has it", err=True)
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
    return StoreImport(service, project_id, stream, how, actor=actor(), job=job, head=head, **settings)


def _import_to_server(options: ImportOptions, stream: IO[bytes], how: ReadOptions, settings: Mapping[str, Any]) -> ImportJob:
    from usertable.files.import_to_api import ApiImport, ServerProject

    url = options.url
    assert url is not None
    token, secret = ("", options.secret) if options.secret else server_credentials()
    project_id = options.project_id
    if project_id is None:
        with contextlib.closing(ServerBackend(url.rstrip("/"), token, secret)) as asked:
            project_id = asked.default_project()
    server = ServerProject(url.rstrip("/"), project_id, secret, token, options.receipt_hours)
    try:
        return ApiImport(server, stream, how, position=options.state_file(), job=options.file, **settings)
    except ValueError as error:
        raise click.UsageError(f"--url is {url!r}; expected a URL such as https://usertable.example.com") from error


def _run(work: ImportJob, size: int) -> None:
    """Import the rows, showing a preview of the first ones and the progress on stderr.

    Args:
        size: bytes of the file; 0 if unknown.
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
            f"import: {rows:,} {noun(rows, 'row')}, {refused:,} rejected, {speed:,.0f} rows/s, {position:,}{of_size} bytes",
        )

    wide = "{task.fields[rows]:,} rows, {task.fields[refused]:,} rejected, {task.fields[rate]:,.0f} rows/s"
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
        return f"row {row.number}: rejected: {row.reason}"
    cells = [f"{name}={printable(value)}" for name, value in row.attributes.items()]
    return f"row {row.number}: {row.user}: {', '.join(cells) or 'no attributes'}"


def _reason_line(group: ReasonGroup) -> str:
    """Return why rows were rejected: `11,212 rows: the value […] of … is invalid; … (n/a: 11,000, -: 200 and 7 others)`."""
    rows = f"{group.rows:,} {noun(group.rows, 'row')}"
    shown = ", ".join(f"{value}: {count:,}" for value, count in group.values[:VALUES_SHOWN])
    more = len(group.values) - VALUES_SHOWN
    others = f" and {more:,} {noun(more, 'other')}" if more > 0 else ""
    return f"{rows}: {group.reason}" + (f" ({shown}{others})" if shown else "")


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
        already = "already complete: " if before.finished else ""
        click.echo(
            f"{already}{after.rows} {noun(after.rows, 'row')}:"
            f" {after.created} {noun(after.created, 'user')} {would}created, {after.changed} {would}changed,"
            f" {after.unchanged} unchanged, {after.refused} {would}rejected"
        )
        if after.cut:
            values, were = ("value", "was") if after.cut == 1 else ("values", "were")
            done = "would be" if options.dry_run else were
            click.echo(f"{after.cut} DATETIME {values} {done} truncated to milliseconds")

    print_result(found, show)
    for group in reasons[:REASONS_SHOWN]:
        click.echo(printable(_reason_line(group)), err=True)
    if len(reasons) > REASONS_SHOWN:
        rest = sum(group.rows for group in reasons[REASONS_SHOWN:])
        others = len(reasons) - REASONS_SHOWN
        click.echo(f"{rest:,} {noun(rest, 'row')}: {others} other {noun(others, 'reason')}", err=True)
    if after.refused and not before.finished:
        rows, they, them = ("row was", "it is", "it") if after.refused == 1 else ("rows were", "they are", "them")
        where = f"{they} in {rejects}; fix {them} there and import that file" if after.rejects else "nothing was stored"
        raise Failure(f"{after.refused} {rows} rejected: {where}")
