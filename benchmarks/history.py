"""Measure what history costs: writes, imports and bytes with history on and off, reads of the past, and alternatives.

    make bench-history BENCH_ARGS="--parts put,peers --stores postgresql --users 100000"

Rounds of all sides alternate, and the first of a round changes, so that what else the machine does falls on all alike. A
ratio is the median of the rounds' ratios. *Off* is a project whose history is off (`history_days` 0), with the same users in
a store of the same engine, and a server of its own.

- `put`: PUTs of 5 attributes to random users, with and without an `Idempotency-Key`; on PostgreSQL also pgbench, which
  merges 5 attributes into one jsonb document. There every page is changed once before: the first change after a checkpoint
  writes the whole page to WAL, and whoever was faster so far would have fewer of those left. Then the bytes of a change in
  the store, and on PostgreSQL the WAL of a PUT, measured without full-page images, which depend on when the last checkpoint
  was.
- `peers`: pgbench on the same table without history, with a trigger that logs the document before and after, with a table of
  earlier versions in the way of temporal_tables, and with an audit table in the way of supa_audit (`history_peers.sql`).
- `import`: `usertable import` of a CSV file of new users, and onto users that exist.
- `prune`: PUTs to a server that removes yesterday's history while today's is written and packed, beside PUTs to one whose
  history only grows, for `--minutes` each. Yesterday's is written beforehand, to both: as many changes as a server then has
  PUTs, evenly spread over twice the minutes, because a server is suspended half of the time, and packed. Then a day of the
  one server is the time since the first of them, so that history becomes too old as fast as it was written. Changes are
  packed ten seconds after they were written, not an hour, as fast as always (`history_server.py`).
- `full`: the same with a server at its size limit, which packs and removes all that is written seconds later.
- `as-of`: a user as of an earlier moment, read from the store in this process, with 100 and 10,000 changes to walk back.
  They are evenly spread over 10,000 batches of 64 writes, the others to other users. Before and after they are packed.

Of `prune` and `full`, each server is suspended while the other one is measured: otherwise it would also have that time to
pack and remove. As it works in bursts, the ratio of all PUTs says more than the median of the rounds.

The stored users look as if the project's key had written them before. Prints medians and ratios, and writes them with the
machine's description to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import LiteralString

import apsw
import httpx
import psycopg

import bulk
import postgresql
import put
from beside import HERE, Side, serving
from postgresql import SETTINGS
from put import PROJECT, WRITTEN, send
from support.postgres import NEWEST, Cluster
from usertable.app.clock import now_ms
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.actor import Actor
from usertable.domain.change import Origin
from usertable.domain.merge import Rules
from usertable.domain.moments import DAY_MS
from usertable.domain.patch import Patch
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import Value
from usertable.pipeline.channel import UNDER_WAY, open_channel
from usertable.store import open_store
from usertable.store.postgres import PostgresStore
from usertable.store.protocol import Store
from usertable.store.records import FIRST_CUID, Result, Write
from wrk import Measured, write_results

ACTOR = Actor.cli("benchmark")
BATCH = 64
"""Writes per batch, for `as-of`."""
LARGE_BATCH = 1000
"""Writes per batch of what is packed before it is measured."""
NO_HISTORY = "no history"
TOKEN = "a-token-for-metrics-only"
STEPS = (100, 10_000)
"""Numbers of changes to walk back."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--parts", default="put,peers,import,prune,full,as-of", help="what to measure")
    arguments.add_argument("--stores", default="sqlite,postgresql", help="one or both, with a comma")
    arguments.add_argument("--users", type=int, default=1_000_000, help="users stored (default 1000000)")
    arguments.add_argument("--connections", type=int, default=64, help="wrk's connections (default 64)")
    arguments.add_argument("--seconds", type=int, default=5, help="length of a round (default 5)")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    arguments.add_argument("--warm-up", type=int, default=10, help="seconds of each before the first round (default 10)")
    arguments.add_argument("--minutes", type=float, default=1, help="with prune and full: time of PUTs to each (default 1)")
    arguments.add_argument("--imported", type=int, default=300_000, help="users imported (default 300000)")
    arguments.add_argument("--folder", help="where stores are made (default: the system's temporary folder)")
    chosen = arguments.parse_args()
    parts, stores = chosen.parts.split(","), chosen.stores.split(",")
    results: dict[str, object] = {"users": chosen.users, "connections": chosen.connections}
    versions: dict[str, object] = {"sqlite": apsw.sqlite_lib_version()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usertable-bench-", dir=chosen.folder)))
        cluster = stack.enter_context(postgres()) if "postgresql" in stores or "peers" in parts else None
        engines: list[SQLite | PostgreSQL] = []
        if "sqlite" in stores:
            engines.append(SQLite(folder))
        if cluster is not None:
            versions |= {"postgresql": one(cluster, "SHOW server_version"), "settings": SETTINGS}
            if "postgresql" in stores:
                engines.append(PostgreSQL(cluster))
        for engine in engines:
            if "put" in parts:
                results[f"put, {engine.name}"] = puts(engine, chosen)
            if "import" in parts:
                results[f"import, {engine.name}"] = imports(engine, folder, chosen)
            if "prune" in parts:
                results[f"prune, {engine.name}"] = puts_while_yesterday_is_removed(engine, chosen)
            if "full" in parts:
                results[f"full, {engine.name}"] = puts_at_the_size_limit(engine, chosen)
            if "as-of" in parts:
                results[f"as of, {engine.name}"] = reads_of_the_past(engine, min(chosen.users, 100_000))
        if cluster is not None and "peers" in parts:
            results["peers"] = peers(cluster, chosen)
    write_results("history", versions, results)


class SQLite:
    """SQLite stores in files."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def new(self) -> str:
        """Return the URL of a store that does not exist yet."""
        self._count += 1
        return f"sqlite:///{self._folder / f'{self._count}.db'}"

    def copy(self, url: str) -> str:
        """Return the URL of a copy of a closed store."""
        made = self.new()
        shutil.copyfile(_file(url), _file(made))
        return made

    def drop(self, url: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{_file(url)}{suffix}").unlink(missing_ok=True)

    def fill(self, url: str, users: int) -> None:
        """Create a store with the project, and users whose values its key has written."""
        put.fill(_file(url), users, head=1, sole_actor="key:default")

    def touch(self, url: str) -> None:
        """Prepare a filled store for the first round."""

    def history_size(self, url: str) -> int:
        """Return the bytes of history's pages, including indexes."""
        query = "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = 'history')"
        with contextlib.closing(apsw.Connection(str(_file(url)))) as db:
            return int(db.execute(query).get)

    def packed_changes(self, url: str) -> int:
        """Return the number of changes in packed blocks."""
        query = "SELECT coalesce(sum(changes), 0) FROM history WHERE substr(body, 1, 1) = x'01'"
        with contextlib.closing(apsw.Connection(str(_file(url)))) as db:
            return int(db.execute(query).get)


class PostgreSQL:
    """Databases of one PostgreSQL server."""

    name = "PostgreSQL"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def new(self) -> str:
        return self.cluster.create()

    def copy(self, url: str) -> str:
        name = f"copy_{time.monotonic_ns()}"
        self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE {_database(url)} STRATEGY file_copy")
        return self.cluster.url(name)

    def drop(self, url: str) -> None:
        self.cluster.drop(url)

    def fill(self, url: str, users: int) -> None:
        postgresql.fill(url, users, head=1, sole_actor="key:default")

    def touch(self, url: str) -> None:
        first = "SELECT min(ctid) FROM usertable.users GROUP BY (ctid::text::point)[0]"
        with psycopg.connect(url) as db:
            db.execute(f"UPDATE usertable.users SET version = version WHERE ctid IN ({first})".encode())

    def history_size(self, url: str) -> int:
        with psycopg.connect(url) as db:
            return int(db.execute("SELECT pg_total_relation_size('usertable.history')").fetchall()[0][0])

    def packed_changes(self, url: str) -> int:
        query = "SELECT coalesce(sum(changes), 0) FROM usertable.history WHERE substring(body, 1, 1) = '\\x01'::bytea"
        with psycopg.connect(url) as db:
            return int(db.execute(query).fetchall()[0][0])


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _database(url: str) -> str:
    return url.rpartition("/")[2]


@contextlib.contextmanager
def postgres() -> Iterator[Cluster]:
    """Run the newest PostgreSQL, as durable as in production."""
    cluster = Cluster(NEWEST, durable=True, settings=tuple(f"{key} = {value}" for key, value in SETTINGS.items()))
    try:
        cluster.initialise()
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def one(cluster: Cluster, query: LiteralString | str) -> str:
    """Return the only value of a query as text."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as db:
        return str(db.execute(query.encode()).fetchall()[0][0])


def turn_off(url: str) -> None:
    """Turn the project's history off."""
    with contextlib.closing(open_store(url)) as store:
        Service(store).edit_history(PROJECT, days=0, actor=ACTOR)


@dataclass(frozen=True)
class Candidate:
    """One side of a comparison."""

    run: Callable[[int], Measured]
    """Loads it for so many seconds."""
    side: Side | None = None
    """The server, whose CPU time is counted."""


Round = Mapping[str, tuple[Measured, float]]
"""For each candidate, what was measured, and the microseconds of CPU per request."""


def alternate(
    label: str, candidates: Mapping[str, Candidate], bases: Sequence[str], chosen: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Measure the candidates in rounds. Print and return each one's medians, and its ratios to the `bases`.

    The ratio of CPU time is that of the base through the candidate's: below 1, the candidate needs more, as with the rates.
    """
    return report(label, measure(candidates, chosen), bases)


def measure(candidates: Mapping[str, Candidate], chosen: argparse.Namespace) -> list[Round]:
    """Measure the candidates in rounds, after each was warmed up."""
    for candidate in candidates.values():
        if chosen.warm_up:
            candidate.run(chosen.warm_up)
    rounds: list[Round] = []
    for number in range(chosen.rounds):
        order = list(candidates) if number % 2 else list(candidates)[::-1]
        rounds.append({name: _measured(candidates[name], chosen.seconds) for name in order})
    return rounds


def report(label: str, rounds: Sequence[Round], bases: Sequence[str]) -> dict[str, dict[str, float]]:
    """Print and return the candidates' medians, and their ratios to the `bases`."""
    found = {name: _medians(name, [base for base in bases if base != name], rounds) for name in rounds[0]}
    for name, figures in found.items():
        print(
            f"{label:24} {name:12}", *(f"{key} {value:,g}" for key, value in figures.items() if value), sep="  ", flush=True
        )
    return found


def _medians(name: str, bases: Sequence[str], rounds: Sequence[Round]) -> dict[str, float]:
    """Return a candidate's medians, and its ratios to others of the same rounds."""
    measured = [each[name][0] for each in rounds]
    found = {
        "per second": float(round(statistics.median(m.per_second for m in measured))),
        "p50 ms": round(statistics.median(m.p50 for m in measured), 2),
        "p99 ms": round(statistics.median(m.p99 for m in measured), 2),
        "CPU µs": round(statistics.median(each[name][1] for each in rounds), 1),
    }
    for base in bases:
        ratio = statistics.median(each[name][0].per_second / each[base][0].per_second for each in rounds)
        found[f"ratio to {base}"] = round(ratio, 3)
        of_all = sum(m.per_second for m in measured) / sum(each[base][0].per_second for each in rounds)
        found[f"ratio to {base}, of all"] = round(of_all, 3)
        if found["CPU µs"] and rounds[0][base][1]:
            found[f"CPU ratio to {base}"] = round(statistics.median(e[base][1] / e[name][1] for e in rounds), 3)
    return found


def _measured(candidate: Candidate, seconds: int) -> tuple[Measured, float]:
    """Return what was measured in a round, and the microseconds of CPU per request."""
    before = candidate.side.cpu() if candidate.side else 0.0
    measured = candidate.run(seconds)
    assert not measured.errors, measured
    used = candidate.side.cpu() - before if candidate.side else 0.0
    return measured, used / (measured.per_second * seconds) * 1e6


def puts(engine: SQLite | PostgreSQL, chosen: argparse.Namespace) -> dict[str, object]:
    """Measure PUTs with history on and off, and the bytes per change."""
    urls = {"off": engine.new()}
    engine.fill(urls["off"], chosen.users)
    urls["on"] = engine.copy(urls["off"])
    turn_off(urls["off"])
    for url in urls.values():
        engine.touch(url)
    found: dict[str, object] = {}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(serving(HERE, url, {})) for name, url in urls.items()}
        for kind in ("plain", "keyed"):
            candidates = {
                name: Candidate(_sender(side, chosen, keyed=kind == "keyed"), side) for name, side in sides.items()
            }
            if kind == "plain" and isinstance(engine, PostgreSQL):
                run = stack.enter_context(postgresql.pgbench(engine.cluster, chosen.users))
                candidates["pgbench"] = Candidate(run)
            found[kind] = alternate(
                f"{engine.name}, {kind}", candidates, ("off", "pgbench") if "pgbench" in candidates else ("off",), chosen
            )
        if isinstance(engine, PostgreSQL):
            sent = {name: Candidate(_sender(side, chosen)) for name, side in sides.items()}
            found["WAL per PUT, bytes"] = wal(engine.cluster, sent, chosen.seconds)
    sizes = sizes_of_history(engine, urls["on"])
    print(f"{engine.name}: {sizes}", flush=True)
    for url in urls.values():
        engine.drop(url)
    return found | sizes


def _sender(side: Side, chosen: argparse.Namespace, *, keyed: bool = False) -> Callable[[int], Measured]:
    return lambda seconds: send(side.base + ATTRIBUTE_PATH, chosen.connections, seconds, chosen.users, keyed=keyed)


def sizes_of_history(engine: SQLite | PostgreSQL, url: str) -> dict[str, float]:
    """Return the bytes per change, as written and packed, and the number of changes packed per second of CPU."""
    pages = engine.history_size(url)
    with contextlib.closing(open_store(url)) as store:
        number = project_number(store)
        written = store.history_figures(number)
        began = time.process_time()
        pack_all(store, number)
        seconds = time.process_time() - began
        packed = store.history_figures(number)
    return {
        "changes": written.changes,
        "changes per block": round(written.changes / written.blocks, 1),
        "bytes per change": round(written.bytes / written.changes, 1),
        "bytes per change, with pages and index": round(pages / written.changes, 1),
        "bytes per change, packed": round(packed.bytes / packed.changes, 1),
        "packed per second of CPU": round(written.changes / seconds),
    }


def project_number(store: Store) -> int:
    project = store.project(PROJECT)
    assert project is not None
    return project.number


def puts_while_yesterday_is_removed(engine: SQLite | PostgreSQL, chosen: argparse.Namespace) -> dict[str, object]:
    """Measure PUTs while history is removed as fast as it was written, and packed, beside PUTs without that."""
    url, seconds = engine.new(), chosen.minutes * 60
    engine.fill(url, chosen.users)
    rate = _rate(engine, url, chosen)
    began = now_ms() - round(2 * seconds * 1000)
    asyncio.run(write_batches(url, _reports(url, chosen.users, began, rate / 2, round(rate * seconds))))
    pack_store(url)
    urls = {"growing": url, "pruned": engine.copy(url)}
    with contextlib.closing(open_store(urls["pruned"])) as store:
        Service(store).edit_history(PROJECT, days=1, actor=ACTOR)
    found = _puts_beside_retention(engine, "prune", urls, lambda: f"day={now_ms() - began}", chosen)
    return {"yesterday per second": rate, **found}


def _rate(engine: SQLite | PostgreSQL, url: str, chosen: argparse.Namespace) -> int:
    """Return the PUTs per second to a copy of a store."""
    copy = engine.copy(url)
    with serving(HERE, copy, {}) as side:
        measured = _sender(side, chosen)(max(chosen.warm_up, 1))
    engine.drop(copy)
    return round(measured.per_second)


def _reports(url: str, users: int, began: int, rate: float, count: int) -> Iterator[list[Write]]:
    """Yield batches of reports of random users, so many a second from a moment on."""
    with contextlib.closing(open_store(url)) as store:
        project = Service(store).project(PROJECT)
    dice = random.Random(2)
    patches = _patches(project, dice)
    for start in range(0, count, LARGE_BATCH):
        yield [
            Write(
                *(project.number, FIRST_CUID + dice.randrange(users), dice.choice(patches), project.version),
                began + round(number * 1000 / rate),
                details=False,
                origin=Origin("key:default"),
                request=f"0199a7c4-{number:x}",
            )
            for number in range(start, min(start + LARGE_BATCH, count))
        ]


def puts_at_the_size_limit(engine: SQLite | PostgreSQL, chosen: argparse.Namespace) -> dict[str, object]:
    """Measure PUTs while all that is written is packed and removed because of its size, beside PUTs without that."""
    return _puts_beside_retention(engine, "full", _grown_and_pruned(engine, chosen.users), lambda: "full", chosen)


def _grown_and_pruned(engine: SQLite | PostgreSQL, users: int) -> dict[str, str]:
    """Return the URLs of two filled stores, for a server whose history only grows, and for one that removes it."""
    urls = {"growing": engine.new()}
    engine.fill(urls["growing"], users)
    return urls | {"pruned": engine.copy(urls["growing"])}


def _puts_beside_retention(
    engine: SQLite | PostgreSQL, label: str, urls: Mapping[str, str], mode: Callable[[], str], chosen: argparse.Namespace
) -> dict[str, object]:
    """Measure PUTs to two servers, one of which packs and removes history, and drop their stores.

    Args:
        mode: returns its first argument, see `history_server.py`.
    """
    packed = engine.packed_changes(urls["pruned"])
    with contextlib.closing(open_store(urls["pruned"])) as store:
        before = store.history_figures(project_number(store)).changes
    with ExitStack() as stack:
        sides = {"growing": stack.enter_context(serving(HERE, urls["growing"], {}))}
        keeping = [str(Path(__file__).parent / "history_server.py"), mode()]
        sides["pruned"] = stack.enter_context(serving(HERE, urls["pruned"], {"USERTABLE_METRICS_TOKEN": TOKEN}, keeping))
        rounds = _rounds_alone(sides, chosen)
        answer = httpx.get(f"{sides['pruned'].base}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    removed = sum(
        map(int, map(float, re.findall(r"^usertable_history_pruned_changes_total\S* (\S+)$", answer, re.MULTILINE)))
    )
    with contextlib.closing(open_store(urls["pruned"])) as store:
        after = store.history_figures(project_number(store)).changes
    found = {
        "PUTs": report(f"{engine.name}, {label}", rounds, ("growing",)),
        "PUTs, last third": report(f"{engine.name}, {label}, last third", rounds[-(-len(rounds) * 2 // 3) :], ("growing",)),
        "written": after - before + removed,
        "removed": removed,
        # What is removed was packed.
        "packed": engine.packed_changes(urls["pruned"]) - packed + removed,
    }
    print(
        f"{engine.name}, {label}: changes {', '.join(f'{key} {found[key]:,}' for key in ('written', 'removed', 'packed'))}"
    )
    for url in urls.values():
        engine.drop(url)
    return found


def _rounds_alone(sides: Mapping[str, Side], chosen: argparse.Namespace) -> list[Round]:
    """Measure PUTs for the minutes to each of two sides, and suspend one while the other is measured."""

    def alone(side: Side, other: Side) -> Callable[[int], Measured]:
        def run(seconds: int) -> Measured:
            with other.suspended():
                return _sender(side, chosen)(seconds)

        return run

    growing, pruned = sides.values()
    candidates = {
        "growing": Candidate(alone(growing, pruned), growing),
        "pruned": Candidate(alone(pruned, growing), pruned),
    }
    rounds = max(1, round(chosen.minutes * 60 / chosen.seconds))
    return measure(candidates, argparse.Namespace(**{**vars(chosen), "rounds": rounds}))


def wal(cluster: Cluster, candidates: Mapping[str, Candidate], seconds: int) -> dict[str, int]:
    """Return the bytes of WAL that a request of each candidate writes, without full-page images."""
    cluster.execute("ALTER SYSTEM SET full_page_writes = off")
    cluster.execute("SELECT pg_reload_conf()")
    found = {}
    for name, candidate in candidates.items():
        before = one(cluster, "SELECT pg_current_wal_insert_lsn()")
        measured = candidate.run(seconds)
        written = int(one(cluster, f"SELECT pg_current_wal_insert_lsn() - '{before}'"))
        found[name] = round(written / (measured.per_second * seconds))
    cluster.execute("ALTER SYSTEM RESET full_page_writes")
    cluster.execute("SELECT pg_reload_conf()")
    print(f"WAL per request, without full-page images: {found}", flush=True)
    return found


def peers(cluster: Cluster, chosen: argparse.Namespace) -> dict[str, object]:
    """Measure pgbench on the same table without history, and with other ways to keep it."""
    text = (Path(__file__).parent / "history_peers.sql").read_text()
    _, *sections = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    additions = dict(zip(sections[::2], sections[1::2], strict=True))
    url = cluster.create()
    candidates = {}
    with ExitStack() as stack, psycopg.connect(url, autocommit=True) as db:
        for name in (NO_HISTORY, *additions):
            table = f"merged_{name}" if name in additions else "merged"
            postgresql.merged_table(url, table, chosen.users)
            db.execute(additions.get(name, "").encode())
            candidates[name] = Candidate(stack.enter_context(postgresql.updates(cluster, url, table, chosen.users)))
        found = alternate("pgbench", candidates, (NO_HISTORY,), chosen)
        written = wal(cluster, candidates, chosen.seconds)
        sizes = {}
        for name in additions:
            query = f"SELECT pg_total_relation_size('changes_{name}') / count(*) FROM changes_{name}"
            sizes[name] = int(db.execute(query.encode()).fetchall()[0][0])
    print(f"bytes per change: {sizes}", flush=True)
    cluster.drop(url)
    return {"pgbench": found, "WAL per UPDATE, bytes": written, "bytes per change": sizes}


def imports(engine: SQLite | PostgreSQL, folder: Path, chosen: argparse.Namespace) -> dict[str, object]:
    """Measure imports of a CSV file with history on and off: of new users, and of other values for the same users."""
    users = chosen.imported
    new = _csv(folder, users, bulk.FIRST)
    # The first row creates a user; each other user gets the values of the next one.
    other = _csv(folder, users, bulk.FIRST - 1)
    empty = {"off": engine.new()}
    bulk.make_store(empty["off"])
    empty["on"] = engine.copy(empty["off"])
    turn_off(empty["off"])
    found: dict[str, object] = {}
    for kind, file in (("new users", new), ("existing users", other)):
        seconds: dict[str, list[float]] = {"off": [], "on": []}
        for number in range(max(1, chosen.rounds - 2)):
            for name in ("off", "on") if number % 2 else ("on", "off"):
                url = engine.copy(empty[name])
                seconds[name].append(bulk.import_seconds(url, file))
                engine.drop(url)
        ratio = statistics.median(off / on for off, on in zip(seconds["off"], seconds["on"], strict=True))
        rates = {name: round(users / statistics.median(times)) for name, times in seconds.items()}
        print(
            f"{engine.name}, import of {kind:14}: on {rates['on']:,}/s, off {rates['off']:,}/s, ratio {ratio:.3f}",
            flush=True,
        )
        found[kind] = rates | {"ratio": round(ratio, 3)}
        if kind == "new users":
            for url in empty.values():
                bulk.import_seconds(url, new)
    for url in empty.values():
        engine.drop(url)
    return found


def _csv(folder: Path, users: int, first: int) -> Path:
    """Return a CSV file of users with CUIDs from `first` on, as an export writes it."""
    source, file = folder / "source.db", folder / f"users-{first}.csv"
    if not file.exists():
        source.unlink(missing_ok=True)
        bulk.fill(source, bulk.make_store(f"sqlite:///{source}"), users, first)
        bulk.usertable("export", "--project", PROJECT, "-o", str(file), store=f"sqlite:///{source}")
        source.unlink()
    return file


def reads_of_the_past(engine: SQLite | PostgreSQL, users: int) -> dict[str, object]:
    """Measure the milliseconds to read a user as of a moment that many changes ago, before and after packing."""
    url = engine.new()
    engine.fill(url, users)
    found: dict[str, object] = {}
    with contextlib.closing(open_store(url)) as store:
        service = Service(store)
        project = service.project(PROJECT)
        begun = now_ms()
        batches = _batches(project, users, begun)
        asyncio.run(write_batches(url, batches))
        for form in ("written", "packed"):
            if form == "packed":
                pack_all(store, project.number)
            for steps in STEPS:
                times = []
                for _ in range(2000 // (steps // STEPS[0])):
                    began = time.perf_counter()
                    past = service.user_as_of(project, FIRST_CUID + STEPS.index(steps), begun)
                    times.append((time.perf_counter() - began) * 1000)
                    assert past.version == 2
                times.sort()
                p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
                label = f"{engine.name}, as of {steps:6,} changes ago, as {form}"
                print(f"{label}: p50 {p50:8.2f} ms  p99 {p99:8.2f} ms", flush=True)
                found[f"{steps} changes, {form}"] = {"p50 ms": round(p50, 2), "p99 ms": round(p99, 2)}
    engine.drop(url)
    return found


def pack_store(url: str) -> None:
    """Pack all changes of a store's project."""
    with contextlib.closing(open_store(url)) as store:
        pack_all(store, project_number(store))


def pack_all(store: Store, project: int) -> None:
    """Pack all changes."""
    # On PostgreSQL, transactions of other databases are waited for too.
    while store.pack_history(project, now_ms() + DAY_MS).blocks or (
        isinstance(store, PostgresStore) and store.packer.is_waiting
    ):
        pass


def _batches(project: Project, users: int, begun: int) -> list[list[Write]]:
    """Return batches a millisecond apart. For each number of steps, a user has that many writes, evenly spread over them.

    The other writes of a batch are to other users.
    """
    dice = random.Random(1)
    patches = _patches(project, dice)
    batches = []
    for number in range(STEPS[-1]):
        walked = [user for user, steps in enumerate(STEPS) if number % (STEPS[-1] // steps) == 0]
        others = dice.sample(range(len(STEPS), users), BATCH - len(walked))
        cuids = [FIRST_CUID + user for user in (*walked, *others)]
        now, origin, request = begun + number + 1, Origin("key:default"), f"0199a7c4-{number:08}"
        batches.append(
            [
                Write(project.number, cuid, patch, project.version, now, details=False, origin=origin, request=request)
                for cuid, patch in zip(cuids, dice.choices(patches, k=BATCH), strict=True)
            ]
        )
    return batches


def _patches(project: Project, dice: random.Random) -> list[Patch]:
    attributes = {attribute.name: project.schema.attributes[attribute.name] for attribute in WRITTEN}
    return [_patch(attributes, dice) for _ in range(5000)]


def _patch(attributes: Mapping[str, Attribute], dice: random.Random) -> Patch:
    values: dict[str, Value] = {
        "age": dice.randint(10, 90),
        "total_spent": Decimal(dice.randint(1, 50_000)) / 100,
        "city": f"city-{dice.randint(0, 9999)}",
        "last_seen": 1_700_000_000_000 + dice.randint(0, 10**9),
        "interests": [f"tag-{dice.randint(1, 20)}"],
    }
    return Patch([(attributes[name], value) for name, value in values.items()])


async def write_batches(url: str, batches: Iterable[Sequence[Write]]) -> None:
    """Write the batches as a server does, in order."""
    with contextlib.closing(open_store(url)) as store:
        channel = open_channel(url, store, WriteBatch(Rules()))
        free = asyncio.Semaphore(UNDER_WAY)

        def done(outcome: Sequence[Result] | Exception) -> None:
            assert not isinstance(outcome, Exception), outcome
            free.release()

        for batch in batches:
            await free.acquire()
            channel.write(batch, done)
        for _ in range(UNDER_WAY):
            await free.acquire()
        await channel.close()


if __name__ == "__main__":
    main()
