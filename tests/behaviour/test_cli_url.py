"""Commands through a server, with `--url`, and the project that a command works on."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.cli_runner import CliRunner
from support.native_server import TOKEN, NativeServer, native_server

SECRET = "a-secret-of-the-tests"
NOWHERE = "sqlite:////nowhere/there-is-no-such-store.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


def shell(**environment: str) -> CliRunner:
    """Return a shell without a store."""
    return CliRunner(NOWHERE, {f"USERTABLE_{name.upper()}": value for name, value in environment.items()})


SCHEMA = """\
attributes:
- name: level
  type: NUMBER
  rule: overwrite
- name: city
  type: STRING
  rule: once
  display_name: 城市
identifiers:
- name: phone
  unique: true
"""
OTHER_SCHEMA = SCHEMA.replace("type: NUMBER", "type: STRING")
P = ("--project", "mirror")
NUMBER = ("--type", "NUMBER", "--rule", "overwrite")
COMMANDS: list[tuple[str, ...]] = [
    ("project", "create", "mirror", "--id", "mirror", "--secret", SECRET, "--timezone", "Europe/Berlin"),
    ("project", "create", "mirror", "--id", "mirror", "--secret", "short"),
    ("project", "create", "x", "--id", "a/b", "--timezone", "Mars/Olympus", "--qps", "0"),
    ("project", "edit", "mirror", "--qps", "unlimited"),
    ("project", "edit", "mirror", "--name", "演示", "--qps", "7"),
    ("project", "edit", "mirror", "--qps", "-5"),
    ("project", "rotate-secret", "mirror", "--secret", "0123456789abcdef"),
    ("project", "rotate-secret", "mirror", "--secret", "密码"),
    ("attribute", "create", "level", *P, *NUMBER, "--display-name", "等级", "--description", "of the user"),
    ("attribute", "create", "level", *P, *NUMBER),
    ("attribute", "create", "Level", *P, *NUMBER),
    ("attribute", "create", "jg_x", *P, "--type", "BOOL", "--rule", "append", "--display-name", "x" * 3000),
    ("attribute", "create", "tags", *P, "--type", "LIST", "--rule", "append", "--max-elements", "5", "--hidden"),
    ("attribute", "create", "born", *P, "--type", "DATETIME", "--rule", "once"),
    ("attribute", "list", *P, "--status", "all"),
    ("attribute", "list", *P, "--search", "LEV", "--type", "NUMBER", "--rule", "overwrite"),
    ("attribute", "edit", "level", *P, "--description", "now another"),
    ("attribute", "edit", "nope", *P, "--description", "x"),
    ("attribute", "hide", "level", *P),
    ("attribute", "show", "level", *P),
    ("attribute", "delete", "born", *P),
    ("attribute", "delete", "born", *P),
    ("identifier", "create", "phone", *P, "--display-name", "手机号", "--masked"),
    ("identifier", "create", "e_mail", *P, "--no-unique"),
    ("identifier", "create", "phone", *P),
    ("identifier", "list", *P),
    ("identifier", "order", "e_mail", "phone", *P),
    ("identifier", "order", "phone", *P),
    ("identifier", "order", "phone", "e_mail", *P),
    ("identifier", "edit", "e_mail", *P, "--no-masked"),
    ("identifier", "edit", "nope", *P, "--masked"),
    ("user", "register", "phone", "18012345678", "18012345679", "18012345678", *P),
    ("user", "register", "phone", *map(str, range(2001)), *P),
    ("user", "register", "e_mail", "a@b", *P),
    ("user", "register", "nope", "1", *P),
    ("user", "register", "phone", "x" * 257, "", *P),
    ("user", "create", "77", *P, "--identifier", "phone=15", "--identifier", "e_mail=a@b"),
    ("user", "create", "77", *P),
    ("user", "create", "78", *P, "--identifier", "phone=15"),
    ("user", "create", "78", *P, "--identifier", "nope=15"),
    ("user", "get", "77", *P),
    ("user", "get", "77", *P, "--hidden"),
    ("user", "get", "--identifier", "phone=18012345678", *P),
    ("user", "get", "--identifier", "phone=nobody", *P),
    ("user", "get", "--identifier", "nope=1", *P),
    ("user", "get", "99", *P),
    ("user", "list", *P, "--limit", "3"),
    ("user", "list", *P, "--limit", "2001", "--after", "10000001"),
    ("user", "list", *P, "--where", "level:unset", "--where", "level:ge:x"),
    ("user", "list", *P, "--where", "city:set"),
    ("user", "list", *P, "--attribute", "level", "--attribute", "tags", "--limit", "2"),
    ("user", "list", *P, "--attribute", "nope"),
    ("user", "erase", "78", *P, "--yes"),
    ("user", "erase", "77", *P, "--yes"),
    ("identifier", "delete", "phone", *P),
    ("identifier", "delete", "e_mail", *P),
    ("identifier", "delete", "jg_UnionID", *P),
    ("schema", "diff", "{schema}", *P),
    ("schema", "diff", "{other}", *P),
    ("schema", "apply", "{other}", *P),
    ("schema", "apply", "{schema}", *P),
    ("schema", "apply", "{schema}", *P),
    ("schema", "export", *P),
    ("project", "changes", "mirror"),
]


def said(shell: CliRunner, arguments: Sequence[str]) -> tuple[int, str, str]:
    """Return a command's output without times, and with the admin as the actor of every change."""
    result = shell.invoke(*arguments)
    assert result.exit_code in (0, 1), result.output
    out = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "A MOMENT", result.stdout)
    return result.exit_code, re.sub(" +", " ", out.replace("cli:tester", "admin-token")), result.stderr


@pytest.mark.parametrize("mode", [(), ("--json",)], ids=["text", "json"])
def test_a_command_says_the_same_on_a_store_and_through_a_server(
    server: NativeServer, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    for name, content in (("schema", SCHEMA), ("other", OTHER_SCHEMA)):
        (tmp_path / name).write_text(content)
    store = CliRunner(f"sqlite:///{tmp_path / 'users.db'}", {"LOGNAME": "tester"})
    remote = shell(admin_token=TOKEN)
    project = f"mirror{len(mode)}"
    refused = 0
    for command in COMMANDS:
        arguments = [
            word.format(schema=tmp_path / "schema", other=tmp_path / "other").replace("mirror", project) for word in command
        ]
        here = said(store, [*arguments, *mode])
        there = said(remote, [*arguments, *mode, "--url", server.url])
        assert there == here, arguments
        refused += here[0]
    # About half of the commands are invalid.
    assert refused >= 30


def test_erasing_through_a_server_asks_first(server: NativeServer) -> None:
    remote = shell(admin_token=TOKEN, project="erasing")
    remote.run("project", "create", "shop", "--id", "erasing", "--url", server.url)
    remote.run("user", "create", "5", "--url", server.url)
    result = remote.run("user", "erase", "5", "--url", server.url, stdin="n\n", code=1)
    assert "Permanently erase user 5 of project erasing (shop)? [y/N]" in result.stderr
    assert remote.json("user", "get", "5", "--url", server.url)["cuid"] == 5
    remote.run("user", "erase", "5", "--url", server.url, stdin="y\n")
    assert remote.refused("user", "get", "5", "--url", server.url) == "cuid [5] does not exist in this project"


# credentials


def test_a_project_is_reached_with_its_secret(server: NativeServer) -> None:
    shell(admin_token=TOKEN).run("project", "create", "own", "--id", "own", "--secret", SECRET, "--url", server.url)
    remote = shell(secret=f"{SECRET}\n", project="own")
    made = remote.json("attribute", "create", "level", *NUMBER, "--url", server.url)
    assert made["name"] == "level"
    assert remote.json("project", "changes", "own", "--url", server.url)["changes"][0]["actor"] == "key:default"
    assert "only the operator can change the QPS limit" in remote.refused(
        "project", "edit", "own", "--qps", "9", "--url", server.url
    )
    needs = "this command needs the server's admin token; set USERTABLE_ADMIN_TOKEN"
    assert remote.misused("project", "list", "--url", server.url) == needs
    assert remote.misused("project", "create", "x", "--url", server.url) == needs
    assert remote.refused("attribute", "list", "--project", "other", "--url", server.url) == (
        f"the server at {server.url} rejected project other with the secret in USERTABLE_SECRET; correct one of them"
    )


def test_credentials_that_are_missing_or_wrong_are_told(server: NativeServer) -> None:
    command = ("attribute", "list", "--project", "p", "--url", server.url)
    assert (
        "set USERTABLE_ADMIN_TOKEN to the server's admin token, or USERTABLE_SECRET to the project's secret"
        in shell().misused(*command)
    )
    assert shell(admin_token="another-token-than-that").refused(*command) == (
        f"the server at {server.url} does not accept the admin token; correct USERTABLE_ADMIN_TOKEN"
    )
    assert shell(admin_token=TOKEN).refused(*command) == f"project [p] does not exist on the server at {server.url}"
    assert "a line break" in shell(secret="a\nb").misused(*command)
    assert "give one of them" in shell(admin_token=TOKEN).misused(*command, "--store", "sqlite:///x.db")


def test_the_admin_token_comes_from_the_configuration_file_too(server: NativeServer, tmp_path: Path) -> None:
    file = tmp_path / "usertable.toml"
    file.write_text(f'admin_token = "{TOKEN}"\n')
    assert shell().json("project", "list", "--config", str(file), "--url", server.url)["projects"] is not None


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        said = shell(admin_token=TOKEN).refused("project", "list", "--url", url)
    assert said.startswith(f"temporarily unavailable, retry later: the server at {url} cannot be reached")
    assert "--url is 'ftp://x'; expected a URL such as https://usertable.example.com" in shell(admin_token=TOKEN).misused(
        "project", "list", "--url", "ftp://x"
    )


def test_a_certificate_that_is_not_trusted_is_told_and_can_be_named(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(b'{"projects":[]}', context) as url:
        said = shell(admin_token=TOKEN).refused("project", "list", "--url", url)
        assert said == (
            f"the certificate of the server at {url} is not trusted: self-signed certificate; set SSL_CERT_FILE to a PEM"
            " file with that certificate or the one of its authority"
        )
        trusting = CliRunner(NOWHERE, {"USERTABLE_ADMIN_TOKEN": TOKEN, "SSL_CERT_FILE": str(certificate)})
        assert trusting.json("project", "list", "--url", url) == {"projects": []}


def test_what_is_no_server_of_usertable_is_told(server: NativeServer) -> None:
    said = shell(admin_token=TOKEN).refused("project", "list", "--url", f"{server.url}/api/v1")
    assert said == (
        f"the server at {server.url}/api/v1 answered: no such route: /api/v1/api/v1/projects; check the URL and the"
        " server's version"
    )
    with answering(b"<html>It works</html>") as url:
        said = shell(admin_token=TOKEN).refused("project", "list", "--url", url)
        assert said.startswith(f"the server at {url} is not a usertable server, or runs another version; check the URL:")
        assert said.endswith("'<html>It works</html>'")


def test_commands_read_the_answers_of_a_server_of_a_version_without_history(server: NativeServer) -> None:
    server.new_project(id="older")
    level = ("level", "--project", "older")
    with older(server) as url:
        here = shell(admin_token=TOKEN)
        made = here.json("attribute", "create", *level, *NUMBER, "--url", url)
        edited = here.json("attribute", "hide", *level, "--url", url)
        listed = here.json("attribute", "list", "--project", "older", "--status", "all", "--url", url)["attributes"]
        assert listed == [edited] == [made | {"hidden": True}]
        assert "history" not in made
        assert here.out("schema", "apply", "-", *level[1:], "--url", url, stdin=SCHEMA).startswith("~ edit attribute level")
        here.run("user", "create", "77", *level[1:], "--url", url)
        assert here.json("user", "get", "77", *level[1:], "--url", url)["cuid"] == 77
        assert [user["cuid"] for user in here.json("user", "list", *level[1:], "--url", url)["users"]] == [77]


@contextlib.contextmanager
def older(server: NativeServer) -> Iterator[str]:
    """The server, with answers as before there was history."""
    added = ("history", "as_of", "not_kept")

    class Handler(BaseHTTPRequestHandler):
        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = server.admin.request(
                self.command, self.path, content=body, headers={"content-type": "application/json"}
            )
            content = answer.content
            if content:
                content = json.dumps(json.loads(content, object_pairs_hook=without_new)).encode()
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = relay

        def log_message(self, *_: object) -> None:
            pass

    def without_new(members: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in members if name not in added}

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def serving(other: HTTPServer) -> Iterator[int]:
    """Run a web server in a thread. Yield its port."""
    with other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield other.server_address[1]
        finally:
            other.shutdown()
            thread.join()


@contextlib.contextmanager
def answering(content: bytes, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run another web server, which answers every request with this, over HTTPS if it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    other = HTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        other.socket = context.wrap_socket(other.socket, server_side=True)
    with serving(other) as port:
        yield f"http{'s' if context else ''}://127.0.0.1:{port}"


# the project


def test_the_project_comes_from_the_option_then_the_environment_then_it_is_the_only_one(tmp_path: Path) -> None:
    here = CliRunner(f"sqlite:///{tmp_path / 'users.db'}", {})
    here.run("project", "create", "first", "--id", "p1")
    here.run("attribute", "create", "a", *NUMBER)
    assert "attribute a " in here.out("attribute", "hide", "a")
    here.run("project", "create", "second", "--id", "p2")
    here.environment["USERTABLE_PROJECT"] = "p2"
    assert here.json("attribute", "list", "--status", "all")["attributes"] == []
    assert len(here.json("attribute", "list", "--status", "all", "--project", "p1")["attributes"]) == 1
    here.environment["USERTABLE_PROJECT"] = "p3"
    assert here.refused("attribute", "list").startswith("project [p3] does not exist in the store")


EVERY = [
    ("attribute", "list"),
    ("identifier", "list"),
    ("user", "list"),
    ("schema", "export"),
    ("export",),
    ("import", "-", "--format", "csv"),
]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_among_several_projects_one_must_be_named(tmp_path: Path, command: Sequence[str]) -> None:
    here = CliRunner(f"sqlite:///{tmp_path / 'users.db'}", {})
    here.run("project", "create", "first", "--id", "p1")
    here.run("project", "create", "第二", "--id", "p2")
    assert here.misused(*command) == (
        f"the store {here.url} has 2 projects: p1 (first), p2 (第二); name one with --project ID or USERTABLE_PROJECT"
    )


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_without_a_project_the_command_that_makes_one_is_told(tmp_path: Path, command: Sequence[str]) -> None:
    here = CliRunner(f"sqlite:///{tmp_path / 'users.db'}", {})
    here.run("migrate")
    said = f"there is no project in the store {here.url}; create one: usertable project create NAME"
    assert here.refused(*command) == said


def test_of_a_server_only_the_admin_is_told_the_projects(tmp_path: Path) -> None:
    with native_server(tmp_path) as alone:
        admin = shell(admin_token=TOKEN)
        assert "there is no project in the server" in admin.refused("attribute", "list", "--url", alone.url)
        admin.run("project", "create", "first", "--id", "p1", "--url", alone.url)
        assert admin.json("attribute", "list", "--url", alone.url) == {"attributes": []}
        said = shell(secret=SECRET).misused("attribute", "list", "--url", alone.url)
        assert said == "--project is required: the secret in USERTABLE_SECRET belongs to one project"
