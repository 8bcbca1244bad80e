"""Random calls on every database, compared after every step with the memory store; it is closed and opened on the way."""

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

from support.commands import all_users, erase_user, import_batch
from support.engines import ENGINES
from support.store_harness import StoreHarness
from usertable.domain.errors import Refused
from usertable.domain.patch import Patch, Restoration, validate
from usertable.domain.schema import Attribute, Identifier, Rule
from usertable.domain.values import ABSENT, DataType
from usertable.store import open_store
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
one_write = st.tuples(data, keys, st.sampled_from([b"a", b"b"]), st.booleans(), st.booleans(), st.booleans())


class Stores(RuleBasedStateMachine):
    """Every call goes to both; answers and tables must agree."""

    engine: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._places = ExitStack()
        folder = self._places.enter_context(tempfile.TemporaryDirectory())
        self._url = self._places.enter_context(ENGINES[self.engine](Path(folder)))
        self._houses = (StoreHarness(open_store("memory:")), StoreHarness(open_store(self._url)))
        self._extra = 0

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
            harness.service.declare_identifier("one", Identifier("email", unique=False), actor="test")

    @rule(target=users, value=texts)
    def register(self, value: str) -> int:
        (cuid,) = self.both(lambda h: h.service.register(h.service.project("one"), "phone", [value]))
        return int(cuid)

    @rule(cuid=st.integers(10_000_001, 10_000_012))
    def import_one(self, cuid: int) -> None:
        self.both(lambda h: h.service.add_user(h.service.project("one"), cuid, {}).cuid)

    @rule(cuid=users, writes=st.lists(one_write, min_size=1, max_size=5), other=users)
    def write(self, cuid: int, other: int, writes: list[Any]) -> None:
        def call(harness: StoreHarness) -> Any:
            project = harness.service.project("one")
            batch = []
            for place, (values, key, body, whole, dry_run, details) in enumerate(writes):
                patch = validate(project.schema, values, project.zone)
                if isinstance(patch, Patch):
                    receipt = Receipt(key, body, whole) if key else None
                    user = other if place % 3 == 2 else cuid
                    batch.append(Write(project.number, user, patch, project.version, harness.now, receipt, dry_run, details))
            return [
                type(result) if isinstance(result, Written) and not write.details else result
                for write, result in zip(batch, harness.write(*batch), strict=True)
            ]

        self.both(call)

    @rule(cuid=users, names=restored, values=data)
    def restore(self, cuid: int, names: dict[str, bool], values: dict[str, Any]) -> None:
        """Attributes are set back to some value, whatever their rules, or to none."""

        def call(harness: StoreHarness) -> Any:
            project = harness.service.project("one")
            patch = validate(project.schema, values, project.zone)
            kept = {attribute.name: value for attribute, value in patch.entries} if isinstance(patch, Patch) else {}
            attributes = project.schema.attributes
            back = [(attributes[name], ABSENT if absent else kept.get(name, ABSENT)) for name, absent in names.items()]
            write = Write(project.number, cuid, Restoration(back), project.version, harness.now)
            return harness.write(write)

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

    @rule()
    def declare(self) -> None:
        self._extra += 1
        attribute = Attribute(f"extra_{self._extra}", DataType.STRING, Rule.ONCE)
        self.both(lambda h: h.service.declare_attribute("one", attribute, actor="test"))

    @rule(name=st.sampled_from([*DATA, "extra_1"]))
    def delete(self, name: str) -> None:
        if name.startswith("extra"):
            self.both(lambda h: h.service.delete_attribute("one", name, actor="test"))
        else:
            self.both(lambda h: h.service.edit_attribute("one", name, actor="test", hidden=True).hidden)

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
        self.both(lambda h: [replace(p, secret_salt=b"", secret_hash=b"") for p in h.store.projects()])
        if self._houses[0].store.projects():
            self.both(lambda h: all_users(h.store, 1))

    def teardown(self) -> None:
        for harness in self._houses:
            harness.store.close()
        self._places.close()


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "memory"])
def test_every_store_does_as_memory_does(engine: str) -> None:
    machine = type(engine, (Stores,), {"engine": engine})
    examples = 60 if engine == "sqlite" else 20
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))
