"""The server is killed under load, repeatedly: what was acknowledged is stored, and nothing was applied twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from support.load import check_sums, load, wait_for_more
from support.server_process import ServerProcess, create_project

KILLS = 6


def test_killed_again_and_again_under_load(kept_url: str, tmp_path: Path) -> None:
    cuids = create_project(kept_url, users=5)
    server = ServerProcess(kept_url, tmp_path)
    chance = random.Random(7)
    with load([server], cuids, 8) as clients:
        for _ in range(KILLS):
            wait_for_more(clients, 10)
            time.sleep(chance.uniform(0.1, 0.5))
            server.kill()
            server.start()
    assert server.stop() == 0
    check_sums(kept_url, cuids, clients, 10 * KILLS)


def test_a_killed_writer_is_replaced_and_nothing_is_lost(kept_url: str, tmp_path: Path) -> None:
    cuids = create_project(kept_url, users=5)
    server = ServerProcess(kept_url, tmp_path)
    with load([server], cuids, 4) as clients:
        for _ in range(4):
            wait_for_more(clients, 5)
            # There may be none: on PostgreSQL plain writes do not need it, and the next other write starts it.
            for writer in server.children():
                os.kill(writer, signal.SIGKILL)
        wait_for_more(clients, 5)
    assert server.stop() == 0
    check_sums(kept_url, cuids, clients, 20)
    assert "the writer process ended" in server.log
