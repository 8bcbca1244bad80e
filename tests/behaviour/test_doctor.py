"""`usertable doctor`: what it says of a store, a machine and settings that are well, and of those that are not."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from support import postgres
from support.cli_runner import CliRunner
from support.engines import database
from support.server_process import ServerProcess, create_project
from usertable.app.diagnosis import others_may_read
from usertable.store.sqlite import diagnosis
from usertable.store.sqlite.files import StoreFiles

YEAR_3000 = 32_503_680_000_000


class Doctor(CliRunner):
    """Run `usertable doctor`, and parse its findings."""

    def examine(self, *, code: int = 0) -> dict[str, dict[str, str]]:
        """Return the findings by check."""
        document = json.loads(self.run("doctor", "--json", code=code).stdout)
        found = {finding["check"]: finding for finding in document["findings"]}
        levels = {finding["level"] for finding in found.values()}
        assert document["level"] == next(level for level in ("problem", "warning", "ok") if level in levels)
        assert all(bool(finding["advice"]) == (finding["level"] != "ok") for finding in found.values())
        return found

    def level(self, check: str) -> str:
        """Return the finding of one check."""
        document = json.loads(self.invoke("doctor", "--json").stdout)
        (level,) = [finding["level"] for finding in document["findings"] if finding["check"] == check]
        return str(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.db"


@pytest.fixture
def doctor(file: Path) -> Doctor:
    create_project(f"sqlite:///{file}", users=3)
    return Doctor(f"sqlite:///{file}", {})


def change(file: Path, statement: str) -> None:
    with closing(apsw.Connection(str(file))) as db:
        db.execute(statement)


def test_all_is_well_beside_a_server_and_nothing_is_changed(doctor: Doctor, file: Path) -> None:
    server = ServerProcess(doctor.url, file.parent)
    before = {path.name for path in file.parent.iterdir()}
    found = doctor.examine()
    assert {path.name for path in file.parent.iterdir()} == before
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert found["lock"]["found"] == f"held by the server, process {server.pid}"
    assert found["engine"]["found"].startswith("SQLite 3.")
    assert next(iter(found)) == "version"
    assert server.stop() == 0
    lines = doctor.out("doctor").splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    assert any("free: no server has the store open" in line for line in lines)
    assert {path.name for path in file.parent.iterdir()} == before - {"users.db-wal", "users.db-shm"}


def test_a_store_that_is_not_there_yet_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    found = Doctor(f"sqlite:///{tmp_path}/new.db", {}).examine()
    assert (found["store"]["level"], found["store"]["advice"]) == ("warning", "usertable serve creates it")
    assert list(tmp_path.iterdir()) == []
    assert Doctor("memory:", {}).examine()["store"]["level"] == "warning"


def test_a_store_that_cannot_be_read_is_a_problem(file: Path) -> None:
    file.write_bytes(b"a text, and not a short one" * 100)
    assert "file is not a database" in Doctor(f"sqlite:///{file}", {}).examine(code=1)["store"]["found"]
    nowhere = Doctor(f"sqlite:///{file.parent}/no/users.db", {})
    assert "does not exist; create it" in nowhere.examine(code=1)["store"]["found"]


def test_another_version_and_another_program_are_told(doctor: Doctor, file: Path) -> None:
    change(file, "PRAGMA user_version = 1")
    older = doctor.examine()["store version"]
    assert (older["level"], "usertable backup" in older["advice"]) == ("warning", True)
    change(file, "PRAGMA user_version = 99")
    assert "was written by a newer usertable" in doctor.examine(code=1)["store"]["found"]
    change(file, "PRAGMA application_id = 7")
    assert "of another program" in doctor.examine(code=1)["store"]["found"]


def test_a_clock_that_is_behind_the_store_is_a_problem(doctor: Doctor, file: Path) -> None:
    change(file, f"UPDATE audit SET at = {YEAR_3000}")
    found = doctor.examine(code=1)["clock"]
    assert found["level"] == "problem"
    assert "s behind the newest time in the store" in found["found"]


def test_files_that_others_may_open_or_replace_are_told(doctor: Doctor, file: Path) -> None:
    file.chmod(0o644)
    found = doctor.examine()["file modes"]
    assert (found["level"], found["advice"]) == ("warning", f"chmod 600 {file}")
    file.chmod(0o600)
    file.parent.chmod(0o777)
    assert doctor.examine(code=1)["file modes"]["advice"] == f"chmod o-w {file.parent}"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (StoreFiles.note_overwriting, "was overwritten while its last server had it open"),
        (StoreFiles.note_disk_failure, "failed under its last server"),
    ],
)
def test_what_the_last_server_noted_is_a_problem(doctor: Doctor, file: Path, note: object, said: str) -> None:
    assert ServerProcess(doctor.url, file.parent).stop() == 0
    assert callable(note)
    note(StoreFiles(str(file)))
    assert said in doctor.examine(code=1)["lock"]["found"]


def test_a_disk_that_is_nearly_full_a_long_log_and_a_network_file_system_are_told(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usertable.store.diagnosis.FREE_WARNING", 2**60)
    assert {doctor.examine()[check]["level"] for check in ("disk space", "temporary folder")} == {"warning"}
    monkeypatch.setattr("usertable.store.diagnosis.FREE_PROBLEM", 2**60)
    assert doctor.examine(code=1)["disk space"]["level"] == "problem"
    monkeypatch.setattr(diagnosis, "LOG_WARNING", 0)
    assert doctor.level("log") == "warning"
    assert doctor.level("file system") == "ok"
    # Every name begins so.
    monkeypatch.setattr(diagnosis, "_NETWORK_FILE_SYSTEMS", ("",))
    assert doctor.level("file system") == "problem"


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.0", True),
        ("3.50.7", False),
        ("3.51.0", True),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.52", False),
        ("3.54.1", False),
        ("4.0.0", False),
    ],
)
def test_the_versions_with_the_wal_reset_bug_are_those_that_sqlite_names(version: str, has_bug: bool) -> None:
    """https://sqlite.org/wal.html#the_wal_reset_bug"""
    assert diagnosis.has_reset_bug(version) == has_bug


def test_an_engine_with_a_known_bug_is_a_problem(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    found = doctor.examine(code=1)["engine"]
    assert "SQLite 3.40.1 can lose acknowledged writes (https://sqlite.org/wal.html" in found["found"]


@pytest.mark.parametrize(
    ("settings", "check", "said"),
    [
        ({"host": "0.0.0.0"}, "address", "Put a TLS-terminating proxy in front of it"),
        ({"host": "::"}, "address", "Put a TLS-terminating proxy in front of it"),
        ({"metrics_address": "0.0.0.0:9464"}, "metrics", "Set metrics_token"),
        ({"max_connections": f"{2**53}"}, "open files", f"Allow the server {2**53 + 200} or more"),
        ({"admin_token": "a" * 16, "admin_token_previous": "b" * 16}, "admin token", "remove admin_token_previous"),
    ],
)
def test_settings_that_ask_for_attention_are_warnings(
    doctor: Doctor, settings: dict[str, str], check: str, said: str
) -> None:
    doctor.environment |= {f"USERTABLE_{name.upper()}": value for name, value in settings.items()}
    found = doctor.examine()[check]
    assert (found["level"], said in found["advice"]) == ("warning", True)


def test_a_proxy_that_is_everyone_is_a_problem_and_a_unix_socket_is_not_reached_by_others(doctor: Doctor) -> None:
    doctor.environment |= {"USERTABLE_TRUSTED_PROXIES": "10.0.0.7, ::/0", "USERTABLE_UDS": "/run/usertable.sock"}
    found = doctor.examine(code=1)
    assert found["trusted proxies"]["found"].startswith("::/0 covers every address")
    assert found["address"]["level"] == "ok"


def test_more_memory_for_pages_than_there_is_and_workers_on_a_file_are_told(doctor: Doctor) -> None:
    doctor.environment |= {"USERTABLE_STORE": f"{doctor.url}?cache_mb=1000000", "USERTABLE_WORKERS": "2"}
    found = doctor.examine(code=1)
    assert (found["memory"]["level"], found["workers"]["level"]) == ("warning", "problem")


def test_secrets_that_others_may_read_are_told(doctor: Doctor, tmp_path: Path) -> None:
    token, settings = tmp_path / "token", tmp_path / "usertable.toml"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o640)
    doctor.environment["USERTABLE_METRICS_TOKEN_FILE"] = str(token)
    assert doctor.examine()["secrets"]["advice"].startswith(f"chmod 600 {token}, or 640 if root owns it;")
    token.chmod(0o600)
    settings.write_text("port = 9000\n")
    settings.chmod(0o644)
    doctor.environment["USERTABLE_CONFIG"] = str(settings)
    assert doctor.examine()["secrets"]["level"] == "ok"
    settings.write_text('admin_token = "abcdef0123456789"\n')
    found = doctor.run("doctor").stdout
    assert f"warning  secrets           users other than the server's can read {settings}\n" in found
    assert "abcdef" not in found


def test_a_file_of_roots_may_be_read_by_the_servers_group_and_by_nobody_else() -> None:
    def exposed(mode: int, *, owner: int, group: int) -> bool:
        return others_may_read(os.stat_result((0o100000 | mode, 0, 0, 1, owner, group, 0, 0, 0, 0)))

    root, server, staff = 0, 998, 50
    assert not exposed(0o640, owner=root, group=server)
    assert not exposed(0o600, owner=server, group=server)
    assert exposed(0o644, owner=root, group=server)
    assert exposed(0o660, owner=root, group=server)
    assert exposed(0o640, owner=server, group=staff)
    assert exposed(0o640, owner=root, group=root)


def test_a_database_is_looked_at() -> None:
    with database(postgres.NEWEST) as url:
        doctor = Doctor(url, {})
        # The tests' databases lose what they have when their machine stops, to be fast.
        found = doctor.examine(code=1)
        assert "fsync off: a crash" in found["durability"]["found"]
        others = [check for check in found if check != "durability"]
        assert {found[check]["level"] for check in others} == {"ok"}
        assert found["engine"]["found"].startswith(f"PostgreSQL {postgres.NEWEST}")
        doctor.environment["USERTABLE_WORKERS"] = "5"
        assert "Raise max_connections to " in doctor.examine(code=1)["connections"]["advice"]
        doctor.environment["USERTABLE_STORE"] = f"{url}?options=-c%20statement_timeout%3D9000"
        assert "statement_timeout (9s)" in doctor.examine(code=1)["time limits"]["found"]
        doctor.environment["USERTABLE_STORE"] = url.replace("postgres@", "postgres:hidden@").replace("/test_", "/none_")
        lost = doctor.examine(code=1)["store"]
        assert "does not exist" in lost["found"]
        assert "hidden" not in json.dumps(lost)


def test_a_database_without_tables_is_no_problem() -> None:
    with database(postgres.NEWEST, empty=True) as url:
        assert Doctor(url, {}).level("store version") == "warning"
