"""What is left of an erased user: its CUID, and how many changes it had. None of its values."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import psycopg
import pytest

from contract.test_retention import pack
from support.actors import TESTER
from support.commands import import_batch
from support.engines import ENGINES
from support.histories import check_history
from support.store_harness import StoreHarness
from support.waiting import wait_until
from usertable.app.clock import Clock
from usertable.app.retention import HistoryRetention
from usertable.commands import users
from usertable.domain.arrival import Arrival, Arrivals, SampledAttribute
from usertable.domain.audit import AuditFilter, AuditKind
from usertable.domain.change import Change, ChangeKind, Origin
from usertable.domain.patch import Restoration
from usertable.domain.schema import Project
from usertable.store import history, open_store
from usertable.store.history import HistoryBlock
from usertable.store.records import ImportBatch, ImportRow, ImportRows, Write
from usertable.store.transaction import Transaction, Wanted
from usertable.zstandard import zstd

VALUE, PHONE = "Traitor of Arnhem", "18099977755"
"""What only the erased user has."""
ZSTD_FRAME = b"\x28\xb5\x2f\xfd"
USERS, ROUNDS = 120, 150
TESTS = Path(__file__).parents[1]
KILLED_BEFORE_IT_FORGETS = """
import signal, sys
from dataclasses import replace
from support.store_harness import StoreHarness
from usertable.store import open_store
from usertable.store.postgres import store

def forget_undone(*arguments):
    print("merged", flush=True)
    signal.pause()

store.forget_undone = forget_undone
url, one, two, value = sys.argv[1:]
harness = StoreHarness(open_store(url))
project = harness.service.project("one")
sent = {int(one): value, int(two): "beside"}
writes = [harness.prepare(project, cuid, {"user_string_overwrite": text}) for cuid, text in sent.items()]
harness.write(*(replace(write, details=False) for write in writes))
"""
"""What was merged for two users stays as it was sent."""


class Sample:
    """A store of many users, one of whom has values by which its traces are found.

    It wrote, with receipts, in commits of many users; was imported onto, with an identifier value; its attributes were
    restored, and others repeated what it has.
    """

    def __init__(self, url: str) -> None:
        self.harness = harness = StoreHarness(open_store(url))
        self.project = project = harness.project()
        phones = [f"{number:011}" for number in range(USERS)]
        phones.insert(USERS // 2, PHONE)
        self.cuids = harness.service.register(project, "phone", phones, actor=TESTER)
        self.cuid = self.cuids.pop(USERS // 2)
        chance = random.Random(5)
        for turn in range(ROUNDS):
            harness.now += 1000
            cuids = [*chance.sample(self.cuids, 8), self.cuid]
            chance.shuffle(cuids)
            harness.write(*(self.write(cuid, turn, chance.choice([1, 1, 3, 60])) for cuid in cuids))
        rows: list[ImportRow] = [(cuid, (), f'{{"user_string_once":"{cuid}"}}') for cuid in self.cuids[:20]]
        rows.append((self.cuid, (("jg_registration_id", f"id {PHONE}"),), f'{{"user_string_once":"{VALUE}"}}'))
        names = frozenset({"user_string_once"})
        batch = ImportBatch(
            project.number, project.version, ImportRows.of(rows), names, harness.now, True, origin=Origin("import:crm")
        )
        import_batch(harness.store, batch)
        assert harness.service.user(project, self.cuid).identifiers["jg_registration_id"] == [f"id {PHONE}"]
        harness.write(harness.prepare(project, self.cuid, {"user_string_once": f"{VALUE} again"}, actor="key:other"))
        back = Restoration([(project.schema.attribute("user_list_append"), [f"{VALUE} back"])])
        harness.write(Write(project.number, self.cuid, back, project.version, harness.now, origin=Origin("undo:1")))
        # PostgreSQL merges these itself, but for that of the user, which changes nothing.
        again = {
            cuid: {"user_string_once": self.value(cuid)} for cuid in (*self.cuids[30:35], self.cuid, *self.cuids[35:40])
        }
        harness.write(*(replace(harness.prepare(project, *write), details=False) for write in again.items()))
        self.changes = len(self.recorded(self.cuid)) - 1
        assert self.changes == ROUNDS + 4

    def recorded(self, cuid: int) -> list[Change]:
        return self.harness.store.with_changes(self.project.number, cuid, lambda _, changes: list(changes))

    def value(self, cuid: int) -> str:
        return VALUE if cuid == self.cuid else f"{cuid}"

    def write(self, cuid: int, turn: int, length: int) -> Write:
        value = self.value(cuid)
        data = {"user_string_overwrite": f"{value}{turn}" * length, "user_list_append": [f"{value}-{turn}"]}
        key = f"{cuid}-{turn}"
        return self.harness.prepare(self.project, cuid, data, key, whole=True, actor=f"key:{turn % 3}")

    def pack(self) -> None:
        """Pack all but the newest changes."""
        pack(self.harness, self.project, self.harness.now)

    def blocks(self) -> list[HistoryBlock]:
        return self.harness.store.history_blocks(self.project.number, None, 1_000_000)

    def erase(self) -> None:
        self.harness.service.erase_user(self.project, self.cuid, actor=TESTER)


def traces(content: bytes) -> list[str]:
    """Return what a file's content has of the user, also in whatever of it is compressed."""
    found = [told for told in (VALUE, PHONE) if told.encode() in content]
    for text in decompressed(content):
        found += [f"compressed {told}" for told in (VALUE, PHONE) if told.encode() in text]
    return found


def decompressed(content: bytes) -> Iterator[bytes]:
    """Yield what is decompressed from each position where a frame begins, if it is whole."""
    start = content.find(ZSTD_FRAME)
    while start >= 0:
        with contextlib.suppress(zstd.ZstdError):
            yield zstd.ZstdDecompressor().decompress(content[start : start + 100_000])
        start = content.find(ZSTD_FRAME, start + 1)


def parts(content: bytes, step: int = 1) -> set[bytes]:
    """Return the stretches of 16 bytes that begin at each position, or at each `step`-th one."""
    return {content[start : start + 16] for start in range(0, len(content) - 15, step)}


@pytest.fixture
def sample(url: str) -> Iterator[Sample]:
    sample = Sample(url)
    yield sample
    sample.harness.store.close()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ENGINES[request.param](tmp_path) as url:
        yield url


def shown(sample: Sample, url: str) -> bytes:
    """Return everything that the store's tables have, with the blocks of history decompressed."""
    found = [repr([change for block in sample.blocks() for change, _ in block.all_changes()])]
    if url.startswith("sqlite"):
        with closing(apsw.Connection(url.removeprefix("sqlite:///"))) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            found += [repr(list(db.execute(f"SELECT * FROM {table}"))) for table in tables]
    elif url.startswith("postgresql"):
        with psycopg.connect(url) as pg:
            tables = [name for (name,) in pg.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'usertable'")]
            found += [repr(pg.execute(f"SELECT t::text FROM usertable.{table} t").fetchall()) for table in tables]
            bodies = pg.execute("SELECT body FROM usertable.history").fetchall()
            found += [repr(list(decompressed(bytes(body)))) for (body,) in bodies]
    return "".join(found).encode()


@pytest.mark.parametrize("packed", [False, True], ids=["as written", "packed"])
def test_no_table_and_no_block_has_a_value_of_an_erased_user(
    sample: Sample, url: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 300)
    if packed:
        sample.pack()
    assert any(block.is_packed for block in sample.blocks()) == packed
    assert traces(shown(sample, url)) == [VALUE, PHONE]
    neighbors = {cuid: sample.recorded(cuid) for cuid in sample.cuids}
    sample.erase()
    assert traces(shown(sample, url)) == []
    assert {cuid: sample.recorded(cuid) for cuid in sample.cuids} == neighbors
    # The users that were created together share a change, which names them and has no values.
    left = [change for block in sample.blocks() for change, cuids in block.all_changes() if sample.cuid in cuids]
    kinds = [change.kind for change in left]
    assert kinds.count(ChangeKind.ERASED) == sample.changes + 1
    assert kinds.count(ChangeKind.CREATED) == 1
    assert {change.request for change in left} == {""}


def test_the_audit_log_says_how_many_changes_lost_their_values(sample: Sample) -> None:
    sample.erase()
    (entry,) = sample.harness.store.audit(sample.project.number, AuditFilter(kinds={AuditKind.ERASE_USER}), 10)
    assert (entry.event.subject, entry.event.before) == (str(sample.cuid), {"changes": sample.changes})


def test_the_history_of_a_user_is_erased_as_well_if_none_is_kept_any_more(sample: Sample, url: str) -> None:
    sample.harness.service.edit_history("one", days=0, actor=TESTER)
    sample.erase()
    assert traces(shown(sample, url)) == []


def bodies(harness: StoreHarness, url: str) -> bytes:
    """Return the decompressed bodies of history as they are stored."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as db:
            rows = db.execute("SELECT body FROM usertable.history").fetchall()
        return b"".join(text for (body,) in rows for text in decompressed(bytes(body)))
    blocks = harness.store.history_blocks(1, None, 1_000_000)
    return b"".join(text for block in blocks for text in decompressed(block.body))


def with_two_users(url: str) -> tuple[StoreHarness, Project, int, int]:
    """Return a store with two users whose attributes had values, so that PostgreSQL merges what they send."""
    harness = StoreHarness(open_store(url))
    project = harness.project()
    one, two = harness.service.register(project, "phone", ["1", "2"], actor=TESTER)
    for cuid in (one, two):
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "first"}))
    return harness, project, one, two


@pytest.mark.parametrize("key", ["", "k"], ids=["without a key", "with the key of an earlier write"])
def test_what_is_sent_for_an_erased_user_is_in_no_block_of_the_writes_beside_it(url: str, key: str) -> None:
    harness, project, one, two = with_two_users(url)
    sent = {"user_string_overwrite": VALUE}
    harness.write(harness.prepare(project, one, sent, key))
    harness.service.erase_user(project, one, actor=TESTER)
    assert VALUE.encode() not in bodies(harness, url)
    beside = {"user_string_overwrite": "beside"}
    late = [harness.prepare(project, one, sent, key), harness.prepare(project, two, beside)]
    harness.write(*(replace(write, details=False) for write in late))
    assert VALUE.encode() not in bodies(harness, url)
    assert b"beside" in bodies(harness, url)
    newest, *_ = harness.store.with_changes(project.number, two, lambda _, changes: list(changes))
    assert newest.reports["user_string_overwrite"].before == "first"
    check_history(harness.store, project.number, two, project.schema)
    harness.store.close()


@pytest.mark.parametrize("engine", [name for name in ENGINES if name.startswith("postgresql")])
def test_what_is_sent_while_a_user_is_erased_is_in_no_block_of_the_writes_beside_it(engine: str, tmp_path: Path) -> None:
    with ENGINES[engine](tmp_path) as url:
        harness, project, one, two = with_two_users(url)
        writes = [harness.prepare(project, cuid, {"user_string_overwrite": f"{VALUE} {cuid}"}) for cuid in (one, two)]
        merging = threading.Thread(target=harness.write, args=[replace(write, details=False) for write in writes])

        def erase(transaction: Transaction) -> bool:
            transaction.load({project.number: Wanted(cuids=[one], project=True, makes_users=True)})
            merging.start()
            wait_until(merge_waits)
            return users.erase(transaction, project.number, one, TESTER, harness.now)

        def merge_waits() -> object:
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%WITH merged%'"
            return watch.execute(waiting).fetchone()

        with psycopg.connect(url, autocommit=True) as watch:
            assert harness.store.transact(erase)
        merging.join()
        assert f"{VALUE} {one}".encode() not in bodies(harness, url)
        assert f"{VALUE} {two}".encode() in bodies(harness, url)
        harness.store.close()


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("engine", [name for name in ENGINES if name.startswith("postgresql")])
def test_what_was_sent_for_an_erased_user_is_taken_out_of_history_after_a_server_was_killed_before_it_could(
    engine: str, tmp_path: Path, is_kept: bool
) -> None:
    with ENGINES[engine](tmp_path) as url:
        harness, project, one, two = with_two_users(url)
        harness.service.erase_user(project, one, actor=TESTER)
        command = [sys.executable, "-c", KILLED_BEFORE_IT_FORGETS, url, str(one), str(two), VALUE]
        with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"merged\n"
            server.kill()
        assert VALUE.encode() in bodies(harness, url)
        before = harness.store.with_changes(project.number, two, lambda _, changes: list(changes))
        if not is_kept:
            harness.service.edit_history(project.id, days=0, actor=TESTER)
        HistoryRetention(harness.store, Clock(lambda: harness.now), lambda: False).run(None)
        with psycopg.connect(url) as db:
            for (table,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'usertable'").fetchall():
                assert VALUE not in repr(db.execute(f"SELECT t::text FROM usertable.{table} t").fetchall())
        assert VALUE.encode() not in bodies(harness, url)
        if is_kept:
            assert harness.store.with_changes(project.number, two, lambda _, changes: list(changes)) == before
            check_history(harness.store, project.number, two, project.schema)
        harness.store.close()


def test_what_is_removed_for_its_age_leaves_nothing_before_it_that_erasing_would_not_find(
    harness: StoreHarness,
) -> None:
    project = harness.project()
    cuid, other = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    harness.now += 10_000
    harness.write(harness.prepare(project, other, {"user_bool_overwrite": 1}))
    # The clock was ahead. What is written for that user has a later time than what is written after it for others.
    harness.now -= 5_000
    begin = harness.now
    for turn in range(4):
        harness.now += 10
        value = {"user_string_overwrite": f"{VALUE}{turn}"}
        harness.write(harness.prepare(project, cuid, value), harness.prepare(project, other, value))
        for _ in range(2):
            harness.now += 5
            harness.write(harness.prepare(project, cuid, value | {"user_number_accumulate": 1}))
    while harness.store.prune_history(project.number, begin + 65, 0, harness.now).blocks:
        pass
    blocks = harness.store.history_blocks(project.number, None, 100)
    found = [change for block in blocks for change, cuids in block.all_changes() if cuid in cuids]
    kept = harness.store.with_changes(project.number, cuid, lambda _, changes: list(changes))
    assert len(kept) == 3
    assert sorted(change.number for change in found) == sorted(change.number for change in kept)
    assert harness.store.history_since(project.number) == begin + 65
    harness.service.erase_user(project, cuid, actor=TESTER)
    harness.service.erase_user(project, other, actor=TESTER)
    left = [change for block in harness.store.history_blocks(project.number, None, 100) for change, _ in block.all_changes()]
    assert VALUE not in repr(left)


def test_a_server_empties_the_log_after_a_process_that_erased_a_user_and_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    sample = Sample(f"sqlite:///{file}")
    sample.erase()
    crashed = tmp_path / "crashed.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{file}{suffix}", f"{crashed}{suffix}")
    log = Path(f"{crashed}-wal")
    with closing(open_store(f"sqlite:///{crashed}", serving=True)) as server:
        assert VALUE in str(traces(log.read_bytes()))
        server.expire_arrivals(0)
        assert traces(crashed.read_bytes() + log.read_bytes()) == []
        # Another process erases a user, and has not ended yet, or never will.
        with closing(open_store(f"sqlite:///{crashed}")) as other:
            harness = StoreHarness(other)
            project = harness.service.project("one")
            harness.write(harness.prepare(project, sample.cuids[0], {"user_string_overwrite": VALUE}))
            harness.service.erase_user(project, sample.cuids[0], actor=TESTER)
            assert VALUE in str(traces(log.read_bytes()))
            server.expire_arrivals(0)
            assert traces(crashed.read_bytes() + log.read_bytes()) == []
    sample.harness.store.close()


@pytest.mark.parametrize("packed", [False, True], ids=["as written", "packed"])
def test_the_file_and_its_log_have_no_byte_of_an_erased_user(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 300)
    file, log = tmp_path / "store.db", tmp_path / "store.db-wal"
    sample = Sample(f"sqlite:///{file}")
    store = sample.harness.store
    entry = SampledAttribute("user_string_overwrite", VALUE, None)
    arrival = Arrival(sample.harness.now, "attribute", "request", sample.cuid, entries=(entry,))
    store.keep_arrivals([Arrivals(sample.project.number, sample.harness.now, 1, samples=[arrival])])
    assert {VALUE, PHONE, f"compressed {VALUE}"} <= set(traces(log.read_bytes()))
    bodies = {block.body for block in sample.blocks()}
    if packed:
        sample.pack()
        bodies |= {block.body for block in sample.blocks()}
    sample.erase()
    kept = {block.body for block in sample.blocks()}
    assert len(bodies - kept) > ROUNDS
    # Every minute, a server empties the log of what it has of users that were erased.
    with closing(apsw.Connection(str(file))) as reader:
        reader.execute("BEGIN; SELECT count(*) FROM project").fetchall()
        store.expire_arrivals(0)
        assert VALUE in str(traces(log.read_bytes()))
        reader.execute("COMMIT")
        store.expire_arrivals(0)
    content = file.read_bytes() + log.read_bytes()
    assert traces(content) == []
    assert sum(1 for _ in decompressed(content)) > (3 if packed else ROUNDS)
    # Nor is there a part of a block that cannot be decompressed, because the rest of it is not there.
    left = set().union(*(parts(body, 4) for body in bodies - kept)) & parts(content)
    assert left <= set().union(*map(parts, kept))
    store.close()
