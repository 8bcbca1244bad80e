"""The audit log as callers of the API and of the command see it, and what makes entries."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from support.cli_runner import CliRunner
from support.form_browser import FormBrowser
from support.native_server import TOKEN, NativeServer, native_server
from support.server_process import ServerProcess
from usertable.cli import context

STORES = Path(__file__).parent.parent / "contract" / "stores"
ME = f"cli:{getpass.getuser()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def project(server: NativeServer) -> tuple[str, httpx.Client]:
    return server.new_project()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner(f"sqlite:///{tmp_path / 'store.db'}", {})


def entries(client: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{path}/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def do_something(owner: httpx.Client, path: str) -> None:
    """Make six changes of five kinds."""
    owner.post(f"{path}/attributes", json={"name": "level", "type": "NUMBER", "rule": "once"}).raise_for_status()
    owner.patch(f"{path}/attributes/level", json={"hidden": True}).raise_for_status()
    owner.patch(f"{path}/attributes/level", json={"hidden": False}).raise_for_status()
    owner.post(f"{path}/users", json={"cuid": 7, "identifiers": {}}).raise_for_status()
    owner.delete(f"{path}/users/7").raise_for_status()
    owner.patch(path, json={"name": "Renamed"}).raise_for_status()


# the API


def test_an_entry_tells_who_did_what_to_what_and_by_which_request(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    owner.post(f"{path}/attributes", json={"name": "level", "type": "NUMBER", "rule": "once"}).raise_for_status()
    sent = {"X-Request-Id": "request-of-the-test"}
    owner.patch(f"{path}/attributes/level", json={"hidden": True}, headers=sent).raise_for_status()
    edited, declared, created = entries(owner, path)
    assert (created["number"], created["actor"], created["kind"]) == (1, "admin-token", "create project")
    assert (declared["number"], declared["actor"], declared["after"]) == (
        2,
        "key:default",
        {"type": "NUMBER", "rule": "once"},
    )
    at = edited.pop("at")
    assert at.endswith("Z")
    assert at >= declared["at"]
    assert edited == {
        "number": 3,
        "actor": "key:default",
        "kind": "edit attribute",
        "subject": "level",
        "before": {"hidden": False},
        "after": {"hidden": True},
        "what": "edit attribute level: hidden false → true",
        "request_id": "request-of-the-test",
        "address": "127.0.0.1",
    }


def test_entries_are_filtered(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    do_something(owner, path)

    def kinds(**query: Any) -> list[str]:
        return [entry["kind"] for entry in entries(owner, path, **query)]

    assert kinds(kind=["erase user", "add user"]) == ["erase user", "add user"]
    assert kinds(subject="7") == ["erase user", "add user"]
    assert kinds(actor="admin-token") == ["create project"]
    assert kinds(actor="key:default", kind="edit project") == ["edit project"]
    assert kinds(**{"from": "2000-01-01", "to": "2001-01-01"}) == []
    assert len(kinds(**{"from": "2000-01-01T00:00:00+08:00"})) == 7
    moments = [entry["at"] for entry in entries(owner, path)]
    assert len(kinds(**{"from": moments[2]})) == sum(at >= moments[2] for at in moments)
    assert len(kinds(to=moments[2])) == sum(at < moments[2] for at in moments)


def test_pages_go_back_in_time_and_a_follower_goes_on(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    do_something(owner, path)
    first = owner.get(f"{path}/audit", params={"limit": 4}).json()
    assert [entry["number"] for entry in first["entries"]] == [7, 6, 5, 4]
    second = owner.get(f"{path}/audit", params={"limit": 4, "before": first["next"]}).json()
    assert ([entry["number"] for entry in second["entries"]], second["next"]) == ([3, 2, 1], None)
    followed = owner.get(f"{path}/audit", params={"limit": 5, "after": 0}).json()
    assert ([entry["number"] for entry in followed["entries"]], followed["next"]) == ([1, 2, 3, 4, 5], 5)
    rest = owner.get(f"{path}/audit", params={"limit": 5, "after": 5}).json()
    assert ([entry["number"] for entry in rest["entries"]], rest["next"]) == ([6, 7], None)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"from": "yesterday"}, 422),
        ({"to": "2026-13-01"}, 422),
        ({"from": "2026-11-30 12:00"}, 422),
        ({"limit": "1001"}, 400),
        ({"limit": "0"}, 400),
        ({"before": "0"}, 400),
        ({"after": "-1"}, 400),
        ({"who": "admin"}, 400),
        ({"actor": "default"}, 422),
    ],
)
def test_what_is_wrong_with_a_query_is_said(project: tuple[str, httpx.Client], query: dict[str, str], status: int) -> None:
    path, owner = project
    answer = owner.get(f"{path}/audit", params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, "parameter")
    assert f"[{next(iter(query))}]" in answer.json()["detail"]


def test_a_project_sees_its_own_log_and_only_the_admin_that_of_the_installation(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    other, _ = server.new_project()
    assert owner.get(f"{other}/audit").status_code == 404
    assert owner.get("/api/v1/audit").status_code == 401
    assert server.anyone.get(f"{path}/audit").status_code == 401
    assert server.anyone.get("/api/v1/audit").status_code == 401
    created = entries(server.admin, "/api/v1", kind="create project")
    assert {entry["subject"] for entry in created} >= {path.rpartition("/")[2], other.rpartition("/")[2]}


def test_addresses_are_for_those_who_manage_keys(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    made = owner.post(f"{path}/keys", json={"name": "reports", "scopes": ["read"]})
    reader = server.caller(path.rpartition("/")[2], made.json()["secret"])
    newest, *_ = entries(reader, path)
    assert (newest["kind"], newest["subject"], newest["address"]) == ("create key", "reports", "")
    assert entries(owner, path)[0] == {**newest, "address": "127.0.0.1"}


def test_no_request_changes_or_deletes_an_entry(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    before = entries(owner, path)
    for log in (f"{path}/audit", "/api/v1/audit"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = server.admin.request(method, log, json={})
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert entries(owner, path) == before


def test_the_changes_of_a_project_are_the_changes_of_its_settings_and_schema(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    do_something(owner, path)
    found = owner.get(f"{path}/changes").json()["changes"]
    assert [change["what"] for change in found] == [
        'edit project: name "test" → "Renamed"',
        "edit attribute level: hidden true → false",
        "edit attribute level: hidden false → true",
        "declare attribute level: NUMBER once",
        "create project",
    ]


def test_what_is_done_at_once_is_one_change_and_an_entry_each(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    attributes = [{"name": name, "type": "STRING", "rule": "once"} for name in ("a", "b")]
    owner.put(f"{path}/schema", json={"attributes": attributes, "identifiers": []}).raise_for_status()
    newest = owner.get(f"{path}/changes", params={"limit": 1}).json()["changes"]
    assert [change["what"] for change in newest] == ["declare attribute a: STRING once; declare attribute b: STRING once"]
    assert [entry["subject"] for entry in entries(owner, path, limit=2)] == ["b", "a"]


# sign-ins


def test_sign_ins_and_refused_ones_are_in_the_log_of_the_installation(tmp_path: Path) -> None:
    with native_server(tmp_path) as server:
        with FormBrowser(base_url=server.url, timeout=30) as browser:
            browser.page("/console/sign-in")
            # Not a valid request ID, so it is not stored.
            browser.headers["X-Request-Id"] = "x" * 5000
            for _ in range(3):
                assert browser.submit("/console/sign-in", token="wrong").status_code == 403
            browser.sign_in()
        kinds = ["sign in", "refuse sign-in"]
        signed_in, refused = entries(server.admin, "/api/v1", kind=kinds)
        assert (signed_in["actor"], signed_in["subject"], signed_in["address"]) == (
            "admin-token",
            "admin-token",
            "127.0.0.1",
        )
        assert (refused["actor"], refused["subject"], refused["after"]) == ("anonymous", "admin-token", {"count": 1})
        assert 0 < len(refused["request_id"]) <= 128
        assert "wrong" not in json.dumps(refused)
        server.process.stop()
        # Counts are recorded when the server stops.
        cli = CliRunner(f"sqlite:///{server.database}", {})
        assert cli.json("audit", "--kind", "refuse sign-in")["entries"][0]["after"] == {"count": 2}


# the command


def test_the_command_shows_the_log_of_a_project_or_of_the_installation(cli: CliRunner) -> None:
    cli.run("project", "create", "One", "--id", "one")
    cli.run("attribute", "create", "level", "--project", "one", "--type", "NUMBER", "--rule", "once")
    cli.run("user", "create", "7", "--project", "one")
    cli.run("user", "erase", "7", "--project", "one", "--yes")
    assert [(e["actor"], e["what"]) for e in cli.json("audit", "--project", "one")["entries"]] == [
        (ME, "erase user 7"),
        (ME, "add user 7"),
        (ME, "declare attribute level: NUMBER once"),
        (ME, "create project"),
    ]
    assert [e["what"] for e in cli.json("audit")["entries"]] == ["create project one"]
    shown = cli.out("audit", "--project", "one", "--kind", "erase user").splitlines()
    assert len(shown) == 2
    assert shown[1].endswith("erase user 7")
    assert cli.json("audit", "--project", "one", "--subject", "level", "--actor", ME)["entries"][0]["number"] == 2
    assert cli.json("audit", "--project", "one", "--to", "2000-01-01") == {"entries": [], "next": None}
    assert cli.refused("audit", "--from", "tomorrow").startswith("--from is invalid; expected a date such as 2027-01-31")
    assert cli.refused("audit", "--to", "2026-11-31") == (
        "--to is invalid; expected a day of 2026-11, 01 to 30, got [2026-11-31]"
    )
    assert "two" in cli.refused("audit", "--project", "two")


def test_an_actor_that_is_misspelt_is_refused_unless_an_older_version_recorded_it(cli: CliRunner) -> None:
    cli.run("project", "create", "One", "--id", "one")
    assert cli.json("audit", "--actor", "key:unknown")["entries"] == []
    for log in ((), ("--project", "one")):
        for malformed in ("deploy", "cli:", "os:deploy"):
            refused = cli.refused("audit", "--actor", malformed, *log)
            assert refused.startswith(
                "--actor is invalid; expected one of key:NAME, person:EMAIL, admin-token, cli:OS_USER,"
            )
            assert refused.endswith(f"got [{malformed}]")
    with closing(apsw.Connection(cli.url.removeprefix("sqlite:///"))) as db:
        db.execute("UPDATE audit SET actor = 'deploy'")
    for log in ((), ("--project", "one")):
        assert [e["actor"] for e in cli.json("audit", "--actor", "deploy", *log)["entries"]] == ["deploy"]
        # An entry by that name exists, so an empty page is the answer to the other conditions.
        assert cli.json("audit", "--actor", "deploy", "--to", "2000-01-01", *log)["entries"] == []


def test_the_command_reads_as_many_pages_as_it_takes(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.wire.native.queries.MAX_ENTRIES", 3)
    cli.run("project", "create", "One", "--id", "one")
    for cuid in range(1, 8):
        cli.run("user", "create", str(cuid), "--project", "one")

    def numbers(*options: str) -> tuple[list[int], int | None]:
        found = cli.json("audit", "--project", "one", *options)
        return [entry["number"] for entry in found["entries"]], found["next"]

    assert numbers() == ([8, 7, 6, 5, 4, 3, 2, 1], None)
    assert numbers("--limit", "5") == ([8, 7, 6, 5, 4], 4)
    assert numbers("--after", "0", "--limit", "7") == ([1, 2, 3, 4, 5, 6, 7], 7)
    assert numbers("--after", "7") == ([8], None)


def test_the_command_says_the_same_through_a_server(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    do_something(owner, path)
    id = path.rpartition("/")[2]
    store = CliRunner(f"sqlite:///{server.database}", {})
    remote = CliRunner("memory:", {"USERTABLE_ADMIN_TOKEN": TOKEN})
    remote.environment.pop("USERTABLE_STORE")
    cases: list[tuple[str, ...]] = [(), ("--project", id), ("--project", id, "--kind", "add user", "--limit", "2")]
    for options in cases:
        assert remote.json("audit", *options, "--url", server.url) == store.json("audit", *options)
    for wrong in (("audit", "--from", "x"), ("project", "changes", "nope")):
        told = remote.refused(*wrong, "--url", server.url).partition(" on ")[0]
        assert told == store.refused(*wrong).partition(" in ")[0]


@pytest.mark.parametrize("limit", ["0", "1001"])
def test_changes_have_one_limit_on_a_store_and_through_a_server(cli: CliRunner, server: NativeServer, limit: str) -> None:
    cli.run("project", "create", "One", "--id", "one")
    on_store = cli.misused("project", "changes", "one", "--limit", limit)
    remote = CliRunner("memory:", {"USERTABLE_ADMIN_TOKEN": TOKEN})
    assert remote.misused("project", "changes", "one", "--limit", limit, "--url", server.url) == on_store


# imports, backups, migrations


def test_an_import_is_two_entries_however_many_rows_it_has(cli: CliRunner, tmp_path: Path) -> None:
    cli.run("project", "create", "One", "--id", "one")
    cli.run("attribute", "create", "level", "--project", "one", "--type", "NUMBER", "--rule", "overwrite")
    rows = "".join(f"{cuid},{cuid}\n" for cuid in range(1, 31))
    (tmp_path / "users.csv").write_text(f"cuid,level\n{rows}31,none\n")
    cli.run("import", "users.csv", "--project", "one", "--register", "--batch", "10", "--dry-run", code=1)
    cli.run("import", "users.csv", "--project", "one", "--register", "--batch", "10", "--job", "crm", code=1)
    finished, begun, *_ = cli.json("audit", "--project", "one")["entries"]
    assert (begun["kind"], begun["subject"], begun["actor"]) == ("begin import", "crm", ME)
    assert begun["after"] == {"creates_users": True}
    assert (finished["kind"], finished["subject"], finished["actor"]) == ("finish import", "crm", ME)
    assert finished["after"] == {"rows": 31, "created": 30, "changed": 0, "unchanged": 0, "refused": 1}
    assert begun["number"] == 3


def test_a_restore_is_in_the_log_of_the_store_that_it_gives(cli: CliRunner, tmp_path: Path) -> None:
    cli.run("project", "create", "One", "--id", "one")
    copy = tmp_path / "copy.db"
    cli.run("backup", str(copy))
    # A backup changes nothing in the store.
    assert [entry["kind"] for entry in cli.json("audit")["entries"]] == ["create project"]
    cli.run("restore", str(copy), "--replace")
    restored, created = cli.json("audit")["entries"]
    assert (created["kind"], restored["kind"], restored["actor"]) == ("create project", "restore store", ME)
    assert restored["after"] == {"file": str(copy), "users": 0, "skipped_cuids": 1_000_000}


def test_a_store_is_restored_if_its_entry_cannot_be_made(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.run("project", "create", "One", "--id", "one")
    cli.run("backup", str(tmp_path / "copy.db"))
    monkeypatch.setattr("usertable.store.sqlite.transaction.SQLiteTransaction.record", _fail)
    told = cli.run("restore", str(tmp_path / "copy.db"), "--replace")
    assert "Warning: the store is restored, but the audit log has no entry for it: the disk is full" in told.stderr
    monkeypatch.undo()
    assert [entry["kind"] for entry in cli.json("audit")["entries"]] == ["create project"]


def _fail(*arguments: object) -> None:
    from usertable.domain.errors import StoreDown

    raise StoreDown("the disk is full")


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    file = tmp_path / "old.db"
    with closing(apsw.Connection(str(file))) as db:
        db.execute((STORES / "sqlite_4.sql").read_text())
    return file


def test_a_migration_is_recorded(old_store: Path) -> None:
    cli = CliRunner(f"sqlite:///{old_store}", {})
    newest = cli.json("migrate")["newest"]
    cli.run("migrate")
    (entry,) = cli.json("audit")["entries"]
    assert (entry["actor"], entry["kind"]) == (ME, "migrate store")
    assert (entry["before"], entry["after"]) == ({"version": 4}, {"version": newest})


def test_a_server_that_migrates_records_it(old_store: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{old_store}"
    for _ in range(2):
        assert ServerProcess(url, tmp_path).stop() == 0
    (entry,) = CliRunner(url, {}).json("audit")["entries"]
    assert (entry["actor"], entry["kind"]) == (str(context.actor()), "migrate store")


def test_a_backup_of_an_older_store_leaves_it_as_it_is(old_store: Path, tmp_path: Path) -> None:
    cli = CliRunner(f"sqlite:///{old_store}", {})
    before = old_store.read_bytes()
    assert cli.run("backup", str(tmp_path / "copy.db")).stderr == ""
    assert old_store.read_bytes() == before
