"""The writer of CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import IO, Any

import msgspec

from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project
from usertable.domain.values import DataType
from usertable.files.export_options import ExportOptions
from usertable.files.targets import ESCAPED
from usertable.files.writers.table import pseudo_cells, table_columns
from usertable.files.writers.text import TextWriter
from usertable.store.records import Page

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_encoder = msgspec.json.Encoder(decimal_format="number")


def harmless(text: str) -> str:
    """Return the text in a form that no spreadsheet treats as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


_BOOLS = {None: "", True: "true", False: "false"}


class CSVWriter(TextWriter):
    def __init__(self, stream: IO[bytes], project: Project, options: ExportOptions) -> None:
        types = {DataType.STRING: str, DataType.BOOL: bool, DataType.DATETIME: int, DataType.LIST: list[str]}
        super().__init__(stream, project, options, types)
        self._escape = options.escape_formulas
        self._texts: dict[DataType, Callable[[list[Any]], list[str]]] = {
            DataType.STRING: self._strings,
            DataType.DATETIME: self._moments_texts,
            DataType.BOOL: _bools,
            DataType.LIST: _lists,
            DataType.NUMBER: _numbers,
        }
        """By data type: converts values to cells of the file, "" for None."""
        names = [name for name, _ in table_columns(project, options)]
        if self._escape:
            names.append(ESCAPED)
        stream.write(_csv([[cell] for cell in _quoted(names)]))

    def _convert(self, page: Page) -> bytes:
        columns = [list(map(str, page.cuids))]
        for identifier in self._identifiers:
            if page.values:
                kind = DataType.STRING if identifier.unique else DataType.LIST
                columns.append(self._texts[kind](self._values(page, identifier)))
            else:
                columns.append([""] * len(page))
        documents = self._decoder.decode_lines(page.lines)
        for attribute, field in zip(self._attributes, self._fields[self._first :], strict=True):
            is_pseudo = attribute.name in PSEUDO_COLUMNS
            cells = pseudo_cells(page, attribute.name) if is_pseudo else list(map(attrgetter(field), documents))
            columns.append(self._texts[attribute.type](cells))
        if self._escape:
            columns.append([""] * len(page))
        return _csv(columns)

    def _strings(self, cells: list[str | None]) -> list[str]:
        texts = ["" if cell is None else cell for cell in cells]
        return _quoted(list(map(harmless, texts)) if self._escape else texts)

    def _moments_texts(self, cells: list[int | None]) -> list[str]:
        return [text or "" for text in self._moments.texts(cells)]


def _bools(cells: list[bool | None]) -> list[str]:
    return list(map(_BOOLS.__getitem__, cells))


def _json_texts(cells: list[Any]) -> list[str]:
    # These texts contain no line end.
    texts = _encoder.encode_lines(cells).decode().split("\n")[:-1]
    return ["" if text == "null" else text for text in texts] if None in cells else texts


def _lists(cells: list[list[str] | None]) -> list[str]:
    return [text and '"' + text.replace('"', '""') + '"' for text in _json_texts(cells)]


def _numbers(cells: list[msgspec.Raw | None]) -> list[str]:
    texts = _json_texts(cells)
    joined = "".join(texts)
    return [text and format(Decimal(text), "f") for text in texts] if "E" in joined or "e" in joined else texts


def _csv(columns: Sequence[Sequence[str]]) -> bytes:
    """Return the lines of a CSV from cells that are already quoted; with CR LF, as in RFC 4180."""
    return "".join([f"{line}\r\n" for line in map(",".join, zip(*columns, strict=True))]).encode()


_SPECIAL = re.compile('[",\r\n]')
_WRAPPED = re.compile('="(?>(?:[^"]|"")*)"')


def _quoted(cells: list[str]) -> list[str]:
    """Return the cells, with quotes around those that need them."""
    text = "\n".join(cells)
    if not ('"' in text or "," in text or "\r" in text or text.count("\n") >= len(cells)):
        return cells
    if '="' in text:
        # An import reads such a cell as the text inside.
        cells = ['="' + cell.replace('"', '""') + '"' if _WRAPPED.fullmatch(cell) else cell for cell in cells]
    return ['"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell for cell in cells]
