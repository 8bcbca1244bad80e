"""Broken connections, lost replies, refusals, and a killed caller: nothing is lost, and nothing applied twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients import any_client
from support.faulty_proxy import faulty_proxy
from support.load import read_sums
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable import Client, Record
from usertable.app.service import Service
from usertable.client import RecordsRefused, Retry, ServerFailed, Unreachable
from usertable.store import open_store

FAULTS = {"refuse": 0.1, "before": 0.05, "lost": 0.05, "cut": 0.05}
QUICK = Retry(attempts=1000, first=0.001, most=0.02)
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


class Place:
    """A real server over SQLite with five users."""

    def __init__(self, folder: Path) -> None:
        self.store = f"sqlite:///{folder / 'store.db'}"
        self.cuids = create_project(self.store, users=5)
        self.server = ServerProcess(self.store, folder)

    def check(self, expected: Counter[int]) -> None:
        assert self.server.stop() == 0
        assert "Traceback" not in self.server.log
        assert read_sums(self.store, self.cuids) == {cuid: expected[cuid] for cuid in self.cuids}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.server.stop()


def write(mark: str) -> dict[str, object]:
    """Return a write that shows in the row how often it was applied: the list grows once, the sum each time."""
    return {"user_number_accumulate": 1, "user_list_append": [mark]}


@KINDS
def test_single_calls_through_a_breaking_proxy(place: Place, kind: str) -> None:
    chance = random.Random(1)
    expected: Counter[int] = Counter()
    with (
        faulty_proxy(place.server.url, **FAULTS) as proxy,
        any_client(kind, proxy.url, PROJECT, SECRET, retry=QUICK) as client,
    ):
        for n in range(100):
            cuid = chance.choice(place.cuids)
            client.set(cuid, write(str(n)))
            expected[cuid] += 1
        assert all(proxy.met.values()), proxy.met
    place.check(expected)


@KINDS
def test_batches_through_a_breaking_proxy(place: Place, kind: str) -> None:
    expected: Counter[int] = Counter()
    with (
        faulty_proxy(place.server.url, **dict.fromkeys(FAULTS, 0.15)) as proxy,
        any_client(kind, proxy.url, PROJECT, SECRET, retry=QUICK) as client,
    ):
        for turn in range(15):
            records = [Record(place.cuids[n % 5], write(f"{turn}-{n}")) for n in range(20)]
            assert all(result.error is None for result in client.batch(records))
            expected.update(place.cuids[n % 5] for n in range(len(records)))
        assert all(proxy.met.values()), proxy.met
    place.check(expected)


@KINDS
@pytest.mark.parametrize("spooled", [False, True])
def test_a_buffer_through_a_breaking_proxy(place: Place, kind: str, spooled: bool, tmp_path: Path) -> None:
    chance = random.Random(2)
    expected: Counter[int] = Counter()
    spool = tmp_path / "spool" if spooled else None
    with (
        faulty_proxy(place.server.url, **dict.fromkeys(FAULTS, 0.1)) as proxy,
        any_client(kind, proxy.url, PROJECT, SECRET, retry=QUICK) as client,
        client.buffer(spool=spool, capacity=50) as buffer,
    ):
        for n in range(400):
            cuid = chance.choice(place.cuids)
            buffer.set(cuid, write(str(n)))
            expected[cuid] += 1
            if n % 40 == 0:
                buffer.flush(60)
    place.check(expected)


@KINDS
def test_the_writer_is_killed_while_batches_come(place: Place, kind: str) -> None:
    """A batch then has records that were written, that were not, and that are unknown; the order is kept."""
    expected: Counter[int] = Counter()
    stop = threading.Event()

    def kill() -> None:
        # A new one takes a third of a second to start, and on a busy machine so long that each would be killed before.
        pause = 0.8
        while not stop.wait(pause):
            pause *= 1.2
            if children := place.server.children():
                os.kill(children[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with any_client(kind, place.server.url, PROJECT, SECRET, retry=QUICK) as client:
            for turn in range(4):
                records = [
                    Record(place.cuids[n % 5], {**write(f"{turn}-{n}"), "user_number_overwrite": n}) for n in range(300)
                ]
                assert all(result.error is None for result in client.batch(records))
                expected.update(place.cuids[n % 5] for n in range(len(records)))
                rows = [client.get(cuid).attributes for cuid in place.cuids]
                assert [row["user_number_overwrite"] for row in rows] == [295, 296, 297, 298, 299]
                for row in rows:
                    mine = [mark for mark in row["user_list_append"] if mark.startswith(f"{turn}-")]
                    assert mine == sorted(mine, key=lambda mark: int(mark.partition("-")[2]))
    finally:
        stop.set()
        killer.join()
    place.server.stop()
    assert read_sums(place.store, place.cuids) == dict(expected)


def test_a_plain_client_never_repeats_what_may_have_been_done(place: Place) -> None:
    """Without keys a lost reply cannot be repaired, so it is reported: what is stored lies between the two counts."""
    done: Counter[int] = Counter()
    unsure: Counter[int] = Counter()
    refused = 0
    with (
        faulty_proxy(place.server.url, **FAULTS) as proxy,
        Client(proxy.url, PROJECT, SECRET, plain=True, retry=QUICK) as client,
    ):
        for n in range(120):
            cuid = place.cuids[n % 5]
            try:
                client.set(cuid, write(str(n)))
                done[cuid] += 1
            except Unreachable as failure:
                unsure[cuid] += failure.maybe_done
            except ServerFailed:
                # The proxy's own 503, which cannot be told from one that follows the write.
                refused += 1
        assert proxy.met["lost"]
        assert refused
        # A write that may be repeated is.
        for n in range(50):
            client.set(place.cuids[0], {"user_string_overwrite": str(n)}, repeatable=True)
    assert place.server.stop() == 0
    sums = read_sums(place.store, place.cuids)
    assert sum(unsure.values()) > 0
    for cuid in place.cuids:
        assert done[cuid] <= sums[cuid] <= done[cuid] + unsure[cuid]  # type: ignore[operator]


def test_a_plain_buffer_tells_what_may_have_been_done(place: Place) -> None:
    with (
        faulty_proxy(place.server.url, **FAULTS) as proxy,
        Client(proxy.url, PROJECT, SECRET, plain=True, retry=QUICK) as client,
    ):
        buffer = client.buffer()
        for n in range(150):
            buffer.set(place.cuids[n % 5], write(str(n)))
        with pytest.raises(RecordsRefused) as told:
            buffer.close()
    assert place.server.stop() == 0
    stored = sum(read_sums(place.store, place.cuids).values())  # type: ignore[arg-type]
    assert 150 - told.value.count <= stored <= 150


CHILD = """
import random, sys
from usertable import Client
from usertable.client import Retry

url, project, secret, spool, start, cuids = *sys.argv[1:6], [int(c) for c in sys.argv[6].split(",")]
chance = random.Random(int(start))
with Client(url, project, secret, retry=Retry(attempts=1000, first=0.001, most=0.02)) as client:
    with client.buffer(spool=spool) as buffer:
        for n in range(int(start), int(start) + 2000):
            cuid = chance.choice(cuids)
            buffer.set(cuid, {"user_number_accumulate": 1, "user_list_append": [str(n)]})
            print(n, cuid, flush=True)
            if sys.argv[7] == "last" and n == int(start) + 20:
                break
"""


def test_the_caller_is_killed_again_and_again(place: Place, tmp_path: Path) -> None:
    """kill -9 of the client at random moments: every record that was added is stored, once."""
    script = tmp_path / "caller.py"
    script.write_text(CHILD)
    chance = random.Random(11)
    handed: dict[str, int] = {}
    kills = 5
    with faulty_proxy(place.server.url, **FAULTS) as proxy:
        for turn in range(kills + 1):
            last = turn == kills
            out = tmp_path / f"handed-{turn}"
            command = [sys.executable, str(script), proxy.url, PROJECT, SECRET, str(tmp_path / "spool"), str(turn * 10_000)]
            with out.open("wb") as stream:
                users = ",".join(map(str, place.cuids))
                caller = subprocess.Popen([*command, users, "last" if last else "more"], stdout=stream)
                if last:
                    assert caller.wait(120) == 0
                else:
                    while not out.stat().st_size:
                        assert caller.poll() is None
                        time.sleep(0.01)
                    time.sleep(chance.uniform(0.0, 0.5))
                    caller.kill()
                    caller.wait()
            for line in out.read_text().splitlines()[: None if last else -1]:
                mark, _, cuid = line.partition(" ")
                handed[mark] = int(cuid)
    assert place.server.stop() == 0
    sums = read_sums(place.store, place.cuids)
    # read_sums has compared the sum of each user with its list, in which a repeated mark occurs only once.
    total = sum(sums.values())  # type: ignore[arg-type]
    # A record may have been on disk when its line was not.
    assert len(handed) <= total <= len(handed) + 2 * kills
    assert len(handed) > 50
    rows = stored_marks(place)
    assert all(mark in rows[cuid] for mark, cuid in handed.items())


def stored_marks(place: Place) -> dict[int, set[str]]:
    store = open_store(place.store)
    service = Service(store)
    project = service.project(PROJECT)
    found = {}
    for cuid in place.cuids:
        marks = service.user(project, cuid).profile.attributes.get("user_list_append", [])
        assert isinstance(marks, list)
        found[cuid] = set(marks)
    store.close()
    return found
