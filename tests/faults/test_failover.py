"""The primary is stopped or demoted, and a standby promoted: every read comes from the new primary, and no write is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from support.actors import TESTER
from support.load import check_sums, load, wait_for_more
from support.postgres import NEWEST, Cluster
from support.server_process import PROJECT, ServerProcess, create_project
from support.store_harness import StoreHarness
from support.waiting import wait_until
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.domain.merge import decide
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.pipeline.channel import ThreadChannel
from usertable.pipeline.postgres_channel import CONNECTIONS, MergingChannel
from usertable.store import Store, open_store
from usertable.store.postgres.store import PostgresStore
from usertable.store.records import Result, Written


class Pair:
    """A primary and its synchronous standby, with an empty database."""

    def __init__(self) -> None:
        self.primary, self.standby = Cluster(NEWEST, durable=True), Cluster(NEWEST, durable=True)
        self.primary.initialise()
        self.primary.start()
        self.standby.follow(self.primary)
        self.standby.start()
        self.configure(self.primary, "SET synchronous_standby_names = '*'")
        self.name = self.primary.create().rpartition("/")[2]
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        self.url = f"postgresql://postgres@{hosts}/{self.name}?target_session_attrs=read-write"

    @staticmethod
    def configure(cluster: Cluster, change: str) -> None:
        cluster.execute(f"ALTER SYSTEM {change}")
        cluster.execute("SELECT pg_reload_conf()")

    def demote(self) -> None:
        """Let the primary accept no more writes, and keep its connections."""
        self.configure(self.primary, "SET default_transaction_read_only = on")
        with_setting = "SELECT current_setting('default_transaction_read_only')"
        # A new connection has the setting only after all others were told.
        wait_until(lambda: ask(self.primary.url(self.name), with_setting) == "on")

    def promote(self) -> None:
        self.standby.promote()
        self.configure(self.standby, "RESET synchronous_standby_names")

    def connections(self, cluster: Cluster) -> int:
        """Return the number of usertable's connections to one of the two."""
        return int(
            str(
                ask(
                    cluster.url(self.name),
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'usertable' AND datname = current_database()",
                )
            )
        )

    def close(self) -> None:
        self.standby.close()
        self.primary.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as db:
        return db.execute(query.encode()).fetchall()[0][0]


def test_fail_over_to_a_promoted_standby(pair: Pair, tmp_path: Path) -> None:
    cuids = create_project(pair.url, users=3)
    server = ServerProcess(pair.url, tmp_path)
    with load([server], cuids, 8) as clients:
        time.sleep(1.5)
        pair.primary.stop("immediate")
        time.sleep(0.5)
        pair.promote()
        wait_for_more(clients, 50)
    assert server.stop() == 0
    check_sums(pair.url, cuids, clients, 50)
    assert "background work failed" not in server.log
    store = open_store(pair.url)
    assert store.arrivals(Service(store).project(PROJECT).number, 0, 1000)
    store.close()


def test_a_demoted_primary_that_keeps_its_connections_is_left_for_the_new_one(pair: Pair, tmp_path: Path) -> None:
    cuids = create_project(pair.url, users=3)
    server = ServerProcess(pair.url, tmp_path)
    with load([server], cuids, 6) as clients:
        wait_for_more(clients, 40)
        pair.demote()
        time.sleep(0.5)
        pair.promote()
        wait_for_more(clients, 60)
    with server.client() as http:
        wait_until(lambda: http.get("/readyz").status_code == 200)
        wait_until(lambda: not pair.connections(pair.primary))
        assert http.get(f"/api/v1/projects/{PROJECT}/users/{cuids[0]}").status_code == 200
    assert server.stop() == 0
    check_sums(pair.url, cuids, clients, 100)
    assert "the database takes no writes; looking for one that does" in server.log


def export(store: Store, project: Project) -> list[bytes]:
    with store.snapshot(project.id) as snapshot:
        return [page.lines for page in snapshot.pages()]


READS: dict[str, Callable[[Store, Project, int], object]] = {
    "a user": lambda store, project, cuid: store.read(project.number, cuid),
    "users of a batch": lambda store, project, cuid: store.read_many(project.number, [cuid]),
    "the user table": lambda store, project, cuid: store.select(project.number, [], None, 10, 100),
    "an export": lambda store, project, cuid: export(store, project),
    "a project": lambda store, project, cuid: store.project(project.id),
    "people": lambda store, project, cuid: store.people(),
    "people, by a command that changes nothing": lambda store, project, cuid: store.transact(lambda t: t.people()),
}


def test_no_read_comes_from_a_demoted_primary_to_which_connections_are_open(pair: Pair) -> None:
    harness = StoreHarness(open_store(pair.url))
    project = harness.project()
    cuid = harness.user(project)
    harness.store.close()
    # One store for each, because the first read that finds the demotion replaces all connections of its store.
    stores = {name: open_store(pair.url) for name in READS}
    before = {name: read(stores[name], project, cuid) for name, read in READS.items()}
    pair.demote()
    pair.promote()
    harness = StoreHarness(open_store(pair.url))
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 7}))
    harness.service.declare_attribute(project.id, Attribute("new", DataType.STRING, Rule.OVERWRITE), actor=TESTER)
    harness.service.add_person("ann@example.com", admin=True, password="correct horse battery staple", actor=TESTER)
    after = {name: read(harness.store, project, cuid) for name, read in READS.items()}
    assert [name for name in READS if before[name] == after[name]] == []
    assert {name: read(stores[name], project, cuid) for name, read in READS.items()} == after
    for store in (*stores.values(), harness.store):
        store.close()


def test_reads_do_not_depend_on_when_connections_were_last_replaced(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is opened while all others are replaced may be open to the old primary, too."""
    harness = StoreHarness(open_store(pair.url))
    project = harness.project()
    cuid = harness.user(project)
    assert isinstance(harness.store, PostgresStore)
    harness.store.connections.renew()
    monkeypatch.setattr("usertable.store.postgres.pool.RENEW_SECONDS", 3600)
    with ExitStack() as exports:
        for _ in range(3):
            exports.enter_context(harness.store.snapshot(project.id))
    assert pair.connections(pair.primary) >= 3
    pair.demote()
    pair.promote()
    other = StoreHarness(open_store(pair.url))
    other.write(other.prepare(project, cuid, {"user_number_accumulate": 7}))
    other.store.close()
    assert [harness.attributes(project, cuid)["user_number_accumulate"] for _ in range(4)] == [7] * 4
    harness.store.close()


def test_no_connection_to_merge_on_stays_at_a_demoted_primary(pair: Pair) -> None:
    """A batch may wait at the writer while one of the connections was replaced already, and the other is idle."""
    harness = StoreHarness(open_store(pair.url))
    project = harness.project()
    cuid = harness.user(project)
    sent = 0

    async def send(channel: MergingChannel) -> None:
        nonlocal sent
        write = harness.prepare(project, cuid, {"user_number_accumulate": 1})
        write.details = False
        answer: asyncio.Future[Sequence[Result] | Exception] = asyncio.get_running_loop().create_future()
        channel.write([write], answer.set_result)
        assert [type(result) for result in await answer] == [Written]  # type: ignore[union-attr]
        sent += 1

    async def work() -> None:
        channel = MergingChannel(pair.url, ThreadChannel(harness.store, WriteBatch(decide)), decide.row_limit)
        try:
            # Then the attribute is known to have values, so that the database can merge.
            await send(channel)
            await until(lambda: len(channel._free) == CONNECTIONS)
            await asyncio.to_thread(pair.demote)
            await asyncio.to_thread(pair.promote)
            await send(channel)
            await until(lambda: len(channel._free) == CONNECTIONS)
            for _ in range(CONNECTIONS):
                await send(channel)
            await until(lambda: not pair.connections(pair.primary))
        finally:
            await channel.close()

    asyncio.run(work())
    assert harness.attributes(project, cuid) == {"user_number_accumulate": sent}
    harness.store.close()


async def until(there: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, there)


def test_without_a_primary_reads_are_refused_and_then_come_from_the_new_one(pair: Pair, tmp_path: Path) -> None:
    (cuid,) = create_project(pair.url, users=1)
    server = ServerProcess(pair.url, tmp_path)
    user = f"/api/v1/projects/{PROJECT}/users/{cuid}"
    with server.client() as http:
        assert http.get(user).status_code == 200
        pair.demote()
        answer = http.get(user)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        pair.promote()
        wait_until(lambda: http.get(user).status_code == 200)
        wait_until(lambda: http.get("/readyz").status_code == 200)
    assert server.stop() == 0
