"""Clients that retry every write until it is answered, and what must be stored at the end: rows and their history."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from support.histories import check_history
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess
from support.waiting import DEADLINE_SECONDS, wait_until
from usertable.app.service import Service
from usertable.store import open_store


class Client(threading.Thread):
    """Adds 1 to a random user's counter, with a key, and repeats the request, to any server, until it is answered."""

    def __init__(self, number: int, servers: Sequence[ServerProcess], cuids: list[int], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._servers = servers
        self._cuids = cuids
        self._stop_event = stop
        self._http = httpx.Client(auth=(PROJECT, SECRET), timeout=10)
        self._random = random.Random(number)
        self.acknowledged: Counter[int] = Counter()
        self.replayed = 0
        self.refused = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        with self._http:
            self._send_until_stopped()

    def _send_until_stopped(self) -> None:
        count = 0
        while not self._stop_event.is_set():
            count += 1
            cuid = self._random.choice(self._cuids)
            mark = f"{self._number}-{count}"
            body = {"cuid": cuid, "data": {"user_number_accumulate": 1, "user_list_append": [mark]}}
            answer = self._until_answered(body, mark)
            self.replayed += answer.headers.get("idempotency-replayed") == "true"
            if answer.content == b'{"code":0,"msg":"ok"}':
                self.acknowledged[cuid] += 1
            else:
                self.wrong.append(answer.text)

    def _until_answered(self, body: dict[str, object], key: str) -> httpx.Response:
        while True:
            try:
                answer = self._http.put(
                    self._random.choice(self._servers).url + ATTRIBUTE,
                    json=body,
                    headers={"Idempotency-Key": key, "X-Request-Id": key},
                )
                if answer.status_code != 503:
                    return answer
                self.refused += 1
            except httpx.TransportError:
                pass
            time.sleep(0.02)


@contextmanager
def load(servers: Sequence[ServerProcess], cuids: list[int], clients: int) -> Iterator[list[Client]]:
    """Run this many clients on these users during the block. At its end, every one of their writes is answered."""
    stop = threading.Event()
    at_work = [Client(n, servers, cuids, stop) for n in range(clients)]
    for client in at_work:
        client.start()
    try:
        yield at_work
    finally:
        stop.set()
        for client in at_work:
            client.join(DEADLINE_SECONDS)
    assert not any(client.is_alive() for client in at_work)
    wrong = [text for client in at_work for text in client.wrong]
    assert not wrong, wrong


def wait_for_more(clients: Sequence[Client], count: int) -> None:
    """Wait until `count` more writes are acknowledged."""
    wanted = sum(client.acknowledged.total() for client in clients) + count
    wait_until(lambda: sum(client.acknowledged.total() for client in clients) >= wanted)


def check_sums(url: str, cuids: list[int], clients: Sequence[Client], least: int) -> None:
    """Check that every acknowledged write is in the store, none of them twice, and that there were at least `least`.

    The history of each user has them all, each with the ID of its request.
    """
    acknowledged: Counter[int] = sum((client.acknowledged for client in clients), Counter())
    assert sum(acknowledged.values()) >= least
    assert read_sums(url, cuids, with_requests=True) == {cuid: acknowledged[cuid] for cuid in cuids}


def read_sums(url: str, cuids: list[int], *, with_requests: bool = False) -> dict[int, object]:
    """Return the counters in the store.

    Each must agree with the list that grew in the same writes, and with the user's history.

    Args:
        with_requests: each element of the list is the ID of the request that appended it, as the history must say.
    """
    store = open_store(url)
    service = Service(store)
    project = service.project(PROJECT)
    sums: dict[int, object] = {}
    for cuid in cuids:
        values = service.user(project, cuid).profile.attributes
        sums[cuid] = values.get("user_number_accumulate", 0)
        assert len(values.get("user_list_append", [])) == sums[cuid]  # type: ignore[arg-type]
        changes = check_history(store, project.number, cuid, project.schema)
        if with_requests:
            requests = [change.request for change in reversed(changes) if change.changed and change.reports]
            assert requests == values.get("user_list_append", [])
    store.close()
    return sums
