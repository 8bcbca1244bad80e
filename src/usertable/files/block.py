"""What an import reads: rows of a file, as users and validated values.

A file is read in blocks of some thousand rows, in order, with memory for one block. Each row is either valid, in the form
that a store accepts (:data:`~usertable.store.records.ImportRow`), or has a list of all its problems. A block also contains
its rows as they are in the file, so that a refused row can be written out to be fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from usertable.domain.errors import Problem, ProblemKind, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.files.encodings import Encoding
from usertable.files.options import ReadOptions
from usertable.store.records import ImportRow, ImportRows


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A valid row."""

    row: ImportRow
    cut: int
    """Number of its times that were given with a higher precision than is stored."""


@dataclass(frozen=True, slots=True)
class ParsedRows:
    """Some parsed rows of a file."""

    numbers: Sequence[int]
    """Numbers of the valid rows."""
    rows: ImportRows
    names: frozenset[str]
    """The attributes of which a row has a value."""
    refused: list[tuple[int, list[Problem]]]
    """By number."""
    cut: Mapping[int, int] = field(default_factory=dict)
    """By number of a valid row: number of its times that were given with a higher precision than is stored."""

    @classmethod
    def of(cls, rows: Iterable[tuple[int, ParsedRow | list[Problem] | None]], names: Set[str]) -> ParsedRows:
        """Collect rows by number, each of which is valid, refused, or None for an empty row.

        Args:
            names: the attributes of which the rows have values; may be filled while `rows` is iterated.
        """
        good: dict[int, ImportRow] = {}
        refused: list[tuple[int, list[Problem]]] = []
        cut: dict[int, int] = {}
        for number, found in rows:
            if isinstance(found, ParsedRow):
                good[number] = found.row
                if found.cut:
                    cut[number] = found.cut
            elif found is not None:
                refused.append((number, found))
        return cls(list(good), ImportRows.of(good.values()), frozenset(names), refused, cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(ParsedRows):
    """Rows in the order of the file. The first row of a file has number 1; a CSV's header has none."""

    first: int
    done: int
    """Number of the file's rows up to the end of this block."""
    position: int
    """Approximate number of bytes read from the file."""
    digest: str
    """Detects whether another file begins with the same rows."""
    raw: bytes
    ends: Sequence[int]
    """For text formats: where each row ends in `raw`, which has the rows as they are in the file, for :func:`originals`."""
    records: Sequence[bytes] = ()
    """For an import through the API: the valid rows as records of a batch, instead of `rows`."""


def make_block(
    parsed: ParsedRows, first: int, done: int, position: int, digest: str, raw: bytes, ends: Sequence[int] = ()
) -> Block:
    own = {"first": first, "done": done, "position": position, "digest": digest, "raw": raw, "ends": ends}
    return Block(parsed.numbers, parsed.rows, parsed.names, parsed.refused, parsed.cut, **own)  # type: ignore[arg-type]


class Source(Protocol):
    """A file that is being read."""

    head: Head

    @property
    def unseen(self) -> set[str]:
        """The mapped columns that have not occurred in any row so far."""
        ...

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        """Yield the blocks after `skip` rows. Raises Refused if those rows have another digest."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a file, as far as it is needed to write out refused rows."""

    columns: Sequence[str] = ()
    """Unique names of the columns; none for NDJSON, where every row has its own."""
    encoding: Encoding = field(default_factory=Encoding)
    raw: bytes = b""
    """For CSV: the line with the names of the columns, after the line that names the delimiter, if any."""
    delimiter: str = ","


def unread(reason: Phrase) -> Problem:
    """Return the problem with a row that cannot be read."""
    return Problem(ProblemKind.ROW_FORM, None, {"reason": reason})


def check_digest(skip: int, done: int, expected: str, found: str) -> None:
    if skip > done or (skip and expected != found):
        raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.OTHER_ROWS, rows=skip))


def originals(block: Block, options: ReadOptions, numbers: Sequence[int]) -> list[Any]:
    """Return the rows with these numbers as they are in the file: bytes, or for Parquet members for JSON."""
    if options.format == "parquet":
        from usertable.files.readers.parquet_rows import parquet_rows

        return parquet_rows(block.raw, block.first, numbers)
    edges = [0, *block.ends]
    return [block.raw[edges[number - block.first] : edges[number - block.first + 1]] for number in numbers]
