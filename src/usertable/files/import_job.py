"""The import of one file into one project: the part that all targets share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Literal

from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.domain.errors import Problem, ProblemKind, Refused, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Project
from usertable.domain.values import Value
from usertable.files.block import Block
from usertable.files.options import ReadOptions
from usertable.files.reader import Reader, open_reader
from usertable.files.reasons import ReasonCounts, ReasonGroup
from usertable.files.rejects import Rejects
from usertable.wire.messages import text as text_of

PREVIEW_ROWS = 5
PROBLEMS_SHOWN = 20
PATIENCE_SECONDS = 60.0
"""Seconds for which an import retries while the store is down."""


@dataclass(frozen=True, slots=True)
class ImportState:
    """The progress of an import. Stored together with the rows that it counts."""

    options: str
    """Detects whether an import is resumed with other options."""
    rows: int = 0
    digest: str = ""
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    cut: int = 0
    """Number of times that were given with a higher precision than a millisecond."""
    rejects: int = 0
    """Bytes of the file of refused rows."""
    finished: bool = False


@dataclass(frozen=True, slots=True)
class RowPreview:
    """A row as it would be stored: its number, and why it is refused, or its user and the user's attributes afterwards.

    A target that does not know the attributes afterwards shows the row's own.
    """

    number: int
    reason: str = ""
    user: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)


class SchemaChanged(Exception):
    pass


class ImportJob(ABC):
    """The import of one file into one project. At any moment, each row has been imported once or not at all.

    The targets implement this: :class:`~usertable.files.import_to_store.StoreImport` and
    :class:`~usertable.files.import_to_api.ApiImport`.

    Args:
        stream: the file, open for reading and unbuffered. Its descriptor is passed to the process that reads it.
        job: the import's name, for messages.
        register: create users and identifier values that do not exist.
        rejects: file for refused rows, to be fixed and imported again. Created before the first row is imported, and
            removed at the end if it is empty.
        head: bytes already read from the stream, if it cannot seek.
        dry_run: validate and decide every row, but store nothing.
    """

    def __init__(
        self,
        project: Project,
        stream: IO[bytes],
        options: ReadOptions,
        *,
        job: str,
        register: bool,
        rejects: Path,
        head: bytes = b"",
        dry_run: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._project = project
        self._stream = stream
        self._start = stream.tell() if stream.seekable() else 0
        self._head = head
        self._read_options = options
        self._job = job
        self._register = register
        self._dry_run = dry_run
        self._clock = clock
        self._options = options_digest(options, register=register)
        self.state = ImportState(self._options)
        self.unseen: set[str] = set()
        """Mapped columns that no row of NDJSON had, after the whole file was read."""
        self.problems: list[tuple[int, str]] = []
        """For a dry run: the first refused rows, and why."""
        schema = project.schema
        self._reasons = ReasonCounts({*schema.attributes, *(identifier.name for identifier in schema.identifiers)})
        self._rejects = Rejects(rejects, options, self._refuse)
        self._refused_before = 0
        """Bytes of the file of refused rows that an earlier process wrote."""

    # implemented by a target

    @abstractmethod
    def _earlier(self) -> ImportState | None:
        """Return the state of an earlier import with the same name."""

    @abstractmethod
    def _reread(self) -> Project:
        """Return the project as it is now."""

    @abstractmethod
    def _preview(self, block: Block) -> list[RowPreview]:
        """Return the first rows of a block as they would be stored."""

    @abstractmethod
    def _import_block(self, block: Block) -> None:
        """Import a block's rows, and advance the state."""

    @abstractmethod
    def _begin(self) -> None:
        """Record the import, before a row is imported or a refused one written."""

    @abstractmethod
    def _finish(self) -> None:
        """Record that no rows are left."""

    def _pause(self) -> None:  # noqa: B027
        """Make the state durable if it is not: the next rows may take long to arrive."""

    def _prepare(self) -> Callable[[Block], Block] | None:
        """Return what the process that reads does with each block; see :class:`ReaderProcess`."""
        return None

    # shared by all targets

    @property
    def project(self) -> Project:
        """The project that the rows are validated against."""
        return self._project

    def begin(self, mode: Literal["new", "resume", "restart"]) -> None:
        """Set where to begin, and open the files that the import writes.

        Args:
            mode: `new`: at the first row. `resume`: after the last row that an earlier import imported; at the first row if
                there was none. `restart`: at the first row, even if some were imported.

        Raises:
            Refused: an earlier import was interrupted and `mode` is new; it was begun with other options; the rejects file
                cannot be written, already has rows, or lacks rows that were written to it.
        """
        if self._dry_run:
            return
        earlier = self._earlier()
        if mode == "resume" and earlier:
            if earlier.options != self._options:
                raise self._refuse(phrase(PhraseKind.OTHER_OPTIONS))
            self.state = earlier
            if not earlier.finished:
                self._rejects.open(earlier.rejects)
                self._refused_before = earlier.rejects
            return
        if mode == "new" and earlier and not earlier.finished:
            raise self._refuse(phrase(PhraseKind.INTERRUPTED, rows=earlier.rows))
        self._rejects.open()

    def reasons(self) -> list[ReasonGroup]:
        """Why rows were refused; for the whole import, once it is finished."""
        return self._reasons.groups()

    def close(self) -> None:
        """Close what :meth:`begin` opened."""
        self._rejects.close()

    def _refuse(self, reason: Phrase) -> Refused:
        return refusal(ProblemKind.IMPORT_JOB, job=self._job, reason=reason)

    def run(self, progress: Callable[[ImportState, int], None], preview: Callable[[list[RowPreview]], None]) -> ImportState:
        """Import all remaining rows. If the import was finished before, check that the file is the same, and import nothing.

        Args:
            progress: called after every block with the state and the number of bytes read.
            preview: called with the first rows before any is imported.

        Raises:
            Refused: the file cannot be read, or is not the one that the import was begun with. Rows imported before stay,
                and the import can be resumed.
            Unavailable: the store was down for too long. The import can be resumed.
        """
        if self.state.finished:
            self._check_finished()
            return self.state
        shown: Callable[[list[RowPreview]], None] | None = preview
        while True:
            with self._reader() as reader:
                try:
                    for head, block in reader.blocks():
                        self._rejects.head = head
                        if shown:
                            shown(self._preview(block))
                            shown = None
                            self._begin()
                        self._import_block(block)
                        progress(self.state, block.position)
                        if not reader.is_ahead:
                            self._pause()
                    self.unseen = reader.unseen
                    self._finish()
                    if self._refused_before:
                        for reason in self._rejects.reasons(self._refused_before):
                            self._reasons.add(reason)
                    return self.state
                except SchemaChanged:
                    pass
            if not self._stream.seekable():
                raise self._refuse(phrase(PhraseKind.PROJECT_EDITED))
            self._stream.seek(self._start)
            self._project = self._reread()

    def _reader(self) -> Reader:
        """Return the reader of the remaining rows."""
        state = self.state
        where = (state.rows, state.digest)
        return open_reader(self._stream, self._head, self._read_options, self._project, *where, self._prepare())

    def _check_finished(self) -> None:
        """Check that the file still ends with the last row that was imported.

        Raises:
            Refused: it does not, or its rows up to there differ.
        """
        with self._reader() as reader:
            if next(reader.blocks(), None) is not None:
                raise self._refuse(phrase(PhraseKind.MORE_ROWS, rows=self.state.rows))

    def _shown(self, block: Block, shown: Iterable[RowPreview]) -> list[RowPreview]:
        """Return the first rows of a block: those that the target shows, and those that the reader refused."""
        found = [RowPreview(number, reason_of(problems)) for number, problems in block.refused[:PREVIEW_ROWS]]
        first = sorted([*found, *shown], key=lambda row: row.number)[:PREVIEW_ROWS]
        return [replace(row, number=self._rejects.first_number(block, row.number)) for row in first]

    def _note(self, block: Block, refused: Sequence[tuple[int, str]]) -> None:
        """Remember why rows of an imported block were refused."""
        for _, reason in refused:
            self._reasons.add(reason)
        if self._dry_run:
            shown = refused[: PROBLEMS_SHOWN - len(self.problems)]
            self.problems += [(self._rejects.first_number(block, number), reason) for number, reason in shown]

    def _counted(self, block: Block, refused: Sequence[tuple[int, str]], **counts: int) -> ImportState:
        """Return the state after a block, whose refused rows are then on disk.

        Args:
            refused: all of them, with the reasons, by number.
            counts: how much each counter increases.
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
        if self._dry_run:
            return after
        return replace(after, rejects=self._rejects.keep(before.rejects, block, refused))


def options_digest(options: ReadOptions, *, register: bool) -> str:
    """Return a digest of the options, to detect a resumption with others. It is stored, so its form must not change."""
    # The order of a set's texts differs in every process.
    how = replace(options, rows=0, nulls=frozenset(sorted(options.nulls)[:1]))
    form = repr((how, sorted(options.columns.items()), sorted(options.nulls), register))
    later = {f.name: getattr(options, f.name) for f in fields(options) if not f.repr and f.name != "compression"}
    form += "".join(f" {name}={value!r}" for name, value in later.items() if value)
    return hashlib.blake2b(form.replace("ReadOptions(", "Reading(", 1).encode(), digest_size=16).hexdigest()


def reason_of(problems: Iterable[Problem]) -> str:
    """Return why a row is refused."""
    return "; ".join(text_of(problem, "en") for problem in problems)
