"""Bodies that are small when sent and large in memory, or wrong in unusual ways: bounded, and described correctly."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.native_server import NativeServer, native_server
from support.process_memory import peak_memory
from support.server_process import ATTRIBUTE, REGISTER

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JSON = {"Content-Type": "application/json"}
ENGLISH = {**JSON, "Accept-Language": "en"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def project(server: NativeServer) -> tuple[str, httpx.Client]:
    """Create a project with the attributes `city` and `level` and the user 1."""
    path, owner = server.new_project()
    for name, data_type in (("city", "STRING"), ("level", "NUMBER")):
        assert owner.post(f"{path}/attributes", json={"name": name, "type": data_type, "rule": "overwrite"}).is_success
    assert owner.post(f"{path}/users", json={"cuid": 1}).is_success
    return path, owner


def batch(project: tuple[str, httpx.Client], body: bytes, coding: str = "gzip") -> httpx.Response:
    return send(project, gzip.compress(body, 1) if coding == "gzip" else body, coding)


def send(project: tuple[str, httpx.Client], sent: bytes, coding: str) -> httpx.Response:
    path, owner = project
    headers = {**JSON, "Content-Encoding": coding}
    return owner.post(f"{path}/users:batch", content=sent, headers=headers, timeout=120)


def array(*pieces: bytes) -> bytes:
    return b"[" + b",".join(pieces) + b"]"


LARGE: dict[str, Callable[[], bytes]] = {
    "empty arrays": lambda: array(*[b"[]"] * 5_000_000),
    "an array of empty arrays": lambda: array(array(*[b"[]"] * 5_000_000)),
    "arrays in every record": lambda: array(*[b'{"cuid":1,"data":{"city":' + array(*[b"[]"] * 5000) + b"}}"] * 1000),
    "deep nesting": lambda: b"[" * 7_000_000 + b"]" * 7_000_000,
    "empty objects": lambda: array(*[b"{}"] * 5_000_000),
    "numbers": lambda: array(array(*[b"0.5"] * 4_000_000)),
}
"""How to make each array of records: a hundred megabytes that only the test that sends them has."""


@pytest.mark.parametrize("records", LARGE.values(), ids=LARGE)
def test_a_batch_that_would_be_large_in_memory_is_refused_by_a_count(
    server: NativeServer, project: tuple[str, httpx.Client], records: Callable[[], bytes]
) -> None:
    body = gzip.compress(b'{"records":' + records() + b"}", 1)
    with peak_memory(server.process.pid) as held, ThreadPoolExecutor(20) as attackers:
        for answer in attackers.map(lambda _: send(project, body, "gzip"), range(20)):
            assert (answer.status_code, answer.json()["code"]) == (413, "body_values")
            assert "1200000 values" in answer.json()["detail"]
    assert max(held) - held[0] < 300


def test_a_large_batch_that_is_right_is_taken(project: tuple[str, httpx.Client]) -> None:
    text = 'a "quoted", {bracketed} [text] with a backslash \\ ' * 100
    records = [{"cuid": 1, "data": {"city": text, "level": number}} for number in range(300)]
    for indent in (None, 1):
        answer = batch(project, json.dumps({"records": records, "on_unknown": "refuse"}, indent=indent).encode())
        assert answer.status_code == 200
        assert answer.json()["done"] == 300
    path, owner = project
    assert owner.get(f"{path}/users/1").json()["attributes"] == {"city": text, "level": 299}
    # The records of the same batch with another spelling of its members.
    spelled = b'{"\\u0072ecords":' + json.dumps(records).encode() + b"}"
    assert batch(project, spelled).json()["done"] == 300


@pytest.mark.parametrize("size", [1, 20_000], ids=["small batch", "large batch"])
def test_what_only_one_record_has_wrong_refuses_that_record(project: tuple[str, httpx.Client], size: int) -> None:
    filler = json.dumps({"cuid": 1, "data": {"city": "x" * 8000}}).encode()
    wrong = {
        b'{"cuid":1,"data":{"city":"\\ud83d"}}': r"\ud83d at position {} is half of a surrogate pair",
        b'{"cuid":1,"data":{"city":"a\\\\\\udc00b"}}': r"\udc00 at position {} is half of a surrogate pair",
        b'{"cuid":1,"data":{"level":' + b"9" * 5000 + b"}}": "a number has more than 4300 digits",
        b'{"cuid":1,"data":{"level":' + b"[" * 3000 + b"]" * 3000 + b"}}": "nested too deeply",
    }
    records = [*[filler] * min(990, size // 100), *wrong, b'{"cuid":1,"data":{"level":1e99999999999999999999}}', filler]
    body = b'{"records":[' + b",".join(records) + b"]}"
    answer = batch(project, body)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["code"] == 0 for result in results] == [r == filler for r in records]
    for reason, sent, result in zip(wrong.values(), wrong, results[-6:], strict=False):
        place = body.index(sent) + max(sent.find(b"\\ud83d"), sent.find(b"\\udc00"))
        assert result["msg"] == "the body is not valid JSON: " + reason.format(place)
        assert (result["code"], result["problems"][0]["kind"]) == (40002, "body_not_json")
    assert "[1e99999999999999999999]" in results[-2]["msg"]


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        (b'{"records":[{"cuid":1,"data":{"level":1}},{"cuid":01}]}', "body_not_json", "position 51"),
        (b'{"records":[{"cuid":1,"data":{"city":"\\ud83d"}},{"cuid":NaN}]}', "body_not_json", "NaN at position 56 is not"),
        (b'{"records":[{"cuid":1,"data":{"city":"\\ud83d"}}', "body_not_json", ""),
        (b'{"records":[{"cuid":1,"data":{"city":"\\ud83d"}},]}', "body_not_json", ""),
        (b'{"records":[{"cuid":1,"data":{"city":"\\ud83d"}}],"records":[]}', "duplicate_key", "records"),
        (b'{"records":[{"cuid":1,"data":{"city":"\xff"}}]}', "body_not_json", "byte 0xff at position 38 is not UTF-8"),
        ('{"records":[]}'.encode("utf-16"), "body_not_json", "it is UTF-16; expected UTF-8"),
    ],
)
def test_what_is_wrong_with_the_batch_as_a_whole_refuses_it(
    project: tuple[str, httpx.Client], body: bytes, code: str, detail: str
) -> None:
    answer = batch(project, body, "identity")
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert detail in answer.json()["detail"]


def test_a_record_larger_than_a_body_may_be_is_refused_by_itself(project: tuple[str, httpx.Client]) -> None:
    records = [{"cuid": 1, "data": {"city": "x" * 1_100_000}}, {"cuid": 1, "data": {"city": "small"}}]
    results = batch(project, json.dumps({"records": records}).encode()).json()["results"]
    assert [result["code"] for result in results] == [40002, 0]
    assert "records[0]" in results[0]["msg"]
    assert "at most 1048576 bytes" in results[0]["msg"]


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_what_follows_a_compressed_body_is_refused(project: tuple[str, httpx.Client], coding: str, compress: Any) -> None:
    path, owner = project
    body = compress(b'{"records":[{"cuid":1,"data":{"level":1}}]}')
    for rest, count in ((compress(b""), len(compress(b""))), (b"\0", 1), (compress(b"") * 100_000, None)):
        headers = {**JSON, "Content-Encoding": coding}
        answer = owner.post(f"{path}/users:batch", content=body + rest, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "body_broken")
        follow = "1 byte follows" if (count or len(rest)) == 1 else f"{count or len(rest)} bytes follow"
        assert f"{follow} its end" in answer.json()["detail"]


# Problems and members


def test_a_single_call_of_more_arrays_than_any_right_one_is_refused_by_a_count(
    project: tuple[str, httpx.Client],
) -> None:
    path, owner = project
    arrays = b"[" + b"[]," * 20_000 + b"1]"
    limit = "the body has more than 20000 arrays and objects"
    answer = owner.put(ATTRIBUTE, content=b'{"cuid":1,"data":{"city":' + arrays + b"}}", headers=ENGLISH)
    assert (answer.status_code, answer.json()["code"], answer.json()["msg"]) == (413, 40002, limit)
    answer = owner.post(REGISTER, content=b'{"identityName":"phone","identityValues":' + arrays + b"}", headers=ENGLISH)
    assert (answer.status_code, answer.json()["code"], answer.json()["msg"]) == (413, 40002, limit)
    answer = owner.post(f"{path}/users", content=b'{"cuid":2,"identifiers":' + arrays + b"}", headers=ENGLISH)
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (413, "body_containers", limit)
    # Brackets in a text do not count.
    assert owner.put(ATTRIBUTE, json={"cuid": 1, "data": {"city": "[" * 8_000}, "x": "[" * 30_000}).json() == {
        "code": 0,
        "msg": "ok",
    }


def test_more_members_than_a_project_may_declare_are_refused_with_the_bound(project: tuple[str, httpx.Client]) -> None:
    _, owner = project
    data = {f"a{number}": 1 for number in range(2001)}
    answer = owner.put(ATTRIBUTE, json={"cuid": 1, "data": data}, headers={**ENGLISH, "Prefer": "return=representation"})
    assert answer.status_code == 400
    assert answer.json()["msg"] == "[data] has 2001 members; at most 2000 are allowed"
    assert [problem["kind"] for problem in answer.json()["data"]["problems"]] == ["data_length"]


@pytest.mark.parametrize("query", ["", "?dryRun=1"])
def test_a_request_tells_a_hundred_problems_and_how_many_more_there_are(
    project: tuple[str, httpx.Client], query: str
) -> None:
    _, owner = project
    data: dict[str, Any] = {f"a{number}": 1 for number in range(1500)} | {"level": "x"}
    headers = {**ENGLISH, "Prefer": "return=representation"}
    answer = owner.put(f"{ATTRIBUTE}{query}", json={"cuid": 1, "data": data}, headers=headers)
    problems = answer.json()["data"]["problems"]
    assert len(problems) == 101
    assert (problems[-1]["kind"], problems[-1]["msg"]) == ("more_problems", "1401 more problems are not listed")
    assert answer.json()["code"] == 40010
    chinese = owner.put(f"{ATTRIBUTE}{query}", json={"cuid": 1, "data": data}, headers={**headers, "Accept-Language": "zh"})
    assert chinese.json()["data"]["problems"][-1]["msg"] == "另有 1401 个问题未列出"


@pytest.mark.parametrize("on_unknown", ["refuse", "import"])
def test_a_batch_tells_a_bounded_number_of_problems(project: tuple[str, httpx.Client], on_unknown: str) -> None:
    record = {"cuid": 1, "data": {f"a{number}": 1 for number in range(1000)}}
    answer = batch(project, json.dumps({"records": [record] * 1000, "on_unknown": on_unknown}).encode())
    assert answer.status_code == 200
    assert len(answer.content) < 4_000_000
    results = answer.json()["results"]
    assert [result["code"] for result in results] == [40010] * 1000
    assert len(results[0]["problems"]) == 101
    assert results[0]["problems"][-1]["msg"] == "900 more problems are not listed"
    assert [problem["kind"] for problem in results[-1]["problems"]] == ["attribute_unknown", "more_problems"]
    assert results[-1]["problems"][-1]["msg"] == "999 more problems are not listed"


def test_members_of_a_record_that_are_not_known_are_told_within_the_bound(project: tuple[str, httpx.Client]) -> None:
    record = {"cuid": 1, "data": {"level": 1}} | {f"m{number}": 1 for number in range(20_000)}
    problems = batch(project, json.dumps({"records": [record]}).encode()).json()["results"][0]["problems"]
    assert len(problems) == 101
    assert problems[-1]["msg"] == "19900 more problems are not listed"


def test_the_native_api_tells_a_bounded_number_of_problems(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    attributes = [{"name": f"A{number}", "type": "NUMBER", "rule": "append"} for number in range(1000)]
    answer = owner.put(f"{path}/schema", json={"attributes": attributes, "identifiers": []})
    assert answer.status_code == 422
    problems = answer.json()["problems"]
    assert len(problems) == 101
    assert problems[-1]["code"] == "more_problems"


# Odd bodies


def test_a_byte_order_mark_is_taken_everywhere(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    mark = b"\xef\xbb\xbf"
    assert owner.put(ATTRIBUTE, content=mark + b'{"cuid":1,"data":{"level":5}}', headers=JSON).json()["code"] == 0
    assert owner.put(ATTRIBUTE, content=mark + b'{"cuid":1,"data":{"level":5}}').json()["code"] == 0
    registered = owner.post(REGISTER, content=mark + b'{"identityName":"phone","identityValues":["1"]}', headers=JSON)
    assert "phone" in registered.json()["msg"]
    edit = owner.patch(f"{path}/attributes/city", content=mark + b'{"display_name":"City"}', headers=JSON)
    assert edit.json()["display_name"] == "City"
    for number in (1, 200):
        body = mark + b'{"records":[' + b",".join([b'{"cuid":1,"data":{"city":"%b"}}' % (b"x" * 8000)] * number) + b"]}"
        assert batch(project, body).json()["done"] == number


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "zstd", "br", "deflate"])
def test_a_coding_where_none_is_taken_is_refused_and_not_ignored(project: tuple[str, httpx.Client], coding: str) -> None:
    path, owner = project
    plain = b'{"cuid":1,"data":{"level":3}}'
    headers = {**ENGLISH, "Content-Encoding": coding}
    for content in (plain, gzip.compress(plain)):
        for call in (
            owner.put(ATTRIBUTE, content=content, headers=headers),
            owner.post(REGISTER, content=content, headers=headers),
            owner.patch(f"{path}/attributes/city", content=content, headers=headers),
        ):
            assert call.status_code == 415
            assert f"unsupported Content-Encoding {coding}" in call.text
            assert call.headers["accept-encoding"] == "identity"
    assert owner.put(ATTRIBUTE, content=plain, headers={**JSON, "Content-Encoding": "identity"}).json()["code"] == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1e99999999999999999999", "[1e99999999999999999999]"),
        ("-1e400", "[-1e400]"),
        ("NaN", "NaN at position 26 is not a JSON number"),
        ('"\\ud83d"', r"\ud83d at position 27 is half of a surrogate pair"),
        ("1,\"level\":2", "[level] is repeated"),
    ],
)  # fmt: skip
def test_a_put_says_what_was_sent_and_where(project: tuple[str, httpx.Client], value: str, said: str) -> None:
    _, owner = project
    answer = owner.put(ATTRIBUTE, content='{"cuid":1,"data":{"level":%s}}' % value, headers=ENGLISH)  # noqa: UP031
    assert (answer.status_code, answer.json()["code"]) == (400, 40002)
    assert said in answer.json()["msg"]


@pytest.mark.parametrize("size", [1, 300_000], ids=["small", "large"])
def test_a_large_put_is_answered_as_a_small_one_is(project: tuple[str, httpx.Client], size: int) -> None:
    _, owner = project
    for unknown in ({"other": ["x"] * (size // 4)}, {}):
        answer = owner.put(ATTRIBUTE, json={"cuid": 1, "data": {"level": 4}, "beside": ["x"] * (size // 4), **unknown})
        assert answer.content == b'{"code":0,"msg":"ok"}'
    refused = owner.put(ATTRIBUTE, json={"cuid": 1, "data": {"level": ["x"] * (size // 4 + 1)}}, headers=ENGLISH)
    assert refused.status_code == 400
    assert "NUMBER expects a number" in refused.json()["msg"]
