"""The part that the writers of CSV and NDJSON share: documents as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

import msgspec

from usertable.domain.schema import Identifier, Project
from usertable.domain.values import DataType
from usertable.files.export_options import ExportOptions
from usertable.files.moment_texts import Moments
from usertable.files.writers.table import TableWriter, table_columns
from usertable.store.records import NO_VALUES, Page


class TextWriter(TableWriter):
    """The base of a text format: the documents of a page as objects, as far as they are needed.

    Args:
        types: the types for stored values of a data type. Values of other data types stay JSON.
    """

    def __init__(self, stream: IO[bytes], project: Project, options: ExportOptions, types: Mapping[DataType, Any]) -> None:
        # More threads would wait for each other, because creating objects needs the interpreter lock.
        super().__init__(converters=1)
        self._stream = stream
        self._identifiers = options.identifiers.chosen
        self._attributes = attributes = options.attributes
        self._moments = Moments(project.zone, options.moments)
        names = [name for name, _ in table_columns(project, options)]
        self._fields = [f"f{i}" for i in range(len(names))]
        self._first = 1 + len(self._identifiers)
        kinds = [Any] * self._first + [types.get(a.type, msgspec.Raw) for a in attributes]
        self._members = [(field, kind, None) for field, kind in zip(self._fields, kinds, strict=True)]
        # A document contains only attributes. The name of an attribute contains no sign.
        declared = project.schema.attributes
        stored = [f"={name}" if name in declared else name for name in names[: self._first]] + [a.name for a in attributes]
        self._document = self._struct(stored)
        self._row = self._document if stored == names else self._struct(names)
        self._decoder = msgspec.json.Decoder(self._document)

    def _struct(self, names: Sequence[str]) -> type[msgspec.Struct]:
        rename = dict(zip(self._fields, names, strict=True))
        return msgspec.defstruct("Document", self._members, rename=rename, omit_defaults=True, gc=False)

    def _values(self, page: Page, identifier: Identifier) -> list[Any]:
        """Return, for each user, the value of a unique identifier, or the values of another one; None without values."""
        found = [page.values.get(cuid, NO_VALUES).get(identifier.name) for cuid in page.cuids]
        return [values and values[0] for values in found] if identifier.unique else found

    def _add(self, converted: bytes) -> None:
        self._stream.write(converted)
