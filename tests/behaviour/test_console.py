"""The console over HTTP: who may come in, forms, headers, texts."""

from __future__ import annotations

import asyncio
import html
import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from support.form_browser import TOKEN, FormBrowser, form_fields
from support.manual_clock import ManualClock
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable.app.refused_sign_ins import RefusedSignIns
from usertable.app.service import Service
from usertable.console import live, problems, texts
from usertable.console.app import HEADERS, PAGES
from usertable.console.session import COOKIE, VISITOR_COOKIE, Link, Sessions, SignedIn, Visitor
from usertable.console.shared_state import FREE_ATTEMPTS, MustWait, SharedState
from usertable.console.user_table import ORDERS
from usertable.console.views.users import OPERATOR_ORDER, TIMED_OPERATORS
from usertable.domain import schema_change
from usertable.domain.actor import Actor
from usertable.domain.audit import AuditKind
from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.key import KeyState
from usertable.domain.openid import Refusal
from usertable.domain.permissions import PROJECT_SCOPES, Role
from usertable.domain.profile import Outcome
from usertable.domain.schema import Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.memory import MemoryStore
from usertable.store.tables import AUDIT
from usertable.wire.catalogue import en

AT = f"/console/projects/{PROJECT}"
CONSOLE = Path(texts.__file__).parent
OTHER_FIELDS = {
    *("identifiers", "creates_users", "rows", "created", "changed", "unchanged", "refused", "count"),
    *("version", "file", "users", "shards", "skipped_cuids", "admin", "disabled", "roles", "role"),
    *("scopes", "expires", "openid", "reason", "since", "changes"),
}
"""Fields of the audit log that are not the schema's."""
OLD_CHANGE = "apply schema: declare attribute old_one: BOOL once"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("console")
    url = f"sqlite:///{folder / 'store.db'}"
    create_project(url, users=2)
    store = open_store(url)
    number = Service(store).project(PROJECT).number
    store.load(number, AUDIT, [(0, 0, 1, "cli", "", "", json.dumps(OLD_CHANGE), "", "")])
    store.close()
    running = ServerProcess(url, folder, admin_token=TOKEN)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log


@pytest.fixture
def browser(server: ServerProcess) -> Iterator[FormBrowser]:
    with FormBrowser(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def admin(browser: FormBrowser) -> FormBrowser:
    browser.sign_in()
    return browser


def errors(answer: httpx.Response) -> list[str]:
    found = re.findall(r'class="error" id="(\w+)-error"', answer.text)
    assert all(f"{name}-error" in answer.text for name in found)
    return found


# who may come in


@pytest.mark.parametrize("page", [p for p in PAGES if not p.is_public], ids=lambda p: f"{p.method} {p.path}")
def test_without_a_session_every_page_leads_to_the_sign_in(page, browser: FormBrowser) -> None:  # type: ignore[no-untyped-def]
    path = page.path.replace("{project}", PROJECT).replace("{name}", "phone")
    browser.page("/console/sign-in")
    answer = browser.get(path) if page.method == "GET" else browser.submit(path)
    if answer.status_code == 403:
        # A form, which is kept on the page for signing in.
        assert "<h1>Sign in</h1>" in answer.text
        assert "Tests" not in answer.text
    else:
        assert (answer.status_code, answer.headers["location"].startswith("/console/sign-in")) == (303, True)


def test_after_signing_in_one_is_where_one_wanted_to_go(browser: FormBrowser) -> None:
    wanted = f"{AT}/attributes?type=LIST&search=a%26b"
    there = browser.get(wanted).headers["location"]
    browser.page(there)
    assert f'name="next" value="{html.escape(wanted)}"' in browser.shown.text
    answer = browser.submit("/console/sign-in", token=TOKEN, next=wanted)
    assert answer.headers["location"] == wanted
    assert browser.get(wanted).status_code == 200


ENDED = "Your session ended before this was sent. Nothing was changed."


def test_a_button_pressed_after_the_session_says_so_and_leads_back(browser: FormBrowser, server: ServerProcess) -> None:
    attribute = f"{AT}/attributes/user_bool_once"
    browser.page("/console/sign-in")
    for referer, back in (
        (f"{server.url}{attribute}?done=shown&x=%26", f"{attribute}?x=%26"),
        ("https://evil.example/console", ""),
        ("", ""),
    ):
        answer = browser.submit(f"{attribute}/status", {"Referer": referer}, hidden="1")
        page = browser.page(answer.headers["location"]).text
        assert ENDED in page
        assert f'name="next" value="{back}"' in page
    assert browser.submit("/console/sign-out").headers["location"] == "/console/sign-in?done=signed_out"
    browser.page("/console/sign-in")
    browser.submit("/console/sign-in", token=TOKEN)
    assert "Hidden attributes" not in browser.page(attribute).text
    assert 'name="hidden" value="1"' in browser.shown.text


TYPED = "Renamed \"'<script>&amp;\r\nsecond line"


@pytest.mark.parametrize(
    ("form", "typed"),
    [
        ("/console/new-project", {"name": "Typed", "id": "typed", "timezone": "UTC", "qps": "7"}),
        (f"{AT}/settings", {"name": "Typed", "timezone": "UTC", "qps": "7", "unlimited": "on"}),
        (f"{AT}/secret", {"overlap": "3600", "confirm": "on"}),
        (f"{AT}/new-key", {"name": "typed", "scope-read": "on", "expires_at": "2099-01-01"}),
        (
            f"{AT}/new-attribute",
            {"name": "typed", "display_name": "Typed", "description": TYPED, "type": "LIST", "rule": "append"}
            | {"elements": "7", "bytes": "8"},
        ),
        (f"{AT}/attributes/user_bool_once/edit", {"display_name": "Typed", "description": TYPED}),
        (f"{AT}/new-identifier", {"name": "typed", "display_name": "", "masked": "on"}),
        (f"{AT}/identifiers/phone/edit", {"display_name": "Typed"}),
        (f"{AT}/users/10000001/erase", {"confirm": "10000001"}),
        (f"{AT}/try", {"value": "10000001", "data": '{"user_bool_once": 1}'}),
    ],
)
def test_what_was_typed_is_there_again_after_signing_in(browser: FormBrowser, form: str, typed: dict[str, str]) -> None:
    browser.page("/console/sign-in")
    browser.shown = browser.submit(form, **typed)
    assert (browser.shown.status_code, ENDED in browser.shown.text) == (403, True)
    assert "nobody's token" not in browser.shown.text
    for token, status in (("", 422), ("wrong", 403)):
        browser.shown = browser.submit(form, **typed, token=token)
        assert (browser.shown.status_code, errors(browser.shown)) == (status, ["token"])
        kept = form_fields(browser.shown)
        assert {name: kept[name] for name in typed} == typed
    browser.shown = browser.submit(form, **typed, token=TOKEN)
    assert (browser.shown.status_code, "You are signed in" in browser.shown.text) == (200, True)
    assert TOKEN not in browser.shown.text
    kept = form_fields(browser.shown)
    kept.pop("form_token")
    assert kept == typed
    browser.get("/console/projects").raise_for_status()


def test_a_kept_form_is_not_taken_from_another_site_nor_without_its_token(browser: FormBrowser) -> None:
    browser.page("/console/sign-in")
    sent = {"name": "Typed", "timezone": "UTC", "qps": "7"}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "", "Origin": "https://evil.example"}):
        answer = browser.submit(f"{AT}/settings", headers, **sent, token=TOKEN)
        assert answer.status_code == 303
        assert "Typed" not in browser.get(answer.headers["location"]).text
    answer = browser.post(f"{AT}/settings", data={**sent, "token": TOKEN}, headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, ENDED in answer.text) == (403, True)
    assert browser.get("/console/projects").status_code == 303
    browser.submit("/console/sign-in", token=TOKEN)
    assert "Typed" not in browser.get("/console/projects").text


def test_a_form_of_an_earlier_session_is_shown_again_as_it_was_filled_in(admin: FormBrowser, server: ServerProcess) -> None:
    admin.page(f"{AT}/settings")
    earlier = admin.shown
    with FormBrowser(base_url=server.url) as other_tab:
        other_tab.sign_in()
        admin.cookies = other_tab.cookies
    admin.shown = earlier
    answer = admin.submit(f"{AT}/settings", name="Typed", timezone="UTC", qps="7")
    assert (answer.status_code, "signed in again in the meantime" in answer.text) == (403, True)
    assert form_fields(answer)["name"] == "Typed"
    assert "Typed" not in admin.get("/console/projects").text
    attribute = f"{AT}/attributes/user_bool_once"
    answer = admin.submit(f"{attribute}/status", {"Referer": server.url + attribute}, hidden="1")
    assert answer.headers["location"] == f"{attribute}?done=form_over"


def test_a_stream_ends_in_time_to_renew_the_session_and_with_it() -> None:
    shared = SharedState.alone()

    def looks(end_after: int, session_seconds: int) -> float:
        passing = ManualClock()
        service = Service(MemoryStore(), clock=passing.clock.now_ms)
        sessions = Sessions(
            service, RefusedSignIns(service, service._clock), shared, [TOKEN], session_seconds, passing.clock.seconds
        )

        async def sleep(seconds: float) -> None:
            passing.advance(seconds)

        clock = replace(passing.clock, sleep=sleep)
        console = SimpleNamespace(sessions=sessions, clock=clock, is_stopping=lambda: False)
        visitor = opened(sessions, sessions.sign_in_by_token(TOKEN, Actor.anonymous(), ""))
        context = SimpleNamespace(
            console=console, visitor=visitor, is_still_allowed=lambda: sessions.open(visitor.token) is not None
        )
        seen = 0

        async def look() -> tuple[dict[str, str], bool]:
            nonlocal seen
            seen += 1
            if seen == end_after:
                console.sessions.end(visitor, visitor.actor)
            return {"count": str(seen)}, False

        async def follow() -> None:
            answer: Any = live.stream(context, look, 0.01)  # type: ignore[arg-type]
            async for _ in answer.body_iterator:
                pass

        begun: float = passing.elapsed
        asyncio.run(follow())
        assert not end_after or seen == end_after
        passed: float = passing.elapsed - begun
        return passed

    # A session is renewed in the second half of its time: at least one new request falls into that.
    assert looks(0, session_seconds=4) < 2
    looks(3, session_seconds=240)


@pytest.mark.parametrize("bound", ["MAX_STREAMS", "MAX_STREAMS_OF_ONE"])
def test_one_page_too_many_is_told_that_it_is_not_kept_up_to_date(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, bound, 0)
    context = SimpleNamespace(
        came_from="/console/projects",
        visitor=Visitor("visitor.nobody"),
        fragment=lambda template, **values: f"{template} {values['key']}",
    )
    answer = live.stream(context, None, 1)  # type: ignore[arg-type]
    assert answer.media_type == "text/event-stream"
    assert bytes(answer.body).decode() == "event: notice\ndata: live_notice.html live.too_many\n\nevent: end\ndata: \n\n"


def test_a_page_that_is_open_is_told_that_its_session_is_over(browser: FormBrowser, server: ServerProcess) -> None:
    headers = {"Accept": "text/event-stream", "Referer": f"{server.url}{AT}/arrivals?show=refused"}
    answer = browser.get(f"{AT}/arrivals/live?show=refused", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "Your session has ended" in answer.text
    assert answer.text.endswith("event: end\ndata: \n\n")
    (back,) = re.findall(r'href="([^"]*)"', answer.text)
    browser.page(back)
    assert f'name="next" value="{AT}/arrivals?show=refused"' in browser.shown.text


def test_a_page_for_signing_in_that_was_open_for_too_long_is_shown_again(browser: FormBrowser) -> None:
    browser.page("/console/sign-in")
    browser.cookies.clear()
    answer = browser.submit("/console/sign-in", token=TOKEN, next=f"{AT}/users")
    assert (answer.status_code, TOKEN in answer.text) == (403, False)
    assert form_fields(answer)["next"] == f"{AT}/users"
    browser.shown = answer
    assert browser.submit("/console/sign-in", token=TOKEN, next=f"{AT}/users").headers["location"] == f"{AT}/users"
    assert browser.get(f"/console/sign-in?next={AT}/users").headers["location"] == f"{AT}/users"


@pytest.mark.parametrize(
    "where",
    ["//evil.example", "//evil.example/?/console", "https://evil.example/console", "/console//evil.example", "/other"],
)
def test_the_sign_in_never_leads_elsewhere(browser: FormBrowser, where: str) -> None:
    browser.page("/console/sign-in")
    assert browser.submit("/console/sign-in", token=TOKEN, next=where).headers["location"] == "/console/projects"


def test_the_session_cookie(browser: FormBrowser) -> None:
    browser.page("/console/sign-in")
    before = browser.cookies[VISITOR_COOKIE]
    cookie = browser.submit("/console/sign-in", token=TOKEN).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/console", "Max-Age=28800"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert before not in cookie
    assert TOKEN not in cookie
    secure = browser.get("/console/projects", headers={"X-Forwarded-Proto": "https", "Cookie": ""}).headers["set-cookie"]
    assert "Secure" in secure.split("; ")


@pytest.mark.parametrize("path", ["/console/projects", "/console/sign-in", f"{AT}/fill/live"])
def test_a_late_answer_to_a_request_from_before_the_sign_in_does_not_end_the_session(
    browser: FormBrowser, server: ServerProcess, path: str
) -> None:
    browser.sign_in()
    over = browser.cookies[COOKIE]
    browser.submit("/console/sign-out")
    assert COOKIE not in browser.cookies
    visitor = browser.cookies[VISITOR_COOKIE]
    browser.sign_in()
    # As sent by another tab.
    for cookies in ({}, {VISITOR_COOKIE: visitor}, {COOKIE: over}, {COOKIE: over, VISITOR_COOKIE: visitor}):
        late = httpx.get(server.url + path, cookies=cookies, headers={"Accept": "text/event-stream"})
        browser.cookies.extract_cookies(late)
        assert browser.get("/console/projects").status_code == 200


def test_signing_out_ends_the_session_for_copies_of_the_cookie_too(admin: FormBrowser, server: ServerProcess) -> None:
    copied = admin.cookies[COOKIE]
    assert admin.submit("/console/sign-out").headers["location"] == "/console/sign-in?done=signed_out"
    assert admin.get("/console/projects").status_code == 303
    assert httpx.get(f"{server.url}/console/projects", cookies={COOKIE: copied}).status_code == 303


def test_a_cookie_that_was_changed_or_made_up_is_none(admin: FormBrowser, server: ServerProcess) -> None:
    good = admin.cookies[COOKIE]
    visitor = httpx.get(f"{server.url}/console/sign-in").cookies[VISITOR_COOKIE]
    assert visitor.startswith("visitor.")
    for bad in (good[:-1], good + "A", good.swapcase(), f"visitor.{good}", visitor, "visitor.", "visitor", "...", "\\", "%"):
        assert httpx.get(f"{server.url}/console/projects", cookies={COOKIE: bad}).status_code == 303, bad
    assert httpx.get(f"{server.url}/console/projects", cookies={COOKIE: good}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
    ],
)
def test_a_form_of_another_site_is_refused(admin: FormBrowser, headers: dict[str, str]) -> None:
    answer = admin.submit(f"{AT}/settings", headers, name="taken over", timezone="UTC", qps="1")
    assert answer.status_code == 403
    assert "taken over" not in admin.get("/console/projects").text


def test_a_form_without_the_token_of_its_session_is_refused(admin: FormBrowser, server: ServerProcess) -> None:
    sent = {"name": "taken over", "timezone": "UTC", "qps": "1"}
    with FormBrowser(base_url=server.url) as other:
        other.sign_in()
        foreign = re.search(r'name="form_token" value="(\w+)"', other.shown.text)
    assert foreign is not None
    for token in ({}, {"form_token": ""}, {"form_token": foreign[1]}, {"form_token": "\N{GREEK SMALL LETTER PI}"}):
        answer = admin.post(f"{AT}/settings", data={**sent, **token})
        assert answer.status_code == 403
        assert "Nothing was changed" in answer.text
    assert "taken over" not in admin.get("/console/projects").text


def test_a_browser_that_only_sends_its_origin_is_let_in(admin: FormBrowser, server: ServerProcess) -> None:
    answer = admin.submit(
        f"{AT}/settings", {"Sec-Fetch-Site": "", "Origin": server.url}, name="Tests", timezone="UTC", qps="9"
    )
    assert answer.status_code == 303


def test_failed_attempts_must_wait_longer_and_longer_and_a_good_one_too() -> None:
    now = 0.0
    with SharedState.file() as file:
        one, other = SharedState(file.fileno(), lambda: now), SharedState(file.fileno(), lambda: now)
        for _ in range(FREE_ATTEMPTS):
            one.begin_attempt("a")
        waits = []
        for _ in range(9):
            with pytest.raises(MustWait) as caught:
                other.begin_attempt("a")
            waits.append(caught.value.seconds)
            now += caught.value.seconds
            other.begin_attempt("a")
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        other.begin_attempt("b")
        # One of two names is enough to wait, and then neither is counted.
        for _ in range(2 * FREE_ATTEMPTS):
            with pytest.raises(MustWait):
                one.begin_attempt("b", "a")
        now += 60
        one.begin_attempt("b", "a")
        one.end_attempt("b", "a")
        for _ in range(FREE_ATTEMPTS):
            one.begin_attempt("a")
        with pytest.raises(MustWait):
            one.begin_attempt("a")


def test_attempts_at_once_are_no_more_than_those_one_after_the_other() -> None:
    shared = SharedState.alone()

    def attempt(_: int) -> bool:
        try:
            shared.begin_attempt("a")
        except MustWait:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == FREE_ATTEMPTS


def sessions_over(
    service: Service, shared: SharedState, tokens: Sequence[str], seconds: int, clock: Callable[[], float]
) -> Sessions:
    """Return the sessions of a server's console."""
    refused = RefusedSignIns(service, lambda: int(clock() * 1000))
    return Sessions(service, refused, shared, tokens, seconds, clock)


def opened(sessions: Sessions, signed_in: SignedIn | None) -> Visitor:
    """Return the new session as the next request finds it."""
    assert signed_in is not None
    visitor = sessions.open(signed_in.token)
    assert visitor is not None
    return visitor


def test_a_session_of_the_admin_token_ends_with_its_time_and_with_the_token() -> None:
    now = 1000.0
    shared = SharedState.alone()
    service = Service(MemoryStore(), clock=lambda: int(now * 1000))

    def sessions(*tokens: str, shared: SharedState = shared) -> Sessions:
        return sessions_over(service, shared, tokens, 600, lambda: now)

    before = sessions(TOKEN)
    visitor = opened(before, before.sign_in_by_token(TOKEN, Actor.anonymous(), ""))
    assert before.see(visitor) is None
    # On another host.
    assert sessions(TOKEN, shared=SharedState.alone()).open(visitor.token) == visitor
    assert sessions(TOKEN + "2").open(visitor.token) is None
    rotating = sessions(TOKEN + "2", TOKEN)
    assert rotating.open(visitor.token) == visitor
    assert rotating.is_form_token(visitor, before.form_token(visitor))
    by_new = opened(rotating, rotating.sign_in_by_token(TOKEN + "2", Actor.anonymous(), ""))
    assert before.open(by_new.token) is None
    assert rotating.sign_in_by_token("", Actor.anonymous(), "") is None
    now += 400
    assert before.see(visitor) == 600
    now += 200
    assert rotating.open(by_new.token) is None
    assert before.open(visitor.token) is not None
    now += 400
    assert before.open(visitor.token) is None


def test_a_session_in_use_is_noted_without_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    store = MemoryStore()
    service = Service(store, clock=lambda: int(now * 1000))
    sessions = sessions_over(service, SharedState.alone(), [TOKEN], 36_000, lambda: now)
    visitor = opened(sessions, sessions.sign_in_by_token(TOKEN, Actor.anonymous(), ""))
    now += 100
    with monkeypatch.context() as without:
        for write in ("transact", "see_sessions"):
            without.setattr(store, write, None)
        for _ in range(3):
            assert sessions.see(visitor) is None
    sessions.keep_seen()
    assert [session.seen for session in store.sessions("")] == [1_080_000]


def test_a_link_signs_in_once_and_in_time() -> None:
    now = 1000.0
    with SharedState.file() as file:
        parent, worker = Link(SharedState(file.fileno()), lambda: now), Link(SharedState(file.fileno()), lambda: now)
        link = parent.make()
        assert worker.holds(link)
        here, elsewhere = "visitor.here", "visitor.elsewhere"
        assert not worker.follow(link[:-1] + ("0" if link[-1] != "0" else "1"), here)
        assert worker.follow(link, here)
        # The second of two clicks, whose answer is the one that the browser shows.
        assert parent.follow(link, here)
        assert not parent.follow(link, elsewhere)
        assert not worker.follow(link, elsewhere)
        late = parent.make()
        now += 15 * 60
        assert not worker.follow(late, here)
        assert not worker.follow("", here)
        assert not worker.follow(link, here)


def test_a_link_stays_used_up_however_many_callbacks_of_a_provider_come() -> None:
    shared = SharedState.alone()
    link = Link(shared, lambda: 1_700_000_000.0)
    made = link.make()
    assert link.follow(made, "browser")
    # Anybody can send these, and each uses up a state.
    assert all(shared.spend("openid", f"state {n}") for n in range(5000))
    assert not link.follow(made, "another browser")
    assert link.follow(made, "browser")


def test_without_an_admin_token_a_printed_link_signs_in_once(tmp_path: Path) -> None:
    server = ServerProcess("memory:", tmp_path)
    try:
        link = server.wait_for_log(rf"{server.url}(/console/sign-in\?link=\S+)\n")
        with FormBrowser(base_url=server.url) as first, FormBrowser(base_url=server.url) as second:
            for browser in (first, second):
                assert browser.page(link[1]).status_code == 200
            token = link[1].partition("=")[2]
            assert second.submit("/console/sign-in", token="").status_code == 422
            assert second.submit("/console/sign-in", token="anything").status_code == 403
            assert first.submit("/console/sign-in/link", link=token).headers["location"] == "/console/first-person"
            assert first.get("/console/projects").status_code == 200
            assert second.submit("/console/sign-in/link", link=token).status_code == 403
            assert second.page(link[1]).status_code == 403
            assert "has been used" in second.shown.text
            assert second.submit("/console/sign-in/new-link").status_code == 303
            links = re.findall(rf"{server.url}/console/sign-in\?link=(\S+)", server.log)
            assert len(links) == 2
            # What was typed waits for the link that is opened in another tab.
            second.shown = second.submit("/console/new-project", name="Typed")
            second.shown = second.submit("/console/new-project", name="Typed", new_link="1")
            assert "printed a new sign-in link" in second.shown.text
            assert form_fields(second.shown)["name"] == "Typed"
            (printed,) = set(re.findall(rf"{server.url}/console/sign-in\?link=(\S+)", server.log)) - set(links)
            assert second.submit("/console/sign-in/link", link=printed).headers["location"] == "/console/first-person"
            second.shown = second.submit("/console/new-project", name="Typed")
            assert (second.shown.status_code, form_fields(second.shown)["name"]) == (403, "Typed")
            assert second.submit("/console/new-project", name="Typed", timezone="UTC", qps="1").status_code == 303
    finally:
        server.stop()


def test_the_console_can_be_switched_off(tmp_path: Path) -> None:
    server = ServerProcess("memory:", tmp_path, console="false")
    try:
        for path in ("/console", "/", "/favicon.ico"):
            assert httpx.get(f"{server.url}{path}", headers=BROWSER).status_code == 404
        assert "console" not in server.log
    finally:
        server.stop()


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_that_opens_the_bare_address_is_led_to_the_console(browser: FormBrowser) -> None:
    answer = browser.get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"], answer.headers["vary"]) == (303, "/console", "Accept")
    slashed = browser.get("/console/")
    assert (slashed.status_code, slashed.headers["location"]) == (303, "/console")
    # A program is told that there is nothing.
    assert browser.get("/").json() == {"code": 40002, "msg": "no such route: /"}
    assert browser.post("/", headers=BROWSER).status_code == 404
    icon = browser.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert icon.text.startswith("<svg")


def test_an_unknown_route_speaks_english_unless_chinese_is_preferred_or_it_is_the_platforms(browser: FormBrowser) -> None:
    for path, language, message in (
        ("/users", None, "no such route: /users"),
        ("/users", "fr", "no such route: /users"),
        ("/users", "zh-CN,zh;q=0.9,en;q=0.5", "接口不存在：/users"),
        ("/smartop", None, "no such route: /smartop"),
        ("/smartop/api/v2", None, "接口不存在：/smartop/api/v2"),
        ("/smartop/api/v2", "en", "no such route: /smartop/api/v2"),
    ):
        answer = browser.get(path, headers={"Accept-Language": language} if language else {})
        assert (answer.status_code, answer.json()) == (404, {"code": 40002, "msg": message})


# what is sent


def test_every_answer_has_the_headers(admin: FormBrowser) -> None:
    for path in ("/console/sign-in", "/console/projects", f"{AT}/try", "/console/nope", f"{AT}x"):
        answer = admin.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
    assert "script-src 'self'" in HEADERS["content-security-policy"]
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_static_files_are_kept_by_the_browser_and_everything_they_name_is_here(admin: FormBrowser) -> None:
    addresses = re.findall(r'(?:href|src)="(/console/static/[^"]+)"', admin.page("/console/projects").text)
    assert len(set(addresses)) == 3
    for address in addresses:
        answer = admin.get(address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert admin.get("/console/static/console.css").status_code == 404


def test_no_page_holds_a_script_a_style_or_another_host() -> None:
    for template in (CONSOLE / "templates").iterdir():
        text = template.read_text()
        assert "://" not in text, template
        assert not re.search(r"<style|style=|\son\w+=|javascript:|\|\s*safe", text), template
        assert all("src=" in script for script in re.findall(r"<script[^>]*>", text)), template


# texts


def test_no_template_holds_words_of_its_own() -> None:
    for template in (CONSOLE / "templates").iterdir():
        text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", template.read_text(), flags=re.DOTALL)
        spoken = re.findall(r'(?:aria-label|title|alt|placeholder|data-copied)="([^"]*)"', text)
        assert not any(re.search(r"\w", words) for words in spoken), template
        text = re.sub(r"<[^>]*>|&#?\w+;|aria-[\w-]+=\"[^\"]*\"", "", text, flags=re.DOTALL)
        assert not re.search(r"\w", text), (template.name, text.split())


def test_all_that_is_wrong_with_a_form_is_said_at_once(admin: FormBrowser) -> None:
    wrong = {"name": " ", "id": "a b", "timezone": "Mars", "qps": "many"}
    answer = admin.submit("/console/new-project", None, **wrong)
    assert (answer.status_code, errors(answer)) == (422, ["name", "id", "timezone", "qps"])
    assert "“many” is not a limit. Enter a whole number from 1 to 1000000." in answer.text
    answer = admin.submit(f"{AT}/settings", None, **wrong)
    assert (answer.status_code, errors(answer)) == (422, ["name", "timezone", "qps"])
    attribute = {"name": "No", "display_name": "x" * 3000, "description": "x" * 3000, "type": "NUMBER", "rule": "append"}
    answer = admin.submit(f"{AT}/new-attribute", None, **attribute)
    assert (answer.status_code, errors(answer)) == (422, ["name", "display_name", "description", "rule"])
    attribute |= {"type": "LIST", "rule": "once", "elements": "0", "bytes": "many"}
    for missing in ({}, {"rule": "never"}, {"type": "", "rule": ""}):
        answer = admin.submit(f"{AT}/new-attribute", **{**attribute, **missing})
        # The limits are those of a LIST only.
        limits = ["elements", "bytes"] if missing.get("type") is None else []
        wrong_fields = ["name", "display_name", "description", *missing, *limits]
        assert (answer.status_code, errors(answer)) == (422, wrong_fields)
    answer = admin.submit(f"{AT}/new-identifier", name="phone", display_name="x" * 3000)
    assert (answer.status_code, errors(answer)) == (422, ["name", "display_name"])


def test_every_text_is_there_in_both_languages_and_used() -> None:
    for key, (chinese, english) in texts.TEXTS.items():
        assert chinese, key
        assert english, key
        assert set(re.findall(r"{\w+}", chinese)) == set(re.findall(r"{\w+}", english)), key
        assert re.search("[\u4e00-\u9fff、：]", chinese) or chinese == english or key == "language.en", key
        assert not re.search("[\u4e00-\u9fff]", english) or key == "language.zh", key
    code = "".join(f.read_text() for f in CONSOLE.rglob("*") if f.suffix in (".py", ".html") and f.name != "texts.py")
    named = set(re.findall(r'"([a-z_]+(?:\.[a-zA-Z_]+)*)"', code)) | set(re.findall(r"'([a-z_]+(?:\.[a-zA-Z_]+)*)'", code))
    made = {f"rule.{r}" for r in Rule} | {f"rule.{r}_help" for r in Rule} | {f"type.{t}" for t in DataType}
    made |= {f"outcome.{o}" for o in Outcome} | {f"language.{code}" for code in ("zh", "en")}
    made |= {f"theme.{theme}" for theme in ("auto", "light", "dark")} | {"attribute.visible", "attribute.hidden"}
    made |= (
        {f"order.{order}" for order in ORDERS}
        | {f"operator.{op}" for op in OPERATOR_ORDER}
        | {f"operator.{op}_time" for op in TIMED_OPERATORS}
    )
    made |= {f"arrivals.api_{api}" for api in ("attribute", "register", "batch", "unknown")}
    made |= {f"arrivals.show_{which}" for which in ("all", "accepted", "refused")}
    made |= {"arrivals.none_accepted", "arrivals.none_refused"}
    made |= {f"statistics.bar_{where}" for where in ("below", "above", "before", "after")}
    made |= {f"scope.{scope}" for scope in PROJECT_SCOPES} | {f"key.state.{state}" for state in KeyState}
    made |= {f"change.{kind}" for kind in (*AuditKind, "apply schema")}
    made |= {key for key in texts.TEXTS if key.endswith(".one") and key.removesuffix(".one") in texts.TEXTS}
    fields = set(re.findall('"([a-z_]+)": ', inspect.getsource(schema_change)))
    made |= {f"change.field.{name}" for name in fields | OTHER_FIELDS}
    made |= {f"role.{role}" for role in Role}
    made |= {f"openid.{refusal}" for refusal in Refusal}
    assert made <= set(texts.TEXTS)
    dones = {f"done.{name}" for name in named}
    assert set(texts.TEXTS) <= named | made | dones


@pytest.mark.parametrize("kind", ProblemKind)
def test_every_problem_is_told_in_a_sentence_without_brackets(kind: ProblemKind) -> None:
    named = set(re.findall(r"{(\w+)}", en.PROBLEMS[kind])) - {"attribute"}
    problem = Problem(kind, "level", dict.fromkeys(named, ("once",)))
    chinese, english = problems.sentence(problem, "zh"), problems.sentence(problem, "en")
    assert not re.search(r"[{}]|\[(?!parquet\])", chinese + english)
    assert (chinese[-1], english[-1]) == ("。", ".")
    assert not english[0].islower()
    assert problems.sentence(Problem(ProblemKind.NAME_FORM, "", {"limit": "100"}), "en") == "Enter a name."


def test_chinese_has_full_width_punctuation_and_a_space_beside_latin() -> None:
    han, latin = "[\u4e00-\u9fff]", "[A-Za-z0-9{}$]"
    wrong = re.compile(
        f"{han}{latin}|{latin}{han}|{han}[,.;:!?()]|[,.;:!?()]{han}|[，。；：？！（）、] | [，。；：？！（）、]"
    )
    chinese = [text for text, _ in texts.TEXTS.values()]
    chinese += [text for text, _ in problems.SENTENCES.values()]
    assert [text for text in chinese if wrong.search(text)] == []


def test_the_requests_to_paste_do_what_they_say(admin: FormBrowser) -> None:
    page = admin.page(AT).text
    shown = {
        name: html.unescape(code) for name, code in re.findall(r'id="snippet-(\w+)"[^>]*><code>(.*?)</code>', page, re.S)
    }
    assert shown["python"].startswith("from usertable import Client\n")
    python = shown["python"].replace("$SECRET", SECRET)
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "{'user_number_overwrite': Decimal('46.2'), 'user_number_once': Decimal('46.2')}\n"
    for name in ("register", "curl"):
        # curl itself is not needed to run the tests.
        _, _, method, url, _, user, _, header, _, body = shlex.split(
            shown[name].replace("$SECRET", SECRET).replace("\\\n", "")
        )
        headers = dict([header.split(": ")])
        assert user == f"{PROJECT}:{SECRET}"
        answer = httpx.request(method, url, auth=(PROJECT, SECRET), headers=headers, content=body)
        assert answer.json()["code"] == 0


def test_more_columns_than_can_be_shown_are_not_left_out_silently(admin: FormBrowser, server: ServerProcess) -> None:
    names = [f"attribute_{n}" for n in range(32)]
    with httpx.Client(base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as owner:
        owner.post("/projects", json={"id": "wide", "name": "Wide"}).raise_for_status()
        for name in names:
            attribute = {"name": name, "type": "BOOL", "rule": "once"}
            owner.post("/projects/wide/attributes", json=attribute).raise_for_status()
    query = "&".join(f"column={name}" for name in [*names, "unknown"])
    page = admin.page("/console/projects/wide/users?choose=1&" + query).text
    assert "At most 30 columns are shown. 2 of those you chose are left out." in page
    assert 'data-narrow=".checks .tick"' in page
    page = admin.page("/console/projects/wide/users").text
    assert "are left out" not in page


def test_changes_are_told_in_the_language_of_the_reader(admin: FormBrowser, server: ServerProcess) -> None:
    path = f"{server.url}/api/v1/projects/{PROJECT}"
    name = "edit_attribute"
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as owner:
        owner.patch(path, json={"name": "delete attribute"}).raise_for_status()
        owner.post(f"{path}/attributes", json={"name": name, "type": "BOOL", "rule": "once"}).raise_for_status()
        owner.patch(f"{path}/attributes/{name}", json={"hidden": True}).raise_for_status()
        owner.delete(f"{path}/attributes/{name}").raise_for_status()
    chinese, english = (
        [
            " ".join(re.sub("<[^>]+>", " ", cell).split())
            for cell in re.findall(
                r'<td class="long">(.*?)</td>',
                admin.get(f"{AT}/audit", headers={"Accept-Language": language}).text,
                re.DOTALL,
            )
        ]
        for language in ("zh-CN", "en")
    )
    assert chinese[:4] == [
        f"删除属性 {name} 数据类型 BOOL 规则 仅一次 状态 隐藏",
        f"修改属性 {name} 状态 可见 → 隐藏",
        f"创建属性 {name} 数据类型 BOOL 规则 仅一次",
        "修改项目 名称 Tests → delete attribute",
    ]
    assert english[:4] == [
        f"Deleted attribute {name} Data type BOOL Rule Once only Status Hidden",
        f"Edited attribute {name} Status Visible → Hidden",
        f"Created attribute {name} Data type BOOL Rule Once only",
        "Edited project Name Tests → delete attribute",
    ]
    # Made by an older usertable.
    assert "应用 schema: 创建属性 old_one: BOOL once" in chinese
    assert OLD_CHANGE in english


def test_the_language_is_the_chosen_one_or_the_browsers(browser: FormBrowser) -> None:
    assert 'lang="en"' in browser.page("/console/sign-in").text
    assert 'lang="zh-CN"' in browser.get("/console/sign-in", headers={"Accept-Language": "zh-TW,zh;q=0.9,en;q=0.1"}).text
    assert browser.submit("/console/preferences", language="zh", back="/console/sign-in?x=1").status_code == 303
    assert "管理员令牌" in browser.page("/console/sign-in").text
    answer = browser.submit("/console/preferences", theme="dark", back="//evil.example/")
    assert answer.headers["location"] == "/console/projects"
    assert 'data-theme="dark"' in browser.get("/console/sign-in").text


@pytest.mark.parametrize("path", ["/console/audit", f"{AT}/audit"])
@pytest.mark.parametrize("query", ["from=yesterday", "to=2026-02-30", "from=2026-11-30T12:00:00Z"])
def test_a_day_that_is_none_is_said_beside_its_field(admin: FormBrowser, path: str, query: str) -> None:
    answer = admin.get(f"{path}?{query}")
    assert (answer.status_code, errors(answer)) == (422, [query.partition("=")[0]])
    assert "Enter a date, such as 2026-11-30." in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "from=0001-01-01&to=9999-12-31",
        "before=0",
        "before=99999999999999999999",
        "before=" + "9" * 5000,
        "before=x",
        "kind=unknown%20%3Ckind%3E",
        "actor=key:%00",
        "subject=%F0%9F%98%80",
    ],
)
def test_any_query_of_an_audit_log_is_answered(admin: FormBrowser, query: str) -> None:
    for path in ("/console/audit", f"{AT}/audit"):
        assert admin.get(f"{path}?{query}").status_code == 200


def test_when_a_key_expires_is_said_in_the_projects_zone(admin: FormBrowser) -> None:
    # Other tests change it.
    admin.submit(f"{AT}/settings", name="Tests", timezone="Asia/Shanghai", qps="9")
    admin.submit(f"{AT}/new-key", name="until_2099", **{"scope-read": "on", "expires_at": "2099-01-01"})
    assert "2099-01-01 00:00:00 (Asia/Shanghai, UTC+08:00)" in admin.get(f"{AT}/audit?subject=until_2099").text


def test_a_day_of_an_audit_log_is_one_of_the_projects_zone(admin: FormBrowser, server: ServerProcess) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as owner:
        path = f"{server.url}/api/v1/projects/{PROJECT}"
        owner.patch(path, json={"name": "Of today"}).raise_for_status()
        newest = owner.get(f"{path}/audit", params={"limit": 1}).json()["entries"][0]
        zone = ZoneInfo(owner.get(path).json()["timezone"])
    day = datetime.fromisoformat(newest["at"]).astimezone(zone).date()
    shown = {
        span: "→ Of today" in admin.get(f"{AT}/audit?from={day + timedelta(span[0])}&to={day + timedelta(span[1])}").text
        for span in ((0, 0), (-1, -1), (1, 1), (-1, 1))
    }
    assert shown == {(0, 0): True, (-1, -1): False, (1, 1): False, (-1, 1): True}
