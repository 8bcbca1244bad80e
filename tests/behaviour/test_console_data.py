"""Users, arrivals and statistics in the console, over HTTP: what the pages show, and what they tell while they are open."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.actors import TESTER
from support.cli_runner import CliRunner
from support.form_browser import FormBrowser, form_fields
from support.raw_http import connect, read_answers
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, SECRET, ServerProcess, create_project
from support.waiting import wait_until
from usertable.app.service import Service
from usertable.console.context import LANGUAGE_COOKIE
from usertable.console.session import COOKIE
from usertable.domain.profile import OTHER_ATTRIBUTES
from usertable.store import open_store
from usertable.store.tables import USERS

TOKEN = "a-token-for-the-tests-only"
AT = f"/console/projects/{PROJECT}"
EVIL = "<script>alert(1)</script>"
DATA = [
    {"user_number_overwrite": 5, "user_string_overwrite": EVIL, "user_bool_overwrite": 1, "user_list_append": ["a", "b,c"]},
    {"user_number_overwrite": 5.25, "user_datetime_overwrite": "2024-02-29 12:00:00", "user_bool_overwrite": 0},
    {"user_number_overwrite": -3, "user_string_overwrite": "=1+1", "user_list_append": ["a"]},
    {},
]


@dataclass
class Site:
    """A server with four users, and a browser that is signed in to its console."""

    server: ServerProcess
    cuids: list[int]
    platform: httpx.Client
    admin: httpx.Client
    form_token: str
    store: str

    def put(self, cuid: int, data: dict[str, object], name: str = "") -> httpx.Response:
        headers = {"X-Request-Id": name} if name else {}
        return self.platform.put(ATTRIBUTE, json={"cuid": cuid, "data": data}, headers=headers)

    def page(self, path: str, status: int = 200) -> str:
        answer = self.admin.get(AT + path)
        assert answer.status_code == status, answer.text
        assert EVIL not in answer.text
        return answer.text

    def users(self, query: str) -> list[int]:
        """Return the CUIDs on a page of the table."""
        return [
            int(cuid) for cuid in re.findall(rf'<th scope="row"><a href="{AT}/users/(\d+)">', self.page(f"/users{query}"))
        ]

    def page_with(self, path: str, text: str) -> str:
        """Return a page once it contains a text. Arrivals are stored once a second."""
        return wait_until(lambda: page if text in (page := self.page(path)) else "")

    def events(self, path: str, until: str) -> str:
        """Return the events of a live page up to some text."""
        told = ""
        with self.admin.stream("GET", AT + path) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for piece in stream.iter_text():
                told += piece
                if until in told:
                    return told
        raise AssertionError(f"it ended without {until!r}: {told}")


def signed_in(server: ServerProcess, cuids: list[int], store: str) -> Iterator[Site]:
    with FormBrowser(base_url=server.url, timeout=30) as browser:
        browser.sign_in()
        cookies = {COOKIE: browser.cookies[COOKIE], LANGUAGE_COOKIE: "en"}
        form_token = form_fields(browser.page("/console/new-project"))["form_token"]
    with server.client() as platform, httpx.Client(base_url=server.url, cookies=cookies, timeout=30) as admin:
        yield Site(server, cuids, platform, admin, form_token, store)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    url = f"sqlite:///{folder / 'store.db'}"
    cuids = create_project(url, users=4)
    store = open_store(url)
    Service(store).edit_identifier(PROJECT, "phone", masked=True, actor=TESTER)
    store.close()
    server = ServerProcess(url, folder, admin_token=TOKEN)
    for site in signed_in(server, cuids, url):
        for cuid, data in zip(cuids, DATA, strict=True):
            if data:
                assert site.put(cuid, dict(data)).status_code == 200
        yield site
        # A page that is still open does not keep the server from stopping.
        with site.admin.stream("GET", f"{AT}/arrivals/live") as stream:
            next(stream.iter_text())
            assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("attribute", "operator", "value", "until", "expected"),
    [
        ("user_number_overwrite", "eq", "5", "", [0]),
        ("user_number_overwrite", "ne", "5", "", [1, 2]),
        ("user_number_overwrite", "between", "-3", "5", [0, 2]),
        ("user_number_overwrite", "lt", "5.25", "", [0, 2]),
        ("user_number_overwrite", "unset", "", "", [3]),
        ("user_string_overwrite", "contains", "script", "", [0]),
        ("user_string_overwrite", "eq", EVIL, "", [0]),
        ("user_bool_overwrite", "eq", "0", "", [1]),
        ("user_datetime_overwrite", "gt", "2024-02-29 11:59:59", "", [1]),
        ("user_datetime_overwrite", "ge", "2024-02-29", "", [1]),
        ("user_datetime_overwrite", "between", "2024-02-29", "2024-03-01", [1]),
        ("user_list_append", "contains", "b,c", "", [0]),
        ("user_list_append", "set", "", "", [0, 2]),
    ],
)
def test_filters_of_every_type_by_the_form(
    site: Site, attribute: str, operator: str, value: str, until: str, expected: list[int]
) -> None:
    form = {"add_attribute": attribute, "add_operator": operator, "add_value": value, "add_until": until}
    there = site.admin.get(f"{AT}/users", params=form)
    assert there.status_code == 303, there.text
    query = there.headers["location"].removeprefix(f"{AT}/users")
    assert site.users(query) == [site.cuids[n] for n in expected]
    without = re.search(r'<li class="chip">.*?<a href="([^"]*)"', site.page(f"/users{query}"))
    assert without is not None
    assert site.users(html.unescape(without[1]).removeprefix(f"{AT}/users")) == site.cuids


ODD = ("Washington, D.C.", "Paris", 'the "Ritz", Paris', " 杭州 ", "a:b%2C\\,", "'", '"')


def filtered(site: Site, operator: str, **typed: str) -> list[int]:
    """Return the CUIDs that a filter on a text finds. The page shows each of its values."""
    form = {"add_attribute": "user_string_overwrite", "add_operator": operator, **typed}
    there = site.admin.get(f"{AT}/users", params=form)
    assert there.status_code == 303, there.text
    query = there.headers["location"].removeprefix(f"{AT}/users")
    shown = re.findall('<strong class="token">(.*?)</strong>', site.page(f"/users{query}"))
    assert list(map(html.unescape, shown)) == list(dict.fromkeys("".join(typed.values()).splitlines()))
    return site.users(query)


def test_one_of_several_values_is_found_whatever_its_characters(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    cuids = create_project(url, users=len(ODD) + 1)
    server = ServerProcess(url, tmp_path, admin_token=TOKEN)
    for site in signed_in(server, cuids, url):
        for cuid, text in zip(cuids, (*ODD, "Washington"), strict=True):
            assert site.put(cuid, {"user_string_overwrite": text, "user_number_overwrite": cuid % 10}).status_code == 200

        for cuid, text in zip(cuids, ODD, strict=False):
            assert filtered(site, "eq", add_value=text) == filtered(site, "in", add_values=text) == [cuid]
            assert filtered(site, "in", add_values=f"{text}\r\nParis\r\n") == sorted({cuid, cuids[1]})
        assert filtered(site, "in", add_values="\n".join(ODD)) == cuids[:-1]
        # Several fields of one name, as a form without a text area has them.
        several = {"add_attribute": "user_string_overwrite", "add_operator": "in", "add_value": [ODD[0], ODD[2]]}
        there = site.admin.get(f"{AT}/users", params=several).headers["location"]
        assert site.users(there.removeprefix(f"{AT}/users")) == [cuids[0], cuids[2]]
        # A number has no comma: 1,000 may be one or two, so it is refused.
        numbers = {"add_attribute": "user_number_overwrite", "add_operator": "in", "add_values": "1,000"}
        answer = site.admin.get(f"{AT}/users", params=numbers)
        assert (answer.status_code, 'id="values-error"' in answer.text) == (422, True)
        numbers["add_values"] = " 1 \n3"
        there = site.admin.get(f"{AT}/users", params=numbers).headers["location"]
        assert site.users(there.removeprefix(f"{AT}/users")) == [cuids[0], cuids[2]]
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"add_attribute": "user_number_overwrite", "add_operator": "in", "add_values": " \n"}, "values"),
        ({"add_attribute": "user_bool_overwrite", "add_operator": "in", "add_values": "1\nmaybe"}, "values"),
        ({"add_attribute": "user_bool_overwrite", "add_operator": "lt", "add_value": "1"}, "operator"),
        ({"add_attribute": "user_number_overwrite", "add_operator": "eq", "add_value": " "}, "value"),
        ({"add_attribute": "user_number_overwrite", "add_operator": "between", "add_value": "1"}, "value"),
        ({"add_attribute": "user_number_overwrite", "add_operator": "eq", "add_value": "ten"}, "value"),
        ({"add_attribute": "user_datetime_overwrite", "add_operator": "lt", "add_value": "yesterday"}, "value"),
        ({"add_attribute": "user_bool_overwrite", "add_operator": "eq", "add_value": EVIL}, "value"),
    ],
)
def test_what_is_wrong_with_a_filter_stands_beside_the_field(site: Site, form: dict[str, str], field: str) -> None:
    answer = site.admin.get(f"{AT}/users", params=form)
    assert answer.status_code == 422
    assert re.findall(r'class="error" id="(\w+)-error"', answer.text) == [field]
    assert EVIL not in answer.text
    assert site.admin.get(f"{AT}/users", params={"where": "nope"}).status_code == 422


@pytest.mark.parametrize("page", ["users", "users/csv", "users/live"])
def test_more_filters_than_a_page_has_are_refused_and_none_is_left_out(site: Site, page: str) -> None:
    where = [f"user_number_overwrite:ne:{number}" for number in range(21)]
    assert site.admin.get(f"{AT}/{page}", params={"where": where[:20]}).status_code == 200
    answer = site.admin.get(f"{AT}/{page}", params={"where": where})
    assert answer.status_code == 422
    assert "at most 20 conditions in a filter" in answer.text


def test_several_filters_are_all_met_and_columns_are_remembered(site: Site) -> None:
    where = "where=user_number_overwrite:ge:5&where=user_bool_overwrite:eq:1"
    assert site.users(f"?{where}") == site.cuids[:1]
    chosen = f"/users?choose=1&{where}&column=user_string_overwrite&column=user_list_append"
    text = site.page(chosen)
    chosen_names = ["user_string_overwrite", "user_list_append"]
    assert re.findall(r'name="column" value="(\w+)" checked', text) == chosen_names
    assert html.escape(EVIL) in text
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', site.page("/users"))
    assert heads == ["CUID", "Identifiers", *chosen_names, "Updated"]
    site.admin.cookies.delete("usertable_columns_1")


def test_orders_and_pages_by_following_the_links(site: Site) -> None:
    assert site.users("?order=-cuid") == site.cuids[::-1]
    site.events("/users/live?order=-updated", "event: end")
    assert site.users("?order=-updated")[:3] == site.cuids[2::-1]
    assert site.users(f"?after={site.cuids[1]}") == site.cuids[2:]
    back = re.search(r'rel="prev" href="([^"]+)"', site.page(f"/users?after={site.cuids[1]}"))
    assert back is not None
    assert site.users(html.unescape(back[1]).removeprefix(f"{AT}/users")) == site.cuids[:2]


def test_the_order_by_time_says_at_once_that_it_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    cuids = create_project(url, users=2001)
    for site in signed_in(ServerProcess(url, tmp_path, admin_token=TOKEN), cuids, url):
        # The users have not been counted yet.
        answer = site.admin.get(f"{AT}/users/csv?order=-updated")
        assert len(list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))) == 2000
        named = f'attachment; filename="users-{PROJECT}-last-updated-2000-of-2001.csv"'
        assert answer.headers["content-disposition"] == named
        assert "at most 2,000 users" in site.page("/users?order=updated")
        assert "at most 2,000 users" not in site.page("/users?order=-cuid")
        notice = "only the first 2,000 users are listed"
        assert notice in site.page("/users?order=-updated")
        assert notice not in site.page("/users")
        assert site.server.stop() == 0


def test_the_count_comes_while_the_page_is_open(site: Site) -> None:
    told = site.events("/users/live?where=user_number_overwrite:ge:5", "event: end")
    assert "<strong>2 users</strong>" in told
    assert "event: rows" in told
    assert EVIL not in told
    assert "<strong>4 users</strong>" in site.events("/users/live", "event: end")


def test_csv_of_what_is_shown(site: Site) -> None:
    query = "where=user_number_overwrite:set&column=user_string_overwrite&column=user_number_overwrite&order=-cuid"
    answer = site.admin.get(f"{AT}/users/csv?{query}")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="users-{PROJECT}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["cuid"] for row in rows] == [str(cuid) for cuid in site.cuids[2::-1]]
    assert [row["user_string_overwrite"] for row in rows] == ["'=1+1", "", EVIL]
    assert [row["user_number_overwrite"] for row in rows] == ["-3", "5.25", "5"]
    assert {row["phone"] for row in rows} == {"0000*******"}


def test_csv_for_a_client_of_http_1_0_has_no_chunks_and_ends_with_its_connection(site: Site) -> None:
    path = f"{AT}/users/csv?where=user_number_overwrite:set&column=user_number_overwrite"
    cookies = "; ".join(f"{name}={value}" for name, value in site.admin.cookies.items())
    head = f"GET {path} HTTP/1.0\r\nCookie: {cookies}\r\nConnection: keep-alive\r\n\r\n"
    with connect(site.server.url) as connection:
        connection.sendall(head.encode())
        (answer,) = read_answers(connection)
    assert answer.status == 200
    assert {"transfer-encoding", "content-length"}.isdisjoint(answer.headers)
    assert answer.body == site.admin.get(path).content


def test_an_import_of_the_consoles_csv_is_refused_and_names_the_export(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli = CliRunner(site.store, {})
    before = cli.out("export", "--project", PROJECT, "--format", "ndjson")
    downloaded = site.admin.get(f"{AT}/users/csv?column=user_string_overwrite").content
    told = (
        "the file cannot be imported: it was downloaded from the console, where identifiers are masked and texts are escaped"
        " for spreadsheets; import a file written by `usertable export`"
    )
    # As it is, as a spreadsheet for another language writes it, and after the columns that are no attributes were left out.
    for content, options in (
        (downloaded, ()),
        (downloaded.replace(b",", b";"), ("--delimiter", ";")),
        (downloaded.decode("utf-8-sig").encode("utf-16"), ()),
        (downloaded, ("--map", "version=", "--map", "created_at=", "--map", "updated_at=", "--map", "#console=")),
        (downloaded, ("--dry-run",)),
    ):
        Path("users.csv").write_bytes(content)
        refused = cli.run("import", "users.csv", "--project", PROJECT, "--register", *options, code=1)
        assert refused.stderr == f"Error: {told}\n"
        assert not Path("users.rejects.csv").exists()
    assert cli.out("export", "--project", PROJECT, "--format", "ndjson") == before
    Path("export.csv").write_text(cli.out("export", "--project", PROJECT))
    cli.run("import", "export.csv", "--project", PROJECT, "--dry-run")


def test_a_bool_is_written_as_the_api_takes_it_wherever_it_is_shown(site: Site) -> None:
    name, (yes, no, *_) = "user_bool_overwrite", site.cuids
    table = site.page(f"/users?column={name}&where={name}:in:true,0")
    assert re.findall(r'<td class="cell">([01])</td>', table) == ["1", "0"]
    assert re.findall('<strong class="token">(.*?)</strong>', table) == ["1", "0"]
    rows = csv.DictReader(io.StringIO(site.admin.get(f"{AT}/users/csv?column={name}").content.decode("utf-8-sig")))
    assert [row[name] for row in rows][:2] == ["1", "0"]
    for cuid, shown in ((yes, "1"), (no, "0")):
        assert re.search(
            rf'<code>{name}</code>.*?<td class="long">\s*{shown}\s*</td>', site.page(f"/users/{cuid}"), re.DOTALL
        )
    form = {"form_token": site.form_token, "by": "cuid", "value": str(yes), "data": f'{{"{name}": 0}}', "mode": "dry"}
    done = site.admin.post(f"{AT}/try", data=form)
    result = site.admin.get(done.headers["location"].partition("#")[0]).text
    assert (re.findall(r"<del>\s*(.*?)\s*</del>", result), re.findall(r"<ins>\s*(.*?)\s*</ins>", result)) == (["1"], ["0"])


def test_the_request_that_is_filled_in_for_a_user_changes_nothing(site: Site) -> None:
    cuid = site.cuids[0]
    fields = form_fields(site.admin.get(f"{AT}/try?cuid={cuid}"))
    assert (fields["value"], json.loads(fields["data"])["user_number_overwrite"]) == (str(cuid), 5)
    data = {"form_token": site.form_token, **{name: fields[name] for name in ("value", "data")}, "by": "cuid", "mode": "dry"}
    done = site.admin.post(f"{AT}/try", data=data)
    result = html.unescape(site.admin.get(done.headers["location"].partition("#")[0]).text)
    assert "Dry run: nothing was written" in result
    assert re.findall(r'<td class="beside">(\w*)</td>', result).count("unchanged") == 1


def test_one_box_finds_a_user_by_cuid_or_any_identifier(site: Site) -> None:
    cuid = site.cuids[1]
    for value in (f" {cuid} ", "00000000001", "\t00000000001 "):
        answer = site.admin.get(f"{AT}/users/find", params={"value": value})
        assert answer.headers["location"] == f"{AT}/users/{cuid}", value
    for value in ("", " "):
        assert "Enter a value" in site.admin.get(f"{AT}/users/find", params={"value": value}).text
    for value in (EVIL, "x", "9" * 30, "\x00"):
        answer = site.admin.get(f"{AT}/users/find", params={"value": value})
        assert answer.status_code == 404
        assert "No user has the CUID or identifier value" in answer.text
        assert EVIL not in answer.text


def test_a_value_that_stands_for_several_users_offers_each(site: Site) -> None:
    other = site.cuids[0]
    # A phone number that looks like somebody else's CUID.
    registration = {"identityName": "phone", "identityValues": [str(other)]}
    owner = site.platform.post(REGISTER, json=registration).json()["data"][0]["cuid"]
    page = site.admin.get(f"{AT}/users/find", params={"value": str(other)}).text
    offered = re.findall(rf'<li><a href="{AT}/users/(\d+)">User \d+</a> · (\w+)</li>', page)
    assert offered == [(str(other), "CUID"), (str(owner), "phone")]
    erase = {"form_token": site.form_token, "confirm": str(owner)}
    assert site.admin.post(f"{AT}/users/{owner}/erase", data=erase).status_code == 303


def test_what_is_filtered_by_is_a_column_of_the_table_and_of_its_csv(site: Site) -> None:
    query = "?where=user_number_overwrite:ge:5&where=user_bool_overwrite:eq:1&column=user_string_overwrite"
    names = ["user_number_overwrite", "user_bool_overwrite", "user_string_overwrite"]
    page = site.page(f"/users{query}")
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', page) == ["CUID", "Identifiers", *names, "Updated"]
    # It is no choice of columns: without the filter it is gone.
    assert re.findall(r'name="column" value="(\w+)" checked', page) == names[2:]
    (row,) = csv.DictReader(io.StringIO(site.admin.get(f"{AT}/users/csv{query}").content.decode("utf-8-sig")))
    assert [row[name] for name in names] == ["5", "1", EVIL]


def test_a_users_page_has_every_value_as_text_and_masks_identifiers(site: Site) -> None:
    text = site.page(f"/users/{site.cuids[0]}")
    assert html.escape(EVIL) in text
    assert '<span class="element">a</span><span class="element">b,c</span>' in text
    assert "0000*******" in text
    assert "00000000000" not in text
    assert site.admin.get(f"{AT}/users/5").status_code == 404
    assert site.admin.get(f"{AT}/users/nobody").status_code == 404


def test_each_value_has_the_time_of_its_last_change(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url, users=0)
    values = {"user_string_once": "a", "user_number_overwrite": 1, "user_bool_overwrite": True}
    made, changed = 1_700_000_000_000, 1_700_000_400_000
    later = {"user_number_overwrite": changed}
    store = open_store(url)
    project = store.project(PROJECT)
    assert project is not None
    # The second was written before such times were kept, but for one attribute that changed since.
    recorded = ((1, later), (2, {OTHER_ATTRIBUTES: 0, **later}))
    rows = [(cuid, 3, made, changed, values, times, 0, "") for cuid, times in recorded]
    store.load(project.number, USERS, rows)
    store.close()
    server = ServerProcess(url, tmp_path, admin_token=TOKEN)
    for site in signed_in(server, [1, 2], url):
        pages = [site.page(f"/users/{cuid}") for cuid in site.cuids]
    assert server.stop() == 0
    at_first, changed_later = "2023-11-15 06:13:20", "2023-11-15 06:20:00"
    for page, of_others in zip(pages, (at_first, f"no later than {changed_later}"), strict=True):
        cells = dict(re.findall(r"<code>(user_\w+)</code></a>.*?<td class=\"moment\">(.*?)</td>", page, re.DOTALL))
        assert {name: re.sub(r"<[^>]+>", "", cell).removesuffix(" History") for name, cell in cells.items()} == {
            "user_string_once": of_others,
            "user_number_overwrite": changed_later,
            "user_bool_overwrite": of_others,
        }
        assert ("before usertable recorded a time for each attribute" in page) is (of_others != at_first)


def test_long_values_are_folded(site: Site) -> None:
    cuid = site.platform.post(REGISTER, json={"identityName": "phone", "identityValues": ["long"]}).json()["data"][0]["cuid"]
    long: dict[str, object] = {"user_string_overwrite": "long" * 500, "user_list_append": [f"e{n}" for n in range(60)]}
    assert site.put(cuid, {"user_number_overwrite": 1e-7}, "tiny").status_code == 200
    assert site.put(cuid, long, "long").status_code == 200
    site.events("/arrivals/live", "<code>long</code>")
    text = site.page(f"/users/{cuid}")
    assert "2,000 characters" in text
    assert "10 more items" in text
    assert re.search(r">\s*0\.0000001\s*<", text)
    row = site.page(f"/users?column=user_string_overwrite&column=user_list_append&after={cuid - 1}")
    assert "+52" in row
    assert "long" * 51 not in row


def test_a_put_arrives_on_the_open_page_with_its_outcomes(site: Site) -> None:
    assert site.put(site.cuids[1], {"user_string_overwrite": EVIL, "user_number_once": 1}, "arrives").status_code == 200
    assert site.put(site.cuids[1], {"user_number_once": EVIL, "nope": 1}, "refused").status_code == 400
    site.platform.post(REGISTER, json={"identityName": "phone", "identityValues": ["1"]}, headers={"X-Request-Id": "reg"})
    told = site.events("/arrivals/live", "<code>reg</code>")
    for text in ("<code>arrives</code>", "<code>refused</code>", html.escape(EVIL), "applied", "event: chart", "40010"):
        assert text in told, text
    assert EVIL not in told
    page = site.page("/arrivals?show=refused")
    assert "<code>refused</code>" in page
    assert "<code>arrives</code>" not in page
    assert "<rect" in page
    assert "nope" in site.page("/arrivals")
    # The attribute's own page has it too, and so has the user's.
    assert "value_type" in site.page("/attributes/user_number_once")
    assert "<code>arrives</code>" in site.page(f"/users/{site.cuids[1]}")


def test_a_refusal_leads_to_its_requests(site: Site) -> None:
    for name, data in (("of-a", {"leads_a": 1}), ("of-both", {"leads_a": 1, "leads_b": 1}), ("of-b", {"leads_b": 1})):
        assert site.put(site.cuids[3], dict(data), name).status_code == 400
    page = site.page_with("/arrivals", "<code>of-b</code>")
    links = [html.unescape(link) for link in re.findall(rf'<a href="{AT}(/arrivals\?kind=[^"]*)#requests">', page)]
    assert len(links) == page.count('<span class="badge bad">40')
    (of_a,) = [link for link in links if link.endswith("leads_a")]
    assert of_a == "/arrivals?kind=attribute_unknown&attribute=leads_a"
    listed = re.findall(r"request ID <code>([^<]+)</code> · (?:key )?<a", site.page(of_a))
    assert listed == ["of-both", "of-a"]
    told = site.events(of_a.replace("/arrivals", "/arrivals/live"), "event: refusals")
    assert "<code>of-both</code>" in told
    # So does the page of the attribute that it is about.
    link = f'{AT}/arrivals?kind=value_type&amp;attribute=user_number_once#requests"'
    assert site.put(site.cuids[3], {"user_number_once": "x"}, "of-once").status_code == 400
    assert link in site.page_with("/attributes/user_number_once", "<code>of-once</code>")
    assert "no longer kept" in site.page("/arrivals?kind=append_length")
    assert "<code>of-a</code>" in site.page("/arrivals?kind=nothing")


def test_an_import_is_a_write(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "user_string_once"
    cli = CliRunner(site.store, {})
    for cuid, code, told in ((7, 1, "Last write: –"), (site.cuids[3], 0, "Last write: <time")):
        Path("users.csv").write_text(f"cuid,{name}\n{cuid},imported\n")
        result = cli.invoke("import", "users.csv", "--project", PROJECT, "--rejects", f"{cuid}.csv")
        assert result.exit_code == code, result.output
        assert told in site.page(f"/attributes/{name}")
    # It is no request.
    assert "<code>imported</code>" not in site.page("/arrivals")


def test_deleting_is_offered_only_where_it_can_be_done(site: Site) -> None:
    unused, used = "user_datetime_once", "user_number_overwrite"
    assert f'href="{AT}/attributes/{unused}/delete"' in site.page(f"/attributes/{unused}")
    page = site.page(f"/attributes/{used}")
    assert f"{used}/delete" not in page
    assert "it can't be deleted. Hide it instead." in html.unescape(page)
    # Whoever has the address may hide it there.
    asked = site.page(f"/attributes/{used}/delete")
    assert f'action="{AT}/attributes/{used}/status"' in asked
    rows = dict(re.findall(r'<tr id="identifier-(\w+)".*?(<td class="acts">.*?)</tr>', site.page("/identifiers"), re.DOTALL))
    assert ["disabled" in rows[name] for name in ("phone", "jg_UnionID")] == [True, True]
    assert "Users have values of “phone”" in html.unescape(rows["phone"])
    assert "is a preset" in html.unescape(rows["jg_UnionID"])


def test_statistics_of_attributes(site: Site) -> None:
    told = site.events("/fill/live", "event: end")
    assert re.findall(r"event: fill-user_number_accumulate\ndata: (.*)", told)[-1] == "0%"
    assert re.findall(r"event: fill-user_list_append\ndata: (.*)", told)[-1] in ("50.0%", "40.0%")
    page = site.page("/attributes")
    assert 'data-part="fill-user_list_append"' in page
    for name, text in (
        ("user_number_overwrite", "<svg"),
        ("user_datetime_overwrite", "<svg"),
        ("user_bool_overwrite", "<svg"),
        ("user_string_overwrite", html.escape(EVIL)),
        ("user_list_append", f'<a href="{AT}/users?where=user_list_append%3Acontains%3Aa">a</a>'),
    ):
        told = site.events(f"/attributes/{name}/live", "event: end")
        assert text in told, name
        assert EVIL not in told
        assert "Last write: <time" in site.page_with(f"/attributes/{name}", "Last write: <time"), name
    assert "Last write: –" in site.page("/attributes/user_number_accumulate")
    assert site.page("/attributes/user_bool_overwrite?anew=1")
    assert "Earliest " in site.events("/attributes/user_datetime_overwrite/live", "event: end")
    assert "Min " in site.events("/attributes/user_number_overwrite/live", "event: end")


@pytest.mark.parametrize(
    "name", ["user_number_overwrite", "user_datetime_overwrite", "user_bool_overwrite", "user_string_overwrite"]
)
def test_each_bar_and_value_of_a_distribution_leads_to_its_users(site: Site, name: str) -> None:
    told = site.events(f"/attributes/{name}/live", "event: end").rpartition("event: distribution")[2]
    of_bars = re.findall(r'<a href="([^"]+)" aria-label="[^"]*: ([\d,]+)', told)
    of_values = re.findall(r'<th scope="row" class="long"><a href="([^"]+)">.*?<td class="number">(\d+)</td>', told)
    links = [(html.unescape(address).removeprefix(f"{AT}/users"), int(count)) for address, count in of_bars + of_values]
    assert [len(site.users(query)) for query, _ in links] == [count for _, count in links]
    found = [cuid for query, _ in links for cuid in site.users(query)]
    # A truncated value has no link.
    assert len(set(found)) == len(found)
    assert set(site.cuids).intersection(site.users(f"?where={name}:set")) <= set(found)


def test_an_outlier_has_a_bar_of_its_own_that_leads_to_its_users(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    cuids = create_project(url, users=30)
    server = ServerProcess(url, tmp_path, admin_token=TOKEN)
    for site in signed_in(server, cuids, url):
        records = [{"cuid": cuid, "data": {"user_number_overwrite": n}} for n, cuid in enumerate(cuids)]
        records[0]["data"] = {"user_number_overwrite": 10**23}
        sent = site.platform.post(f"/api/v1/projects/{PROJECT}/users:batch", json={"records": records})
        assert sent.status_code == 200, sent.text
        told = site.events("/attributes/user_number_overwrite/live", "event: end").rpartition("event: distribution")[2]
        bars = re.findall(r'<a href="([^"]+)" aria-label="([^"]*)"', told)
        assert [title for _, title in bars] == [*(f"{n} to {n + 1}: 1 user" for n in range(1, 30)), "30 or more: 1 user"]
        assert "Gray bar: a value outside the axis, 1 user." in told
        assert "Min 1, max 100,000,000,000,000,000,000,000" in told
        assert site.users(html.unescape(bars[-1][0]).removeprefix(f"{AT}/users")) == cuids[:1]
    assert server.stop() == 0


def test_the_legend_of_a_bool_stands_in_the_order_of_its_bar(site: Site) -> None:
    registration = {"identityName": "phone", "identityValues": ["13900000007", "13900000008", "13900000009"]}
    cuids = [entry["cuid"] for entry in site.platform.post(REGISTER, json=registration).json()["data"]]
    for cuid in cuids:
        assert site.put(cuid, {"user_bool_once": int(cuid == cuids[0])}).status_code == 200
    told = site.events("/attributes/user_bool_once/live", "event: end").rpartition("event: distribution")[2]
    assert re.findall("<title>([01]): ", told) == ["1", "0"]
    assert re.findall(r'class="key \w+">(\w+) <strong>(\d)', told) == [("1", "1"), ("0", "2")]
    for cuid in cuids:
        done = site.admin.post(f"{AT}/users/{cuid}/erase", data={"form_token": site.form_token, "confirm": str(cuid)})
        assert done.status_code == 303


def test_erasing_asks_and_leaves_nothing(site: Site) -> None:
    registration = {"identityName": "phone", "identityValues": ["13900000000"]}
    cuid = site.platform.post(REGISTER, json=registration).json()["data"][0]["cuid"]
    assert site.put(cuid, {"user_string_overwrite": "remember me"}, "to be erased").status_code == 200
    assert site.put(cuid, {"user_string_overwrite": "remember me"}, "to-be-erased").status_code == 200
    site.events("/arrivals/live", "<code>to-be-erased</code>")
    path = f"{AT}/users/{cuid}/erase"
    assert "can't be undone" in html.unescape(site.page(f"/users/{cuid}/erase"))
    for confirm in ("", "yes"):
        refused = site.admin.post(path, data={"form_token": site.form_token, "confirm": confirm})
        assert refused.status_code == 422
        assert 'id="confirm-error"' in refused.text
    done = site.admin.post(path, data={"form_token": site.form_token, "confirm": str(cuid)})
    assert done.headers["location"] == f"{AT}/users?done=erased"
    assert "User erased." in site.page("/users?done=erased")
    assert site.admin.get(f"{AT}/users/{cuid}").status_code == 404
    assert cuid not in site.users("")
    assert "to-be-erased" not in site.page("/arrivals")
    assert "remember me" not in site.page("/arrivals")


def test_an_empty_project_says_what_to_do_next(site: Site) -> None:
    fields = {"form_token": site.form_token, "name": "empty", "id": "empty", "timezone": "UTC", "qps": "5"}
    assert site.admin.post("/console/new-project", data=fields).headers["location"] == "/console/projects/empty/new-secret"
    for path in ("/users", "/arrivals", "/attributes"):
        answer = site.admin.get(f"/console/projects/empty{path}")
        assert answer.status_code == 200
        assert 'class="empty' in answer.text
        assert 'class="button primary"' in answer.text


def test_both_languages(site: Site) -> None:
    for path in ("/users", "/arrivals", f"/users/{site.cuids[0]}", "/attributes/user_number_overwrite"):
        cookies = {**dict(site.admin.cookies), LANGUAGE_COOKIE: "zh"}
        answer = httpx.get(site.server.url + AT + path, cookies=cookies)
        assert answer.status_code == 200
        assert 'lang="zh-CN"' in answer.text


def test_the_server_holds_no_secret_in_its_samples(site: Site, tmp_path: Path) -> None:
    assert TOKEN not in site.page("/arrivals")
    assert SECRET not in site.page("/arrivals")
