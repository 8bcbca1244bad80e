"""Cells of Parquet in the types that :class:`~usertable.files.arrow.ArrowColumns` accepts, or their problems."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from math import isfinite

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from usertable.domain.errors import Problem, ProblemKind, phrase
from usertable.domain.identity import malformed_cuid
from usertable.domain.phrases import Param, Phrase, PhraseKind
from usertable.domain.values import NUMBER_DIGITS, DataType, number
from usertable.files.arrow_types import as_bytes, is_list, is_text, storage_type
from usertable.files.block import unread
from usertable.files.options import ReadOptions
from usertable.files.targets import Target

_EXACT_BITS = {"halffloat": 11, "float": 24, "double": 53}
"""Bits of the integers that a floating-point number represents exactly. A larger CUID may have been another one."""


@dataclass(frozen=True, slots=True)
class ParquetColumn:
    """A column with a target."""

    index: int
    """Index among the targets."""
    source: int
    """Index among the file's columns."""
    name: str
    target: Target
    data_type: DataType | None
    """Data type of its attribute; None if it has another target."""
    kind: pa.DataType
    leaves: range
    """Indexes of its leaf columns in the file. A nested column has several."""


def fitting_cells(column: ParquetColumn, cells: pa.Array, options: ReadOptions, bad: dict[int, list[Problem]]) -> pa.Array:
    """Return the cells in a type that :class:`ArrowColumns` accepts. Where that fails, a problem is noted."""
    kind = column.kind
    if types.is_null(kind) or cells.null_count == len(cells):
        return pa.nulls(len(cells), pa.string())
    if column.target.kind not in ("cuid", "identifier", "attribute"):
        # For a column without a name, it only matters whether there is a value.
        return pc.if_else(cells.is_valid(), f"a {kind}", None)
    if is_text(kind):
        return _texts(column, cells, bad)
    if is_list(kind):
        return _lists(column, cells, bad)
    if column.target.kind == "cuid" and not types.is_decimal(kind):
        return _integers(column, cells, options, bad) if types.is_floating(kind) else _longs(cells)
    if types.is_floating(kind):
        texts = _float_texts(column, cells, options, bad)
        return _zeros_and_ones(column, texts, bad) if column.data_type is DataType.BOOL else texts
    return cells


def _lists(column: ParquetColumn, cells: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
    flat = pc.list_flatten(cells)
    if types.is_list(cells.type) and _is_utf8(flat):
        return cells
    element = storage_type(column.kind.value_type)
    if types.is_integer(element) and column.target.kind == "identifier":
        return cells
    found: dict[int, list[Problem]] = {}
    texts = _texts(column, flat, found) if len(flat) > flat.null_count else pa.nulls(len(flat), pa.string())
    if found:
        parents = pc.list_parent_indices(cells).to_pylist()
        for index, problems in found.items():
            bad.setdefault(parents[index], problems)
    lengths = pc.fill_null(pc.list_value_length(cells), 0).to_pylist()
    offsets = pa.array([0, *accumulate(lengths)], pa.int32())
    return pa.ListArray.from_arrays(offsets, texts, mask=cells.is_null() if cells.null_count else None)


def _is_utf8(cells: pa.Array) -> bool:
    """Return whether the cells are valid UTF-8. A file's texts may be any bytes."""
    if not types.is_string(cells.type):
        return False
    try:
        cells.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _texts(column: ParquetColumn, cells: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
    if _is_utf8(cells):
        return cells
    raw = as_bytes(cells)
    try:
        texts = raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        decoded = []
        for index, content in enumerate(raw.to_pylist()):
            try:
                decoded.append(None if content is None else content.decode())
            except UnicodeDecodeError as error:
                decoded.append("?")
                byte = f"0x{content[error.start]:02X}"
                bad.setdefault(index, []).append(unread(phrase(PhraseKind.CELL_NOT_UTF8, column=column.name, byte=byte)))
        texts = pa.array(decoded, pa.large_string())
    return texts.cast(pa.string())


def _longs(cells: pa.Array) -> pa.Array:
    try:
        return cells.cast(pa.int64())
    except pa.ArrowInvalid:
        # The largest are not numbers.
        return cells.cast(pa.string())


def _value_problem(column: ParquetColumn, value: str, data_type: Param, expected: Phrase) -> Problem:
    if column.target.kind == "cuid":
        return malformed_cuid(value)
    params = {"value": value, "type": data_type, "expected": expected}
    return Problem(ProblemKind.VALUE_TYPE, column.target.name, params)


def _integers(column: ParquetColumn, cells: pa.Array, options: ReadOptions, bad: dict[int, list[Problem]]) -> pa.Array:
    """Return CUIDs stored as floating-point numbers, which is what a column of integers becomes if one is missing."""
    largest = 2 ** _EXACT_BITS[str(column.kind)]
    found: list[int | None] = []
    for index, text in enumerate(_float_texts(column, cells, options, bad).to_pylist()):
        value = None if text is None or index in bad else Decimal(text)
        if value is None or (value == value.to_integral_value() and abs(value) <= largest):
            found.append(None if value is None else int(value))
            continue
        found.append(None)
        bad.setdefault(index, []).append(malformed_cuid(text))
    return pa.array(found, pa.int64())


def _zeros_and_ones(column: ParquetColumn, texts: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
    found: list[bool | None] = []
    for index, text in enumerate(texts.to_pylist()):
        found.append(None if text is None else text == "1")
        if text not in (None, "0", "1") and index not in bad:
            bad[index] = [_value_problem(column, text, DataType.BOOL, Phrase(PhraseKind.ZERO_OR_ONE))]
    return pa.array(found, pa.bool_())


def _float_texts(column: ParquetColumn, cells: pa.Array, options: ReadOptions, bad: dict[int, list[Problem]]) -> pa.Array:
    """Return floating-point numbers as the shortest decimal texts that denote them at their own width."""
    if types.is_float16(column.kind):
        texts = pa.array([None if cell is None else half_text(cell + 0.0) for cell in cells.to_pylist()], pa.string())
    else:
        texts = cells.cast(pa.string())
    if not pc.any(pc.match_substring_regex(texts, "[a-z]|^-0$")).as_py():
        return texts
    parsed = []
    for index, text in enumerate(texts.to_pylist()):
        if text is None or (not text.endswith(("nan", "inf", "-0")) and "e" not in text):
            parsed.append(text)
        elif text == "-0":
            parsed.append("0")
        elif text[-1].isdigit():
            value = Decimal(text)
            parsed.append(format(value, "f"))
            if column.target.kind == "attribute" and number(value) is None:
                params = {"value": text, "digits": str(NUMBER_DIGITS)}
                bad.setdefault(index, []).append(Problem(ProblemKind.NUMBER_RANGE, column.target.name, params))
        else:
            shown = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
            parsed.append(None)
            if not options.nulls & {shown, text}:
                expected = phrase(PhraseKind.NOT_FINITE, value=shown)
                problem = _value_problem(column, shown, Phrase(PhraseKind.NUMBER_COLUMN), expected)
                bad.setdefault(index, []).append(problem)
    return pa.array(parsed, pa.string())


@lru_cache(maxsize=2**16)
def half_text(value: float) -> str:
    """Return the shortest decimal text of a 16-bit number, of which Arrow writes all digits."""
    if not isfinite(value):
        return str(value)
    wanted = struct.pack("e", value)
    for digits in range(1, 5):
        text = f"{value:.{digits}g}"
        # Rounding may turn the largest number into one out of range.
        with contextlib.suppress(OverflowError):
            if struct.pack("e", float(text)) == wanted:
                return text
    return f"{value:.5g}"
