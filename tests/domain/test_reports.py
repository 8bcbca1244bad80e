"""Reports that change nothing: who has already sent a value, and how many changes are read to know it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from usertable.domain.history import Sent, has_sent


class Read:
    """Changes, newest first, and how many of them were read."""

    def __init__(self, *changes: Sent) -> None:
        self._changes = changes
        self.count = 0

    def __iter__(self) -> Iterator[Sent]:
        for change in self._changes:
            self.count += 1
            yield change


def by(actor: str, *names: str, changed: bool = True) -> Sent:
    return Sent(actor, {*names}, changed)


@pytest.mark.parametrize(
    ("changes", "names", "answer", "read"),
    [
        ([by("a", "level")], ["level"], True, 1),
        ([by("a", "level"), by("b", "level")], ["level"], True, 1),
        ([by("b", "level"), by("a", "level")], ["level"], False, 1),
        ([by("b", "level", changed=False), by("a", "level"), by("b", "level")], ["level"], True, 2),
        ([by("b", "city"), by("a", "level"), by("b", "level")], ["level"], True, 2),
        ([by("a", "city"), by("b", "age"), by("a", "level"), by("b", "level")], ["level", "city"], True, 3),
        ([by("b", "city")], ["level"], False, 1),
        ([], ["level"], False, 0),
        ([by("b", "level")], [], True, 0),
    ],
)
def test_no_more_changes_are_read_than_it_takes_to_know_who_sent_a_value(
    changes: list[Sent], names: list[str], answer: bool, read: int
) -> None:
    found = Read(*changes)
    assert has_sent(found, "a", names, 8) is answer
    assert found.count == read


def test_beyond_the_maximum_no_change_is_read() -> None:
    others = [by("b", "city")] * 8
    found = Read(*others, by("a", "level"))
    assert not has_sent(found, "a", ["level"], 8)
    assert found.count == 8
    assert has_sent(Read(*others[:7], by("a", "level")), "a", ["level"], 8)
