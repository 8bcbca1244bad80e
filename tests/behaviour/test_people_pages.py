"""The console's pages about people: invitations, roles, one's own account, the members of a project."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.actors import TESTER
from support.form_browser import TOKEN, FormBrowser, form_fields
from support.manual_clock import ManualClock
from support.native_server import serving_by
from support.server_process import PROJECT, ServerProcess, create_project
from usertable.app.service import Service
from usertable.console.session import COOKIE
from usertable.store import open_store

PASSWORD = "correct horse battery staple"
AT = f"/console/projects/{PROJECT}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Create a store with an admin, and an owner and a viewer of the project, with the same password."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    store = open_store(url)
    service = Service(store)
    service.add_person("admin@example.com", name="Ada", admin=True, password=PASSWORD, actor=TESTER)
    for role in ("owner", "viewer"):
        service.add_person(f"{role}@example.com", roles={PROJECT: role}, password=PASSWORD, actor=TESTER)
    store.close()
    return url


@pytest.fixture
def server(url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(url, tmp_path, admin_token=TOKEN)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log, running.log
    assert PASSWORD not in running.log


@pytest.fixture
def admin(server: ServerProcess) -> Iterator[FormBrowser]:
    yield from signed_in(server, "admin@example.com")


@pytest.fixture
def owner(server: ServerProcess) -> Iterator[FormBrowser]:
    yield from signed_in(server, "owner@example.com")


@pytest.fixture
def browser(server: ServerProcess) -> Iterator[FormBrowser]:
    with FormBrowser(base_url=server.url, timeout=30) as client:
        yield client


def signed_in(server: ServerProcess, email: str) -> Iterator[FormBrowser]:
    with FormBrowser(base_url=server.url, timeout=30) as client:
        assert client.sign_in_as(email, PASSWORD).status_code == 303
        yield client


def error(answer: httpx.Response, field: str) -> str:
    """Return the error next to a field."""
    found = re.search(rf'id="{field}-error">(?:<span[^>]*>[^<]*</span>)?([^<]*)<', answer.text)
    assert found is not None, answer.text
    return html.unescape(found[1])


def page_of(admin: FormBrowser, email: str) -> str:
    """Return the path of a person's page."""
    people = admin.page("/console/people").text
    found = re.search(
        rf'href="(/console/people/\w+)"[^>]*>(?:[^<]*</a></th>\s*<td[^>]*><span[^>]*>)?{re.escape(email)}<', people
    )
    assert found is not None, people
    return found[1]


def link_on(page: httpx.Response, server: ServerProcess) -> str:
    """Return the password link that a page shows."""
    found = re.search(r'id="link"[^>]*>([^<]+)<', page.text)
    assert found is not None, page.text
    assert found[1].startswith(f"{server.url}/console/password?link=")
    return found[1].removeprefix(server.url)


# the first person


def test_whoever_follows_the_printed_link_of_a_new_server_creates_the_first_admin(tmp_path: Path) -> None:
    server = ServerProcess("memory:", tmp_path)
    try:
        link = server.wait_for_log(rf"{server.url}(/console/sign-in\?link=\S+)\n")[1]
        with FormBrowser(base_url=server.url, timeout=30) as browser:
            browser.page(link)
            answer = browser.submit("/console/sign-in/link", link=link.partition("=")[2])
            assert answer.headers["location"] == "/console/first-person"
            before = browser.cookies[COOKIE]
            browser.page("/console/first-person")
            for typed, field, said in (
                ({"email": "ann", "password": PASSWORD}, "email", "“ann” is not an e-mail address."),
                ({"email": "ann@example.com", "password": "short"}, "password", "Use 15 characters or more"),
            ):
                answer = browser.submit("/console/first-person", **typed)
                assert (answer.status_code, said in error(answer, field)) == (422, True)
                assert typed["password"] not in answer.text
            browser.page("/console/first-person")
            answer = browser.submit("/console/first-person", email="Ann@example.com", name="Ann", password=PASSWORD)
            assert answer.headers["location"].startswith("/console/projects")
            assert "Your account is created" in browser.page(answer.headers["location"]).text
            assert "<strong>Ann</strong>" in browser.shown.text
            # The session of the link is over.
            assert httpx.get(f"{server.url}/console/projects", cookies={COOKIE: before}).status_code == 303
            assert browser.get("/console/first-person").headers["location"] == "/console/people"
    finally:
        server.stop()


def test_the_admin_token_is_offered_to_create_the_first_admin(tmp_path: Path) -> None:
    server = ServerProcess("memory:", tmp_path, admin_token=TOKEN)
    try:
        with FormBrowser(base_url=server.url, timeout=30) as browser, FormBrowser(base_url=server.url) as other:
            for each in (browser, other):
                each.sign_in()
                assert 'href="/console/first-person"' in each.shown.text
                each.page("/console/first-person")
            typed = {"email": "ann@example.com", "password": PASSWORD}
            assert browser.submit("/console/first-person", **typed).status_code == 303
            answer = other.submit("/console/first-person", email="eve@example.com", password=PASSWORD)
            assert (answer.status_code, "Somebody else created the first account" in answer.text) == (422, True)
            assert 'href="/console/first-person"' not in other.page("/console/projects").text
            assert "sign_in_email" in httpx.get(f"{server.url}/console/sign-in").text
    finally:
        server.stop()


def test_without_an_admin_token_the_printed_link_stays_the_operators_way_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    store = open_store(url)
    Service(store).add_person("admin@example.com", admin=True, password=PASSWORD, actor=TESTER)
    store.close()
    server = ServerProcess(url, tmp_path)
    try:
        with FormBrowser(base_url=server.url, timeout=30) as operator, FormBrowser(base_url=server.url) as person:
            page = operator.page("/console/sign-in").text
            assert ["sign_in_email" in page, "Print a new link" in page, "Admin token" in page] == [True, True, False]
            link = server.wait_for_log(rf"{server.url}(/console/sign-in\?link=\S+)\n")[1]
            operator.page(link)
            answer = operator.submit("/console/sign-in/link", link=link.partition("=")[2])
            assert answer.headers["location"] == "/console/projects"
            assert "The admin token is not a person" in operator.page("/console/account").text
            assert person.sign_in_as("admin@example.com", PASSWORD).status_code == 303
            assert server.stop() == 0
            server.start()
            # The link's session ended with the server, the person's did not.
            operator.base_url = person.base_url = httpx.URL(server.url)
            assert [each.get("/console/projects").status_code for each in (operator, person)] == [303, 200]
    finally:
        server.stop()


# invitations


def test_an_invitation_is_shown_once_and_used_once(admin: FormBrowser, browser: FormBrowser, server: ServerProcess) -> None:
    admin.page("/console/new-person")
    answer = admin.submit("/console/new-person", email="New@example.com", name="Neo", project=PROJECT, role="editor")
    shown = admin.page(answer.headers["location"])
    link = link_on(shown, server)
    # A reload shows it again, in this browser only.
    assert link_on(admin.page(answer.headers["location"]), server) == link
    with FormBrowser(base_url=server.url, cookies={COOKIE: admin.cookies[COOKIE]}) as elsewhere:
        assert elsewhere.get(answer.headers["location"]).status_code == 303
    assert "Invited" in admin.page("/console/people").text
    page = browser.page(link)
    assert (page.status_code, form_fields(page)["name"], "New@example.com" in page.text) == (200, "Neo", True)
    token = form_fields(page)["link"]
    answer = browser.submit("/console/password", link=token, name="Neo", password="too short")
    assert (answer.status_code, error(answer, "password")[:25]) == (422, "Use 15 characters or more")
    assert "too short" not in answer.text
    answer = browser.submit("/console/password", link=token, name="Nea", password=PASSWORD)
    assert answer.headers["location"].startswith("/console/projects")
    assert f'href="{AT}"' in browser.page(answer.headers["location"]).text
    assert "<strong>Nea</strong>" in browser.shown.text
    with FormBrowser(base_url=server.url) as late:
        page = late.page(link)
        assert (page.status_code, "This link no longer works" in page.text) == (403, True)
        assert "has been used or has expired" in page.text
        late.page("/console/sign-in")
        answer = late.submit("/console/password", link=token, password=PASSWORD)
        assert answer.status_code == 403
        page = late.get(link, headers={"Accept-Language": "zh-CN"})
        assert "链接已使用或已过期，请向管理员获取新链接。" in page.text
    assert admin.get(page_of(admin, "New@example.com") + "/link").status_code == 303


def test_a_new_link_replaces_the_one_before_and_signs_out_everywhere_once_used(
    admin: FormBrowser, owner: FormBrowser, browser: FormBrowser, server: ServerProcess
) -> None:
    own = page_of(admin, "owner@example.com")
    links = []
    for _ in range(2):
        admin.page(own)
        links.append(link_on(admin.page(admin.submit(f"{own}/new-link").headers["location"]), server))
    assert browser.page(links[0]).status_code == 403
    # Until it is used, nothing changes.
    assert owner.get("/console/projects").status_code == 200
    page = browser.page(links[1])
    answer = browser.submit("/console/password", link=form_fields(page)["link"], password=PASSWORD + "!")
    assert answer.status_code == 303
    assert owner.get("/console/projects").status_code == 303
    assert owner.sign_in_as("owner@example.com", PASSWORD).status_code == 403
    assert owner.sign_in_as("owner@example.com", PASSWORD + "!").status_code == 303


@pytest.mark.parametrize(
    ("typed", "field", "english", "chinese"),
    [
        (
            {"email": "OWNER@Example.com"},
            "email",
            "Somebody has the e-mail address “OWNER@Example.com” already. Letter case makes no difference.",
            "邮箱“OWNER@Example.com”已被使用，邮箱不区分大小写。",
        ),
        ({"email": "nobody"}, "email", "“nobody” is not an e-mail address.", "“nobody”不是有效的邮箱地址。"),
        (
            {"email": "new@example.com", "name": "x" * 201},
            "name",
            "A name has at most 200 printable characters.",
            "姓名最多 200 个可见字符。",
        ),
    ],
)
def test_what_is_wrong_with_an_invitation_is_said_beside_its_field(
    admin: FormBrowser, typed: dict[str, str], field: str, english: str, chinese: str
) -> None:
    admin.page("/console/new-person")
    for language, said in (("en", english), ("zh-CN", chinese)):
        answer = admin.submit("/console/new-person", {"Accept-Language": language}, **typed)
        assert (answer.status_code, error(answer, field)) == (422, said)
        assert form_fields(answer)["email"] == typed["email"]


# an admin's page of a person


def test_an_admin_gives_and_takes_roles(admin: FormBrowser, browser: FormBrowser, server: ServerProcess) -> None:
    own = page_of(admin, "viewer@example.com")
    browser.sign_in_as("viewer@example.com", PASSWORD)
    for role, status in (("editor", 200), ("viewer", 403), ("", 404)):
        admin.page(own)
        assert admin.submit(f"{own}/role", project=PROJECT, role=role).status_code == 303
        assert browser.get(f"{AT}/new-attribute").status_code == status
    answer = admin.submit(f"{own}/role", {"Accept-Language": "zh-CN"}, project=PROJECT, role="chief")
    assert (answer.status_code, "角色“chief”不存在，可用：owner、editor、viewer。" in answer.text) == (422, True)
    answer = admin.submit(f"{own}/role", project="no such", role="owner")
    assert (answer.status_code, "The project “no such” does not exist." in answer.text) == (422, True)


def test_the_last_admin_cannot_lock_everybody_out(admin: FormBrowser) -> None:
    own = page_of(admin, "admin@example.com")
    admin.page(own)
    said = "One admin who can sign in must remain. Make somebody else an admin first."
    for path, typed in (
        (own, {"name": "Ada"}),
        (f"{own}/disabled", {"disabled": "1"}),
        (f"{own}/remove", {"confirm": "on"}),
    ):
        answer = admin.submit(path, **typed)
        assert (answer.status_code, said in answer.text) == (422, True), path
    assert "至少须保留一名可登录的管理员" in admin.submit(own, {"Accept-Language": "zh"}, name="Ada").text


def test_who_is_disabled_or_signed_out_by_an_admin_is_out_at_once(admin: FormBrowser, owner: FormBrowser) -> None:
    own = page_of(admin, "owner@example.com")
    admin.page(own)
    assert "httpx" in admin.shown.text
    assert admin.submit(f"{own}/sign-out").status_code == 303
    assert owner.get(AT).status_code == 303
    assert owner.sign_in_as("owner@example.com", PASSWORD).status_code == 303
    assert admin.submit(f"{own}/disabled", disabled="1").status_code == 303
    assert owner.get(AT).status_code == 303
    assert "This account is disabled" in owner.sign_in_as("owner@example.com", PASSWORD).text
    admin.page(own)
    assert admin.submit(f"{own}/disabled", disabled="0").status_code == 303
    assert owner.sign_in_as("owner@example.com", PASSWORD).status_code == 303
    assert admin.submit(f"{own}/remove").status_code == 422
    assert admin.submit(f"{own}/remove", confirm="on").status_code == 303
    assert owner.get(AT).status_code == 303
    assert admin.get(own).status_code == 404


# one's own account


def test_one_changes_ones_own_password_by_the_old_one(owner: FormBrowser, browser: FormBrowser) -> None:
    browser.sign_in_as("owner@example.com", PASSWORD)
    owner.page("/console/account")
    answer = owner.submit("/console/account/password", old="wrong", new=PASSWORD + "!")
    assert (answer.status_code, error(answer, "old")) == (422, "This is not your current password.")
    answer = owner.submit("/console/account/password", old=PASSWORD, new="short")
    assert (answer.status_code, error(answer, "new")[:25]) == (422, "Use 15 characters or more")
    assert PASSWORD not in answer.text
    assert owner.submit("/console/account/password", old=PASSWORD, new=PASSWORD + "!").status_code == 303
    assert owner.get(AT).status_code == 200
    assert browser.get(AT).status_code == 303
    assert browser.sign_in_as("owner@example.com", PASSWORD + "!").status_code == 303


def test_guessing_at_the_old_password_is_slowed_down(url: str) -> None:
    # The time stands still, so that the wait is never over.
    with serving_by(ManualClock(), url) as server, FormBrowser(base_url=server.url, timeout=30) as owner:
        assert owner.sign_in_as("owner@example.com", PASSWORD).status_code == 303
        owner.page("/console/account")
        statuses = [
            owner.submit("/console/account/password", old=f"guess {n}", new=PASSWORD + "!").status_code for n in range(6)
        ]
    assert statuses == [422, 422, 422, 422, 422, 429]


def test_one_sees_and_ends_ones_own_sessions(owner: FormBrowser, server: ServerProcess) -> None:
    others = []
    for name in ("Browser One", "Browser Two", "Browser Three"):
        with FormBrowser(base_url=server.url, headers={"User-Agent": name}) as other:
            other.sign_in_as("owner@example.com", PASSWORD)
            others.append(other.cookies[COOKIE])

    def are_in() -> list[bool]:
        return [httpx.get(server.url + AT, cookies={COOKIE: other}).status_code == 200 for other in others]

    page = owner.page("/console/account").text
    assert ["Browser One" in page, "127.0.0.1" in page, page.count("This browser")] == [True, True, 1]
    found = re.findall(r'action="(/console/account/sessions/\w+/end)"[^>]*>.*?aria-label="[^"]*(Browser \w+)"', page, re.S)
    ends = {name: path for path, name in found}
    assert set(ends) == {"Browser One", "Browser Two", "Browser Three"}
    assert owner.submit(ends["Browser Two"]).status_code == 303
    assert are_in() == [True, False, True]
    assert owner.submit("/console/account/sign-out-others").status_code == 303
    assert are_in() == [False, False, False]
    assert owner.get(AT).status_code == 200
    assert owner.submit("/console/account", name="Olga").status_code == 303
    assert "<strong>Olga</strong>" in owner.page("/console/account").text


def test_nobody_ends_the_sessions_of_others(owner: FormBrowser, admin: FormBrowser, server: ServerProcess) -> None:
    (end,) = set(re.findall(r"/console/account/sessions/\w+/end", other_sessions(server, "admin@example.com")))
    owner.page("/console/account")
    assert owner.submit(end).status_code == 303
    assert admin.get("/console/people").status_code == 200


def other_sessions(server: ServerProcess, email: str) -> str:
    """Return a person's own page in another browser."""
    with FormBrowser(base_url=server.url) as other:
        other.sign_in_as(email, PASSWORD)
        return other.page("/console/account").text


def test_the_account_of_the_admin_token_says_that_it_is_nobodys(browser: FormBrowser) -> None:
    browser.sign_in()
    page = browser.page("/console/account")
    assert (page.status_code, "The admin token is not a person" in page.text) == (200, True)
    for path in ("", "/password", "/sessions/0123456789abcdef/end", "/sign-out-others"):
        assert browser.submit(f"/console/account{path}", old="x", new="y").status_code == 303


def test_passwords_are_not_kept_in_a_form_that_was_sent_after_its_session(server: ServerProcess) -> None:
    with FormBrowser(base_url=server.url) as browser:
        browser.page("/console/sign-in")
        answer = browser.submit("/console/first-person", email="ann@example.com", password=PASSWORD)
        assert (answer.status_code, "ann@example.com" in answer.text, PASSWORD in answer.text) == (403, True, False)
        answer = browser.submit("/console/account/password", old=PASSWORD, new=PASSWORD)
        assert answer.status_code == 303


# members of a project


def test_an_owner_gives_roles_in_the_project_to_people_who_are_there(owner: FormBrowser) -> None:
    owner.page(f"{AT}/members")
    assert "viewer@example.com" in owner.shown.text
    assert owner.submit(f"{AT}/members", email="VIEWER@example.com", role="editor").status_code == 303
    answer = owner.submit(f"{AT}/members", email="new@example.com", role="viewer")
    assert (answer.status_code, error(answer, "email")) == (422, "There is no person “new@example.com”.")
    answer = owner.submit(f"{AT}/members", email="viewer@example.com", role="admin")
    assert (answer.status_code, error(answer, "role")) == (
        422,
        "There is no role “admin”. Choose one of: owner, editor, viewer.",
    )
    assert owner.submit(f"{AT}/members", email="viewer@example.com", role="").status_code == 303
    assert "viewer@example.com" not in owner.page(f"{AT}/members").text


def test_a_viewer_sees_who_the_members_are_and_changes_nothing(browser: FormBrowser) -> None:
    browser.sign_in_as("viewer@example.com", PASSWORD)
    page = browser.page(f"{AT}/members")
    assert (page.status_code, "owner@example.com" in page.text, "<select" in page.text) == (200, True, False)
    assert browser.submit(f"{AT}/members", email="viewer@example.com", role="owner").status_code == 403
