"""PostgreSQL merges plain writes by itself: on random values that is what the rules say, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import postgres
from support.sample_project import sample_schema
from usertable.domain.change import AttributeChange
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, Restoration, validate
from usertable.domain.profile import Outcome, Profile
from usertable.domain.values import ABSENT, DataType
from usertable.store import open_store
from usertable.store.encoding import decode_attributes, encode_attributes, encode_changed_at, encode_patches
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
"""In place of what is reported or removed: the attributes are set back to what they were before the last step."""


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
            ((declines, found, times, outcomes),) = db.execute(
                "SELECT merged IS NULL, coalesce(merged[1], '{}')::text, coalesce(merged[2], '{}'),"
                "   usertable.outcomes(before, coalesce(merged[1], '{}'), n)"
                " FROM (SELECT %s::jsonb AS before, %s::jsonb AS times) stored,"
                "   jsonb_to_recordset(%s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb, n jsonb),"
                "   jsonb_path_query(%s::jsonb, '$[0]') AS shape,"
                "   usertable.merged(before, times, p.t, p.s, shape -> 'w', p.o, shape -> 'm') merged",
                (encode_attributes(profile.attributes), encode_changed_at(profile.changed_at), *encode_patches([write])),
            ).fetchall()
            if declines:
                declined += 1
            else:
                merged += 1
                # With problems, it must have declined.
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
    """What a step of a history does after those changes."""
    if step == UNDO:
        return Restoration([(SCHEMA.attributes[name], change.before) for name, change in changes.items()])
    if isinstance(step, set):
        return Restoration([(attribute, ABSENT) for attribute in step])
    patch = validate(SCHEMA, step, UTC)
    return patch if isinstance(patch, Patch) else Patch([])
