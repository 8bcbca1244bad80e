"""Plain writes go from the event loop directly to PostgreSQL, and to the writer if that fails. Each is applied once."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
import uvloop

from support.actors import TESTER
from support.engines import ENGINES
from support.store_harness import StoreHarness
from support.waiting import DEADLINE_SECONDS
from usertable.commands.write import WriteBatch
from usertable.domain.errors import StoreDown
from usertable.domain.merge import decide
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.pipeline.channel import Done, MergeCounts, ThreadChannel
from usertable.pipeline.postgres_channel import MergingChannel
from usertable.store import open_store
from usertable.store.records import Replayed, Result, UserUnknown, Write, Written

ONE = {"user_number_accumulate": 1}


class Writer(ThreadChannel):
    """The other channel, which records the writes it gets."""

    def __init__(self, harness: StoreHarness) -> None:
        super().__init__(harness.store, WriteBatch(decide))
        self.writes: list[Write] = []

    def write(self, writes: Sequence[Write], done: Done) -> None:
        self.writes += writes
        super().write(writes, done)


class Case:
    """A channel with three users, whose attribute has had values."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.harness = StoreHarness(open_store(url))
        self.project: Project = self.harness.project()
        self.cuids = [self.harness.user(self.project, value) for value in "abc"]

    def plain(self, cuid: int, key: str = "") -> Write:
        write = self.harness.prepare(self.project, cuid, ONE, key)
        write.details = False
        return write

    async def send(self, *writes: Write) -> Sequence[Result] | Exception:
        answer: asyncio.Future[Sequence[Result] | Exception] = asyncio.get_running_loop().create_future()
        self.channel.write(writes, answer.set_result)
        return await answer

    def run(self, work: Callable[[], Awaitable[None]], loop: Callable[..., None] = asyncio.run) -> None:
        async def whole() -> None:
            self.writer = Writer(self.harness)
            self.channel = MergingChannel(self.url, self.writer, decide.row_limit)
            try:
                assert type((await self.send(self.plain(self.cuids[0])))[0]) is Written  # type: ignore[index]
                await self.until_merged()
                await work()
            finally:
                await self.channel.close()

        loop(whole())

    async def until_merged(self) -> None:
        """Wait for a connection to merge on, and for it to be used."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                before = len(self.writer.writes)
                await self.send(self.plain(self.cuids[1]))
                if len(self.writer.writes) == before:
                    return
                await asyncio.sleep(0.01)

    def sum(self, cuid: int) -> object:
        return self.harness.attributes(self.project, cuid).get("user_number_accumulate", 0)


@pytest.fixture(params=[name for name in ENGINES if name.startswith("postgresql")])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with ENGINES[request.param](tmp_path) as url:
        case = Case(url)
        yield case
        case.harness.store.close()


async def backend(db: psycopg.Connection[tuple[object, ...]], waiting: str) -> object:
    """Return the process ID of the backend that waits for a lock with this statement."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = db.execute(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s", (f"%{waiting}%",)
            ).fetchone()
            if found:
                return found[0]
            await asyncio.sleep(0.01)


def test_only_what_is_not_plain_or_not_a_plain_success_goes_to_the_writer(case: Case) -> None:
    async def work() -> None:
        one, two, _ = case.cuids
        case.writer.writes.clear()
        case.channel.merges = MergeCounts()
        results = await case.send(case.plain(one), case.plain(two, "k"))
        assert [type(result) for result in results] == [Written, Written]  # type: ignore[union-attr]
        assert case.writer.writes == []
        looked_at = case.harness.prepare(case.project, one, ONE)
        again, unknown = case.plain(two, "k"), case.plain(7)
        written, replayed, refused = await case.send(looked_at, again, unknown)  # type: ignore[misc]
        assert isinstance(written, Written)
        assert written.outcomes == {"user_number_accumulate": "applied"}
        assert isinstance(replayed, Replayed)
        assert replayed.written.outcomes == {"user_number_accumulate": "applied"}
        assert isinstance(refused, UserUnknown)
        assert case.writer.writes == [looked_at, again, unknown]
        assert case.channel.merges == MergeCounts(merged=2, declined=2, others=1)

    case.run(work)


def test_a_schema_change_is_noticed(case: Case) -> None:
    async def work() -> None:
        case.harness.service.declare_attribute("one", Attribute("new", DataType.STRING, Rule.OVERWRITE), actor=TESTER)
        (stale,) = await case.send(case.plain(case.cuids[0]))  # type: ignore[misc]
        assert type(stale).__name__ == "SchemaStale"

    case.run(work)


@pytest.mark.parametrize("cut", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_merge_that_the_database_ends_is_done_once_by_the_writer(case: Case, cut: str) -> None:
    async def work() -> None:
        one = case.cuids[0]
        with psycopg.connect(case.url) as holder, psycopg.connect(case.url, autocommit=True) as db:
            holder.execute("SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE", (one,))
            before = case.sum(one)
            assert isinstance(before, int)
            case.writer.writes.clear()
            sent = asyncio.create_task(case.send(case.plain(one)))
            db.execute(f"SELECT {cut}(%s)".encode(), (await backend(db, "WITH merged"),))
            while not case.writer.writes:
                await asyncio.sleep(0.01)
            holder.rollback()
            (result,) = await sent  # type: ignore[misc]
        assert type(result) is Written
        assert case.sum(one) == before + 1
        await case.until_merged()

    case.run(work)


def test_a_write_waits_for_the_one_before_it_to_the_same_user(case: Case) -> None:
    async def work() -> None:
        one, two, _ = case.cuids
        with psycopg.connect(case.url) as holder, psycopg.connect(case.url, autocommit=True) as db:
            holder.execute("SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE", (one,))
            first = asyncio.create_task(case.send(case.plain(one)))
            await backend(db, "WITH merged")
            # The other connection is free.
            second = asyncio.create_task(case.send(case.plain(one), case.plain(two)))
            await asyncio.sleep(0.1)
            assert not second.done()
            holder.rollback()
            assert [len(results) for results in await asyncio.gather(first, second)] == [1, 2]  # type: ignore[arg-type]

    case.run(work)


def test_a_batch_that_begins_where_another_ends_does_not_disturb_it(case: Case) -> None:
    async def work() -> None:
        before = [case.sum(cuid) for cuid in case.cuids]
        case.writer.writes.clear()
        for _ in range(20):
            # More than there are connections.
            results = await asyncio.gather(*[case.send(case.plain(cuid)) for cuid in case.cuids])
            assert [[type(result) for result in answer] for answer in results] == [[Written]] * 3  # type: ignore[union-attr]
        assert case.writer.writes == []
        assert [case.sum(cuid) for cuid in case.cuids] == [number + 20 for number in before]  # type: ignore[operator]

    case.run(work)


def test_a_connection_that_says_something_and_is_reset(case: Case) -> None:
    """The server's event loop reports a reset only once, together with the data that preceded it."""

    async def work() -> None:
        (one, *_) = case.cuids
        with psycopg.connect(case.url) as holder, psycopg.connect(case.url, autocommit=True) as db:
            holder.execute("SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE", (one,))
            theirs, ours = socket.socket(), socket.create_server(("127.0.0.1", 0))
            with theirs, ours:
                theirs.connect(ours.getsockname())
                peer, _ = ours.accept()
                sent = asyncio.create_task(case.send(case.plain(one)))
                await backend(db, "WITH merged")
                (session,) = [s for s in case.channel._sessions if s._tell is not None]
                # From here on its connection is under the test's control.
                asyncio.get_running_loop().remove_reader(session._socket)
                for number in (session._pgconn.socket, session._socket.fileno()):
                    os.dup2(theirs.fileno(), number)
                asyncio.get_running_loop().add_reader(session._socket, session._receive)
                await asyncio.sleep(0.05)
                notice = b"SWARNING\0C57P02\0Mgoing down\0\0"
                peer.sendall(b"N" + struct.pack("!I", len(notice) + 4) + notice)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()
                (result,) = await asyncio.wait_for(sent, 60)  # type: ignore[misc]
                assert isinstance(result, StoreDown)
            holder.rollback()
        await case.until_merged()

    case.run(work, uvloop.run)


def test_what_became_of_a_merge_is_unknown_if_the_connection_is_cut(case: Case) -> None:
    async def work() -> None:
        one = case.cuids[0]
        with psycopg.connect(case.url) as holder, psycopg.connect(case.url, autocommit=True) as db:
            holder.execute("SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE", (one,))
            sent = asyncio.create_task(case.send(case.plain(one)))
            await backend(db, "WITH merged")
            for session in case.channel._sessions:
                # As if the network had failed.
                with socket.socket(fileno=os.dup(session._socket.fileno())) as connection:
                    connection.shutdown(socket.SHUT_RDWR)
            (result,) = await sent  # type: ignore[misc]
            assert isinstance(result, StoreDown)
            holder.rollback()
        await case.until_merged()

    case.run(work)
