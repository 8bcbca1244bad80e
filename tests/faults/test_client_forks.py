"""A client and its buffers in forked and spawned processes: real processes, a real server, and exact sums."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable import Client

HEAD = """
import asyncio, ctypes, logging, multiprocessing, os, sys, threading, time, traceback
from concurrent.futures import ProcessPoolExecutor
from usertable import AsyncClient, Client, Record
from usertable.client import *

logging.basicConfig(level=logging.ERROR)
URL, PROJECT, SECRET, CUID, FOLDER = *sys.argv[1:4], int(sys.argv[4]), sys.argv[5]
ONE = {"user_number_accumulate": 1}

def made(kind=Client, url=URL, **settings):
    return kind(url, PROJECT, SECRET, **settings)

def forked(work, fork=os.fork):
    child = fork()
    if child == 0:
        try:
            work()
        except SystemExit:
            raise
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        # As a program ends that leaves the block of its main module: exit handlers are run.
        sys.exit(0)
    return child

def joined(*children):
    for child in children:
        assert os.waitpid(child, 0)[1] == 0, child
"""


class Place:
    """A server, and a new user without values for each run."""

    def __init__(self, folder: Path) -> None:
        store = f"sqlite:///{folder / 'store.db'}"
        self._cuids = iter(create_project(store, users=40))
        self.server = ServerProcess(store, folder)
        self.folder = folder

    def run(self, script: str, *more: str, expected: int, words: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program that adds to a user's number. Its output on stderr must be `words`."""
        cuid = next(self._cuids)
        path = self.folder / "program.py"
        path.write_text(HEAD + textwrap.dedent(script))
        command = [
            sys.executable,
            str(path),
            self.server.url,
            PROJECT,
            SECRET,
            str(cuid),
            str(self.folder / str(cuid)),
            *more,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert (words in done.stderr) if words else not done.stderr, done.stderr
        assert self.number(cuid) == expected
        return done

    def number(self, cuid: int) -> object:
        with Client(self.server.url, PROJECT, SECRET) as client:
            return client.get(cuid).attributes.get("user_number_accumulate", 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("forks"))
    yield made
    assert made.server.stop() == 0
    assert "Traceback" not in made.server.log


@pytest.mark.parametrize("fork", ["os.fork", "lambda: os.forkpty()[0]", "ctypes.CDLL(None).fork"])
def test_equal_writes_of_children_are_all_done(place: Place, fork: str) -> None:
    """The same calls in every child, each of which counts. A fork in C is one that Python is not told about."""
    place.run(
        f"""
        client = made()
        client.set(CUID, ONE)

        def work():
            assert not client.set(CUID, ONE).replayed
            assert [r.replayed for r in client.batch([Record(CUID, ONE)] * 3)] == [False] * 3
            with client.buffer() as buffer:
                for _ in range(5):
                    buffer.set(CUID, ONE)

        children = [forked(work, {fork}) for _ in range(4)]
        client.set(CUID, ONE)
        joined(*children)
        # The parent's connection is as it was.
        client.set(CUID, ONE)
        client.close()
        """,
        expected=3 + 4 * 9,
    )


def test_children_of_children_and_many_threads_while_calls_are_under_way(place: Place) -> None:
    place.run(
        """
        client = made()

        def calls(count=20):
            for _ in range(count):
                assert not client.set(CUID, ONE).replayed

        def threads():
            made = [threading.Thread(target=calls) for _ in range(3)]
            for thread in made:
                thread.start()
            return made

        def work():
            running = threads()
            grandchild = forked(calls)
            for thread in running:
                thread.join()
            joined(grandchild)

        running = threads()
        children = []
        for _ in range(3):
            time.sleep(0.05)
            children.append(forked(work))
        for thread in running:
            thread.join()
        joined(*children)
        """,
        expected=60 + 3 * (60 + 20),
    )


def test_a_buffer_of_the_parent_is_empty_and_works_in_a_child(place: Place) -> None:
    """The parent's records wait for a server that starts later. The child neither delivers nor reports them."""
    place.run(
        """
        import socket
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        late = "http://127.0.0.1:%d" % listener.getsockname()[1]

        with made(url=late, retry=Retry(attempts=2)) as client, client.buffer(capacity=10) as buffer:
            for _ in range(10):
                buffer.set(CUID, ONE)

            def idle():
                assert buffer.waiting == 0
                buffer.flush()

            def closing():
                buffer.close()

            def busy():
                # Ten more than the parent has room for.
                for _ in range(10):
                    buffer.set(CUID, ONE)
                assert 0 < buffer.waiting <= 10

            children = [forked(idle), forked(closing), forked(busy), forked(busy)]
            time.sleep(0.5)

            # Now there is a server at that address: one that passes on what comes.
            def passing():
                while True:
                    one = listener.accept()[0]
                    host, port = URL.removeprefix("http://").split(":")
                    other = socket.create_connection((host, int(port)))
                    for a, b in ((one, other), (other, one)):
                        threading.Thread(target=pump, args=(a, b), daemon=True).start()

            def pump(a, b):
                while piece := a.recv(65536):
                    b.sendall(piece)
                b.shutdown(socket.SHUT_WR)

            listener.listen()
            threading.Thread(target=passing, daemon=True).start()
            joined(*children)
            buffer.flush(30)
        """,
        expected=10 + 2 * 10,
    )


def test_a_spool_stays_its_parents(place: Place) -> None:
    place.run(
        """
        client = made()
        buffer = client.buffer(spool=FOLDER)
        buffer.set(CUID, ONE)

        def child():
            assert buffer.waiting == 0
            for attempt in range(2):
                try:
                    buffer.set(CUID, ONE)
                except SpoolFault as fault:
                    assert f"was created in process {os.getppid()}" in str(fault) and FOLDER in str(fault), fault
                    assert "its own spool folder" in str(fault)
                else:
                    raise AssertionError("taken")
            with client.buffer(spool=FOLDER + ".child") as own:
                own.set(CUID, ONE)
            buffer.close()

        joined(forked(child))
        buffer.set(CUID, ONE)
        buffer.flush(30)
        reading, writing = os.pipe()

        def lasting():
            os.read(reading, 1)

        child = forked(lasting)
        buffer.close()
        # It is free although that child is still there.
        with client.buffer(spool=FOLDER) as again:
            again.set(CUID, ONE)
        os.write(writing, b"x")
        joined(child)
        """,
        expected=4,
    )


def test_an_async_client_in_children_and_in_one_event_loop_after_the_other(place: Place) -> None:
    place.run(
        """
        client = made(AsyncClient)

        async def calls():
            await asyncio.gather(*(client.set(CUID, ONE) for _ in range(5)))
            assert all(not r.replayed for r in await client.batch([Record(CUID, ONE)] * 5))
            async with client.buffer() as buffer:
                for _ in range(5):
                    await buffer.set(CUID, ONE)

        asyncio.run(calls())
        asyncio.run(calls())

        def child():
            asyncio.run(calls())
            asyncio.run(calls())

        async def forking():
            # In a loop that runs, as gunicorn's preload does it. The child has a loop of its own.
            await client.set(CUID, ONE)
            children = [forked_quietly() for _ in range(2)]
            await calls()
            return children

        def forked_quietly():
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                try:
                    child()
                finally:
                    os._exit(bool(sys.exc_info()[0]))
            return pid

        joined(*asyncio.run(forking()))
        asyncio.run(calls())
        """,
        expected=15 * 2 + 1 + 2 * 30 + 15 + 15,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(place: Place, method: str) -> None:
    """The client is passed to them, and a forked one has its parent's too.

    Their buffers' records are delivered although the block is never left: such a process runs no exit handlers.
    """
    place.run(
        """
        if multiprocessing.parent_process() is None or multiprocessing.get_start_method() == "fork":
            shared = made()

        def work(client):
            assert not client.set(CUID, ONE).replayed
            buffer = client.buffer()
            for _ in range(10):
                buffer.set(CUID, ONE)
            if multiprocessing.get_start_method() == "fork":
                assert not shared.set(CUID, ONE).replayed

        def main():
            multiprocessing.set_start_method(sys.argv[6])
            shared.set(CUID, ONE)
            workers = [multiprocessing.Process(target=work, args=(shared,)) for _ in range(3)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0

        if __name__ == "__main__":
            main()
        """,
        method,
        expected=1 + 3 * (11 + (method == "fork")),
    )


def test_refusals_come_out_of_pools_of_processes(place: Place) -> None:
    """With their class and all attributes; neither pool hangs or breaks."""
    place.run(
        """
        client = made(retry=Retry(attempts=1))

        def refused(kind):
            if kind == "set":
                client.set(CUID, {"nowhere": 1, "elsewhere": 1})
            elif kind == "batch":
                made(url="http://127.0.0.1:9", retry=Retry(attempts=1)).batch([Record(CUID, ONE, "a-key")])
            elif kind == "buffer":
                with client.buffer() as buffer:
                    buffer.set(CUID, {"nowhere": 1})
            else:
                with made(url="http://127.0.0.1:9").buffer(close_seconds=0.1) as buffer:
                    buffer.set(CUID, ONE, key="a-key")

        def check(kind, error):
            if kind == "set":
                assert type(error) is AttributeUnknown and error.code == 40010 and error.status == 400 and error.request_id
                assert [p.attribute for p in error.problems] == ["nowhere", "elsewhere"]
            elif kind == "batch":
                assert type(error) is BatchFailed and error.results == [None]
                assert type(error.cause) is Unreachable and not error.cause.maybe_done
            elif kind == "buffer":
                ((record, why),) = error.failures
                assert type(error) is RecordsRefused and error.count == 1
                assert record.user == CUID and type(why) is AttributeUnknown
            else:
                assert type(error) is NotDelivered and error.count == 1
                assert [r.key for r in error.records] == ["a-key"]

        KINDS = ("set", "batch", "buffer", "close")

        if __name__ == "__main__":
            with multiprocessing.Pool(2) as pool, ProcessPoolExecutor(2) as executor:
                results = {k: pool.apply_async(refused, (k,)) for k in KINDS}
                futures = {k: executor.submit(refused, k) for k in KINDS}
                for kind in KINDS:
                    try:
                        results[kind].get(60)
                    except ClientError as error:
                        check(kind, error)
                    else:
                        raise AssertionError(kind)
                    check(kind, futures[kind].exception(60))
        """,
        expected=0,
    )


def test_what_the_parent_hands_over_is_not_lost_when_a_child_ends_first(place: Place) -> None:
    """Workers forked from a preloaded application use its client, and end; then the application's own work continues."""
    started = time.monotonic()
    place.run(
        """
        application = made()
        events = application.buffer(capacity=50)
        events.set(CUID, ONE)

        def worker():
            def handle():
                application.set(CUID, ONE)
                events.set(CUID, ONE)
            threads = [threading.Thread(target=handle) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        joined(*(forked(worker) for _ in range(3)))
        events.set(CUID, ONE)
        """,
        expected=2 + 3 * 10,
    )
    assert time.monotonic() - started < 60


def test_a_thread_that_delivers_imports_nothing_that_a_fork_could_cut_in_two(place: Place) -> None:
    """A child would keep half of the module: the first request of one such raised "unknown encoding: idna"."""
    place.run(
        """
        with made() as client:
            known = set(sys.modules)
            with client.buffer() as buffer:
                buffer.set(CUID, ONE)
            client.set(CUID, ONE)
            assert not set(sys.modules) - known, set(sys.modules) - known
        """,
        expected=2,
    )
