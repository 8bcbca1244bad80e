"""Export a table as of a moment before all changes of its history, beside an export of the present.

Every user is imported with ten attributes; then five attributes of random users are reported, in transactions of as many
reports as the server has at a time, and packed, as the server does after an hour (`--unpacked`: they are not).
`usertable export --as-of` the moment before the first report runs as a process of its own: its seconds, its seconds of CPU
and those of PostgreSQL, and the most memory that it had at once. The file is compared with the one that was exported before
the reports.

    PYTHONPATH=tests .venv/bin/python benchmarks/history_export.py --store postgresql --users 100000 --changes 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import filecmp
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
import psycopg

from bulk import encoded
from history import pack_all, postgres, write_batches
from put import PROJECT, SECRET, STORED, WRITTEN
from support.postgres import Cluster
from usertable.app.service import Service
from usertable.commands.import_rows import import_rows
from usertable.domain.actor import Actor
from usertable.domain.change import Origin
from usertable.domain.history import moment_text
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch
from usertable.domain.schema import Project
from usertable.domain.values import Value
from usertable.store import Store, open_store
from usertable.store.records import ImportBatch, ImportRows, Write
from wrk import write_results

FIRST = 20_000_001
IMPORTED_AT = 1_700_000_000_000
ACTORS = [f"key:service-{n}" for n in range(3)]


@dataclass(frozen=True)
class Run:
    """A run of `usertable export`."""

    seconds: float
    cpu_seconds: float
    postgresql_cpu_seconds: float
    peak_mib: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument("--users", type=int, default=1_000_000, help="users in the table (default 1000000)")
    arguments.add_argument("--changes", type=int, default=10_000_000, help="changes after the moment (default 10000000)")
    arguments.add_argument("--batch", type=int, default=64, help="reports in a transaction (default 64)")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--format", choices=["csv", "ndjson", "parquet"], default="csv")
    arguments.add_argument("--unpacked", action="store_true", help="leave the changes as they were written")
    arguments.add_argument("--folder", help="where files and the store are made (default: the system's temporary folder)")
    chosen = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usertable-bench-", dir=chosen.folder)))
        cluster = stack.enter_context(postgres()) if chosen.store == "postgresql" else None
        url = cluster.create() if cluster else f"sqlite:///{folder / 'users.db'}"
        measure(url, cluster, folder, chosen)


def measure(url: str, cluster: Cluster | None, folder: Path, chosen: argparse.Namespace) -> None:
    before, past = folder / f"before.{chosen.format}", folder / f"past.{chosen.format}"
    with contextlib.closing(open_store(url)) as store:
        project = imported(store, chosen.users)
    export(url, cluster, before)
    began = time.perf_counter()
    asyncio.run(write_batches(url, reports(project, chosen.users, chosen.changes, chosen.batch)))
    print(f"{chosen.changes:,} reports of {len(WRITTEN)} attributes in {time.perf_counter() - began:,.0f} s", flush=True)
    with contextlib.closing(open_store(url, writing=True)) as store:
        if not chosen.unpacked:
            began = time.perf_counter()
            pack_all(store, project.number)
            print(f"packed in {time.perf_counter() - began:,.0f} s", flush=True)
        figures = store.history_figures(project.number)
    print(f"{figures.changes:,} changes in {figures.blocks:,} blocks, {figures.bytes / 2**20:,.0f} MiB", flush=True)
    runs: dict[str, list[Run]] = {"present": [], "past": []}
    for _ in range(chosen.rounds):
        runs["present"].append(export(url, cluster, folder / f"present.{chosen.format}"))
        runs["past"].append(export(url, cluster, past, "--as-of", moment_text(IMPORTED_AT)))
        if not filecmp.cmp(before, past, shallow=False):
            sys.exit("the table as of then is not the one that was exported then")
    results = []
    for what, of in runs.items():
        middle = sorted(of, key=lambda run: run.seconds)[len(of) // 2]
        print(f"{what:8} {middle.seconds:7.1f} s, {middle.cpu_seconds:7.1f} s of CPU", end="")
        print(f", {middle.postgresql_cpu_seconds:.1f} s of PostgreSQL's" if cluster else "", end="")
        print(f", at most {middle.peak_mib:,.0f} MiB")
        size = {"users": chosen.users, "changes": chosen.changes, "packed": not chosen.unpacked}
        results.append({"table": what, "store": chosen.store, **size, **asdict(middle)})
    write_results("history-export", {"sqlite": apsw.sqlite_lib_version()}, results)


def imported(store: Store, users: int) -> Project:
    """Create the project with its users."""
    # Before the users, so that history reaches back to them.
    service = Service(store, clock=lambda: IMPORTED_AT)
    service.create_project("bench", id=PROJECT, secret=SECRET, qps=None, timezone="UTC", actor=Actor.cli("benchmark"))
    for attribute in STORED:
        service.declare_attribute(PROJECT, attribute, actor=Actor.cli("benchmark"))
    project = service.project(PROJECT)
    rows: Iterator[tuple[int, tuple[tuple[str, str], ...], str]] = ((c, (), text) for c, text in encoded(users, FIRST))
    origin = Origin("import:first")
    while some := list(itertools.islice(rows, 5000)):
        names = frozenset(attribute.name for attribute in STORED)
        batch = ImportBatch(
            project.number, project.version, ImportRows.of(some), names, IMPORTED_AT, register=True, origin=origin
        )
        store.transact(lambda tx, batch=batch: import_rows(tx, batch, Rules()))  # type: ignore[misc]
    return project


def reports(project: Project, users: int, changes: int, batch: int) -> Iterator[list[Write]]:
    """Yield batches of reports of random users, from clients with three keys."""
    dice = random.Random(1)
    attributes = [project.schema.attributes[attribute.name] for attribute in WRITTEN]
    for done in range(0, changes, batch):
        now = IMPORTED_AT + 1 + done // 100
        writes = []
        for n in range(done, min(done + batch, changes)):
            cuid = FIRST + dice.randrange(users)
            origin, request = Origin(ACTORS[n % 3]), f"request-{n}"
            patch = Patch(list(zip(attributes, sent(n), strict=True)))
            writes.append(
                Write(project.number, cuid, patch, project.version, now, details=False, origin=origin, request=request)
            )
        yield writes


def sent(n: int) -> Sequence[Value]:
    return (n % 80, n % 7, f"city-{n % 10000}", IMPORTED_AT + n * 1000, [f"tag-{n % 27}"])


MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "usertable", *sys.argv[1:]], check=True, stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
"""A program that runs `usertable`. It is small, and a process counts the memory of the one that started it as its own."""


def export(url: str, cluster: Cluster | None, file: Path, *options: str) -> Run:
    command = [sys.executable, "-c", MEASURED, "export", "--project", PROJECT, "-o", str(file), *options]
    began, worked = time.perf_counter(), worker_seconds(cluster)
    done = subprocess.run(command, env=os.environ | {"USERTABLE_STORE": url}, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    cpu_seconds, peak_mib = map(float, done.stdout.split())
    of_postgresql = worker_seconds(cluster) - worked
    return Run(round(seconds, 2), round(cpu_seconds, 2), round(of_postgresql, 2), round(peak_mib, 1))


def worker_seconds(cluster: Cluster | None) -> float:
    """Return the seconds of CPU of PostgreSQL's processes that have ended: one serves an export, others are autovacuum's."""
    if cluster is None:
        return 0
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as db:
        while db.execute(
            "SELECT FROM pg_stat_activity WHERE datname <> 'postgres' AND backend_type = 'client backend'"
        ).rowcount:
            pass
    postmaster = int((cluster.data / "postmaster.pid").read_text().split()[0])
    *_, user, system = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[:15]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
