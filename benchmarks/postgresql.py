"""Durable PUTs per second on PostgreSQL, beside other servers on the same PostgreSQL, in one run, with wrk.

One server (the wheel's newest) holds the same users, of 20 attributes, four times: for usertable, for pgbench, for Parse
Server and for Kinto. Rounds alternate between

- usertable with one worker and with two: PUTs of 5 attributes, one added up, one appended to a list;
- if `--only` names it, usertable-keys-1: the same PUTs to one worker, each with an `Idempotency-Key` of its own;
- pgbench: 32 clients, each transaction merges 5 attributes into one JSONB document by primary key;
- Parse Server: the same 5 attributes in one PUT, by Increment, AddUnique and set;
- Kinto: the same 5 attributes in one PATCH, which only sets them.

With `--citus`, none of this: a Citus cluster beside plain PostgreSQL, through the store alone (users a second of plain
writes, two batches under way, by the size of a batch) and through HTTP with one worker. The cluster is named by its
coordinator's URL there or in USERTABLE_TEST_CITUS; the schema `usertable` in it is dropped.

The peers are installed from their registries into `benchmarks/.peers/`. Prints medians and ratios, and writes them with the
machine's description to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg

from put import CHANGED_AT, PROJECT, SECRET, STORED, send, serving
from support.postgres import NEWEST, Cluster
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.actor import Actor
from usertable.domain.merge import decide
from usertable.domain.patch import Patch
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType, Value
from usertable.pipeline.channel import UNDER_WAY
from usertable.store import distribute, open_store
from usertable.store.records import FIRST_CUID, Write, Written
from wrk import Measured, write_results, wrk

PEERS = Path(__file__).parent / ".peers"
PARSE_SERVER, KINTO = "9.10.0", "26.5.0"
PGBENCH_CLIENTS = 32
SETTINGS = {
    "shared_buffers": "4GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    "synchronous_commit": "on",
    "fsync": "on",
    "wal_compression": "off",
    "max_connections": "200",
}
MORE = [Attribute(f"more_{number:02}", DataType.STRING, Rule.OVERWRITE) for number in range(10)]
DOCUMENT = """jsonb_build_object(
  'age', n % 80, 'total_spent', (n % 1000)::numeric + 0.25, 'city', 'city-' || n % 10000, 'last_seen', 1700000000000,
  'interests', jsonb_build_array('tag-' || n % 20, 'tag-' || n % 7 + 30), 'registered_at', 1600000000000, 'level', n % 60,
  'channel', 'channel-' || n % 30, 'is_member', true, 'nickname', 'user-' || n)
  || (SELECT jsonb_object_agg('more_' || lpad(m::text, 2, '0'), 'value-' || (n * m) % 1000) FROM generate_series(0, 9) m)"""
PGBENCH_SCRIPT = """\\set id random(1, :users)
\\set spent random(0, 50000)
\\set tag random(1, 20)
UPDATE {table} SET document = document || jsonb_build_object('age', :tag::int, 'total_spent', :spent::int,
  'city', 'city-' || :spent::int, 'last_seen', 1700000000000 + :spent::int,
  'interests', jsonb_build_array('tag-' || :tag::int)) WHERE id = :id;
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--users", type=int, default=1_000_000, help="users stored (default 1000000)")
    arguments.add_argument("--connections", type=int, default=64, help="wrk's connections (default 64)")
    arguments.add_argument("--seconds", type=int, default=8, help="length of a round")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds of each")
    arguments.add_argument("--warm-up", type=int, default=10, help="seconds of each before the first round")
    arguments.add_argument(
        "--only", help="some of usertable-1, usertable-2, usertable-keys-1, pgbench, parse, kinto, with commas"
    )
    arguments.add_argument(
        "--citus", nargs="?", const=os.environ.get("USERTABLE_TEST_CITUS"), metavar="URL", help="compare a Citus cluster"
    )
    arguments.add_argument("--shards", type=int, default=8, help="shards on Citus (default 8)")
    arguments.add_argument("--batches", default="64,256,1024", help="writes a batch, with --citus (default 64,256,1024)")
    chosen = arguments.parse_args()
    if "--citus" in sys.argv and not chosen.citus:
        arguments.error("--citus needs the coordinator's URL, here or in USERTABLE_TEST_CITUS")
    names = chosen.only.split(",") if chosen.only else ["usertable-1", "usertable-2", "pgbench", "parse", "kinto"]
    cluster = Cluster(NEWEST, durable=True, settings=tuple(f"{key} = {value}" for key, value in SETTINGS.items()))
    with ExitStack() as stack:
        stack.callback(cluster.close)
        cluster.initialise()
        cluster.start()
        if chosen.citus:
            compare_citus(cluster.create(), chosen)
            return
        candidates: dict[str, Callable[[int], Measured]] = {}
        begun = time.monotonic()
        if any(name.startswith("usertable") for name in names):
            url = cluster.create()
            fill(url, chosen.users)
        for name in names:
            if name.startswith("usertable"):
                base = stack.enter_context(serving(url, workers=int(name[-1])))
                candidates[name] = lambda seconds, base=base, keyed="keys" in name: send(  # type: ignore[misc]
                    base + ATTRIBUTE_PATH, chosen.connections, seconds, chosen.users, keyed=keyed
                )
            elif name == "pgbench":
                candidates[name] = stack.enter_context(pgbench(cluster, chosen.users))
            else:
                base = stack.enter_context({"parse": parse_server, "kinto": kinto}[name](cluster, chosen.users))
                settings = {"BENCH_USERS": str(chosen.users), "BENCH_PEER": name}
                candidates[name] = lambda seconds, base=base, settings=settings: wrk(  # type: ignore[misc]
                    base, chosen.connections, seconds, "peers.lua", settings
                )
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as db:
            db.execute("CHECKPOINT")
            server = db.execute("SHOW server_version").fetchall()[0][0]
        print(f"{chosen.users:,} users of 20 attributes, 5 per write, PostgreSQL {server}, {SETTINGS}")
        print(f"filled and started in {time.monotonic() - begun:.0f} s", flush=True)
        write_results("postgresql", versions(server, names), measure(candidates, chosen) | {"settings": SETTINGS})


def versions(server: str, names: list[str]) -> dict[str, object]:
    found: dict[str, object] = {"postgresql": server}
    if "parse" in names:
        found["parse-server"] = PARSE_SERVER
    if "kinto" in names:
        found["kinto"] = KINTO
    return found


def measure(candidates: dict[str, Callable[[int], Measured]], chosen: argparse.Namespace) -> dict[str, object]:
    rounds: dict[str, list[Measured]] = {name: [] for name in candidates}
    for candidate in candidates.values():
        if chosen.warm_up:
            candidate(chosen.warm_up)
    for _ in range(chosen.rounds):
        for name, candidate in candidates.items():
            rounds[name].append(candidate(chosen.seconds))
    found: dict[str, object] = {"users": chosen.users, "connections": chosen.connections}
    for name, measured in rounds.items():
        values = [statistics.median(getattr(m, field) for m in measured) for field in ("per_second", "p50", "p99")]
        errors = sum(m.errors for m in measured)
        ratios = {
            other: round(statistics.median(m.per_second / o.per_second for m, o in zip(measured, of_other, strict=True)), 2)
            for other, of_other in rounds.items()
            if name.startswith("usertable") and other != name
        }
        found[name] = asdict(Measured(values[0], values[1], values[2], errors)) | {"ratios": ratios}
        print(f"  {name:12} {values[0]:8,.0f}/s   p50 {values[1]:7.2f} ms   p99 {values[2]:7.2f} ms", end="")
        print("".join(f"   {ratio:.2f} of {other}" for other, ratio in ratios.items()), end="")
        print(f"   ERRORS {errors}" if errors else "")
    return found


def fill(url: str, users: int, head: int = 0, sole_actor: str = "") -> None:
    """Create usertable's tables, with a project and `users` rows that the database generates; see :func:`put.fill`."""
    store = open_store(url)
    service = Service(store)
    project, _ = service.create_project("benchmark", id=PROJECT, secret=SECRET, qps=None, actor=Actor.cli("benchmark"))
    for attribute in [*STORED, *MORE]:
        service.declare_attribute(PROJECT, attribute, actor=Actor.cli("benchmark"))
    store.close()
    insert(
        url,
        f"INSERT INTO usertable.users SELECT {project.number}, {FIRST_CUID - 1} + n, 2, 1700000000000, 1700000000001,"
        f" {DOCUMENT}, '{CHANGED_AT}', {head}, '{sole_actor}' FROM generate_series(1, {users}) n",
        "usertable.users",
    )


def compare_citus(plain: str, chosen: argparse.Namespace) -> None:
    """Measure PostgreSQL without and with Citus, with the same users, in alternating rounds."""
    urls = {"postgresql": plain, "citus": chosen.citus}
    with psycopg.connect(chosen.citus, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS usertable CASCADE")
        server = db.execute("SHOW server_version").fetchall()[0][0]
        version = db.execute("SELECT extversion FROM pg_extension WHERE extname = 'citus'").fetchall()[0][0]
    open_store(chosen.citus).close()
    distribute(chosen.citus, chosen.shards)
    for url in urls.values():
        fill(url, chosen.users)
    print(
        f"{chosen.users:,} users of 20 attributes, 5 per write; {chosen.shards} shards, Citus {version}, PostgreSQL {server}"
    )
    found: dict[str, object] = {"users": chosen.users, "shards": chosen.shards}
    for size in map(int, chosen.batches.split(",")):
        candidates = {name: partial(written, url, chosen.users, size, chosen.seconds) for name, url in urls.items()}
        found[f"users/s, {size} a batch"] = alternate(candidates, f"{size:5} a batch", chosen.rounds)
    with ExitStack() as stack:
        bases = {name: stack.enter_context(serving(url)) + ATTRIBUTE_PATH for name, url in urls.items()}
        for base in bases.values():
            send(base, 64, chosen.warm_up, chosen.users)
        for connections in (64, 256):
            candidates = {
                name: partial(put, base, connections, chosen.seconds, chosen.users) for name, base in bases.items()
            }
            found[f"PUT/s, {connections} connections"] = alternate(candidates, f"{connections:5} connections", chosen.rounds)
    write_results("citus", {"citus": version, "citus's postgresql": server}, found)


def put(url: str, connections: int, seconds: int, users: int) -> float:
    measured = send(url, connections, seconds, users)
    if measured.errors:
        print(f"  {measured.errors} ERRORS of {url}")
    return measured.per_second


def alternate(candidates: Mapping[str, Callable[[], float]], label: str, rounds: int) -> dict[str, float]:
    """Return each candidate's median per second over alternating rounds, and the ratio of the last to the first."""
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            measured[name].append(candidate())
    first, *_, last = measured.values()
    found = {name: round(statistics.median(values)) for name, values in measured.items()}
    ratio = round(statistics.median(b / a for a, b in zip(first, last, strict=True)), 2)
    print(f"  {label}:", *(f"{name} {value:,}/s" for name, value in found.items()), f"ratio {ratio}", sep="   ", flush=True)
    return {**found, "ratio": ratio}


def written(url: str, users: int, size: int, seconds: int) -> float:
    """Return the users per second that a store writes in batches of `size`, with as many in flight as a server has."""
    store = open_store(url, writing=True)
    project = store.project(PROJECT)
    assert project is not None
    version, attributes = store.attributes(project.number)

    def write() -> Write:
        values: dict[str, Value] = {
            "age": Decimal(random.randint(1, 99)),
            "total_spent": Decimal(random.randint(1, 50_000)) / 100,
            "city": f"city-{random.randint(0, 9999)}",
            "last_seen": 1_700_000_000_000 + random.randint(0, 10**9),
            "interests": [f"tag-{random.randint(1, 20)}"],
        }
        patch = Patch([(attributes[name], value) for name, value in values.items()])
        cuid = FIRST_CUID + random.randrange(users)
        return Write(project.number, cuid, patch, version, 1_700_000_000_000, None, False, False)

    store.write([write()], WriteBatch(decide))
    # Generated first, because generating them is not the store's work.
    batches = [[write() for _ in range(size)] for _ in range(100)]
    begun = time.monotonic()

    def work(start: int) -> int:
        done = 0
        for batch in itertools.cycle(batches[start::UNDER_WAY]):
            if time.monotonic() - begun > seconds:
                return done
            done += sum(isinstance(result, Written) for result in store.write(batch, WriteBatch(decide)))
        return done

    with ThreadPoolExecutor(UNDER_WAY) as threads:
        done = sum(threads.map(work, range(UNDER_WAY)))
    took = time.monotonic() - begun
    store.close()
    return done / took


def insert(url: str, statement: str, table: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        # Without triggers, which set a peer's timestamps row by row.
        db.execute("SET session_replication_role = replica")
        db.execute(statement.encode())
        db.execute(f"VACUUM ANALYZE {table}".encode())


@contextmanager
def pgbench(cluster: Cluster, users: int) -> Iterator[Callable[[int], Measured]]:
    url = cluster.create()
    merged_table(url, "merged", users)
    with updates(cluster, url, "merged", users) as run:
        yield run


def merged_table(url: str, name: str, users: int) -> None:
    """Create a table of documents."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, document jsonb NOT NULL) WITH (fillfactor = 80)".encode())
    insert(url, f"INSERT INTO {name} SELECT n, {DOCUMENT} FROM generate_series(1, {users}) n", name)


@contextmanager
def updates(cluster: Cluster, url: str, table: str, users: int) -> Iterator[Callable[[int], Measured]]:
    """Run pgbench, which merges attributes into the documents of such a table, for this number of seconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(PGBENCH_SCRIPT.replace("{table}", table))
        script.flush()
        Path(script.name).chmod(0o644)

        def run(seconds: int) -> Measured:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder).chmod(0o777)
                log = f"{folder}/log"
                said = cluster.run(
                    "pgbench", "-n", "-M", "prepared", f"-c{PGBENCH_CLIENTS}", "-j2", f"-T{seconds}", "-D", f"users={users}",
                    "-f", script.name, "--log", "--log-prefix", log, url,
                )  # fmt: skip
                times = sorted(
                    int(line.split()[2]) / 1000 for file in Path(folder).iterdir() for line in file.read_text().splitlines()
                )
            rate = re.search(r"tps = ([\d.]+)", said)
            assert rate, said
            return Measured(float(rate[1]), times[len(times) // 2], times[len(times) * 99 // 100], 0)

        yield run


@contextmanager
def parse_server(cluster: Cluster, users: int) -> Iterator[str]:
    """Run Parse Server on its own database, and yield its base URL."""
    if shutil.which("node") is None:
        raise SystemExit("Parse Server needs node, 20.19 or newer; without it: --only usertable-1,usertable-2,pgbench,kinto")
    folder = PEERS / f"parse-server-{PARSE_SERVER}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", f"parse-server@{PARSE_SERVER}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (folder / "done").touch()
    database, port = cluster.create(), free_port()
    settings = {
        "appId": "benchmark",
        "masterKey": "benchmark-master",
        "databaseURI": database,
        "port": port,
        "host": "127.0.0.1",
        "mountPath": "/parse",
        "serverURL": f"http://127.0.0.1:{port}/parse",
        "silent": True,
        "logLevel": "error",
        "directAccess": True,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(settings, file)
        file.flush()
        base = f"http://127.0.0.1:{port}"
        with process(["node", str(folder / "node_modules/.bin/parse-server"), file.name], f"{base}/parse/health"):
            fields = {
                "age": 1, "total_spent": 1.5, "city": "a", "last_seen": 1700000000000, "interests": ["a"],
                "registered_at": 1, "level": 1, "channel": "a", "is_member": True, "nickname": "a",
            } | {attribute.name: "a" for attribute in MORE}  # fmt: skip
            headers = {"X-Parse-Application-Id": "benchmark", "X-Parse-Master-Key": "benchmark-master"}
            call("POST", f"{base}/parse/classes/Member", fields, headers)
            more = ", ".join(f"'value-' || (n * {number}) % 1000" for number in range(len(MORE)))
            insert(
                database,
                f"""INSERT INTO "Member" ("objectId", "createdAt", "updatedAt", age, total_spent, city, last_seen, interests,
                  registered_at, level, channel, is_member, nickname, {", ".join(a.name for a in MORE)}, _rperm, _wperm)
                SELECT 'u' || n, now(), now(), n % 80, n % 1000 + 0.25, 'city-' || n % 10000, 1700000000000,
                  jsonb_build_array('tag-' || n % 20, 'tag-' || n % 7 + 30), 1600000000000, n % 60, 'channel-' || n % 30,
                  true, 'user-' || n, {more}, '{{*}}', '{{*}}' FROM generate_series(1, {users}) n""",
                '"Member"',
            )
            yield base


@contextmanager
def kinto(cluster: Cluster, users: int) -> Iterator[str]:
    """Run Kinto on its own database, and yield its base URL."""
    folder = PEERS / f"kinto-{KINTO}"
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin/pip"), "--disable-pip-version-check", "install", "--quiet", f"kinto[postgresql]=={KINTO}"]
        subprocess.run(pip, check=True)
        (folder / "done").touch()
    database, port = cluster.create(), free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
        file.write(
            f"""[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 16
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {database}
kinto.storage_pool_size = 16
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {database}
kinto.permission_pool_size = 16
kinto.cache_backend = kinto.core.cache.memory
multiauth.policies = basicauth
kinto.userid_hmac_secret = benchmark
kinto.bucket_create_principals = system.Everyone
"""
        )
        file.flush()
        program = str(folder / "bin/kinto")
        subprocess.run([program, "migrate", "--ini", file.name], check=True, capture_output=True)
        base = f"http://127.0.0.1:{port}"
        with process([program, "start", "--ini", file.name, "--port", str(port)], f"{base}/v1/__lbheartbeat__"):
            allowed = {"permissions": {"write": ["system.Everyone"]}}
            call("PUT", f"{base}/v1/buckets/benchmark", allowed, {})
            call("PUT", f"{base}/v1/buckets/benchmark/collections/members", allowed, {})
            insert(
                database,
                "INSERT INTO objects (id, parent_id, resource_name, last_modified, data, deleted)"
                " SELECT 'u' || n, '/buckets/benchmark/collections/members', 'record',"
                f" from_epoch(1700000000000 + n), {DOCUMENT}, false FROM generate_series(1, {users}) n",
                "objects",
            )
            yield base


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def process(command: list[str], health: str) -> Iterator[None]:
    """Run a peer's server during the block."""
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        # Parse Server writes its logs to the working directory.
        environment = {**os.environ, "NODE_ENV": "production"}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(health, timeout=5).close()
                    break
                except OSError:
                    if server.poll() is not None:
                        log.seek(0)
                        raise SystemExit(f"{command[0]} ended: {log.read()[-3000:]}") from None
                    time.sleep(0.1)
            else:
                raise SystemExit(f"{command[0]} did not start")
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def call(method: str, url: str, body: object, headers: dict[str, str]) -> None:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method=method
    )
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()}")


if __name__ == "__main__":
    main()
