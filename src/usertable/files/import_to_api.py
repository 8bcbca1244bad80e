"""Import through a server's API: rows become batches of writes, each row with an idempotency key of its own.

Nothing is applied twice: a row's key is made of the import's random name and the row's number, so a row that comes again
gets its first answer, in whatever batch. How far the import came is kept in a file, which says before a block is sent that
it may have been, and when. The server forgets keys after a while; what may have been sent too long ago is not sent again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from usertable.client.clients import Client
from usertable.client.core import Record, RecordResult, Retry
from usertable.client.errors import (
    ApiError,
    AuthenticationFailed,
    BatchFailed,
    ClientError,
    RateLimited,
    ServerFailed,
    Unreachable,
)
from usertable.domain.errors import ProblemKind, Unavailable
from usertable.domain.profile import Effect
from usertable.domain.schema import Project
from usertable.domain.values import DataType
from usertable.files.block import Block
from usertable.files.import_job import (
    PATIENCE_SECONDS,
    PREVIEW_ROWS,
    PROBLEMS_SHOWN,
    ImportJob,
    ImportState,
    RowPreview,
    reasons,
)
from usertable.files.moment_texts import moment_text
from usertable.files.options import ReadOptions
from usertable.files.position_file import Position, PositionFile
from usertable.store.encoding import decode_attributes
from usertable.store.records import ImportRow
from usertable.wire import native

_FIRST_CALL = Retry(attempts=3, seconds=5.0)
_PATIENT = Retry(attempts=30, most=5.0, seconds=PATIENCE_SECONDS)
_ANSWER_SECONDS = 60.0
_MARGIN_MS = 3_600_000
"""A row is not sent again when its key is nearer than an hour to being forgotten."""


@dataclass(frozen=True, slots=True)
class ServerProject:
    """Where a project is, and how to be let in."""

    url: str
    project: str
    secret: str = field(repr=False)
    receipt_hours: int = 24
    """How long it remembers a key: its setting of that name."""


class ApiImport(ImportJob):
    """An import into a project of a running server, by its native API. Close it.

    Args:
        position: the file that tells how far it came.
        settings: those of :class:`~usertable.files.import_job.ImportJob`.

    Raises:
        Refused: the server is none of ours, or lets nobody in with that secret.
        Unavailable: it cannot be reached.
        ValueError: the URL is none.
    """

    def __init__(
        self, server: ServerProject, stream: IO[bytes], options: ReadOptions, *, position: Path, **settings: Any
    ) -> None:
        self._server = server
        self._job = settings["job"]
        with self._client(_FIRST_CALL) as client:
            project = self._declared(client)
        super().__init__(project, stream, options, **settings)
        self._file = PositionFile(position)
        self._found: Position | None = None
        self._position = Position(server.url, project.id, f"import-{secrets.token_hex(12)}", self.state)
        self._calls = self._client(_PATIENT)

    def close(self) -> None:
        """Close the connections, and let go of the position."""
        super().close()
        self._calls.close()
        self._file.close()

    def begin(self, mode: Literal["new", "resume", "restart"]) -> None:
        """See :meth:`ImportJob.begin`. What may have been sent too long ago cannot be resumed."""
        super().begin(mode)
        if mode == "resume" and self._found:
            self._position = self._found
            self._check_age()

    def _earlier(self) -> ImportState | None:
        found = self._file.read()
        if found and (found.url, found.project) != (self._server.url, self._project.id):
            if not found.state.finished:
                raise self._refuse(
                    f"its position is of project {found.project} at {found.url}; name the same, or another file with --state"
                )
            return None
        self._found = found
        return found.state if found else None

    def _reread(self) -> Project:
        return self._declared(self._calls)

    def _client(self, retry: Retry) -> Client:
        server = self._server
        try:
            return Client(server.url, server.project, server.secret, retry=retry, timeout=_ANSWER_SECONDS, compress=True)
        except ClientError as error:
            # A variable of the environment is of no use.
            raise self._refuse(str(error)) from error

    def _declared(self, client: Client) -> Project:
        """The project, with its schema."""
        try:
            shown, schema = client.declared()
            form = native.SchemaForm.schema(msgspec.convert(schema, native.SchemaForm))
            return Project(0, shown["id"], shown["name"], b"", b"", shown["timezone"], None, 0, form)
        except ClientError as error:
            raise self._failed(error) from error
        except (msgspec.ValidationError, KeyError) as error:
            raise self._refuse(f"the server at {self._server.url} is of another version: {error}") from error

    def _preview(self, block: Block) -> list[RowPreview]:
        numbers = block.numbers[:PREVIEW_ROWS]
        records = [self._record(number, row) for number, row in zip(numbers, block.rows, strict=False)]
        shown = []
        for number, record, result in zip(numbers, records, self._batch(records, dry_run=True), strict=True):
            user = "a new user" if result.cuid is None else f"cuid {result.cuid}"
            values = {name: int(value) if type(value) is bool else value for name, value in record.values.items()}
            shown.append(RowPreview(number, _reason(result), user, values))
        return self._shown(block, shown)

    def _import_block(self, block: Block) -> None:
        if not self._dry_run:
            self._mark(block.done)
        refused = [(number, reasons(problems)) for number, problems in block.refused]
        counts = dict.fromkeys(Effect, 0)
        records = [self._record(number, row) for number, row in zip(block.numbers, block.rows, strict=True)]
        for number, result in zip(block.numbers, self._batch(records, dry_run=self._dry_run), strict=True):
            if result.error is not None:
                self._check_key(number, result)
                refused.append((number, _reason(result)))
            else:
                assert result.effect is not None
                counts[Effect(result.effect)] += 1
        refused.sort()
        self.state = self._counted(
            block,
            refused,
            created=counts[Effect.CREATED],
            changed=counts[Effect.CHANGED],
            unchanged=counts[Effect.UNCHANGED],
        )
        if self._dry_run:
            self.problems += refused[: PROBLEMS_SHOWN - len(self.problems)]
        else:
            self._keep()

    def _begin(self) -> None:
        if not self._dry_run and not self.state.rows:
            self._keep()

    def _finish(self) -> None:
        self.state = replace(self.state, finished=True)
        if not self._dry_run:
            self._keep()

    def _mark(self, rows: int) -> None:
        """Note that rows up to this one may be sent from now on."""
        position = self._position
        if position.sent <= self.state.rows:
            position = replace(position, since=self._clock())
        # What was sent by an earlier process, before it was killed, keeps its moment.
        self._position = replace(position, state=self.state, sent=max(position.sent, rows))
        self._check_age()
        self._file.write(self._position)

    def _keep(self) -> None:
        self._position = replace(self._position, state=self.state)
        self._file.write(self._position)

    def _check_age(self) -> None:
        position = self._position
        first, last = position.state.rows + 1, position.sent
        age = self._clock() - position.since
        if last < first or 0 <= age <= self._server.receipt_hours * 3_600_000 - _MARGIN_MS:
            return
        when = f"{age / 3_600_000:.1f} hours ago" if age > 0 else "at a time that this machine's clock has not reached"
        raise self._refuse(
            f"rows {first} to {last} may have been stored, and were sent {when}; the server remembers that for"
            f" {self._server.receipt_hours} hours, and an hour is kept as a margin. Sent again they could count twice."
            f" Look which of them are in; then import the rows that are not as a file of their own"
        )

    def _check_key(self, number: int, result: RecordResult) -> None:
        error = result.error
        if isinstance(error, ApiError) and any(problem.kind == ProblemKind.KEY_REUSED for problem in error.problems):
            raise self._refuse(
                f"row {number} was sent before, and means something else now; was the file changed, or the project's zone?"
            )

    def _record(self, number: int, row: ImportRow) -> Record:
        """A row as it is sent."""
        cuid, pairs, text = row
        values: dict[str, Any] = dict(decode_attributes(text))
        schema = self._project.schema
        for name, value in values.items():
            if schema.attributes[name].type is DataType.DATETIME:
                values[name] = _moment(value, self._project.timezone)
        identifiers: dict[str, Any] = {}
        for name, value in pairs:
            if schema.identifier(name).unique:
                identifiers[name] = value
            else:
                identifiers.setdefault(name, []).append(value)
        return Record(cuid, values, f"{self._position.key}-{number}", identifiers)

    def _batch(self, records: list[Record], *, dry_run: bool) -> list[RecordResult]:
        if not records:
            return []
        try:
            return self._calls.batch(records, on_unknown="import" if self._register else "refuse", dry_run=dry_run)
        except BatchFailed as failed:
            raise self._failed(failed.cause or failed) from failed

    def _failed(self, error: ClientError) -> Exception:
        url = self._server.url
        if isinstance(error, Unreachable):
            return Unavailable(f"the server at {url}: {error}")
        if isinstance(error, ServerFailed | RateLimited):
            return Unavailable(f"the server at {url} answered: {error}")
        if isinstance(error, AuthenticationFailed):
            return self._refuse(
                f"the server at {url} does not know project {self._server.project} with that secret: {error.text}"
            )
        if isinstance(error, ApiError) and error.status in (404, 405):
            return self._refuse(
                f"at {url} there is no server of usertable that takes batches; is the URL right? {error.text}"
            )
        return self._refuse(f"the server at {url} answered: {error}")


def _reason(result: RecordResult) -> str:
    """Why the server refused a record; empty if it did not."""
    error = result.error
    if isinstance(error, ApiError):
        return "; ".join(problem.text for problem in error.problems) or error.text
    return str(error) if error else ""


@lru_cache(maxsize=20_000)
def _moment(ms: int, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return moment_text(ms, ZoneInfo(zone))
