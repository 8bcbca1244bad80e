"""What packs and removes history is killed at random moments, beside a server under load that is killed too."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from support.histories import user_and_changes
from support.load import Client, check_sums, load, wait_for_more
from support.server_process import PROJECT, ServerProcess, create_project
from usertable.domain.change import ChangeKind
from usertable.store import Store, open_store

KILLS = 8
PACK = """
import sys
from usertable.store import history, open_store
history.PACKED_CHANGES = 16
store = open_store(sys.argv[1])
print("ready", flush=True)
while True:
    if store.pack_history(1, 2**62).blocks:
        print("done", flush=True)
"""
PRUNE = """
import sys, time
from usertable.store import history, open_store
history.PACKED_CHANGES = 16
store = open_store(sys.argv[1])
print("ready", flush=True)
while True:
    store.pack_history(1, 2**62)
    if store.prune_history(1, 0, store.history_figures(1).bytes - 4000, 2**62).blocks:
        print("done", flush=True)
    time.sleep(0.005)
"""


def killed_again_and_again(url: str, folder: Path, script: str) -> tuple[list[int], list[Client]]:
    """Run the script beside a server under load, and kill it and the server. Return the users and the clients."""
    cuids = create_project(url, users=5)
    server = ServerProcess(url, folder)
    chance = random.Random(11)
    with load([server], cuids, 6) as clients:
        for count in range(KILLS):
            child = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE)
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            wait_for_more(clients, 40)
            # Otherwise a busy machine might let it do nothing.
            assert child.stdout.readline() == b"done\n"
            time.sleep(chance.uniform(0, 0.2))
            if count % 3 == 2:
                server.kill()
            child.kill()
            child.wait()
            child.stdout.close()
            if count % 3 == 2:
                server.start()
    assert server.stop() == 0
    return cuids, clients


def packed_blocks(store: Store) -> int:
    return sum(block.is_packed for block in store.history_blocks(1, None, 10_000))


def test_packing_that_is_killed_loses_no_change_and_doubles_none(kept_url: str, tmp_path: Path) -> None:
    cuids, clients = killed_again_and_again(kept_url, tmp_path, PACK)
    with closing(open_store(kept_url)) as store:
        assert packed_blocks(store) > 5
    check_sums(kept_url, cuids, clients, 40 * KILLS)


def test_pruning_that_is_killed_removes_nothing_that_is_said_to_be_kept(kept_url: str, tmp_path: Path) -> None:
    cuids, _ = killed_again_and_again(kept_url, tmp_path, PRUNE)
    with closing(open_store(kept_url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        since = store.history_since(project.number)
        assert since is not None
        assert since > project.created_at
        removed = 0
        for cuid in cuids:
            user, changes = user_and_changes(store, project.number, cuid)
            requests = [change.request for change in reversed(changes) if change.kind is ChangeKind.WRITE]
            marks = user.profile.attributes["user_list_append"]
            assert isinstance(marks, list)
            assert requests == marks[len(marks) - len(requests) :]
            removed += len(marks) - len(requests)
            if changes and len(requests) < len(marks):
                assert changes[-1].since < since
            elif not changes:
                assert user.profile.updated_at < since
        assert removed > 0
