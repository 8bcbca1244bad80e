"""`usertable person`, on a store and through a server, and the routes of the native API behind it."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.cli_runner import CliRunner
from support.form_browser import FormBrowser, form_fields
from support.native_server import TOKEN, NativeServer, native_server

PASSWORD = "correct horse battery staple"
P = "100102"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return str(file)


@pytest.fixture(params=["store", "url"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CliRunner]:
    """Run the command on a new store with a project, directly or through its server."""
    if request.param == "store":
        runner = CliRunner(f"sqlite:///{tmp_path / 'store.db'}", {})
        runner.run("project", "create", "Shop", "--id", P)
        yield runner
        return
    with native_server(tmp_path) as server:
        shell: dict[str, str | None] = {"USERTABLE_ADMIN_TOKEN": TOKEN}
        through = Through("sqlite:////nowhere/store.db", shell, server.url)
        through.run("project", "create", "Shop", "--id", P)
        yield through


class Through(CliRunner):
    """Run commands through a server."""

    def __init__(self, url: str, environment: dict[str, str | None], server: str) -> None:
        super().__init__(url, environment)
        del self.environment["USERTABLE_STORE"]
        self.server = server

    def invoke(self, *arguments: str, stdin: str | bytes | None = None):  # type: ignore[no-untyped-def]
        return super().invoke(*arguments, "--url", self.server, stdin=stdin)


def test_people_are_created_listed_edited_and_removed(runner: CliRunner, password_file: str) -> None:
    file = ("--password-file", password_file)
    assert runner.out("person", "create", "Ann@example.com", "--name", "Ann", "--admin", *file) == (
        "person Ann@example.com: created\n"
    )
    runner.run("person", "create", "bob@example.com", "--role", f"{P}=editor", *file)
    ann, bob = runner.json("person", "list")["people"]
    assert (ann["email"], ann["admin"], ann["state"], ann["roles"], ann["last_sign_in_at"]) == (
        *("Ann@example.com", True, "active", {}, None),
    )
    by = "admin-token" if isinstance(runner, Through) else f"cli:{getpass.getuser()}"
    assert (bob["roles"], bob["created_by"]) == ({P: "editor"}, by)
    assert "password" not in ann
    table = runner.out("person", "list")
    assert re.search(r"^Ann@example.com +Ann +active +admin *$", table, re.MULTILINE), table
    assert re.search(rf"^bob@example.com +active +{P}=editor *$", table, re.MULTILINE), table
    edited = runner.json("person", "edit", "BOB@example.com", "--name", "Bob", "--role", f"{P}=none", "--disable")
    assert (edited["name"], edited["roles"], edited["state"]) == ("Bob", {}, "disabled")
    assert runner.json("person", "edit", "bob@example.com", "--enable")["state"] == "active"
    assert runner.out("person", "sign-out", "bob@example.com") == "person bob@example.com: signed out of 0 sessions\n"
    assert runner.out("person", "remove", "bob@example.com") == "person bob@example.com: removed\n"
    assert [person["email"] for person in runner.json("person", "list")["people"]] == ["Ann@example.com"]


def test_what_is_wrong_is_said_clearly(runner: CliRunner, password_file: str, tmp_path: Path) -> None:
    file = ("--password-file", password_file)
    runner.run("person", "create", "ann@example.com", "--admin", *file)
    short = tmp_path / "short"
    short.write_text("short")
    for arguments, reason in (
        (("create", "ANN@example.com", *file), "ANN@example.com"),
        (("create", "nobody", "--invite"), "[nobody]"),
        (("create", "eve@example.com", "--password-file", str(short)), "at least 15 characters"),
        (("create", "eve@example.com", "--invite", "--role", f"{P}=chief"), "owner, editor, viewer"),
        (("create", "eve@example.com", "--invite", "--role", "none=owner"), "none"),
        (("edit", "ann@example.com", "--no-admin"), "one admin who can sign in must remain"),
        (("edit", "ann@example.com", "--disable"), "one admin who can sign in must remain"),
        (("remove", "ann@example.com"), "one admin who can sign in must remain"),
        (("edit", "eve@example.com", "--admin"), "[eve@example.com] does not exist"),
        (("invite", "eve@example.com"), "[eve@example.com] does not exist"),
        (("sign-out", "eve@example.com"), "[eve@example.com] does not exist"),
    ):
        assert reason in runner.refused("person", *arguments), arguments
    assert "--password-file FILE or --invite" in runner.misused("person", "create", "eve@example.com")
    assert "exclude each other" in runner.misused("person", "create", "eve@example.com", "--invite", *file)
    assert "nothing to change" in runner.misused("person", "edit", "ann@example.com")
    assert len(runner.json("person", "list")["people"]) == 1


def test_a_link_is_replaced_by_the_next_one(runner: CliRunner) -> None:
    shown = runner.out("person", "create", "new@example.com", "--invite")
    first = re.search(r"^link +(\S+)/console/password\?link=(\S+)$", shown, re.MULTILINE)
    assert first is not None, shown
    assert first[1] == (runner.server if isinstance(runner, Through) else "http://127.0.0.1:8000")
    second = runner.json("person", "invite", "new@example.com")
    assert second["link"] != f"{first[1]}/console/password?link={first[2]}"
    assert second["link"].startswith(f"{first[1]}/console/password?link=")
    if isinstance(runner, Through):
        with FormBrowser(base_url=runner.server, timeout=30) as browser:
            assert browser.page(first[0].split()[1]).status_code == 403
            page = browser.page(second["link"])
            answer = browser.submit("/console/password", link=form_fields(page)["link"], password=PASSWORD)
            assert answer.status_code == 303
            assert runner.out("person", "sign-out", "new@example.com").endswith("signed out of 1 session\n")
            assert browser.get("/console/projects").status_code == 303


def test_the_password_is_asked_for_twice_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner(f"sqlite:///{tmp_path / 'store.db'}", {})
    monkeypatch.setattr("usertable.cli.people._has_terminal", lambda: True)
    typed = f"{PASSWORD}\nanother\n{PASSWORD}\n{PASSWORD}\n"
    result = runner.run("person", "create", "ann@example.com", "--admin", stdin=typed)
    assert "do not match" in result.output
    assert PASSWORD not in result.output
    assert runner.json("person", "list")["people"][0]["state"] == "active"


def test_the_routes_are_the_admins_only(server: NativeServer) -> None:
    path, owner = server.new_project()
    with owner, httpx.Client(base_url=server.url) as nobody, httpx.Client(base_url=server.url) as admin:
        admin.headers["Authorization"] = f"Bearer {TOKEN}"
        added = admin.post("/api/v1/people", json={"email": "a+b%c@example.com", "roles": {path.split("/")[-1]: "owner"}})
        assert (added.status_code, added.headers["location"]) == (201, "/api/v1/people/a%2Bb%25c@example.com")
        assert admin.get(added.headers["location"]).json()["email"] == "a+b%c@example.com"
        for method, rest in (
            *(("GET", ""), ("POST", ""), ("GET", "/ann@example.com"), ("PATCH", "/ann@example.com")),
            *(("DELETE", "/ann@example.com"), ("POST", "/ann@example.com:link"), ("POST", "/ann@example.com:sign-out")),
        ):
            for caller in (nobody, owner):
                assert caller.request(method, f"{server.url}/api/v1/people{rest}", json={}).status_code in (401, 403)
        assert admin.post("/api/v1/people", json={"email": "x@example.com", "roles": {"none": "owner"}}).status_code == 404
        assert admin.post("/api/v1/people", json={"email": "x@example.com", "unknown": 1}).status_code == 400
        assert admin.patch("/api/v1/people/nobody@example.com", json={"name": "x"}).status_code == 404
