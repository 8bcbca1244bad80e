"""How an import gets the blocks of its file: from a process that reads it, or directly if it is small."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, Protocol, Self

from usertable.domain.errors import ProblemKind, phrase, refusal
from usertable.domain.phrases import PhraseKind
from usertable.domain.schema import Project
from usertable.files.block import Block, Head
from usertable.files.options import ReadOptions
from usertable.files.reader_process import ReaderProcess
from usertable.files.readers import open_source

DIRECT_BYTES = 256 * 1024
"""Bytes up to which a file is read in this process. At that size, 6,000 rows of CSV, it takes 40 ms of CPU. A process needs
170 ms before its first row, 60 ms of them for Arrow."""


class Reader(Protocol):
    """Reads the remaining rows of a file, within a `with` block."""

    unseen: set[str]
    """After all blocks were taken and none skipped: the mapped columns that occurred in no row."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...

    @property
    def is_ahead(self) -> bool:
        """Whether the next block is available at once."""
        ...

    def blocks(self) -> Iterator[tuple[Head, Block]]:
        """Yield the remaining blocks, each with the file's head.

        Raises:
            Refused: the file cannot be read.
        """
        ...


def open_reader(
    stream: IO[bytes],
    head: bytes,
    options: ReadOptions,
    project: Project,
    skip: int,
    digest: str,
    prepare: Callable[[Block], Block] | None,
) -> Reader:
    """Return the right reader for the file.

    A Parquet file is always read in another process, because a damaged one can crash the library that reads it. So is a
    compressed file, which may be large.

    Args:
        stream: the file, unbuffered; read from its current position.
        head: bytes already read from it, if it cannot seek.
        skip: number of rows to skip.
        digest: the digest of the last imported block, which the skipped rows must have.
        prepare: called with each block where it is read; pickled to a process.
    """
    if options.format != "parquet" and not options.compression and _is_small(stream):
        return DirectReader(stream, options, project, skip, digest, prepare)
    return ReaderProcess(stream, head, options, project, skip, digest, prepare)


def _is_small(stream: IO[bytes]) -> bool:
    """Return whether it is a file, not a pipe or device, with few bytes left."""
    found = os.fstat(stream.fileno())
    return stat.S_ISREG(found.st_mode) and found.st_size - stream.tell() <= DIRECT_BYTES


class DirectReader:
    """Reads a file in this process, row by row, without Arrow. See :func:`open_reader`."""

    is_ahead = True

    def __init__(
        self,
        stream: IO[bytes],
        options: ReadOptions,
        project: Project,
        skip: int,
        digest: str,
        prepare: Callable[[Block], Block] | None,
    ) -> None:
        self.unseen: set[str] = set()
        self._stream = stream
        self._options = options
        self._project = project
        self._skip = skip
        self._digest = digest
        self._prepare = prepare

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def blocks(self) -> Iterator[tuple[Head, Block]]:
        try:
            with os.fdopen(os.dup(self._stream.fileno()), "rb", buffering=0) as raw, io.BufferedReader(raw, 2**20) as stream:
                source = open_source(stream, self._options, self._project, arrow=False)
                for block in source.blocks(self._skip, self._digest):
                    yield source.head, self._prepare(block) if self._prepare else block
                self.unseen = set() if self._skip else source.unseen
        except OSError as error:
            raise refusal(
                ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.SYSTEM_ERROR, detail=error.strerror or error)
            ) from error
