"""The commands for whole stores, and what is said of a database that cannot be one."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import apsw
import psycopg
import pytest

from support import postgres
from support.cli_runner import CliRunner
from support.postgres import Cluster
from support.server_process import PROJECT, ServerProcess, create_project
from usertable.store import open_store
from usertable.store.migrations import migrations
from usertable.store.postgres import connection


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in [name for name in os.environ if name.startswith("USERTABLE_")]:
        monkeypatch.delenv(name)
    cluster = postgres.shared(postgres.NEWEST)
    url = cluster.create()
    yield url
    cluster.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def cli(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> CliRunner:
    """Return the URL of a store that does not exist yet."""
    return CliRunner(database if request.param == "postgresql" else f"sqlite:///{tmp_path}/users.db", {})


def newest(cli: CliRunner) -> int:
    """Return the number of the engine's newest migration."""
    return len(migrations("sqlite" if cli.url.startswith("sqlite") else "postgres"))


def test_migrate_and_check(cli: CliRunner) -> None:
    unmigrated = cli.run("migrate", "--check", code=1)
    assert unmigrated.stdout.rstrip() == f"{cli.url} is at version 0, the newest is {newest(cli)}"
    assert unmigrated.stderr == "Error: the store needs a migration: run usertable migrate\n"
    assert cli.json("migrate") == {"store": cli.url, "version": newest(cli), "newest": newest(cli), "migrated": True}
    assert cli.out("migrate").rstrip() == f"{cli.url} is at version {newest(cli)}, nothing to do"
    assert cli.json("migrate", "--check") == {
        "store": cli.url,
        "version": newest(cli),
        "newest": newest(cli),
        "migrated": False,
    }
    cli.run("project", "create", "demo", "--id", "p1")
    assert "demo" in cli.out("project", "list")


def test_several_processes_migrate_at_once(database: str, tmp_path: Path) -> None:
    def start(name: str) -> ServerProcess:
        folder = tmp_path / name
        folder.mkdir()
        return ServerProcess(database, folder)

    with ThreadPoolExecutor(3) as pool:
        servers = list(pool.map(start, "abc"))
        # A server does not outlive the thread that started it.
        assert [server.stop() for server in servers] == [0, 0, 0]


def test_a_newer_store_is_refused(cli: CliRunner) -> None:
    cli.run("migrate")
    if cli.url.startswith("sqlite"):
        with sqlite3.connect(cli.url.removeprefix("sqlite:///")) as file:
            file.execute("PRAGMA user_version = 99")
    else:
        with psycopg.connect(cli.url, autocommit=True) as db:
            db.execute("INSERT INTO usertable.migration (number) VALUES (99)")
    for command in (("migrate",), ("migrate", "--check"), ("project", "list"), ("serve", "--port", "0")):
        assert f"was written by a newer usertable (store version 99, this one knows {newest(cli)})" in cli.refused(*command)


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("migrate",), ("project", "list")])
def test_a_url_that_cannot_be_read(database: str, command: tuple[str, ...]) -> None:
    said = CliRunner("postgresql://user:pass[word@db/users", {}).refused(*command)
    assert "write the characters [ ] @ / : of a user or password as %5B" in said
    assert "pass[word" not in said


def test_distribute_needs_citus(cli: CliRunner) -> None:
    reason = cli.refused("migrate", "--distribute")
    assert ("has no Citus: run CREATE EXTENSION citus" in reason) or ("only a PostgreSQL store" in reason)
    assert "exclude each other" in cli.misused("migrate", "--distribute", "--check")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("/test_", "/no_such_"), r'database "no_such_\d+" does not exist'),
        (("postgres@", "nobody_there@"), 'role "nobody_there" does not exist'),
        (("127.0.0.1", "no-such-host.invalid"), "cannot be opened"),
        (("127.0.0.1", "127.0.0.1:1,127.0.0.1"), ""),
        (("postgresql:", "mysql:"), "the scheme 'mysql' is none of memory, sqlite, postgresql"),
        (("?", "?no_such_parameter=1"), "no_such_parameter"),
        (("?", "?pool_size=many"), "pool_size is 'many', expected a number from 2 to 1000"),
        (("?", "?pool_size=1"), "expected a number from 2 to 1000"),
    ],
)
def test_a_database_that_cannot_be_used(database: str, change: tuple[str, str], reason: str) -> None:
    url = (database + "?").replace(*change).rstrip("?")
    cli = CliRunner(url, {})
    if not reason:
        cli.run("migrate")
        cli.run("project", "list")
        return
    for command in (("project", "list"), ("migrate",), ("serve", "--port", "0")):
        said = cli.refused(*command)
        assert len(said.splitlines()) == 1
        assert re.search(reason, said)


def test_a_wrong_password(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.initialise()
    cluster.start()
    try:
        cluster.execute("ALTER USER postgres PASSWORD 'right'")
        (cluster.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        cluster.run("pg_ctl", "-D", str(cluster.data), "reload")
        url = cluster.url("postgres").replace("postgres@", "postgres:wrong-one@")
        said = CliRunner(url, {}).refused("project", "list")
        assert "password authentication failed" in said
        assert "wrong-one" not in said
        assert "demo" in CliRunner(url.replace("wrong-one", "right"), {}).out("project", "create", "demo")
        shown = CliRunner(url.replace("wrong-one", "right"), {}).out("config")
        assert "postgres:********@" in shown
        assert "right@" not in shown
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def by_socket() -> Iterator[tuple[Cluster, str]]:
    """Run a server on a socket in a folder with a space in its name, and yield the folder."""
    folder = Path(tempfile.mkdtemp(prefix="pg socket "))
    folder.chmod(0o777)
    cluster = Cluster(settings=(f"unix_socket_directories = '\"{folder}\"'",))
    cluster.initialise()
    cluster.start()
    cluster.execute("CREATE ROLE ut LOGIN SUPERUSER PASSWORD 'a b+c/d@e:f?g%h'")
    (cluster.data / "pg_hba.conf").write_text("local all ut scram-sha-256\nlocal all all trust\nhost all all all trust\n")
    cluster.execute("SELECT pg_reload_conf()")
    yield cluster, str(folder)
    cluster.close()
    folder.rmdir()


PASSWORD = "a%20b%2Bc%2Fd%40e%3Af%3Fg%25h"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///{name}?host={folder}&port={port}&user=postgres",
        "postgresql://?host={folder}&port={port}&dbname={name}&user=postgres",
        "postgres:///{name}?port={port}&host={folder}&user=postgres",
        "postgresql://postgres@{folder}:{port}/{name}",
        "postgresql://ut:" + PASSWORD + "@{folder}:{port}/{name}",
        "postgresql:///{name}?host={folder}&port={port}&user=ut&password=" + PASSWORD,
        "postgresql://ut:" + PASSWORD + "@{folder}:{port},127.0.0.1:{port}/{name}?target_session_attrs=read-write",
        "postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/{name}",
        "postgresql:///?service=users&user=postgres",
        "postgresql:///{name}?host={folder}&port={port}&user=postgres&pool_size=3&sslrootcert=",
        "postgresql://postgres@127.0.0.1:{port}/{name}?pool_size=3",
    ],
)
def test_the_url_reaches_libpq_as_it_is_written(
    by_socket: tuple[Cluster, str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, folder = by_socket
    name = cluster.create().rpartition("/")[2]
    services = tmp_path / "services"
    services.write_text(f"[users]\nhost={folder}\nport={cluster.port}\ndbname={name}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    cli = CliRunner(url.format(name=name, folder=folder.replace("/", "%2F").replace(" ", "%20"), port=cluster.port), {})
    assert "demo" in cli.out("project", "create", "demo", "--id", "p1")
    shown = cli.json("config")["store"]["value"]
    assert "a%20b" not in shown
    if "password=" not in url and ":" + PASSWORD not in url:
        assert shown == cli.url
    assert cli.json("project", "list")["projects"][0]["id"] == "p1"


def test_options_and_texts_with_blanks_in_the_url(database: str) -> None:
    url = database + "?options=-c%20work_mem%3D7MB%20-c%20statement_timeout%3D0&application_name=my%20app%2B1"
    store = open_store(url)
    with store.connections.pool.connection() as db:  # type: ignore[attr-defined]
        names = ("work_mem", "statement_timeout", "application_name")
        found = [db.execute(f"SHOW {name}").fetchone()[0] for name in names]
    store.close()
    assert found == ["7MB", "0", "my app+1"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://ut:hun/ter2@h/db", "write the characters [ ] @ / : ? of a user or password as %5B"),
        ("postgresql://ut:hun%ter2@h/db", "a % stands before two hexadecimal digits only; write % as %25"),
        ("postgresql://h/db?password=hun=ter2", 'extra key/value separator "=" in URI query parameter: "password"'),
        ("postgresql://h/db?password=hunter2&nope=1", 'invalid URI query parameter: "nope"'),
        ("postgresql://ut:hunter2@h:port/db", "it is not postgresql://user:password@host:port/database?parameters"),
        ("postgresql://ut:hunter2@127.0.0.1:1/db?sslmode=", 'invalid sslmode value: ""'),
        ("postgresql://ut:hunter2@h/db?client_encoding=LATIN1", "client_encoding is 'LATIN1'; it is always UTF8"),
        ("postgresql:db?password=hunter2", "it is not postgresql://user:password@host:port/database?parameters"),
    ],
)
def test_an_unusable_url_is_told_without_its_password(url: str, reason: str) -> None:
    said = CliRunner(url, {}).refused("project", "list")
    assert reason in said
    assert not re.search("hunter2|hun.ter2|ter2", said)
    shown = CliRunner(url, {}).out("config")
    assert not re.search("hunter2|hun.ter2", shown)


def test_a_read_only_standby() -> None:
    primary, standby = Cluster(), Cluster()
    try:
        primary.initialise()
        primary.start()
        standby.follow(primary)
        standby.start()
        said = CliRunner(standby.url("postgres"), {}).refused("project", "list")
        assert "is read-only, a standby; name the primary" in said
    finally:
        standby.close()
        primary.close()


def test_a_server_that_is_too_old(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "OLDEST_SERVER", 99)
    said = CliRunner(database, {}).refused("project", "list")
    assert f"is PostgreSQL {postgres.NEWEST}; 99 or newer is needed" in said


def test_a_database_of_another_encoding() -> None:
    cluster = postgres.shared(postgres.NEWEST)
    cluster.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = cluster.url("latin")
    try:
        assert "has the encoding LATIN1; create one with ENCODING 'UTF8'" in CliRunner(url, {}).refused("project", "list")
    finally:
        cluster.drop(url)


def test_a_role_that_may_not_migrate(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("DROP ROLE IF EXISTS reader")
        db.execute("CREATE ROLE reader LOGIN")
    said = CliRunner(database.replace("postgres@", "reader@"), {}).refused("migrate")
    assert "permission denied for database" in said


def test_a_store_is_copied_there_and_back(database: str, tmp_path: Path) -> None:
    first, last = (f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "last"))
    cuids = create_project(first, users=2500)
    cli = CliRunner(first, {})
    copied = cli.json("store", "copy", first, database)
    assert copied[PROJECT]["users"]["rows"] == 2500
    assert cli.json("store", "copy", first, database) == copied
    assert cli.json("store", "copy", database, last) == copied
    assert "2500" in cli.out("store", "copy", first, last)
    users = [
        CliRunner(url, {}).out("user", "list", "--project", PROJECT, "--limit", "2500") for url in (first, database, last)
    ]
    assert users[0] == users[1] == users[2]
    assert str(cuids[-1]) in users[0]
    assert "are the same store" in cli.misused("store", "copy", first, first)


def test_a_store_in_use_is_not_copied(cli: CliRunner, tmp_path: Path) -> None:
    create_project(cli.url)
    server = ServerProcess(cli.url, tmp_path)
    said = cli.refused("store", "copy", cli.url, f"sqlite:///{tmp_path}/copy.db")
    assert "stop" in said
    assert server.stop() == 0
    cli.run("store", "copy", cli.url, f"sqlite:///{tmp_path}/copy.db")
    open_store(f"sqlite:///{tmp_path}/copy.db").close()


def take_back(url: str) -> None:
    """Make a store one of the version before: later migrations have only added to it."""
    if url.startswith("sqlite"):
        with closing(apsw.Connection(url.removeprefix("sqlite:///"))) as file:
            file.execute(f"PRAGMA user_version = {len(migrations('sqlite')) - 1}")
    else:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("DELETE FROM usertable.migration WHERE number = (SELECT max(number) FROM usertable.migration)")


@pytest.mark.parametrize(
    "command",
    [
        ("user", "get", "10000001", "--project", "p1"),
        ("user", "list", "--project", "p1"),
        ("project", "list"),
        ("schema", "export", "--project", "p1"),
        ("export", "--project", "p1"),
        ("project", "edit", "p1", "--qps", "5"),
    ],
)
def test_a_command_refuses_a_store_of_an_older_version_and_changes_nothing(cli: CliRunner, command: tuple[str, ...]) -> None:
    cli.run("project", "create", "demo", "--id", "p1")
    take_back(cli.url)
    before = cli.run("migrate", "--check", code=1).stdout
    said = cli.refused(*command)
    assert f"has store version {newest(cli) - 1}, and this usertable needs {newest(cli)}; nothing was changed" in said
    assert "run: usertable migrate" in said
    assert cli.run("migrate", "--check", code=1).stdout == before


@pytest.mark.parametrize("command", [("user", "get", "10000001", "--project", "p1"), ("project", "list"), ("migrate",)])
def test_nothing_migrates_a_file_that_an_older_server_serves(tmp_path: Path, command: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path}/users.db"
    cli = CliRunner(url, {})
    cli.run("project", "create", "demo", "--id", "p1")
    server = ServerProcess(url, tmp_path)
    version = len(migrations("sqlite")) - 1
    with closing(sqlite3.connect(tmp_path / "users.db")) as file:
        file.execute(f"PRAGMA user_version = {version}")
    said = cli.refused(*command)
    assert f"has store version {version} and is served by an older usertable (process {server.pid})" in said
    assert "Stop that server, back up the store, install this version there, then start it" in said
    with closing(sqlite3.connect(tmp_path / "users.db")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (version,)
    assert server.stop() == 0
