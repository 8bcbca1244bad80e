"""Why rows were refused, counted: one group for all rows whose reasons differ in values only."""

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
"""Maximum number of different reasons that are counted one by one. Others are counted without their values, and when there
are twice as many, together."""
_VALUE = re.compile(r"\[([^\[\]]*)\]")
_ANY = "[…]"


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Rows that were refused for the same, such as 11,212 whose `orders` is no number."""

    reason: str
    """Where there are several values, without them: `the value […] of user attribute [orders] is invalid; …`."""
    rows: int
    values: tuple[tuple[str, int], ...] = ()
    """The values, and how many rows have each, the most frequent first; none if there is one only."""


class ReasonCounts:
    """Counts reasons.

    Args:
        names: of attributes and identifiers, which stand in brackets as values do.
    """

    def __init__(self, names: Set[str]) -> None:
        self._names = names
        self._rows: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count a row that was refused."""
        if len(self._rows) >= MAXIMUM_REASONS and reason not in self._rows:
            reason = self._apart(reason)[0]
            if len(self._rows) >= 2 * MAXIMUM_REASONS and reason not in self._rows:
                reason = "other reasons"
        self._rows[reason] += 1

    def groups(self) -> list[ReasonGroup]:
        """The groups, the largest first."""
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
        """A reason without its values, and these."""
        values: list[str] = []

        def replaced(found: re.Match[str]) -> str:
            if found[1] in self._names:
                return found[0]
            values.append(found[1])
            return _ANY

        return _VALUE.sub(replaced, reason), ", ".join(values)


def kept_reasons(path: Path, size: int, form: Format, head: Head) -> Iterator[str]:
    """The reasons in a file of refused rows, of which this many bytes count."""
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
