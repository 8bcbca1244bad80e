"""How an import gets the blocks of its file: from a process that reads it, or by reading it here if it is small."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, Protocol, Self

from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.schema import Project
from usertable.files.block import Block, Head
from usertable.files.options import ReadOptions
from usertable.files.reader_process import ReaderProcess
from usertable.files.readers import open_source

DIRECT_BYTES = 256 * 1024
"""Bytes up to which a file is read here. At that size, 6,000 rows of CSV, it takes 40 ms of CPU. A process of its own needs
170 ms before its first row, 60 ms of them for Arrow."""


class Reader(Protocol):
    """Reads the rows that are left of a file, within a `with` block."""

    unseen: set[str]
    """When all blocks were taken, and none skipped: the columns that are mapped and were in no row."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...

    @property
    def is_ahead(self) -> bool:
        """Whether the next block comes at once."""
        ...

    def blocks(self) -> Iterator[tuple[Head, Block]]:
        """The blocks that are left, each with what the file begins with.

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
    """The reader that suits the file.

    A Parquet file always gets a process: one that is damaged can crash the library that reads it. So does a compressed file,
    which may be large.

    Args:
        stream: the file, unbuffered; read from where it is.
        head: what was read from it already, if it cannot seek.
        skip: rows that are passed over.
        digest: that of the last block that was taken, which those rows must have.
        prepare: what is done with each block where it is read; goes to a process by pickle.
    """
    if options.format != "parquet" and not options.compression and _is_small(stream):
        return DirectReader(stream, options, project, skip, digest, prepare)
    return ReaderProcess(stream, head, options, project, skip, digest, prepare)


def _is_small(stream: IO[bytes]) -> bool:
    """Whether it is a file, no pipe or device, of which little is left."""
    found = os.fstat(stream.fileno())
    return stat.S_ISREG(found.st_mode) and found.st_size - stream.tell() <= DIRECT_BYTES


class DirectReader:
    """Reads a file here, row by row, without Arrow. See :func:`open_reader`."""

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
            raise refusal(ProblemKind.IMPORT_FILE, reason=error.strerror or str(error)) from error
