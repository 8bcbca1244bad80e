"""Durable PUTs per second with many keys in use beside one key, on one server and store, with wrk.

    make bench-keys

Rounds with one key alternate with rounds in which the requests use all keys in turn, and the first of a pair changes, so
that what else the machine does falls on both alike. The ratio is the median of the pairs' ratios, many keys through one. On
a machine that others use too, the CPU time of a request says more than the rate; its ratio is that of one key through that
of many, so that below 1 is slower in both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from beside import HERE, Side, serving
from put import PROJECT, fill, send
from usertable.app.service import Service
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.actor import Actor
from usertable.domain.permissions import ALL_SCOPES, Scope
from usertable.store import open_store
from wrk import Measured, write_results


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--keys", type=int, default=50, help="keys in use (default 50)")
    arguments.add_argument("--users", type=int, default=100_000, help="users stored (default 100000)")
    arguments.add_argument("--connections", type=int, default=64, help="wrk's connections (default 64)")
    arguments.add_argument("--seconds", type=int, default=8, help="length of a round (default 8)")
    arguments.add_argument("--rounds", type=int, default=7, help="rounds of each (default 7)")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="usertable-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'store.db'}"
        fill(Path(folder) / "store.db", chosen.users)
        secrets = create_keys(url, chosen.keys)
        with serving(HERE, url, {}) as side:
            results = compare(side, secrets, chosen)
    write_results("keys", {"keys": chosen.keys}, results)


def create_keys(url: str, count: int) -> list[str]:
    """Create this number of keys with generated secrets."""
    store = open_store(url)
    service = Service(store)
    actor = Actor.cli("benchmark")
    secrets = [
        service.create_key(PROJECT, f"caller-{number}", [Scope.WRITE], granted=ALL_SCOPES, actor=actor)[1]
        for number in range(count)
    ]
    store.close()
    return secrets


def compare(side: Side, secrets: Sequence[str], chosen: argparse.Namespace) -> dict[str, float]:
    """Print and return the medians with one key and with many, and of their pairs' ratios."""

    def measure(used: Sequence[str]) -> tuple[Measured, float]:
        """Return wrk's result, and the microseconds of CPU per request."""
        before = side.cpu()
        found = send(side.base + ATTRIBUTE_PATH, chosen.connections, chosen.seconds, chosen.users, secrets=used)
        assert not found.errors, found
        return found, (side.cpu() - before) / (found.per_second * chosen.seconds) * 1e6

    ways = {"one": secrets[:1], "many": secrets}
    for used in ways.values():
        measure(used)
    rounds = []
    for number in range(chosen.rounds):
        order = list(ways) if number % 2 else list(ways)[::-1]
        found = {way: measure(ways[way]) for way in order}
        rounds.append((found["one"], found["many"]))
    one, many = (statistics.median(measured.per_second for measured, _ in way) for way in zip(*rounds, strict=True))
    cpu_one, cpu_many = (statistics.median(cpu for _, cpu in way) for way in zip(*rounds, strict=True))
    ratio = statistics.median(of_many.per_second / of_one.per_second for (of_one, _), (of_many, _) in rounds)
    cpu_ratio = statistics.median(of_one / of_many for (_, of_one), (_, of_many) in rounds)
    print(f"{len(secrets)} keys: {many:,.0f}/s, one key: {one:,.0f}/s, ratio {ratio:.3f}")
    print(f"CPU: {cpu_many:.1f} µs and {cpu_one:.1f} µs a request, ratio {cpu_ratio:.3f}")
    return {
        "one key": one,
        "many keys": many,
        "ratio": round(ratio, 3),
        "CPU with one key, µs": round(cpu_one, 1),
        "CPU with many keys, µs": round(cpu_many, 1),
        "CPU ratio": round(cpu_ratio, 3),
    }


if __name__ == "__main__":
    main()
