"""A server that a proxy serves below a path of another address: the setting `public_url`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.cli_runner import CliRunner
from support.form_browser import TOKEN, FormBrowser
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project
from support.waiting import wait_until

PUBLIC = "http://example.com/usertable"
HOME = "/usertable/console"


class Proxy(httpx.BaseTransport):
    """A proxy that forwards requests below the public path.

    Args:
        strips: remove the public path, as nginx does if `proxy_pass` ends with a slash.
        host: forward this `Host` instead of the browser's.
    """

    def __init__(self, server: str, *, strips: bool, host: str = "") -> None:
        self._server = httpx.URL(server)
        self._strips = strips
        self._host = host
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path
        if not path.startswith(b"/usertable"):
            return httpx.Response(418, text="not below the public path")
        if self._strips:
            path = path.removeprefix(b"/usertable") or b"/"
        headers = request.headers.copy()
        headers["host"] = self._host or headers["host"]
        url = self._server.copy_with(raw_path=path)
        return self._transport.handle_request(httpx.Request(request.method, url, headers=headers, stream=request.stream))

    def close(self) -> None:
        self._transport.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    folder = tmp_path_factory.mktemp("below")
    url = f"sqlite:///{folder / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, folder, ADMIN_TOKEN=TOKEN, PUBLIC_URL=PUBLIC, CORS_ORIGINS="https://app.example.com")
    try:
        yield server, cuid
    finally:
        assert server.stop() == 0


@pytest.fixture(params=[True, False], ids=["stripped", "not stripped"])
def proxy(request: pytest.FixtureRequest, served: tuple[ServerProcess, int]) -> Proxy:
    return Proxy(served[0].url, strips=request.param)


def addresses(page: httpx.Response) -> set[str]:
    """Return all URLs in a page: links, forms and files."""
    assert page.status_code == 200, page.text
    found = re.findall(r'\b(?:href|src|action|data-live|data-address)="([^"#]+)', page.text)
    return {html.unescape(address) for address in found}


def test_every_address_of_the_console_is_below_the_public_path_and_leads_somewhere(proxy: Proxy) -> None:
    with FormBrowser(base_url="http://example.com", transport=proxy) as browser:
        assert browser.get("/usertable/", headers={"Accept": "text/html"}).headers["location"] == HOME
        asked = browser.get(f"{HOME}/projects/{PROJECT}/users?limit=7")
        assert asked.headers["location"].startswith(f"{HOME}/sign-in?next=%2Fusertable%2Fconsole%2Fprojects%2F{PROJECT}")
        browser.page(asked.headers["location"])
        following = re.search(r'name="next" value="([^"]+)"', browser.shown.text)
        assert following is not None
        entered = browser.submit(f"{HOME}/sign-in", token=TOKEN, next=html.unescape(following[1]))
        assert entered.headers["location"] == f"{HOME}/projects/{PROJECT}/users?limit=7"
        assert {f"Path={HOME};" in cookie for cookie in entered.headers.get_list("set-cookie")} == {True}

        left, seen = {f"{HOME}/projects"}, set[str]()
        while left:
            page = browser.get(address := left.pop(), headers={"Accept": "text/html"})
            seen.add(address)
            assert page.status_code in (200, 303), address
            if page.status_code == 303:
                assert page.headers["location"].startswith(HOME), address
            elif page.headers["content-type"].startswith("text/html"):
                led = addresses(page)
                assert {each for each in led if not each.startswith((f"{HOME}/", "https://"))} == set(), address
                # Pages with filters are without end, and forms that are sent have no page of their own.
                pages = re.findall(r'<(?:a|link|script|img)\b[^>]*\b(?:href|src)="([^"#?]+)"', page.text)
                left |= {each for each in map(html.unescape, pages) if each.startswith(HOME)} - seen
        assert len(seen) > 50


def test_forms_are_taken_and_lead_below_the_public_path(proxy: Proxy) -> None:
    with FormBrowser(base_url="http://example.com", transport=proxy) as browser:
        browser.page(f"{HOME}/sign-in")
        browser.submit(f"{HOME}/sign-in", token=TOKEN)
        browser.page(f"{HOME}/projects/{PROJECT}/settings")
        saved = browser.fill_in(f"{HOME}/projects/{PROJECT}/settings", name="below a path")
        assert saved.headers["location"].startswith(f"{HOME}/projects/{PROJECT}")
        browser.page(f"{HOME}/new-project")
        created = browser.fill_in(f"{HOME}/new-project", name="another")
        assert re.match(rf"{HOME}/projects/\d+/new-secret\b", created.headers["location"])
        chosen = browser.submit(f"{HOME}/preferences", language="zh", back=f"{HOME}/projects/{PROJECT}/users")
        assert chosen.headers["location"] == f"{HOME}/projects/{PROJECT}/users"
        for elsewhere in ("/console/projects", "/usertable/api/v1/projects", "//evil.example.com", f"{HOME}x/y"):
            led = browser.submit(f"{HOME}/preferences", language="en", back=elsewhere)
            assert led.headers["location"] == f"{HOME}/projects"
        assert browser.submit(f"{HOME}/sign-out").headers["location"] == f"{HOME}/sign-in?done=signed_out"
        shown = browser.page(f"{HOME}/projects/{PROJECT}")
        assert shown.headers["location"].startswith(f"{HOME}/sign-in?next=")


def test_forms_about_people_lead_below_the_public_path_too(served: tuple[ServerProcess, int], proxy: Proxy) -> None:
    password, email = "correct horse battery staple", f"{'stripped' if proxy._strips else 'whole'}@example.com"
    with FormBrowser(base_url="http://example.com", transport=proxy) as browser:
        browser.page(f"{HOME}/sign-in")
        browser.submit(f"{HOME}/sign-in", token=TOKEN)
        browser.page(f"{HOME}/new-person")
        made = browser.submit(f"{HOME}/new-person", email=email, admin="on")
        assert re.match(rf"{HOME}/people/\w+/link$", made.headers["location"])
        own = made.headers["location"].removesuffix("/link")
        link = re.search(rf'id="link"[^>]*>{PUBLIC}(/console/password\?link=[^<]+)<', browser.page(f"{own}/link").text)
        assert link is not None, browser.shown.text
        for path, fields in (("", {"name": "Ann", "admin": "on"}), ("/role", {"project": PROJECT, "role": "owner"})):
            assert browser.submit(own + path, **fields).headers["location"].startswith(own)
        answer = browser.submit(f"{HOME}/projects/{PROJECT}/members", email=email, role="viewer")
        assert answer.headers["location"].startswith(f"{HOME}/projects/{PROJECT}/members")
        browser.page(f"/usertable{link[1]}")
        token = link[1].partition("=")[2]
        entered = browser.submit(f"{HOME}/password", link=token, password=password)
        assert entered.headers["location"].startswith(f"{HOME}/projects?")
        browser.page(f"{HOME}/account")
        for path, fields in (("", {"name": "Anna"}), ("/password", {"old": password, "new": password + "!"})):
            answer = browser.submit(f"{HOME}/account{path}", **fields)
            assert answer.headers["location"].startswith(f"{HOME}/account?"), answer.text


@pytest.mark.parametrize(
    ("origin", "is_taken"),
    [
        ("http://example.com", True),
        ("http://EXAMPLE.com:80", True),
        ("http://127.0.0.1:8000", True),
        ("https://example.com", False),
        ("http://example.com:8080", False),
        ("http://evil.example.com", False),
        ("null", False),
    ],
)
def test_a_form_of_the_public_origin_is_taken_whatever_host_the_proxy_passes_on(
    served: tuple[ServerProcess, int], origin: str, is_taken: bool
) -> None:
    transport = Proxy(served[0].url, strips=True, host="127.0.0.1:8000")
    with httpx.Client(base_url="http://example.com", transport=transport) as browser:
        page = browser.get(f"{HOME}/sign-in")
        token = re.search(r'name="form_token" value="(\w+)"', page.text)
        assert token is not None
        sent = browser.post(f"{HOME}/sign-in", data={"form_token": token[1], "token": TOKEN}, headers={"Origin": origin})
        assert sent.status_code == (303 if is_taken else 403)


def test_the_apis_answer_below_the_public_path(served: tuple[ServerProcess, int], proxy: Proxy) -> None:
    with httpx.Client(base_url=PUBLIC, transport=proxy, auth=(PROJECT, SECRET)) as client:
        for _ in range(3):
            answer = client.put(ATTRIBUTE, json={"cuid": served[1], "data": {"user_number_overwrite": 7}})
            assert answer.json() == {"code": 0, "msg": "ok"}
        assert client.get("/openapi.json").json()["servers"] == [{"url": PUBLIC}]
        assert client.get("/livez").status_code == 200
        wait_until(lambda: client.get("/readyz").status_code == 200)
        made = client.post(f"/api/v1/projects/{PROJECT}/users", json={"cuid": 700 + proxy._strips})
        assert made.headers["location"] == f"/usertable/api/v1/projects/{PROJECT}/users/{700 + proxy._strips}"
        assert client.get(f"http://example.com{made.headers['location']}").json()["cuid"] == 700 + proxy._strips
        assert client.get("/no/such/route").status_code == 404
        asked = client.options(
            ATTRIBUTE, headers={"Origin": "https://app.example.com", "Access-Control-Request-Method": "PUT"}
        )
        assert asked.headers["access-control-allow-origin"] == "https://app.example.com"


def test_a_client_and_the_command_line_work_below_the_public_path(served: tuple[ServerProcess, int]) -> None:
    shell = CliRunner("sqlite:////nowhere/store.db", {"USERTABLE_SECRET": SECRET, "USERTABLE_PROJECT": PROJECT})
    below = f"{served[0].url}/usertable"
    assert shell.json("user", "get", str(served[1]), "--url", below)["cuid"] == served[1]
    assert shell.out("export", "--url", below).startswith("cuid,")


def test_the_link_for_signing_in_and_the_samples_have_the_public_address(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path, PUBLIC_URL=PUBLIC)
    try:
        link = server.wait_for_log(rf"{PUBLIC}(/console/sign-in\?link=\S+)")[1]
        with FormBrowser(base_url=PUBLIC, transport=Proxy(server.url, strips=True)) as browser:
            browser.page(link)
            entered = browser.fill_in("/console/sign-in/link")
            assert entered.headers["location"] == f"{HOME}/first-person"
            sample = browser.page(f"/console/projects/{PROJECT}")
            assert f"{PUBLIC}{ATTRIBUTE}" in html.unescape(sample.text)
    finally:
        assert server.stop() == 0


def test_with_a_public_https_address_cookies_are_for_https_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path, PUBLIC_URL="https://users.example.com")
    try:
        cookie = httpx.get(f"{server.url}/console/sign-in").headers["set-cookie"]
        assert "Secure" in cookie
        assert "Path=/console;" in cookie
        assert httpx.get(f"{server.url}/openapi.json").json()["servers"] == [{"url": "https://users.example.com"}]
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    "value",
    [
        "example.com/usertable",
        "/usertable",
        "https://example.com/usertable/",
        "https://example.com/",
        "https://example.com/a/../b",
        "https://example.com/a?b=c",
        "https://example.com/a b",
        "https://user@example.com",
        "https://example.com/console",
        "https://example.com/api/v1",
    ],
)
def test_a_public_url_that_is_none_refuses_to_start(value: str) -> None:
    said = CliRunner("memory:", {"USERTABLE_PUBLIC_URL": value}).misused("config")
    assert said.startswith(f"public_url is {value!r}; expected a URL such as https://example.com/usertable")
