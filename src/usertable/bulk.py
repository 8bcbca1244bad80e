"""Import and export: the jobs that move a whole user table into a store and out of it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from usertable.domain.condition import Condition
from usertable.domain.errors import Kind, Problem, Refused, StoreDown, refuse
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import Value, show
from usertable.folders import file_in_memory, sync_folder
from usertable.store.encoding import decode_attributes
from usertable.store.protocol import Snapshot
from usertable.store.records import Batch, IncomingRows, JobMoved, Page, SchemaStale, SnapshotRow, Taken
from usertable.wire.columns import REASON, ROW, Format, Reading
from usertable.wire.messages import text as text_of
from usertable.wire.native import masked_value
from usertable.wire.rejects import reject_line, reject_row, rejects_head
from usertable.wire.rows import Block, Head, originals
from usertable.wire.table import Identifiers, Unfit, open_table, unfit_numbers

if TYPE_CHECKING:
    from usertable.app.service import Service

PREVIEW_ROWS = 5
PROBLEMS_SHOWN = 20
PATIENCE_SECONDS = 60.0
"""An import tries again for so long when the store is down."""
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class State:
    """How far an import came. It is kept in the store, with the rows that it counts."""

    options: str
    """Tells whether the import is carried on as it was begun."""
    rows: int = 0
    digest: str = ""
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    cut: int = 0
    """Moments that were given more finely than a millisecond."""
    rejects: int = 0
    """Bytes of the file of refused rows."""
    finished: bool = False


_state_decoder = msgspec.json.Decoder(State)


@dataclass(frozen=True, slots=True)
class Preview:
    """A row as it would be stored: its number, and why it is refused, or whose it is and that user's attributes after it.

    A target that cannot tell the attributes after it shows the row's own.
    """

    number: int
    reason: str = ""
    user: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)


class _SchemaChanged(Exception):
    pass


class Import(ABC):
    """An import of one file into one project, exact at any moment: a row is taken once or not at all.

    How that is kept is the target's matter: :class:`StoreImport`, and :class:`usertable.bulk_api.ApiImport`.

    Args:
        stream: the file, open for reading; its descriptor is handed to the process that reads it.
        job: the import's name, for messages.
        register: make users and identifier values that are not there.
        rejects: where refused rows go, to be fixed and imported again. The file is made before the first row is taken,
            and removed at the end if it is empty.
        head: what was read from the stream already, if it cannot seek.
        dry: check and decide every row, and keep nothing.
    """

    def __init__(
        self,
        project: Project,
        stream: IO[bytes],
        reading: Reading,
        *,
        job: str,
        register: bool,
        rejects: Path,
        head: bytes = b"",
        dry: bool = False,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._project = project
        self._stream = stream
        self._start = stream.tell() if stream.seekable() else 0
        self._head = head
        self._reading = reading
        self._job = job
        self._register = register
        self._dry = dry
        self._clock = clock
        how = repr((replace(reading, rows=0), sorted(reading.columns.items()), sorted(reading.nulls), register))
        self._options = hashlib.blake2b(how.encode(), digest_size=16).hexdigest()
        self.state = State(self._options)
        self.unseen: set[str] = set()
        """Columns that are mapped, and that no row of NDJSON had; of a file that was read as a whole."""
        self.problems: list[tuple[int, str]] = []
        """Of a dry run: the first refused rows, and why."""
        self._rejects = Rejects(rejects, reading, self._refuse)

    # what a target does

    @abstractmethod
    def _earlier(self) -> State | None:
        """How far an earlier import of the same name came."""

    @abstractmethod
    def _reread(self) -> Project:
        """The project as it is now."""

    @abstractmethod
    def _preview(self, block: Block) -> list[Preview]:
        """The first rows of a block as they would be stored."""

    @abstractmethod
    def _take(self, block: Block) -> None:
        """Take a block's rows, and move the state."""

    @abstractmethod
    def _begin(self) -> None:
        """Make the import known, before a row is taken or a refused one written."""

    @abstractmethod
    def _finish(self) -> None:
        """Note that no rows are left."""

    # what all of them share

    @property
    def project(self) -> Project:
        """The project as the rows are checked against."""
        return self._project

    def begin(self, mode: Literal["new", "resume", "restart"]) -> None:
        """Say where to begin, and open what the import writes beside its rows.

        Args:
            mode: `new`: at the first row. `resume`: after the last row that an earlier import took; at the first row if
                there was none. `restart`: at the first row, although some were taken.

        Raises:
            Refused: an earlier import was interrupted and `mode` is new; it was begun with other options; the rejects file
                cannot be written, has rows already, or lacks rows that were written to it.
        """
        if self._dry:
            return
        earlier = self._earlier()
        if mode == "resume" and earlier:
            if earlier.options != self._options:
                raise self._refuse("it was begun with other options; give the same to --resume")
            self.state = earlier
            if not earlier.finished:
                self._rejects.open(earlier.rejects)
            return
        if mode == "new" and earlier and not earlier.finished:
            raise self._refuse(
                f"it was interrupted after row {earlier.rows}; resume it with --resume, or import all rows again with"
                " --restart"
            )
        self._rejects.open()

    def close(self) -> None:
        """Close what :meth:`begin` opened."""
        self._rejects.close()

    def _refuse(self, reason: str) -> Refused:
        return refuse(Kind.IMPORT_JOB, job=self._job, reason=reason)

    def run(self, progress: Callable[[State, int], None], preview: Callable[[list[Preview]], None]) -> State:
        """Take all rows that are left. If the import was finished before, look whether the file is the same, and take none.

        Args:
            progress: told the state, and how many bytes of the file were read, after every block.
            preview: told the first rows before any is taken.

        Raises:
            Refused: the file cannot be read, or is another one than was begun with. What was taken before stays, and the
                import can be resumed.
            Unavailable: the store was down for too long. The import can be resumed.
        """
        if self.state.finished:
            self._check_finished()
            return self.state
        shown: Callable[[list[Preview]], None] | None = preview
        while True:
            with self._blocks() as blocks:
                try:
                    for head, block in blocks:
                        self._rejects.head = head
                        if shown:
                            shown(self._preview(block))
                            shown = None
                            self._begin()
                        self._take(block)
                        progress(self.state, block.position)
                    self._finish()
                    return self.state
                except _SchemaChanged:
                    pass
            if not self._stream.seekable():
                raise self._refuse("the project was changed meanwhile; bring the same rows again, with --resume")
            self._stream.seek(self._start)
            self._project = self._reread()

    def _blocks(self) -> AbstractContextManager[Iterator[tuple[Head, Block]]]:
        """The blocks that are left."""
        state = self.state
        return reading(self._stream, self._head, self._reading, self._project, state.rows, state.digest, self.unseen.update)

    def _check_finished(self) -> None:
        """Whether the file still ends with the last row that was taken.

        Raises:
            Refused: it does not, or its rows up to there are others.
        """
        with self._blocks() as blocks:
            if next(blocks, None) is not None:
                raise self._refuse(
                    f"it was finished with row {self.state.rows}, and the file has more rows now; import those as a separate"
                    f" file, or omit --resume to import all rows again"
                )

    def _shown(self, block: Block, shown: Iterable[Preview]) -> list[Preview]:
        """The first rows of a block: those that the target shows, and those that the reader refused."""
        found = [Preview(number, reasons(problems)) for number, problems in block.refused[:PREVIEW_ROWS]]
        return sorted([*found, *shown], key=lambda row: row.number)[:PREVIEW_ROWS]

    def _counted(self, block: Block, refused: Sequence[tuple[int, str]], **counts: int) -> State:
        """The state after a block; its refused rows are on the disk then.

        Args:
            refused: all of them, with the reasons, by number.
            counts: how many more there are of each sort.
        """
        before = self.state
        more = {name: getattr(before, name) + count for name, count in counts.items()}
        cut = sum(block.cut.values())
        if cut:
            cut -= sum(block.cut.get(number, 0) for number, _ in refused)
        after = replace(
            before,
            rows=block.done,
            digest=block.digest,
            refused=before.refused + len(refused),
            cut=before.cut + cut,
            **more,
        )
        if self._dry:
            return after
        return replace(after, rejects=self._rejects.keep(before.rejects, block, refused))


class StoreImport(Import):
    """An import into a store: rows, and how far the import came, become durable in one transaction, a block at a time.

    The refused rows of a block are on the disk before that transaction ends, and how much of their file counts is part of
    it. The same job in the same project finds it again.
    """

    def __init__(self, service: Service, project_id: str, stream: IO[bytes], reading: Reading, **settings: Any) -> None:
        super().__init__(service.project(project_id), stream, reading, **settings)
        self._service = service
        self._stored = service.job(self._project, self._job)

    def _earlier(self) -> State | None:
        return _state_decoder.decode(self._stored) if self._stored else None

    def _reread(self) -> Project:
        return self._service.project(self._project.id)

    def _preview(self, block: Block) -> list[Preview]:
        batch = self._batch(block, block.rows.first(PREVIEW_ROWS))
        batch.dry = True
        taken = self._patiently(batch, lambda taken: "")
        refused = dict(taken.refused)
        after = iter(taken.shown)
        declared, zone = self._project.schema.attributes, self._project.zone
        rows = []
        for place, number in enumerate(block.numbers[:PREVIEW_ROWS]):
            if place in refused:
                rows.append(Preview(number, reasons(refused[place])))
            else:
                cuid, attributes = next(after)
                values = {name: show(value, declared[name].type, zone) for name, value in attributes.items()}
                rows.append(Preview(number, "", f"cuid {cuid}", values))
        return self._shown(block, rows)

    def _batch(self, block: Block | None, rows: IncomingRows) -> Batch:
        return Batch(
            self._project.number,
            self._project.version,
            rows,
            block.names if block else frozenset(),
            self._clock(),
            self._register,
            self._job,
            self._stored,
            self._dry,
        )

    def _take(self, block: Block) -> None:
        after = self.state
        refused: list[tuple[int, str]] = []

        def note(taken: Taken) -> str:
            nonlocal after, refused
            found = block.refused + [(block.numbers[place], problems) for place, problems in taken.refused]
            refused = sorted((number, reasons(problems)) for number, problems in found)
            after = self._counted(block, refused, created=taken.created, changed=taken.changed, unchanged=taken.unchanged)
            return _encoder.encode(after).decode()

        batch = self._batch(block, block.rows)
        taken = self._patiently(batch, note)
        if self._dry:
            note(taken)
            self.problems += refused[: PROBLEMS_SHOWN - len(self.problems)]
        self.state = after

    def _begin(self) -> None:
        # Before a refused row is written: a file of them that is found later belongs to a job that is known.
        if not self._dry and not self.state.rows:
            self._patiently(self._batch(None, IncomingRows.of([])), lambda taken: _encoder.encode(self.state).decode())

    def _finish(self) -> None:
        after = replace(self.state, finished=True)
        if not self._dry:
            self._patiently(self._batch(None, IncomingRows.of([])), lambda taken: _encoder.encode(after).decode())
        self.state = after

    def _patiently(self, batch: Batch, note: Callable[[Taken], str]) -> Taken:
        """Take a batch, and look whether it was taken when the store cannot tell."""
        found: Taken | None = None
        wanted: str | None = None

        def noted(taken: Taken) -> str:
            nonlocal found, wanted
            found, wanted = taken, note(taken)
            return wanted

        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                result = self._service.import_batch(batch, noted)
            except StoreDown:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
                continue
            if type(result) is JobMoved and wanted is not None and result.state == wanted:
                # The commit whose answer was lost had been done.
                assert found is not None
                result = found
            if type(result) is SchemaStale:
                raise _SchemaChanged
            if type(result) is JobMoved:
                raise self._refuse("another process goes on with it at the same time")
            assert isinstance(result, Taken)
            if not batch.dry:
                self._stored = wanted
            return result


def reasons(problems: Iterable[Problem]) -> str:
    """Why a row is refused."""
    return "; ".join(text_of(problem, "en") for problem in problems)


class Rejects:
    """The file of refused rows: byte for byte as they stood in the import's file, with their number and what is wrong.

    CSV rows go to a CSV file, those of other formats to NDJSON.

    Args:
        refuse: makes an error of a reason.
    """

    def __init__(self, path: Path, reading: Reading, refuse: Callable[[str], Refused]) -> None:
        self.path = path
        self.head = Head()
        self._reading = reading
        self._refuse = refuse
        self._stream: IO[bytes] | None = None

    def open(self, size: int | None = None) -> None:
        """Make the file if it is not there, and hold it until it is closed. Its name is durable when this returns.

        Args:
            size: of an import that is resumed: how many bytes were written to it. What follows them belongs to rows that
                were not taken.

        Raises:
            Refused: it cannot be written, another process holds it, it has fewer bytes, or if none is resumed, any.
        """
        path, other = self.path, "name another with --rejects"
        try:
            if path.exists() and not path.is_file():
                raise self._refuse(f"{path} is no regular file, so refused rows cannot be kept in it; {other}")
            self._stream = hold(path)
            if self._stream:
                sync_folder(path.parent)
        except OSError as error:
            why = error.strerror or str(error)
            raise self._refuse(f"the file for refused rows, {path}, cannot be written: {why}; {other}") from error
        if self._stream is None:
            raise self._refuse(f"the file for refused rows, {path}, is in use by another process; {other}")
        found = os.fstat(self._stream.fileno()).st_size
        if size is None:
            if not found:
                return
            self.close()
            raise self._refuse(f"the file for refused rows, {path}, is there already; move it, or {other}")
        if found < size:
            self.close()
            raise self._refuse(
                f"the file for refused rows, {path}, has {found} bytes, but {size} were written to it; restore it. If it is"
                f" lost, find its rows among those already read, and import the rows after those as a separate file"
            )

    def keep(self, size: int, block: Block, refused: Sequence[tuple[int, str]]) -> int:
        """Cut the file to that size, add rows with their reasons, and flush it to the disk; its size then."""
        stream = self._stream
        assert stream is not None
        descriptor = stream.fileno()
        if not is_named(stream, self.path):
            raise self._refuse(
                f"the file for refused rows, {self.path}, was deleted or replaced; restore it, and resume with --resume"
            )
        if not refused and os.fstat(descriptor).st_size == size:
            return size
        rows = originals(block, self._reading, [number for number, _ in refused]) if refused else []
        lines = [self._line(number, reason, row) for (number, reason), row in zip(refused, rows, strict=True)]
        if not size and lines and self._reading.format == "csv":
            lines.insert(0, rejects_head(self.head))
        elif not size and self._reading.format == "ndjson":
            lines.insert(0, self.head.encoding.mark)
        stream.truncate(size)
        stream.seek(size)
        stream.write(b"".join(lines))
        stream.flush()
        os.fsync(descriptor)
        return stream.tell()

    def close(self) -> None:
        """Let go of the file; one without rows goes away."""
        if self._stream:
            if not os.fstat(self._stream.fileno()).st_size and is_named(self._stream, self.path):
                self.path.unlink()
            self._stream.close()
            self._stream = None

    def _line(self, number: int, reason: str, row: Any) -> bytes:
        if self._reading.format == "csv":
            return reject_row(row, self.head, number, reason)
        if self._reading.format == "ndjson":
            return reject_line(row, self.head.encoding, number, reason)
        return _encoder.encode({ROW: number, REASON: reason} | row) + b"\n"


_FRUGAL = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Arrow's own allocator reserves a gigabyte of addresses, and the system's some for every thread."""


@contextlib.contextmanager
def reading(
    stream: IO[bytes],
    head: bytes,
    how: Reading,
    project: Project,
    skip: int,
    digest: str,
    ended: Callable[[set[str]], None] = lambda unseen: None,
) -> Iterator[Iterator[tuple[Head, Block]]]:
    """The blocks of a file, each with what the file begins with, read by a process of their own.

    Args:
        head: what stands before the rest of the stream.
        ended: told at the end which columns are mapped and were in no row.
    """
    ours, theirs = socketpair()
    file = stream.fileno()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "usertable.wire.reading", str(theirs.fileno())],
            pass_fds=[theirs.fileno(), file],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_FRUGAL},
        )
    connection = Connection(ours.detach())
    received: queue.Queue[bytes | None] = queue.Queue(1)
    stopped = threading.Event()

    def receive() -> None:
        # A thread, so that the reader does not wait for the store while its message passes through the socket.
        try:
            while not stopped.is_set():
                received.put(connection.recv_bytes())
        except (EOFError, OSError):
            received.put(None)

    def blocks() -> Iterator[tuple[Head, Block]]:
        head = Head()
        while message := received.get():
            what, content = pickle.loads(message)
            del message
            if what == "head":
                head = content
            elif what == "block":
                yield head, content
            elif what == "end":
                ended(content)
                return
            elif what == "refused":
                raise Refused(content)
            elif what == "failed":
                raise refuse(Kind.IMPORT_FILE, reason=content)
            else:
                raise RuntimeError(f"in the reading process:\n{content}")
        raise refuse(Kind.IMPORT_FILE, reason=_ended(process))

    thread = threading.Thread(target=receive, name="receive", daemon=True)
    try:
        connection.send_bytes(pickle.dumps((file, head, how, project, skip, digest)))
        thread.start()
        yield blocks()
    finally:
        stopped.set()
        process.kill()
        process.wait()
        while thread.is_alive():
            with contextlib.suppress(queue.Empty):
                received.get(timeout=0.05)
        connection.close()


def _ended(reader: subprocess.Popen[bytes]) -> str:
    """Why the process that reads a file said nothing more."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if (code := reader.wait(5)) < 0 and code != -signal.SIGKILL:
            return f"the process that read it ended with {signal.Signals(-code).name}; is the file damaged?"
    return "the process that read it was killed; is there too little memory?"


def spooled(stream: IO[bytes]) -> IO[bytes]:
    """A copy of a stream in a file without a name, for what must be sought in or handed on.

    It is in the folder for temporary files, or in memory if no such folder can be written.
    """
    copy: IO[bytes]
    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115
    except FileNotFoundError:
        copy = file_in_memory()
    shutil.copyfileobj(stream, copy, 2**20)
    copy.flush()
    copy.seek(0)
    return copy


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export."""

    users: int
    as_text: frozenset[str] = frozenset()
    """NUMBERs that Parquet's DECIMAL(38, 18) could not hold, so that they were written as text."""


def export(
    snapshot: Snapshot,
    stream: IO[bytes],
    format: Format,
    attributes: Sequence[Attribute],
    conditions: Sequence[Condition],
    progress: Callable[[int], None],
    *,
    identifiers: Identifiers | None = None,
    escape_formulas: bool = False,
) -> Exported:
    """Write the users that meet all conditions. A Parquet's stream can seek.

    Args:
        progress: told how many users were looked at so far.
        identifiers: which of them, and how; None for all, in full.
    """
    identifiers = identifiers or Identifiers(snapshot.project.schema.identifiers)
    as_text: frozenset[str] = frozenset()
    while True:
        try:
            with contextlib.ExitStack() as stack:
                table = open_table(
                    stream,
                    format,
                    snapshot.project,
                    attributes,
                    identifiers,
                    escape_formulas=escape_formulas,
                    as_text=as_text,
                )
                stack.callback(table.close)
                looked_at = users = 0
                for page in snapshot.pages():
                    looked_at += len(page)
                    kept = _meeting(page, conditions) if conditions else page
                    if kept:
                        users += len(kept)
                        table.write(_masked(kept, identifiers.masked) if identifiers.masked else kept)
                    progress(looked_at)
            return Exported(users, as_text)
        except Unfit:
            found = unfit_numbers((row for page in snapshot.pages() for row in page), attributes)
            if not found - as_text:
                raise
            as_text = found
            stream.seek(0)
            stream.truncate()


def _masked(page: Page, names: Set[str]) -> Page:
    """The page with the values of these identifiers cut, as lists show them."""
    values = {
        cuid: {name: [masked_value(v) for v in found] if name in names else found for name, found in of_user.items()}
        for cuid, of_user in page.values.items()
    }
    return Page(page.cuids, page.lines, values)


def _meeting(page: Page, conditions: Sequence[Condition]) -> Page:
    """The users of a page that meet all conditions; none of them is no page to write."""
    rows = [row for row in page if _meets(row, conditions)]
    return Page([cuid for cuid, _, _ in rows], b"\n".join(line for _, line, _ in rows), page.values)


def _meets(row: SnapshotRow, conditions: Sequence[Condition]) -> bool:
    profile = Profile(0, 0, 0, decode_attributes(row[1]), {})
    return all(condition.met(profile) for condition in conditions)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there, durable and whole, when the block is left; if the block raises, what was there before."""
    # Its name is known before it is there, so that a signal finds no moment in which it would be left behind.
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b", buffering=2**20) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def hold(path: Path) -> IO[bytes] | None:
    """Open a file, made if it is not there, which no other process holds until it is closed; None if one does."""
    while True:
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        if not lock(stream):
            return None
        # Whoever held it may have replaced it, or taken it away, since it was opened.
        if is_named(stream, path):
            return stream
        stream.close()


def lock(stream: IO[bytes]) -> bool:
    """Hold an open file until it is closed; if another process holds it, close it and say no."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    return True


def is_named(stream: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        there, ours = path.stat(), os.fstat(stream.fileno())
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
