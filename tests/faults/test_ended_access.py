"""Access that ends while a request is under way: what comes after it is not acted on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from support.actors import TESTER
from support.faulty_proxy import faulty_proxy
from support.form_browser import FormBrowser, form_fields
from support.manual_clock import ManualClock
from support.native_server import NativeCallers, native_server, serving_by
from support.raw_http import connect, read_answers
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, ServerProcess, create_project
from support.waiting import wait_until
from usertable.app.service import Service
from usertable.domain.permissions import PROJECT_SCOPES
from usertable.store import open_store

CUID = 10362473
PASSWORD = "correct horse battery staple"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock) -> Iterator[NativeCallers]:
    with serving_by(clock) as callers:
        yield callers


class Held:
    """A request whose body is held back: its head is sent when it is made, its body by :meth:`finish`."""

    def __init__(self, client: httpx.Client, method: str, path: str, body: bytes, kind: str = "application/json") -> None:
        self._body = body
        # Such a request is begun when its head is there; another one when its body is there, unless that is large.
        headers = {"Content-Type": kind, "Connection": "close", "Expect": "100-continue"}
        request = client.build_request(method, path, content=body, headers=headers)
        if client.auth is not None:
            request = next(client.auth.sync_auth_flow(request))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
        self._connection = connect(str(client.base_url))
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert self._connection.recv(1000).startswith(b"HTTP/1.1 100 ")

    def finish(self) -> tuple[int, bytes]:
        """Send the rest; the status and the body of the answer."""
        with self._connection as connection:
            connection.sendall(self._body)
            (answer,) = read_answers(connection)
        return answer.status, answer.body


@pytest.mark.parametrize("ends", ["revoked", "expired"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", ATTRIBUTE, {"cuid": CUID, "data": {"level": "taken"}}),
        ("POST", REGISTER, {"identityName": "phone", "identityValues": ["18012345678"]}),
        ("POST", "{project}/keys", {"name": "backdoor", "scopes": ["keys"]}),
        ("POST", "{project}/users:batch", {"records": [{"cuid": CUID, "data": {"level": "taken"}}]}),
    ],
)
def test_a_request_whose_body_comes_when_its_key_has_ended_is_refused(
    server: NativeCallers, clock: ManualClock, ends: str, method: str, path: str, body: object
) -> None:
    project, owner = server.new_project()
    owner.post(f"{project}/attributes", json={"name": "level", "type": "STRING", "rule": "overwrite"}).raise_for_status()
    owner.post(f"{project}/identifiers", json={"name": "phone"}).raise_for_status()
    owner.post(f"{project}/users", json={"cuid": CUID}).raise_for_status()
    leaked = server.expiring_key(project, owner, "leaked", sorted(PROJECT_SCOPES), clock.ms + 5000)
    assert leaked.get(project).status_code == 200
    held = Held(leaked, method, path.format(project=project), json.dumps(body).encode())
    if ends == "revoked":
        owner.post(f"{project}/keys/leaked:revoke").raise_for_status()
    else:
        clock.advance(5)
    wait_until(lambda: leaked.get(project).status_code == 401)
    status, answer = held.finish()
    assert status == 401, answer
    assert [each["name"] for each in owner.get(f"{project}/keys").json()["keys"]] == ["default", "leaked"]
    assert owner.get(f"{project}/users/{CUID}").json()["attributes"] == {}
    assert owner.get(f"{project}/users").json()["users"][1:] == []


def add_person(url: str, email: str, role: str) -> None:
    with contextlib.closing(open_store(url)) as store:
        Service(store).add_person(email, roles={PROJECT: role}, password=PASSWORD, actor=TESTER)


@pytest.mark.parametrize("ends", ["disabled", "signed out", "a viewer"])
def test_a_form_that_comes_when_its_sender_may_no_longer_do_it_does_nothing(ends: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    add_person(url, "owner@example.com", "owner")
    server = ServerProcess(url, tmp_path)
    at = f"/console/projects/{PROJECT}"
    try:
        with FormBrowser(base_url=server.url, timeout=30) as browser, contextlib.closing(open_store(url)) as store:
            assert browser.sign_in_as("owner@example.com", PASSWORD).status_code == 303
            fields = {**form_fields(browser.page(f"{at}/new-key")), "name": "backdoor", "scope-keys": "on"}
            held = Held(browser, "POST", f"{at}/new-key", urlencode(fields).encode(), "application/x-www-form-urlencoded")
            service = Service(store)
            person = service.person("owner@example.com")
            if ends == "disabled":
                service.edit_person(person.email, disabled=True, actor=TESTER)
            elif ends == "signed out":
                service.end_sessions(person, actor=TESTER)
            else:
                service.edit_person(person.email, roles={PROJECT: "viewer"}, actor=TESTER)
            status, answer = held.finish()
            assert status == 403, answer
            assert [key.name for key in service.project(PROJECT).keys] == ["default"]
    finally:
        assert server.stop() == 0


def test_a_file_of_users_ends_when_its_reader_may_no_longer_see_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url, users=60_000)
    add_person(url, "viewer@example.com", "viewer")
    server = ServerProcess(url, tmp_path)
    path = f"/console/projects/{PROJECT}/users/csv"
    try:
        with FormBrowser(base_url=server.url, timeout=30) as browser, contextlib.closing(open_store(url)) as store:
            assert browser.sign_in_as("viewer@example.com", PASSWORD).status_code == 303
            service = Service(store)
            with browser.stream("GET", path) as answer:
                assert answer.status_code == 200
                pieces = answer.iter_raw(1000)
                assert next(pieces).startswith(b"\xef\xbb\xbfcuid,")
                service.edit_person("viewer@example.com", disabled=True, actor=TESTER)
                service.register(service.project(PROJECT), "phone", ["a new user"], actor=TESTER)
                # Not to its end, which chunks have.
                with pytest.raises(httpx.RemoteProtocolError):
                    b"".join(pieces)
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_key_expires_though_the_database_does_not_tell_what_has_changed(shared_url: str, clock: ManualClock) -> None:
    with serving_by(clock, shared_url) as server, psycopg.connect(shared_url) as db:
        project, owner = server.new_project()
        caller = server.expiring_key(project, owner, "short", ["read"], clock.ms + 5000)
        assert caller.get(f"{project}/users").status_code == 200
        # As maintenance of a table does. Other tables are read as before.
        db.execute("LOCK TABLE usertable.epoch")
        clock.advance(5)
        wait_until(lambda: caller.get(f"{project}/users").status_code == 401)
        assert owner.get(f"{project}/users").status_code == 200
        db.rollback()


def test_a_server_that_is_cut_off_from_its_database_lets_nobody_in_by_what_it_knew(shared_url: str, tmp_path: Path) -> None:
    with faulty_proxy(shared_url) as proxy, contextlib.ExitStack() as stack:
        address = urlsplit(proxy.url).netloc
        through = urlunsplit(urlsplit(shared_url)._replace(netloc=f"postgres@{address}"))
        server = stack.enter_context(native_server(tmp_path, through))
        project, owner = server.new_project()
        id = project.rpartition("/")[2]
        owner.post(f"{project}/users", json={"cuid": CUID}).raise_for_status()
        made = owner.post(f"{project}/keys", json={"name": "leaked", "scopes": ["read"]}).raise_for_status()
        leaked = server.caller(id, made.json()["secret"])
        assert leaked.get(f"{project}/users/{CUID}").status_code == 200
        proxy.hold()
        with contextlib.closing(open_store(shared_url)) as store:
            Service(store).revoke_key(id, "leaked", actor=TESTER)
        # Known callers are known for a second. That the server is not ready takes longer.
        wait_until(lambda: server.anyone.get("/readyz").status_code == 503)
        with ThreadPoolExecutor(2) as threads:
            asked = [threads.submit(caller.get, f"{project}/users/{CUID}") for caller in (leaked, owner)]
            # The requests are under way: the store is asked whether the keys were revoked.
            wait_until(lambda: any(each.running() for each in asked))
            proxy.release()
            assert asked[0].result().status_code in (401, 503)
            assert asked[1].result().status_code in (200, 503)

        def is_refused() -> bool:
            status = leaked.get(f"{project}/users/{CUID}").status_code
            assert status in (401, 503)
            return status == 401

        wait_until(is_refused)
        wait_until(lambda: owner.get(f"{project}/users/{CUID}").status_code == 200)
