"""Export: a whole user table into a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import IO

from usertable.domain.condition import Condition
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute
from usertable.files.options import Format
from usertable.files.writers import open_table
from usertable.files.writers.parquet import Unfit, unfit_numbers
from usertable.files.writers.table import Identifiers
from usertable.store.encoding import decode_attributes
from usertable.store.protocol import Snapshot
from usertable.store.records import Page, SnapshotRow
from usertable.wire.native.documents import masked_value


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What came of an export."""

    users: int
    as_text: frozenset[str] = frozenset()
    """NUMBERs that Parquet's DECIMAL(38, 18) could not hold, so that they were written as text."""


def export(
    snapshot: Snapshot,
    stream: IO[bytes],
    format: Format,
    attributes: Sequence[Attribute],
    conditions: Sequence[Condition],
    progress: Callable[[int], None],
    *,
    identifiers: Identifiers | None = None,
    escape_formulas: bool = False,
) -> ExportResult:
    """Write the users that meet all conditions. A Parquet's stream can seek.

    Args:
        progress: told how many users were looked at so far.
        identifiers: which of them, and how; None for all, in full.
    """
    identifiers = identifiers or Identifiers(snapshot.project.schema.identifiers)
    as_text: frozenset[str] = frozenset()
    while True:
        try:
            with contextlib.ExitStack() as stack:
                table = open_table(
                    stream,
                    format,
                    snapshot.project,
                    attributes,
                    identifiers,
                    escape_formulas=escape_formulas,
                    as_text=as_text,
                )
                stack.callback(table.close)
                looked_at = users = 0
                for page in snapshot.pages():
                    looked_at += len(page)
                    kept = _meeting(page, conditions) if conditions else page
                    if kept:
                        users += len(kept)
                        table.write(_masked(kept, identifiers.masked) if identifiers.masked else kept)
                    progress(looked_at)
            return ExportResult(users, as_text)
        except Unfit:
            found = unfit_numbers((row for page in snapshot.pages() for row in page), attributes)
            if not found - as_text:
                raise
            as_text = found
            stream.seek(0)
            stream.truncate()


def _masked(page: Page, names: Set[str]) -> Page:
    """The page with the values of these identifiers cut, as lists show them."""
    values = {
        cuid: {name: [masked_value(v) for v in found] if name in names else found for name, found in of_user.items()}
        for cuid, of_user in page.values.items()
    }
    return Page(page.cuids, page.lines, values)


def _meeting(page: Page, conditions: Sequence[Condition]) -> Page:
    """The users of a page that meet all conditions; none of them is no page to write."""
    rows = [row for row in page if _meets(row, conditions)]
    return Page([cuid for cuid, _, _ in rows], b"\n".join(line for _, line, _ in rows), page.values)


def _meets(row: SnapshotRow, conditions: Sequence[Condition]) -> bool:
    profile = Profile(0, 0, 0, decode_attributes(row[1]), {})
    return all(condition.met(profile) for condition in conditions)
