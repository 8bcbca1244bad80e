"""Rows of an import in a batch, as callers of the API see them, for every store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.engines import ENGINES
from support.native_server import NativeServer, native_server

IDENTIFIERS = {"phone": True, "mail": True, "device": False}
ATTRIBUTES = {"spent": ("NUMBER", "accumulate"), "seen": ("DATETIME", "overwrite"), "name": ("STRING", "once")}


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    folder = tmp_path_factory.mktemp("server")
    with ENGINES[request.param](folder) as url, native_server(folder, url) as started:
        yield started
        assert "Traceback" not in started.process.log


class Import:
    """A new project, and batches for it."""

    def __init__(self, server: NativeServer, **settings: Any) -> None:
        self.path, self.owner = server.new_project(**settings)
        for name, (data_type, rule) in ATTRIBUTES.items():
            body = {"name": name, "type": data_type, "rule": rule}
            assert self.owner.post(f"{self.path}/attributes", json=body).status_code == 201
        for name, unique in IDENTIFIERS.items():
            identifier = {"name": name, "unique": unique}
            assert self.owner.post(f"{self.path}/identifiers", json=identifier).status_code == 201

    def post(self, *records: Any, query: str = "", language: str = "en", **more: Any) -> httpx.Response:
        body = {"records": records, "on_unknown": "import", **more}
        headers = {"Accept-Language": language}
        return self.owner.post(f"{self.path}/users:batch{query}", json=body, headers=headers)

    def send(self, *records: Any, **more: Any) -> list[Any]:
        answer = self.post(*records, **more)
        assert answer.status_code == 200, answer.text
        results: list[Any] = answer.json()["results"]
        assert len(results) == len(records)
        return results

    def user(self, cuid: int) -> Any:
        return self.owner.get(f"{self.path}/users/{cuid}").json()


def effects(results: list[Any]) -> list[Any]:
    """Return the effect of each applied record, and the kinds of problems of each other."""
    return [r["effect"] if r["code"] == 0 else [p["kind"] for p in r["problems"]] for r in results]


def test_users_come_with_their_cuid_and_all_their_identifiers(server: NativeServer) -> None:
    place = Import(server)
    results = place.send(
        {"cuid": 7, "identifiers": {"phone": "a", "mail": "a@x", "device": ["d1", "d2"]}, "data": {"spent": 0.1}},
        {"cuid": "9007199254740993", "identifiers": {}},
        {"identifiers": {"mail": "b@x", "phone": "b"}, "data": {"spent": 1, "seen": "2024-10-27 02:30:00.500+01:00"}},
        {"identifiers": {"device": "d2"}, "data": {"spent": 0.2}},
        {"cuid": 7, "identifiers": {"device": ["d2"]}},
        {"identity": {"name": "phone", "value": "c"}, "data": {"name": "c"}},
        {"cuid": 8, "data": {"name": "h"}},
    )
    assert effects(results) == ["created", "created", "created", "changed", "unchanged", "created", "created"]
    assert [r["cuid"] for r in results[:2]] == [7, 9007199254740993]
    assert results[0] == {
        "code": 0,
        "msg": "ok",
        "cuid": 7,
        "version": 2,
        "outcomes": {"spent": "applied"},
        "problems": [],
        "replayed": False,
        "effect": "created",
    }
    first, second, third = (place.user(results[n]["cuid"]) for n in (0, 1, 2))
    assert first["identifiers"] == {"phone": ["a"], "mail": ["a@x"], "device": ["d1", "d2"]}
    assert first["attributes"] == {"spent": 0.3}
    assert (second["version"], second["identifiers"], second["attributes"]) == (1, {}, {})
    assert third["identifiers"] == {"phone": ["b"], "mail": ["b@x"]}
    assert third["attributes"]["seen"] == "2024-10-27 09:30:00"
    found = place.owner.get(f"{place.path}/users", params={"where": "seen:eq:2024-10-27 09:30:00"}).json()["users"]
    assert found == [], "half a second is kept"


def test_what_is_wrong_with_a_row_is_told_as_an_import_tells_it(server: NativeServer) -> None:
    place = Import(server)
    place.send({"cuid": 7, "identifiers": {"phone": "a"}}, {"cuid": 9, "identifiers": {"mail": "n@x"}})
    gone = place.owner.delete(f"{place.path}/users/9")
    assert gone.status_code == 204
    bad = [
        {"cuid": 8, "identifiers": {"phone": "a"}},
        {"cuid": 7, "identifiers": {"phone": "second"}},
        {"cuid": 9, "identifiers": {}, "data": {"spent": 1}},
        {"identifiers": {"mail": "m@x"}, "data": {"spent": 1}},
        {"identifiers": {}, "data": {"spent": 1}},
        {"cuid": -5, "data": {"spent": 1}},
        {"cuid": 5, "identifiers": {"fax": "1", "phone": ["x", "y"], "device": [""]}, "data": {"spent": "x", "no": 1}},
        {"cuid": 5, "identifiers": {"phone": "5"}, "identity": {"name": "phone", "value": "5"}, "data": {"spent": 1}},
        {"cuid": 5, "identifiers": ["phone"], "data": {"seen": "2024-02-30 00:00:00+00:00"}},
        {"cuid": 5, "identifiers": {}, "data": []},
    ]
    kinds = [
        ["identifier_taken"],
        ["identifier_full"],
        ["cuid_erased"],
        ["identifier_not_first"],
        ["user_unnamed"],
        ["cuid_malformed"],
        ["parameter", "parameter", "identifier_unknown", "value_type", "attribute_unknown"],
        ["parameter"],
        ["parameter", "value_type"],
        ["data_not_object"],
    ]
    results = place.send(*bad)
    assert effects(results) == kinds
    assert results[0]["msg"] == "the value [a] of identifier [phone] belongs to another user"
    chinese = place.send(*bad, language="zh")
    assert effects(chinese) == kinds
    assert chinese[0]["msg"] == "用户标识[phone]的值[a]已属于另一个用户"
    assert "identity 或 identifiers 之一，不可同时使用" in chinese[7]["msg"]
    assert "对象，键为标识名，值为单个值或值的数组" in chinese[8]["msg"]
    # A refused row creates no user, and without `import` no user is created at all.
    unknown = place.send({"cuid": 5, "identifiers": {}}, {"cuid": 7, "identifiers": {"mail": "x"}}, on_unknown="refuse")
    assert effects(unknown) == [["cuid_unknown"], ["cuid_unknown"]]
    users = place.owner.get(f"{place.path}/users").json()["users"]
    assert [user["cuid"] for user in users] == [7]


def test_what_to_do_with_strangers_must_be_said(server: NativeServer) -> None:
    place = Import(server)
    row = {"cuid": 7, "identifiers": {}}
    for unsaid in ({"on_unknown": "register"}, {"on_unknown": None}):
        body = {key: value for key, value in {"records": [row], **unsaid}.items() if value}
        answer = place.owner.post(f"{place.path}/users:batch", json=body, headers={"Accept-Language": "zh"})
        assert (answer.status_code, answer.json()["code"]) == (422, "parameter")
        assert "refuse 或 import，因为有记录使用 identifiers" in answer.json()["detail"]


def test_a_dry_run_keeps_nothing(server: NativeServer) -> None:
    place = Import(server)
    rows = [{"cuid": 7, "identifiers": {"phone": "a"}, "key": "k"}, {"identifiers": {"phone": "b"}, "data": {"spent": 1}}]
    dry_run = place.send(*rows, query="?dry_run=1")
    assert effects(dry_run) == ["created", "created"]
    assert [r["cuid"] for r in dry_run] == [7, None]
    assert place.owner.get(f"{place.path}/users").json()["users"] == []
    assert [r["replayed"] for r in place.send(*rows)] == [False, False]


def test_keys_hold_whoever_sends_when_and_how(server: NativeServer) -> None:
    """Four callers send the same rows concurrently, each in another order: every row counts once."""
    place = Import(server)
    rows: list[Any] = [
        {"cuid": 100 + n, "identifiers": {"phone": f"p{n}", "device": ["shared", f"d{n}"][n > 0 :]}, "data": {"spent": 1}}
        for n in range(20)
    ]
    rows += [{"identifiers": {"phone": f"p{n % 30}"}, "data": {"spent": 1}} for n in range(20, 60)]
    rows = [{**row, "key": f"row-{n}"} for n, row in enumerate(rows)]

    def send(turn: int) -> list[Any]:
        cut = 17 * turn
        return place.send(*rows[cut:], *rows[:cut])

    assert set(effects(send(0))) == {"created", "changed"}
    with ThreadPoolExecutor(4) as threads:
        for results in threads.map(send, range(4)):
            assert all(r["replayed"] for r in results)
    users = place.owner.get(f"{place.path}/users", params={"limit": 1000}).json()["users"]
    assert len(users) == 30
    assert sum(user["attributes"]["spent"] for user in users) == 60
    changed = place.send({**rows[0], "identifiers": {"phone": "p0"}})
    assert effects(changed) == [["key_reused"]]
    # One key for the whole body works too.
    headers = {"Idempotency-Key": "whole"}
    body = {"records": [{"cuid": 100, "identifiers": {}, "data": {"spent": 1}}] * 2, "on_unknown": "refuse"}
    for replayed in (False, True):
        answer = place.owner.post(f"{place.path}/users:batch", json=body, headers=headers).json()
        assert [r["replayed"] for r in answer["results"]] == [replayed, replayed]
    assert place.user(100)["attributes"]["spent"] == 4


def test_a_change_of_the_schema_is_seen_at_once(server: NativeServer) -> None:
    place = Import(server)
    for n in range(3):
        body = {"name": f"new_{n}", "type": "NUMBER", "rule": "overwrite"}
        assert place.owner.post(f"{place.path}/attributes", json=body).status_code == 201
        assert effects(place.send({"cuid": 7, "identifiers": {}, "data": {f"new_{n}": n}})) == [
            ["created", "changed"][n > 0]
        ]
    assert place.owner.delete(f"{place.path}/attributes/new_0").status_code == 409
