"""A user as of an earlier moment, from what stood before each change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from usertable.domain import history
from usertable.domain.change import Change, ChangeKind, Origin, Report
from usertable.domain.history import PastUser, as_of, difference
from usertable.domain.schema import Attribute, Rule, Schema
from usertable.domain.values import ABSENT, DataType

NAMES = ("level", "tags", "labels")
SCHEMA = (
    Schema()
    .declare(Attribute("level", DataType.STRING, Rule.OVERWRITE, history_since=0))
    .declare(Attribute("tags", DataType.LIST, Rule.APPEND, history_since=0))
    .declare(Attribute("labels", DataType.LIST, Rule.APPEND, history_since=0))
)


class Reports(Mapping[str, Report]):
    """Reports that take note of which were read."""

    def __init__(self, reports: dict[str, Report]) -> None:
        self.reports = reports
        self.used: list[str] = []

    def __getitem__(self, name: str) -> Report:
        self.used.append(name)
        return self.reports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)


@dataclass
class User:
    """A user with the changes so far, oldest first, and the row after each."""

    rows: list[PastUser]
    changes: list[Change]

    def write(self, sent: dict[str, Any], *, is_undo: bool) -> None:
        before = self.rows[-1]
        values: dict[str, Any] = dict(before.attributes)
        reports: dict[str, Report] = {}
        for name, value in sent.items():
            stood = values.get(name, ABSENT)
            if is_undo:
                reports[name] = Report(value, stood)
                values[name] = value
            elif name == "level":
                reports[name] = Report(value[0], stood)
                values[name] = value[0]
            else:
                added = [each for each in value if each not in values.get(name, [])]
                reports[name] = Report(value, ABSENT, None if stood is ABSENT else len(values[name]), added)
                values[name] = [*values.get(name, []), *added]
        version, at = before.version + 1, before.updated_at + 10
        kind = ChangeKind.UNDO if is_undo else ChangeKind.WRITE
        number = len(self.changes) + 1
        self.changes.append(
            Change(number, 7, version, True, number - 1, at, before.updated_at, kind, Origin("key:a"), "", Reports(reports))
        )
        attributes = {name: value for name, value in values.items() if value is not ABSENT}
        self.rows.append(PastUser(7, version, 0, at, attributes, {}))

    def past(self, moment: int) -> PastUser | None:
        return as_of(self.rows[-1], iter(self.changes[::-1]), moment, SCHEMA)


def user() -> User:
    return User([PastUser(7, 1, 0, 0, {}, {})], [])


values = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True)
writes = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(NAMES), values, min_size=1), st.just(False))
    | st.tuples(st.dictionaries(st.sampled_from(NAMES), values | st.just(ABSENT), min_size=1), st.just(True)),
    max_size=12,
)


@given(writes, st.integers(1, 12))
def test_every_row_is_known_whatever_was_written_and_undone_since(
    writes: list[tuple[dict[str, Any], bool]], unread: int
) -> None:
    found = user()
    for sent, is_undo in writes:
        found.write(sent, is_undo=is_undo)
    with mock.patch.object(history, "UNREAD_CHANGES", unread):
        for row in found.rows:
            assert found.past(row.updated_at + 5) == row


@given(writes, st.data())
def test_a_user_at_two_moments_is_the_user_at_each(writes: list[tuple[dict[str, Any], bool]], data: st.DataObject) -> None:
    found = user()
    for sent, is_undo in writes:
        found.write(sent, is_undo=is_undo)
    start, end = sorted(
        (data.draw(st.sampled_from(range(len(found.rows)))), data.draw(st.sampled_from(range(len(found.rows)))))
    )
    first, second = (found.rows[index] for index in (start, end))
    both = difference(found.rows[-1], iter(found.changes[::-1]), first.updated_at, second.updated_at, SCHEMA)
    assert both[:2] == (first, second)


def test_a_change_counts_for_the_attributes_that_it_changed() -> None:
    found = user()
    for sent in ({"level": ["a"]}, {"level": ["a"], "tags": ["a"]}, {"tags": ["a"], "labels": ["b"]}):
        found.write(sent, is_undo=False)
    _, _, attributes = difference(found.rows[-1], iter(found.changes[::-1]), 5, 100, SCHEMA)
    assert {name: (one.changes, one.last and one.last.number) for name, one in attributes.items()} == {
        "level": (1, 1),
        "tags": (1, 2),
        "labels": (1, 3),
    }


def test_only_the_oldest_report_of_an_attribute_is_read() -> None:
    found = user()
    for sent in ({"level": ["a"]}, {"level": ["b"], "tags": ["a"]}, {"level": ["c"], "tags": ["b"]}, {"labels": ["a"]}):
        found.write(sent, is_undo=False)
    past = found.past(15)
    assert past == found.rows[1]
    assert [sorted(change.reports.used) for change in found.changes] == [[], ["level", "tags"], [], ["labels"]]  # type: ignore[attr-defined]


def test_of_many_changes_few_are_kept_unread() -> None:
    found = user()
    for number in range(100):
        found.write({"level": [str(number)]}, is_undo=False)
    assert found.past(5) == found.rows[0]
    read = [change.number for change in found.changes if change.reports.used]  # type: ignore[attr-defined]
    assert read == [1, 5, 37, 69]
