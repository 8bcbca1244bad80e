"""Rejections over HTTP are in Chinese for callers who request it, without English prose."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.native_server import NativeServer, native_server
from support.server_process import ATTRIBUTE, REGISTER

PROSE = re.compile(r"\b[a-z]{2,} [a-z]{2,}\b|[a-z]{3,}, [a-z]{3,} [a-z]{3,}")
QUOTED = re.compile(r"`[^`]*`|（[^（）]*）")
"""Commands as they are typed, and what another program said of a body, which is quoted behind a Chinese text."""
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@dataclass(frozen=True)
class Place:
    server: NativeServer
    path: str
    owner: httpx.Client


@pytest.fixture(scope="module")
def place(server: NativeServer) -> Place:
    """A project with an attribute of each type and the user 1, who has values and the phone number 13800000000."""
    path, owner = server.new_project()
    for name, type, rule, more in (
        ("level", "NUMBER", "accumulate", {}),
        ("city", "STRING", "overwrite", {}),
        ("vip", "BOOL", "overwrite", {}),
        ("seen", "DATETIME", "overwrite", {}),
        ("tags", "LIST", "append", {"max_elements": 2, "max_element_bytes": 8}),
    ):
        declared = owner.post(f"{path}/attributes", json={"name": name, "type": type, "rule": rule, **more})
        assert declared.is_success, declared.text
    for name, unique, masked in (("phone", True, True), ("device", False, False)):
        declared = owner.post(f"{path}/identifiers", json={"name": name, "unique": unique, "masked": masked})
        assert declared.is_success, declared.text
    assert owner.post(f"{path}/users", json={"cuid": 1, "identifiers": {"phone": "13800000000"}}).is_success
    data = {"level": 10**37 * 9, "tags": ["a", "b"], "city": "x"}
    assert owner.put(ATTRIBUTE, json={"cuid": 1, "data": data}).json()["code"] == 0
    return Place(server, path, owner)


def sentences(answer: httpx.Response) -> list[str]:
    """Return the texts of an answer that are for people."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(value[name] for name in ("detail", "msg") if isinstance(value.get(name), str))
            for member in value.values():
                look(member)
        elif isinstance(value, list):
            for member in value:
                look(member)

    look(answer.json())
    return found


def check(answer: httpx.Response) -> None:
    told = [said for said in sentences(answer) if said not in ("", "ok")]
    assert told, answer.text
    for said in told:
        assert HAN.search(said), said
        assert not PROSE.search(QUOTED.sub("", said)), said


ZH = {"Accept-Language": "zh-CN,zh;q=0.9"}
JSON = {**ZH, "Content-Type": "application/json"}
BODIES = (
    *(
        b"",
        b"{",
        b"[]",
        b"nul",
        b'{"cuid":1}x',
        b'{"cuid":1,}',
        b"{cuid:1}",
        b'{"cuid" 1}',
        b'{"cuid":1 "data":2}',
        b"[1 2]",
    ),
    *(b'{"cuid":01}', b'{"cuid":"\\q"}', b'{"cuid":"\\ud800"}', b'{"cuid":"\xff"}', b'{"cuid":NaN}', b'{"cuid":"\x01"}'),
    *(b'{"cuid":1,"cuid":2}', b'{"cuid":' + b"[" * 5000, b'{"cuid":' + b"9" * 5000 + b"}", "{}".encode("utf-16")),
    *(gzip.compress(b"{}", mtime=0), b"\x28\xb5\x2f\xfd\0", b'{"cuid":1,"data":[' + b"[]," * 21_000 + b"[]]}"),
)
"""What no JSON object in UTF-8 is."""
VALUES: tuple[dict[str, Any], ...] = (
    *({"level": "n/a"}, {"level": None}, {"level": 10**40}, {"level": 10**38 - 1}, {"level": {"a": [1]}}),
    *({"city": []}, {"city": {}}, {"city": ["a"]}, {"city": "x" * 9000}, {"city": "\0"}, {"vip": 2}, {"vip": "true"}),
    *({"seen": "2024-02-30 00:00:00"}, {"seen": 1}, {"tags": "a"}, {"tags": [1]}, {"tags": ["x" * 9]}),
    *({"tags": ["a", "b", "c"]}, {"tags": ["c"]}, {"unknown": 1}, {f"a{n}": 1 for n in range(200)}, {}),
)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_not_json(place: Place, body: bytes) -> None:
    check(place.owner.put(ATTRIBUTE, content=body, headers=JSON))
    check(place.owner.post(f"{place.path}/attributes", content=body, headers=JSON))
    check(place.owner.post(f"{place.path}/users:batch", content=body, headers=JSON))
    record = b'{"on_unknown":"refuse","records":[%b]}' % (body or b"1")
    check(place.owner.post(f"{place.path}/users:batch", content=record, headers=JSON))


@pytest.mark.parametrize("data", VALUES)
def test_a_value_that_is_not_taken(place: Place, data: dict[str, Any]) -> None:
    prefer = {**ZH, "Prefer": "return=representation"}
    check(place.owner.put(ATTRIBUTE, json={"cuid": 1, "data": data}, headers=prefer))
    for record in ({"cuid": 1, "data": data}, {"identifiers": {"phone": "13800000000"}, "data": data}):
        if data or "cuid" in record:
            body = {"records": [record], "on_unknown": "refuse"}
            check(place.owner.post(f"{place.path}/users:batch", json=body, headers=ZH))


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"cuid": 1}, {"data": {"level": 1}}, {"cuid": "x", "data": {"level": 1}}, {"cuid": 9, "data": {"level": 1}}),
        *({"cuid": 10**400, "data": {"level": 1}}, {"cuid": 1.5, "data": 1}, {"cuid": 1, "data": []}),
    ],
)
def test_a_put_of_another_form(place: Place, body: dict[str, Any]) -> None:
    check(place.owner.put(ATTRIBUTE, json=body, headers=ZH))


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"identityName": "", "identityValues": ["a"]}, {"identityName": "x", "identityValues": ["a"]}),
        *({"identityName": "device", "identityValues": ["a"]}, {"identityName": "phone", "identityValues": []}),
        *({"identityName": "jg_UnionID", "identityValues": ["a"]}, {"identityName": "phone", "identityValues": [1, ""]}),
        {"identityName": "phone", "identityValues": ["x" * 257]},
    ],
)
def test_a_get_cuid_of_another_form(place: Place, body: dict[str, Any]) -> None:
    check(place.owner.post(REGISTER, json=body, headers=ZH))


@pytest.mark.parametrize(
    "record",
    [
        *(1, {}, {"cuid": 1}, {"data": {}}, {"cuid": 1, "data": {"level": 1}, "other": 1, "more": 2}),
        *({"cuid": 1, "identity": {"name": "phone", "value": "1"}, "data": {"level": 1}},),
        *({"identity": 1, "data": {"level": 1}}, {"identity": {"name": "phone", "value": ""}, "data": {"level": 1}}),
        *({"identity": {"name": "x", "value": "1"}, "data": {"level": 1}}, {"cuid": 1, "key": "a b", "data": {"level": 1}}),
        *({"identity": {"name": "phone", "value": "9"}, "data": {"level": 1}}, {"identifiers": 1}, {"identifiers": {}}),
        *({"identifiers": {"x": "1"}}, {"identifiers": {"phone": ["1"]}}, {"identifiers": {"phone": "1380*******"}}),
        *({"identifiers": {"phone": "9"}}, {"identifiers": {"phone": ""}}, {"identifiers": {"device": [1, {}]}}),
        *({"cuid": 1, "identifiers": {"phone": "1"}, "identity": {"name": "phone", "value": "1"}},),
    ],
)
def test_a_record_of_another_form(place: Place, record: Any) -> None:
    answer = place.owner.post(f"{place.path}/users:batch", json={"records": [record], "on_unknown": "refuse"}, headers=ZH)
    check(answer)


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"records": []}, {"records": 1}, {"records": [{}] * 1001}, {"records": [{}], "on_unknown": "x"}),
        *({"records": [{}], "on_unknown": 1}, {"records": [{}], "other": 1}, {"other": 1}),
        {"records": [{"identity": {"name": "phone", "value": "1"}, "data": {"level": 1}}]},
        {"records": [{"identifiers": {"phone": "1"}}], "on_unknown": "register"},
    ],
)
def test_a_batch_of_another_form(place: Place, body: dict[str, Any]) -> None:
    check(place.owner.post(f"{place.path}/users:batch", json=body, headers=ZH))


FORMS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "attributes", {}),
    ("POST", "attributes", {"name": "x", "type": "TEXT", "rule": "overwrite"}),
    ("POST", "attributes", {"name": "x", "type": "BOOL", "rule": "sum"}),
    ("POST", "attributes", {"name": "x", "type": "BOOL", "rule": "append"}),
    ("POST", "attributes", {"name": "X y", "type": "BOOL", "rule": "once"}),
    ("POST", "attributes", {"name": "jg_x", "type": "BOOL", "rule": "once"}),
    ("POST", "attributes", {"name": "level", "type": "BOOL", "rule": "once"}),
    ("POST", "attributes", {"name": "x", "type": "BOOL", "rule": "once", "max_elements": 3}),
    ("POST", "attributes", {"name": "x", "type": "LIST", "rule": "once", "max_elements": 0, "max_element_bytes": 10**9}),
    ("POST", "attributes", {"name": "x", "type": "LIST", "rule": "once", "display_name": "a\nb", "description": "\0"}),
    ("POST", "attributes", {"name": "x", "type": "LIST", "rule": "once", "display_name": "x" * 1001}),
    ("POST", "attributes", {"name": 1}),
    ("POST", "attributes", {"name": "x", "type": "BOOL", "rule": "once", "hidden": "yes"}),
    ("POST", "attributes", {"name": "x", "nmae": "y"}),
    ("PATCH", "attributes/level", {"display_name": None}),
    ("PATCH", "attributes/none", {"display_name": "x"}),
    ("GET", "attributes/none", None),
    ("DELETE", "attributes/level", None),
    ("POST", "identifiers", {"name": "phone"}),
    ("POST", "identifiers", {"name": "x", "unique": 1}),
    ("PATCH", "identifiers/none", {"masked": True}),
    ("DELETE", "identifiers/jg_UnionID", None),
    ("DELETE", "identifiers/phone", None),
    ("PUT", "identifiers:order", {"names": ["phone", "phone"]}),
    ("PUT", "identifiers:order", {"names": "phone"}),
    ("PUT", "schema", {"attributes": [], "identifiers": []}),
    ("PUT", "schema", {"attributes": [{"name": "level", "type": "BOOL", "rule": "once"}], "identifiers": []}),
    ("PUT", "schema?dry_run=1", {"attributes": [{"name": "level", "type": "BOOL", "rule": "once"}], "identifiers": []}),
    ("PUT", "schema?dry_run=1", {"attributes": [], "identifiers": [{"name": "phone", "unique": False}]}),
    ("PUT", "schema", {"attributes": [{"nmae": 1}]}),
    ("POST", "users", {"cuid": 1}),
    ("POST", "users", {"cuid": 0}),
    ("POST", "users", {"cuid": 2**63}),
    ("POST", "users", {"cuid": "1"}),
    ("POST", "users", {"cuid": 2, "identifiers": {"phone": "13800000000", "x": "1"}}),
    ("POST", "users:register", {"identifier": "phone", "values": []}),
    ("POST", "users:register", {"identifier": "none", "values": ["1"]}),
    ("POST", "users:register", {"identifier": "phone", "values": ["1"] * 1001}),
    ("GET", "users/9", None),
    ("GET", "users/x", None),
    ("DELETE", "users/9", None),
    ("PATCH", "", {"name": " "}),
    ("PATCH", "", {"timezone": "Asia/Nowhere"}),
    ("PATCH", "", {"qps": 1}),
    ("PATCH", "", {"qps": "many"}),
    ("PATCH", "", {"name": 5}),
    ("GET", "nothing", None),
    ("PUT", "users", {}),
)


@pytest.mark.parametrize(("method", "path", "body"), FORMS, ids=[f"{m} {p} {json.dumps(b)[:60]}" for m, p, b in FORMS])
def test_a_request_of_another_form(place: Place, method: str, path: str, body: Any) -> None:
    url = f"{place.path}/{path}" if path else place.path
    check(place.owner.request(method, url, json=body, headers=ZH))


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "lmit=1", "hidden=yes", "after=x", "where=%ff"),
        *("attributes=none", "identifier=phone", "identifier=none&value=1", "where=x", "where=level:eq:x", "where=@x:eq:1"),
        *("where=level:set:1", "where=level:like:1", "where=city:lt:x", "where=level:between:1", "where=level:in:a,%22b"),
        *("where=@cuid:eq:1.5", "where=seen:eq:x", "where=tags:contains:123456789", "where=vip:eq:2"),
        *("&".join(["where=level:set"] * 101), "where=level:in:" + ",".join(["1"] * 1001)),
    ],
)
def test_a_query_of_another_form(place: Place, query: str) -> None:
    check(place.owner.get(f"{place.path}/users?{query}", headers=ZH))


def test_a_request_that_may_not_be_made(place: Place) -> None:
    server, path = place.server, place.path
    changed = {**ZH, "If-Match": '"999"'}
    for answer in (
        server.anyone.get(path, headers=ZH),
        server.anyone.get("/api/v1/projects", headers=ZH),
        server.anyone.get("/api/v1/nothing", headers=ZH),
        server.anyone.put(ATTRIBUTE, json={}, headers=ZH),
        server.admin.get("/api/v1/projects/none", headers=ZH),
        server.admin.post("/api/v1/projects", json={"name": "x", "id": path.rpartition("/")[2]}, headers=ZH),
        server.admin.post("/api/v1/projects", json={"name": "x", "id": ".", "secret": "", "qps": 0}, headers=ZH),
        place.owner.patch(path, json={"name": "x"}, headers=changed),
        place.owner.patch(path, json={"name": "x"}, headers={**ZH, "If-Match": "x"}),
        place.owner.put(ATTRIBUTE, content=b"{}", headers={**ZH, "Content-Type": "text/plain"}),
        place.owner.put(ATTRIBUTE, content=b"{}", headers={**JSON, "Content-Encoding": "gzip"}),
        place.owner.put(ATTRIBUTE, content=gzip.compress(b"{}", mtime=0)[:-3], headers={**JSON, "Content-Encoding": "gzip"}),
        place.owner.put(
            ATTRIBUTE, content=gzip.compress(b"{}", mtime=0) + b"x", headers={**JSON, "Content-Encoding": "gzip"}
        ),
        place.owner.put(ATTRIBUTE, content=b"{}", headers={**JSON, "Content-Encoding": "br"}),
        place.owner.put(ATTRIBUTE, content=b" " * 2**21, headers=JSON),
        place.owner.put(f"{ATTRIBUTE}?dryRun=maybe", json={"cuid": 1, "data": {"level": 1}}, headers=ZH),
        place.owner.put(ATTRIBUTE, json={"cuid": 1, "data": {"city": "y"}}, headers={**ZH, "Idempotency-Key": "a b"}),
        place.owner.put(REGISTER, json={}, headers=ZH),
    ):
        assert answer.is_client_error, answer.text
        check(answer)
