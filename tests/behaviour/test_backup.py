"""`usertable backup` and `usertable restore`: for a store that is in use, damaged files, and a database."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import httpx
import pytest

from support import postgres
from support.actors import TESTER
from support.cli_runner import CliRunner
from support.engines import database
from support.load import load, read_sums, wait_for_more
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project
from usertable.app.service import Service
from usertable.store import open_store, stored_version
from usertable.store.sqlite import files

OLD_STORES = sorted((Path(__file__).parents[1] / "contract" / "stores").glob("sqlite_*.sql"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.db"


@pytest.fixture
def cli(file: Path) -> CliRunner:
    """Return the command line on a store with three users."""
    create_project(f"sqlite:///{file}", users=3)
    return CliRunner(f"sqlite:///{file}", {})


def users(cli: CliRunner) -> str:
    return cli.out("user", "list", "--project", PROJECT)


def send_with_key(http: httpx.Client, cuid: int, key: str) -> str | None:
    """Add 1 to a user's counter. Return the header that says whether the answer is that of an earlier request."""
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1, "user_list_append": [key]}}
    answer = http.put(ATTRIBUTE, json=body, headers={"Idempotency-Key": key})
    assert answer.json() == {"code": 0, "msg": "ok"}
    replayed: str | None = answer.headers.get("idempotency-replayed")
    return replayed


@contextmanager
def opened_elsewhere(file: Path) -> Iterator[None]:
    """Have the store open in another process, like an import, during the block."""
    code = (
        "import apsw, sys; db = apsw.Connection(sys.argv[1]); print(db.pragma('page_count'), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline()
    yield
    process.communicate()


def test_a_backup_under_load_has_every_write_that_was_answered_before_it(tmp_path: Path, file: Path) -> None:
    url, copy = f"sqlite:///{file}", str(tmp_path / "copy.db")
    *cuids, other = create_project(url, users=50)
    cli = CliRunner(url, {})
    server = ServerProcess(url, tmp_path)
    with server.client() as http:
        send_with_key(http, other, "before")
        with load([server], cuids, 4) as clients:
            wait_for_more(clients, 200)
            answered: Counter[int] = sum((client.acknowledged.copy() for client in clients), Counter())
            said = cli.json("backup", copy)
            wait_for_more(clients, 50)
        send_with_key(http, other, "after")
    server.kill()

    restored = cli.json("restore", copy, "--replace")
    assert [restored[name] for name in ("projects", "users", "receipts")] == [1, 50, said["receipts"]]
    sums = read_sums(url, cuids)
    assert all(sums[cuid] >= answered[cuid] for cuid in cuids)  # type: ignore[operator]
    assert said["receipts"] == 1 + sum(sums.values())  # type: ignore[arg-type]
    server.start()
    with server.client() as http:
        assert send_with_key(http, other, "before") == "true"
        assert send_with_key(http, other, "after") is None
    assert server.stop() == 0
    assert read_sums(url, [other]) == read_sums(f"sqlite:///{restored['kept']}", [other]) == {other: 2}


def test_a_backup_is_one_file_for_its_owner_and_leaves_the_store_as_it_is(cli: CliRunner, file: Path) -> None:
    content = file.read_bytes()
    said = cli.json("backup", str(file.with_name("copy.db")))
    copy = Path(said["file"])
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (copy.stat().st_size, said["users"], said["projects"], said["receipts"]) == (said["bytes"], 3, 1, 0)
    assert {path.name for path in file.parent.iterdir()} == {"users.db", "copy.db"}
    assert file.read_bytes() == content
    shown = cli.out("restore", str(copy), "--store", f"sqlite:///{file}.2")
    assert shown.startswith(f"sqlite:///{file}.2: users 3, receipts 0, projects 1, store version ")
    assert users(CliRunner(f"sqlite:///{file}.2", {})) == users(cli)


def test_a_backup_has_what_a_killed_server_left_in_the_log(cli: CliRunner, tmp_path: Path, file: Path) -> None:
    server = ServerProcess(cli.url, tmp_path)
    with server.client() as http:
        for value in (1, 2):
            body = {"cuid": 10_000_001, "data": {"user_number_accumulate": value}}
            assert http.put(ATTRIBUTE, json=body).json()["code"] == 0
    os.kill(server.writer_pid(), signal.SIGKILL)
    server.kill()
    log = file.with_name("users.db-wal").read_bytes()
    cli.run("backup", str(tmp_path / "copy.db"))
    assert file.with_name("users.db-wal").read_bytes() == log
    cli.run("restore", str(tmp_path / "copy.db"), "--store", f"sqlite:///{tmp_path}/other.db")
    got = CliRunner(f"sqlite:///{tmp_path}/other.db", {}).json("user", "get", "10000001", "--project", PROJECT)
    assert got["attributes"]["user_number_accumulate"] == 3


def test_a_file_that_exists_is_not_overwritten(cli: CliRunner, file: Path) -> None:
    there = file.with_name("there.db")
    there.write_text("mine")
    assert cli.refused("backup", str(there)) == f"{there} exists, and is not overwritten; name another file"
    assert there.read_text() == "mine"
    assert "exists" in cli.refused("backup", str(file))
    assert "is a folder" in cli.refused("backup", str(file.parent))
    assert "does not exist; create it" in cli.refused("backup", str(file.parent / "no" / "copy.db"))


def test_a_backup_needs_a_store(tmp_path: Path) -> None:
    cli = CliRunner(f"sqlite:///{tmp_path}/none.db", {})
    assert "there is no store at" in cli.refused("backup", str(tmp_path / "copy.db"))
    assert "exists only inside its server" in CliRunner("memory:", {}).misused("backup", str(tmp_path / "copy.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_replaced_only_if_asked_for_and_kept(cli: CliRunner, file: Path) -> None:
    copy = str(file.with_name("copy.db"))
    cli.run("backup", copy)
    cli.run("user", "register", "phone", "18012345678", "--project", PROJECT)
    now = users(cli)
    assert "there is already a store at" in cli.refused("restore", copy)
    assert users(cli) == now
    kept = cli.json("restore", copy, "--replace")["kept"]
    assert now.count("\n") == users(cli).count("\n") + 1
    assert users(CliRunner(f"sqlite:///{kept}", {})) == now


def test_no_cuid_that_was_given_after_the_backup_is_given_to_another_user(cli: CliRunner, file: Path) -> None:
    def register(phone: str) -> int:
        (user,) = cli.json("user", "register", "phone", phone, "--project", PROJECT)["users"]
        return int(user["cuid"])

    copy = str(file.with_name("copy.db"))
    cli.run("backup", copy)
    lost = register("18012345678")
    cli.run("restore", copy, "--replace")
    assert register("18087654321") == lost + 1_000_000
    cli.run("restore", copy, "--replace", "--skip-cuids", "0")
    assert register("18012345678") == lost


def test_people_come_back_and_sessions_that_were_ended_since_do_not(cli: CliRunner, file: Path) -> None:
    store = open_store(cli.url)
    service = Service(store)
    ann = service.add_person("ann@example.com", admin=True, password="correct horse battery staple", actor=TESTER)
    token = service.begin_session(ann, seconds=3600, browser="", caller=TESTER)
    assert token is not None
    store.close()
    copy = str(file.with_name("copy.db"))
    cli.run("backup", copy)
    cli.run("person", "sign-out", "ann@example.com")
    cli.run("restore", copy, "--replace")
    store = open_store(cli.url)
    assert [person.id for person in store.people()] == [ann.id]
    assert Service(store).find_session(token) is None
    store.close()


def test_nothing_is_restored_while_a_server_or_a_command_has_the_store_open(
    cli: CliRunner, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LEAVING_SECONDS", 0.0)
    copy = str(file.with_name("copy.db"))
    cli.run("backup", copy)
    server = ServerProcess(cli.url, file.parent)
    now = users(cli)
    said = cli.refused("restore", copy, "--replace")
    assert f"another server (process {server.pid}) already serves" in said
    assert "is a store with a log beside it, not a backup" in cli.refused("restore", str(file), "--store", "sqlite:///x.db")
    assert server.stop() == 0
    with opened_elsewhere(file):
        assert "another process, such as an import, has" in cli.refused("restore", copy, "--replace")
    assert users(cli) == now
    cli.run("restore", copy, "--replace")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "cannot be restored: database disk image is malformed"),
        (lambda content: content[:6144] + bytes(4096) + content[10240:], "copy.db is damaged. SQLite says: "),
        (lambda content: b"", "is empty, not a backup"),
        (lambda content: b"a text, and not a short one" * 100, "file is not a database"),
        (None, "there is no backup at"),
    ],
    ids=["cut off", "pages of zeros", "empty", "text", "missing"],
)
def test_a_damaged_backup_changes_nothing(cli: CliRunner, file: Path, damage: object, reason: str) -> None:
    copy = file.with_name("copy.db")
    if callable(damage):
        cli.run("backup", str(copy))
        copy.write_bytes(damage(copy.read_bytes()))
    now = users(cli)
    assert reason in cli.refused("restore", str(copy), "--replace")
    assert users(cli) == now
    assert not [path for path in file.parent.iterdir() if "replaced" in path.name or path.suffix == ".part"]


def test_a_damaged_store_is_not_taken_for_backed_up_and_a_restore_replaces_it(cli: CliRunner, file: Path) -> None:
    good, bad = file.with_name("good.db"), file.with_name("bad.db")
    now = users(cli)
    cli.run("backup", str(good))
    content = file.read_bytes()
    file.write_bytes(content[:6144] + bytes(4096) + content[10240:])
    assert f"could not be backed up to {bad}: database disk image is malformed" in cli.refused("backup", str(bad))
    assert not bad.exists()
    cli.run("restore", str(good), "--replace")
    assert users(cli) == now


def test_a_store_that_was_overwritten_is_served_again_once_a_backup_is_restored(cli: CliRunner, file: Path) -> None:
    copy = str(file.with_name("copy.db"))
    cli.run("backup", copy)
    now = users(cli)
    server = ServerProcess(cli.url, file.parent)
    with server.client() as http:
        send_with_key(http, 10_000_001, "after")
    os.kill(server.writer_pid(), signal.SIGKILL)
    server.kill()
    # As the server's writer does when it finds another file copied over the store.
    files.StoreFiles(str(file)).note_overwriting()
    assert "was overwritten while its last server had it open" in cli.refused("serve", "--port", "0")
    cli.run("restore", copy, "--replace")
    server.start()
    assert server.stop() == 0
    assert users(cli) == now


def test_a_restore_that_is_killed_between_the_stores_is_noticed_and_can_be_repeated(cli: CliRunner, file: Path) -> None:
    copy = str(file.with_name("copy.db"))
    cli.run("backup", copy)
    now = users(cli)
    code = (
        "import os, usertable.store.sqlite.files as files; files.sync_folder = lambda folder: os._exit(9)\n"
        "from usertable.cli import main; main()"
    )
    arguments = ["restore", copy, "--replace", "--store", cli.url]
    assert subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode == 9
    for command in (("project", "create", "new"), ("project", "list"), ("serve", "--port", "0")):
        assert f"a restore of {file} was interrupted, and there is no store yet; run it again" in cli.refused(*command)
    assert cli.json("restore", copy)["kept"] is None
    assert users(cli) == now
    (kept,) = file.parent.glob("users.db.replaced-*Z")
    assert users(CliRunner(f"sqlite:///{kept}", {})) == now


@pytest.mark.parametrize("dump", OLD_STORES, ids=lambda dump: dump.stem)
def test_a_store_of_an_earlier_version_comes_back_at_that_version(dump: Path, file: Path) -> None:
    with closing(apsw.Connection(str(file))) as db:
        db.execute(dump.read_text())
    version = int(dump.stem.partition("_")[2])
    cli = CliRunner(f"sqlite:///{file}", {})
    assert cli.json("backup", f"{file}.copy")["version"] == version
    cli.run("migrate")
    assert cli.json("restore", f"{file}.copy", "--replace", "--skip-cuids", "0")["version"] == version
    assert stored_version(cli.url) == version


def test_the_commands_that_are_printed_for_postgresql_back_it_up_and_restore_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{postgres.bin_folder(postgres.NEWEST)}:{os.environ['PATH']}")
    dump = str(tmp_path / "users.dump")
    with database(postgres.NEWEST) as url:
        create_project(url, users=3)
        cli = CliRunner(url, {})
        told = cli.run("backup", dump, "--json", code=1)
        assert "nothing was backed up" in told.stderr
        found = json.loads(told.stdout)
        assert found["server"].startswith(str(postgres.NEWEST))
        assert [(tool["name"], tool["problem"]) for tool in found["tools"]] == [("pg_basebackup", None), ("pg_dump", None)]
        subprocess.run(shlex.split(found["commands"][1]), check=True)
        restoring = json.loads(cli.run("restore", dump, "--json", code=1).stdout)["commands"]
        for command in restoring:
            subprocess.run(shlex.split(command), check=True)
        assert users(CliRunner(f"{url}_restored", {})) == users(cli)
        postgres.shared(postgres.NEWEST).drop(f"{url}_restored")


def test_programs_that_do_not_go_with_the_database_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with database(postgres.NEWEST) as url:
        cli = CliRunner(url.replace("postgres@", "postgres:hidden@"), {})
        monkeypatch.setenv("PATH", str(postgres.bin_folder(postgres.OLDEST)))
        told = cli.run("backup", "users.dump", code=1).stdout
        assert f"is older than the server; on Debian: apt-get install postgresql-client-{postgres.NEWEST}" in told
        monkeypatch.setenv("PATH", str(tmp_path))
        told = cli.run("restore", "users.dump", code=1).stdout
        assert "pg_restore is not installed" in told
        assert "hidden" not in told
