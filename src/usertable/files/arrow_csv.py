"""Lines of CSV as Arrow arrays."""

from __future__ import annotations

from operator import itemgetter

import pyarrow as pa
from pyarrow import csv

_FIRST, _LAST = itemgetter(slice(0, 1)), itemgetter(slice(-1, None))


class ArrowCSV:
    """Splits lines of CSV into columns, if the lines are regular: each line is a row, and no quote is out of place."""

    def __init__(self, width: int, delimiter: str) -> None:
        self._width = width
        self._ends = f"{delimiter}\r\n".encode()
        self._parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        names = [f"f{i}" for i in range(width)]
        self._convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)

    def columns(self, raw: bytes, lines: int) -> list[pa.Array] | None:
        """Return the columns of `lines` lines; None if they are irregular."""
        if raw.startswith(b"\xef\xbb\xbf") or not self._are_quotes_plain(raw):
            return None
        read = csv.ReadOptions(use_threads=False, block_size=len(raw) + 1, autogenerate_column_names=True)
        try:
            table = csv.read_csv(pa.BufferReader(raw), read, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        if table.num_rows != lines or table.num_columns != self._width:
            return None
        return [column.combine_chunks() for column in table.columns]

    def _are_quotes_plain(self, raw: bytes) -> bool:
        """Return whether every quote is in a valid position, which Arrow does not check.

        Without doubled quotes, quoted cells alternate with the text between them, which begins and ends with a delimiter or
        a line end.
        """
        if b'"' not in raw:
            return True
        if b"\1" in raw:
            return False
        marked = raw.replace(b'""', b"\1")
        cells = marked.split(b'"')
        between = cells[::2]
        edges = b"".join([*map(_FIRST, between[1:-1]), *map(_LAST, between[1:-1]), between[0][-1:], between[-1][:1]])
        return len(cells) % 2 == 1 and not edges.strip(self._ends) and b"\1" not in b"".join(between)
