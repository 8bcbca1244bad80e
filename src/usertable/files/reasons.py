"""Why rows were refused, counted: one group for all rows whose reasons differ only in values."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import msgspec

from usertable.files.block import Head
from usertable.files.options import Format
from usertable.files.readers.text import CELL_CHARACTERS
from usertable.files.targets import REASON

MAXIMUM_REASONS = 100_000
"""Maximum number of distinct reasons that are counted separately. Others are counted without their values; beyond twice the
number, together."""
_VALUE = re.compile(r"\[([^\[\]]*)\]")
_ANY = "[…]"


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Rows that were refused for the same reason, such as 11,212 whose `orders` is not a number."""

    reason: str
    """If there are several values, without them: `the value […] of user attribute [orders] is invalid; …`."""
    rows: int
    values: tuple[tuple[str, int], ...] = ()
    """The values with their number of rows, most frequent first; empty if there is only one."""


class ReasonCounts:
    """Counts reasons.

    Args:
        names: names of attributes and identifiers, which are in brackets like values.
    """

    def __init__(self, names: Set[str]) -> None:
        self._names = names
        self._rows: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count a refused row."""
        if len(self._rows) >= MAXIMUM_REASONS and reason not in self._rows:
            reason = self._apart(reason)[0]
            if len(self._rows) >= 2 * MAXIMUM_REASONS and reason not in self._rows:
                reason = "other reasons"
        self._rows[reason] += 1

    def groups(self) -> list[ReasonGroup]:
        """Return the groups, largest first."""
        found: dict[str, list[tuple[str, str, int]]] = {}
        for reason, rows in self._rows.most_common():
            form, value = self._apart(reason)
            found.setdefault(form, []).append((reason, value, rows))
        groups = []
        for form, members in found.items():
            if len(members) == 1:
                groups.append(ReasonGroup(members[0][0], members[0][2]))
            else:
                values = tuple((value, rows) for _, value, rows in members)
                groups.append(ReasonGroup(form, sum(rows for _, rows in values), values))
        return sorted(groups, key=lambda group: -group.rows)

    def _apart(self, reason: str) -> tuple[str, str]:
        """Return a reason without its values, and the values."""
        values: list[str] = []

        def replaced(found: re.Match[str]) -> str:
            if found[1] in self._names:
                return found[0]
            values.append(found[1])
            return _ANY

        return _VALUE.sub(replaced, reason), ", ".join(values)


def kept_reasons(path: Path, size: int, form: Format, head: Head) -> Iterator[str]:
    """Yield the reasons in the first `size` bytes of a file of refused rows."""
    with path.open("rb") as stream:
        content = io.BytesIO(stream.read(size).removeprefix(head.encoding.mark))
    text = io.TextIOWrapper(content, head.encoding.codec, "replace", newline="")
    if form != "csv":
        for line in text:
            yield _decode(line).reason
        return
    csv.field_size_limit(CELL_CHARACTERS)
    column: int | None = None
    for row in csv.reader(text, delimiter=head.delimiter):
        if column is not None:
            yield row[column]
        elif REASON in row:
            column = row.index(REASON)


class _Refused(msgspec.Struct):
    """A line of such a file."""

    reason: str = msgspec.field(name=REASON)


_decode = msgspec.json.Decoder(_Refused).decode
