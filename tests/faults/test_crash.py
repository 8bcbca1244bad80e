"""The server is killed under load, again and again: what was acknowledged is there, and nothing was applied twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from serving import ATTRIBUTE, PROJECT, SECRET, Server, prepare
from usertable.service import Service
from usertable.store import open_store

USERS = 5
CLIENTS = 8
KILLS = 6


class Client(threading.Thread):
    """Sends 1 to a random user's counter with a key of its own, and repeats the same request until it is answered."""

    def __init__(self, number: int, server: Server, cuids: list[int], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._server = server
        self._cuids = cuids
        self._stop_event = stop
        self._http = httpx.Client(auth=(PROJECT, SECRET), timeout=10)
        self._random = random.Random(number)
        self.acknowledged: Counter[int] = Counter()
        self.replayed = 0
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
                answer = self._http.put(self._server.url + ATTRIBUTE, json=body, headers={"Idempotency-Key": key})
                if answer.status_code != 503:
                    return answer
            except httpx.TransportError:
                pass
            time.sleep(0.02)


def test_killed_again_and_again_under_load(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    cuids = prepare(url, users=USERS)
    server = Server(url, tmp_path)
    stop = threading.Event()
    clients = [Client(n, server, cuids, stop) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    chance = random.Random(7)
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.4, 0.9))
            server.kill()
            server.start()
        time.sleep(0.5)
    finally:
        stop.set()
        for client in clients:
            client.join(60)
    assert server.stop() == 0

    assert [text for client in clients for text in client.wrong] == []
    acknowledged: Counter[int] = sum((client.acknowledged for client in clients), Counter())
    assert sum(acknowledged.values()) > 10 * KILLS
    assert read_sums(url, cuids) == {cuid: acknowledged[cuid] for cuid in cuids}


def read_sums(url: str, cuids: list[int]) -> dict[int, object]:
    """The counters as the store has them; each must agree with the list that grew in the same writes."""
    store = open_store(url)
    service = Service(store)
    project = service.project(PROJECT)
    sums: dict[int, object] = {}
    for cuid in cuids:
        values = service.user(project, cuid).profile.attributes
        sums[cuid] = values.get("user_number_accumulate", 0)
        assert len(values.get("user_list_append", [])) == sums[cuid]  # type: ignore[arg-type]
    store.close()
    return sums


def test_a_killed_writer_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    cuids = prepare(url, users=USERS)
    server = Server(url, tmp_path)
    stop = threading.Event()
    clients = [Client(n, server, cuids, stop) for n in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(4):
            time.sleep(0.4)
            os.kill(server.writer_pid(), signal.SIGKILL)
        time.sleep(0.5)
    finally:
        stop.set()
        for client in clients:
            client.join(60)
    assert server.stop() == 0
    acknowledged: Counter[int] = sum((client.acknowledged for client in clients), Counter())
    assert read_sums(url, cuids) == {cuid: acknowledged[cuid] for cuid in cuids}
    assert "the writer process ended" in server.log
