"""Pages of the user table as the console asks for them: forth and back, in every order, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from support.actors import TESTER
from support.store_harness import StoreHarness
from support.waiting import wait_until
from usertable.app.clock import SYSTEM_CLOCK
from usertable.app.scans import TableScans
from usertable.console import user_table as table
from usertable.console.user_table import ORDERS, Order, TablePage, TableQuery
from usertable.domain.condition import Condition, parse_condition
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.store import open_store

USERS = 17
ODD = "user_number_overwrite:in:1,3,5,7,9,11,13,15"


class Table:
    """A table of 17 users with a number each. The later ones were changed first."""

    def __init__(self, url: str) -> None:
        self.harness = StoreHarness(open_store(url))
        self.project: Project = self.harness.project()
        self.scans = TableScans(self.harness.store, clock=replace(SYSTEM_CLOCK, now_ms=lambda: self.harness.now))
        self.cuids = self.harness.service.register(self.project, "phone", [str(n) for n in range(USERS)], actor=TESTER)
        for n in reversed(range(USERS)):
            self.harness.now += 1000
            self.harness.write(self.harness.prepare(self.project, self.cuids[n], {"user_number_overwrite": n}))

    def conditions(self, view: TableQuery) -> list[Condition]:
        return [parse_condition(text, self.project.schema, self.project.zone) for text in view.where]

    def page(self, view: TableQuery) -> TablePage:
        return table.page(self.harness.service, self.scans, self.project, view, self.conditions(view))

    def counted(self, view: TableQuery) -> TablePage:
        """Return the page once its users are counted."""
        return wait_until(lambda: page if (page := self.page(view)).count.done else None)

    def walk(self, view: TableQuery) -> list[int]:
        """Return the users on all pages, checked in both directions."""
        pages = [self.page(view)]
        while pages[-1].next is not None:
            pages.append(self.page(pages[-1].next))
        back = [pages[-1]]
        while back[-1].previous is not None:
            back.append(self.page(back[-1].previous))
        forth = [user.cuid for page in pages for user in page.users]
        assert [user.cuid for page in reversed(back) for user in page.users] == forth
        return forth

    def csv(self, view: TableQuery) -> list[list[str]]:
        conditions = self.conditions(view)
        _, pieces = table.csv_file(self.harness.service, self.scans, self.project, view, conditions, SYSTEM_CLOCK)
        return list(csv.reader(io.StringIO(b"".join(pieces).decode("utf-8-sig"))))


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setattr(table, "PAGE", 3)
    table_ = Table(f"sqlite:///{tmp_path / 'store.db'}")
    yield table_
    table_.scans.close()
    table_.harness.store.close()


def ordered(cuids: Sequence[int], order: Order) -> list[int]:
    # By time the last come first.
    return list(cuids) if order in ("cuid", "-updated") else list(cuids)[::-1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("where", [(), (ODD,)], ids=["all", "filtered"])
def test_forth_and_back_in_every_order(users: Table, order: Order, where: tuple[str, ...]) -> None:
    view = TableQuery(where, order=order)
    page = users.counted(view)
    expected = ordered(users.cuids if not where else users.cuids[1:16:2], order)
    assert page.count.result.matched == len(expected)
    assert page.previous is None
    assert users.walk(view) == expected


@pytest.mark.parametrize("order", ["cuid", "-cuid"])
def test_forth_and_back_through_more_than_a_count_knows(users: Table, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.app.scans.KEPT_TOP", 2)
    monkeypatch.setattr("usertable.app.users.EXAMINED_PER_PAGE", 2)
    view = TableQuery((ODD,), order=order)
    assert not users.counted(view).count.result.has_all
    assert users.walk(view) == ordered(users.cuids[1:16:2], order)
    assert not users.page(view).complete


def test_an_erased_user_is_on_no_page(users: Table) -> None:
    view = TableQuery((ODD,), order="-updated")
    users.counted(view)
    users.harness.service.erase_user(users.project, users.cuids[1], actor=TESTER)
    assert users.walk(view) == users.cuids[3:16:2]
    assert users.walk(TableQuery((ODD,))) == users.cuids[3:16:2]


def test_a_view_is_the_query_of_its_page() -> None:
    view = TableQuery(("a:eq:x&y", "b:set"), ("a", "b"), "-updated", skip=50)
    assert parse_qs(view.query()) == {
        "where": ["a:eq:x&y", "b:set"],
        "column": ["a", "b"],
        "order": ["-updated"],
        "skip": ["50"],
    }
    assert TableQuery(after=7).query() == "after=7"
    assert TableQuery().query() == ""


def test_csv_has_what_is_shown_and_no_formula(users: Table) -> None:
    harness, project, cuids = users.harness, users.project, users.cuids
    harness.service.edit_identifier("one", "phone", actor=TESTER, masked=True)
    harness.service.declare_attribute("one", Attribute("note", DataType.STRING, Rule.OVERWRITE), actor=TESTER)
    users.project = project = harness.service.project("one")
    for cuid, note in zip(cuids, ("=1+1", "-x", "@x", "+1", "\tx", 'say "hi", <b>', "中文"), strict=False):
        harness.write(
            harness.prepare(project, cuid, {"note": note, "user_number_overwrite": -5, "user_list_append": ["=a"]})
        )
    harness.service.add_user(project, 5, {"phone": "12345678"}, actor=TESTER)
    rows = users.csv(TableQuery(("note:set",), ("note", "user_number_overwrite", "user_list_append"), "-cuid"))
    assert rows[0] == [
        *("cuid", "phone", "jg_registration_id", "jg_UnionID", "note", "user_number_overwrite", "user_list_append"),
        *("version", "created_at", "updated_at", "#console"),
    ]
    assert [row[0] for row in rows[1:]] == [str(cuid) for cuid in cuids[6::-1]]
    assert [row[4] for row in rows[:0:-1]] == ["'=1+1", "'-x", "'@x", "'+1", "'\tx", 'say "hi", <b>', "中文"]
    assert {(row[5], row[6]) for row in rows[1:]} == {("-5", '["=a"]')}
    assert users.csv(TableQuery(("user_number_overwrite:unset",)))[1][1] == "1234****"
    by_time = TableQuery(order="-updated")
    users.counted(by_time)
    assert len(users.csv(by_time)) == USERS + 2
