"""One page of the user table: its users, and the addresses of the pages before and after it."""

from __future__ import annotations

import csv
import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import urlencode

from usertable.app.clock import Clock
from usertable.app.scans import Count, Found, TableScans
from usertable.app.service import Service
from usertable.app.users import MAX_PAGE
from usertable.console.values import value_text
from usertable.domain.condition import Condition, meets
from usertable.domain.errors import Unavailable
from usertable.domain.schema import Project
from usertable.domain.values import DataType
from usertable.files.targets import CONSOLE
from usertable.files.writers.csv import harmless
from usertable.store.records import User
from usertable.wire.native.documents import user_document

PAGE = 50
COUNT_POLL_SECONDS = 0.1
COUNT_PATIENCE_SECONDS = 5.0
"""Seconds after which a failing count is given up."""
Order = Literal["cuid", "-cuid", "updated", "-updated"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, slots=True)
class TableQuery:
    """What to show of the user table."""

    where: tuple[str, ...] = ()
    """Conditions as they are written in the query."""
    columns: tuple[str, ...] = ()
    order: Order = "cuid"
    after: int | None = None
    before: int | None = None
    skip: int = 0
    """Number of users before the page, when ordering by time."""

    @property
    def shown_columns(self) -> tuple[str, ...]:
        """The columns of the table: the selected ones, after attributes that only a filter names."""
        filtered = dict.fromkeys(text.partition(":")[0] for text in self.where if not text.startswith("@"))
        return (*(name for name in filtered if name not in self.columns), *self.columns)

    @property
    def by_time(self) -> bool:
        return self.order.endswith("updated")

    @property
    def descending(self) -> bool:
        return self.order.startswith("-")

    @property
    def from_start(self) -> bool:
        return self.after is None and self.before is None and not self.skip

    def at(self, *, after: int | None = None, before: int | None = None, skip: int = 0) -> TableQuery:
        """Return the same query for another page."""
        return replace(self, after=after, before=before, skip=skip)

    def query(self) -> str:
        """Return the query string of the URL."""
        pairs: list[tuple[str, str | int]] = [("where", text) for text in self.where]
        pairs += [("column", name) for name in self.columns]
        if self.order != "cuid":
            pairs.append(("order", self.order))
        for name, value in (("after", self.after), ("before", self.before), ("skip", self.skip or None)):
            if value is not None:
                pairs.append((name, value))
        return urlencode(pairs)


@dataclass(frozen=True, slots=True)
class TablePage:
    users: list[User]
    count: Found[Count]
    next: TableQuery | None
    previous: TableQuery | None
    complete: bool
    """False if the search for users continues, in the background or on the next page."""


def page(
    service: Service, scans: TableScans, project: Project, query: TableQuery, conditions: Sequence[Condition]
) -> TablePage:
    """Return the page that `query` asks for."""
    count = scans.count(project, conditions, oldest=query.order == "updated", wait=True)
    if query.by_time:
        return _by_time(service, project, query, conditions, count)
    if conditions and count.done and count.result.has_all:
        return _of_few(service, project, query, conditions, count)
    turned = query.before is not None
    position = query.before if turned else query.after
    found = service.users(
        project, after=position, limit=PAGE, conditions=conditions, descending=query.descending is not turned
    )
    users = found.users[::-1] if turned else found.users
    complete = found.next is None or len(users) == PAGE
    if turned:
        assert position is not None
        beside = position + 1 if query.descending else position - 1
        following: TableQuery | None = query.at(after=users[-1].cuid if users else beside)
        preceding = None if found.next is None else query.at(before=found.next)
    else:
        following = None if found.next is None else query.at(after=found.next)
        preceding = None if position is None else query.at(before=_before(users, position, query))
    return TablePage(users, count, following, preceding, complete)


def _before(users: Sequence[User], position: int, query: TableQuery) -> int:
    return users[0].cuid if users else position - 1 if query.descending else position + 1


def _of_few(
    service: Service, project: Project, query: TableQuery, conditions: Sequence[Condition], count: Found[Count]
) -> TablePage:
    """Return a page from the users that the count has found, so that the page is full even if they are rare."""
    cuids = sorted(cuid for _, cuid in count.result.top)
    if query.descending:
        cuids = [-cuid for cuid in reversed(cuids)]
    sign = -1 if query.descending else 1
    if query.before is not None:
        end = bisect_left(cuids, query.before * sign)
        begin = max(0, end - PAGE)
    else:
        begin = 0 if query.after is None else bisect_right(cuids, query.after * sign)
        end = begin + PAGE
    shown = [cuid * sign for cuid in cuids[begin:end]]
    users = _still(service, project, shown, conditions)
    following = query.at(after=shown[-1]) if end < len(cuids) else None
    preceding = query.at(before=cuids[begin] * sign) if 0 < begin < len(cuids) else None
    return TablePage(users, count, following, preceding, True)


def _by_time(
    service: Service, project: Project, query: TableQuery, conditions: Sequence[Condition], count: Found[Count]
) -> TablePage:
    top = count.result.top
    shown = [cuid for _, cuid in top[query.skip : query.skip + PAGE]]
    users = _still(service, project, shown, conditions)
    following = query.at(skip=query.skip + PAGE) if query.skip + PAGE < len(top) else None
    preceding = query.at(skip=max(0, query.skip - PAGE)) if query.skip else None
    return TablePage(users, count, following, preceding, count.done)


def _still(service: Service, project: Project, cuids: Sequence[int], conditions: Sequence[Condition]) -> list[User]:
    """Return the counted users that still exist and still meet the conditions."""
    return [user for user in service.users_of(project, cuids) if meets(user.cuid, user.profile, conditions)]


def csv_file(
    service: Service,
    scans: TableScans,
    project: Project,
    query: TableQuery,
    conditions: Sequence[Condition],
    clock: Clock,
) -> tuple[str, Iterator[bytes]]:
    """Return all users that meet the filters, in the selected columns and order, as CSV: the file's name and its pieces.

    Ordered by time, the file has the users that the table lists. If there are more, the file's name says so, because
    the rows cannot. The list is complete only when the count is, so this waits for the count.

    Raises:
        Unavailable: the count fails repeatedly.
    """
    name = f"users-{project.id}"
    if query.by_time:
        count = _whole_count(scans, project, conditions, clock, oldest=query.order == "updated")
        if not count.has_all:
            which = "last" if query.descending else "first"
            name += f"-{which}-updated-{len(count.top)}-of-{count.matched}"
        pages = _pages_of(service, project, count.top, conditions)
    else:
        pages = _csv_pages(service, project, query, conditions)
    return f"{name}.csv", _csv(project, query, pages)


def _whole_count(
    scans: TableScans, project: Project, conditions: Sequence[Condition], clock: Clock, *, oldest: bool
) -> Count:
    patient_until = clock.monotonic() + COUNT_PATIENCE_SECONDS
    while not (found := scans.count(project, conditions, oldest=oldest, wait=True)).done:
        # Asking again restarts a failed count, so the first answers may still report the earlier failure.
        if found.failed and clock.monotonic() > patient_until:
            raise Unavailable("the users could not be counted")
        clock.pause(COUNT_POLL_SECONDS)
    return found.result


def _csv(project: Project, query: TableQuery, pages: Iterator[list[User]]) -> Iterator[bytes]:
    names, columns = [i.name for i in project.schema.identifiers], query.shown_columns
    # Byte order mark: without it, spreadsheets do not recognize UTF-8.
    yield b"\xef\xbb\xbf" + _line(["cuid", *names, *columns, "version", "created_at", "updated_at", CONSOLE])
    for users in pages:
        yield b"".join(_csv_row(user, project, names, columns) for user in users)


def _pages_of(
    service: Service, project: Project, top: Sequence[tuple[int, int]], conditions: Sequence[Condition]
) -> Iterator[list[User]]:
    for begin in range(0, len(top), PAGE):
        yield _still(service, project, [cuid for _, cuid in top[begin : begin + PAGE]], conditions)


def _csv_pages(
    service: Service, project: Project, query: TableQuery, conditions: Sequence[Condition]
) -> Iterator[list[User]]:
    after: int | None = None
    while True:
        found = service.users(project, after=after, limit=MAX_PAGE, conditions=conditions, descending=query.descending)
        yield found.users
        if found.next is None:
            return
        after = found.next


def _csv_row(user: User, project: Project, identifiers: Sequence[str], columns: Sequence[str]) -> bytes:
    shown = user_document(user, project, columns, mask=True)
    cells: list[str] = [str(user.cuid)]
    cells += [harmless(" ".join(shown.identifiers.get(name, ()))) for name in identifiers]
    for name in columns:
        value = shown.attributes.get(name)
        text = "" if value is None else value_text(value)
        is_text = project.schema.attributes[name].type in (DataType.STRING, DataType.LIST)
        cells.append(harmless(text) if is_text else text)
    return _line([*cells, str(shown.version), shown.created_at, shown.updated_at, ""])


def _line(cells: Sequence[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()
