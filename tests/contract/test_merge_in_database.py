"""PostgreSQL merges plain writes itself: for random values the result is that of the rules, or it declines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import postgres
from support.sample_project import sample_schema
from usertable.commands.reports import record
from usertable.domain.change import AttributeChange, Decision, Origin, UserChange, is_sole_actor
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, Restoration, validate
from usertable.domain.profile import Outcome, Profile
from usertable.domain.schema import Rule
from usertable.domain.values import ABSENT, DataType
from usertable.store import open_store
from usertable.store.encoding import decode_attributes, encode_attributes, encode_changed_at, encode_patches
from usertable.store.history import HistoryBlock, compress, encode_changes
from usertable.store.postgres import reads
from usertable.store.postgres.history import stored_block
from usertable.store.postgres.merge import STATEMENTS, mergeable
from usertable.store.records import Receipt, Write

SCHEMA = sample_schema("", elements=6)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4)
small = st.integers(-3, 3) | st.decimals(-5, 5, places=1)
VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.NUMBER: small
    | st.integers(-(10**38) + 1, 10**38 - 1)
    | st.builds(lambda digits, places: f"{digits}.{'0' * places}{abs(digits)}", st.integers(-99, 99), st.integers(0, 30)),
    DataType.STRING: texts,
    DataType.BOOL: st.integers(0, 1),
    DataType.DATETIME: st.integers(0, 3).map(lambda day: f"2024-02-2{day} 12:00:00"),
    DataType.LIST: st.lists(st.sampled_from("ABCDEFG") | texts, min_size=1, max_size=3),
}
patches = st.fixed_dictionaries({}, optional={a.name: VALUES[a.type] for a in SCHEMA.attributes.values()}).filter(bool)
removals = st.sets(st.sampled_from(sorted(SCHEMA.attributes.values(), key=lambda a: a.name)), min_size=1, max_size=4)
UNDO = "undo"
"""Stands for a report or removal: the attributes are restored to their values before the last step."""


@pytest.fixture(scope="module", params=[postgres.NEWEST, postgres.OLDEST])
def db(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    cluster = postgres.shared(request.param)
    url = cluster.create()
    open_store(url).close()
    with psycopg.connect(url, autocommit=True) as db:
        yield db
    cluster.drop(url)


def test_the_database_merges_as_the_rules_say(db: psycopg.Connection[tuple[Any, ...]]) -> None:
    declined = 0
    merged = 0

    @settings(max_examples=400, deadline=None)
    @given(st.lists(patches, min_size=1, max_size=8))
    def compare(history: list[dict[str, Any]]) -> None:
        nonlocal declined, merged
        profile = Profile.new(0)
        for now, raw in enumerate(history, start=1):
            patch = validate(SCHEMA, raw, UTC)
            if not isinstance(patch, Patch):
                continue
            decision = decide(profile, patch, now)
            write = Write(1, 1, patch, 1, now, Receipt("key", b"fingerprint"))
            encoded = encode_patches([write])
            ((declines, found, times, outcomes),) = db.execute(
                "SELECT merged IS NULL, coalesce(merged[1], '{}')::text, coalesce(merged[2], '{}'),"
                "   usertable.outcomes(before, coalesce(merged[1], '{}'), shape -> 'o')"
                " FROM (SELECT %s::jsonb AS before, %s::jsonb AS times) stored,"
                "   jsonb_to_recordset(%s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb),"
                "   jsonb_path_query(%s::jsonb, '$[0]') AS shape,"
                "   usertable.merged(before, times, p.t, p.s, shape -> 'w', p.o, shape -> 'm') merged",
                (
                    *(encode_attributes(profile.attributes), encode_changed_at(profile.changed_at)),
                    *(encoded.patches.decode(), encoded.shapes.decode()),
                ),
            ).fetchall()
            if declines:
                declined += 1
            else:
                merged += 1
                # If there are problems, it must have declined.
                assert not decision.problems
                assert outcomes == decision.outcomes
                expected = {} if decision.profile is profile else decision.profile.attributes
                assert times == ({} if decision.profile is profile else decision.profile.changed_at)
                attributes = decode_attributes(found)
                assert attributes == expected
                assert {name: repr(value) for name, value in attributes.items()} == {
                    name: repr(value) for name, value in expected.items()
                }
            profile = decision.profile

    compare()
    assert merged > declined


NO_HISTORY = ("string_overwrite", "number_accumulate")
"""Attributes whose history may be off."""
LONG_ACTOR = "key:the orders of the shop in Hangzhou"
AGAIN = "again"
"""Stands for the report of the last step."""
steps = st.lists(
    st.tuples(
        patches | st.just(AGAIN),
        st.sampled_from(["key:a", "key:b", LONG_ACTOR, ""]),
        st.integers(-1, 2),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def test_the_database_records_the_changes_that_the_rules_make(db: psycopg.Connection[tuple[Any, ...]]) -> None:
    """What it leaves to the rules includes writes that change nothing and may be recorded."""
    without = {name: replace(SCHEMA.attributes[name], history_since=None) for name in NO_HISTORY}
    partly = replace(SCHEMA, attributes={**SCHEMA.attributes, **without})
    counts = {"recorded": 0, "unrecorded": 0, "unchanged": 0, "declined": 0}

    @settings(max_examples=200, deadline=None)
    @given(steps)
    def compare(history: list[Any]) -> None:
        user = User(db)
        now, last = 1, {"string_overwrite": "a"}
        for step in history:
            raw, actor, pause, all_reports, is_partly = step
            now += pause
            last = last if raw == AGAIN else raw
            patch = validate(partly if is_partly else SCHEMA, last, UTC)
            if not isinstance(patch, Patch):
                continue
            origin = Origin(actor, occurred_at=now - 1 if pause else None) if actor else None
            write = Write(
                1, User.CUID, patch, 1, now, details=False, origin=origin, request="request", all_reports=all_reports
            )
            decision = decide(user.profile, patch, now)
            change = UserChange(User.CUID, decision, origin, "request", at=now)
            is_merged, block = user.merge(write)
            changes = decision.profile is not user.profile
            if not is_merged:
                counts["declined"] += 1
                # A write that must be refused is never merged; nor is one before the row's last change.
                assert decision.problems or now < user.profile.updated_at or not changes or is_inexact(decision)
                user.replace(change)
                continue
            assert not decision.problems
            if not changes:
                counts["unchanged"] += 1
                assert block is None
                assert not actor or (is_sole_actor(user.profile, actor) and not all_reports)
                continue
            record([], change)
            if origin is None:
                counts["unrecorded"] += 1
                assert block is None
            else:
                counts["recorded"] += 1
                assert block is not None
                (wanted,) = encode_changes([change], iter([block.block]))
                ((found, _),), ((expected, _),) = block.all_changes(), wanted.all_changes()
                assert repr(found) == repr(expected)
                assert list(block.whole().all_changes()) == [(found, [User.CUID])]
                earlier = replace(block, body=earlier_body(write))
                ((same, _),) = earlier.all_changes()
                assert repr(same) == repr(found)
                assert earlier.steps_after(now - 1) == block.steps_after(now - 1)
                assert (block.changes, block.latest) == (1, now)
            user.profile = decision.profile
            assert user.stored() == user.profile
            assert (user.stored().head, user.stored().sole_actor) == (user.profile.head, user.profile.sole_actor)

    compare()
    assert min(counts.values()) > 5, counts


def earlier_body(write: Write) -> bytes:
    """Return the body of a block with a write, as the first versions with history sent it to the database."""
    assert write.origin is not None
    entries = [entry for entry in write.patch.entries if entry[0].history_since is not None]
    overwritten = [attribute.name for attribute, _ in entries if attribute.rule is Rule.OVERWRITE]
    others = [attribute.name for attribute, _ in entries if attribute.rule is not Rule.OVERWRITE]
    reports = [(attribute.name, sent, [*overwritten, *others].index(attribute.name)) for attribute, sent in entries]
    origin = write.origin
    member = (0, write.cuid, 0, 1, 0, write.now, 0, 0, origin.actor, write.request, origin.source, reports)
    occurred = () if origin.occurred_at is None else ((), origin.occurred_at)
    return compress(msgspec.json.Encoder(decimal_format="number").encode([(*member, *occurred)]))


def is_inexact(decision: Decision) -> bool:
    """Return whether a sum is beyond what the database adds itself."""
    change = decision.changes.get("number_accumulate")
    if change is None or not isinstance(change.after, int | Decimal):
        return False
    total = Decimal(change.after)
    exponent = total.as_tuple().exponent
    assert isinstance(exponent, int)
    return abs(total) >= 10**28 or exponent < -10


class User:
    """A user's row in the database, and what it should be."""

    CUID = 10_000_001

    def __init__(self, db: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._db = db
        self.profile = Profile.new(0)
        db.execute("DELETE FROM usertable.users")
        db.execute("DELETE FROM usertable.history")
        db.execute("INSERT INTO usertable.project VALUES (1, 'one', 1, '') ON CONFLICT DO NOTHING")
        db.execute(
            "INSERT INTO usertable.users (project, cuid, version, created_at, updated_at, attributes, changed_at)"
            " VALUES (1, %s, 1, 0, 0, '{}', '{}')",
            (self.CUID,),
        )

    def merge(self, write: Write) -> tuple[bool, HistoryBlock | None]:
        """Let the database merge a write. Return whether it did, and the block that it recorded."""
        newest = self._db.execute("SELECT coalesce(max(block), 0) FROM usertable.history").fetchall()[0][0]
        (merge,) = mergeable([write], {1: set(SCHEMA.attributes)}, decide.row_limit)
        done = self._db.execute(STATEMENTS["merge"], merge.parameters).fetchall()
        rows = self._db.execute(
            "SELECT block, last, changes, latest, body, befores, previous FROM usertable.history WHERE block > %s", (newest,)
        ).fetchall()
        assert not rows or done
        return done == [(self.CUID,)], stored_block(*rows[0]) if rows else None

    def replace(self, change: UserChange) -> None:
        """Store the change as the transaction for other writes does."""
        if change.decision.problems:
            return
        ((block,),) = self._db.execute("SELECT usertable.draw_block()").fetchall()
        record([], change)
        if change.origin is not None:
            encode_changes([change], iter([block]))
        self.profile = p = change.decision.profile
        self._db.execute(
            "UPDATE usertable.users SET version = %s, updated_at = %s, attributes = %s, changed_at = %s, head = %s,"
            " sole_actor = %s",
            (
                *(p.version, p.updated_at, encode_attributes(p.attributes), encode_changed_at(p.changed_at)),
                *(p.head, p.sole_actor),
            ),
        )

    def stored(self) -> Profile:
        found = reads.user(self._db, None, 1, self.CUID)
        assert found is not None
        return found.profile


def test_the_database_tells_the_changes_that_the_rules_tell(db: psycopg.Connection[tuple[Any, ...]]) -> None:
    removed = 0

    @settings(max_examples=200, deadline=None)
    @given(st.lists(patches | removals | st.just(UNDO), min_size=1, max_size=8))
    def compare(history: list[Any]) -> None:
        nonlocal removed
        profile = Profile.new(0)
        changes: dict[str, AttributeChange] = {}
        for now, step in enumerate(history, start=1):
            patch = patch_of(step, changes)
            if not patch.entries:
                continue
            decision = decide(profile, patch, now)
            changes = decision.changes
            names = [(attribute.rule, attribute.name) for attribute, _ in patch.entries]
            ((found,),) = db.execute(
                "SELECT usertable.changes(%s::jsonb, %s::jsonb, %s::jsonb)::text",
                (*map(encode_attributes, (profile.attributes, decision.profile.attributes)), json.dumps(names)),
            ).fetchall()
            expected = {
                name: [None if value is ABSENT else value for value in (change.before, change.after)]
                for name, change in changes.items()
                if change.outcome is Outcome.APPLIED
            }
            assert {name: repr(pair) for name, pair in decode_attributes(found).items()} == {
                name: repr(pair) for name, pair in expected.items()
            }
            removed += sum(after is None for _, after in expected.values())
            profile = decision.profile

    compare()
    assert removed


def patch_of(step: Any, changes: dict[str, AttributeChange]) -> Patch | Restoration:
    """Return the patch for a step of a history after those changes."""
    if step == UNDO:
        return Restoration([(SCHEMA.attributes[name], change.before) for name, change in changes.items()])
    if isinstance(step, set):
        return Restoration([(attribute, ABSENT) for attribute in step])
    patch = validate(SCHEMA, step, UTC)
    return patch if isinstance(patch, Patch) else Patch([])
