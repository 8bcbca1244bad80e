"""A test run that is killed leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

RUN = """
import os, sys, time
from pathlib import Path
from support.postgres import Cluster
from support.server_process import ServerProcess, create_project

cluster = Cluster()
cluster.initialise()
cluster.start()
url = cluster.create()
create_project(url)
server = ServerProcess(url, Path(sys.argv[1]))
print(cluster.data, server.pid, flush=True)
time.sleep(1000)
"""


def test_a_test_run_that_is_killed_leaves_no_database_and_no_server(tmp_path: Path) -> None:
    support = Path(__file__).parents[1]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(support)!r}){RUN}", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        data, server = run.stdout.readline().split()
        postmaster = (Path(data) / "postmaster.pid").read_text().split()[0]
        run.kill()
    deadline = time.monotonic() + 60
    while Path(data).parent.exists() or is_running(postmaster) or is_running(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: str) -> bool:
    """Return whether the process exists, and is not one that has ended without being waited for."""
    try:
        return " Z " not in Path("/proc", pid, "stat").read_text()
    except FileNotFoundError:
        return False
