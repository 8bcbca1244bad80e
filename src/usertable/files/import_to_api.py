"""Import through a server's API: rows become batches of writes, each row with an idempotency key of its own.

Nothing is applied twice: a row's key is made of the import's random name and the row's number, so a row that comes again
gets its first answer, in whatever batch. How far the import came is kept in a file, which says before a block is sent that
it may have been, and when. The server forgets keys after a while; what may have been sent too long ago is not sent again.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from usertable.client.answers import RecordAnswer
from usertable.client.clients import Client
from usertable.client.core import Answer, Retry
from usertable.client.errors import (
    ApiError,
    AuthenticationFailed,
    ClientError,
    RateLimited,
    ServerFailed,
    Unreachable,
)
from usertable.domain.errors import Problem, ProblemKind, Unavailable
from usertable.domain.profile import Effect
from usertable.domain.schema import Project
from usertable.files.block import Block
from usertable.files.import_job import (
    PATIENCE_SECONDS,
    PREVIEW_ROWS,
    ImportJob,
    ImportState,
    RowPreview,
    reason_of,
)
from usertable.files.import_records import RecordEncoder
from usertable.files.options import ReadOptions
from usertable.files.position_file import Position, PositionFile
from usertable.wire.bodies import decode_object
from usertable.wire.native import forms

_encode = msgspec.json.Encoder(decimal_format="number").encode
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
        self._is_kept = True
        """Whether the state is in the position's file."""
        self._calls = self._client(_PATIENT)

    def close(self) -> None:
        """Close the connections, and let go of the position."""
        super().close()
        self._calls.close()
        try:
            self._pause()
        finally:
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
            form = forms.SchemaForm.schema(msgspec.convert(schema, forms.SchemaForm))
            return Project(0, shown["id"], shown["name"], b"", b"", shown["timezone"], None, 0, form)
        except ClientError as error:
            raise self._failed(error) from error
        except (msgspec.ValidationError, KeyError) as error:
            raise self._refuse(f"the server at {self._server.url} is of another version: {error}") from error

    def _prepare(self) -> RecordEncoder:
        return RecordEncoder(self._project, None if self._dry_run else self._position.key)

    def _preview(self, block: Block) -> list[RowPreview]:
        numbers = block.numbers[:PREVIEW_ROWS]
        # Without keys: a row that was sent before is not asked for what came of it then.
        records = [_members(record) for record in block.records[:PREVIEW_ROWS]]
        answers = self._batch([_encode({**record, "key": None}) for record in records], dry_run=True)
        shown = []
        for number, record, answer in zip(numbers, records, answers, strict=True):
            user = "a new user" if isinstance(answer, ApiError) or answer.cuid is None else f"cuid {answer.cuid}"
            error = _error(answer)
            shown.append(RowPreview(number, _reason(error) if error else "", user, record["data"]))
        return self._shown(block, shown)

    def _import_block(self, block: Block) -> None:
        if not self._dry_run:
            self._mark(block.done)
        refused = [(number, reason_of(problems)) for number, problems in block.refused]
        effects: Counter[str] = Counter()
        for number, answer in zip(block.numbers, self._batch(block.records, dry_run=self._dry_run), strict=True):
            if isinstance(answer, RecordAnswer) and answer.effect is not None:
                effects[answer.effect] += 1
            else:
                error = _error(answer)
                assert error
                self._check_key(number, error)
                refused.append((number, _reason(error)))
        refused.sort()
        self.state = self._counted(
            block,
            refused,
            created=effects[Effect.CREATED],
            changed=effects[Effect.CHANGED],
            unchanged=effects[Effect.UNCHANGED],
        )
        self._note(block, refused)
        if not self._dry_run:
            # The position is written before the next block is sent, which is at once if that was read already.
            self._is_kept = False

    def _pause(self) -> None:
        if not self._is_kept:
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
            position = replace(position, since=self._clock.now_ms())
        # What was sent by an earlier process, before it was killed, keeps its moment.
        self._position = replace(position, state=self.state, sent=max(position.sent, rows))
        self._check_age()
        self._write()

    def _keep(self) -> None:
        self._position = replace(self._position, state=self.state)
        self._write()

    def _write(self) -> None:
        self._file.write(self._position)
        self._is_kept = True

    def _check_age(self) -> None:
        position = self._position
        first, last = position.state.rows + 1, position.sent
        age = self._clock.now_ms() - position.since
        if last < first or 0 <= age <= self._server.receipt_hours * 3_600_000 - _MARGIN_MS:
            return
        when = f"{age / 3_600_000:.1f} hours ago" if age > 0 else "at a time that this machine's clock has not reached"
        raise self._refuse(
            f"rows {first} to {last} may have been stored, and were sent {when}; the server remembers that for"
            f" {self._server.receipt_hours} hours, and an hour is kept as a margin. Sent again they could count twice."
            f" Look which of them are in; then import the rows that are not as a file of their own"
        )

    def _check_key(self, number: int, error: ApiError) -> None:
        if any(problem.kind == ProblemKind.KEY_REUSED for problem in error.problems):
            raise self._refuse(
                f"row {number} was sent before, and means something else now; was the file changed, or the project's zone?"
            )

    def _batch(self, records: Sequence[bytes], *, dry_run: bool) -> list[Answer]:
        if not records:
            return []
        try:
            return self._calls.send_encoded(records, on_unknown="import" if self._register else "refuse", dry_run=dry_run)
        except ClientError as error:
            raise self._failed(error) from error

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


def _members(record: bytes) -> dict[str, Any]:
    members = decode_object(record)
    assert not isinstance(members, Problem)
    return members


def _error(answer: Answer) -> ApiError | None:
    return answer if isinstance(answer, ApiError) else answer.error


def _reason(error: ApiError) -> str:
    """Why the server refused a record."""
    return "; ".join(problem.text for problem in error.problems) or error.text
