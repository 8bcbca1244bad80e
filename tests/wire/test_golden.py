"""The platform's endpoints, byte for byte, over HTTP against the real server."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
import pytest

from support.actors import TESTER
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project
from usertable.app.service import Service
from usertable.dialects.jiguang.codes import CODES
from usertable.store import open_store

GOLDEN = Path(__file__).parent / "golden"
OK = b"Basic " + base64.b64encode(f"{PROJECT}:{SECRET}".encode())


def cases(file: str) -> list[tuple[str, str, str]]:
    """Return name, request and answer of every case."""
    found = []
    for case in (GOLDEN / file).read_text().split("\n=== ")[1:]:
        name, _, rest = case.partition("\n")
        request, answer = rest.split("\n---\n")
        found.append((name, request, answer.rstrip("\n")))
    return found


def as_bytes(text: str) -> bytes:
    text = re.sub(r"\{long:(\d+)\}", lambda found: "x" * int(found[1]), text)
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())


@pytest.mark.parametrize("file", sorted(path.name for path in GOLDEN.iterdir()))
def test_every_case(tmp_path: Path, file: str) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    store = open_store(url)
    service = Service(store)
    service.add_user(service.project(PROJECT), 10362473, {"phone": "18012345678"}, actor=TESTER)
    store.close()
    server = ServerProcess(url, tmp_path)
    try:
        with httpx.Client(base_url=server.url, timeout=30) as http:
            for name, request, answer in cases(file):
                head, _, body = request.partition("\n\n")
                (method, path), *headers = (line.split(" ", 1) for line in head.strip().split("\n"))
                sent = {key.rstrip(":").encode(): value.encode() for key, value in headers}
                if sent.get(b"Authorization") == b"ok":
                    sent[b"Authorization"] = OK
                got = http.request(method, path, headers=sent, content=as_bytes(body))
                # The number of a change depends on which writes were committed together.
                shown = re.sub(r'"change":[0-9]+', '"change":1024', got.text)
                wanted_head, _, wanted_body = answer.partition("\n\n")
                status, *wanted_headers = wanted_head.split("\n")
                assert (name, got.status_code, shown) == (name, int(status), wanted_body)
                for line in wanted_headers:
                    key, _, value = line.partition(": ")
                    assert (name, key, got.headers.get(key, "(none)")) == (name, key, value)
                assert got.headers["x-request-id"]
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_every_code_has_a_case() -> None:
    codes = {code for code, _ in CODES.values()} | {0, 40002}
    shown = {int(found) for _, _, answer in cases("attribute.txt") for found in re.findall(r'\{"code":(-?\d+)', answer)}
    # Rate limits and internal errors need a server of their own: test_platform and tests/faults.
    assert codes - shown == {4029, -1}


def test_the_example_header_of_the_document_is_a_pair_of_id_and_secret(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    service = Service(store)
    project, _ = service.create_project(
        "document", id="7d431e42dfa6a6d693ac2d04", secret="5e987ac6d2e04d95a9d8f0d1", actor=TESTER
    )
    service.add_user(project, 10362473, {}, actor=TESTER)
    store.close()
    server = ServerProcess(url, tmp_path)
    header = "Basic N2Q0MzFlNDJkZmE2YTZkNjkzYWMyZDA0OjVlOTg3YWM2ZDJlMDRkOTVhOWQ4ZjBkMQ=="
    try:
        body = '{"cuid":10362473,"data":{"user_number_once1":46.2}}'
        answer = httpx.put(server.url + ATTRIBUTE, content=body, headers={"Authorization": header}, timeout=30)
        assert answer.text == '{"code":40010,"msg":"用户属性[user_number_once1]不存在"}'
    finally:
        assert server.stop() == 0
