"""Users, arrivals and statistics as people meet them, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect

from support.browser import sign_in
from support.sample_server import AT, CUID, SCRIPT, TOKEN, sample_server
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess


def put(server: ServerProcess, data: dict[str, object], name: str) -> None:
    body = {"cuid": CUID, "data": data}
    httpx.put(server.url + ATTRIBUTE, json=body, auth=(PROJECT, SECRET), headers={"X-Request-Id": name})


def test_a_put_arrives_while_one_looks(page: Page, server: ServerProcess) -> None:
    page.goto(AT)
    page.get_by_role("link", name="Live requests").click()
    put(server, {"city": SCRIPT, "logins": 1}, "seen-at-once")
    arrival = page.locator(".arrivals details", has_text="seen-at-once")
    expect(arrival).to_have_count(1)
    arrival.locator("summary").click()
    expect(arrival.get_by_role("row", name="city")).to_contain_text(SCRIPT)
    expect(arrival.get_by_role("row", name="logins")).to_contain_text("applied")
    put(server, {"logins": "many", "nope": 1}, "refused-at-once")
    expect(page.locator(".arrivals summary", has_text="rejected 40002")).to_have_count(1)
    expect(page.locator(".refusals > li", has_text="attribute_unknown")).to_contain_text("refused-at-once")
    # An opened request stays open while others arrive, and none is added while the page is paused.
    expect(arrival.locator("summary ~ .more")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    put(server, {"logins": 1}, "not-yet")
    page.wait_for_timeout(2500)
    expect(page.locator(".arrivals details", has_text="not-yet")).to_have_count(0)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".arrivals details", has_text="not-yet")).to_have_count(1)
    page.get_by_role("link", name="Rejected", exact=True).click()
    expect(page.locator(".arrivals details", has_text="refused-at-once")).to_have_count(1)
    expect(page.locator(".arrivals details", has_text="seen-at-once")).to_have_count(0)
    assert page.title() != "taken"


def test_a_page_that_is_open_says_that_its_session_or_its_server_is_gone(browser: Browser, tmp_path: Path) -> None:
    with sample_server(tmp_path) as server:
        context = browser.new_context(base_url=server.url, locale="en-GB")
        page, other = sign_in(context), context.new_page()
        page.goto(f"{AT}/arrivals?show=refused")
        notice = page.locator("[data-live-notice]")
        expect(notice).to_have_text("")
        expect(page.get_by_text("No requests were rejected in the last hour.").last).to_be_visible()
        other.goto("/console/projects")
        other.get_by_text("Preferences").click()
        other.get_by_role("button", name="Sign out").click()
        expect(notice).to_contain_text("Your session has ended")
        other.fill("#token", TOKEN)
        other.keyboard.press("Enter")
        other.wait_for_url("**/console/projects")
        # After signing in in another tab, the page continues at once.
        notice.get_by_role("link").click()
        expect(page).to_have_url(f"{server.url}{AT}/arrivals?show=refused")
        assert server.stop() == 0
        expect(notice).to_contain_text("The connection to the server is lost")
        context.close()


def test_times_are_told_by_their_age_with_the_zone_when_pointed_at(page: Page) -> None:
    page.clock.install()
    page.goto(f"{AT}/users/{CUID}")
    updated = page.locator(".facts time").first
    expect(updated).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(Asia/Shanghai, UTC\+08:00\)$"))
    whole = updated.get_attribute("title") or ""
    for passed, told in ((60, "min ago"), (2 * 3600, "h ago"), (3 * 86400, "d ago"), (40 * 86400, whole[:10])):
        page.clock.fast_forward(passed * 1000)
        expect(updated).to_contain_text(told)


def test_filters_offer_what_the_type_has(page: Page) -> None:
    page.goto(f"{AT}/users")
    page.get_by_text("Add filter").click()
    attribute, condition = page.locator("#add_attribute"), page.locator("#add_operator")
    attribute.select_option("is_member")
    offered = condition.evaluate("e => [...e.options].filter(o => !o.hidden).map(o => o.value)")
    assert offered == ["eq", "ne", "in", "set", "unset"]
    condition.select_option("set")
    expect(page.locator("#add_value")).to_be_hidden()
    attribute.select_option("first_paid_at")
    condition.select_option("between")
    page.locator("#add_value").fill("2023-12-12")
    page.locator("#add_until").fill("someday")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#value-error")).to_contain_text("yyyy-MM-dd HH:mm:ss")
    page.locator("#add_until").fill("2023-12-13")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".chip")).to_contain_text(
        "首次付费 First payment is between 2023-12-12 00:00:00 and 2023-12-13 00:00:00"
    )
    expect(page.locator("[data-part=count]")).to_contain_text("1 user ")
    expect(page.get_by_role("rowheader", name=str(CUID))).to_be_visible()
    page.goto(f"{AT}/users?where=total_spent:between:10,500&where=level:in:gold,silver")
    expect(page.locator(".chip").first).to_contain_text("累计消费 Total spent is between 10 and 500")
    expect(page.locator(".chip").last).to_contain_text("会员等级 Level is one of gold, silver")
    page.goto(f"{AT}/users?where=total_spent:ge:10")
    page.get_by_role("link", name="Remove filter").click()
    expect(page.locator(".chip")).to_have_count(0)


def test_fields_beside_each_other_have_their_labels_on_one_line(page: Page) -> None:
    page.goto(f"{AT}/attributes")
    tops = page.locator("form[role=search] label").evaluate_all("all => all.map(each => each.getBoundingClientRect().top)")
    assert len(tops) > 1
    assert max(tops) - min(tops) < 0.1


def test_columns_order_and_csv(page: Page, tmp_path: Path) -> None:
    page.goto(f"{AT}/users")
    page.locator("summary", has_text="Columns").click()
    for box in page.locator(".checks input").all():
        box.set_checked(box.get_attribute("value") == "tags")
    page.get_by_role("button", name="Apply").first.click()
    expect(page.locator("thead th")).to_have_text(["CUID", "Identifiers", "兴趣 Interests", "Updated"])
    page.goto(f"{AT}/users")
    expect(page.locator("thead th")).to_have_count(4)
    page.locator("#order").select_option("-updated")
    page.locator(".order button").click()
    expect(page.get_by_role("rowheader", name=str(CUID))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.suggested_filename == f"users-{PROJECT}.csv"
    download.value.save_as(tmp_path / "users.csv")
    assert (tmp_path / "users.csv").read_text("utf-8-sig").splitlines()[1].startswith(f"{CUID},1801*******,")


def test_statistics_come_while_one_looks(page: Page) -> None:
    page.goto(f"{AT}/attributes")
    expect(page.locator("[data-part=fill-tags]")).to_have_text("100%")
    expect(page.locator("[data-part=fill-referrer]")).to_have_text("0%")
    page.goto(f"{AT}/attributes/tags")
    expect(page.locator("[data-part=distribution]")).to_contain_text("1 of 1")
    expect(page.locator("[data-part=distribution]").get_by_role("row", name="sport")).to_be_visible()
    page.goto(f"{AT}/attributes/total_spent")
    expect(page.locator("svg.chart .bar-good")).to_have_count(1)


def test_a_user_is_found_looked_at_and_erased(page: Page, server: ServerProcess) -> None:
    registered = httpx.post(
        f"{server.url}/smartop/api/v1/user/register",
        json={"identityName": "phone", "identityValues": ["13912345678"]},
        auth=(PROJECT, SECRET),
    )
    cuid = registered.json()["data"][0]["cuid"]
    page.goto(f"{AT}/users")
    sought = page.get_by_role("searchbox", name="CUID or identifier value")
    sought.fill("nobody")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#sought-error")).to_contain_text("No user has the CUID or identifier value “nobody”.")
    sought.fill(" 13912345678 ")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"User {cuid}")
    expect(page.get_by_text("1391*******")).to_be_visible()
    page.get_by_role("link", name="Erase this user").click()
    page.locator("#confirm").fill("yes")
    page.get_by_role("button", name="Delete permanently").click()
    expect(page.locator("#confirm-error")).to_be_visible()
    page.locator("#confirm").fill(str(cuid))
    page.get_by_role("button", name="Delete permanently").click()
    expect(page.get_by_text("User erased.")).to_be_visible()
    expect(page.get_by_role("rowheader", name=str(cuid))).to_have_count(0)
    # A page that does not exist is a 404 page of its project.
    page.goto(f"{AT}/users/{cuid}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    expect(page.locator(".side [aria-current]")).to_have_text("Users")
    page.get_by_role("link", name="Back to the project").click()
    expect(page).to_have_url(f"{server.url}{AT}")
