"""Who may do what: every route of a server, asked by everybody.

The tables say what each route takes. They are written down here a second time on purpose, not read from the routes: whoever
changes who may use a route has to change both. A route that no table has fails the first test.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.routing import Router

from support.actors import TESTER
from support.form_browser import TOKEN, FormBrowser
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable.app.clock import now_ms
from usertable.app.service import Service
from usertable.config import Config
from usertable.console.app import PAGES, console_app
from usertable.dialects.jiguang.dialect import JIGUANG
from usertable.domain.permissions import ALL_SCOPES, PROJECT_SCOPES, Scope
from usertable.http.app import App
from usertable.http.connections import Connections
from usertable.http.metrics import METRICS_PATH
from usertable.http.native import native_app
from usertable.http.openapi import LIVE_PATH
from usertable.http.operations import OPERATIONS
from usertable.http.proxies import TrustedProxies
from usertable.store import open_store

PASSWORD = "correct horse battery staple"
METRICS_TOKEN = "a-token-for-the-metrics-only"
OTHER = "other"

PUBLIC, SIGNED_IN, ADMIN = "public", "signed in", "installation"
ANY = " ".join(sorted(PROJECT_SCOPES))
"""What every key may do, whatever it is for."""
P = "/api/v1/projects/{project}"
API: Mapping[str, str] = {
    "GET /api/v1/projects": ADMIN,
    "POST /api/v1/projects": ADMIN,
    "GET /api/v1/audit": ADMIN,
    "GET /api/v1/people": ADMIN,
    "POST /api/v1/people": ADMIN,
    "GET /api/v1/people/{email}": ADMIN,
    "PATCH /api/v1/people/{email}": ADMIN,
    "DELETE /api/v1/people/{email}": ADMIN,
    "POST /api/v1/people/{email}:sign-out": ADMIN,
    "POST /api/v1/people/{email}:link": ADMIN,
    f"GET {P}": ANY,
    f"PATCH {P}": "keys",
    f"POST {P}/secret:rotate": "keys",
    f"GET {P}/keys": "keys",
    f"POST {P}/keys": "keys",
    f"GET {P}/keys/{{name}}": "keys",
    f"POST {P}/keys/{{name}}:revoke": "keys",
    f"GET {P}/changes": "read",
    f"GET {P}/audit": "read",
    f"GET {P}/history": "read",
    f"PATCH {P}/history": "keys",
    f"POST {P}/history:prune": "keys",
    f"GET {P}/attributes": ANY,
    f"POST {P}/attributes": "schema",
    f"GET {P}/attributes/{{name}}": ANY,
    f"PATCH {P}/attributes/{{name}}": "schema",
    f"DELETE {P}/attributes/{{name}}": "schema",
    f"GET {P}/identifiers": ANY,
    f"POST {P}/identifiers": "schema",
    f"PUT {P}/identifiers:order": "schema",
    f"GET {P}/identifiers/{{name}}": ANY,
    f"PATCH {P}/identifiers/{{name}}": "schema",
    f"DELETE {P}/identifiers/{{name}}": "schema",
    f"GET {P}/schema": ANY,
    f"PUT {P}/schema": "schema",
    f"GET {P}/users": "read",
    f"GET {P}/users:export": "read",
    f"POST {P}/users": "import",
    f"POST {P}/users:register": "register",
    f"POST {P}/users:batch": "import write",
    f"GET {P}/users/{{cuid}}/changes": "read",
    f"GET {P}/users/{{cuid}}:diff": "read",
    f"GET {P}/users/{{cuid}}": "read",
    f"DELETE {P}/users/{{cuid}}": "erase",
    "GET /livez": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /version": PUBLIC,
    "GET /openapi.json": PUBLIC,
}
"""What a caller's key must be for, one of these scopes."""
PLATFORM: Mapping[str, str] = {
    "PUT /smartop/api/v1/user/attribute": "write",
    "POST /smartop/api/v1/user/register": "register",
}
C = "/console/projects/{project}"
CONSOLE: Mapping[str, str] = {
    "GET /": PUBLIC,
    "GET /favicon.ico": PUBLIC,
    "GET /console/static/{name}": PUBLIC,
    "GET /console": SIGNED_IN,
    "GET /console/": PUBLIC,
    "GET /console/sign-in": PUBLIC,
    "POST /console/sign-in": PUBLIC,
    "POST /console/sign-in/link": PUBLIC,
    "POST /console/sign-in/new-link": PUBLIC,
    "GET /console/sign-in/openid": PUBLIC,
    "GET /console/sign-in/openid/callback": PUBLIC,
    "GET /console/sign-in/openid/sign-out": PUBLIC,
    "POST /console/sign-out": SIGNED_IN,
    "POST /console/preferences": PUBLIC,
    "GET /console/password": PUBLIC,
    "POST /console/password": PUBLIC,
    "GET /console/first-person": ADMIN,
    "POST /console/first-person": ADMIN,
    "GET /console/account": SIGNED_IN,
    "POST /console/account": SIGNED_IN,
    "POST /console/account/password": SIGNED_IN,
    "POST /console/account/sessions/{session}/end": SIGNED_IN,
    "POST /console/account/sign-out-others": SIGNED_IN,
    "GET /console/people": ADMIN,
    "GET /console/new-person": ADMIN,
    "POST /console/new-person": ADMIN,
    "GET /console/people/{person}": ADMIN,
    "POST /console/people/{person}": ADMIN,
    "POST /console/people/{person}/role": ADMIN,
    "POST /console/people/{person}/disabled": ADMIN,
    "POST /console/people/{person}/sign-out": ADMIN,
    "POST /console/people/{person}/new-link": ADMIN,
    "GET /console/people/{person}/link": ADMIN,
    "GET /console/people/{person}/remove": ADMIN,
    "POST /console/people/{person}/remove": ADMIN,
    "GET /console/projects": SIGNED_IN,
    "GET /console/new-project": ADMIN,
    "POST /console/new-project": ADMIN,
    "GET /console/audit": ADMIN,
    f"GET {C}": "read",
    f"GET {C}/settings": "keys",
    f"POST {C}/settings": "keys",
    f"GET {C}/secret": "keys",
    f"POST {C}/secret": "keys",
    f"GET {C}/new-secret": "keys",
    f"GET {C}/attributes": "read",
    f"GET {C}/new-attribute": "schema",
    f"POST {C}/new-attribute": "schema",
    f"GET {C}/attributes/{{name}}": "read",
    f"GET {C}/attributes/{{name}}/live": "read",
    f"GET {C}/attributes/{{name}}/edit": "schema",
    f"POST {C}/attributes/{{name}}/edit": "schema",
    f"POST {C}/attributes/{{name}}/status": "schema",
    f"GET {C}/attributes/{{name}}/history": "schema",
    f"POST {C}/attributes/{{name}}/history": "schema",
    f"GET {C}/attributes/{{name}}/delete": "schema",
    f"POST {C}/attributes/{{name}}/delete": "schema",
    f"GET {C}/fill/live": "read",
    f"GET {C}/identifiers": "read",
    f"POST {C}/identifiers": "schema",
    f"GET {C}/new-identifier": "schema",
    f"POST {C}/new-identifier": "schema",
    f"GET {C}/identifiers/{{name}}/edit": "schema",
    f"POST {C}/identifiers/{{name}}/edit": "schema",
    f"GET {C}/identifiers/{{name}}/delete": "schema",
    f"POST {C}/identifiers/{{name}}/delete": "schema",
    f"GET {C}/keys": "keys",
    f"GET {C}/new-key": "keys",
    f"POST {C}/new-key": "keys",
    f"GET {C}/keys/{{name}}/revoke": "keys",
    f"POST {C}/keys/{{name}}/revoke": "keys",
    f"GET {C}/members": "read",
    f"POST {C}/members": "keys",
    f"GET {C}/audit": "read",
    f"GET {C}/changes": "read",
    f"GET {C}/users": "read",
    f"GET {C}/users/live": "read",
    f"GET {C}/users/csv": "read",
    f"GET {C}/users/find": "read",
    f"GET {C}/users/{{cuid}}": "read",
    f"GET {C}/users/{{cuid}}/history": "read",
    f"GET {C}/users/{{cuid}}/as-of": "read",
    f"GET {C}/users/{{cuid}}/compare": "read",
    f"GET {C}/users/{{cuid}}/erase": "erase",
    f"POST {C}/users/{{cuid}}/erase": "erase",
    f"GET {C}/history": "read",
    f"POST {C}/history": "keys",
    f"GET {C}/arrivals": "read",
    f"GET {C}/arrivals/live": "read",
    f"GET {C}/try": "write",
    f"POST {C}/try": "write",
}
"""What somebody must be allowed in the project, or in the installation."""
METRICS = f"GET {METRICS_PATH}"

ROLES: Mapping[str, str] = {
    "admin token": f"{ANY} {ADMIN}",
    "admin": f"{ANY} {ADMIN}",
    "owner": ANY,
    "editor": "read schema write register import",
    "viewer": "read",
    "of another project": "",
}
"""What people may do in the project and in the installation."""


def test_every_route_is_in_a_table() -> None:
    backends: Any = SimpleNamespace(config=Config())
    console, native = console_app(backends), native_app(backends)
    assert isinstance(console, Router)
    assert isinstance(native, Router)
    operations = {f"{operation.method} {operation.path}" for operation in OPERATIONS}
    pages = {f"{page.method} {page.path}" for page in PAGES}
    assert operations | {f"GET {LIVE_PATH}"} == set(API)
    assert {f"{route.method} {route.path}" for route in (JIGUANG.set, JIGUANG.register)} == set(PLATFORM)
    assert pages <= set(CONSOLE)
    # What is served beside the pages, by path.
    for served, table in ((console, CONSOLE), (native, API)):
        assert {route.path for route in served.routes} == {name.partition(" ")[2] for name in table}  # type: ignore[attr-defined]


def test_every_path_beside_the_api_and_the_console_is_in_a_table() -> None:
    config = Config(store="memory:", metrics_token=METRICS_TOKEN)
    store = open_store(config.store)
    app = App(store, config)

    async def paths() -> set[str]:
        connections = Connections(app, body_seconds=1, keep_alive_seconds=1, limit=1, proxies=TrustedProxies([]))
        async with app.running(connections):
            return app.paths

    with closing(store):
        assert asyncio.run(paths()) == {name.partition(" ")[2] for name in (*PLATFORM, METRICS)}


@dataclass
class Caller:
    """A caller of the API, and what it may do in the project."""

    client: httpx.Client
    scopes: frozenset[str] = frozenset()
    is_known: bool = False
    """Whether the credentials are valid."""
    project: str = PROJECT
    """Whose they are."""


@dataclass
class World:
    """A server with two projects, and all callers and people."""

    server: ServerProcess
    callers: dict[str, Caller]
    browsers: dict[str, FormBrowser]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("permissions")
    url = f"sqlite:///{folder / 'store.db'}"
    create_project(url, users=1)
    store = open_store(url)
    service = Service(store)
    service.create_project("Other", id=OTHER, secret=SECRET, qps=None, actor=TESTER)
    keys = made_keys(service, Service(store, clock=lambda: now_ms() - 86_400_000))
    people: dict[str, dict[str, Any]] = {
        "admin": {"admin": True},
        **{role: {"roles": {PROJECT: role}} for role in ("owner", "editor", "viewer")},
        "of another project": {"roles": {OTHER: "owner"}},
    }
    for name, roles in people.items():
        service.add_person(f"{name.replace(' ', '-')}@example.com", **roles, password=PASSWORD, actor=TESTER)
    store.close()
    server = ServerProcess(url, folder, admin_token=TOKEN, metrics_token=METRICS_TOKEN)
    with ExitStack() as clients:

        def client(**settings: Any) -> httpx.Client:
            return clients.enter_context(httpx.Client(base_url=server.url, timeout=30, **settings))

        def bearer(token: str) -> httpx.Client:
            return client(headers={"Authorization": f"Bearer {token}"})

        browsers = {}
        for name in ("admin token", *people, "nobody"):
            english = {"Accept-Language": "en"}
            browser = browsers[name] = clients.enter_context(FormBrowser(base_url=server.url, timeout=30, headers=english))
            if name == "admin token":
                browser.sign_in()
            elif name != "nobody":
                assert browser.sign_in_as(f"{name.replace(' ', '-')}@example.com", PASSWORD).status_code == 303
        callers = {
            "admin token": Caller(bearer(TOKEN), frozenset(ALL_SCOPES), True),
            "metrics token": Caller(bearer(METRICS_TOKEN)),
            "nobody": Caller(client()),
            "wrong secret": Caller(client(auth=(PROJECT, "wrong"))),
            "key of another project": Caller(client(auth=(OTHER, SECRET)), frozenset(PROJECT_SCOPES), True, OTHER),
            "revoked key": Caller(client(auth=(PROJECT, keys["revoked"]))),
            "expired key": Caller(client(auth=(PROJECT, keys["expired"]))),
            "key default": Caller(client(auth=(PROJECT, SECRET)), frozenset(PROJECT_SCOPES), True),
            **{
                f"key with {scope}": Caller(client(auth=(PROJECT, keys[scope])), frozenset({scope}), True)
                for scope in PROJECT_SCOPES
            },
            # A session is for the console only.
            **{f"session of {name}": Caller(client(cookies=browser.cookies)) for name, browser in browsers.items()},
        }
        yield World(server, callers, browsers)
    assert server.stop() == 0
    assert "Traceback" not in server.log


def made_keys(service: Service, yesterday: Service) -> dict[str, str]:
    """Create keys and return their secrets: one per scope, a revoked one, and one that expired an hour ago."""
    every = frozenset(ALL_SCOPES)

    def key(service: Service, name: str, *scopes: Scope, expires_at: int | None = None) -> str:
        return service.create_key(PROJECT, name, scopes, expires_at=expires_at, granted=every, actor=TESTER)[1]

    keys = {str(scope): key(service, f"only-{scope}", scope) for scope in PROJECT_SCOPES}
    keys["revoked"] = key(service, "revoked", *PROJECT_SCOPES)
    service.revoke_key(PROJECT, "revoked", actor=TESTER)
    keys["expired"] = key(yesterday, "expired", *PROJECT_SCOPES, expires_at=now_ms() - 3_600_000)
    return keys


def filled_in(path: str) -> str:
    """Return a path with an existing project and otherwise unknown names, so that no request changes anything."""
    path = path.replace("{project}", PROJECT).replace("{cuid}", "999")
    for variable in ("name", "person", "session", "email"):
        path = path.replace(f"{{{variable}}}", "nope")
    return path


def outcome(answer: httpx.Response) -> str:
    """Return `allowed` if the request reached the check of its body, otherwise the reason."""
    assert answer.status_code < 500, answer.text
    if answer.status_code == 404 and answer.json().get("code") == "project_unknown":
        return "hidden"
    return {401: "unknown caller", 403: "not allowed"}.get(answer.status_code, "allowed")


def ask(caller: Caller, route: str) -> str:
    method, _, path = route.partition(" ")
    # A body that is none: whoever may not do it is refused before it is looked at.
    body = {"content": b"[]", "headers": {"Content-Type": "application/json"}} if method in ("POST", "PUT", "PATCH") else {}
    with caller.client.stream(method, filled_in(path), **body) as answer:  # type: ignore[arg-type]
        answer.read()
        return outcome(answer)


def test_a_key_has_at_least_one_scope(world: World) -> None:
    answer = world.callers["admin token"].client.post(
        f"/api/v1/projects/{PROJECT}/keys", json={"name": "none", "scopes": []}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "scope")


@pytest.mark.parametrize("route", API)
def test_the_native_api_lets_in_whom_it_should(world: World, route: str) -> None:
    needs = API[route]

    def expected(caller: Caller) -> str:
        if needs == PUBLIC:
            return "allowed"
        if not caller.is_known:
            return "unknown caller"
        if needs == ADMIN:
            return "allowed" if ADMIN in caller.scopes else "unknown caller"
        if caller.project != PROJECT:
            return "hidden"
        return "allowed" if caller.scopes & set(needs.split()) else "not allowed"

    assert {name: ask(caller, route) for name, caller in world.callers.items()} == {
        name: expected(caller) for name, caller in world.callers.items()
    }


@pytest.mark.parametrize("route", PLATFORM)
def test_the_platforms_endpoints_let_in_whom_they_should(world: World, route: str) -> None:
    def expected(name: str, caller: Caller) -> str:
        # They take a project's credentials only.
        if not caller.is_known or name == "admin token":
            return "unknown caller"
        return "allowed" if PLATFORM[route] in caller.scopes else "not allowed"

    assert {name: ask(caller, route) for name, caller in world.callers.items()} == {
        name: expected(name, caller) for name, caller in world.callers.items()
    }


def test_the_metrics_are_for_their_own_token(world: World) -> None:
    statuses = {name: caller.client.get(METRICS_PATH).status_code for name, caller in world.callers.items()}
    assert statuses == {name: 200 if name == "metrics token" else 401 for name in world.callers}


REGISTERS = {
    "on_unknown": "register",
    "records": [{"identity": {"name": "phone", "value": "999"}, "data": {"user_string_once": "a"}}],
}
IMPORTS = {"on_unknown": "import", "records": [{"cuid": 999, "data": {"user_string_once": "a"}}]}
WRITES = {"records": [{"cuid": 999, "data": {"user_string_once": "a"}}]}


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        (WRITES, {"default", "with write", "with import"}),
        (REGISTERS, {"default", "with import"}),
        (IMPORTS, {"default", "with import"}),
    ],
    ids=["write", "register", "import"],
)
def test_what_a_batch_does_decides_which_key_may_send_it(world: World, body: dict[str, Any], allowed: set[str]) -> None:
    """A key with `write` alone may send batches, but creates no users."""
    path = f"/api/v1/projects/{PROJECT}/users:batch?dry_run=1"
    keys = {name: caller for name, caller in world.callers.items() if name.startswith("key ") and caller.project == PROJECT}
    found = {name for name, caller in keys.items() if outcome(caller.client.post(path, json=body)) == "allowed"}
    assert found == {f"key {name}" for name in allowed}


def test_only_the_operator_sets_a_projects_limit(world: World) -> None:
    path = f"/api/v1/projects/{PROJECT}"
    for name, caller in world.callers.items():
        answer = caller.client.patch(path, json={"qps": "unlimited"})
        assert (answer.status_code == 200) == (name == "admin token"), name


# the console


UNKNOWN_PROJECT = f"The project “{PROJECT}” does not exist."


def page_outcome(answer: httpx.Response, *, is_public: bool) -> str:
    """Return the same as :func:`outcome`, for an answer of the console."""
    assert answer.status_code < 500, answer.text
    text = answer.text if "event-stream" not in answer.headers.get("content-type", "") else ""
    if answer.status_code == 303 and answer.headers["location"].startswith("/console/sign-in") and not is_public:
        return "sign in"
    if answer.status_code == 403 and "sign_in_password" in text and not is_public:
        return "sign in"
    if answer.status_code == 403:
        return "allowed" if is_public else "not allowed"
    if answer.status_code == 404 and UNKNOWN_PROJECT in text:
        return "hidden"
    return "allowed"


def open_page(browser: httpx.Client, token: str, route: str) -> str:
    method, _, path = route.partition(" ")
    form = {"data": {"form_token": token}, "headers": {"Sec-Fetch-Site": "same-origin"}} if method == "POST" else {}
    with browser.stream(method, filled_in(path), **form) as answer:  # type: ignore[arg-type]
        # Some never end.
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
        else:
            answer._content = b""
        return page_outcome(answer, is_public=CONSOLE[route] == PUBLIC)


def form_token(browser: FormBrowser) -> str:
    """Return the form token, from a page that the browser may see."""
    for path in ("/console/account", "/console/sign-in"):
        if found := re.search(r'name="form_token" value="(\w+)"', browser.get(path).text):
            return found[1]
    raise AssertionError("no page has a form")


@pytest.mark.parametrize("route", [route for route in CONSOLE if route != "POST /console/sign-out"])
def test_the_console_lets_in_whom_it_should(world: World, route: str) -> None:
    needs = CONSOLE[route]

    def expected(name: str) -> str:
        if needs == PUBLIC:
            return "allowed"
        if name == "nobody":
            return "sign in"
        if needs == SIGNED_IN or needs in ROLES[name].split():
            return "allowed"
        # As if there were no such project: what others have is nobody's business.
        return "hidden" if "{project}" in route and name == "of another project" else "not allowed"

    found = {name: open_page(browser, form_token(browser), route) for name, browser in world.browsers.items()}
    assert found == {name: expected(name) for name in world.browsers}


@pytest.mark.parametrize("route", [route for route in CONSOLE if CONSOLE[route] != PUBLIC and route.startswith("GET")])
def test_credentials_of_the_api_open_no_page(world: World, route: str) -> None:
    _, _, path = route.partition(" ")
    for name in ("admin token", "key default", "key of another project", "metrics token"):
        answer = world.callers[name].client.get(filled_in(path))
        assert page_outcome(answer, is_public=False) == "sign in", name


def test_signing_out_ends_the_session_of_whoever_does(world: World) -> None:
    with FormBrowser(base_url=world.server.url, timeout=30) as browser:
        assert browser.sign_in_as("viewer@example.com", PASSWORD).status_code == 303
        assert browser.submit("/console/sign-out").status_code == 303
        assert page_outcome(browser.get("/console/projects"), is_public=False) == "sign in"
    assert world.browsers["viewer"].get("/console/projects").status_code == 200


def test_nothing_was_changed_by_all_that(world: World) -> None:
    """Runs last. The requests of the other tests change nothing, even if they are allowed."""
    admin = world.callers["admin token"].client
    kinds = {entry["kind"] for entry in admin.get(f"/api/v1/projects/{PROJECT}/audit").json()["entries"]}
    assert kinds <= {"create project", "declare attribute", "declare identifier", "create key", "revoke key", "edit member"}
