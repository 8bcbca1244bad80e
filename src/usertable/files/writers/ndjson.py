"""The writer of NDJSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from operator import attrgetter
from typing import IO, Any

import msgspec

from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project
from usertable.domain.values import DataType
from usertable.files.export_options import ExportOptions
from usertable.files.writers.table import pseudo_cells
from usertable.files.writers.text import TextWriter
from usertable.store.records import Page

_encoder = msgspec.json.Encoder(decimal_format="number")


class NDJSONWriter(TextWriter):
    def __init__(self, stream: IO[bytes], project: Project, options: ExportOptions) -> None:
        # PostgreSQL stores lists with spaces. A file has none, whatever the store.
        super().__init__(stream, project, options, {DataType.DATETIME: int, DataType.LIST: list[str]})

    def _convert(self, page: Page) -> bytes:
        documents = self._decoder.decode_lines(page.lines)
        self._set(documents, 0, page.cuids)
        if page.values:
            for index, identifier in enumerate(self._identifiers, start=1):
                self._set(documents, index, self._values(page, identifier))
        for index, attribute in enumerate(self._attributes, start=self._first):
            if attribute.name in PSEUDO_COLUMNS:
                self._set(documents, index, pseudo_cells(page, attribute.name))
            if attribute.type is DataType.DATETIME:
                cells = map(attrgetter(self._fields[index]), documents)
                self._set(documents, index, self._moments.texts(cells))
        if self._row is not self._document:
            documents = list(starmap(self._row, map(msgspec.structs.astuple, documents)))
        return _encoder.encode_lines(documents)

    def _set(self, documents: Sequence[Any], index: int, cells: Sequence[Any]) -> None:
        field = self._fields[index]
        for document, cell in zip(documents, cells, strict=True):
            setattr(document, field, cell)
