"""Rows of an import as records of a batch, in the JSON that a server accepts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from itertools import repeat

import msgspec

from usertable.domain.ownership import Pair
from usertable.domain.schema import Project
from usertable.domain.values import DataType
from usertable.files.block import Block
from usertable.files.moment_texts import Moments
from usertable.store.records import ImportRows

_NO_ROWS = ImportRows.of([])
_encode = msgspec.json.encode


class RecordEncoder:
    """Encodes the rows of a block as records. Pickled to the process that reads the file.

    A row's values are JSON already and are copied, except where the API has another form. The row `(None, (("phone",
    "1380"),), '{"seen":1700000000000,"vip":true}')` with number 7 becomes
    `{"identifiers":{"phone":"1380"},"data":{"seen":"2023-11-15 06:13:20","vip":1},"key":"import-5f3a-7"}`.

    Args:
        key: prefix of the rows' keys; None if they need none.
    """

    def __init__(self, project: Project, key: str | None) -> None:
        self._key = key
        self._types = {attribute.name: attribute.type for attribute in project.schema.attributes.values()}
        self._arrays = {identifier.name for identifier in project.schema.identifiers if not identifier.unique}
        self._moments = Moments(project.zone)

    def __call__(self, block: Block) -> Block:
        """Return the block with records instead of its rows."""
        return replace(block, records=self.records(block.numbers, block.rows, block.names), rows=_NO_ROWS)

    def records(self, numbers: Iterable[int], rows: ImportRows, names: Set[str]) -> list[bytes]:
        """Return the records of the rows with these numbers, which have values of attributes in `names`."""
        texts = self._values(rows.lines, names).split("\n")
        records = []
        for number, cuid, pairs, text in zip(numbers, rows.cuids, rows.identifiers or repeat(()), texts, strict=False):
            user = "" if cuid is None else f'"cuid":{cuid},'
            key = "" if self._key is None else f',"key":"{self._key}-{number}"'
            records.append(f'{{{user}"identifiers":{self._identifiers(pairs)},"data":{text}{key}}}'.encode())
        return records

    def _values(self, lines: str, names: Set[str]) -> str:
        """Return documents of values, one line each, as the API accepts them.

        A quote inside a text has a backslash before it, so `"name":` matches only a member.
        """
        for name in names:
            if self._types[name] is DataType.BOOL:
                lines = lines.replace(f'"{name}":true', f'"{name}":1').replace(f'"{name}":false', f'"{name}":0')
        moments = "|".join(name for name in names if self._types[name] is DataType.DATETIME)
        if not moments:
            return lines
        parts = re.split(f'("(?:{moments})":)(-?[0-9]+)', lines)
        parts[2::3] = [f'"{text}"' for text in self._moments.texts(map(int, parts[2::3]))]
        return "".join(parts)

    def _identifiers(self, pairs: Sequence[Pair]) -> str:
        """Return the values of a row's identifiers, by name."""
        values: dict[str, str | list[str]] = {}
        for name, value in pairs:
            if name in self._arrays:
                values.setdefault(name, []).append(value)  # type: ignore[union-attr]
            else:
                values[name] = value
        return _encode(values).decode()
