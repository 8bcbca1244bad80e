"""Keys of a project as callers have them: over HTTP, on the command line, and on several servers at once."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.actors import TESTER
from support.cli_runner import CliRunner
from support.commands import edit_project
from support.form_browser import FormBrowser
from support.manual_clock import ManualClock
from support.native_server import TOKEN, NativeCallers, NativeServer, native_server, serving_by
from support.server_process import ATTRIBUTE, GENERATED_SECRET, PROJECT, REGISTER, SECRET, ServerProcess, create_project
from support.waiting import wait_until
from usertable.app.secrets import public_id
from usertable.app.service import Service
from usertable.console.views.keys import KEYS
from usertable.domain.key import Key, Proof
from usertable.domain.permissions import ALL_SCOPES, PROJECT_SCOPES, Scope, ordered
from usertable.http.openapi import Operation
from usertable.http.operations import OPERATIONS
from usertable.store import open_store

EVERY_SCOPE = ordered(PROJECT_SCOPES)
OF_PROJECTS = [operation for operation in OPERATIONS if operation.access == "project"]
CUID = 10362473


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def project(server: NativeServer) -> tuple[str, httpx.Client]:
    return declared_project(server)


def declared_project(server: NativeCallers) -> tuple[str, httpx.Client]:
    """Return path and client of a new project with some attributes, an identifier and a user."""
    path, owner = server.new_project()
    for name in ("level", "city"):
        body = {"name": name, "type": "STRING", "rule": "overwrite"}
        owner.post(f"{path}/attributes", json=body).raise_for_status()
    owner.post(f"{path}/identifiers", json={"name": "phone"}).raise_for_status()
    owner.post(f"{path}/users", json={"cuid": CUID}).raise_for_status()
    return path, owner


def create(owner: httpx.Client, path: str, name: str, *scopes: str, **settings: Any) -> dict[str, Any]:
    answer = owner.post(f"{path}/keys", json={"name": name, **({"scopes": scopes} if scopes else {}), **settings})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{path}/keys/{name}"
    return made


def caller(server: NativeServer, owner: httpx.Client, path: str, name: str, *scopes: str) -> httpx.Client:
    """Return a client with a new key."""
    return server.caller(path.rpartition("/")[2], create(owner, path, name, *scopes)["secret"])


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    told = answer.json()
    return answer.status_code, told["code"], told["detail"]


def ask(client: httpx.Client, operation: Operation, path: str) -> httpx.Response:
    """Send a request of that operation that changes nothing if it is allowed."""
    target = operation.path.replace("{project}", path.rpartition("/")[2]).format(name="no_such", cuid=7)
    return client.request(operation.method, target, json={"nothing": 1} if operation.body else None)


@pytest.mark.parametrize("scope", EVERY_SCOPE)
def test_a_key_may_do_what_its_scope_is_for_and_nothing_else(
    server: NativeServer, project: tuple[str, httpx.Client], scope: Scope
) -> None:
    path, owner = project
    client = caller(server, owner, path, "one", scope)
    for operation in OF_PROJECTS:
        answer = ask(client, operation, path)
        if scope in operation.needs:
            assert answer.status_code not in (401, 403), (operation.id, answer.text)
        else:
            status, code, detail = problem(answer)
            assert (status, code) == (403, "forbidden"), operation.id
            assert "the key one " in detail
            assert " / ".join(ordered(operation.needs)) in detail


def test_a_key_that_may_not_read_learns_nothing_that_others_stored(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    owner.post(f"{path}/attributes", json={"name": "spent", "type": "NUMBER", "rule": "accumulate"}).raise_for_status()
    stored = {"level": "gold", "city": "Ulm", "spent": 7654321}
    put = {"cuid": CUID, "data": {"city": "Bonn"}}
    long = {"Prefer": "return=representation", "Idempotency-Key": "one"}
    owner.put(ATTRIBUTE, json={"cuid": CUID, "data": stored}).raise_for_status()
    assert owner.put(ATTRIBUTE, json=put, headers=long).json()["data"]["user"]["attributes"]["level"] == "gold"
    client = caller(server, owner, path, "one", "write", "register", "import")
    too_much = {"cuid": CUID, "data": {"spent": 1e300}}
    refusing = {"on_unknown": "refuse", "records": [too_much]}
    importing = {"on_unknown": "import", "records": [{**too_much, "identifiers": {}}]}
    for answer, status in (
        (client.put(ATTRIBUTE, json=put, headers=long), 200),
        (client.put(ATTRIBUTE, json=put, headers={"Prefer": "return=representation"}), 200),
        (client.put(ATTRIBUTE, json=put, params={"dryRun": "1"}), 200),
        (client.put(ATTRIBUTE, json=too_much), 400),
        (client.put(ATTRIBUTE, json=too_much, headers={"Prefer": "return=representation"}), 400),
        (client.post(f"{path}/users:batch", json=refusing), 200),
        (client.post(f"{path}/users:batch", json=importing), 200),
    ):
        assert answer.status_code == status, answer.text
        assert "gold" not in answer.text
        assert "7654321" not in answer.text
    data = client.put(ATTRIBUTE, json=put, params={"dryRun": "1"}).json()["data"]
    assert (data["user"], data["outcomes"]) == (None, {"city": "unchanged"})


def test_every_route_of_a_project_is_classified() -> None:
    assert {operation.access for operation in OPERATIONS} == {"admin", "project", "public"}
    writes = [operation for operation in OF_PROJECTS if operation.method != "GET"]
    assert writes
    for operation in writes:
        # What changes something is for no key that only reads.
        assert Scope.READ not in operation.needs, operation.id
    for operation in OF_PROJECTS:
        assert operation.needs <= PROJECT_SCOPES, operation.id


def test_the_platforms_endpoints_name_the_scope_that_is_missing(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    put = {"cuid": CUID, "data": {"level": "gold"}}
    register = {"identityName": "phone", "identityValues": ["1"]}
    writes, registers = (caller(server, owner, path, scope, scope) for scope in ("write", "register"))
    assert writes.put(ATTRIBUTE, json=put).json() == {"code": 0, "msg": "ok"}
    # A known caller too, on the fast way.
    assert writes.put(ATTRIBUTE, json=put).json() == {"code": 0, "msg": "ok"}
    assert registers.post(REGISTER, json=register).json()["code"] == 0
    for _ in range(2):
        answer = registers.put(ATTRIBUTE, json=put)
        assert (answer.status_code, answer.json()) == (
            403,
            {"code": 4009, "msg": "无权限：访问密钥 register 缺少权限 write"},
        )
        assert "www-authenticate" not in answer.headers
    answer = writes.post(REGISTER, json=register, headers={"Accept-Language": "en"})
    assert (answer.status_code, answer.json()) == (
        403,
        {"code": 4009, "msg": "the key write is not permitted to do this; it lacks the scope register"},
    )


@pytest.mark.parametrize(
    ("scopes", "on_unknown", "status"),
    [
        (["write"], None, 200),
        (["write"], "register", 403),
        (["write", "register"], "register", 200),
        (["write", "register"], "import", 403),
        (["import"], None, 200),
        (["import"], "register", 200),
        (["import"], "import", 200),
        (["read"], None, 403),
    ],
)
def test_a_batch_needs_the_scopes_of_what_it_does(
    server: NativeServer, project: tuple[str, httpx.Client], scopes: list[str], on_unknown: str | None, status: int
) -> None:
    path, owner = project
    client = caller(server, owner, path, "one", *scopes)
    record: dict[str, Any] = {"cuid": CUID, "data": {"level": "gold"}}
    if on_unknown == "register":
        record = {"identity": {"name": "phone", "value": "2"}, "data": {"level": "gold"}}
    if on_unknown == "import":
        record = {"cuid": 5, "identifiers": {"phone": "3"}, "data": {"level": "gold"}}
    batch = {"records": [record], **({"on_unknown": on_unknown} if on_unknown else {})}
    answer = client.post(f"{path}/users:batch", json=batch)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["done"] == 1, answer.text
    else:
        assert answer.json()["code"] == "forbidden"


def test_a_key_from_its_making_to_its_end(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    made = create(owner, path, "billing", "read", "write", expires_at="2099-01-31")
    assert public_id(made["secret"]) == made["public_id"]
    # Midnight in the project's zone, Asia/Shanghai.
    assert made["expires_at"] == "2099-01-30T16:00:00.000Z"
    assert made["scopes"] == ["write", "read"]
    assert (made["state"], made["created_by"], made["last_used_at"]) == ("active", "key:default", None)
    shown = owner.get(f"{path}/keys/billing").json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    listed = owner.get(f"{path}/keys").json()["keys"]
    assert [key["name"] for key in listed] == ["default", "billing"]
    assert "secret" not in listed[0]
    client = server.caller(path.rpartition("/")[2], made["secret"])
    assert client.get(f"{path}/users/{CUID}").status_code == 200
    revoked = owner.post(f"{path}/keys/billing:revoke")
    assert (revoked.status_code, revoked.json()["state"], revoked.json()["revoked_by"]) == (200, "revoked", "key:default")
    # The server that was asked knows it at once.
    assert client.get(f"{path}/users/{CUID}").status_code == 401
    # That it was used is noted a moment later.
    again = owner.post(f"{path}/keys/billing:revoke").json()
    assert {**again, "last_used_at": None} == {**revoked.json(), "last_used_at": None}


@pytest.mark.parametrize(
    ("body", "status", "code", "english", "chinese"),
    [
        ({"name": "a b"}, 422, "key_name", "key name [a b] is invalid", "访问密钥名称[a b]无效"),
        ({"name": "x", "scopes": ["fly"]}, 422, "scope", "scope [fly] does not exist; expected at least", "权限[fly]不存在"),
        ({"name": "x", "scopes": ["installation"]}, 422, "scope", "scope [installation] does not exist", "不存在"),
        ({"name": "x", "scopes": []}, 422, "scope", "expected at least one of write, register", "至少提供一个"),
        ({"name": "x", "expires_at": "2020-01-01"}, 422, "key_expiry", "expire in the past", "必须晚于当前时间"),
        ({"name": "x", "expires_at": "soon"}, 422, "parameter", "a date such as 2027-01-31", "日期（如 2027-01-31）"),
        ({"name": "default"}, 409, "key_exists", "never reused", "已使用过"),
        ({"name": "x", "secret": "a b"}, 422, "secret", "visible ASCII", "可见 ASCII"),
    ],
)
def test_what_cannot_be_a_key_has_a_clear_answer_in_both_languages(
    project: tuple[str, httpx.Client], body: dict[str, Any], status: int, code: str, english: str, chinese: str
) -> None:
    path, owner = project
    answers = [owner.post(f"{path}/keys", json=body, headers={"Accept-Language": spoken}) for spoken in ("en", "zh")]
    for answer, told in zip(answers, (english, chinese), strict=True):
        assert problem(answer)[:2] == (status, code), answer.text
        assert told in answer.json()["detail"]


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-23:00", "9999-12-31T23:59:59Z", "9999-01-01T00:00:00Z"])
def test_a_key_has_no_end_that_cannot_be_shown_everywhere(project: tuple[str, httpx.Client], end: str) -> None:
    path, owner = project
    answer = owner.post(f"{path}/keys", json={"name": "x", "expires_at": end})
    assert problem(answer)[:2] == (422, "parameter"), answer.text
    # Otherwise the list of keys, and with it this one, could not be shown any more.
    assert [key["name"] for key in owner.get(f"{path}/keys").json()["keys"]] == ["default"]


def test_the_last_key_that_can_create_keys_needs_a_confirmation(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    answer = owner.post(f"{path}/keys/default:revoke")
    assert problem(answer)[:2] == (409, "last_key")
    assert '"confirm": true' in answer.json()["detail"]
    assert owner.get(path).status_code == 200
    assert owner.post(f"{path}/keys/default:revoke", json={"confirm": True}).status_code == 200
    assert owner.get(path).status_code == 401


def test_a_secret_is_compared_with_those_of_other_keys_only_for_a_key_that_could_be_created(
    project: tuple[str, httpx.Client],
) -> None:
    path, owner = project
    taken = {"name": "taken", "scopes": ["write"], "secret": "a-secret-of-its-own"}
    assert owner.post(f"{path}/keys", json=taken).status_code == 201
    for name, kind in (("!!", "key_name"), ("taken", "key_exists"), ("free", "key_secret")):
        answer = owner.post(f"{path}/keys", json={**taken, "name": name})
        assert kind in answer.text


def test_a_key_gives_no_more_than_it_has(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    keeper = caller(server, owner, path, "keeper", "keys", "read")
    answer = keeper.post(f"{path}/keys", json={"name": "more", "scopes": ["read", "erase", "write"]})
    assert problem(answer)[:2] == (403, "scope_exceeded")
    assert answer.json()["detail"].endswith("write, erase")
    assert problem(keeper.post(f"{path}/secret:rotate"))[:2] == (403, "scope_exceeded")
    assert create(keeper, path, "less", "read")["created_by"] == "key:keeper"


def test_a_secret_that_was_rotated_with_an_overlap_works_beside_the_new_one(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    rotated = owner.post(f"{path}/secret:rotate", json={"overlap_seconds": 600})
    assert rotated.status_code == 200
    left = datetime.fromisoformat(rotated.json()["previous_secret_until"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(minutes=10)
    assert owner.get(path).status_code == 200
    assert "previous_secret_until" not in owner.get(path).json()
    (listed,) = owner.get(f"{path}/keys").json()["keys"]
    shown = owner.get(f"{path}/keys/default").json()
    until = rotated.json()["previous_secret_until"]
    assert (listed["previous_secret_until"], shown["previous_secret_until"]) == (until, until)
    new = server.caller(path.rpartition("/")[2], rotated.json()["secret"])
    assert new.get(path).status_code == 200
    assert new.post(f"{path}/secret:rotate", json={"overlap_seconds": -1}).json()["code"] == "overlap"
    assert new.post(f"{path}/secret:rotate").status_code == 200
    assert [client.get(path).status_code for client in (owner, new)] == [401, 401]


def test_the_list_of_keys_no_longer_names_an_old_secret_whose_overlap_is_over() -> None:
    clock = ManualClock()
    with serving_by(clock) as server:
        path, owner = server.new_project()
        rotated = owner.post(f"{path}/secret:rotate", json={"overlap_seconds": 600}).json()
        new = server.caller(path.rpartition("/")[2], rotated["secret"])
        assert "previous_secret_until" in new.get(f"{path}/keys").json()["keys"][0]
        clock.advance(600)
        assert "previous_secret_until" not in new.get(f"{path}/keys").json()["keys"][0]


def test_a_key_is_gone_within_a_second_after_it_expired() -> None:
    clock = ManualClock()
    with serving_by(clock) as server:
        path, owner = declared_project(server)
        client = server.expiring_key(path, owner, "short", ["write"], clock.ms + 2000)
        body = {"cuid": CUID, "data": {"level": "gold"}}
        assert client.put(ATTRIBUTE, json=body).status_code == 200
        clock.advance(3)
        wait_until(lambda: client.put(ATTRIBUTE, json=body).status_code == 401)
        assert owner.get(f"{path}/keys/short").json()["state"] == "expired"


def test_it_is_recorded_and_shown_which_key_called_and_when(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    client = caller(server, owner, path, "shop", "write", "schema")
    minute = time.time() // 60 * 60
    body = {"cuid": CUID, "data": {"level": "gold"}}
    for wrong in (False, True):
        sent = {**body, "data": {"no_such": 1}} if wrong else body
        assert client.put(ATTRIBUTE, json=sent).status_code == (400 if wrong else 200)
    batch = {"records": [body, {**body, "data": {"no_such": 1}}]}
    assert client.post(f"{path}/users:batch", json=batch).status_code == 200
    client.post(f"{path}/attributes", json={"name": "more", "type": "BOOL", "rule": "once"}).raise_for_status()
    assert owner.get(f"{path}/changes").json()["changes"][0]["actor"] == "key:shop"
    with contextlib.closing(open_store(f"sqlite:///{server.database}", create=False, migrate=False)) as store:
        service = Service(store)
        found = service.project(path.rpartition("/")[2])
        wait_until(lambda: len(service.arrivals(found)) == 4)
        assert {arrival.key for _, arrival in service.arrivals(found)} == {"shop"}
        used = service.key(found, "shop").last_used
        assert used is not None
        assert minute * 1000 <= used <= time.time() * 1000
    assert owner.get(f"{path}/keys/shop").json()["last_used_at"] is not None


def test_a_project_keeps_its_settings_from_keys_that_only_write(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    client = caller(server, owner, path, "one", "write", "schema", "read")
    assert problem(client.patch(path, json={"name": "taken"}))[:2] == (403, "forbidden")
    # A limit stays the operator's.
    keeper = caller(server, owner, path, "keeper", "keys")
    assert problem(keeper.patch(path, json={"qps": 7}))[:2] == (401, "admin_only")
    assert keeper.patch(path, json={"name": "new"}).status_code == 200


def test_a_form_for_a_key_that_is_sent_twice_makes_one(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    console = f"/console/projects/{path.rpartition('/')[2]}"
    with FormBrowser(base_url=server.url, timeout=30) as browser:
        browser.sign_in()
        form = browser.page(f"{console}/new-key")
        for _ in range(2):
            browser.shown = form
            answer = browser.fill_in(f"{console}/new-key", name="once")
            assert answer.headers["location"] == f"{console}/new-secret"
            shown = GENERATED_SECRET.findall(browser.page(f"{console}/new-secret").text)[0]
            assert owner.get(f"{path}/keys/once").json()["public_id"] == public_id(shown)
        # A scope that there is not, as a changed page would send it.
        browser.shown = form
        answer = browser.submit(f"{console}/new-key", None, **{"name": "x", "scope-fly": "on"})
        assert answer.status_code == 422
    names = [key["name"] for key in owner.get(f"{path}/keys").json()["keys"]]
    assert names == ["default", "once"]


def test_the_settings_offer_to_rotate_the_projects_secret_until_it_is_revoked(
    server: NativeServer, project: tuple[str, httpx.Client]
) -> None:
    path, owner = project
    console = f"/console/projects/{path.rpartition('/')[2]}"
    with FormBrowser(base_url=server.url, timeout=30) as browser:
        browser.sign_in()
        assert f'href="{console}/secret"' in browser.page(f"{console}/settings").text
        assert owner.post(f"{path}/keys/default:revoke", json={"confirm": True}).status_code == 200
        shown = browser.page(f"{console}/settings").text
        assert f'href="{console}/secret"' not in shown
        assert f'href="{console}/new-key"' in shown


# many revoked keys

REVOKED = 5000


@pytest.fixture(scope="module")
def old_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, NativeServer]]:
    """Yield the URL of a store whose project has 5,000 revoked keys and one more than a page of others, and its server."""
    folder = tmp_path_factory.mktemp("old")
    url = f"sqlite:///{folder / 'usertable.db'}"
    create_project(url)
    revoked = [
        Key(f"job-{n:04}", frozenset({Scope.READ}), n, "tester", revoked_at=n, revoked_by="t") for n in range(REVOKED)
    ]
    current = [Key(f"key-{n:03}", frozenset({Scope.READ}), n, "tester", (Proof(b"", f"{n:08}"),)) for n in range(KEYS)]
    with contextlib.closing(open_store(url)) as store:
        edit_project(store, PROJECT, lambda project: replace(project, stored_keys=(*revoked, *current)), TESTER, 0)
    with native_server(folder) as server:
        yield url, server


def test_the_native_api_lists_many_revoked_keys_by_page(old_project: tuple[str, NativeServer]) -> None:
    _, server = old_project
    owner, path = server.caller(PROJECT, SECRET), f"/api/v1/projects/{PROJECT}/keys"
    page = owner.get(path).json()
    assert [key["name"] for key in page["keys"]] == ["default", *(f"key-{n:03}" for n in range(KEYS - 1))]
    names: list[str] = []
    query: dict[str, Any] = {"limit": 1000}
    while query:
        page = owner.get(path, params=query).json()
        names += [key["name"] for key in page["keys"]]
        query = {"limit": 1000, "after": page["next"]} if page["next"] else {}
    assert len(names) == len(set(names)) == REVOKED + KEYS + 1
    assert names[KEYS + 1 :: REVOKED - 1] == [f"job-{REVOKED - 1}", "job-0000"]
    assert owner.get(f"{path}/job-0000").json()["state"] == "revoked"
    assert owner.get(path, params={"after": "job-0000"}).status_code == 400


def test_the_command_lists_as_many_keys_as_asked_for(old_project: tuple[str, NativeServer]) -> None:
    url, server = old_project
    cli = CliRunner(url, {})
    shown = cli.run("key", "list")
    assert len(shown.stdout.splitlines()) == 101
    assert "use a larger --limit" in shown.stderr
    for to in ((), ("--url", server.url)):
        listed = CliRunner(url, {"USERTABLE_SECRET": SECRET}).json(
            "key", "list", "--limit", "9999", "--project", PROJECT, *to
        )
        assert (len(listed["keys"]), listed["next"]) == (REVOKED + KEYS + 1, None)
    assert "used before" in cli.refused("key", "create", "job-0000")


def test_the_console_lists_many_revoked_keys_by_page(old_project: tuple[str, NativeServer]) -> None:
    _, server = old_project
    with FormBrowser(base_url=server.url, timeout=30) as browser:
        browser.sign_in()
        page = browser.page(f"/console/projects/{PROJECT}/keys")
        assert (page.text.count("<tr "), "job-" in page.text, "First page" in page.text) == (KEYS, False, False)
        more = re.search(r'href="([^"]*after=[^"]*)">More keys', page.text)
        assert more
        page = browser.page(f"/console/projects/{PROJECT}/keys{more[1]}")
        assert f"key-{KEYS - 1:03}" in page.text
        assert f"job-{REVOKED - 1}" in page.text
        assert "First page" in page.text
        assert "is revoked" in browser.page(f"/console/projects/{PROJECT}/keys/job-0000/revoke").text.replace("already ", "")
        assert browser.page(f"/console/projects/{PROJECT}/keys?after=nonsense").status_code == 200


# the command line


def test_keys_on_the_command_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    cli = CliRunner(url, {})
    made = cli.json("key", "create", "billing", "--scope", "write", "--scope", "read", "--expires", "2099-01-31")
    assert made["scopes"] == ["write", "read"]
    assert made["created_by"].startswith("cli:")
    shown = cli.out("key", "create", "shop")
    assert "only once" in shown
    assert "write register" in shown
    assert public_id(next(word for word in shown.split() if word.startswith("ut_")))
    guessable = cli.run("key", "create", "old", "--secret", "hunter2")
    assert "could be guessed" in guessable.stderr
    assert "hunter2" in guessable.stdout
    lines = cli.out("key", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["name", "default", "billing", "shop", "old"]
    assert "revoked" in cli.out("key", "revoke", "billing")
    assert cli.json("key", "revoke", "billing")["state"] == "revoked"
    assert cli.refused("key", "create", "billing").startswith("key name [billing] was used before")
    assert "scope [fly] does not exist" in cli.refused("key", "create", "x", "--scope", "fly")
    assert "in the past" in cli.refused("key", "create", "x", "--expires", "2020-01-01")
    until = cli.json("project", "rotate-secret", PROJECT, "--overlap", "600")["previous_secret_until"]
    assert cli.run("key", "list").stderr == f"The old secret of default works until {until}.\n"
    cli.run("project", "rotate-secret", PROJECT)
    assert cli.run("key", "list").stderr == ""
    no_day = cli.refused("key", "create", "x", "--expires", "2099-02-30")
    assert no_day == "--expires is invalid; expected a day of 2099-02, 01 to 28, got [2099-02-30]"
    assert "--confirm" in cli.refused("key", "revoke", "default")
    assert cli.json("key", "revoke", "default", "--confirm")["state"] == "revoked"
    assert "is revoked" in cli.refused("project", "rotate-secret", PROJECT)


def test_keys_on_the_command_line_through_a_server(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, _ = project
    id = path.rpartition("/")[2]
    to = ("--url", server.url, "--project", id)
    admin = CliRunner("sqlite:////nowhere/no.db", {"USERTABLE_ADMIN_TOKEN": TOKEN})
    made = admin.json("key", "create", "keeper", "--scope", "keys", "--scope", "read", *to)
    keeper = CliRunner("sqlite:////nowhere/no.db", {"USERTABLE_SECRET": made["secret"]})
    assert keeper.json("key", "create", "reader", "--scope", "read", *to)["created_by"] == "key:keeper"
    assert "that the caller does not have" in keeper.refused("key", "create", "x", "--scope", "write", *to)
    assert [key["name"] for key in keeper.json("key", "list", *to)["keys"]] == ["default", "keeper", "reader"]
    assert keeper.json("key", "revoke", "keeper", *to)["state"] == "revoked"
    assert "does not know" in keeper.refused("key", "list", *to) or "reject" in keeper.refused("key", "list", *to)


def test_an_import_through_a_server_needs_the_scope_import_alone(
    server: NativeServer, project: tuple[str, httpx.Client], tmp_path: Path
) -> None:
    path, owner = project
    secret = create(owner, path, "importer", "import")["secret"]
    file = tmp_path / "users.csv"
    file.write_text("cuid,phone,level\n77,18012345678,gold\n")
    shell = CliRunner("sqlite:////nowhere/no.db", {"USERTABLE_SECRET": secret})
    to = ("--url", server.url, "--project", path.rpartition("/")[2], "--state", str(tmp_path / "state"))
    shell.run("import", str(file), "--register", *to)
    assert owner.get(f"{path}/users/77").json()["attributes"] == {"level": "gold"}


# several servers


def is_answered(client: httpx.Client, body: dict[str, object], status: int) -> bool:
    return client.put(ATTRIBUTE, json=body).status_code == status


def test_a_revoked_key_stops_within_a_second_on_every_worker_and_server(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1)
    body = {"cuid": cuid, "data": {"user_string_overwrite": "a"}}
    servers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        servers.append(ServerProcess(shared_url, tmp_path / name, workers="2"))
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(contextlib.closing(open_store(shared_url)))
        for server in servers:
            stack.callback(server.stop)
        service = Service(store)
        secrets = {
            name: service.create_key(PROJECT, name, [Scope.WRITE], granted=ALL_SCOPES, actor=TESTER)[1]
            for name in ("goes", "stays")
        }
        # Connections of their own, so that every worker has some, kept open.
        clients = [
            (name, stack.enter_context(httpx.Client(base_url=server.url, auth=(PROJECT, secret), timeout=30)))
            for server in servers
            for _ in range(8)
            for name, secret in secrets.items()
        ]
        for _, client in clients:
            wait_until(partial(is_answered, client, body, 200))
        service.revoke_key(PROJECT, "goes", actor=TESTER)
        revoked = time.monotonic()
        # When those requests were sent that were let in still.
        taken = [revoked]
        for client in [client for name, client in clients if name == "goes"]:
            sent = time.monotonic()
            while is_answered(client, body, 200):
                taken.append(sent)
                sent = time.monotonic()
            assert is_answered(client, body, 401)
        assert max(taken) - revoked < 1
        for name, client in clients:
            assert client.put(ATTRIBUTE, json=body).status_code == (401 if name == "goes" else 200)


def test_the_secret_that_a_project_had_before_there_were_keys_still_calls(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path)
    try:
        with httpx.Client(base_url=server.url, auth=(PROJECT, SECRET), timeout=30) as client:
            body = {"cuid": cuid, "data": {"user_string_overwrite": "a"}}
            assert client.put(ATTRIBUTE, json=body).status_code == 200
            (key,) = client.get(f"/api/v1/projects/{PROJECT}/keys").json()["keys"]
            assert (key["name"], key["scopes"]) == ("default", [str(scope) for scope in EVERY_SCOPE])
    finally:
        assert server.stop() == 0
