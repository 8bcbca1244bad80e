"""Durable PUTs per second of this checkout's server beside another checkout's, on SQLite and PostgreSQL, with wrk.

    git worktree add /tmp/before main
    make -C /tmp/before .venv/dev
    make bench-beside BENCH_ARGS="/tmp/before"

Both sides serve a store that the other checkout filled, each with its own interpreter and libraries. Their rounds alternate,
and the first of a round changes, so that what else the machine does falls on both alike; the ratio is the median of the
rounds' ratios, this checkout through the other.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    chosen = arguments.parse_args()
    results = {}
    for name in chosen.stores.split(","):
        with ExitStack() as stack:
            urls = {"sqlite": sqlite, "postgresql": postgresql}[name](stack, chosen.other, chosen.users)
            sides = [stack.enter_context(serving(*side)) for side in zip((HERE, chosen.other), urls, strict=True)]
            for kind in ("plain", "keyed", "no work"):
                results[f"{name}, {kind}"] = compare(sides, kind, chosen)
    write_results("beside", {"other": revision(chosen.other), "this": revision(HERE)}, results)


def compare(sides: list[str], kind: str, chosen: argparse.Namespace) -> dict[str, float]:
    """Print and return the medians of both sides and of their rounds' ratios."""

    def measure(base: str, seconds: int) -> Measured:
        path = NO_WORK_PATH if kind == "no work" else ATTRIBUTE_PATH
        return send(base + path, chosen.connections, seconds, chosen.users, keyed=kind == "keyed")

    for base in sides:
        measure(base, chosen.seconds)
    rounds = []
    for number in range(chosen.rounds):
        order = sides if number % 2 else sides[::-1]
        found = {base: measure(base, chosen.seconds) for base in order}
        assert not any(m.errors for m in found.values()), found
        rounds.append([found[base] for base in sides])
    ours, theirs = (statistics.median(m.per_second for m in side) for side in zip(*rounds, strict=True))
    ratios = [here.per_second / there.per_second for here, there in rounds]
    p99 = [statistics.median(m.p99 for m in side) for side in zip(*rounds, strict=True)]
    print(
        f"{kind:8} {ours:8,.0f}/s, beside {theirs:8,.0f}/s: ratio {statistics.median(ratios):.3f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}), p99 {p99[0]:.1f} and {p99[1]:.1f} ms",
        flush=True,
    )
    return {"this": ours, "other": theirs, "ratio": statistics.median(ratios), "p99 of this": p99[0], "p99 of other": p99[1]}


def sqlite(stack: ExitStack, other: Path, users: int) -> list[str]:
    """Two files with the same users."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usertable-beside-")))
    files = [folder / "this.db", folder / "other.db"]
    for file in files:
        run(other, f"from pathlib import Path; from put import fill; fill(Path({str(file)!r}), {users})")
    print(f"SQLite, {users:,} users")
    return [f"sqlite:///{file}" for file in files]


def postgresql(stack: ExitStack, other: Path, users: int) -> list[str]:
    """Two databases of one PostgreSQL with the same users."""
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
    """Run a line of Python in a checkout."""
    folders = os.pathsep.join(str(checkout / name) for name in ("src", "benchmarks", "tests"))
    subprocess.run([checkout / ".venv/bin/python", "-c", code], env=os.environ | {"PYTHONPATH": folders}, check=True)


@contextmanager
def serving(checkout: Path, url: str) -> Iterator[str]:
    """A checkout's server on a store; its base URL."""
    command = [str(checkout / ".venv/bin/python"), "-m", "usertable", "serve", "--store", url, "--port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stderr=log, env=os.environ | {"PYTHONPATH": str(checkout / "src")})
        try:
            deadline = time.monotonic() + 60
            while True:
                log.seek(0)
                if found := re.search(r"http://[\d.]+:\d+", log.read()):
                    break
                assert server.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
            yield found[0]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def revision(checkout: Path) -> str:
    """The commit that a checkout has."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
