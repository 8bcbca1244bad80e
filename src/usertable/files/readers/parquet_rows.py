"""Refused rows of Parquet, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from usertable.files.arrow import UNITS, arrow_cells, clock_text
from usertable.files.arrow_types import as_bytes, is_list, is_text
from usertable.files.readers.parquet_cells import half_text
from usertable.files.targets import LINE


def parquet_rows(raw: bytes, first: int, numbers: Sequence[int]) -> list[dict[str, object]]:
    """Return rows of a block as members of a JSON line. A row with bytes that are not UTF-8 is a `#line` that shows them."""
    table = pa.ipc.open_stream(raw).read_all().combine_chunks()
    columns = [(name, table.column(i)) for i, name in enumerate(table.column_names)]
    rows = []
    for row in numbers:
        cells = {name: _json_cell(column.slice(row - first, 1)) for name, column in columns}
        members = {name: value for name, (value, _) in cells.items()}
        if all(is_exact for _, is_exact in cells.values()):
            rows.append(members)
        else:
            line = json.dumps(members, ensure_ascii=False, default=str)
            # As `\xfc`, which is not JSON, so that the unchanged row is refused again.
            rows.append({LINE: line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")})
    return rows


def _json_cell(cells: pa.ChunkedArray | pa.Array) -> tuple[object, bool]:
    """Return the only cell as a JSON value, and whether that represents the cell exactly."""
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
        cells = cells.chunk(0) if isinstance(cells, pa.ChunkedArray) else cells
    kind = cells.type
    if cells.null_count:
        return None, True
    if is_text(kind):
        (content,) = as_bytes(cells).to_pylist()
        text = content.decode("utf-8", "surrogateescape")
        return text, not any("\udc80" <= character <= "\udcff" for character in text)
    if is_list(kind):
        elements = pc.list_flatten(cells)
        found = [_json_cell(elements.slice(i, 1)) for i in range(len(elements))]
        return [value for value, _ in found], all(is_exact for _, is_exact in found)
    if types.is_floating(kind):
        (text,) = [half_text(cells[0].as_py() + 0.0)] if types.is_float16(kind) else cells.cast(pa.string()).to_pylist()
        value = Decimal(text)
        if not value.is_finite():
            return str(value), True
        # Whole numbers count as integers everywhere.
        return (int(value) if value == value.to_integral_value() and abs(value) <= 2**53 else float(text)), True
    if types.is_decimal(kind):
        return Decimal(arrow_cells(cells)[0]), True
    if types.is_timestamp(kind):
        (count,) = cells.cast(pa.int64()).to_pylist()
        return clock_text(count, UNITS[kind.unit]) + ("+00:00" if kind.tz is not None else ""), True
    return cells.to_pylist()[0], True
