"""Rows of a file to users and their checked values: what an import reads.

A file is read in blocks of some thousand rows, in order, with memory for one block. Every row comes out either as what a
store takes (:data:`~usertable.store.records.ImportRow`) or with all that is wrong with it; a block carries its rows as they
stood in the file, so that one that is refused can be handed back to be fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from usertable.domain.errors import Problem, ProblemKind, refusal
from usertable.files.encodings import Encoding
from usertable.files.options import ReadOptions
from usertable.store.records import ImportRow, ImportRows


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A row that is in order."""

    row: ImportRow
    cut: int
    """How many of its moments were given more finely than they are kept."""


@dataclass(frozen=True, slots=True)
class ParsedRows:
    """What some rows of a file come to."""

    numbers: Sequence[int]
    """Of the rows that are in order."""
    rows: ImportRows
    names: frozenset[str]
    """The attributes that a row has a value of."""
    refused: list[tuple[int, list[Problem]]]
    """By number."""
    cut: Mapping[int, int] = field(default_factory=dict)
    """By number of a row in order, how many of its moments were given more finely than they are kept."""

    @classmethod
    def of(cls, rows: Iterable[tuple[int, ParsedRow | list[Problem] | None]], names: Set[str]) -> ParsedRows:
        """Rows by number, each of which is in order, or refused, or None for one with nothing on it.

        Args:
            names: the attributes that the rows have values of; may be filled while the rows are taken.
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
    """Rows in the order of the file. The first row of a file has the number 1, and a CSV's header none."""

    first: int
    done: int
    """Rows of the file up to the end of this block."""
    position: int
    """Bytes of the file that were read, more or less."""
    digest: str
    """Tells whether another file begins with the same rows."""
    raw: bytes
    ends: Sequence[int]
    """Of text: where each row ends in `raw`, which has the rows as they stood in the file, for :func:`originals`."""
    records: Sequence[bytes] = ()
    """For an import through the API: the rows in order as records of a batch, in place of `rows`."""


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
        """The columns that are mapped, and that no row had so far."""
        ...

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        """The blocks after `skip` rows; raises Refused if those rows have another digest."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """What a file begins with, as far as those need it who hand its refused rows back."""

    columns: Sequence[str] = ()
    """Their names, each of which is another; none for NDJSON, where every row has its own."""
    encoding: Encoding = field(default_factory=Encoding)
    raw: bytes = b""
    """Of CSV: the line that names the columns, behind one that names the delimiter, if there is one."""
    delimiter: str = ","


def unread(reason: str) -> Problem:
    """What is wrong with a row that cannot be read."""
    return Problem(ProblemKind.ROW_FORM, None, {"reason": reason})


def check_digest(skip: int, done: int, expected: str, found: str) -> None:
    if skip > done or (skip and expected != found):
        raise refusal(
            ProblemKind.IMPORT_FILE,
            reason=f"its first {skip} rows are not those that were imported; bring the same file, or begin with --restart",
        )


def originals(block: Block, options: ReadOptions, numbers: Sequence[int]) -> list[Any]:
    """The rows with those numbers as they stood in the file: bytes, or of Parquet members for JSON."""
    if options.format == "parquet":
        from usertable.files.readers.parquet_rows import parquet_rows

        return parquet_rows(block.raw, block.first, numbers)
    edges = [0, *block.ends]
    return [block.raw[edges[number - block.first] : edges[number - block.first + 1]] for number in numbers]
