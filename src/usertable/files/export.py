"""Export: a whole user table to a file."""

from __future__ import annotations

import codecs
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import IO

from usertable.domain.condition import Condition, meets
from usertable.domain.profile import Profile
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.files.export_options import ExportOptions
from usertable.files.writers import open_table
from usertable.files.writers.parquet import NumberType, Unfit, likely_number_types, number_types
from usertable.store.encoding import decode_attributes
from usertable.store.protocol import UserTable
from usertable.store.records import Page
from usertable.wire.native.documents import masked_value

RESTARTS = 3
"""Number of times that a Parquet file is restarted because a column turns out not to be integers. After that, all columns
are examined at once."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of an export."""

    users: int
    as_text: frozenset[str] = frozenset()
    """NUMBERs that were written as text because they do not fit Parquet's DECIMAL(38, 18)."""


def export(
    source: UserTable, stream: IO[bytes], options: ExportOptions, progress: Callable[[int], None] = lambda users: None
) -> ExportResult:
    """Write the users that meet all conditions. For Parquet, the stream must be able to seek.

    Args:
        progress: called with the number of users examined so far.
    """
    if options.byte_order_mark:
        stream.write(codecs.BOM_UTF8)
    masked = options.identifiers.masked
    types: dict[str, NumberType] = {}
    for attempt in itertools.count():
        pages = _pages(source, options, progress)
        if options.format == "parquet" and not attempt:
            # Most columns that are not integers are recognized here, before anything is written.
            first = next(pages, None)
            types = likely_number_types(options, first)
            pages = pages if first is None else itertools.chain([first], pages)
        try:
            with contextlib.ExitStack() as stack:
                table = open_table(stream, source.project, options, types)
                stack.callback(table.close)
                users = 0
                for page in pages:
                    users += len(page)
                    table.write(_masked(page, masked) if masked else page)
            return ExportResult(users, frozenset(name for name, kind in types.items() if kind == "text"))
        except Unfit as unfit:
            found = dict(types)
            if unfit.broken and attempt < RESTARTS:
                found |= dict.fromkeys(unfit.broken, "decimal")
            else:
                rows = (row for page in _pages(source, options, lambda users: None) for row in page)
                found = number_types(rows, options)
            if found == types:
                raise
            types = found
            stream.seek(0)
            stream.truncate()
    raise AssertionError("unreachable")


def _pages(source: UserTable, options: ExportOptions, progress: Callable[[int], None]) -> Iterator[Page]:
    """Yield the users that meet all conditions, page by page."""
    looked_at = 0
    needs_attributes = any(condition.attribute not in PSEUDO_COLUMNS for condition in options.conditions)
    for page in source.pages(rows=options.needs_rows):
        looked_at += len(page)
        kept = _meeting(page, options.conditions, needs_attributes) if options.conditions else page
        if kept:
            yield kept
        progress(looked_at)


def _masked(page: Page, names: Set[str]) -> Page:
    """Return the page with the values of these identifiers masked, as lists show them."""
    values = {
        cuid: {name: [masked_value(v) for v in found] if name in names else found for name, found in of_user.items()}
        for cuid, of_user in page.values.items()
    }
    return Page(page.cuids, page.lines, values, page.rows)


def _meeting(page: Page, conditions: Sequence[Condition], needs_attributes: bool) -> Page:
    """Return the users of a page that meet all conditions; possibly none, and then there is no page to write."""
    kept = []
    rows = page.rows or [(0, 0, 0)] * len(page)
    for index, ((cuid, line, _), row) in enumerate(zip(page, rows, strict=True)):
        profile = Profile(*row, decode_attributes(line) if needs_attributes else {}, {})
        if meets(cuid, profile, conditions):
            kept.append((index, cuid, line))
    lines = b"\n".join(line for _, _, line in kept)
    kept_rows = None if page.rows is None else [page.rows[index] for index, _, _ in kept]
    return Page([cuid for _, cuid, _ in kept], lines, page.values, kept_rows)
