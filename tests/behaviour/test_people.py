"""People who sign in to the console as themselves, over HTTP."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response

from support.actors import TESTER
from support.form_browser import TOKEN, FormBrowser, form_fields
from support.manual_clock import ManualClock
from support.server_process import PROJECT, ServerProcess, create_project
from usertable.app.refused_sign_ins import RefusedSignIns
from usertable.app.service import Service
from usertable.config import Config
from usertable.console.app import PAGES
from usertable.console.context import Access, PageRoute
from usertable.console.live import MAX_STREAMS, MAX_STREAMS_OF_ONE
from usertable.console.session import COOKIE, Sessions, Visitor
from usertable.console.shared_state import FREE_ATTEMPTS, MustWait, SharedState
from usertable.domain.actor import Actor
from usertable.domain.permissions import Role, Scope, scopes_of
from usertable.domain.person import Session
from usertable.store import open_store

PASSWORD = "correct horse battery staple"
AT = f"/console/projects/{PROJECT}"
NOBODYS_SESSION = Session(b"", "", 0, 0, 0)


def create_people(url: str) -> None:
    """Create an admin, an owner, an editor and a viewer of the project, with the same password, and an invited person."""
    store = open_store(url)
    service = Service(store)
    service.add_person("Admin@example.com", name="Ada Admin", admin=True, password=PASSWORD, actor=TESTER)
    for role in ("owner", "editor", "viewer"):
        service.add_person(f"{role}@example.com", roles={PROJECT: role}, password=PASSWORD, actor=TESTER)
    service.create_project("Another", id="another", actor=TESTER)
    service.add_person("other@example.com", roles={"another": "owner"}, password=PASSWORD, actor=TESTER)
    service.add_person("leaving@example.com", roles={PROJECT: "viewer"}, password=PASSWORD, actor=TESTER)
    service.add_person("invited@example.com", actor=TESTER)
    service.add_person("disabled@example.com", password=PASSWORD, actor=TESTER)
    service.edit_person("disabled@example.com", disabled=True, actor=TESTER)
    store.close()


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('people') / 'store.db'}"
    create_project(url, users=2)
    create_people(url)
    return url


@pytest.fixture(scope="module")
def server(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(store_url, tmp_path_factory.mktemp("server"), admin_token=TOKEN, trusted_proxies="127.0.0.1")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log
    assert PASSWORD not in running.log


@pytest.fixture
def browser(server: ServerProcess) -> Iterator[FormBrowser]:
    with FormBrowser(base_url=server.url, timeout=30) as client:
        yield client


# signing in


@pytest.mark.parametrize("email", ["admin@example.com", "ADMIN@Example.COM", " Admin@example.com "])
def test_one_signs_in_with_the_address_in_any_letter_case(browser: FormBrowser, email: str) -> None:
    answer = browser.sign_in_as(email, PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/projects")
    assert browser.get("/console/projects").status_code == 200
    assert len(browser.cookies[COOKIE]) == 43


@pytest.mark.parametrize(
    ("email", "password", "status", "said"),
    [
        ("admin@example.com", PASSWORD + " ", 403, "The e-mail address or the password is wrong."),
        ("nobody@example.com", PASSWORD, 403, "The e-mail address or the password is wrong."),
        ("invited@example.com", PASSWORD, 403, "The e-mail address or the password is wrong."),
        ("disabled@example.com", "another", 403, "The e-mail address or the password is wrong."),
        ("disabled@example.com", PASSWORD, 403, "This account is disabled."),
        ("admin@example.com", "", 422, "Enter your e-mail address and your password."),
        ("", PASSWORD, 422, "Enter your e-mail address and your password."),
        ("a\0b@example.com", "x" * 100_000, 403, "The e-mail address or the password is wrong."),
    ],
)
def test_whoever_may_not_sign_in_is_told_no_more_than_they_know(
    browser: FormBrowser, email: str, password: str, status: int, said: str
) -> None:
    browser.headers["X-Forwarded-For"] = f"198.51.100.{len(said)}"
    answer = browser.sign_in_as(email, password)
    assert (answer.status_code, said in answer.text) == (status, True)
    assert form_fields(answer)["sign_in_email"] == email.replace("\0", "\N{REPLACEMENT CHARACTER}") or "\0" in email
    assert not password or f'"{password}"' not in answer.text
    assert browser.get("/console/projects").status_code == 303


def test_what_was_typed_is_there_again_after_signing_in_with_a_password(browser: FormBrowser) -> None:
    browser.page("/console/sign-in")
    typed = {"name": "Typed", "timezone": "UTC", "qps": "7"}
    browser.shown = browser.submit(f"{AT}/settings", **typed)
    signing_in = {"sign_in_email": "owner@example.com", "sign_in_password": PASSWORD}
    browser.shown = browser.submit(f"{AT}/settings", **typed, **signing_in | {"sign_in_password": "wrong"})
    assert (browser.shown.status_code, form_fields(browser.shown)["name"]) == (403, "Typed")
    browser.shown = browser.submit(f"{AT}/settings", **typed, **signing_in)
    assert (browser.shown.status_code, "You are signed in" in browser.shown.text) == (200, True)
    assert PASSWORD not in browser.shown.text
    assert form_fields(browser.shown)["name"] == "Typed"


# roles

ROLES: dict[str, Role | None] = {
    "admin@example.com": Role.ADMIN,
    "owner@example.com": Role.OWNER,
    "editor@example.com": Role.EDITOR,
    "viewer@example.com": Role.VIEWER,
    "other@example.com": None,
}
"""People by what they are in the project; the last one is the owner of another."""


def address(page: PageRoute) -> str:
    path = page.path.replace("{project}", PROJECT).replace("{cuid}", "10000001").replace("{person}", "nobody")
    return path.replace("{name}", "phone" if "/identifiers/" in path else "user_bool_once")


def scopes(email: str) -> frozenset[Scope]:
    role = ROLES[email]
    return scopes_of(role) if role else frozenset()


@pytest.mark.parametrize("email", ROLES)
def test_every_page_is_for_those_whose_role_has_its_scope(browser: FormBrowser, email: str) -> None:
    browser.headers["X-Forwarded-For"] = "198.51.100.77"
    assert browser.sign_in_as(email, PASSWORD).status_code == 303
    for page in PAGES:
        if page.path == "/console/sign-out":
            continue
        if page.method == "GET":
            with browser.stream("GET", address(page)) as answer:
                if answer.headers.get("content-type", "").startswith("text/html"):
                    answer.read()
                text = answer.text if answer.is_stream_consumed else ""
        else:
            answer = browser.submit(address(page))
            text = answer.text
        refused = (answer.status_code == 403, answer.status_code == 404 and "does not exist" in text)
        if page.allows(Visitor("", NOBODYS_SESSION), scopes(email)):
            assert "You can&#39;t do this" not in text, page
            assert f"project “{PROJECT}”" not in text, page
        elif ROLES[email] is None and "{project}" in page.path:
            # As for a project that does not exist.
            assert refused == (False, True), page
            assert "Tests" not in text
        else:
            assert refused == (True, False), page
            assert "You can&#39;t do this" in text


@pytest.mark.parametrize("email", ROLES)
def test_what_one_may_not_do_is_not_offered(browser: FormBrowser, email: str) -> None:
    browser.headers["X-Forwarded-For"] = "198.51.100.78"
    assert browser.sign_in_as(email, PASSWORD).status_code == 303
    patterns = {page: re.compile(re.sub(r"{\w+}", "[^/]+", page.path)) for page in PAGES}
    offered = set()
    for page in PAGES:
        if page.method == "GET" and page.allows(Visitor("", NOBODYS_SESSION), scopes(email)) and "live" not in page.path:
            text = browser.get(address(page), follow_redirects=True).text
            for method, pattern in (
                ("GET", r'href="(/console[^"?#]*)'),
                ("POST", r'method="post" action="(/console[^"?#]*)'),
            ):
                offered |= {(method, path) for path in re.findall(pattern, text)}
    offered = {(method, path) for method, path in offered if "/projects/another" not in path}
    leading = {
        page for method, path in offered for page in PAGES if page.method == method and patterns[page].fullmatch(path)
    }
    assert {page.path for page in leading if not page.allows(Visitor("", NOBODYS_SESSION), scopes(email))} == set()
    assert (f"{AT}/try" in {path for _, path in offered}) == (Scope.WRITE in scopes(email))


def test_who_is_refused_is_told_which_role_is_needed_and_who_can_give_it(browser: FormBrowser) -> None:
    browser.sign_in_as("viewer@example.com", PASSWORD)
    page = browser.get(f"{AT}/new-attribute")
    assert (page.status_code, "This needs the role Editor." in page.text) == (403, True)
    assert "These people can give it to you: Ada Admin, owner@example.com." in page.text
    page = browser.get(f"{AT}/settings", headers={"Accept-Language": "zh-CN"})
    assert "此操作需要“负责人”角色。可联系以下成员授予：Ada Admin、owner@example.com。" in page.text
    page = browser.get("/console/new-project")
    assert "This needs the role Admin. These people can give it to you: Ada Admin." in page.text


def test_an_owner_cannot_lift_the_qps_limit(browser: FormBrowser, server: ServerProcess) -> None:
    browser.sign_in_as("owner@example.com", PASSWORD)
    browser.page(f"{AT}/settings")
    assert "qps" not in form_fields(browser.shown)
    assert browser.fill_in(f"{AT}/settings", qps="999999", name="Renamed").status_code == 303
    headers = {"Authorization": f"Bearer {TOKEN}"}
    project = httpx.get(f"{server.url}/api/v1/projects/{PROJECT}", headers=headers).json()
    assert (project["name"], project["qps"]) == ("Renamed", "unlimited")


def test_a_page_that_is_open_stops_when_a_role_is_taken(browser: FormBrowser, store_url: str) -> None:
    browser.sign_in_as("leaving@example.com", PASSWORD)
    store = open_store(store_url)
    with browser.stream("GET", f"{AT}/arrivals/live", headers={"Accept": "text/event-stream"}) as stream:
        pieces = stream.iter_text()
        next(pieces)
        Service(store).edit_person("leaving@example.com", roles={PROJECT: None}, actor=TESTER)
        # It ends before the server has looked so often without news that it sends a sign of life.
        assert ":\n\n" not in list(pieces)
    store.close()
    assert browser.get(f"{AT}/arrivals").status_code == 404
    told = browser.get(f"{AT}/arrivals/live", headers={"Accept": "text/event-stream"})
    assert "Your role has changed" in told.text


def test_one_who_opens_many_pages_leaves_some_to_others(server: ServerProcess) -> None:
    headers, path = {"Accept": "text/event-stream"}, f"{AT}/arrivals/live"
    streams: list[Iterator[str]] = []

    def begins(client: httpx.Client, stack: contextlib.ExitStack) -> str:
        # One that nobody refers to is closed.
        streams.append(stack.enter_context(client.stream("GET", path, headers=headers)).iter_text())
        return next(streams[-1])

    assert MAX_STREAMS_OF_ONE < MAX_STREAMS
    with contextlib.ExitStack() as stack:
        editor = stack.enter_context(FormBrowser(base_url=server.url, timeout=30))
        many = stack.enter_context(FormBrowser(base_url=server.url, timeout=30, limits=httpx.Limits(max_connections=None)))
        for client, email in ((editor, "editor"), (many, "viewer")):
            client.headers["X-Forwarded-For"] = "203.0.113.120"
            assert client.sign_in_as(f"{email}@example.com", PASSWORD).status_code == 303
        for _ in range(MAX_STREAMS_OF_ONE):
            assert "Too many pages" not in begins(many, stack)
        assert "Too many pages" in begins(many, stack)
        assert "Too many pages" not in begins(editor, stack)


def test_a_page_that_nobody_classified_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="needs"):
        PageRoute("GET", "/console/new", lambda context: Response())  # type: ignore[call-arg]
    for path, needs in (
        ("/console/projects/{project}/new", Access.SIGNED_IN),
        ("/console/projects/{project}/new", Scope.INSTALLATION),
        ("/console/new", Scope.READ),
    ):
        with pytest.raises(ValueError, match="must need a scope"):
            PageRoute("GET", path, lambda context: Response(), needs)


# throttling


@contextlib.contextmanager
def stopped_server(folder: Path, trusted_proxies: str) -> Iterator[FormBrowser]:
    """Yield a browser on a server whose clock stands still, so that no delay ends before the next attempt."""
    url = f"sqlite:///{folder / 'store.db'}"
    create_project(url)
    create_people(url)
    config = Config(store=url, port=0, admin_token=TOKEN, trusted_proxies=trusted_proxies)
    with (
        contextlib.closing(open_store(url, serving=True)) as store,
        ManualClock().serving(config, store) as address,
        FormBrowser(base_url=address, timeout=30) as browser,
    ):
        yield browser


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[FormBrowser]:
    with stopped_server(tmp_path, "127.0.0.1") as browser:
        yield browser


def fail(browser: FormBrowser, email: str, address: str) -> int:
    browser.headers["X-Forwarded-For"] = address
    return browser.sign_in_as(email, "wrong").status_code


def test_an_account_that_is_guessed_at_is_slowed_down_from_wherever_but_not_for_its_owner(stopped: FormBrowser) -> None:
    home = "203.0.113.77"
    stopped.headers["X-Forwarded-For"] = home
    assert stopped.sign_in_as("owner@example.com", PASSWORD).status_code == 303
    stopped.submit("/console/sign-out")
    statuses = [fail(stopped, "owner@example.com", f"192.0.2.{n}") for n in range(FREE_ATTEMPTS + 2)]
    assert statuses == [403] * FREE_ATTEMPTS + [429, 429]
    stopped.headers["X-Forwarded-For"] = "192.0.2.99"
    answer = stopped.sign_in_as("OWNER@example.com", PASSWORD)
    assert (answer.status_code, "Too many failed attempts" in answer.text) == (429, True)
    assert int(answer.headers["retry-after"]) >= 1
    stopped.headers["X-Forwarded-For"] = home
    assert stopped.sign_in_as("owner@example.com", PASSWORD).status_code == 303


def test_one_who_guesses_at_accounts_locks_out_nobody_else_behind_the_same_proxy(stopped: FormBrowser) -> None:
    shared = "203.0.113.78"
    stopped.headers["X-Forwarded-For"] = shared
    assert stopped.sign_in_as("editor@example.com", PASSWORD).status_code == 303
    stopped.submit("/console/sign-out")
    statuses = [fail(stopped, f"nobody{n}@example.com", shared) for n in range(FREE_ATTEMPTS + 2)]
    assert statuses == [403] * FREE_ATTEMPTS + [429, 429]
    # Others there who signed in from there before, those who come from elsewhere, and the admin token.
    assert stopped.sign_in_as("editor@example.com", PASSWORD).status_code == 303
    stopped.submit("/console/sign-out")
    stopped.sign_in()
    stopped.submit("/console/sign-out")
    stopped.headers["X-Forwarded-For"] = "203.0.113.79"
    assert stopped.sign_in_as("viewer@example.com", PASSWORD).status_code == 303


def test_a_guess_is_answered_alike_whether_or_not_the_account_exists_and_is_used_from_there() -> None:
    with contextlib.closing(open_store("memory://")) as store:
        time = ManualClock()
        service = Service(store, clock=lambda: time.ms)
        refused, shared = RefusedSignIns(service, service.now), SharedState.alone(lambda: time.elapsed)
        sessions = Sessions(service, refused, shared, [TOKEN], 3600, lambda: time.ms / 1000)

        def attempt(email: str, address: str, password: str = "wrong") -> str:
            try:
                signed_in = sessions.sign_in_by_password(email, password, Actor.anonymous().with_origin("", address), "")
            except MustWait as wait:
                return f"wait {wait.seconds} s"
            return "signed in" if signed_in else "wrong"

        def answers(email: str, home: str, away: str) -> list[str]:
            given = []
            for minute in range(3):
                # At the account, at others from the same address, at the account from elsewhere, and at home again.
                given += [attempt(email, home) for _ in range(2 * FREE_ATTEMPTS)]
                given += [attempt(f"nobody {minute} at {home}", home), attempt(email, away), attempt(email, home)]
                time.advance(30)
            return given

        for email, home in (("used@example.com", "192.0.2.1"), ("another@example.com", "192.0.2.9")):
            service.add_person(email, password=PASSWORD, actor=TESTER)
            assert attempt(email, home, PASSWORD) == "signed in"
        used_there = answers("used@example.com", "192.0.2.1", "192.0.2.2")
        used_elsewhere = answers("another@example.com", "192.0.2.3", "192.0.2.4")
        unknown = answers("nobody@example.com", "192.0.2.5", "192.0.2.6")
        assert used_there == used_elsewhere == unknown
        assert unknown[: FREE_ATTEMPTS + 1] == ["wrong"] * FREE_ATTEMPTS + ["wait 1.0 s"]
        # Whoever knows the password comes in from where they were before.
        time.advance(60)
        assert [attempt("another@example.com", "192.0.2.4"), attempt("another@example.com", "192.0.2.4")] != ["wrong"] * 2
        assert attempt("another@example.com", "192.0.2.4", PASSWORD).startswith("wait")
        assert attempt("another@example.com", "192.0.2.9", PASSWORD) == "signed in"
        sessions.hashing.close()


def test_who_forgot_a_letter_at_a_slowed_down_address_is_told_to_wait_and_comes_in_with_the_right_password(
    stopped: FormBrowser,
) -> None:
    shared = "203.0.113.94"
    stopped.headers["X-Forwarded-For"] = shared
    assert stopped.sign_in_as("editor@example.com", PASSWORD).status_code == 303
    stopped.submit("/console/sign-out")
    assert [fail(stopped, f"nobody{n}@example.com", shared) for n in range(FREE_ATTEMPTS)] == [403] * FREE_ATTEMPTS
    assert fail(stopped, "editor@example.com", shared) == 429
    assert stopped.sign_in_as("editor@example.com", PASSWORD).status_code == 303


@pytest.mark.parametrize(("own", "status"), [("other@example.com", 303), ("disabled@example.com", 403)])
def test_one_with_an_account_of_their_own_guesses_at_others_no_faster(stopped: FormBrowser, own: str, status: int) -> None:
    address = f"203.0.113.{80 + len(own) % 2}"
    for n in range(FREE_ATTEMPTS):
        assert fail(stopped, f"nobody{n}@example.com", address) == 403
        if n == FREE_ATTEMPTS - 2:
            # Who was never there before.
            assert stopped.sign_in_as(own, PASSWORD).status_code == status
            stopped.cookies.clear()
    assert fail(stopped, "nobody@example.com", address) == 429


def test_an_ipv6_network_is_one_address(stopped: FormBrowser) -> None:
    statuses = [fail(stopped, f"nobody{n}@example.com", f"2001:db8:1:2::{n:x}") for n in range(FREE_ATTEMPTS + 1)]
    assert statuses == [403] * FREE_ATTEMPTS + [429]
    assert fail(stopped, "nobody@example.com", "2001:db8:1:3::1") == 403


def test_a_caller_who_is_no_trusted_proxy_cannot_pretend_to_be_elsewhere(tmp_path: Path) -> None:
    with stopped_server(tmp_path, "") as browser:
        statuses = [fail(browser, f"nobody{n}@example.com", f"192.0.2.{n}") for n in range(FREE_ATTEMPTS + 1)]
    assert statuses == [403] * FREE_ATTEMPTS + [429]


# ending sessions


def cookies(server: ServerProcess, email: str, count: int) -> list[str]:
    found = []
    for _ in range(count):
        with FormBrowser(base_url=server.url, timeout=30) as browser:
            assert browser.sign_in_as(email, PASSWORD).status_code == 303
            found.append(browser.cookies[COOKIE])
    return found


def is_in(server: ServerProcess, cookie: str) -> bool:
    return httpx.get(f"{server.url}/console/projects", cookies={COOKIE: cookie}, timeout=30).status_code == 200


def test_a_session_that_is_ended_is_over_on_every_worker_and_host_at_once(shared_url: str, tmp_path: Path) -> None:
    create_project(shared_url)
    create_people(shared_url)
    hosts = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        hosts.append(ServerProcess(shared_url, folder, admin_token=TOKEN, workers="2"))
    store = open_store(shared_url)
    service = Service(store)
    try:
        by_session, by_person, stays = cookies(hosts[0], "owner@example.com", 2) + cookies(hosts[1], "editor@example.com", 1)
        # Connections of their own, so every worker is asked.
        for _ in range(8):
            assert all(is_in(host, cookie) for host in hosts for cookie in (by_session, by_person, stays))
        found = service.find_session(by_session)
        assert found is not None
        service.end_session(service.person("owner@example.com"), found[0], actor=TESTER)
        assert not any(is_in(host, by_session) for host in hosts for _ in range(8))
        service.edit_person("owner@example.com", disabled=True, actor=TESTER)
        assert not any(is_in(host, by_person) for host in hosts for _ in range(8))
        assert all(is_in(host, stays) for host in hosts for _ in range(8))
    finally:
        store.close()
        for host in hosts:
            assert host.stop() == 0


def test_a_form_of_one_host_is_taken_by_another_without_an_admin_token(shared_url: str, tmp_path: Path) -> None:
    create_project(shared_url)
    create_people(shared_url)
    hosts = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        hosts.append(ServerProcess(shared_url, folder))
    try:
        with FormBrowser(base_url=hosts[0].url, timeout=30) as browser:
            browser.page("/console/sign-in")
            browser.base_url = httpx.URL(hosts[1].url)
            signed_in = browser.submit("/console/sign-in", sign_in_email="admin@example.com", sign_in_password=PASSWORD)
            assert signed_in.status_code == 303
            browser.page("/console/new-person")
            browser.base_url = httpx.URL(hosts[0].url)
            made = browser.submit("/console/new-person", email="new@example.com").headers["location"]
            browser.base_url = httpx.URL(hosts[1].url)
            page = browser.get(made)
            assert (page.status_code, "/console/password?link=" in page.text) == (200, True)
    finally:
        for host in hosts:
            assert host.stop() == 0


def test_a_restart_signs_nobody_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    create_people(url)
    server = ServerProcess(url, tmp_path)
    try:
        (cookie,) = cookies(server, "viewer@example.com", 1)
        assert server.stop() == 0
        server.start()
        assert is_in(server, cookie)
    finally:
        server.stop()
