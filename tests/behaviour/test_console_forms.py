"""Forms of the console that are sent twice, or after somebody else has made a change."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from support.form_browser import TOKEN, FormBrowser, form_fields
from support.server_process import PROJECT, REGISTER, SECRET, ServerProcess, create_project
from usertable.app.secrets import public_id
from usertable.console.results import KEPT_SECONDS, MAX_RESULT_BYTES, RING_BYTES
from usertable.console.shared_state import SharedState

AT = f"/console/projects/{PROJECT}"
API = f"/api/v1/projects/{PROJECT}"
NUMBER = "user_number_accumulate"
CUID = 10000001


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("forms")
    url = f"sqlite:///{folder / 'store.db'}"
    create_project(url, users=3)
    running = ServerProcess(url, folder, admin_token=TOKEN, workers="1")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log


@pytest.fixture
def owner(server: ServerProcess) -> Iterator[httpx.Client]:
    """Return a client of the API."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        yield client


@pytest.fixture
def tabs(server: ServerProcess) -> Iterator[tuple[FormBrowser, FormBrowser]]:
    """Return two tabs of one browser."""
    with FormBrowser(base_url=server.url, timeout=30) as one:
        one.sign_in()
        with FormBrowser(base_url=server.url, timeout=30, cookies=one.cookies) as other:
            yield one, other


@pytest.fixture
def tab(tabs: tuple[FormBrowser, FormBrowser]) -> FormBrowser:
    return tabs[0]


def told(answer: httpx.Response) -> str:
    """Return what a page says about changes made in the meantime."""
    found = re.search(r'<div class="notice warn" role="alert">(.*?)</div>', answer.text, re.DOTALL)
    assert found is not None, answer.text
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", found[1])).split())


# somebody else made a change first


def test_a_form_of_an_older_tab_does_not_undo_what_another_tab_saved(
    tabs: tuple[FormBrowser, FormBrowser], owner: httpx.Client
) -> None:
    old, new = tabs
    page = f"{AT}/settings"
    owner.patch(API, json={"name": "Tests", "qps": 200, "timezone": "Asia/Shanghai"}).raise_for_status()
    old.page(page)
    new.page(page)
    assert new.fill_in(page, qps="150", timezone="UTC").status_code == 303
    old.shown = old.fill_in(page, name="Renamed")
    assert old.shown.status_code == 409
    seen = told(old.shown)
    assert "By admin-token," in seen
    assert "Time zone: Asia/Shanghai → UTC" in seen
    assert "QPS limit: 200 → 150" in seen
    assert owner.get(API).json()["name"] == "Tests"
    # What was typed is kept, and the rest is what it is now.
    kept = form_fields(old.shown)
    assert (kept["name"], kept["qps"], kept["timezone"]) == ("Renamed", "150", "UTC")
    assert old.fill_in(page).status_code == 303
    found = owner.get(API).json()
    assert (found["name"], found["qps"], found["timezone"]) == ("Renamed", 150, "UTC")
    owner.patch(API, json={"name": "Tests", "timezone": "Asia/Shanghai"}).raise_for_status()


def test_a_limit_that_was_lifted_meanwhile_stays_lifted(tab: FormBrowser, owner: httpx.Client) -> None:
    page = f"{AT}/settings"
    owner.patch(API, json={"qps": 100}).raise_for_status()
    tab.page(page)
    owner.patch(API, json={"qps": "unlimited"}).raise_for_status()
    tab.shown = tab.fill_in(page, name="Other")
    assert (tab.shown.status_code, "QPS limit: 100 → No limit" in told(tab.shown)) == (409, True)
    assert form_fields(tab.shown)["unlimited"] == "on"
    assert tab.fill_in(page, name="Tests").status_code == 303
    assert owner.get(API).json()["qps"] == "unlimited"
    tab.page(page)
    assert tab.fill_in(page, unlimited=None, qps="77").status_code == 303
    assert owner.get(API).json()["qps"] == 77


def test_what_nobody_edited_is_not_sent_back(tab: FormBrowser, owner: httpx.Client) -> None:
    there = {"display_name": "Level", "description": "line one\nline two "}
    owner.patch(f"{API}/attributes/{NUMBER}", json=there).raise_for_status()
    changes = owner.get(f"{API}/changes").json()["changes"]
    page = f"{AT}/attributes/{NUMBER}/edit"
    tab.page(page)
    # A browser sends the ends of lines as CR LF.
    assert tab.fill_in(page, description="line one\r\nline two ").status_code == 303
    found = owner.get(f"{API}/attributes/{NUMBER}").json()
    assert {name: found[name] for name in there} == there
    assert owner.get(f"{API}/changes").json()["changes"] == changes


def test_two_tabs_edit_an_attribute(tab: FormBrowser, owner: httpx.Client) -> None:
    page = f"{AT}/attributes/user_bool_once/edit"
    tab.page(page)
    edit: dict[str, Any] = {"display_name": "Theirs", "description": "Theirs too"}
    owner.patch(f"{API}/attributes/user_bool_once", json=edit).raise_for_status()
    tab.shown = tab.fill_in(page, display_name="Mine")
    assert tab.shown.status_code == 409
    assert "Display name: – → Theirs Description: – → Theirs too" in told(tab.shown)
    assert "By admin-token," in told(tab.shown)
    kept = form_fields(tab.shown)
    assert (kept["display_name"], kept["description"]) == ("Mine", "Theirs too")
    assert tab.fill_in(page).status_code == 303
    found = owner.get(f"{API}/attributes/user_bool_once").json()
    assert (found["display_name"], found["description"]) == ("Mine", "Theirs too")
    # Hiding it is no edit of these fields: a form that is open is not out of date by that.
    tab.page(page)
    owner.patch(f"{API}/attributes/user_bool_once", json={"hidden": True}).raise_for_status()
    assert tab.fill_in(page, display_name="Again").status_code == 303
    assert owner.get(f"{API}/attributes/user_bool_once").json()["hidden"] is True


def test_two_tabs_edit_an_identifier(tab: FormBrowser, owner: httpx.Client) -> None:
    page = f"{AT}/identifiers/phone/edit"
    tab.page(page)
    owner.patch(f"{API}/identifiers/phone", json={"masked": True}).raise_for_status()
    tab.shown = tab.fill_in(page, display_name="Mobile")
    assert (tab.shown.status_code, "Masked: No → Yes" in told(tab.shown)) == (409, True)
    assert tab.fill_in(page).status_code == 303
    found = owner.get(f"{API}/identifiers/phone").json()
    assert (found["display_name"], found["masked"]) == ("Mobile", True)
    tab.page(page)
    assert tab.fill_in(page, masked=None).status_code == 303
    assert owner.get(f"{API}/identifiers/phone").json()["masked"] is False


def test_a_secret_that_somebody_else_rotated_is_not_rotated_again_unseen(
    tab: FormBrowser, owner: httpx.Client, server: ServerProcess
) -> None:
    page = f"{AT}/secret"
    tab.page(page)
    theirs = owner.post(f"{API}/secret:rotate", json={}).json()["secret"]
    tab.shown = tab.fill_in(page, confirm="on")
    assert (tab.shown.status_code, "The secret was not rotated again." in told(tab.shown)) == (409, True)
    with httpx.Client(base_url=server.url, auth=(PROJECT, theirs), timeout=30) as client:
        assert client.get(API).status_code == 200
    assert tab.fill_in(page, confirm="on").headers["location"] == f"{AT}/new-secret"
    owner.post(f"{API}/secret:rotate", json={"secret": SECRET}).raise_for_status()


def test_the_page_with_a_rotated_secret_says_until_when_the_old_one_works(tab: FormBrowser, owner: httpx.Client) -> None:
    said = "The old secret works until"
    for overlap in ("3600", "0"):
        tab.page(f"{AT}/secret")
        assert tab.fill_in(f"{AT}/secret", overlap=overlap, confirm="on").status_code == 303
        shown = tab.page(f"{AT}/new-secret").text
        assert (said in shown) == (overlap == "3600")
        assert (said in tab.page(f"{AT}/keys").text) == (overlap == "3600")
    owner.post(f"{API}/secret:rotate", json={"secret": SECRET}).raise_for_status()


def test_what_was_declared_anew_is_not_deleted_for_the_one_before(tab: FormBrowser, owner: httpx.Client) -> None:
    new = {"name": "passing", "type": "BOOL", "rule": "once"}
    owner.post(f"{API}/attributes", json=new).raise_for_status()
    page = f"{AT}/attributes/passing/delete"
    tab.page(page)
    owner.delete(f"{API}/attributes/passing").raise_for_status()
    owner.post(f"{API}/attributes", json={**new, "type": "NUMBER", "rule": "accumulate"}).raise_for_status()
    tab.shown = tab.fill_in(page)
    assert (tab.shown.status_code, "Data type: BOOL → NUMBER" in told(tab.shown)) == (409, True)
    assert tab.fill_in(page).status_code == 303
    assert owner.get(f"{API}/attributes/passing").status_code == 404


def test_presets_have_a_display_name_in_the_language_of_the_page_until_somebody_renames_them(
    tab: FormBrowser, owner: httpx.Client
) -> None:
    def names(language: str) -> dict[str, str]:
        tab.submit("/console/preferences", language=language)
        rows = tab.page(f"{AT}/identifiers").text.split('<tr id="identifier-')[1:]
        shown = {row.partition('"')[0]: re.search('<span class="clamped">(.*?)</span>', row) for row in rows}
        return {name: found[1] for name, found in shown.items() if name.startswith("jg_") and found}

    assert names("zh") == {"jg_registration_id": "极光设备唯一标识", "jg_UnionID": "用户会员卡号"}
    assert names("en") == {"jg_registration_id": "JiGuang device ID", "jg_UnionID": "Membership card number"}
    page = f"{AT}/identifiers/jg_UnionID/edit"
    tab.page(page)
    assert tab.fill_in(page, masked="on").status_code == 303
    assert names("en")["jg_UnionID"] == "Membership card number"
    stored = owner.get(f"{API}/identifiers/jg_UnionID").json()["display_name"]
    assert stored == "用户会员卡号"
    owner.patch(f"{API}/identifiers/jg_UnionID", json={"display_name": "会员"}).raise_for_status()
    assert names("en")["jg_UnionID"] == "会员"
    owner.patch(f"{API}/identifiers/jg_UnionID", json={"display_name": stored, "masked": False}).raise_for_status()


# the order of identifiers


def links(answer: httpx.Response, label: str) -> str:
    found = re.search(rf'href="([^"]*)" aria-label="{label}"', answer.text)
    assert found is not None, answer.text
    return html.unescape(found[1])


def order(owner: httpx.Client) -> list[str]:
    return [each["name"] for each in owner.get(f"{API}/identifiers").json()["identifiers"]]


def test_an_order_is_a_draft_until_it_is_saved_and_live_requests_go_on(
    tab: FormBrowser, owner: httpx.Client, server: ServerProcess
) -> None:
    page = f"{AT}/identifiers"
    with server.client() as client:

        def register(name: str) -> int:
            found: int = client.post(REGISTER, json={"identityName": name, "identityValues": ["13800000001"]}).json()["code"]
            return found

        owner.post(f"{API}/identifiers", json={"name": "email"}).raise_for_status()
        before = order(owner)
        assert before[:2] == ["phone", "email"]
        assert register("phone") == 0
        tab.page(page)
        draft = tab.page(links(tab.shown, "Move email up"))
        assert "This order is not saved yet" in draft.text
        assert "Once you save it, Get CUID uses email." in html.unescape(re.sub("<[^>]+>", "", draft.text))
        assert "Requests with phone are rejected." in draft.text
        assert (order(owner), register("phone"), register("email")) == (before, 0, 40002)
        # Back to where it was: nothing is left to be saved.
        assert "not saved yet" not in tab.get(links(draft, "Move email down")).text
        assert tab.fill_in(page).headers["location"] == f"{page}?done=ordered"
        assert order(owner)[:2] == ["email", "phone"]
        assert (register("phone"), register("email")) == (40002, 0)
        # One that is not unique serves no Get CUID at all, and that is said before.
        first = f"{page}?order=jg_registration_id > email"
        assert "Get CUID rejects every request, because jg_registration_id is not unique" in tab.page(first).text
        assert "requests are not affected" in tab.page(f"{page}?order=email > jg_UnionID > phone").text
        owner.put(f"{API}/identifiers:order", json={"names": before}).raise_for_status()
        assert register("phone") == 0


def test_a_draft_of_an_order_that_is_out_of_date_is_kept_and_not_saved(tab: FormBrowser, owner: httpx.Client) -> None:
    page = f"{AT}/identifiers"
    before = order(owner)
    tab.page(f"{page}?order={' > '.join(reversed(before))}")
    owner.post(f"{API}/identifiers", json={"name": "device"}).raise_for_status()
    tab.shown = tab.fill_in(page)
    assert tab.shown.status_code == 409
    assert f"Priority: {' > '.join(before)} → {' > '.join(order(owner))}" in told(tab.shown)
    assert order(owner)[0] == before[0]
    kept = form_fields(tab.shown)["order"].split(" > ")
    assert [name for name in kept if name != "device"] == before[::-1]
    assert tab.fill_in(page).status_code == 303
    assert order(owner) == kept
    owner.delete(f"{API}/identifiers/device").raise_for_status()
    owner.put(f"{API}/identifiers:order", json={"names": before}).raise_for_status()


# twice


def projects(owner: httpx.Client) -> int:
    return len(owner.get("/api/v1/projects").json()["projects"])


def changes(owner: httpx.Client) -> int:
    return len(owner.get(f"{API}/changes?limit=1000").json()["changes"])


def count(owner: httpx.Client) -> Any:
    return owner.get(f"{API}/users/{CUID}").json()["attributes"].get(NUMBER, 0)


@pytest.mark.parametrize("at_once", [False, True], ids=["again", "at once"])
@pytest.mark.parametrize(
    ("page", "typed", "counted", "leads"),
    [
        ("/console/new-project", {"name": "Twice"}, projects, r"/console/projects/\d{6}/new-secret"),
        ("/console/new-project", {"name": "Twice", "id": "twice-{}"}, projects, r"/console/projects/twice-\w+/new-secret"),
        (f"{AT}/secret", {"confirm": "on"}, changes, f"{AT}/new-secret"),
        (f"{AT}/settings", {"name": "Twice {}"}, changes, rf"{AT}/settings\?done=saved"),
        (f"{AT}/new-attribute", {"name": "twice_{}"}, changes, rf"{AT}/attributes/twice_\w+\?done=attribute_declared"),
        (f"{AT}/new-identifier", {"name": "twice_{}"}, changes, rf"{AT}/identifiers\?done=identifier_declared"),
        (
            f"{AT}/try",
            {"value": str(CUID), "data": f'{{"{NUMBER}": 1}}', "mode": "real"},
            count,
            rf"{AT}/try\?result=\w+#result",
        ),
    ],
)
def test_a_form_that_is_sent_twice_does_it_once(
    tab: FormBrowser,
    owner: httpx.Client,
    page: str,
    typed: dict[str, str],
    counted: Callable[[httpx.Client], int],
    leads: str,
    at_once: bool,
) -> None:
    mark = "at_once" if at_once else "again"
    typed = {name: value.replace("{}", mark) for name, value in typed.items()}
    before = counted(owner)
    tab.page(page)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: tab.fill_in(page, **typed), range(4))) if at_once else []
    answers = answers or [tab.fill_in(page, **typed) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [303] * len(answers)
    (there,) = {answer.headers["location"] for answer in answers}
    assert re.fullmatch(leads, there), there
    assert counted(owner) == before + 1
    # A reload of the answer, too.
    for _ in range(2):
        assert tab.get(there).status_code == 200
    assert counted(owner) == before + 1
    if "secret" in page:
        owner.post(f"{API}/secret:rotate", json={"secret": SECRET}).raise_for_status()


def test_a_form_of_a_page_that_is_gone_back_to_sends_what_was_typed_then(tab: FormBrowser, owner: httpx.Client) -> None:
    page = f"{AT}/try"
    tab.page(page)
    before = count(owner)
    for added in (1, 2, 1):
        sent = tab.fill_in(page, value=str(CUID), data=f'{{"{NUMBER}": {added}}}', mode="real")
        assert sent.status_code == 303
    assert count(owner) == before + 3


def test_what_is_deleted_or_erased_twice_is_gone(tab: FormBrowser, owner: httpx.Client) -> None:
    owner.post(f"{API}/attributes", json={"name": "short", "type": "BOOL", "rule": "once"}).raise_for_status()
    owner.post(f"{API}/identifiers", json={"name": "short"}).raise_for_status()
    for page, typed, there in (
        (f"{AT}/attributes/short/delete", {}, f"{AT}/attributes?done=attribute_deleted"),
        (f"{AT}/identifiers/short/delete", {}, f"{AT}/identifiers?done=identifier_deleted"),
        (f"{AT}/users/10000003/erase", {"confirm": "10000003"}, f"{AT}/users?done=erased"),
    ):
        tab.page(page)
        assert [tab.fill_in(page, **typed).headers["location"] for _ in range(2)] == [there] * 2


# what a form made


def test_a_new_secret_is_shown_to_whoever_asked_for_it_and_works(tab: FormBrowser, server: ServerProcess) -> None:
    tab.page("/console/new-project")
    there = tab.fill_in("/console/new-project", name="Secret").headers["location"]
    shown = [re.search(r'id="secret-value">(\w+)<', tab.get(there).text) for _ in range(2)]
    assert shown[0] is not None
    assert shown[1] is not None
    assert shown[0][1] == shown[1][1]
    assert public_id(shown[0][1])
    id = there.split("/")[3]
    with httpx.Client(base_url=server.url, auth=(id, shown[0][1]), timeout=30) as client:
        assert client.get(f"/api/v1/projects/{id}").status_code == 200
    # Nobody else sees it, though signed in, and no address holds it.
    with FormBrowser(base_url=server.url, timeout=30) as other:
        other.sign_in()
        answer = other.get(there)
        assert (answer.status_code, answer.headers["location"]) == (303, there.removesuffix("/new-secret"))
    assert shown[0][1] not in there
    # Nor does an old page show a secret that does not work any more.
    tab.page(f"/console/projects/{id}/secret")
    again = tab.fill_in(f"/console/projects/{id}/secret", confirm="on").headers["location"]
    second = re.search(r'id="secret-value">(\w+)<', tab.get(again).text)
    assert second is not None
    assert second[1] != shown[0][1]


def test_what_came_of_a_request_has_an_address_and_what_was_typed(tab: FormBrowser, owner: httpx.Client) -> None:
    page = f"{AT}/try"
    before = count(owner)
    for mode, said, added in (("dry", "Dry run: nothing was written", 0), ("real", "Written", 5)):
        tab.page(page)
        there = tab.fill_in(page, value=str(CUID), data=f'{{"{NUMBER}":5.00}}', mode=mode).headers["location"]
        for _ in range(2):
            answer = tab.page(there.removesuffix("#result"))
            assert (answer.status_code, said in answer.text) == (200, True)
            assert f"<del>{before}</del>" in answer.text or before == 0
            assert f"<ins>{before + 5}</ins>" in answer.text
            kept = form_fields(answer)
            assert (kept["value"], kept["data"]) == (str(CUID), f'{{"{NUMBER}":5.00}}')
        assert count(owner) == before + added


def test_what_came_of_a_request_is_gone_with_the_user(tab: FormBrowser, server: ServerProcess) -> None:
    page = f"{AT}/try"
    tab.page(page)
    typed = {"value": "10000002", "data": '{"user_string_overwrite": "a secret of theirs"}', "mode": "real"}
    there = tab.fill_in(page, **typed).headers["location"].removesuffix("#result")
    assert "a secret of theirs" in tab.get(there).text
    tab.page(f"{AT}/users/10000002/erase")
    assert tab.fill_in(f"{AT}/users/10000002/erase", confirm="10000002").status_code == 303
    answer = tab.get(there)
    assert (answer.status_code, "Results are kept for 10 minutes" in answer.text) == (200, True)
    assert "a secret of theirs" not in answer.text


def test_results_are_shared_and_the_oldest_make_room() -> None:
    now = 1000.0
    with SharedState.file() as file:
        one, other = (SharedState(file.fileno(), lambda: now).results for _ in range(2))
        assert one.find("a") is None
        assert one.keep("a", "user 1", b"first")
        assert other.keep("a", "user 1", b"second")
        assert other.find("a") == b"first"
        assert one.begin("b")
        assert not other.begin("b")
        one.end("b")
        assert other.begin("b")
        noise = [bytes((n * k) % 251 for k in range(997)) * 4 for n in range(3)]
        for n, content in enumerate(noise):
            assert one.keep(f"noise {n}", f"user {n}", content)
        other.forget("user 1")
        assert [one.find(f"noise {n}") for n in range(3)] == [noise[0], None, noise[2]]
        assert one.find("a") is None
        assert not one.keep("large", "", os.urandom(MAX_RESULT_BYTES + 1))
        assert one.find("large") is None
        largest = os.urandom(MAX_RESULT_BYTES - 4096)
        for n in range(2 * RING_BYTES // MAX_RESULT_BYTES + 1):
            assert one.keep(f"large {n}", "", largest)
            assert other.find(f"large {n}") == largest
        assert one.find("noise 0") is None
        assert one.keep("late", "", b"")
        assert other.find("late") == b""
        now += KEPT_SECONDS + 1
        assert other.find("late") is None


def test_a_proxy_that_does_not_pass_the_host_on_is_told_how(tab: FormBrowser) -> None:
    tab.page(f"{AT}/settings")
    for host, origin in (
        ("127.0.0.1:8000", "https://data.example.com"),
        ("data.example.com", "https://data.example.com:8443"),
    ):
        headers = {"Sec-Fetch-Site": "", "Origin": origin, "Host": host}
        form = {**form_fields(tab.shown), "name": "Through a proxy"}
        request = tab.build_request("POST", f"{AT}/settings", data=form, headers=headers)
        del request.headers["Sec-Fetch-Site"]
        answer = tab.send(request)
        assert answer.status_code == 403
        said = html.unescape(answer.text)
        assert f"The browser is at {origin}, but the server received the Host {host}" in said
        assert "proxy_set_header Host $http_host;" in said
        request.headers["Accept-Language"] = "zh-CN"
        assert f"浏览器访问的是 {origin}，服务器收到的 Host 是 {host}" in html.unescape(tab.send(request).text)
    # The same place, written otherwise.
    for host, origin in (
        ("data.example.com:443", "https://data.example.com"),
        ("DATA.example.com", "https://data.example.com"),
        ("data.example.com:80", "http://data.example.com"),
    ):
        request = tab.build_request(
            "POST", f"{AT}/settings", data=form_fields(tab.shown), headers={"Origin": origin, "Host": host}
        )
        assert tab.send(request).status_code == 303
    assert unquote(tab.get(AT).text).count("Through a proxy") == 0


def test_a_form_that_comes_to_two_hosts_does_it_once(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    hosts = [ServerProcess(shared_url, tmp_path / name, admin_token=TOKEN, workers="2") for name in ("one", "two")]
    try:
        with FormBrowser(base_url=hosts[0].url, timeout=30) as tab, hosts[0].client() as client:
            tab.sign_in()

            def to_both(page: str, **typed: str) -> list[str]:
                """Return the redirect of a form that a load balancer sends to one host, and then to the other."""
                tab.page(page)
                found = []
                for host in hosts:
                    tab.base_url = httpx.URL(host.url)
                    answer = tab.fill_in(page, **typed)
                    assert answer.status_code == 303, answer.text
                    found.append(answer.headers["location"])
                return found

            def shown(page: str) -> str:
                found = re.search(r'id="secret-value">(\w+)<', tab.get(page).text)
                assert found is not None
                return found[1]

            one, two = to_both("/console/new-project", name="Once")
            assert one == two
            # Whichever host is asked, and the last one to answer was not the one that made it.
            assert shown(one) == shown(one.replace(hosts[0].url, hosts[1].url))
            id = one.split("/")[3]
            assert client.get(f"/api/v1/projects/{id}", auth=(id, shown(one))).status_code == 200
            owner = {"Authorization": f"Bearer {TOKEN}"}
            assert len(client.get("/api/v1/projects", headers=owner, auth=None).json()["projects"]) == 2
            to_both(f"{AT}/secret", confirm="on")
            secret = shown(f"{AT}/new-secret")
            assert client.get(API, auth=(PROJECT, secret)).status_code == 200
            kinds = [change["what"] for change in client.get(f"{API}/changes", headers=owner, auth=None).json()["changes"]]
            assert sum("rotate secret" in kind for kind in kinds) == 1
            to_both(f"{AT}/try", value=str(cuid), data=f'{{"{NUMBER}": 1}}', mode="real")
            found = client.get(f"{API}/users/{cuid}", headers=owner, auth=None).json()
            assert found["attributes"][NUMBER] == 1
    finally:
        for host in hosts:
            assert host.stop() == 0


@pytest.mark.parametrize(("fields", "status"), [(9_999, 403), (10_001, 413)])
def test_a_form_with_more_fields_than_any_is_not_read(server: ServerProcess, fields: int, status: int) -> None:
    # Anybody may send one here, signed in or not.
    answer = httpx.post(f"{server.url}/console/sign-in", content=b"&".join([b"a="] * fields))
    assert answer.status_code == status
