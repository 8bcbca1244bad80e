"""Behind the proxies that people put in front: nginx, Caddy and HAProxy, as Debian has them. Runs with `-m proxies`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from support.browser import chromium
from support.form_browser import TOKEN, FormBrowser
from support.ports import reserve_port
from support.raw_http import AUTHORIZATION, connect, put, read_answers
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project
from support.waiting import DEADLINE_SECONDS, wait_until

pytestmark = pytest.mark.proxies
OK = b'{"code":0,"msg":"ok"}'

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr; {user}
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream usertable {{ server {server}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        proxy_request_buffering {buffering};
        location / {{
            proxy_pass http://usertable; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $http_host; proxy_next_upstream off;
        }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen usertable
    bind 127.0.0.1:{port}
    server one {server}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    folder = tmp_path_factory.mktemp("behind")
    url = f"sqlite:///{folder / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, folder, ADMIN_TOKEN=TOKEN, TRUSTED_PROXIES="127.0.0.1")
    try:
        yield server, cuid
        assert "Traceback" not in server.log
    finally:
        assert server.stop() == 0


def accepts(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Return whether a proxy that is starting accepts connections."""
    with contextlib.suppress(OSError):
        connect(url).close()
        return True
    assert process.poll() is None, log.read_text()
    return False


@pytest.fixture(params=["nginx", "nginx, not buffering", "haproxy"])
def proxy(request: pytest.FixtureRequest, served: tuple[ServerProcess, int], tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a proxy in front of the server."""
    name = request.param.partition(",")[0]
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, f"{name} is not installed; on Debian: apt-get install {name}"
    port = reserve_port()
    facts = {
        "folder": str(tmp_path),
        "port": str(port),
        "server": served[0].url.removeprefix("http://"),
        "buffering": "off" if "not" in request.param else "on",
        "user": "user root;" if os.geteuid() == 0 else "",
    }
    file = tmp_path / "proxy.conf"
    file.write_text((NGINX if name == "nginx" else HAPROXY).format(**facts))
    command = [program, "-c", str(file)] if name == "nginx" else [program, "-db", "-f", str(file)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: accepts(url, process, tmp_path / "log"))
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def test_a_large_body_that_is_refused_is_answered_413_every_time(proxy: str, tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_bytes(b"x" * 18_000_000)
    command = ["curl", "-sS", "-u", f"{PROJECT}:{SECRET}", "-T", str(file), proxy + ATTRIBUTE, "-w", " %{http_code}"]
    command += ["-H", "Content-Type: application/json"]
    for _ in range(12):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.stdout == '{"code":40002,"msg":"请求体超过上限 1048576 字节"} 413', ran.stderr


def test_requests_are_done_once_each_through_a_proxy(proxy: str, served: tuple[ServerProcess, int]) -> None:
    """Also requests with `Upgrade`, and those with `Expect: 100-continue`."""
    server, cuid = served
    body = json.dumps({"cuid": cuid, "data": {"user_number_accumulate": 1}}).encode()
    offer = ["Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"]
    before = stored(server, cuid)
    for request in (put(body), put(body, "Content-Type: application/json"), put(body, *offer)):
        with connect(proxy) as connection:
            for _ in range(50 if request == put(body) else 1):
                connection.sendall(request)
                received = b""
                while OK not in received:
                    piece = connection.recv(65536)
                    assert piece, received
                    received += piece
    assert stored(server, cuid) == before + 52
    with connect(proxy) as connection:
        connection.sendall(put(body, "Expect: 100-continue", "Connection: close"))
        assert [answer.body for answer in read_answers(connection)] == [OK]
    assert stored(server, cuid) == before + 53
    assert AUTHORIZATION not in server.log


def stored(server: ServerProcess, cuid: int) -> int:
    with server.client() as http:
        shown = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_bool_once": 1}})
    return int(shown.json()["data"]["user"]["attributes"].get("user_number_accumulate", 0))


# as the documentation writes them

DOCUMENTED = Path(__file__).parents[2] / "docs" / "howto" / "run-behind-a-proxy.md"


def as_documented(language: str, number: int, folder: Path, port: int, server: ServerProcess) -> str:
    """Return a configuration from the documentation, the `number`th of its kind, with this machine's names and ports."""
    block = re.findall(rf"```{language}\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)[number]
    both = folder / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", str(both), "-out", str(folder / "cert.pem")], check=True, capture_output=True)
    shutil.copy(both, folder / "key.pem")
    both.write_text((folder / "cert.pem").read_text() + both.read_text())
    written: str = block
    for text, here in {
        "127.0.0.1:8000": server.url.removeprefix("http://"),
        "listen 443": f"listen 127.0.0.1:{port}",
        "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/ssl/users.example.com.pem": str(folder / "cert.pem"),
        "/etc/ssl/users.example.com.key": str(folder / "key.pem"),
        "/etc/ssl/users.example.com.both.pem": str(both),
        "users.example.com {": f"https://127.0.0.1:{port} {{\n    tls {folder}/cert.pem {folder}/key.pem",
    }.items():
        written = written.replace(text, here)
    if language == "nginx":
        user = "user root;" if os.geteuid() == 0 else ""
        return f"daemon off; pid {folder}/pid; error_log stderr; {user} events {{}} http {{ access_log off; {written} }}"
    if language == "caddyfile":
        return f"{{\n    admin off\n    auto_https disable_redirects\n    skip_install_trust\n}}\n{written}"
    return written


@contextlib.contextmanager
def running_proxy(name: str, configuration: str, folder: Path, port: int) -> Iterator[str]:
    """Yield the https URL of a proxy with that configuration."""
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, f"{name} is not installed; on Debian: apt-get install {name}"
    file = folder / "proxy.conf"
    file.write_text(configuration)
    arguments = {
        "nginx": ["-c", str(file)],
        "caddy": ["run", "--adapter", "caddyfile", "--config", str(file)],
        "haproxy": ["-db", "-f", str(file)],
    }
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        process = subprocess.Popen([program, *arguments[name]], stdout=log, stderr=log, env=environment)
    try:
        wait_until(lambda: accepts(f"http://127.0.0.1:{port}", process, folder / "log"))
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


@pytest.fixture(params=["nginx", "caddyfile", "haproxy"])
def documented(request: pytest.FixtureRequest, served: tuple[ServerProcess, int], tmp_path: Path) -> Iterator[str]:
    """Yield the https URL of a proxy that is configured as documented."""
    port = reserve_port()
    configuration = as_documented(request.param, 0, tmp_path, port, served[0])
    with running_proxy(request.param.removesuffix("file"), configuration, tmp_path, port) as url:
        yield url


def test_a_proxy_as_documented_serves_the_api_and_the_console(
    documented: str, served: tuple[ServerProcess, int], tmp_path: Path
) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with httpx.Client(base_url=documented, auth=(PROJECT, SECRET), verify=trust) as client:
        answer = client.put(ATTRIBUTE, json={"cuid": served[1], "data": {"user_number_overwrite": 7}})
        assert answer.json() == {"code": 0, "msg": "ok"}
        large = client.put(ATTRIBUTE, content=b"x" * 2_000_000, headers={"Content-Type": "application/json"})
        assert large.status_code == 413
        assert large.json()["code"] == 40002
    with FormBrowser(base_url=documented, verify=trust) as browser:
        page = browser.page("/console/sign-in")
        assert "Secure" in page.headers["set-cookie"]
        browser.sign_in()


def test_the_server_sees_the_callers_address_behind_a_proxy_as_documented(
    documented: str, served: tuple[ServerProcess, int], tmp_path: Path
) -> None:
    """The proxy at 127.0.0.1 is trusted: its own address is not the caller's, and neither is one that the caller sends."""
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

    def sign_in(address: str, claim: str, token: str) -> int:
        transport = httpx.HTTPTransport(local_address=address, verify=trust)
        with FormBrowser(base_url=documented, transport=transport, headers={"X-Forwarded-For": claim}) as browser:
            browser.page("/console/sign-in")
            return browser.submit("/console/sign-in", token=token).status_code

    guesses = [sign_in("127.0.0.2", f"203.0.113.{number}", "a guess of somebody") for number in range(12)]
    assert 429 in guesses
    assert sign_in("127.0.0.3", "127.0.0.2", TOKEN) == 303


@pytest.mark.parametrize("strips", [True, False], ids=["stripped", "not stripped"])
def test_nginx_serves_the_console_and_the_api_below_a_path_as_documented(tmp_path: Path, strips: bool) -> None:
    url, port = f"sqlite:///{tmp_path / 'store.db'}", reserve_port()
    (cuid,) = create_project(url, users=1)
    public = f"https://127.0.0.1:{port}/usertable"
    server = ServerProcess(url, tmp_path, PUBLIC_URL=public)
    try:
        link = server.wait_for_log(rf"({public}/console/sign-in\?link=\S+)")[1]
        configuration = as_documented("nginx", 1, tmp_path, port, server)
        assert "proxy_pass http://usertable/;" in configuration
        if not strips:
            configuration = configuration.replace("proxy_pass http://usertable/;", "proxy_pass http://usertable;")
        with running_proxy("nginx", configuration, tmp_path, port):
            trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
            with httpx.Client(base_url=public, auth=(PROJECT, SECRET), verify=trust) as client:
                answer = client.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_overwrite": 7}})
                assert answer.json() == {"code": 0, "msg": "ok"}
            _use_the_console(link, f"{public}/console")
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.log


def _use_the_console(link: str, home: str) -> None:
    """Sign in by the link, visit pages, change something and sign out, in a real browser."""
    problems: list[str] = []
    with chromium() as browser, browser.new_context(ignore_https_errors=True, locale="en") as context:
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("response", lambda answer: problems.append(answer.url) if answer.status >= 400 else None)
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{home}/first-person")
        page.get_by_text("Not now").click()
        page.wait_for_url(f"{home}/projects")
        page.get_by_role("row").get_by_role("link").first.click()
        for name in ("Attributes", "Identifiers", "Users", "Live requests", "Overview"):
            page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
            page.wait_for_load_state()
            assert page.url.startswith(f"{home}/projects/{PROJECT}")
        page.goto(f"{home}/projects/{PROJECT}/settings")
        page.get_by_label("Name", exact=True).fill("below a path")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("navigation").get_by_role("link", name="below a path")).to_be_visible()
        cookies = context.cookies()
        assert {(cookie["path"], cookie["secure"]) for cookie in cookies} == {("/usertable/console", True)}
        page.get_by_text("Preferences").click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{home}/sign-in**")
    assert problems == []
