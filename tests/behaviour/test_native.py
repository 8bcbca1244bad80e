"""The native API as its callers see it, against a running server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.manual_clock import ManualClock
from support.native_server import NativeServer, native_server, serving_by
from support.server_process import ATTRIBUTE
from support.waiting import wait_until
from usertable.app.secrets import public_id
from usertable.http.operations import OPERATIONS
from usertable.store.migrations import migrations

PROJECTS = "/api/v1/projects"
CUID = 10362473


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def project(server: NativeServer) -> tuple[str, httpx.Client]:
    return server.new_project()


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem details of a rejection, after checking the members that all of them have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:usertable:problem:{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["problems"][0] == {
        "code": code,
        "attribute": problem["problems"][0]["attribute"],
        "detail": problem["detail"],
    }
    return problem


def done(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    return answer.json() if status != 204 else None


def declare(client: httpx.Client, path: str, name: str, type: str, rule: str = "overwrite", **more: Any) -> None:
    done(client.post(f"{path}/attributes", json={"name": name, "type": type, "rule": rule, **more}), 201)


# credentials


def test_admin_routes_take_the_admin_token_only(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    for answer in (
        server.anyone.get(PROJECTS),
        server.anyone.get(PROJECTS, headers={"Authorization": "Bearer wrong-token-wrong-token"}),
        owner.get(PROJECTS),
        owner.post(PROJECTS, json={"name": "mine"}),
        server.anyone.post(PROJECTS, json={"name": "mine"}),
    ):
        refused(answer, 401, "admin_only")
        assert answer.headers["www-authenticate"] == 'Bearer realm="usertable"'
    assert path.rpartition("/")[2] in [p["id"] for p in done(server.admin.get(PROJECTS))["projects"]]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "credentials"),
        ("Basic !!!", "credentials"),
        ("Basic bm9ib2R5Om5vdGhpbmc=", "credentials"),
        ("Bearer nobody-knows-this-token", "admin_only"),
        ("Bearer", "credentials"),
        ("Digest x", "credentials"),
    ],
)
def test_wrong_credentials(server: NativeServer, project: tuple[str, httpx.Client], header: str | None, code: str) -> None:
    answer = server.anyone.get(project[0], headers={"Authorization": header} if header else {})
    refused(answer, 401, code)
    challenges = [v for k, v in answer.headers.multi_items() if k == "www-authenticate"]
    assert challenges == ['Bearer realm="usertable"', 'Basic realm="usertable", charset="UTF-8"']


_BODIES: dict[str, Any] = {
    "edit_project": {"name": "stolen"},
    "declare_attribute": {"name": "stolen", "type": "NUMBER", "rule": "overwrite"},
    "edit_attribute": {"hidden": True},
    "declare_identifier": {"name": "stolen"},
    "edit_identifier": {"masked": True},
    "order_identifiers": {"names": ["phone"]},
    "put_schema": {"attributes": [], "identifiers": []},
    "add_user": {"cuid": 5},
    "write_users": {"records": [{"cuid": CUID, "data": {"level": 1}}]},
}


def test_a_project_sees_nothing_of_another(server: NativeServer) -> None:
    """On every route of a project, another project is answered exactly like one that does not exist."""
    theirs, owner = server.new_project()
    declare(owner, theirs, "level", "NUMBER")
    done(owner.post(f"{theirs}/identifiers", json={"name": "phone"}), 201)
    done(owner.post(f"{theirs}/users", json={"cuid": CUID, "identifiers": {"phone": "1"}}), 201)
    before = server.admin.get(f"{theirs}/changes").json(), server.admin.get(f"{theirs}/users").json()
    _, thief = server.new_project()
    nowhere = f"{PROJECTS}/nowhere"
    tried = set()
    for operation in OPERATIONS:
        if operation.access != "project":
            continue
        name = operation.handle.__name__
        item = "level" if "attributes" in operation.path else "phone"

        def ask(project: str, operation: Any = operation, name: str = name, item: str = item) -> tuple[Any, ...]:
            path = operation.path.replace(f"{PROJECTS}/{{project}}", project).format(name=item, cuid=CUID)
            answer = thief.request(operation.method, path, json=_BODIES.get(name), headers={"X-Request-Id": "same"})
            assert refused(answer, 404, "project_unknown")
            headers = {k: v for k, v in answer.headers.items() if k not in ("date", "content-length")}
            return headers, answer.text.replace(project.rpartition("/")[2], "")

        assert ask(theirs) == ask(nowhere)
        tried.add(name)
    assert tried >= set(_BODIES)
    assert (server.admin.get(f"{theirs}/changes").json(), server.admin.get(f"{theirs}/users").json()) == before


def test_the_admin_may_do_what_the_project_may(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    declare(server.admin, path, "level", "NUMBER")
    declare(owner, path, "score", "NUMBER")
    changes = done(owner.get(f"{path}/changes"))["changes"]
    assert [(c["actor"], c["what"]) for c in changes] == [
        ("key:default", "declare attribute score: NUMBER overwrite"),
        ("admin-token", "declare attribute level: NUMBER overwrite"),
        ("admin-token", "create project"),
    ]
    assert len(done(owner.get(f"{path}/changes", params={"limit": 1}))["changes"]) == 1


# what every answer has


def test_unknown_routes_and_methods(server: NativeServer) -> None:
    for path in ("/api", "/api/", "/api/v1", "/api/v1/nothing", "/api/v2/projects", "/api/v1/projects/"):
        status = server.admin.get(path).status_code
        assert status == 404, path
    refused(server.admin.get("/api/v1/nothing"), 404, "no_route")
    answer = server.admin.delete(PROJECTS)
    refused(answer, 405, "no_method")
    assert answer.headers["allow"] == "GET, POST, HEAD"
    answer = server.anyone.post("/readyz")
    refused(answer, 405, "no_method")
    assert answer.headers["allow"] == "GET, HEAD"
    answer = server.anyone.delete("/livez")
    refused(answer, 405, "no_method")


def test_head_is_get_without_the_body(server: NativeServer) -> None:
    for path in ("/readyz", "/livez", "/openapi.json", PROJECTS):
        head = server.admin.head(path)
        assert head.status_code == 200
        assert head.content == b""


def test_request_ids_are_echoed_or_made(server: NativeServer) -> None:
    answer = server.anyone.get(PROJECTS, headers={"X-Request-Id": "abc-1"})
    assert refused(answer, 401, "admin_only")["request_id"] == "abc-1"
    made = [server.admin.get(PROJECTS, headers={"X-Request-Id": "no spaces"}).headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert "no spaces" not in made


def test_messages_are_english_or_chinese(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    sent = {"name": "jg_level", "type": "NUMBER", "rule": "overwrite"}
    english = refused(owner.post(f"{path}/attributes", json=sent), 422, "name_preset")
    assert english["detail"] == "name [jg_level] is invalid: the prefix jg_ is reserved for presets"
    chinese = owner.post(f"{path}/attributes", json=sent, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert refused(chinese, 422, "name_preset")["detail"] == "名称[jg_level]无效：jg_ 为预置项专用前缀"


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        (b"", 400, "body_not_json", None),
        (b"{", 400, "body_not_json", None),
        (b"[]", 400, "body_not_object", None),
        (b'{"name":"a","name":"b"}', 400, "duplicate_key", "the key [name] is repeated in the body"),
        (
            b'{"name":"a","nmae":"b"}',
            400,
            "parameter",
            "parameter [nmae] is invalid; expected one of name, id, secret, timezone, qps",
        ),
        (b"{}", 400, "parameter", "parameter [name] is invalid; expected a value, but it is missing"),
        (b'{"name":1}', 400, "parameter", "parameter [name] is invalid; expected a string, got an integer"),
        (b'{"name":null}', 400, "parameter", "parameter [name] is invalid; expected a string, got null"),
        (b'{"name":"a","qps":"many"}', 400, "parameter", "parameter [qps] is invalid; expected a number or unlimited"),
        (b'{"name":"a","qps":1.5}', 400, "parameter", None),
        (b'{"name":"a","qps":true}', 400, "parameter", None),
        (b'{"name":" "}', 422, "project_name", None),
        (b'{"name":"a\\u0007"}', 422, "project_name", None),
        (b'{"name":"a","id":"a/b"}', 422, "project_id", None),
        (b'{"name":"a","id":"."}', 422, "project_id", None),
        (b'{"name":"a","id":".."}', 422, "project_id", None),
        (b'{"name":"a","secret":""}', 422, "secret", None),
        (b'{"name":"a","secret":"with space"}', 422, "secret", None),
        (b'{"name":"a","timezone":"Asia/Nowhere"}', 422, "timezone", None),
        (b'{"name":"a","qps":0}', 422, "qps", None),
        (b'{"name":"a","qps":1e30}', 400, "parameter", None),
        (b'{"name":"a","qps":1e99999999999999999999}', 400, "parameter", None),
        (b'{"name":"a","qps":-1e-99999999999999999999}', 400, "parameter", None),
        (b'{"name":"a","qps":1' + b"0" * 4000 + b"}", 422, "qps", None),
        (b'{"name":' + b"[" * 900 + b"]" * 900 + b"}", 400, "parameter", None),
        (b'{"name":' + b"[" * 8_000 + b"]" * 8_000 + b"}", 400, "body_not_json", None),
        (b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 413, "body_containers", None),
        (b'{"n":' * 900 + b"1" + b"}" * 900, 400, "parameter", None),
    ],
)
def test_what_a_body_can_have_wrong(server: NativeServer, body: bytes, status: int, code: str, detail: str | None) -> None:
    answer = server.admin.post(PROJECTS, content=body, headers={"Content-Type": "application/json"})
    problem = refused(answer, status, code)
    assert detail is None or problem["detail"] == detail


def test_no_depth_of_nesting_is_a_defect(table: tuple[str, httpx.Client]) -> None:
    """Also near the maximum depth of each parser."""
    path, owner = table
    for depth in (100, 300, 600, *range(940, 1010, 3)):
        for opening, closing in ((b"[", b"]"), (b'{"x": ', b"}")):
            nested = opening * depth + b"1" + closing * depth
            answer = owner.put(ATTRIBUTE, content=b'{"cuid":11,"data":{"a_list":' + nested + b"}}")
            assert (answer.status_code, answer.json()["code"]) == (400, 40002), (depth, answer.text)
            answer = owner.patch(path, content=b'{"name":' + nested + b"}")
            assert answer.status_code == 400, (depth, answer.text)


def test_a_body_must_be_json_and_of_bearable_size(server: NativeServer) -> None:
    answer = server.admin.post(PROJECTS, content=b"{}", headers={"Content-Type": "text/plain"})
    refused(answer, 415, "content_type")
    answer = server.admin.post(PROJECTS, content=b" " * 1_048_577, headers={"Content-Type": "application/json"})
    refused(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "parameter [limit] is invalid; expected an integer, at least 1, got [0]"),
        ("limit=1001", "parameter [limit] is invalid; expected an integer, at most 1000, got [1001]"),
        ("limit=x", "parameter [limit] is invalid; expected an integer, got [x]"),
        ("limit=1&limit=2", "parameter [limit] is invalid; expected a single value"),
        (
            "lmit=1",
            "parameter [lmit] is invalid; expected one of attributes, hidden, after, limit, where, identifier, value",
        ),
        ("hidden=yes", "parameter [hidden] is invalid; expected one of 0, 1, false, true, got [yes]"),
        ("after=1", "parameter [after] is invalid; expected a string that matches ^[0-7][0-9a-f]{15}$, got [1]"),
        ("after=ffffffffffffffff", None),
        ("where=%ff", "parameter [query] is invalid; expected percent-encoded UTF-8"),
    ],
)
def test_what_a_query_can_have_wrong(project: tuple[str, httpx.Client], query: str, detail: str | None) -> None:
    path, owner = project
    problem = refused(owner.get(f"{path}/users?{query}"), 400, "parameter")
    assert detail is None or problem["detail"] == detail
    refused(owner.get(f"{path}?pretty=1"), 400, "parameter")


def test_native_calls_of_a_project_count_against_its_limit() -> None:
    with serving_by(ManualClock()) as server:
        path, owner = server.new_project(qps=3)
        answers = [owner.get(path) for _ in range(8)]
        assert all(a.headers["ratelimit-limit"] == "3" for a in answers)
        assert answers[0].headers["ratelimit-remaining"] == "2"
        assert [a.status_code for a in answers[:3]] == [200] * 3
        for answer in answers[3:]:
            refused(answer, 429, "rate_limited")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["ratelimit-remaining"] == "0"
        # The platform's endpoints have a limit of their own, and the admin has none.
        assert owner.put(ATTRIBUTE, json={"cuid": 1, "data": {"x": 1}}).status_code == 400
        assert [server.admin.get(path).status_code for _ in range(8)] == [200] * 8


# projects


def test_create_show_edit_a_project(server: NativeServer) -> None:
    answer = server.admin.post(
        PROJECTS, json={"name": "商城", "id": "shop-1", "secret": "s3cret", "timezone": "UTC", "qps": 7}
    )
    made = done(answer, 201)
    assert answer.headers["location"] == "/api/v1/projects/shop-1"
    created_at = made.pop("created_at")
    assert created_at.endswith("Z")
    shown = {"id": "shop-1", "name": "商城", "timezone": "UTC", "qps": 7, "version": 1}
    assert made == shown | {"secret": "s3cret"}
    owner = server.caller("shop-1", "s3cret")
    assert done(owner.get(answer.headers["location"])) == shown | {"created_at": created_at}
    assert done(server.admin.get(answer.headers["location"])) == shown | {"created_at": created_at}
    refused(server.admin.post(PROJECTS, json={"name": "other", "id": "shop-1"}), 409, "project_exists")

    own_limit = owner.patch(f"{PROJECTS}/shop-1", json={"qps": "unlimited", "timezone": "Europe/Berlin"})
    refused(own_limit, 401, "admin_only")
    assert own_limit.headers["www-authenticate"].startswith("Bearer")
    edited = done(server.admin.patch(f"{PROJECTS}/shop-1", json={"qps": "unlimited", "timezone": "Europe/Berlin"}))
    assert edited == shown | {"created_at": created_at, "qps": "unlimited", "timezone": "Europe/Berlin", "version": 2}
    assert done(owner.patch(f"{PROJECTS}/shop-1", json={})) == edited
    refused(owner.patch(f"{PROJECTS}/shop-1", json={"id": "shop-2"}), 400, "parameter")
    refused(server.admin.patch(f"{PROJECTS}/none", json={}), 404, "project_unknown")


def test_what_is_left_out_of_a_project_is_made(server: NativeServer) -> None:
    made = done(server.admin.post(PROJECTS, json={"name": "a"}), 201)
    assert made["id"].isdigit()
    assert public_id(made["secret"])
    assert (made["timezone"], made["qps"]) == ("Asia/Shanghai", 100)
    assert "secret" not in done(server.admin.get(f"{PROJECTS}/{made['id']}"))
    listed = done(server.admin.get(PROJECTS))["projects"]
    assert made["id"] in [p["id"] for p in listed]
    assert not any("secret" in p for p in listed)


def test_rotating_the_secret(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    name = path.rpartition("/")[2]
    secret = done(owner.post(f"{path}/secret:rotate"))["secret"]
    assert public_id(secret)
    assert done(server.caller(name, secret).get(path))["id"] == name
    refused(owner.get(path), 401, "credentials")
    assert done(server.admin.post(f"{path}/secret:rotate", json={"secret": "chosen"}))["secret"] == "chosen"
    refused(server.admin.post(f"{path}/secret:rotate", json={"secret": ""}), 422, "secret")
    text = server.admin.get(f"{path}/changes").text
    assert secret not in text
    assert "chosen" not in text


# attributes and identifiers


def test_a_change_that_names_a_version_is_made_for_that_version_only(project: tuple[str, httpx.Client]) -> None:
    path, client = project
    shown = client.get(path)
    tag = shown.headers["etag"]
    assert tag == f'"{shown.json()["version"]}"'
    new = {"name": "guarded", "type": "BOOL", "rule": "once"}
    assert client.post(f"{path}/attributes", json=new, headers={"If-Match": tag}).status_code == 201
    # The project has changed since, whatever of it is changed now.
    for method, rest, body in (
        ("PATCH", "", {"name": "late"}),
        ("POST", "/secret:rotate", {}),
        ("POST", "/attributes", {**new, "name": "late"}),
        ("PATCH", "/attributes/guarded", {"hidden": True}),
        ("DELETE", "/attributes/guarded", None),
        ("POST", "/identifiers", {"name": "late"}),
        ("PATCH", "/identifiers/jg_UnionID", {"masked": True}),
        ("DELETE", "/identifiers/jg_UnionID", None),
        ("PUT", "/identifiers:order", {"names": ["jg_UnionID", "jg_registration_id"]}),
        ("PUT", "/schema", client.get(f"{path}/schema").json()),
        ("PUT", "/schema?dry_run=1", client.get(f"{path}/schema").json()),
    ):
        answer = client.request(method, path + rest, json=body, headers={"If-Match": tag})
        assert (answer.status_code, answer.json()["code"]) == (412, "project_changed"), (method, rest)
    fresh = client.get(path)
    assert fresh.json()["version"] == shown.json()["version"] + 1
    # As it is, weakened by a proxy that compresses, or any.
    for sent in (fresh.headers["etag"], None, "*"):
        if sent is None:
            sent = f"W/{client.get(path).headers['etag']}"
        answer = client.patch(path, json={"timezone": "UTC" if sent == "*" else "Asia/Tokyo"}, headers={"If-Match": sent})
        assert answer.status_code == 200
        assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    wrong = client.patch(path, json={"name": "late"}, headers={"If-Match": "seven"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "parameter")
    assert client.get(path).json()["name"] == shown.json()["name"]


def test_the_life_of_an_attribute(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    sent = {"name": "tags", "type": "LIST", "rule": "append", "display_name": "标签", "max_elements": 2}
    answer = owner.post(f"{path}/attributes", json=sent)
    shown = sent | {"description": "", "hidden": False, "reported": False, "max_element_bytes": 512, "history": True}
    assert done(answer, 201) == shown
    assert done(owner.get(answer.headers["location"])) == shown
    refused(owner.post(f"{path}/attributes", json=sent), 409, "name_taken")

    edited = done(owner.patch(f"{path}/attributes/tags", json={"description": "two\nlines", "hidden": True}))
    assert edited == shown | {"description": "two\nlines", "hidden": True}
    refused(owner.patch(f"{path}/attributes/tags", json={"type": "STRING"}), 400, "parameter")
    refused(owner.patch(f"{path}/attributes/tags", json={"display_name": "x" * 1001}), 422, "text_too_long")
    refused(owner.patch(f"{path}/attributes/none", json={}), 404, "attribute_unknown")
    refused(owner.get(f"{path}/attributes/none"), 404, "attribute_unknown")

    done(owner.post(f"{path}/users", json={"cuid": CUID}), 201)
    assert owner.put(ATTRIBUTE, json={"cuid": CUID, "data": {"tags": ["a"]}}).json() == {"code": 0, "msg": "ok"}
    assert done(owner.get(f"{path}/attributes/tags"))["reported"] is True
    refused(owner.delete(f"{path}/attributes/tags"), 409, "attribute_in_use")
    declare(owner, path, "unused", "BOOL")
    done(owner.delete(f"{path}/attributes/unused"), 204)
    refused(owner.delete(f"{path}/attributes/unused"), 404, "attribute_unknown")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"name": "Level", "type": "NUMBER", "rule": "once"}, 422, "name_form"),
        ({"name": "level", "type": "STRING", "rule": "append"}, 422, "rule_illegal"),
        ({"name": "level", "type": "NUMBER", "rule": "once", "max_elements": 3}, 422, "limit_illegal"),
        ({"name": "level", "type": "LIST", "rule": "once", "max_elements": 0}, 422, "limit_illegal"),
        ({"name": "level", "type": "NUMBER", "rule": "once", "display_name": "a\nb"}, 422, "parameter"),
        ({"name": "level", "type": "NUMBER", "rule": "sometimes"}, 400, "parameter"),
        ({"name": "level", "type": "number", "rule": "once"}, 400, "parameter"),
    ],
)
def test_attributes_that_cannot_be_declared(
    project: tuple[str, httpx.Client], sent: dict[str, Any], status: int, code: str
) -> None:
    path, owner = project
    refused(owner.post(f"{path}/attributes", json=sent), status, code)


def test_finding_attributes(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    declare(owner, path, "user_level", "NUMBER", display_name="等级")
    declare(owner, path, "user_score", "NUMBER", "accumulate", display_name="Total SCORE")
    declare(owner, path, "user_old", "STRING", hidden=True)

    def names(**query: str) -> list[str]:
        return [a["name"] for a in done(owner.get(f"{path}/attributes", params=query))["attributes"]]

    assert names() == ["user_level", "user_score"]
    assert names(status="hidden") == ["user_old"]
    assert names(status="all") == ["user_level", "user_score", "user_old"]
    assert names(search="等") == ["user_level"]
    assert names(search="total") == ["user_score"]
    assert names(search="USER_L") == ["user_level"]
    assert names(type="STRING", status="all") == ["user_old"]
    assert names(rule="accumulate") == ["user_score"]
    refused(owner.get(f"{path}/attributes?status=gone"), 400, "parameter")
    refused(owner.get(f"{path}/attributes?type=null"), 400, "parameter")


def test_what_is_declared_can_be_used_at_once(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    done(owner.post(f"{path}/users", json={"cuid": CUID}), 201)
    for n in range(5):
        assert owner.put(ATTRIBUTE, json={"cuid": CUID, "data": {f"a{n}": 1}}).json()["code"] == 40010
        declare(owner, path, f"a{n}", "NUMBER")
        assert owner.put(ATTRIBUTE, json={"cuid": CUID, "data": {f"a{n}": 1}}).json() == {"code": 0, "msg": "ok"}


def test_the_life_of_an_identifier(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    answer = owner.post(f"{path}/identifiers", json={"name": "phone", "display_name": "手机号", "masked": True})
    phone = {"name": "phone", "display_name": "手机号", "priority": 1, "unique": True, "masked": True, "preset": False}
    assert done(answer, 201) == phone
    assert done(owner.get(answer.headers["location"])) == phone
    done(owner.post(f"{path}/identifiers", json={"name": "login_id", "unique": False}), 201)

    def order() -> list[str]:
        listed = done(owner.get(f"{path}/identifiers"))["identifiers"]
        assert [i["priority"] for i in listed] == list(range(1, len(listed) + 1))
        return [i["name"] for i in listed]

    assert order() == ["phone", "login_id", "jg_registration_id", "jg_UnionID"]
    wanted = ["jg_UnionID", "login_id", "phone", "jg_registration_id"]
    ordered = done(owner.put(f"{path}/identifiers:order", json={"names": wanted}))["identifiers"]
    assert [i["name"] for i in ordered] == order() == wanted
    refused(owner.put(f"{path}/identifiers:order", json={"names": wanted[1:]}), 422, "identifier_order")
    assert done(owner.patch(f"{path}/identifiers/phone", json={"masked": False}))["masked"] is False
    refused(owner.patch(f"{path}/identifiers/phone", json={"unique": False}), 400, "parameter")
    refused(owner.patch(f"{path}/identifiers/none", json={}), 404, "identifier_unknown")
    refused(owner.delete(f"{path}/identifiers/jg_UnionID"), 409, "identifier_preset")
    done(owner.post(f"{path}/users", json={"cuid": 7, "identifiers": {"phone": "1"}}), 201)
    refused(owner.delete(f"{path}/identifiers/phone"), 409, "identifier_in_use")
    done(owner.delete(f"{path}/identifiers/login_id"), 204)
    refused(owner.get(f"{path}/identifiers/login_id"), 404, "identifier_unknown")


# schema as code


def test_a_schema_can_be_read_planned_and_applied(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    wanted = {
        "attributes": [
            {"name": "level", "type": "NUMBER", "rule": "overwrite", "display_name": "等级"},
            {"name": "tags", "type": "LIST", "rule": "append", "max_elements": 5},
        ],
        "identifiers": [{"name": "phone", "masked": True}, {"name": "login_id"}],
    }
    plan = done(owner.put(f"{path}/schema?dry_run=1", json=wanted))
    assert plan["dry_run"] is True
    assert plan["refused"] == []
    assert [(s["verb"], s["name"]) for s in plan["steps"]] == [
        ("declare", "level"),
        ("declare", "tags"),
        ("declare", "phone"),
        ("declare", "login_id"),
    ]
    assert done(owner.get(f"{path}/attributes"))["attributes"] == []
    assert done(owner.put(f"{path}/schema", json=wanted)) == plan | {"dry_run": False}

    # What is read can be sent back, and sent to another project makes the same schema.
    read = done(owner.get(f"{path}/schema"))
    assert [a["name"] for a in read["attributes"]] == ["level", "tags"]
    assert read["attributes"][1]["max_elements"] == 5
    assert "max_elements" not in read["attributes"][0]
    assert [i["name"] for i in read["identifiers"]] == ["phone", "login_id", "jg_registration_id", "jg_UnionID"]
    assert done(owner.put(f"{path}/schema", json=read)) == {"dry_run": False, "steps": [], "refused": []}
    other, stranger = server.new_project()
    done(stranger.put(f"{other}/schema", json=read))
    assert done(stranger.get(f"{other}/schema")) == read


def test_a_schema_that_would_lose_data_is_refused_whole(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    declare(owner, path, "level", "NUMBER")
    sent = {
        "attributes": [
            {"name": "level", "type": "STRING", "rule": "overwrite"},
            {"name": "fresh", "type": "STRING", "rule": "overwrite"},
        ],
        "identifiers": [],
    }
    plan = done(owner.put(f"{path}/schema?dry_run=true", json=sent))
    assert [s["name"] for s in plan["refused"]] == ["level"]
    problem = refused(owner.put(f"{path}/schema", json=sent), 409, "attribute_fixed")
    assert "change attribute level: NUMBER overwrite cannot become STRING overwrite" in problem["detail"]
    assert [a["name"] for a in done(owner.get(f"{path}/attributes"))["attributes"]] == ["level"]


def test_all_that_is_wrong_with_a_schema_is_told(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    sent = {
        "attributes": [
            {"name": "Level", "type": "NUMBER", "rule": "overwrite"},
            {"name": "tags", "type": "BOOL", "rule": "append"},
            {"name": "tags", "type": "LIST", "rule": "append"},
        ],
        "identifiers": [{"name": "phone"}, {"name": "phone"}, {"name": "jg_more"}],
    }
    for query in ("", "?dry_run=1"):
        problem = refused(owner.put(f"{path}/schema{query}", json=sent), 422, "name_form")
        assert [(p["code"], p["attribute"]) for p in problem["problems"]] == [
            ("name_form", "Level"),
            ("rule_illegal", "tags"),
            ("name_taken", "tags"),
            ("name_taken", "phone"),
            ("name_preset", "jg_more"),
        ]
    sent["attributes"][0]["type"] = "NUM"
    problem = refused(owner.put(f"{path}/schema", json=sent), 400, "parameter")
    assert problem["detail"].startswith("parameter [attributes[0].type] is invalid; expected one of NUMBER, STRING")


# users


@pytest.fixture
def table(server: NativeServer) -> tuple[str, httpx.Client]:
    """Create a project with one attribute of every type and three users."""
    path, owner = server.new_project(timezone="Europe/Berlin")
    for type_ in ("NUMBER", "STRING", "BOOL", "DATETIME", "LIST"):
        declare(owner, path, f"a_{type_.lower()}", type_)
    declare(owner, path, "a_hidden", "STRING", hidden=True)
    done(owner.post(f"{path}/identifiers", json={"name": "phone", "masked": True}), 201)
    for cuid, level in ((11, 1), (12, 2), (2**63 - 1, 3)):
        done(owner.post(f"{path}/users", json={"cuid": cuid, "identifiers": {"phone": f"1801234567{level}"}}), 201)
        data = {"a_number": level, "a_hidden": "secret"}
        assert owner.put(ATTRIBUTE, json={"cuid": cuid, "data": data}).json()["code"] == 0
    return path, owner


def test_a_user_is_shown_exactly(table: tuple[str, httpx.Client]) -> None:
    path, owner = table
    data = b"""{"cuid":11,"data":{"a_number":0.10000000000000000000000000000000000001,"a_string":"\xe4\xbd\xa0","a_bool":1,
        "a_datetime":"2023-12-12 00:56:23","a_list":["b","a"]}}"""
    assert owner.put(ATTRIBUTE, content=data).json()["code"] == 0
    answer = owner.get(f"{path}/users/11")
    user = done(answer)
    assert '"a_number":0.10000000000000000000000000000000000001' in answer.text
    assert list(user) == ["cuid", "version", "created_at", "updated_at", "attributes", "identifiers", "changed_at"]
    assert user["changed_at"] == dict.fromkeys(user["attributes"], user["updated_at"])
    assert user["cuid"] == 11
    assert user["version"] == 3
    assert user["created_at"] <= user["updated_at"]
    del user["attributes"]["a_number"]
    assert user["attributes"] == {
        "a_string": "你",
        "a_bool": True,
        "a_datetime": "2023-12-12 00:56:23",
        "a_list": ["b", "a"],
    }
    assert user["identifiers"] == {"phone": ["18012345671"]}
    assert done(owner.get(f"{path}/users/9223372036854775807"))["cuid"] == 2**63 - 1
    for unknown in ("13", "0", "-1", "011", "x", "9223372036854775808", "9" * 30):
        refused(owner.get(f"{path}/users/{unknown}"), 404, "cuid_unknown")


def test_hidden_attributes_are_shown_on_request_only(table: tuple[str, httpx.Client]) -> None:
    path, owner = table

    def shown(query: str) -> list[str]:
        one = list(done(owner.get(f"{path}/users/12?{query}"))["attributes"])
        assert list(done(owner.get(f"{path}/users?{query}"))["users"][1]["attributes"]) == one
        return one

    assert shown("") == ["a_number"]
    assert shown("hidden=0") == ["a_number"]
    assert shown("hidden=1") == ["a_number", "a_hidden"]
    assert shown("attributes=a_hidden,a_number") == ["a_hidden", "a_number"]
    assert shown("attributes=a_bool") == []
    assert shown("attributes=") == []
    refused(owner.get(f"{path}/users?attributes=a_number,none"), 422, "attribute_unknown")


def test_paging_through_the_table(table: tuple[str, httpx.Client]) -> None:
    path, owner = table
    seen = []
    query: dict[str, Any] = {"limit": 1}
    while True:
        page = done(owner.get(f"{path}/users", params=query))
        seen += [u["cuid"] for u in page["users"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert seen == [11, 12, 2**63 - 1]
    whole = done(owner.get(f"{path}/users"))
    assert whole["next"] is None
    assert [u["identifiers"] for u in whole["users"]] == [{"phone": ["1801*******"]}] * 3


def test_filtering_the_table(table: tuple[str, httpx.Client]) -> None:
    path, owner = table
    assert owner.put(ATTRIBUTE, json={"cuid": 11, "data": {"a_list": ["news"], "a_bool": 0}}).json()["code"] == 0

    def found(*conditions: str) -> list[int]:
        return [u["cuid"] for u in done(owner.get(f"{path}/users", params={"where": list(conditions)}))["users"]]

    assert found("a_number:ge:2") == [12, 2**63 - 1]
    assert found("a_number:ge:2", "a_number:lt:3") == [12]
    assert found("a_number:in:1,3") == [11, 2**63 - 1]
    assert found("a_list:contains:news") == [11]
    assert found("a_bool:unset") == [12, 2**63 - 1]
    for wrong in ("a_number", "none:set", "a_number:ge:x", "a_list:eq:news", "a_number:set:1", "a_number:like:1"):
        refused(owner.get(f"{path}/users", params={"where": wrong}), 422, "condition")


def test_one_of_several_values_may_hold_a_comma(table: tuple[str, httpx.Client]) -> None:
    path, owner = table
    for cuid, text in ((11, "Washington, D.C."), (12, "Paris")):
        assert owner.put(ATTRIBUTE, json={"cuid": cuid, "data": {"a_string": text}}).json()["code"] == 0
    answer = owner.get(f"{path}/users", params={"where": 'a_string:in:"Washington, D.C.",Paris'})
    assert [u["cuid"] for u in done(answer)["users"]] == [11, 12]
    for unclear in ("Washington, D.C.,Paris", "Washington\\, D.C.,Paris", '"Washington, D.C.,Paris'):
        problem = refused(owner.get(f"{path}/users", params={"where": f"a_string:in:{unclear}"}), 422, "condition")
        assert 'double quotes, as in "Washington, D.C.",Paris' in problem["detail"]


def test_a_filter_beyond_its_bounds_is_refused_with_the_bound(table: tuple[str, httpx.Client]) -> None:
    path, owner = table
    many = owner.get(f"{path}/users", params={"where": ["a_number:eq:1"] * 101})
    assert "at most 100 conditions" in refused(many, 422, "condition")["detail"]
    many = owner.get(f"{path}/users", params={"where": "a_number:in:" + ",".join(map(str, range(1001)))})
    assert "at most 1000 values" in refused(many, 422, "condition")["detail"]


def test_finding_a_user_by_an_identifier(table: tuple[str, httpx.Client]) -> None:
    path, owner = table

    def found(**query: str) -> list[int]:
        page = done(owner.get(f"{path}/users", params=query))
        assert page["next"] is None
        return [u["cuid"] for u in page["users"]]

    assert found(identifier="phone", value="18012345672") == [12]
    assert found(identifier="phone", value="18012345672 ") == []
    assert found(identifier="phone", value="") == []
    assert found(identifier="phone", value="18012345672", where="a_number:gt:2") == []
    refused(owner.get(f"{path}/users?identifier=none&value=1"), 422, "identifier_unknown")
    refused(owner.get(f"{path}/users?identifier=phone"), 422, "parameter")
    refused(owner.get(f"{path}/users?value=1"), 422, "parameter")


def test_importing_and_erasing_a_user(table: tuple[str, httpx.Client]) -> None:
    path, owner = table
    sent: dict[str, Any] = {"cuid": 2**60, "identifiers": {"phone": "new", "jg_UnionID": "u"}}
    answer = owner.post(f"{path}/users", json=sent)
    user = done(answer, 201)
    assert (user["cuid"], user["version"], user["attributes"]) == (2**60, 1, {})
    assert user["identifiers"] == {"phone": ["new"], "jg_UnionID": ["u"]}
    assert done(owner.get(answer.headers["location"])) == user
    refused(owner.post(f"{path}/users", json=sent), 409, "cuid_exists")
    refused(owner.post(f"{path}/users", json={**sent, "cuid": 5}), 409, "identifier_taken")
    refused(owner.post(f"{path}/users", json={"cuid": 5, "identifiers": {"none": "1"}}), 422, "identifier_unknown")
    for wrong in ({"cuid": 0}, {"cuid": 2**63}, {"cuid": "5"}, {"cuid": True}, {}, {"cuid": 5, "attributes": {}}):
        refused(owner.post(f"{path}/users", json=wrong), 400, "parameter")
    for value in ("", "x" * 257, "a\0b", 5, None, ["x"]):
        refused(owner.post(f"{path}/users", json={"cuid": 5, "identifiers": {"phone": value}}), 400, "parameter")

    erased = owner.delete(answer.headers["location"])
    done(erased, 204)
    assert erased.content == b""
    refused(owner.get(answer.headers["location"]), 404, "cuid_unknown")
    refused(owner.delete(answer.headers["location"]), 404, "cuid_unknown")
    refused(owner.post(f"{path}/users", json=sent), 409, "cuid_erased")
    assert done(owner.get(f"{path}/users?identifier=phone&value=new"))["users"] == []


# which build it is


def test_the_server_tells_its_build_and_its_store_s_version(server: NativeServer) -> None:
    answer = server.anyone.get("/version")
    newest = len(migrations("sqlite"))
    assert done(answer) == {"version": server.process.version, "engine": "sqlite", "store_version": newest}


# when the server cannot


def test_a_store_that_is_busy_or_broken(server: NativeServer) -> None:
    ready = server.anyone.get("/readyz")
    assert done(ready) == {"status": "ready"}
    with sqlite3.connect(server.database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = server.admin.post(PROJECTS, json={"name": "later"})
        other.execute("ROLLBACK")
        refused(answer, 503, "store_down")
        assert answer.headers["retry-after"] == "1"
        assert "database" not in answer.text
        # The lock was one reason not to be ready, and must be over before the next one is looked for.
        assert done(wait_for_readiness(server, 200)) == {"status": "ready"}
        other.execute("ALTER TABLE last_write RENAME TO gone")
        try:
            # It is looked at once a second.
            answer = wait_for_readiness(server, 503)
            refused(answer, 503, "store_down")
            assert answer.headers["retry-after"] == "1"
        finally:
            other.execute("ALTER TABLE gone RENAME TO last_write")
    other.close()
    assert done(wait_for_readiness(server, 200)) == {"status": "ready"}


def wait_for_readiness(server: NativeServer, status: int) -> httpx.Response:
    return wait_until(lambda: answer if (answer := server.anyone.get("/readyz")).status_code == status else None)


def test_a_defect_is_logged_and_not_shown(server: NativeServer) -> None:
    path, _ = server.new_project()
    name = path.rpartition("/")[2]
    with sqlite3.connect(server.database, isolation_level=None) as other:
        (document,) = other.execute("SELECT document FROM project WHERE id = ?", (name,)).fetchone()
        other.execute("UPDATE project SET document = ? WHERE id = ?", (json.dumps({"broken": "innermost"}), name))
        answer = server.admin.get(path, headers={"X-Request-Id": "find-me"})
        other.execute("UPDATE project SET document = ? WHERE id = ?", (document, name))
    other.close()
    problem = refused(answer, 500, "internal")
    assert problem["detail"] == "internal error; quote request id find-me"
    assert "it was answered with 500 [request_id=find-me]" in server.process.log
    assert done(server.admin.get(path))["id"] == name
