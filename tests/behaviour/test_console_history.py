"""History in the console, over HTTP: what the pages of a user, an attribute and a project show of it."""

from __future__ import annotations

import html
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from support.actors import TESTER
from support.form_browser import FormBrowser, form_fields
from support.past_store import DAY, HOUR, IMPORTED, PastStore, create_past_store
from support.sample_server import AT, CUID, SAMPLE_ATTRIBUTES, TOKEN
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess
from support.waiting import wait_until
from usertable.console.views.history import size_text
from usertable.domain.change import Origin

PASSWORD = "correct horse battery staple"
USER = f"{AT}/users/{CUID}"
GAP = 50_000_002
"""A user with writes that were not recorded."""
BUSY = 50_000_003
"""A user with many changes."""
KNOWN = 50_000_004
"""A user who got identifier values."""


@dataclass
class Site:
    """A server with a user who changed for four days, and a browser that is signed in to its console."""

    server: ServerProcess
    browser: FormBrowser
    begin: int
    """When the project was created, in ms since 1970 UTC."""

    def page(self, path: str, status: int = 200) -> str:
        """Return the text of a page, without markup, with single spaces."""
        answer = self.browser.page(path)
        assert answer.status_code == status, answer.text
        return text_of(answer.text)

    def entries(self, path: str) -> list[str]:
        """Return the changes on a page."""
        answer = self.browser.page(path)
        assert answer.status_code == 200, answer.text
        listed = answer.text.partition('<ol class="timeline">')[2].partition("</ol>")[0]
        return [text_of(entry) for entry in re.split(r"<li[ >]", listed)[1:]]

    def at(self, ms: int) -> str:
        """Return a moment after the start, in the format of a browser's field."""
        moment = datetime.fromtimestamp((self.begin + ms) / 1000, ZoneInfo("Asia/Shanghai"))
        return moment.replace(tzinfo=None).isoformat(timespec="seconds").removesuffix(":00")


def text_of(markup: str) -> str:
    inner = markup.partition("<main")[2] or markup
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", inner)).split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("history")
    url = f"sqlite:///{folder / 'store.db'}"
    begin = create_past_store(url)
    past = PastStore(url, begin + DAY)
    past.import_rows((GAP, (), '{"level":"bronze"}'), (BUSY, (), '{"level":"bronze"}'), job="more")
    for number in range(60):
        past.now += 1000
        past.write(BUSY, {"logins": 1, "level": ("gold", "silver")[number % 2]}, Origin("key:web"), f"busy-{number}")
    past.write(GAP, {"level": "gold"}, Origin("key:web"), "gap-1")
    past.import_rows((KNOWN, (), '{"city":"深圳"}'), job="known")
    past.now += 1000
    past.import_rows((KNOWN, (("phone", "13900001111"), ("login_id", "shopper")), '{"city":"广州"}'), job="phones")
    past.now += 1000
    past.import_rows((KNOWN, (("login_id", "shopper-2"),), "{}"), job="logins")
    for role in ("viewer", "editor"):
        past.service.add_person(f"{role}@example.com", roles={PROJECT: role}, password=PASSWORD, actor=TESTER)
    past.store.close()
    # As a server of an earlier version that runs beside this one writes: without history.
    with sqlite3.connect(folder / "store.db") as db:
        db.execute("UPDATE user_1 SET version = version + 2, updated_at = ? WHERE cuid = ?", (begin + 2 * DAY, GAP))
    db.close()
    server = ServerProcess(url, folder, admin_token=TOKEN)
    with FormBrowser(base_url=server.url, timeout=30, headers={"Accept-Language": "en"}) as browser:
        browser.sign_in()
        yield Site(server, browser, begin)
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_users_changes_say_what_was_sent_by_whom_and_what_the_rules_made_of_it(site: Site) -> None:
    newest, gold, nothing, orders, web, first_orders, first, created = site.entries(f"{USER}/history")
    assert "Write key:web source web-43" in newest
    assert "city 城市 City 上海 → became 北京 Overwrite: replaced" in newest
    assert "logins 登录次数 Logins – → became 1 Accumulate: +1" in newest
    assert "Request ID web-4" in newest
    assert "first_paid_at 首次付费 First payment – → became 2023-12-12 00:56:23 Once only: first value" in gold
    assert "Changed nothing" in nothing
    assert "level 会员等级 Level silver Overwrite: same value again" in nothing
    assert "total_spent 累计消费 Total spent 46.2 → became 40 Accumulate: −6.2" in orders
    assert "music 2 items → 3 items Append: 1 added, 1 already there" in orders
    assert "Occurred" in orders
    assert "Occurred" not in web
    assert "referrer 来源 Referrer search Once only: kept, “campaign” ignored" in web
    assert "0 items → 2 items Append: 2 added" in first_orders
    assert "referrer 来源 Referrer – → became search" in first
    assert "Created by a command cli:test" in created
    assert "Nothing is older: the user was created at" in site.page(f"{USER}/history")


def test_changes_are_filtered_by_attribute_and_actor(site: Site) -> None:
    of_level = site.entries(f"{USER}/history?attribute=level")
    assert [re.search(r"key:\w+", entry)[0] for entry in of_level] == ["key:web", "key:crm", "key:web", "key:web"]  # type: ignore[index]
    assert "is_member" not in of_level[0]
    assert "with 2 other attributes" in of_level[0]
    assert len(site.entries(f"{USER}/history?actor=key:orders")) == 2
    assert len(site.entries(f"{USER}/history?attribute=level&actor=key:crm")) == 1
    assert "No change matches." in site.page(f"{USER}/history?attribute=logins&actor=key:crm")
    # Of an attribute that was deleted since, a link still leads to the user's changes.
    assert len(site.entries(f"{USER}/history?attribute=deleted")) == 8


def test_an_actor_that_is_misspelt_is_refused_beside_its_field_and_not_answered_with_an_empty_list(site: Site) -> None:
    hint = "Enter an actor, such as key:default, person:ann@example.com, cli:deploy, import:crm or admin-token."
    for path in (f"{USER}/history", f"{AT}/audit"):
        page = site.page(f"{path}?actor=orders", 422)
        assert hint in page
        assert 'aria-describedby="actor-error"' in site.browser.shown.text
        assert hint not in site.page(f"{path}?actor=key:nobody")
    assert "No change matches." in site.page(f"{USER}/history?actor=key:nobody")


def test_changes_are_paged_and_end_with_the_values_that_an_import_began_with(site: Site) -> None:
    newer = site.entries(f"{AT}/users/{BUSY}/history")
    assert len(newer) == 50
    assert "busy-59" in newer[0]
    (older,) = re.findall(r'href="(\?before=\d+)"', site.browser.shown.text)
    rest = site.entries(f"{AT}/users/{BUSY}/history{older}")
    assert len(rest) == 11
    assert "busy-9" in rest[0]
    assert "Created by an import import:more" in rest[-1]
    assert "level 会员等级 Level bronze Value at creation" in rest[-1]
    assert 'href="?before=' not in site.browser.shown.text


def test_identifier_values_that_a_user_got_are_masked_as_elsewhere(site: Site) -> None:
    logins, phones, created = site.entries(f"{AT}/users/{KNOWN}/history")
    assert "Identifier added import:logins" in logins
    assert "Identifier login_id shopper-2" in logins
    assert "Import import:phones" in phones
    assert "city 城市 City 深圳 → became 广州 Overwrite: replaced" in phones
    assert "Identifier phone 1390*******" in phones
    assert "Identifier login_id shopper" in phones
    assert "city 城市 City 深圳 Value at creation" in created
    page = site.page(f"{AT}/users/{KNOWN}/as-of?at={site.at(DAY + 61_000)}")
    assert "phone 1390******* login_id shopper Now: shopper, shopper-2" in page
    assert "13900001111" not in site.browser.shown.text


def test_writes_that_were_not_recorded_are_a_gap_and_never_a_guess(site: Site) -> None:
    gap, write, created = site.entries(f"{AT}/users/{GAP}/history")
    assert gap.endswith("2 writes here were not recorded.")
    assert "gap-1" in write
    assert "Created by an import" in created
    # What the user was created with cannot be told across the gap.
    assert "Value at creation" not in created
    page = site.page(f"{AT}/users/{GAP}/as-of?at={site.at(DAY + HOUR)}", 410)
    assert "Some writes were not recorded, so the row before" in page
    assert "bronze" not in page


def test_a_user_is_shown_as_of_a_moment_with_what_differs_from_now(site: Site) -> None:
    page = site.page(f"{USER}/as-of?at={site.at(2 * DAY + 2 * HOUR)}")
    assert re.search(r"As of 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \(Asia/Shanghai, UTC\+08:00\)", page)
    assert "level 会员等级 Level silver gold" in page
    assert "total_spent 累计消费 Total spent 40 same" in page
    assert "referrer 来源 Referrer search same" in page
    assert "first_paid_at 首次付费 First payment – 2023-12-12 00:56:23" in page
    assert site.browser.shown.text.count('class="changed"') == 5
    # A masked identifier stays masked.
    assert "1801*******" in page
    assert "18012345678" not in site.browser.shown.text


def test_each_change_leads_to_the_row_as_it_left_it(site: Site) -> None:
    site.page(f"{USER}/history")
    links = [html.unescape(link) for link in re.findall(r'class="then" href="([^"]+)"', site.browser.shown.text)]
    found = [re.search(r"level 会员等级 Level (\S+)", site.page(link)) for link in links]
    assert [match[1] if match else None for match in found] == ["gold", "gold", *["silver"] * 3, *["bronze"] * 2, "–"]


@pytest.mark.parametrize(
    ("at", "status", "said"),
    [
        ("2000-01-01T00:00", 404, "This user did not exist at 2000-01-01 00:00:00 (Asia/Shanghai, UTC+08:00)."),
        ("2120-01-01T00:00", 422, "That moment is in the future."),
        ("yesterday", 422, "Enter a date and a time, such as 2026-11-30 08:00:00."),
        ("2026-02-30T00:00:00", 422, "Enter a date and a time"),
        (
            *("1986-05-04T02:30", 422),
            "1986-05-04T02:30 does not exist in Asia/Shanghai: a clock change skips it."
            " Choose 1986-05-04 03:00:00 or later.",
        ),
        ("0001-01-01T00:00", 422, "Enter a date and a time"),
        ("9999-12-31T23:59:59", 422, "That moment is in the future."),
    ],
)
def test_a_moment_out_of_reach_is_answered_in_a_sentence_beside_the_field(
    site: Site, at: str, status: int, said: str
) -> None:
    for path in ("as-of?at", "compare?from"):
        if "compare" in path and status == 404:
            continue
        page = site.browser.page(f"{USER}/{path}={quote(at)}")
        assert page.status_code == status, page.text
        assert said in text_of(page.text)
        assert 'aria-invalid="true"' in page.text


def test_a_moment_before_history_begins_is_answered_with_the_oldest_one(site: Site, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    begin = create_past_store(url)
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("UPDATE history_since SET at = ?", (begin + 3 * DAY,))
    db.close()
    server = ServerProcess(url, tmp_path, admin_token=TOKEN)
    with FormBrowser(base_url=server.url, timeout=30, headers={"Accept-Language": "en"}) as browser:
        browser.sign_in()
        old = Site(server, browser, begin)
        page = old.page(f"{USER}/as-of?at={old.at(2 * DAY)}", 410)
        oldest = old.at(3 * DAY).replace("T", " ")
        assert f"History is kept from {oldest}" in page
        assert f"Kept since: {oldest}" in page
        assert old.page(f"{USER}/compare?from={old.at(2 * DAY)}", 410).count("History is kept from") == 1
    assert server.stop() == 0


def test_the_forecast_says_when_the_size_limit_comes_before_the_days(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    begin = create_past_store(url)
    past = PastStore(url, begin + 4 * DAY - HOUR)
    for seed in range(5):
        past.write(CUID, {"city": Random(seed).randbytes(2000).hex()}, Origin("key:web"), f"long-{seed}")
    past.store.close()
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("UPDATE history_since SET at = ?", (begin + 4 * DAY - 2 * HOUR,))
    db.close()
    server = ServerProcess(url, tmp_path, admin_token=TOKEN)
    with FormBrowser(base_url=server.url, timeout=30, headers={"Accept-Language": "en"}) as browser:
        browser.sign_in()
        browser.page(f"{AT}/history")
        assert browser.fill_in(f"{AT}/history", days="36500", gigabytes="1").status_code == 303
        page = text_of(browser.page(f"{AT}/history").text)
        found = re.search(
            r"At this rate, 36,500 days take ([\d.]+) GB\. The limit of 1 GB cuts this to ([\d,]+) days\."
            r" Average growth over 2 hours\.",
            page,
        )
        assert found is not None, page
        assert float(found[1]) > 1
        assert int(found[2].replace(",", "")) == pytest.approx(36_500 / float(found[1]), rel=0.1)
    assert server.stop() == 0


def test_two_moments_are_compared(site: Site) -> None:
    page = site.page(f"{USER}/compare?from={site.at(DAY + HOUR)}&to={site.at(3 * DAY + HOUR)}")
    assert "level 会员等级 Level silver gold 1 · last by key:web ·" in page
    assert "tags 兴趣 Interests news sport news sport music 1 · last by key:orders" in page
    assert "referrer" not in page
    # The other way round is the same.
    assert "silver gold 1" in site.page(f"{USER}/compare?from={site.at(3 * DAY + HOUR)}&to={site.at(DAY + HOUR)}")
    assert "the user did not exist yet" in site.page(f"{USER}/compare?from={site.at(0)}&to={site.at(3 * HOUR)}")
    assert "Nothing changed between these moments." in site.page(
        f"{USER}/compare?from={site.at(DAY + HOUR)}&to={site.at(DAY + 2 * HOUR)}"
    )
    back = site.page(f"{AT}/users/{BUSY}/compare?from={site.at(DAY + 2000)}&to={site.at(DAY + 4000)}")
    assert re.search(r"level 会员等级 Level (\w+) \1 2 .* changed back", back)


def test_a_request_of_the_last_hour_is_a_link_to_its_sample(site: Site) -> None:
    with site.server.client() as client:
        headers = {"X-Request-Id": "a-b&c/1", "Usertable-Source": "release-7"}
        client.put(ATTRIBUTE, json={"cuid": IMPORTED, "data": {"city": "<b>"}}, headers=headers).raise_for_status()
    address = f"{AT}/arrivals?request=a-b%26c%2F1#requests"

    def history() -> str:
        return site.browser.page(f"{AT}/users/{IMPORTED}/history").text

    page = wait_until(lambda: page if html.escape(address) in (page := history()) else "")
    assert "source release-7" in text_of(page)
    assert "<b>" not in page
    arrivals = site.browser.page(address).text
    assert arrivals.count("<details id=") == 1
    assert "Request ID a-b&c/1" in text_of(arrivals)
    # Older requests have an ID to copy, and no link.
    assert "busy-59" in site.page(f"{AT}/users/{BUSY}/history")
    assert "/arrivals?request=" not in site.browser.shown.text


def test_an_attributes_page_says_who_changed_it_lately_and_what_was_looked_at(site: Site) -> None:
    page = site.page(f"{AT}/attributes/logins")
    lately = page.partition("Latest changes of values")[2]
    assert lately.split("off", 1)[1].split()[:2] == ["61", "key:web"]
    assert "Shown: the newest 50 of 61 changes of this attribute." in lately
    assert "Examined: all" in lately
    assert f"{BUSY} 59 → became 60 Accumulate: +1 key:web" in lately
    assert lately.index("59 → became 60") < lately.index("58 → became 59")


def test_the_history_of_an_attribute_is_turned_off_and_on(site: Site) -> None:
    path = f"{AT}/attributes/is_member"
    page = site.page(f"{path}/history")
    assert "When a user is shown as of an earlier moment, its value is unknown." in page
    assert site.browser.fill_in(f"{path}/history").headers["location"] == f"{path}?done=history_off"
    page = site.page(f"{path}?done=history_off")
    assert "The history of this attribute is off: changes are not recorded" in page
    assert "is_member 会员 Member unknown 1" in site.page(f"{USER}/as-of?at={site.at(2 * DAY)}")
    assert re.search(r"is_member 会员 Member [\d.]+% Off", site.page(f"{AT}/history"))
    with site.server.client() as client:
        client.put(ATTRIBUTE, json={"cuid": CUID, "data": {"is_member": 0, "city": "广州"}}).raise_for_status()
    gap, newest = site.entries(f"{USER}/history")[:2]
    assert "Changes of is_member may be missing" in gap
    assert "广州" in newest
    assert "is_member" not in newest
    site.page(path)
    assert site.browser.submit(f"{path}/history", recorded="1").headers["location"] == f"{path}?done=history_on"
    page = site.page(path)
    assert "The history of this attribute was turned on at" in page
    assert "is_member 会员 Member unknown 0" in site.page(f"{USER}/as-of?at={site.at(2 * DAY)}")
    assert "Edited attribute is_member History Yes → No" in site.page(f"{AT}/audit")


def test_a_users_changes_say_where_the_history_of_an_attribute_was_off(site: Site) -> None:
    path = f"{AT}/attributes/logins/history"
    site.browser.page(f"{AT}/attributes/logins")
    assert site.browser.submit(path).status_code == 303
    said = "Changes of logins may be missing here and earlier, because the history was off."
    try:
        assert site.entries(f"{USER}/history?attribute=logins")[0].endswith(said)
        assert said in site.page(f"{USER}/history?attribute=logins&actor=key:nobody")
        assert said not in site.page(f"{USER}/history?attribute=level")
    finally:
        site.browser.page(f"{AT}/attributes/logins")
        site.browser.submit(path, recorded="1")
    assert site.entries(f"{USER}/history?attribute=logins")[0].endswith(said)


def test_the_history_page_says_how_much_is_kept_and_where_it_goes(site: Site) -> None:
    page = site.page(f"{AT}/history")
    assert re.search(r"Kept since \S+ \S+ Size [\d.]+ kB Changes \d+ Growth per day [\d.]+ k?B", page)
    kept = form_fields(site.browser.shown)
    limits = f"At this rate, {kept['days']} days take [\\d.]+ kB\\. That is within the limit of {kept['gigabytes']} GB\\."
    assert re.search(limits, page)
    assert "Average growth over 24 hours." in page
    assert re.search(r"level 会员等级 Level [\d.]+% On", page)
    assert re.search(r"Examined: all \d+ changes, back to", page)


def test_settings_that_take_nothing_away_are_saved_at_once(site: Site) -> None:
    site.page(f"{AT}/history")
    assert (
        site.browser.fill_in(f"{AT}/history", days="90", all_reports="on").headers["location"] == f"{AT}/history?done=saved"
    )
    page = site.browser.page(f"{AT}/history").text
    assert 'name="days" type="text" value="90"' in page
    assert re.search(r'name="all_reports" checked', page)
    assert "Edited history settings Days kept 30 → 90 All reports recorded No → Yes" in site.page(f"{AT}/audit")
    for field, wrong in (
        ("days", "0"),
        ("days", "-1"),
        ("days", "36501"),
        ("gigabytes", "1.5"),
        ("gigabytes", ""),
        ("days", "９"),
    ):
        site.page(f"{AT}/history")
        answer = site.browser.fill_in(f"{AT}/history", None, **{field: wrong})
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.text
        assert "Enter a whole number from 1 to" in text_of(answer.text)


def test_settings_that_remove_history_say_so_and_ask_first(site: Site) -> None:
    before = form_fields(site.browser.page(f"{AT}/history"))
    asked = site.browser.fill_in(f"{AT}/history", days="2")
    assert asked.status_code == 422
    assert re.search(r"Changes before \S+ \S+ \(Asia/Shanghai, UTC\+08:00\) are removed\.", text_of(asked.text))
    # The tick is for what was said, not for another number.
    site.browser.shown = asked
    again = site.browser.fill_in(f"{AT}/history", days="1", confirm="on")
    assert (again.status_code, "Nothing is saved yet." in again.text) == (422, True)
    site.page(f"{AT}/history")
    off = site.browser.fill_in(f"{AT}/history", record=None)
    assert off.status_code == 422
    for said in ("Changes from now on are not recorded.", "recorded changes (", "What was before cannot be restored."):
        assert said in text_of(off.text)
    after = form_fields(site.browser.page(f"{AT}/history"))
    assert [after[name] for name in ("record", "days")] == ["on", before["days"]]


def test_an_edit_of_the_settings_does_not_undo_another_one(site: Site) -> None:
    shown = site.browser.page(f"{AT}/history")
    assert site.browser.fill_in(f"{AT}/history", gigabytes="30").status_code == 303
    site.browser.shown = shown
    answer = site.browser.fill_in(f"{AT}/history", gigabytes="40")
    assert answer.status_code == 409
    assert "20 → 30" in text_of(answer.text)
    site.browser.shown = answer
    assert site.browser.fill_in(f"{AT}/history").status_code == 303
    assert 'name="gigabytes" type="text" value="40"' in site.browser.page(f"{AT}/history").text


def test_without_history_every_page_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    begin = create_past_store(url)
    server = ServerProcess(url, tmp_path, admin_token=TOKEN)
    with FormBrowser(base_url=server.url, timeout=30, headers={"Accept-Language": "en"}) as browser:
        browser.sign_in()
        site = Site(server, browser, begin)
        browser.page(f"{AT}/history")
        browser.shown = browser.fill_in(f"{AT}/history", record=None)
        assert browser.fill_in(f"{AT}/history", confirm="on").headers["location"] == f"{AT}/history?done=saved"
        off = "History is off in this project."
        for path in (
            f"{AT}/history",
            f"{AT}/attributes/level",
            *(f"{USER}/{tab}" for tab in ("history", "as-of", "compare")),
        ):
            assert off in site.page(path), path
        assert "Row at this moment" not in site.page(f"{USER}/history")
        assert off in site.page(f"{USER}/as-of?at={site.at(3 * DAY)}", 409)
        assert off in site.page(f"{USER}/compare?from={site.at(3 * DAY)}", 409)
        browser.page(f"{AT}/history")
        assert browser.fill_in(f"{AT}/history", record="on").status_code == 303
        assert off not in site.page(f"{AT}/history")
        # What was before it was turned on again stays unknown.
        assert "History is kept from" in site.page(f"{USER}/as-of?at={site.at(3 * DAY)}", 410)
    assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize(("role", "may_switch"), [("viewer", False), ("editor", True)])
def test_who_may_not_change_the_settings_sees_them_without_a_form(site: Site, role: str, may_switch: bool) -> None:
    with FormBrowser(base_url=site.server.url, timeout=30, headers={"Accept-Language": "en"}) as browser:
        assert browser.sign_in_as(f"{role}@example.com", PASSWORD).status_code == 303
        own = Site(site.server, browser, site.begin)
        page = own.page(f"{AT}/history")
        assert re.search(
            r"Settings Record changes Yes Days kept \d+ Size limit \(GB\) \d+ All reports recorded (Yes|No)", page
        )
        assert "<form" not in browser.shown.text.partition("<main")[2]
        assert ("Turn history off" in own.page(f"{AT}/attributes/level")) == may_switch
        assert len(own.entries(f"{USER}/history")) >= 8


def test_the_pages_are_in_chinese_too(site: Site) -> None:
    with FormBrowser(base_url=site.server.url, timeout=30, headers={"Accept-Language": "zh"}) as browser:
        browser.sign_in()
        chinese = Site(site.server, browser, site.begin)
        assert "追加：新增 1 个，1 个已存在" in " ".join(chinese.entries(f"{USER}/history"))
        assert "截至" in chinese.page(f"{USER}/as-of?at={site.at(3 * HOUR)}")
        assert "所选时间晚于当前时间。" in chinese.page(f"{USER}/as-of?at=2120-01-01T00:00", 422)
        assert "按目前的增速" in chinese.page(f"{AT}/history")


def test_sizes_are_in_decimal_units() -> None:
    sizes = (0, 999, 1000, 12_345, 99_960, 1.5e9, 2.5e13)
    assert [size_text(size) for size in sizes] == ["0 B", "999 B", "1.0 kB", "12.3 kB", "100 kB", "1.5 GB", "25.0 TB"]


def test_all_of_the_samples_attributes_are_in_some_change(site: Site) -> None:
    """So that each type is shown at least once."""
    text = " ".join(site.entries(f"{USER}/history"))
    assert [a.name for a in SAMPLE_ATTRIBUTES if a.name not in text] == []
