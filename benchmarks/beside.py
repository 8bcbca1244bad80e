"""Durable PUTs per second of this checkout's server beside another checkout's, on SQLite and PostgreSQL, with wrk.

    git worktree add /tmp/before main
    make -C /tmp/before .venv/dev
    make bench-beside BENCH_ARGS="/tmp/before"

To see what a setting costs, put a checkout beside itself: `--setting access_log=true` is for this side only.

Both sides serve a store that the other checkout filled, each with its own interpreter and libraries. Their rounds alternate,
and the first of a round changes, so that what else the machine does falls on both alike; the ratio is the median of the
rounds' ratios, this checkout through the other. On a machine that others use too, the CPU time that a request took says
more than the rate; its ratio is the other checkout's through this one's, so that below 1 is slower in both.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from postgresql import SETTINGS
from put import NO_WORK_PATH, send
from support.postgres import NEWEST, Cluster
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from wrk import Measured, write_results

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("other", type=Path, help="the other checkout, with a .venv of its own")
    arguments.add_argument("--stores", default="sqlite,postgresql", help="one or both, with a comma")
    arguments.add_argument("--users", type=int, default=100_000, help="users stored (default 100000)")
    arguments.add_argument("--connections", type=int, default=64, help="wrk's connections (default 64)")
    arguments.add_argument("--seconds", type=int, default=8, help="length of a round (default 8)")
    arguments.add_argument("--setting", action="append", default=[], help="KEY=VALUE of this checkout's server; repeatable")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    chosen = arguments.parse_args()
    results = {}
    for name in chosen.stores.split(","):
        with ExitStack() as stack:
            urls = {"sqlite": sqlite, "postgresql": postgresql}[name](stack, chosen.other, chosen.users)
            settings = {f"USERTABLE_{key.upper()}": value for key, _, value in (s.partition("=") for s in chosen.setting)}
            sides = [
                stack.enter_context(serving(HERE, urls[0], settings)),
                stack.enter_context(serving(chosen.other, urls[1], {})),
            ]
            for kind in ("plain", "keyed", "no work"):
                results[f"{name}, {kind}"] = compare(sides, kind, chosen)
    versions = {"other": revision(chosen.other), "this": revision(HERE), "settings of this": chosen.setting}
    write_results("beside", versions, results)


@dataclass(frozen=True)
class Side:
    """A server that is measured."""

    base: str
    pid: int

    def cpu(self) -> float:
        """Return the CPU seconds that the server and its writer have used."""
        return sum(cpu_seconds(pid) for pid in self._processes())

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the server and its writer during the block."""
        processes = self._processes()
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)

    def _processes(self) -> list[int]:
        return [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used, in user and system mode."""
    # The name, in brackets, may contain spaces. User and system time are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(sides: list[Side], kind: str, chosen: argparse.Namespace) -> dict[str, float]:
    """Print and return the medians of both sides and of their rounds' ratios."""

    def measure(side: Side, seconds: int) -> tuple[Measured, float]:
        """Return wrk's result, and the microseconds of CPU per request."""
        path = NO_WORK_PATH if kind == "no work" else ATTRIBUTE_PATH
        before = side.cpu()
        found = send(side.base + path, chosen.connections, seconds, chosen.users, keyed=kind == "keyed")
        return found, (side.cpu() - before) / (found.per_second * seconds) * 1e6

    for side in sides:
        measure(side, chosen.seconds)
    rounds = []
    for number in range(chosen.rounds):
        order = sides if number % 2 else sides[::-1]
        found = {side: measure(side, chosen.seconds) for side in order}
        assert not any(m.errors for m, _ in found.values()), found
        rounds.append([found[side] for side in sides])
    ours, theirs = (statistics.median(m.per_second for m, _ in side) for side in zip(*rounds, strict=True))
    ratios = [here.per_second / there.per_second for (here, _), (there, _) in rounds]
    p99 = [statistics.median(m.p99 for m, _ in side) for side in zip(*rounds, strict=True)]
    cpu = [statistics.median(cpu for _, cpu in side) for side in zip(*rounds, strict=True)]
    cpu_ratio = statistics.median(there / here for (_, here), (_, there) in rounds)
    print(
        f"{kind:8} {ours:8,.0f}/s, beside {theirs:8,.0f}/s: ratio {statistics.median(ratios):.3f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}), p99 {p99[0]:.1f} and {p99[1]:.1f} ms;"
        f" CPU {cpu[0]:.1f} and {cpu[1]:.1f} µs: ratio {cpu_ratio:.3f}",
        flush=True,
    )
    return {
        "this": ours,
        "other": theirs,
        "ratio": statistics.median(ratios),
        "p99 of this": p99[0],
        "p99 of other": p99[1],
        "CPU of this, µs": cpu[0],
        "CPU of other, µs": cpu[1],
        "CPU ratio": cpu_ratio,
    }


def sqlite(stack: ExitStack, other: Path, users: int) -> list[str]:
    """Create two SQLite files with the same users."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usertable-beside-")))
    files = [folder / "this.db", folder / "other.db"]
    for file in files:
        run(other, f"from pathlib import Path; from put import fill; fill(Path({str(file)!r}), {users})")
    print(f"SQLite, {users:,} users")
    return [f"sqlite:///{file}" for file in files]


def postgresql(stack: ExitStack, other: Path, users: int) -> list[str]:
    """Create two databases of one PostgreSQL server with the same users."""
    cluster = Cluster(NEWEST, durable=True, settings=tuple(f"{key} = {value}" for key, value in SETTINGS.items()))
    stack.callback(cluster.close)
    cluster.initialise()
    cluster.start()
    urls = [cluster.create(), cluster.create()]
    for url in urls:
        run(other, f"from postgresql import fill; fill({url!r}, {users})")
    print(f"PostgreSQL, {users:,} users")
    return urls


def run(checkout: Path, code: str) -> None:
    """Run Python code in a checkout."""
    folders = os.pathsep.join(str(checkout / name) for name in ("src", "benchmarks", "tests"))
    subprocess.run([checkout / ".venv/bin/python", "-c", code], env=os.environ | {"PYTHONPATH": folders}, check=True)


@contextmanager
def serving(
    checkout: Path, url: str, settings: dict[str, str], program: Sequence[str] = ("-m", "usertable")
) -> Iterator[Side]:
    """Run a checkout's server on a store.

    Args:
        program: what Python runs for the command `usertable`.
    """
    command = [str(checkout / ".venv/bin/python"), *program, "serve", "--store", url, "--port", "0"]
    environment = os.environ | settings | {"PYTHONPATH": str(checkout / "src")}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 60
            while True:
                log.seek(0)
                if found := re.search(r"http://[\d.]+:\d+", log.read()):
                    break
                assert server.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
            yield Side(found[0], server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def revision(checkout: Path) -> str:
    """Return the commit of a checkout."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
