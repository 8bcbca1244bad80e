"""A file of a gigabyte is imported within 512 MB. Takes a minute or two, so it runs only on request: `-m large`."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.server_process import PROJECT, create_project
from usertable.store import open_store

LIMIT = 512 * 2**20
ROWS = 600_000


LIMITED = """
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
done = subprocess.run(sys.argv[2:], check=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
sys.exit(done.returncode)
"""
"""Runs a command with a memory limit in bytes, and prints the peak of its largest process. A separate process, because a
child's peak is at least that of the process that starts it, and this one has loaded all the tests."""


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_a_gigabyte_within_512_mb(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'users.db'}"
    create_project(url)
    file = tmp_path / "large.csv"
    text = "what is known of a user, " * 70
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cuid", "user_number_accumulate", "user_string_once", "user_list_append"])
        for number in range(1, ROWS + 1):
            writer.writerow([number, number, f"{number} {text}", '["a","b"]'])
    assert file.stat().st_size > 2**30
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    command = [sys.executable, "-m", "usertable", "import", str(file), "--project", PROJECT, "--register", "--json"]
    # The limit applies to each of the two processes; the peak to both together, as far as they were in memory.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(LIMIT), *command, "--store", url],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["created"] == ROWS
    # The largest child was one of the two, so both together stay below twice that.
    assert 0 < int(done.stderr.split()[-1]) < LIMIT // 2
    with closing(open_store(url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        user = store.read(project.number, ROWS)
        assert user is not None
        assert user.profile.attributes["user_number_accumulate"] == ROWS
