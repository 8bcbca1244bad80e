"""Random calls on every database, compared after every step with the memory store: rows, and their history.

The store is closed and reopened meanwhile. What was read at a moment is what history says of it later.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from support.actors import TESTER
from support.commands import all_users, edit_project, erase_user, import_batch
from support.engines import ENGINES
from support.histories import check_history, present, user_and_changes
from support.store_harness import StoreHarness
from usertable.commands.users import origin_of
from usertable.domain.actor import Actor
from usertable.domain.change import Change, ChangeKind, Origin
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.history import PastUser
from usertable.domain.patch import Patch, Restoration, validate
from usertable.domain.schema import Attribute, Identifier, Project, Rule
from usertable.domain.values import ABSENT, DataType
from usertable.store import history, open_store
from usertable.store.encoding import encode_attributes
from usertable.store.records import ImportBatch, ImportRow, ImportRows, Receipt, Write, Written

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5)
numbers = st.integers(-(10**39), 10**39) | st.decimals(-(10**6), 10**6, places=2)
DATA: dict[str, st.SearchStrategy[Any]] = {
    "user_number_overwrite": numbers,
    "user_number_once": numbers,
    "user_number_accumulate": numbers,
    "user_string_overwrite": texts,
    "user_string_once": texts,
    "user_bool_overwrite": st.integers(0, 1),
    "user_datetime_once": st.just("2024-02-29 12:00:00"),
    "user_list_overwrite": st.lists(texts, min_size=1, max_size=3),
    "user_list_append": st.lists(st.sampled_from("ABCDEF"), min_size=1, max_size=4),
}
data = st.fixed_dictionaries({}, optional=DATA).filter(bool)
keys = st.sampled_from(["", "", "k1", "k2"])
pairs = st.dictionaries(st.sampled_from(["phone", "email"]), st.sampled_from("abcd"), max_size=2).map(
    lambda d: tuple(d.items())
)
imported_cuids = st.none() | st.integers(10_000_001, 10_000_012) | st.integers(1, 3)
imported_rows = st.lists(st.tuples(imported_cuids, pairs, st.just({}) | data), min_size=1, max_size=6)
row_keys = st.none() | st.lists(keys, min_size=6, max_size=6)
restored = st.dictionaries(st.sampled_from(sorted(DATA)), st.booleans(), min_size=1, max_size=4)
actors = st.sampled_from([Actor.key("a"), Actor.key("b"), TESTER])
one_write = st.tuples(data, keys, st.sampled_from([b"a", b"b"]), st.booleans(), st.booleans(), st.booleans(), actors)


class Stores(RuleBasedStateMachine):
    """Every call goes to both stores; answers and tables must be equal."""

    engine: ClassVar[str]
    has_same_blocks: ClassVar[bool]
    """Whether its blocks of history are those of the memory store: then the same ones are pruned."""

    def __init__(self) -> None:
        super().__init__()
        self._places = ExitStack()
        folder = self._places.enter_context(tempfile.TemporaryDirectory())
        self._url = self._places.enter_context(ENGINES[self.engine](Path(folder)))
        self._houses = (StoreHarness(open_store("memory:")), StoreHarness(open_store(self._url)))
        self._extra = 0
        self._reads: dict[int, dict[int, PastUser]] = {}
        """By user and moment, what was read then."""
        self._changes: dict[int, list[Change]] = {}
        """By user, its changes after the last step, newest first."""
        self._is_pruned = False
        """Whether the last step removed changes."""
        self._on_since: int | None = self._houses[0].now
        self._whole = True
        """Whether history was on ever since, for all attributes."""
        self._was_set_back = False

    def both(self, call: Callable[[StoreHarness], Any]) -> Any:
        answers = []
        for harness in self._houses:
            try:
                answers.append(call(harness))
            except Refused as refused:
                answers.append(refused.problems)
        assert answers[0] == answers[1]
        return answers[0]

    users = Bundle("users")

    @initialize()
    def begin(self) -> None:
        for harness in self._houses:
            harness.project("one")
            harness.service.declare_identifier("one", Identifier("email", unique=False), actor=TESTER)

    @rule(target=users, value=texts)
    def register(self, value: str) -> int:
        (cuid,) = self.both(lambda h: h.service.register(h.service.project("one"), "phone", [value], actor=TESTER))
        return int(cuid)

    @rule(cuid=st.integers(10_000_001, 10_000_012))
    def import_one(self, cuid: int) -> None:
        self.both(lambda h: h.service.add_user(h.service.project("one"), cuid, {}, actor=TESTER).cuid)

    @rule(cuid=users, writes=st.lists(one_write, min_size=1, max_size=5), other=users)
    def write(self, cuid: int, other: int, writes: list[Any]) -> None:
        def call(harness: StoreHarness) -> Any:
            project = harness.service.project("one")
            batch = []
            for place, (values, key, body, whole, dry_run, details, actor) in enumerate(writes):
                patch = validate(project.schema, values, project.zone)
                if isinstance(patch, Patch):
                    receipt = Receipt(key, body, whole) if key else None
                    user = other if place % 3 == 2 else cuid
                    write = Write(project.number, user, patch, project.version, harness.now, receipt, dry_run, details)
                    batch.append(recorded(project, write, actor))
            return [
                type(result) if isinstance(result, Written) and not write.details else result
                for write, result in zip(batch, harness.write(*batch), strict=True)
            ]

        self.both(call)

    @rule(cuid=users, names=restored, values=data)
    def restore(self, cuid: int, names: dict[str, bool], values: dict[str, Any]) -> None:
        """Restore attributes to some value, whatever their rules, or to none."""

        def call(harness: StoreHarness) -> Any:
            project = harness.service.project("one")
            patch = validate(project.schema, values, project.zone)
            kept = {attribute.name: value for attribute, value in patch.entries} if isinstance(patch, Patch) else {}
            attributes = project.schema.attributes
            back = [(attributes[name], ABSENT if absent else kept.get(name, ABSENT)) for name, absent in names.items()]
            write = Write(project.number, cuid, Restoration(back), project.version, harness.now)
            return harness.write(recorded(project, write, TESTER))

        self.both(call)

    @rule(
        rows=imported_rows,
        register=st.booleans(),
        dry_run=st.booleans(),
        keys=st.none() | st.lists(keys, min_size=6, max_size=6),
    )
    def import_rows(self, rows: list[Any], register: bool, dry_run: bool, keys: list[str] | None) -> None:
        def call(harness: StoreHarness) -> Any:
            project = harness.service.project("one")
            whole: list[ImportRow] = []
            names: set[str] = set()
            for cuid, identifiers, values in rows:
                patch = validate(project.schema, values, project.zone) if values else Patch([])
                if isinstance(patch, Patch) and (cuid is not None or identifiers):
                    attributes = {attribute.name: value for attribute, value in patch.entries}
                    whole.append((cuid, identifiers, encode_attributes(attributes)))
                    names.update(attributes)
            batch = ImportBatch(
                project.number,
                project.version,
                ImportRows.of(whole),
                frozenset(names),
                harness.now,
                register=register,
                job="job",
                before=harness.store.job(project.number, "job"),
                dry_run=dry_run,
                origin=Origin("import:job") if project.history.is_on else None,
            )
            if keys is None:
                return import_batch(
                    harness.store, batch, note=lambda taken: f"{harness.now} {taken.created} {taken.changed}"
                )
            batch.receipts = [Receipt(key, b"a") if key else None for key in keys[: len(whole)]]
            return import_batch(harness.store, batch)

        self.both(call)
        self.both(lambda h: h.store.job(1, "job"))

    @rule(cuid=consumes(users))
    def erase(self, cuid: int) -> None:
        self.both(lambda h: erase_user(h.store, h.service.project("one").number, cuid))
        self._reads.pop(cuid, None)
        for harness in self._houses:
            blocks = harness.store.history_blocks(1, None, 1_000_000)
            left = [change for block in blocks for change, cuids in block.all_changes() if cuids == [cuid]]
            assert all(change.kind in (ChangeKind.ERASED, ChangeKind.CREATED) for change in left)
            assert not any(change.reports or change.identifiers for change in left)

    @rule(days=st.sampled_from([0, 30, 30]), all_reports=st.booleans())
    def keep_history(self, days: int, all_reports: bool) -> None:
        self.both(lambda h: h.service.edit_history("one", days=days, all_reports=all_reports, actor=TESTER).history)
        if days == 0:
            self._on_since, self._whole = None, False
        elif self._on_since is None:
            # If a clock was set back, not before what was recorded until then.
            self._on_since = self.both(lambda h: h.store.history_since(1))
            now = self._houses[0].now
            assert self._on_since == now or (self._was_set_back and self._on_since > now)

    @rule(name=st.sampled_from(sorted(DATA)), is_on=st.booleans())
    def keep_history_of_attribute(self, name: str, is_on: bool) -> None:
        def edited(harness: StoreHarness, project: Project) -> Project:
            attributes = dict(project.schema.attributes)
            attribute = attributes[name]
            if is_on != (attribute.history_since is not None):
                attributes[name] = replace(attribute, history_since=harness.now if is_on else None)
            return replace(project, schema=replace(project.schema, attributes=attributes))

        def call(harness: StoreHarness) -> object:
            project = edit_project(harness.store, "one", lambda p: edited(harness, p), TESTER, harness.now)
            return project.schema.attribute(name).history_since

        if self.both(call) is None:
            self._whole = False

    @rule(cuid=users, index=st.integers(0, 100))
    def look_back(self, cuid: int, index: int) -> None:
        """What was read at a moment is what history says of it, or it says that it does not know."""
        moments = sorted(self._reads.get(cuid, {}))
        for moment in moments[index % max(1, len(moments)) :][:4]:
            self._look_back(cuid, moment)

    def _look_back(self, cuid: int, moment: int) -> None:
        project = self._houses[0].service.project("one")
        found = self.both(lambda h: h.service.user_as_of(h.service.project("one"), cuid, moment))
        if isinstance(found, PastUser):
            attributes = project.schema.attributes.items()
            names = {name for name, attribute in attributes if not attribute.history_at(moment)}
            # If a clock was behind, it is known for each user only.
            assert set(found.not_kept) == names or (self._was_set_back and set(found.not_kept) > names)
            names = set(found.not_kept)
            read = self._reads[cuid][moment]
            known = {name: value for name, value in read.attributes.items() if name not in names}
            assert self._on_since is not None
            assert replace(found, not_kept=[]) == replace(read, attributes=known)
        else:
            (problem,) = found
            assert problem.kind in (ProblemKind.HISTORY_OFF, ProblemKind.HISTORY_GONE)
            is_known = self._on_since is not None and moment >= self._on_since
            assert not is_known or self._was_set_back

    @rule(ago=st.sampled_from([-5000, 500, 3000]))
    def pack(self, ago: int) -> None:
        for harness in self._houses:
            while harness.store.pack_history(1, harness.now - ago).blocks:
                pass

    @rule(ago=st.sampled_from([-5000, 500, 3000]), excess=st.sampled_from([0, 0, 200]))
    def prune(self, ago: int, excess: int) -> None:
        if not self.has_same_blocks:
            # Other reports would be recorded: whether one says something new is not known of what is removed.
            return
        found = self.both(lambda h: h.store.prune_history(1, h.now - ago, excess, h.now))
        since = self.both(lambda h: h.store.history_since(1))
        if found.blocks:
            self._whole, self._is_pruned = False, True
        if self._on_since is not None:
            assert since >= self._on_since
        self._on_since = since

    @rule(milliseconds=st.sampled_from([1, 500, 2500]))
    def clock_is_set_back(self, milliseconds: int) -> None:
        self._was_set_back = True
        for harness in self._houses:
            harness.now -= milliseconds
        now = self._houses[0].now
        self._reads = {
            cuid: {moment: read for moment, read in reads.items() if moment < now} for cuid, reads in self._reads.items()
        }

    @rule()
    def declare(self) -> None:
        self._extra += 1
        attribute = Attribute(f"extra_{self._extra}", DataType.STRING, Rule.ONCE)
        self.both(lambda h: h.service.declare_attribute("one", attribute, actor=TESTER))

    @rule(name=st.sampled_from([*DATA, "extra_1"]))
    def delete(self, name: str) -> None:
        if name.startswith("extra"):
            self.both(lambda h: h.service.delete_attribute("one", name, actor=TESTER))
        else:
            self.both(lambda h: h.service.edit_attribute("one", name, actor=TESTER, hidden=True).hidden)

    @rule()
    def time_passes(self) -> None:
        for harness in self._houses:
            harness.now += 1000
        self.both(lambda h: h.store.expire_receipts(h.now - 3000))

    @rule()
    def reopen(self) -> None:
        self._houses[1].store.close()
        self._houses[1].store = self._houses[1].service._store = open_store(self._url)

    @invariant()
    def tables_agree(self) -> None:
        self.both(lambda h: [_comparable(p) for p in h.store.projects()])
        if self._houses[0].store.projects():
            self.both(lambda h: all_users(h.store, 1))
            self._histories_agree()

    def _histories_agree(self) -> None:
        memory = self._houses[0]
        assert self.both(lambda h: h.store.history_since(1)) == self._on_since
        schema = memory.service.project("one").schema
        for user in all_users(memory.store, 1):
            reads = self._reads.setdefault(user.cuid, {})
            changes = self.both(lambda h, cuid=user.cuid: history_of(h, cuid))  # type: ignore[misc]
            before = self._changes.get(user.cuid, [])
            # Nothing but pruning and erasing removes a change, and only the oldest.
            assert self._is_pruned or changes[len(changes) - len(before) :] == before
            self._changes[user.cuid] = changes
            if user.profile.updated_at <= memory.now and all(change.at <= memory.now for change in changes):
                reads[memory.now] = present(user)
            if self._whole:
                check_history(memory.store, 1, user.cuid, schema)
        self._is_pruned = False

    def teardown(self) -> None:
        for harness in self._houses:
            harness.store.close()
        self._places.close()


def _comparable(project: Project) -> Project:
    """Return a project without what differs from store to store: secrets, and numbers of changes."""
    attributes = {name: replace(a, history_from=0) for name, a in project.schema.attributes.items()}
    schema = replace(project.schema, attributes=attributes)
    return replace(project, secret_salt=b"", secret_hash=b"", stored_keys=(), schema=schema)


def recorded(project: Project, write: Write, actor: Actor) -> Write:
    """Return a write with its origin, as the server makes it."""
    return replace(
        write, origin=origin_of(project, actor), request=actor.request_id, all_reports=project.history.all_reports
    )


def history_of(harness: StoreHarness, cuid: int) -> list[Change]:
    """Return a user's changes without their numbers, which differ between engines."""
    user, changes = user_and_changes(harness.store, 1, cuid)
    assert [change.number for change in changes] == sorted((change.number for change in changes), reverse=True)
    assert not changes or user.profile.head == changes[0].number
    return [replace(change, number=0, previous=0) for change in changes]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "memory"])
def test_every_store_does_as_memory_does(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 8)
    machine = type(engine, (Stores,), {"engine": engine, "has_same_blocks": engine == "sqlite"})
    examples = 60 if engine == "sqlite" else 20
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))
