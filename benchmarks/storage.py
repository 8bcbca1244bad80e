"""Measure SQLite's storage step in this checkout and another one: load a batch, decide it, store it, commit.

    git worktree add /tmp/before main
    .venv/bin/python benchmarks/storage.py --beside /tmp/before/src

Both sides are processes of their own with a store of their own on the same disk. Their rounds alternate, so that what else
the machine does falls on both alike; the ratio is the median of the rounds' ratios, this checkout through the other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from usertable.domain.actor import Actor

BATCHES = (1, 16, 64)
STORED = 20
SENT = 5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--beside", metavar="SRC", help="the folder `src` of the other checkout")
    arguments.add_argument("--users", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--side", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.side:
        serve_rounds(Path(chosen.side), chosen.users)
        return
    if not chosen.beside:
        arguments.error("--beside is needed: the folder src of the other checkout")
    here = str(Path(__file__).resolve().parent.parent / "src")
    with tempfile.TemporaryDirectory(prefix="usertable-storage-") as folder:
        sides = [Side(source, Path(folder) / str(n), chosen.users) for n, source in enumerate((here, chosen.beside))]
        for batch in BATCHES:
            for side in sides:
                side.rate(batch, chosen.seconds / 2)
            rates = [[side.rate(batch, chosen.seconds) for side in sides] for _ in range(chosen.rounds)]
            ratio = statistics.median(here / beside for here, beside in rates)
            ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
            print(f"batches of {batch:2}: {ours:8,.0f} writes/s, beside {theirs:8,.0f}: ratio {ratio:.3f}", flush=True)
        for side in sides:
            side.end()


class Side:
    """A process of one checkout, which measures a round on request."""

    def __init__(self, source: str, folder: Path, users: int) -> None:
        folder.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--side", str(folder), "--users", str(users)],
            env=os.environ | {"PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rate(self, batch: int, seconds: float) -> float:
        """Return the writes per second in batches of this size."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _say(self._process.stdin, [batch, seconds])
        return float(self._process.stdout.readline())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _say(to: IO[str], what: object) -> None:
    to.write(json.dumps(what) + "\n")
    to.flush()


def serve_rounds(folder: Path, users: int) -> None:
    """Measure a round for every line of stdin, such as `256 3`: the size of the batches, and the seconds."""
    # Imported here, from the checkout that PYTHONPATH names.
    from usertable.app.service import Service
    from usertable.commands.import_rows import import_rows
    from usertable.commands.write import WriteBatch
    from usertable.domain.merge import Rules
    from usertable.domain.patch import Patch, validate
    from usertable.domain.schema import Attribute, Rule
    from usertable.domain.values import DataType
    from usertable.store import open_store
    from usertable.store.records import ImportBatch, ImportRows, Write

    url = f"sqlite:///{folder / 'store.db'}"
    store = open_store(url)
    service = Service(store)
    service.create_project("one", id="one", qps=None, actor=Actor.cli("benchmark"))
    for n in range(STORED):
        service.declare_attribute("one", Attribute(f"a_{n}", DataType.STRING, Rule.OVERWRITE), actor=Actor.cli("benchmark"))
    project = service.project("one")
    row = json.dumps({f"a_{n}": f"value {n}" for n in range(STORED)}, separators=(",", ":"))
    for first in range(1, users + 1, 5000):
        rows = ImportRows.of((cuid, (), row) for cuid in range(first, min(first + 5000, users + 1)))
        batch = ImportBatch(project.number, project.version, rows, frozenset(), 1, register=True)
        store.transact(lambda tx, batch=batch: import_rows(tx, batch, Rules()))  # type: ignore[misc]
    store.close()
    store = open_store(url, writing=True)
    project = Service(store).project("one")
    dice = random.Random(1)
    now = count = 0
    for line in sys.stdin:
        batch, seconds = json.loads(line)
        began = time.perf_counter()
        done = 0
        while time.perf_counter() < began + seconds:
            now += 1
            writes = []
            for cuid in dice.sample(range(1, users + 1), batch):
                count += 1
                names = dice.sample(range(STORED), SENT)
                patch = validate(project.schema, {f"a_{n}": f"{count}" for n in names}, project.zone)
                assert isinstance(patch, Patch)
                writes.append(Write(project.number, cuid, patch, project.version, now, details=False))
            store.write(writes, WriteBatch(Rules()))
            done += batch
        _say(sys.stdout, done / (time.perf_counter() - began))
    store.close()


if __name__ == "__main__":
    main()
