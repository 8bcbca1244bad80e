"""Buffers that cannot deliver: who waits, what is raised, and how long it takes, with threads and with coroutines."""

from __future__ import annotations

import asyncio
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.waiting import DEADLINE_SECONDS
from usertable import AsyncClient, Client
from usertable.client import AsyncBuffer, Buffer, BufferFull, ClientError, NotDelivered, Retry
from usertable.testing import Server

QUICK = Retry(attempts=3, first=0.001, most=0.002)
CUID = 7
BOUND = 60
"""Seconds within which a call with a time limit returns, on any machine; the client's timeout is far above."""


@pytest.fixture
def server(usertable_server: Server) -> Server:
    usertable_server.declare("count", "NUMBER", "accumulate")
    usertable_server.declare("marks", "LIST", "append")
    usertable_server.add_user(CUID)
    return usertable_server


@pytest.fixture(params=["away", "silent"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a server that does not exist, or that accepts connections and never answers."""
    if request.param == "away":
        yield "http://127.0.0.1:9"
        return
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_async_buffer_that_cannot_deliver_holds_nothing_up(nowhere: str) -> None:
    """The default executor has one thread, which is busy: a call that waits in it would wait forever."""
    release = threading.Event()

    async def main() -> NotDelivered:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1)
        executor.submit(release.wait)
        loop.set_default_executor(executor)
        # However the test ends.
        asyncio.current_task().add_done_callback(lambda _: release.set())  # type: ignore[union-attr]
        client = AsyncClient(nowhere, "p", "s", timeout=300)
        started = time.monotonic()
        try:
            async with client.buffer(capacity=100, close_seconds=1) as buffer:
                for n in range(100):
                    await buffer.set(CUID, {"count": n})
                tasks = [asyncio.create_task(buffer.set(CUID, {"count": 1})) for _ in range(200)]
                with pytest.raises(NotDelivered):
                    await buffer.flush(0.2)
                assert buffer.waiting == 100
                assert not any(task.done() for task in tasks)
        except NotDelivered as told:
            failure = told
        assert time.monotonic() - started < BOUND
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {(type(o), str(o)) for o in outcomes} == {(BufferFull, "the buffer is closed")}
        await client.close()
        return failure

    failure = asyncio.run(main())
    assert failure.count == 100
    assert [record.values for record in failure.records] == [{"count": n} for n in range(100)]
    assert len({record.key for record in failure.records}) == 100


def test_closing_keeps_its_seconds_although_a_request_is_under_way(nowhere: str, tmp_path: Path) -> None:
    for spool in (None, tmp_path):
        with Client(nowhere, "p", "s", timeout=300) as client:
            buffer = client.buffer(close_seconds=0.5, spool=spool)
            buffer.set(CUID, {"count": 1})
            time.sleep(0.2)
            started = time.monotonic()
            with pytest.raises(NotDelivered) as told:
                buffer.close()
            assert time.monotonic() - started < BOUND
            assert (told.value.count, len(told.value.records)) == (1, 0 if spool else 1)
            buffer.close()
    # The spool is free, although the request may still be in progress.
    with Client("http://127.0.0.1:9", "p", "s") as client:
        again = client.buffer(spool=tmp_path, close_seconds=0)
        assert again.waiting == 1
        with pytest.raises(NotDelivered):
            again.close()


def test_what_was_not_delivered_can_be_handed_over_again_and_counts_once(server: Server) -> None:
    """The server received and applied the batch; its answer was lost."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answers: queue.Queue[bytes] = queue.Queue()

        def swallow() -> None:
            connection, _ = listener.accept()
            host, port = server.url.removeprefix("http://").split(":")
            with connection, socket.create_connection((host, int(port))) as onward:
                hearing = threading.Thread(target=lambda: answers.put(onward.recv(65536)), daemon=True)
                hearing.start()
                while piece := connection.recv(65536):
                    onward.sendall(piece)
                hearing.join()

        thread = threading.Thread(target=swallow, daemon=True)
        thread.start()
        with Client(url, server.project, server.secret, timeout=300) as client:
            buffer = client.buffer(close_seconds=1)
            buffer.add([])
            for _ in range(3):
                buffer.set(CUID, {"count": 1})
            assert answers.get(timeout=60).startswith(b"HTTP/1.1 200")
            with pytest.raises(NotDelivered) as told:
                buffer.close()
    assert told.value.count == 3
    with server.client() as client, client.buffer() as again:
        again.add(told.value.records)
    assert server.attributes(CUID) == {"count": 3}


@pytest.mark.parametrize("spooled", [False, True])
def test_a_set_that_was_cancelled_was_not_taken_and_one_that_returned_was(
    server: Server, tmp_path: Path, spooled: bool
) -> None:
    """Many calls at a time, canceled at random moments, with a buffer of three records or a slow disk."""
    chance = random.Random(3)
    taken: set[str] = set()

    async def one(buffer: AsyncBuffer, mark: str) -> None:
        try:
            async with asyncio.timeout(chance.choice((0, 0.0005, 0.003, 0.02, 5))):
                await buffer.set(CUID, {"count": 1, "marks": [mark]})
                taken.add(mark)
        except TimeoutError:
            pass

    async def cancelled(buffer: AsyncBuffer, mark: str) -> None:
        task = asyncio.create_task(buffer.set(CUID, {"count": 1, "marks": [mark]}))
        await asyncio.sleep(chance.choice((0, 0.001, 0.01)))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        taken.add(mark)

    async def waited(buffer: AsyncBuffer, mark: str) -> None:
        try:
            await asyncio.wait_for(buffer.set(CUID, {"count": 1, "marks": [mark]}), chance.choice((0.001, 0.01, 5)))
        except TimeoutError:
            return
        taken.add(mark)

    async def main() -> None:
        client = server.async_client(retry=QUICK)
        async with client.buffer(capacity=3, spool=tmp_path if spooled else None) as buffer:
            kinds = (one, cancelled, waited)
            await asyncio.gather(*(chance.choice(kinds)(buffer, str(n)) for n in range(200)))
        await client.close()

    asyncio.run(main())
    stored = server.attributes(CUID)
    assert set(stored["marks"]) == taken
    assert stored["count"] == len(taken)
    assert 0 < len(taken) < 200


class HeldDisk:
    """A disk whose next sync lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._may_end = threading.Event()
        self._may_end.set()
        self._fsync = os.fsync

    def hold(self) -> None:
        self.begun.clear()
        self._may_end.clear()

    async def release(self) -> None:
        # What the test began last, such as a cancellation, comes first.
        await asyncio.sleep(0.01)
        self._may_end.set()

    def fsync(self, descriptor: int) -> None:
        self.begun.set()
        assert self._may_end.wait(DEADLINE_SECONDS)
        self._fsync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> HeldDisk:
    disk = HeldDisk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


def test_a_cancellation_during_the_write_to_a_spool_comes_afterwards(server: Server, tmp_path: Path, disk: HeldDisk) -> None:
    async def main() -> None:
        client = server.async_client()
        async with client.buffer(spool=tmp_path) as buffer:
            reached: list[str] = []

            async def task() -> None:
                await buffer.set(CUID, {"count": 1})
                reached.append("taken")
                await asyncio.sleep(60)
                reached.append("never")

            disk.hold()
            running = asyncio.create_task(task())
            while not disk.begun.is_set():
                await asyncio.sleep(0.01)
            running.cancel()
            await disk.release()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert reached == ["taken"]

            async def expire(limit: asyncio.Timeout) -> None:
                while not disk.begun.is_set():
                    await asyncio.sleep(0.01)
                limit.reschedule(asyncio.get_running_loop().time())
                await disk.release()

            # If the cancellation was a timeout's, which ends with the block, nothing is canceled later.
            disk.hold()
            async with asyncio.timeout(None) as limit:
                expiring = asyncio.create_task(expire(limit))
                await buffer.set(CUID, {"count": 10})
            await expiring
            await asyncio.sleep(0.01)
            # And where the block goes on, it ends with the timeout.

            async def longer() -> None:
                disk.hold()
                async with asyncio.timeout(None) as limit:
                    expiring = asyncio.create_task(expire(limit))
                    await buffer.set(CUID, {"count": 100})
                    await expiring
                    await asyncio.sleep(60)

            with pytest.raises(TimeoutError):
                await longer()
            await asyncio.sleep(0.01)
        await client.close()

    asyncio.run(main())
    assert server.attributes(CUID) == {"count": 111}


def test_an_async_buffer_is_used_in_its_block(tmp_path: Path) -> None:
    async def main() -> None:
        client = AsyncClient("http://127.0.0.1:9", "p", "s")
        buffer = client.buffer()
        with pytest.raises(ClientError, match="async with"):
            await buffer.set(CUID, {"count": 1})
        async with buffer:
            pass
        await client.close()
        with pytest.raises(ClientError, match="the client is closed"):
            await client.set(CUID, {"count": 1})

    asyncio.run(main())


def test_on_error_that_hands_the_record_back_to_a_full_buffer_is_told_at_once(server: Server) -> None:
    told: list[Exception] = []
    kept: list[int] = []

    def hand_back(record: Any, error: ClientError) -> None:
        with pytest.raises(ClientError, match=r"on_error cannot call flush\(\)"):
            buffer.flush()
        with pytest.raises(ClientError, match=r"on_error cannot call close\(\)"):
            buffer.close()
        try:
            buffer.set(CUID, {"count": 1})
            kept.append(1)
        except BufferFull as full:
            told.append(full)

    buffer: Buffer
    with server.client() as client, client.buffer(capacity=100, on_error=hand_back) as buffer:
        for n in range(600):
            buffer.set(CUID if n % 3 else 999_999, {"count": 1})
    assert len(told) + len(kept) == 200
    reasons = [str(full) for full in told]
    assert any("has no room before on_error returns" in reason for reason in reasons)
    assert all("has no room before on_error returns" in reason or "the buffer is closed" in reason for reason in reasons)
    assert server.attributes(CUID) == {"count": 400 + len(kept)}


def test_on_error_is_no_coroutine_function() -> None:
    async def on_error(record: object, error: object) -> None: ...

    async def opened(client: AsyncClient) -> None:
        async with client.buffer(on_error=on_error):
            pass

    with pytest.raises(TypeError, match="on_error is a coroutine function"):
        asyncio.run(opened(AsyncClient("http://127.0.0.1:9", "p", "s")))
    with (
        Client("http://127.0.0.1:9", "p", "s") as client,
        pytest.raises(TypeError, match="on_error is a coroutine function"),
    ):
        client.buffer(on_error=on_error)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_closing_that_is_interrupted_tells_at_the_end_of_the_program(tmp_path: Path, kind: str) -> None:
    """Ctrl-C while the end of the block waits for a server that is down."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import asyncio, os, signal, sys, threading, time
from usertable import AsyncClient, Client

def interrupt(buffer):
    while not getattr(buffer, "_made", buffer)._closing:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

def sync():
    with Client("http://127.0.0.1:9", "p", "s") as client, client.buffer(close_seconds=2) as buffer:
        buffer.set(7, {"count": 1})
        threading.Thread(target=interrupt, args=(buffer,)).start()

async def main():
    async with AsyncClient("http://127.0.0.1:9", "p", "s").buffer(close_seconds=2) as buffer:
        await buffer.set(7, {"count": 1})
        threading.Thread(target=interrupt, args=(buffer,)).start()

sync() if sys.argv[1] == "sync" else asyncio.run(main())
"""
    )
    done = subprocess.run([sys.executable, str(program), kind], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert "1 record was not delivered" in done.stderr
