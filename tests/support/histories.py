"""A user's history, and whether it is intact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usertable.domain.change import Change, ChangeKind
from usertable.domain.history import PastUser, Rewinding, as_of
from usertable.domain.merge import RULES
from usertable.domain.schema import Attribute, Rule, Schema
from usertable.domain.values import ABSENT
from usertable.store import Store
from usertable.store.records import User


def present(user: User) -> PastUser:
    """Return a user's row in the form of an earlier one."""
    p = user.profile
    return PastUser(user.cuid, p.version, p.created_at, p.updated_at, dict(p.attributes), user.identifiers)


def user_and_changes(store: Store, project: int, cuid: int) -> tuple[User, list[Change]]:
    """Return a user and its changes, newest first, as of one moment."""

    def work(user: User | None, changes: Iterator[Change]) -> tuple[User, list[Change]]:
        assert user is not None
        return user, list(changes)

    return store.with_changes(project, cuid, work)


def past(store: Store, project: int, cuid: int, moment: int, schema: Schema) -> PastUser | None:
    """Return a user as of a moment (ms since 1970 UTC); None if it did not exist. Raises Refused if that is not kept."""

    def work(user: User | None, changes: Iterator[Change]) -> PastUser | None:
        assert user is not None
        return as_of(present(user), changes, moment, schema)

    return store.with_changes(project, cuid, work, after=moment)


def check_history(store: Store, project: int, cuid: int, schema: Schema) -> list[Change]:
    """Check that every write of a user is in its history, and nothing else. Return its changes, newest first.

    The newest change is of the row's version, each version has its change down to the creation, and the values that were
    sent, merged in order by their rules, give the row.
    """
    user, changes = user_and_changes(store, project, cuid)
    assert changes, f"{cuid} has no change"
    *later, created = changes
    assert (created.kind, created.previous, created.at) == (ChangeKind.CREATED, 0, user.profile.created_at)
    back = Rewinding(present(user))
    number = user.profile.head
    for change in later:
        assert change.kind not in (ChangeKind.CREATED, ChangeKind.ERASED)
        assert change.number == number > change.previous
        number = change.previous
        assert back.follows(change), f"{cuid}: change {change} did not leave version {back.user.version}"
        if change.changed:
            assert back.user.updated_at == change.at
        back.undo(change, schema)
    assert created.number == number
    row = back.user
    assert row.updated_at == row.created_at
    # Several rows of one import may have created the user.
    is_import = created.origin.actor.startswith("import:") and bool(row.attributes)
    assert row.version == 1 + bool(row.attributes) or is_import, f"{cuid}: no change leads to version {row.version}"
    values: dict[str, Any] = dict(row.attributes)
    identifiers = {name: list(them) for name, them in row.identifiers.items()}
    version = row.version
    for change in reversed(later):
        for name in change.reports:
            values[name] = _merged(schema.attributes[name], change, values.get(name))
        values = {name: value for name, value in values.items() if value is not ABSENT}
        for name, value in change.identifiers:
            identifiers.setdefault(name, []).append(value)
        version += change.changed
    assert values == user.profile.attributes
    assert {name: sorted(them) for name, them in identifiers.items()} == {
        name: sorted(them) for name, them in user.identifiers.items()
    }
    assert version == user.profile.version
    return changes


def _merged(attribute: Attribute, change: Change, stored: Any) -> Any:
    """Return the value that a change leaves, and check what it says of the value before."""
    report = change.reports[attribute.name]
    if attribute.rule is Rule.APPEND and change.kind is not ChangeKind.UNDO:
        assert report.elements == (None if stored is None else len(stored))
    else:
        assert report.before == (ABSENT if stored is None else stored)
    if change.kind is ChangeKind.UNDO:
        return report.sent
    merged = RULES[attribute.rule](attribute, stored, report.sent)
    assert isinstance(merged, tuple)
    return merged[0]
