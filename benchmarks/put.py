"""Durable PUTs per second against the server's own no-work ceiling, in one run, with wrk.

For each number of stored users: fill a SQLite store and start the real server; then, at each number of connections,
alternate rounds of PUTs (5 attributes, random users) with rounds of a route that does no work. That route is sent the very
same requests, and also plain GETs. Several numbers of users are measured in turn, round by round, and compared with the
first. Prints medians and ratios, and writes them with the machine's description to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import apsw

from usertable.app.service import Service
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.actor import Actor
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.records import FIRST_CUID
from wrk import Measured, write_results, wrk

PROJECT, SECRET = "100102", "benchmark-secret-000"
NO_WORK_PATH = "/livez"
WRITTEN = [
    Attribute("age", DataType.NUMBER, Rule.OVERWRITE),
    Attribute("total_spent", DataType.NUMBER, Rule.ACCUMULATE),
    Attribute("city", DataType.STRING, Rule.OVERWRITE),
    Attribute("last_seen", DataType.DATETIME, Rule.OVERWRITE),
    Attribute("interests", DataType.LIST, Rule.APPEND),
]
CHANGED_AT = json.dumps({attribute.name: 1_700_000_000_001 for attribute in WRITTEN}, separators=(",", ":"))
"""Of users that were written once since they were made. Those that come from an import have no such times yet."""
STORED = [
    *WRITTEN,
    Attribute("registered_at", DataType.DATETIME, Rule.ONCE),
    Attribute("level", DataType.NUMBER, Rule.ONCE),
    Attribute("channel", DataType.STRING, Rule.ONCE),
    Attribute("is_member", DataType.BOOL, Rule.OVERWRITE),
    Attribute("nickname", DataType.STRING, Rule.OVERWRITE),
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--users", default="1000000", help="users stored, several with commas (default 1000000)")
    arguments.add_argument("--connections", default="1,16,64,256", help="connections, several with commas")
    arguments.add_argument("--seconds", type=int, default=8, help="length of a round of PUTs")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds per number of connections")
    arguments.add_argument("--warm-up", type=int, default=30, help="seconds of PUTs before the first round")
    arguments.add_argument("--cache-mb", type=int, default=4096, help="SQLite's page cache")
    arguments.add_argument("--folder", help="where the stores are made (default: the system's temporary folder)")
    arguments.add_argument("--suffix", default="", help="added to the name of the result file")
    chosen = arguments.parse_args()
    sizes = [int(users) for users in chosen.users.split(",")]
    results = []
    with tempfile.TemporaryDirectory(prefix="usertable-bench-", dir=chosen.folder) as folder, ExitStack() as servers:
        bases = {}
        for users in sizes:
            file = Path(folder) / f"{users}.db"
            fill(file, users)
            print(f"{users:,} users, {len(STORED)} attributes each: {file.stat().st_size / 2**20:,.0f} MiB")
            bases[users] = servers.enter_context(serving(f"sqlite:///{file}?cache_mb={chosen.cache_mb}"))
            send(bases[users] + ATTRIBUTE_PATH, 64, chosen.warm_up, users)
        for connections in map(int, chosen.connections.split(",")):
            rounds = [
                {users: measure(base, users, connections, chosen.seconds) for users, base in bases.items()}
                for _ in range(chosen.rounds)
            ]
            results += [report(connections, users, sizes[0], rounds) for users in sizes]
    write_results("put" + chosen.suffix, {"sqlite": apsw.sqlite_lib_version()}, results)


def fill(file: Path, users: int, head: int = 0, sole_actor: str = "") -> None:
    """Create a store with a project and `users` rows, which SQLite generates in the store's own format.

    Args:
        head: the number of every user's newest change; 0 for none.
        sole_actor: the actor behind all values.
    """
    store = open_store(f"sqlite:///{file}")
    service = Service(store)
    project, _ = service.create_project("benchmark", id=PROJECT, secret=SECRET, qps=None, actor=Actor.cli("benchmark"))
    for attribute in STORED:
        service.declare_attribute(PROJECT, attribute, actor=Actor.cli("benchmark"))
    store.close()
    db = apsw.Connection(str(file))
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    db.executemany(
        f"INSERT INTO user_{project.number}"
        f" VALUES (?, 2, 1700000000000, 1700000000001, ?, '{CHANGED_AT}', {head}, '{sole_actor}')",
        rows(users),
    )
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def rows(users: int) -> Iterator[tuple[int, str]]:
    for i in range(users):
        yield (
            FIRST_CUID + i,
            f'{{"age":{i % 80},"total_spent":{i % 1000}.25,"city":"city-{i % 10000}","last_seen":1700000000000,'
            f'"interests":["tag-{i % 20}","tag-{i % 7 + 1}"],"registered_at":1600000000000,"level":{i % 60},'
            f'"channel":"channel-{i % 30}","is_member":true,"nickname":"user-{i}"}}',
        )


@contextmanager
def serving(url: str, workers: int = 1) -> Iterator[str]:
    """Run the server on a free port, and yield its base URL."""
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115
    server = subprocess.Popen(
        [sys.executable, "-m", "usertable", "serve", "--store", url, "--port", "0", "--workers", str(workers)], stderr=log
    )
    try:
        for _ in range(300):
            time.sleep(0.1)
            log.seek(0)
            if found := re.search(r"http://[\d.]+:\d+", log.read()):
                yield found[0]
                return
        raise SystemExit("the server did not start")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


@dataclass(frozen=True, slots=True)
class Round:
    """Results of PUTs, and of the route that does nothing: `ceilings`, by what it was sent."""

    puts: Measured
    ceilings: dict[str, Measured]


def measure(base: str, users: int, connections: int, seconds: int) -> Round:
    """Measure one round on one server."""
    short = max(2, seconds // 2)
    return Round(
        send(base + ATTRIBUTE_PATH, connections, seconds, users),
        {
            "same requests": send(base + NO_WORK_PATH, connections, short, users),
            "plain GETs": wrk(base + NO_WORK_PATH, connections, short),
        },
    )


def report(connections: int, users: int, first: int, rounds: list[dict[int, Round]]) -> dict[str, object]:
    """Print and return the medians for a number of users, with the ratio to the `first` of the same rounds."""
    mine = [sizes[users] for sizes in rounds]
    puts = [each.puts for each in mine]
    errors = sum(p.errors for p in puts)
    per_second, p50, p99 = (statistics.median(getattr(p, name) for p in puts) for name in ("per_second", "p50", "p99"))
    found = {"users": users, "connections": connections} | asdict(Measured(per_second, p50, p99, errors))
    print(f"{users:12,} users {connections:4} connections: {per_second:8,.0f} PUT/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")
    for name in mine[0].ceilings:
        ceiling = statistics.median(each.ceilings[name].per_second for each in mine)
        ratio = statistics.median(each.puts.per_second / each.ceilings[name].per_second for each in mine)
        print(f"{'':32}no work, {name}: {ceiling:8,.0f}/s, ratio {ratio:.2f}")
        found |= {f"no work, {name}": ceiling, f"ratio to {name}": round(ratio, 3)}
    if users != first:
        ratio = statistics.median(sizes[users].puts.per_second / sizes[first].puts.per_second for sizes in rounds)
        print(f"{'':32}ratio to {first:,} users: {ratio:.2f}")
        found[f"ratio to {first} users"] = round(ratio, 3)
    if errors:
        print(f"{'':32}ERRORS {errors}")
    return found


def send(
    url: str, connections: int, seconds: int, users: int, *, keyed: bool = False, secrets: Sequence[str] = (SECRET,)
) -> Measured:
    """Load `url` with PUTs of five attributes to random users, or the route that does nothing with GETs of the same content.

    Args:
        keyed: send an Idempotency-Key with each.
        secrets: secrets of the project's keys, used in turn.
    """
    path = urlsplit(url).path
    credentials = [base64.b64encode(f"{PROJECT}:{secret}".encode()).decode() for secret in secrets]
    settings = {
        "BENCH_USERS": str(users),
        "BENCH_FIRST_CUID": str(FIRST_CUID),
        "BENCH_AUTHORIZATION": ",".join(f"Basic {each}" for each in credentials),
        "BENCH_PATH": path,
        "BENCH_KEYS": str(int(keyed)),
        "BENCH_METHOD": "GET" if path == NO_WORK_PATH else "PUT",
    }
    return wrk(url, connections, seconds, "put.lua", settings)


if __name__ == "__main__":
    main()
