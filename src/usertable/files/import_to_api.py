"""Import through a server's API: rows become batches of writes, each row with its own idempotency key.

Nothing is applied twice. A row's key consists of the import's random name and the row's number, so a row that is sent again
gets its first answer, in whatever batch. The progress is stored in a file. Before a block is sent, the file records that it
may have been sent, and when. The server forgets keys after a while, so rows that may have been sent too long ago are not
sent again.

A block is sent as soon as the previous one is answered, whose answers are counted meanwhile.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
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
from usertable.domain.errors import Problem, ProblemKind, Unavailable, phrase
from usertable.domain.phrases import PhraseKind
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
_CLOSE_SECONDS = 5.0
"""Seconds for which an import that ends early waits for answers."""
_MARGIN_MS = 3_600_000
"""Milliseconds before a key expires at which its row is no longer sent again: one hour."""


@dataclass(frozen=True, slots=True)
class ServerProject:
    """A project on a server, and its credentials."""

    url: str
    project: str
    secret: str = field(repr=False)
    admin_token: str = field(default="", repr=False)
    """The server's admin token, instead of the project's secret."""
    receipt_hours: int = 24
    """Hours for which the server remembers a key; its setting of the same name."""


class ApiImport(ImportJob):
    """An import into a project of a running server, through its native API. Close it.

    Args:
        position: file that stores the progress.
        settings: those of :class:`~usertable.files.import_job.ImportJob`.

    Raises:
        Refused: the server is not usertable, or rejects the secret.
        Unavailable: it cannot be reached.
        ValueError: the URL is invalid.
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
        """Whether the state is in the position file."""
        self._moments: list[tuple[int, int]] = []
        """Rows that may have been sent and are not counted yet: up to which row, and when (ms since 1970 UTC), ascending."""
        self._under_way: deque[tuple[Block, Future[list[Answer]]]] = deque()
        """Blocks that were sent and are not counted yet, in order: the last one, and one that was answered before it was
        sent."""
        self._calls = self._client(_PATIENT)

    def close(self) -> None:
        """Close the connections and release the position file."""
        # Requests that take longer are abandoned: the position file says that they may have been sent.
        with contextlib.suppress(Exception):
            self._count_all(_CLOSE_SECONDS)
        super().close()
        self._calls.close()
        try:
            self._keep_counted()
        finally:
            self._file.close()

    def begin(self, mode: Literal["new", "resume", "restart"]) -> None:
        """See :meth:`ImportJob.begin`. An import whose rows may have been sent too long ago cannot be resumed."""
        super().begin(mode)
        if mode == "resume" and self._found:
            self._position = self._found
            self._moments = [(self._found.sent, self._found.since)]
            self._check_age()

    def _earlier(self) -> ImportState | None:
        found = self._file.read()
        if found and (found.url, found.project) != (self._server.url, self._project.id):
            if not found.state.finished:
                raise self._refuse(phrase(PhraseKind.OTHER_PROJECT, project=found.project, url=found.url))
            return None
        self._found = found
        return found.state if found else None

    def _reread(self) -> Project:
        return self._declared(self._calls)

    def _client(self, retry: Retry) -> Client:
        server = self._server
        try:
            return Client(
                *(server.url, server.project, server.secret),
                admin_token=server.admin_token,
                retry=retry,
                timeout=_ANSWER_SECONDS,
                compress=True,
                source=_source(self._job),
            )
        except ClientError as error:
            # An environment variable is invalid.
            raise self._refuse(phrase(PhraseKind.CLIENT_ERROR, detail=error)) from error

    def _declared(self, client: Client) -> Project:
        """Return the project with its schema."""
        try:
            shown, schema = client.declared()
            form = forms.SchemaForm.schema(msgspec.convert(schema, forms.SchemaForm))
            return Project(0, shown["id"], shown["name"], b"", b"", shown["timezone"], None, 0, form)
        except ClientError as error:
            raise self._failed(error) from error
        except (msgspec.ValidationError, KeyError) as error:
            raise self._refuse(phrase(PhraseKind.OTHER_VERSION, url=self._server.url, detail=error)) from error

    def _prepare(self) -> RecordEncoder:
        return RecordEncoder(self._project, None if self._dry_run else self._position.key)

    def _preview(self, block: Block) -> list[RowPreview]:
        numbers = block.numbers[:PREVIEW_ROWS]
        # Without keys, so that a row that was sent before does not return its earlier answer.
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
        if self._under_way:
            self._under_way[0][1].result()
        self._under_way.append((block, _in_thread(lambda: self._send(block))))
        if len(self._under_way) > 1:
            self._count_first()

    def _send(self, block: Block) -> list[Answer]:
        """Return the answers to a block's records. Raises Refused if a key was used before with another row."""
        answers = self._batch(block.records, dry_run=self._dry_run)
        for number, answer in zip(block.numbers, answers, strict=True):
            if error := _error(answer):
                self._check_key(number, error)
        return answers

    def _count_all(self, seconds: float | None = None) -> None:
        while self._under_way:
            self._count_first(seconds)

    def _count_first(self, seconds: float | None = None) -> None:
        """Count the answers to the block that was sent first. Raises TimeoutError after `seconds` seconds."""
        block, answers = self._under_way[0]
        # It is counted already if this was interrupted.
        if block.done > self.state.rows:
            self._count(block, answers.result(seconds))
        self._under_way.popleft()

    def _count(self, block: Block, answers: Sequence[Answer]) -> None:
        refused = [(number, reason_of(problems)) for number, problems in block.refused]
        effects: Counter[str] = Counter()
        for number, answer in zip(block.numbers, answers, strict=True):
            if isinstance(answer, RecordAnswer) and answer.effect is not None:
                effects[answer.effect] += 1
            else:
                error = _error(answer)
                assert error
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
            # The position is written before the next block is sent, which is at once if that block was already read.
            self._is_kept = False

    def _pause(self) -> None:
        self._count_all()
        self._keep_counted()

    def _keep_counted(self) -> None:
        if not self._is_kept:
            self._keep()

    def _begin(self) -> None:
        if not self._dry_run and not self.state.rows:
            self._keep()

    def _finish(self) -> None:
        self._count_all()
        self.state = replace(self.state, finished=True)
        if not self._dry_run:
            self._keep()

    def _mark(self, rows: int) -> None:
        """Record that rows up to this one may be sent from now on."""
        # Rows that an earlier process may have sent before it was killed keep their time.
        self._moments = [moment for moment in self._moments if moment[0] > self.state.rows] + [(rows, self._clock.now_ms())]
        sent, since = max(sent for sent, _ in self._moments), min(since for _, since in self._moments)
        self._position = replace(self._position, state=self.state, sent=sent, since=since)
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
        if age < 0:
            raise self._refuse(phrase(PhraseKind.SENT_IN_THE_FUTURE, first=first, last=last))
        hours, kept = f"{age / 3_600_000:.1f}", self._server.receipt_hours
        raise self._refuse(phrase(PhraseKind.SENT_TOO_LONG_AGO, first=first, last=last, hours=hours, kept=kept))

    def _check_key(self, number: int, error: ApiError) -> None:
        if any(problem.kind == ProblemKind.KEY_REUSED for problem in error.problems):
            raise self._refuse(phrase(PhraseKind.ROW_CHANGED, row=number))

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
        if isinstance(error, AuthenticationFailed) or (isinstance(error, ApiError) and error.status == 401):
            if self._server.admin_token:
                return self._refuse(phrase(PhraseKind.WRONG_TOKEN, url=url, detail=error.text))
            project = self._server.project
            return self._refuse(phrase(PhraseKind.WRONG_SECRET, url=url, project=project, detail=error.text))
        if isinstance(error, ApiError) and error.status in (404, 405):
            return self._refuse(phrase(PhraseKind.NOT_A_SERVER, url=url, detail=error.text))
        return self._refuse(phrase(PhraseKind.SERVER_ANSWERED, url=url, detail=error))


def _in_thread(call: Callable[[], list[Answer]]) -> Future[list[Answer]]:
    """Start a call in a thread that the process does not wait for when it is interrupted."""
    future: Future[list[Answer]] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="import", daemon=True).start()
    return future


def _members(record: bytes) -> dict[str, Any]:
    members = decode_object(record)
    assert not isinstance(members, Problem)
    return members


def _error(answer: Answer) -> ApiError | None:
    return answer if isinstance(answer, ApiError) else answer.error


def _reason(error: ApiError) -> str:
    """Return why the server refused a record."""
    return "; ".join(problem.text for problem in error.problems) or error.text


def _source(file: str) -> str:
    """Return the source that the history of users shows: `import crm.csv`. Other characters than ASCII become `?`."""
    name = "".join(character if " " <= character <= "~" else "?" for character in PurePath(file).name)
    return f"import {name}"[:100].rstrip()
