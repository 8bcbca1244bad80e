"""The history of users as callers of the API and of the commands see it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.cli_runner import CliRunner
from support.engines import ENGINES, KEPT
from support.native_server import TOKEN, NativeServer, native_server
from support.sample_history import CUID, OTHER, PROJECT, SECRET, create_sample_history
from support.server_process import ATTRIBUTE, REGISTER
from support.terminal import run_on_terminal

PATH = f"/api/v1/projects/{PROJECT}"
USER = f"{PATH}/users/{CUID}"


@pytest.fixture(scope="module", params=KEPT)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Create a store with the sample history, which no test changes. Return its URL."""
    with ENGINES[request.param](tmp_path_factory.mktemp("store")) as url:
        create_sample_history(url)
        yield url


@pytest.fixture(scope="module")
def server(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    """A server on that store."""
    with native_server(tmp_path_factory.mktemp("history"), store) as started:
        yield started


@pytest.fixture(scope="module")
def owner(server: NativeServer) -> httpx.Client:
    return server.caller(PROJECT, SECRET)


@pytest.fixture(scope="module", params=KEPT)
def writable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    """A server that tests write to."""
    folder = tmp_path_factory.mktemp("written")
    with ENGINES[request.param](folder) as url, native_server(folder, url) as started:
        yield started


@pytest.fixture
def project(writable: NativeServer) -> tuple[str, httpx.Client, int]:
    """Create a project with an attribute and a user. Return its path, its owner, and the user's CUID."""
    path, owner = writable.new_project()
    declare(owner, path, "level", "NUMBER", "overwrite")
    owner.post(f"{path}/identifiers", json={"name": "phone"}).raise_for_status()
    registered = owner.post(f"{path}/users:register", json={"identifier": "phone", "values": ["18012345678"]})
    return path, owner, registered.json()["users"][0]["cuid"]


def declare(owner: httpx.Client, path: str, name: str, data_type: str, rule: str, **more: Any) -> dict[str, Any]:
    answer = owner.post(f"{path}/attributes", json={"name": name, "type": data_type, "rule": rule, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def put(owner: httpx.Client, cuid: int, data: dict[str, Any], **headers: str) -> None:
    answer = owner.put(ATTRIBUTE, json={"cuid": cuid, "data": data}, headers=headers)
    assert answer.json() == {"code": 0, "msg": "ok"}


def get(client: httpx.Client, path: str, **query: Any) -> Any:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: httpx.Client, path: str, **query: Any) -> tuple[int, str, str]:
    """Return status, kind and text of a rejection."""
    answer = client.get(path, params=query)
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, told["code"], told["detail"]


# a user's changes


def test_each_change_tells_who_sent_what_and_what_it_was_before(owner: httpx.Client) -> None:
    answer = owner.get(f"{USER}/changes")
    assert answer.headers["cache-control"] == "no-store"
    page = answer.json()
    assert (page["next"], page["complete"], page["kept_since"]) == (None, True, "2024-03-01T00:00:00.000Z")
    newest, second, first, created = page["changes"]
    assert (newest["kind"], newest["actor"], newest["source"], newest["request"]) == (
        *("write", "key:billing"),
        *("billing 1.3", "r-3"),
    )
    assert newest["attributes"] == {
        "level": {"rule": "overwrite", "sent": 4, "outcome": "applied", "before": 10, "after": 4}
    }
    assert (newest["version"], newest["at"], newest["since"]) == (
        *(5, "2024-04-01T12:00:00.000Z"),
        "2024-03-31T12:00:00.000Z",
    )
    assert second["attributes"] == {
        "level": {"rule": "overwrite", "sent": 9, "outcome": "applied", "before": 3, "after": 9},
        "total_spent": {"rule": "accumulate", "sent": -0.5, "outcome": "applied", "before": 1.5, "after": 1},
        "tags": {"rule": "append", "sent": ["B", "C"], "outcome": "applied", "elements_before": 2, "added": ["C"]},
        "first_paid_at": {
            "rule": "once",
            "sent": "2024-02-02 00:00:00",
            "outcome": "kept",
            "before": "2023-12-12 00:56:23",
            "after": "2023-12-12 00:56:23",
        },
    }
    assert first["attributes"]["is_member"] == {
        "rule": "overwrite",
        "sent": True,
        "outcome": "applied",
        "before": None,
        "after": True,
    }
    assert first["attributes"]["tags"] == {
        "rule": "append",
        "sent": ["A", "B"],
        "outcome": "applied",
        "elements_before": 0,
        "added": ["A", "B"],
    }
    assert (created["kind"], created["since"], created["attributes"], created["source"]) == ("created", None, {}, "web 1.0")
    assert [change.get("created_through") for change in page["changes"]] == [None, None, None, "api"]
    assert [change["number"] for change in page["changes"]] == sorted((c["number"] for c in page["changes"]), reverse=True)


def test_a_write_that_is_not_recorded_shows_as_a_gap(owner: httpx.Client) -> None:
    assert [change["unrecorded"] for change in get(owner, f"{USER}/changes")["changes"]] == [0, 1, 0, 0]
    # With a filter, the gap belongs to the next older change of the list.
    only = get(owner, f"{USER}/changes", attribute="total_spent")["changes"]
    assert [(change["request"], change["unrecorded"]) for change in only] == [("r-2", 1), ("r-1", 0)]


def test_changes_are_filtered_by_attribute_and_actor(owner: httpx.Client) -> None:
    def requests(**query: Any) -> list[str]:
        return [change["request"] for change in get(owner, f"{USER}/changes", **query)["changes"]]

    assert requests() == ["r-3", "r-2", "r-1", "r-0"]
    assert requests(attribute="level") == ["r-3", "r-2", "r-1"]
    assert requests(actor="key:billing") == ["r-3", "r-1"]
    assert requests(attribute="tags", actor="key:billing") == ["r-1"]
    assert requests(actor="key:nobody") == []
    assert requests(attribute="note") == ["r-3"]
    shown = get(owner, f"{USER}/changes", attribute="level")["changes"]
    assert [list(change["attributes"]) for change in shown] == [["level"]] * 3


def test_an_actor_that_is_not_known_has_no_changes_but_one_that_is_misspelt_is_refused(owner: httpx.Client) -> None:
    for unknown in ("key:deleted", "person:gone@example.com", "import:a: b", "undo:17", "admin-token", "anonymous"):
        page = get(owner, f"{USER}/changes", actor=unknown)
        assert (page["changes"], page["next"]) == ([], None), unknown
    expected = "one of key:NAME, person:EMAIL, admin-token, cli:OS_USER, import:JOB, undo:NUMBER, anonymous"
    for malformed in ("billing", "", "key:", "key", "Key:billing", "keys:billing", "admin-token:", "anonymous:x", ":x"):
        assert refused(owner, f"{USER}/changes", actor=malformed) == (
            *(422, "parameter"),
            f"parameter [actor] is invalid; expected {expected}, got [{malformed}]",
        )


def test_hidden_attributes_are_shown_only_on_request(owner: httpx.Client) -> None:
    assert list(get(owner, f"{USER}/changes", limit=1)["changes"][0]["attributes"]) == ["level"]
    assert list(get(owner, f"{USER}/changes", limit=1, hidden=1)["changes"][0]["attributes"]) == ["level", "note"]
    assert "note" not in get(owner, f"{USER}:diff", **{"from": "2024-03-31T14:00:00"})["attributes"]
    assert "note" in get(owner, f"{USER}:diff", **{"from": "2024-03-31T14:00:00", "hidden": 1})["attributes"]


def test_pages_continue_where_the_previous_one_ended(owner: httpx.Client) -> None:
    whole = get(owner, f"{USER}/changes")["changes"]
    pages: list[dict[str, Any]] = [get(owner, f"{USER}/changes", limit=1)]
    while pages[-1]["next"] is not None:
        pages.append(get(owner, f"{USER}/changes", limit=1, before=pages[-1]["next"]))
    assert [change for page in pages for change in page["changes"]] == whole
    assert [page["complete"] for page in pages] == [False, False, False, True]


def test_a_list_of_changes_needs_a_number_of_this_user(owner: httpx.Client) -> None:
    foreign = get(owner, f"{PATH}/users/{OTHER}/changes")["changes"][0]["number"]
    status, kind, text = refused(owner, f"{USER}/changes", before=foreign)
    assert (status, kind) == (422, "parameter")
    expected = "the `next` of an earlier page for the same user"
    assert text == f"parameter [before] is invalid; expected {expected}, got [{foreign}]"
    assert refused(owner, f"{USER}/changes", before=2**62)[:2] == (422, "parameter")
    assert refused(owner, f"{USER}/changes", before=0)[:2] == (400, "parameter")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"limit": 0}, (400, "parameter", "parameter [limit] is invalid; expected an integer, at least 1, got [0]")),
        ({"limit": 1001}, (400, "parameter", "parameter [limit] is invalid; expected an integer, at most 1000, got [1001]")),
        ({"attribute": "nope"}, (422, "attribute_unknown", "user attribute [nope] does not exist")),
    ],
)
def test_a_list_of_changes_asked_for_in_a_wrong_way_is_refused(
    owner: httpx.Client, query: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    assert refused(owner, f"{USER}/changes", **query) == expected


def test_the_long_answer_to_a_write_has_the_number_of_its_change(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    asked = {"Prefer": "return=representation"}

    def written(level: int, **headers: str) -> int | None:
        answer = owner.put(ATTRIBUTE, json={"cuid": cuid, "data": {"level": level}}, headers=headers)
        number: int | None = answer.json()["data"]["change"]
        return number

    def newest(position: int = 0) -> int:
        number: int = get(owner, f"{path}/users/{cuid}/changes")["changes"][position]["number"]
        return number

    assert written(1, **asked) == newest()
    keyed = {**asked, "Idempotency-Key": "k-1"}
    first = written(2, **keyed)
    assert first == newest()
    assert written(3, **asked) == newest()
    # The stored answer has the number of then. What changes nothing is no change.
    assert written(2, **keyed) == first == newest(1)
    assert written(3, **asked) is None
    put(owner, cuid, {"level": 4}, **{"Idempotency-Key": "k-2"})
    assert written(4, **{**asked, "Idempotency-Key": "k-2"}) == newest()
    dry = owner.put(f"{ATTRIBUTE}?dryRun=1", json={"cuid": cuid, "data": {"level": 9}}).json()["data"]
    refusal = owner.put(ATTRIBUTE, json={"cuid": cuid, "data": {"level": "x"}}, headers=asked).json()["data"]
    assert (dry["change"], refusal["change"]) == (None, None)
    owner.patch(f"{path}/history", json={"days": 0}).raise_for_status()
    assert written(5, **asked) is None


def test_the_results_of_a_batch_have_the_numbers_of_its_changes(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    records = [{"cuid": cuid, "data": {"level": level}, "key": f"k-{place}"} for place, level in enumerate((1, 2, 2, 3))]
    for _ in range(2):
        results = owner.post(f"{path}/users:batch", json={"records": records}).json()["results"]
        changes = get(owner, f"{path}/users/{cuid}/changes")["changes"]
        third, second, first, _ = [change["number"] for change in changes]
        assert [result.get("change") for result in results] == [first, second, None, third]


def test_a_user_that_does_not_exist_has_no_history(owner: httpx.Client) -> None:
    unknown = f"{PATH}/users/99"
    assert refused(owner, f"{unknown}/changes")[:2] == (404, "cuid_unknown")
    assert refused(owner, unknown, as_of="2024-04-01")[:2] == (404, "cuid_unknown")
    assert refused(owner, f"{unknown}:diff", **{"from": "2024-04-01"})[:2] == (404, "cuid_unknown")


# as of


def test_a_user_is_read_as_of_an_earlier_moment(owner: httpx.Client) -> None:
    now = get(owner, USER)
    assert not {"as_of", "not_kept"} & now.keys()
    # After the write that is not recorded, and before the next: its value is known from what stood before the latter.
    after = get(owner, USER, as_of="2024-03-31T12:00:00Z")
    assert after == {
        "cuid": CUID,
        "version": 4,
        "created_at": now["created_at"],
        "updated_at": "2024-03-31T12:00:00.000Z",
        "attributes": {**now["attributes"], "level": 10},
        "identifiers": {"phone": ["18012345678"]},
        "as_of": "2024-03-31T12:00:00.000Z",
        "not_kept": [],
    }
    assert get(owner, USER, as_of="2024-03-31T12:00:00Z", attributes="level")["attributes"] == {"level": 10}


def test_a_moment_before_a_write_that_is_not_recorded_is_gone_and_never_a_wrong_answer(owner: httpx.Client) -> None:
    expected = (410, "history_gone", "history is kept from [2024-03-31T12:00:00.000Z] on; ask for a later moment")
    assert refused(owner, USER, as_of="2024-03-31T11:59:59.999Z") == expected
    assert refused(owner, f"{USER}:diff", **{"from": "2024-03-30T10:00:00Z"}) == expected


def test_a_moment_without_an_offset_is_in_the_projects_zone(owner: httpx.Client) -> None:
    assert get(owner, USER, as_of="2024-04-01 14:00:00")["as_of"] == "2024-04-01T12:00:00.000Z"
    assert get(owner, USER, as_of="2024-04-01")["as_of"] == "2024-03-31T22:00:00.000Z"
    assert get(owner, USER, as_of="2024-04-01T14:00:00.5+02:00")["as_of"] == "2024-04-01T12:00:00.500Z"
    # An hour that occurs twice: the earlier one.
    assert get(owner, USER, as_of="2024-10-27 02:30:00")["as_of"] == "2024-10-27T00:30:00.000Z"


def test_a_day_stands_for_its_first_moment_even_if_the_clocks_skip_midnight(writable: NativeServer) -> None:
    path, owner = writable.new_project(timezone="America/Santiago")
    owner.post(f"{path}/identifiers", json={"name": "phone"}).raise_for_status()
    made = owner.post(f"{path}/users:register", json={"identifier": "phone", "values": ["18012345678"]}).json()
    user = f"{path}/users/{made['users'][0]['cuid']}"
    status, _, text = refused(owner, user, as_of="2024-09-08")
    assert status == 404
    assert "did not exist at [2024-09-08T04:00:00.000Z]" in text
    assert "[2024-09-07T04:00:00.000Z]" in refused(owner, user, as_of="2024-09-07")[2]
    assert "[2024-09-09T03:00:00.000Z]" in refused(owner, user, as_of="2024-09-09")[2]
    assert "[0001-01-02T04:42:45.000Z]" in refused(owner, user, as_of="0001-01-02")[2]


def test_a_day_that_a_zone_skips_is_refused_with_the_moment_that_follows(writable: NativeServer) -> None:
    path, owner = writable.new_project(timezone="Pacific/Apia")
    for skipped in ("2011-12-30", "2011-12-30 12:00:00"):
        status, kind, text = refused(owner, f"{path}/users:export", as_of=skipped)
        assert (status, kind) == (422, "moment_skipped")
        assert f"[{skipped}] does not exist in time zone Pacific/Apia" in text
        assert "use [2011-12-31 00:00:00] or later" in text


@pytest.mark.parametrize("parameter", ["as_of", "from", "to"])
def test_a_moment_that_cannot_be_asked_for_is_refused_with_the_reason(owner: httpx.Client, parameter: str) -> None:
    path = USER if parameter == "as_of" else f"{USER}:diff"
    more = {"from": "2024-04-01"} if parameter == "to" else {}

    def ask(moment: str) -> tuple[int, str, str]:
        return refused(owner, path, **{**more, parameter: moment})

    status, kind, text = ask("2999-01-01")
    assert (status, kind) == (422, "moment_ahead")
    assert text.startswith(f"parameter [{parameter}]: [2999-01-01] is in the future; it is [")
    for skipped in ("2024-03-31 02:30:00", "2024-03-31T02:00:00.123", "2024-03-31 02:59:59"):
        assert ask(skipped) == (
            422,
            "moment_skipped",
            f"parameter [{parameter}]: [{skipped}] does not exist in time zone Europe/Berlin, because a clock change skips"
            " it; use [2024-03-31 03:00:00] or later, or a time with an offset",
        )
    any_form = "a date such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z"
    for malformed, expected in {
        "yesterday": any_form,
        "": any_form,
        "1711972800000": any_form,
        "0001-01-01T00:00:00+14:00": any_form,
        "0000-01-01": any_form,
        "2024-04-01T12:00:00+25:00": any_form,
        "2024-13-01": "a month from 01 to 12",
        "2024-02-30": "a day of 2024-02, 01 to 29",
        "2026-02-29 12:00:00": "a day of 2026-02, 01 to 28",
        "2024-04-00": "a day of 2024-04, 01 to 30",
        "2024-04-01 24:00:00": "an hour from 00 to 23",
        "2024-04-01 23:60:00": "minutes and seconds from 00 to 59",
        "2024-04-01 23:00:60Z": "minutes and seconds from 00 to 59",
        "2024-04-01T12:00": "a time with seconds, such as 2027-01-31 12:00:00",
        "2024-04-01 12:00+02:00": "a time with seconds, such as 2027-01-31 12:00:00",
    }.items():
        assert ask(malformed) == (
            *(422, "parameter"),
            f"parameter [{parameter}] is invalid; expected {expected}, got [{malformed}]",
        )


def test_a_plus_that_a_url_turned_into_a_space_is_shown_as_it_came_with_the_way_to_write_it(owner: httpx.Client) -> None:
    asked = f"{USER}?as_of=2024-04-01T12:00:00+02:00"
    answer = owner.get(asked)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "parameter [as_of] is invalid; expected a + in front of the offset, which is written %2B in a URL, got"
        " [2024-04-01T12:00:00 02:00]",
    )
    chinese = owner.get(asked, headers={"Accept-Language": "zh"}).json()["detail"]
    assert chinese == "参数[as_of]无效，应为：时区偏移前为加号（URL 中须写作 %2B）；实际为：[2024-04-01T12:00:00 02:00]"
    assert owner.get(asked.replace("+", "%2B")).status_code == 200


def test_a_wrong_moment_is_explained_in_chinese_too(owner: httpx.Client) -> None:
    for sent, expected in {
        "2024-13-01": "01 到 12 月",
        "2024-02-30": "2024-02 的 01 到 29 日",
        "2024-04-01 25:00:00": "00 到 23 时",
        "2024-04-01 23:60:00": "00 到 59 分、00 到 59 秒",
        "2024-04-01 12:00": "精确到秒的时间（如 2027-01-31 12:00:00）",
    }.items():
        query = {"from": "2024-04-01", "to": sent}
        told = owner.get(f"{USER}:diff", params=query, headers={"Accept-Language": "zh"}).json()["detail"]
        assert told == f"参数[to]无效，应为：{expected}；实际为：[{sent}]"
    query = {"from": "2024-04-01", "to": "2999-01-01"}
    told = owner.get(f"{USER}:diff", params=query, headers={"Accept-Language": "zh"}).json()["detail"]
    assert told.startswith("参数[to]的值[2999-01-01]晚于当前时间[")


def test_a_moment_before_the_user_was(owner: httpx.Client) -> None:
    status, kind, text = refused(owner, f"{PATH}/users/{OTHER}", as_of="2024-03-10T07:59:59Z")
    assert (status, kind) == (404, "user_not_yet")
    assert text == (
        f"cuid [{OTHER}] did not exist at [2024-03-10T07:59:59.000Z]; it was created at [2024-03-10T08:00:00.000Z]"
    )
    created = get(owner, f"{PATH}/users/{OTHER}", as_of="2024-03-10T08:00:00Z")
    assert (created["version"], created["attributes"]) == (1, {})


# diff


def test_two_moments_are_compared(owner: httpx.Client) -> None:
    moments = {"from": "2024-03-31T12:00:00Z", "to": "2024-04-02"}
    found = get(owner, f"{USER}:diff", **moments)
    assert (found["from"], found["to"]) == ("2024-03-31T12:00:00.000Z", "2024-04-01T22:00:00.000Z")
    assert (found["version_before"], found["version_after"], found["not_kept"]) == (4, 5, [])
    level = found["attributes"].pop("level")
    assert found["attributes"] == found["identifiers"] == {}
    last = level.pop("last")
    assert level == {"before": 10, "after": 4, "changes": 1}
    assert (last["at"], last["actor"], last["source"], last["request"], last["kind"]) == (
        *("2024-04-01T12:00:00.000Z", "key:billing"),
        *("billing 1.3", "r-3", "write"),
    )
    assert get(owner, f"{USER}:diff", **{"from": "2024-04-02"})["attributes"] == {}


def test_a_user_can_be_compared_with_the_time_before_it_was_created(owner: httpx.Client) -> None:
    found = get(owner, f"{PATH}/users/{OTHER}:diff", **{"from": "2024-03-02"})
    assert (found["version_before"], found["version_after"]) == (None, 2)
    assert found["attributes"]["level"]["before"] is None
    assert found["identifiers"] == {"phone": {"before": [], "after": ["1801*******"]}}


def test_a_comparison_that_ends_before_it_begins_is_refused(owner: httpx.Client) -> None:
    text = "parameter [to] is invalid; expected a moment that is not before parameter [from], got [2024-04-01]"
    assert refused(owner, f"{USER}:diff", **{"from": "2024-04-02", "to": "2024-04-01"}) == (422, "parameter", text)
    text = "parameter [from] is invalid; expected a value, but it is missing"
    assert refused(owner, f"{USER}:diff", to="2024-04-01") == (400, "parameter", text)


# settings


def test_a_project_keeps_history_unless_its_settings_say_otherwise(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    put(owner, cuid, {"level": 1})
    kept = get(owner, f"{path}/history")
    assert (kept["days"], kept["gigabytes"], kept["reports"]) == (30, 20, "different")
    assert kept["changes"] == 2
    assert kept["bytes"] > 0
    assert kept["kept_since"] <= kept["oldest"] <= kept["newest"]
    # An hour has not passed.
    assert (kept["bytes_per_day"], kept["forecast"]) == (None, None)
    edited = owner.patch(f"{path}/history", json={"days": 7, "reports": "all"}).json()
    assert (edited["days"], edited["gigabytes"], edited["reports"]) == (7, 20, "all")
    entry = get(owner, f"{path}/audit", limit=1)["entries"][0]
    assert entry["what"] == "edit history: days 30 → 7, all_reports false → true"


def test_reports_that_change_nothing_are_kept_if_the_settings_say_so(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    put(owner, cuid, {"level": 1})
    put(owner, cuid, {"level": 1})
    assert len(get(owner, f"{path}/users/{cuid}/changes")["changes"]) == 2
    owner.patch(f"{path}/history", json={"reports": "all"}).raise_for_status()
    put(owner, cuid, {"level": 1})
    newest = get(owner, f"{path}/users/{cuid}/changes")["changes"][0]
    assert newest["attributes"]["level"]["outcome"] == "unchanged"
    assert newest["version"] == 2


def test_the_forecast_follows_from_the_growth(owner: httpx.Client) -> None:
    kept = get(owner, f"{PATH}/history")
    assert kept["bytes_per_day"] >= 0
    assert kept["oldest"] == "2024-03-10T08:00:00.000Z"
    assert kept["newest"] == "2024-04-01T13:00:00.000Z"


def test_settings_out_of_range_are_refused_and_change_nothing(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, _ = project

    def patch(**body: Any) -> tuple[int, str]:
        answer = owner.patch(f"{path}/history", json=body)
        return answer.status_code, answer.json()["detail"]

    assert patch(days=-1) == (422, "parameter [days] is invalid; expected 0 to 36500, got [-1]")
    assert patch(gigabytes=0) == (422, "parameter [gigabytes] is invalid; expected 1 to 1000000, got [0]")
    assert patch(days="7") == (400, "parameter [days] is invalid; expected an integer, got a string")
    assert patch(reports="some") == (400, "parameter [reports] is invalid; expected one of different, all")
    assert patch(years=1)[0] == 400
    assert get(owner, f"{path}/history")["days"] == 30


def test_a_change_of_the_settings_is_guarded_by_the_version(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, _ = project
    version = owner.get(path).headers["etag"]
    owner.patch(f"{path}/history", json={"days": 8}, headers={"If-Match": version}).raise_for_status()
    late = owner.patch(f"{path}/history", json={"days": 9}, headers={"If-Match": version})
    assert (late.status_code, late.json()["code"]) == (412, "project_changed")


def test_without_history_there_are_no_answers_about_the_past(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    put(owner, cuid, {"level": 1})
    owner.patch(f"{path}/history", json={"days": 0}).raise_for_status()
    user, text = (
        f"{path}/users/{cuid}",
        f"history is off in project [{path.rpartition('/')[2]}]; its setting `days` turns it on",
    )
    assert refused(owner, f"{user}/changes") == (409, "history_off", text)
    assert refused(owner, user, as_of="2026-01-01") == (409, "history_off", text)
    assert refused(owner, f"{user}:diff", **{"from": "2026-01-01"}) == (409, "history_off", text)
    assert get(owner, f"{path}/history")["kept_since"] is None
    put(owner, cuid, {"level": 2})
    owner.patch(f"{path}/history", json={"days": 30}).raise_for_status()
    put(owner, cuid, {"level": 3})
    page = get(owner, f"{user}/changes")
    assert page["changes"][0]["attributes"]["level"]["before"] == 2
    # What was before is not known, and the list says so.
    older = page["changes"][1:]
    assert older[0]["unrecorded"] == 1 if older else not page["complete"]
    assert page["kept_since"] == get(owner, f"{path}/history")["kept_since"]


# attributes without history


def test_the_history_of_an_attribute_can_be_turned_off(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    assert get(owner, f"{path}/attributes/level")["history"]
    made = declare(owner, path, "last_seen", "NUMBER", "overwrite", history=False)
    assert not made["history"]
    put(owner, cuid, {"level": 1, "last_seen": 1})
    user = f"{path}/users/{cuid}"
    assert list(get(owner, f"{user}/changes")["changes"][0]["attributes"]) == ["level"]
    moment = get(owner, user)["updated_at"]
    put(owner, cuid, {"level": 2, "last_seen": 2})
    past = get(owner, user, as_of=moment)
    if past["version"] == 2:
        assert past["attributes"] == {"level": 1}
    assert past["not_kept"] == ["last_seen"]
    found = get(owner, f"{user}:diff", **{"from": moment})
    assert (list(found["attributes"]), found["not_kept"]) == (["level"], ["last_seen"])


def test_the_history_of_an_attribute_begins_when_it_is_turned_on(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    declare(owner, path, "last_seen", "NUMBER", "overwrite", history=False)
    put(owner, cuid, {"last_seen": 1})
    on = owner.patch(f"{path}/attributes/last_seen", json={"history": True})
    assert on.json()["history"]
    again = owner.patch(f"{path}/attributes/last_seen", json={"history": True, "display_name": "Last seen"})
    assert again.json()["history"]
    put(owner, cuid, {"last_seen": 2})
    user = f"{path}/users/{cuid}"
    newest, older, _ = get(owner, f"{user}/changes")["changes"]
    assert (newest["attributes"]["last_seen"]["before"], older["attributes"]) == (1, {})
    assert get(owner, user, as_of=newest["at"])["not_kept"] == []
    off = owner.patch(f"{path}/attributes/last_seen", json={"history": False})
    assert not off.json()["history"]
    assert [e["what"] for e in get(owner, f"{path}/audit", limit=3)["entries"]] == [
        "edit attribute last_seen: history true → false",
        'edit attribute last_seen: display_name "" → "Last seen"',
        "edit attribute last_seen: history false → true",
    ]


def test_a_list_of_changes_says_where_the_history_of_an_attribute_was_off(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    declare(owner, path, "city", "STRING", "overwrite")

    def history(on: bool) -> None:
        owner.patch(f"{path}/attributes/level", json={"history": on}).raise_for_status()

    def listed(**query: Any) -> tuple[list[tuple[list[str], list[str]]], list[str]]:
        """Return attributes and gaps of each change of all pages, and the gaps after the last page that has any."""
        found, rest = [], []
        while True:
            page = get(owner, f"{path}/users/{cuid}/changes", **query)
            found += [(list(change["attributes"]), change["not_kept"]) for change in page["changes"]]
            rest += page["not_kept"]
            if page["next"] is None:
                return found, rest
            query["before"] = page["next"]

    put(owner, cuid, {"level": 1})
    put(owner, cuid, {"city": "Berlin"})
    before_it: list[tuple[list[str], list[str]]] = [(["city"], []), (["level"], []), ([], [])]
    assert listed() == (before_it, [])
    history(on=False)
    put(owner, cuid, {"level": 2})
    while_off = [([], ["level"]), *before_it]
    assert listed() == (while_off, [])
    assert listed(attribute="level") == ([(["level"], ["level"])], [])
    history(on=True)
    put(owner, cuid, {"level": 3})
    assert listed() == ([(["level"], []), *while_off], [])
    assert listed(limit=1) == listed()
    # With a filter, the gap belongs to the next older change of the list, or else to the page.
    assert listed(attribute="level") == ([(["level"], []), (["level"], ["level"])], [])
    assert listed(attribute="city") == ([(["city"], [])], [])
    assert listed(actor="key:nobody") == ([], ["level"])
    assert listed(attribute="level", limit=1) == listed(attribute="level")
    # A user that was created since has none.
    registered = owner.post(f"{path}/users:register", json={"identifier": "phone", "values": ["18000000000"]})
    younger = registered.json()["users"][0]["cuid"]
    put(owner, younger, {"level": 1})
    page = get(owner, f"{path}/users/{younger}/changes")
    assert ([change["not_kept"] for change in page["changes"]], page["not_kept"]) == ([[], []], [])


def test_a_list_without_changes_says_that_the_history_of_the_attribute_is_off(
    project: tuple[str, httpx.Client, int],
) -> None:
    path, owner, cuid = project
    declare(owner, path, "last_seen", "NUMBER", "overwrite", history=False)
    declare(owner, path, "secret_seen", "NUMBER", "overwrite", history=False, hidden=True)
    put(owner, cuid, {"last_seen": 1})
    page = get(owner, f"{path}/users/{cuid}/changes", attribute="last_seen")
    assert (page["changes"], page["complete"], page["not_kept"]) == ([], True, ["last_seen"])
    newest, _ = get(owner, f"{path}/users/{cuid}/changes")["changes"]
    assert newest["not_kept"] == ["last_seen"]
    newest, _ = get(owner, f"{path}/users/{cuid}/changes", hidden=1)["changes"]
    assert sorted(newest["not_kept"]) == ["last_seen", "secret_seen"]


def test_history_show_says_where_the_history_of_an_attribute_was_off(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_sample_history(url)
    cli = CliRunner(url, {})
    cli.run("attribute", "edit", "tags", "--no-history")
    show = ("history", "show", str(CUID))
    _, gap, newest, *_ = cli.out(*show).splitlines()
    assert gap.strip() == "changes may be missing, because the history of tags was off"
    assert "level" in newest
    nobody = cli.run(*show, "--actor", "key:nobody")
    assert "Older changes may be missing, because the history of tags was off\n" in nobody.stderr
    cli.run("attribute", "edit", "tags", "--history")
    cli.report(PROJECT, CUID, {"tags": ["D"]})
    changes = cli.json(*show)["changes"]
    assert [change["not_kept"] for change in changes] == [[], ["tags"], *[[]] * (len(changes) - 2)]
    # Of several pages too, if the first ends with changes that the filter leaves out.
    assert cli.json(*show, "--attribute", "tags", "--limit", "2")["changes"][1]["not_kept"] == ["tags"]


def test_a_schema_says_whether_an_attribute_has_history(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, _ = project
    declare(owner, path, "last_seen", "NUMBER", "overwrite", history=False)
    schema = get(owner, f"{path}/schema")
    level, last_seen = schema["attributes"]
    assert ("history" in level, last_seen["history"]) == (False, False)
    assert owner.put(f"{path}/schema", json=schema).json()["steps"] == []
    del last_seen["history"]
    (step,) = owner.put(f"{path}/schema", json=schema).json()["steps"]
    assert (step["verb"], step["name"], step["detail"]) == ("edit", "last_seen", "history")
    assert owner.put(f"{path}/schema", json=schema).json()["steps"] == []
    assert get(owner, f"{path}/attributes/last_seen")["history"]


# the source


def test_every_way_to_change_a_user_takes_the_source(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    user = f"{path}/users/{cuid}"
    put(owner, cuid, {"level": 1}, **{"Usertable-Source": "put 1.0", "X-Request-Id": "r-put"})
    records = {"records": [{"cuid": cuid, "data": {"level": 2}}]}
    headers = {"Usertable-Source": "batch 1.0", "X-Request-Id": "r-batch"}
    owner.post(f"{path}/users:batch", json=records, headers=headers).raise_for_status()
    rows = {
        "on_unknown": "import",
        "records": [{"cuid": cuid, "identifiers": {"phone": "18012345678"}, "data": {"level": 3}}],
    }
    headers = {"Usertable-Source": "rows 1.0"}
    owner.post(f"{path}/users:batch", json=rows, headers=headers).raise_for_status()
    found = get(owner, f"{user}/changes")["changes"]
    assert [(c["source"], c["request"]) for c in found[1:3]] == [("batch 1.0", "r-batch"), ("put 1.0", "r-put")]
    assert (found[0]["source"], found[0]["kind"]) == ("rows 1.0", "import")
    headers = {"Usertable-Source": "register 1.0"}
    new = owner.post(f"{path}/users:register", json={"identifier": "phone", "values": ["1"]}, headers=headers).json()
    assert get(owner, f"{path}/users/{new['users'][0]['cuid']}/changes")["changes"][0]["source"] == "register 1.0"
    body = {"identityName": "phone", "identityValues": ["2"]}
    cuid = owner.post(REGISTER, json=body, headers={"Usertable-Source": "get cuid"}).json()["data"][0]["cuid"]
    assert get(owner, f"{path}/users/{cuid}/changes")["changes"][0]["source"] == "get cuid"
    owner.post(f"{path}/users", json={"cuid": 7}, headers={"Usertable-Source": "by hand"}).raise_for_status()
    assert get(owner, f"{path}/users/7/changes")["changes"][0]["source"] == "by hand"


@pytest.mark.parametrize("source", [b"x" * 101, b"caf\xc3\xa9", b"a\tb"])
def test_a_source_that_cannot_be_is_refused_with_the_form_that_can(
    project: tuple[str, httpx.Client, int], source: bytes
) -> None:
    path, owner, cuid = project
    headers = {b"Usertable-Source": source, b"Accept-Language": b"en"}
    text = "parameter [Usertable-Source] is invalid; expected 1 to 100 visible ASCII characters"
    platform = {"code": 40002, "msg": text}
    answer = owner.put(ATTRIBUTE, json={"cuid": cuid, "data": {"level": 1}}, headers=headers)
    assert (answer.status_code, answer.json()) == (400, platform)
    answer = owner.post(REGISTER, json={"identityName": "phone", "identityValues": ["3"]}, headers=headers)
    assert (answer.status_code, answer.json()) == (400, platform)
    answer = owner.post(f"{path}/users:batch", json={"records": []}, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (400, text)
    assert "level" not in get(owner, f"{path}/users/{cuid}")["attributes"]


def test_a_source_that_is_sent_twice_is_refused_because_one_would_be_lost(
    project: tuple[str, httpx.Client, int],
) -> None:
    path, owner, cuid = project
    headers = [("Usertable-Source", "billing 1.0"), ("Usertable-Source", "billing 1.1"), ("Accept-Language", "en")]
    answer = owner.put(ATTRIBUTE, json={"cuid": cuid, "data": {"level": 1}}, headers=headers)
    text = "the header Usertable-Source is sent more than once; send it once"
    assert (answer.status_code, answer.json()) == (400, {"code": 40002, "msg": text})
    assert "level" not in get(owner, f"{path}/users/{cuid}")["attributes"]


# the commands


@pytest.fixture(params=["store", "url"])
def cli(request: pytest.FixtureRequest, store: str, server: NativeServer) -> CliRunner:
    """Return a shell on the store, or one through its server."""
    if request.param == "url":
        return CliRunner("sqlite:////nowhere/there-is-no-such-store.db", {"USERTABLE_ADMIN_TOKEN": TOKEN})
    return CliRunner(store, {})


@pytest.fixture
def where(cli: CliRunner, server: NativeServer) -> tuple[str, ...]:
    named = ("--url", server.url) if "nowhere" in cli.url else ()
    return (*named, "--project", PROJECT)


def test_history_show_is_a_table_for_people(cli: CliRunner, where: tuple[str, ...]) -> None:
    out = cli.out("history", "show", str(CUID), *where)
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    assert lines[0] == ["time (Europe/Berlin)", "actor", "attribute", "change", "outcome", "source", "request"]
    assert lines[1:] == [
        ["2024-04-01 14:00:00.000", "key:billing", "level", "10 → 4", "applied", "billing 1.3", "r-3"],
        ["at least 1 write not recorded"],
        ["2024-03-30 12:00:00.000", "key:app", "level", "3 → 9", "applied", "r-2"],
        ["2024-03-30 12:00:00.000", "key:app", "total_spent", "1.5 → 1 (sent -0.5)", "applied", "r-2"],
        ["2024-03-30 12:00:00.000", "key:app", "tags", "2 elements + C", "applied", "r-2"],
        [
            *("2024-03-30 12:00:00.000", "key:app", "first_paid_at"),
            *("2023-12-12 00:56:23 (sent 2024-02-02 00:00:00)", "kept", "r-2"),
        ],
        ["2024-03-30 11:00:00.000", "key:billing", "level", "– → 3", "applied", "billing 1.2", "r-1"],
        ["2024-03-30 11:00:00.000", "key:billing", "total_spent", "– → 1.5", "applied", "billing 1.2", "r-1"],
        ["2024-03-30 11:00:00.000", "key:billing", "tags", "0 elements + A, B", "applied", "billing 1.2", "r-1"],
        [
            *("2024-03-30 11:00:00.000", "key:billing", "first_paid_at"),
            *("– → 2023-12-12 00:56:23", "applied", "billing 1.2", "r-1"),
        ],
        ["2024-03-30 11:00:00.000", "key:billing", "is_member", "– → true", "applied", "billing 1.2", "r-1"],
        ["2024-03-10 09:00:00.000", "key:signup", "user created by Get CUID or the API", "web 1.0", "r-0"],
    ]


def test_history_show_groups_the_attributes_of_a_change_on_a_terminal(server: NativeServer, store: str) -> None:
    command = [str(Path(sys.executable).with_name("usertable")), "history", "show", str(CUID), "--store", store]
    done = run_on_terminal(command)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:9] == [
        "2024-04-01 14:00:00.000  Europe/Berlin  key:billing  billing 1.3  request r-3",
        "  level  10 → 4  applied",
        "",
        "at least 1 write not recorded",
        "",
        "2024-03-30 12:00:00.000  Europe/Berlin  key:app  request r-2",
        "  level          3 → 9                                           applied",
        "  total_spent    1.5 → 1 (sent -0.5)                             applied",
        "  tags           2 elements + C                                  applied",
    ]


def test_the_creation_of_a_user_says_what_created_it(tmp_path: Path, writable: NativeServer) -> None:
    here = CliRunner(f"sqlite:///{tmp_path / 'users.db'}", {})
    here.run("project", "create", "first", "--id", "p1")
    here.run("attribute", "create", "level", "--type", "NUMBER", "--rule", "overwrite")
    here.run("user", "create", "7")
    table = tmp_path / "crm.csv"
    table.write_text("cuid,level\n8,1\n9,2\n", encoding="utf-8")
    here.run("import", str(table), "--register")
    path, _ = writable.new_project()
    project = ("--url", writable.url, "--project", path.rpartition("/")[2])
    there = CliRunner(here.url, {"USERTABLE_ADMIN_TOKEN": TOKEN})
    there.run("user", "create", "7", *project)
    for shell, cuid, more, through, said in (
        (here, 7, (), "command", "user created by a command"),
        (here, 8, (), "import", "user created by an import"),
        (there, 7, project, "api", "user created by Get CUID or the API"),
    ):
        assert shell.json("history", "show", str(cuid), *more)["changes"][-1]["created_through"] == through
        assert said in shell.out("history", "show", str(cuid), *more)


def test_history_show_continues_and_filters(cli: CliRunner, where: tuple[str, ...]) -> None:
    show = ("history", "show", str(CUID), *where)
    first = cli.run(*show, "--limit", "2")
    assert first.stdout.count("2024") == 6
    number = first.stderr.strip().removeprefix("Older changes may follow; continue with --before ")
    rest = cli.run(*show, "--before", number)
    assert rest.stderr == ""
    whole = cli.json(*show)
    parts = (cli.json(*show, "--limit", "2"), cli.json(*show, "--before", number))
    assert parts[0]["changes"] + parts[1]["changes"] == whole["changes"]
    assert (parts[0]["complete"], parts[1]["complete"], whole["complete"]) == (False, True, True)
    only = cli.json(*show, "--attribute", "level", "--actor", "key:billing")["changes"]
    assert [change["request"] for change in only] == ["r-3", "r-1"]
    assert "note" in cli.out(*show, "--limit", "4", "--hidden")


def test_history_diff_and_user_get_as_of(cli: CliRunner, where: tuple[str, ...]) -> None:
    diff = ("history", "diff", str(CUID), "--from", "2024-03-31 14:00:00", *where)
    out = cli.out(*diff, "--to", "2024-04-02")
    assert out.splitlines()[:2] == [
        "from  2024-03-31 14:00:00.000  version 4",
        "to    2024-04-02 00:00:00.000  version 5",
    ]
    assert out.splitlines()[-1].split() == [
        *("level", "10", "4", "1", "2024-04-01", "14:00:00.000", "key:billing", "billing", "1.3", "r-3"),
    ]
    assert cli.json(*diff)["attributes"]["level"]["before"] == 10
    shown = cli.out("user", "get", str(CUID), "--as-of", "2024-03-31 14:00:00", *where)
    assert "as of" in shown
    assert "2024-03-31T12:00:00.000Z" in shown
    past = cli.json("user", "get", str(CUID), "--as-of", "2024-03-31 14:00:00", *where)
    assert (past["version"], past["attributes"]["level"]) == (4, 10)


def test_history_status_tells_what_is_kept(cli: CliRunner, where: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    out = dict(line.split("  ", 1) for line in cli.out("history", "status", *where).splitlines())
    told = {name: value.strip() for name, value in out.items()}
    assert told["kept"] == "36,500 days, 20 GB"
    assert told["kept since"] == "2024-03-01 01:00:00.000 (Europe/Berlin)"
    assert told["newest change"] == "2024-04-01 15:00:00.000 (Europe/Berlin)"
    # Users that were created together share one change; on Citus, those of a shard.
    changes = 6 if request.node.callspec.params["store"] == "citus" else 5
    assert told["changes"].startswith(f"{changes} in ")
    assert cli.json("history", "status", *where)["changes"] == changes


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "99"), "cuid [99] does not exist"),
        (("show", str(CUID), "--attribute", "nope"), "user attribute [nope] does not exist"),
        (("diff", str(CUID), "--from", "2999-01-01"), "--from: [2999-01-01] is in the future"),
        (("diff", str(CUID), "--from", "2024-04-01", "--to", "2999-01-01"), "--to: [2999-01-01] is in the future"),
        (
            ("diff", str(CUID), "--from", "2024-02-30"),
            "--from is invalid; expected a day of 2024-02, 01 to 29, got [2024-02-30]",
        ),
        (
            ("prune", "--before", "2024-04-01T12", "--yes"),
            "--before is invalid; expected a date such as 2027-01-31, or a time",
        ),
        (("show", str(CUID), "--before", str(2**62)), "--before is invalid; expected the `next` of an earlier page"),
        (
            ("diff", str(CUID), "--from", "2024-03-31 02:30:00"),
            "--from: [2024-03-31 02:30:00] does not exist in time zone Europe/Berlin",
        ),
        (
            ("diff", str(CUID), "--from", "2024-04-02", "--to", "2024-04-01"),
            "--to is invalid; expected a moment that is not before --from, got [2024-04-01]",
        ),
        (("diff", str(CUID), "--from", "2024-03-31"), "history is kept from [2024-03-31T12:00:00.000Z] on"),
        (
            ("show", str(CUID), "--actor", "billing"),
            "--actor is invalid; expected one of key:NAME, person:EMAIL, admin-token",
        ),
        (("set", "--days", "-1"), "--days is invalid; expected 0 to 36500, got [-1]"),
    ],
)
def test_a_command_about_history_that_is_refused(
    cli: CliRunner, where: tuple[str, ...], arguments: tuple[str, ...], reason: str
) -> None:
    assert reason in cli.refused("history", *arguments, *where)


def test_a_command_about_history_that_is_misused(cli: CliRunner, where: tuple[str, ...]) -> None:
    assert "nothing to change" in cli.misused("history", "set", *where)
    assert "--limit" in cli.misused("history", "show", str(CUID), "--limit", "0", *where)
    assert "--from" in cli.misused("history", "diff", str(CUID), *where)


def test_history_set_and_attribute_edit_change_what_is_kept(tmp_path: Path) -> None:
    cli = CliRunner(f"sqlite:///{tmp_path / 'store.db'}", {})
    cli.out("project", "create", "demo", "--id", "demo", "--secret", "0123456789abcdef")
    cli.out("attribute", "create", "level", "--type", "NUMBER", "--rule", "overwrite", "--no-history")
    kept = json.loads(cli.out("history", "set", "--days", "7", "--gigabytes", "2", "--reports", "all", "--json"))
    assert (kept["days"], kept["gigabytes"], kept["reports"]) == (7, 2, "all")
    assert not cli.json("attribute", "list")["attributes"][0]["history"]
    assert cli.json("attribute", "edit", "level", "--history")["history"]
    assert not cli.json("attribute", "edit", "level", "--no-history")["history"]
    assert "history: false" in cli.out("schema", "export")
    assert cli.out("history", "set", "--days", "0").splitlines()[0].split() == ["kept", "off"]


def test_history_prune_removes_what_is_older(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_sample_history(url)
    cli = CliRunner(url, {})
    show = ("history", "show", str(CUID))
    before = cli.json(*show)["changes"][1]["number"]
    prune = ("history", "prune", "--before", "2024-04-01")
    assert "Permanently remove the history before 2024-04-01 of project 100102 (Shop)?" in cli.run(*prune, code=2).stderr
    assert cli.json(*show)["complete"]
    removed = cli.json(*prune, "--yes")
    assert (removed["blocks"], removed["changes"], removed["kept_since"]) == (3, 3, "2024-03-30T11:00:00.001Z")
    page = cli.run(*show)
    assert page.stdout.count("2024-0") == 1
    assert page.stderr == "Older changes are not kept; this project's are kept since 2024-03-30 12:00:00.001\n"
    # A cursor that was removed meanwhile ends the list.
    rest = cli.json(*show, "--before", str(before))
    assert (rest["changes"], rest["next"], rest["complete"]) == ([], None, False)
    reason = cli.refused("user", "get", str(OTHER), "--as-of", "2024-03-30 12:00:00")
    assert reason == "history is kept from [2024-03-30T11:00:00.001Z] on; ask for a later moment"
    assert cli.json("audit", "--project", PROJECT, "--kind", "prune history")["entries"][0]["after"]["changes"] == 3
    assert "is in the future" in cli.refused("history", "prune", "--before", "2999-01-01", "--yes")


def test_history_is_pruned_through_the_api(project: tuple[str, httpx.Client, int]) -> None:
    path, owner, cuid = project
    for level in range(3):
        put(owner, cuid, {"level": level})
    newest = get(owner, f"{path}/users/{cuid}/changes")["changes"][0]
    removed = owner.post(f"{path}/history:prune", json={"before": newest["at"]})
    assert removed.status_code == 200, removed.text
    told = removed.json()
    assert told["changes"] > 0
    page = get(owner, f"{path}/users/{cuid}/changes")
    assert (page["kept_since"], page["complete"]) == (told["kept_since"], False)
    wrong = owner.post(f"{path}/history:prune", json={"before": "then"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "parameter")
    owner.patch(f"{path}/history", json={"days": 0}).raise_for_status()
    off = owner.post(f"{path}/history:prune", json={"before": newest["at"]})
    assert (off.status_code, off.json()["code"]) == (409, "history_off")
