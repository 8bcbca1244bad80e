"""History in a real browser: a user's changes, the row as of a moment, two moments compared, and the settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import check_accessible, sign_in
from support.past_store import DAY, IMPORTED, create_past_store
from support.sample_server import AT, CUID, TOKEN
from support.server_process import ServerProcess

USER = f"{AT}/users/{CUID}"
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("history")
    url = f"sqlite:///{folder / 'store.db'}"
    create_past_store(url)
    server = ServerProcess(url, folder, admin_token=TOKEN)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log, server.log


def test_support_finds_out_who_set_a_value_and_what_it_was_before(page: Page) -> None:
    page.goto(USER)
    expect(page.locator(".timeline > li")).to_have_count(3)
    page.get_by_role("link", name="History of level").click()
    entries = page.locator(".timeline > li")
    expect(entries).to_have_count(4)
    expect(page.get_by_label("Attribute")).to_have_value("level")
    expect(entries.first.locator("del")).to_have_text("silver")
    expect(entries.first.locator("ins")).to_have_text("gold")
    expect(entries.first).to_contain_text("key:web")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    entries.first.get_by_role("button", name="Copy the request ID web-3").click()
    expect(entries.first.get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "web-3"
    # The row before this change.
    entries.nth(2).get_by_role("link", name="Row at this moment").click()
    expect(page.get_by_role("row", name="level")).to_contain_text("silver")
    expect(page.get_by_role("row", name="level").locator("ins")).to_have_text("gold")
    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_role("link", name="7 days ago").click()
    expect(page.get_by_text("the user did not exist yet")).to_be_visible()


def test_the_date_box_takes_a_moment_of_the_projects_zone(page: Page) -> None:
    page.goto(f"{USER}/as-of")
    moment = page.evaluate(
        "ms => new Date(ms + 8 * 3600e3).toISOString().slice(0, 19)", page.evaluate("() => Date.now()") - 2 * DAY
    )
    page.get_by_label("Moment").fill(moment)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"As of {moment.replace('T', ' ')} (Asia/Shanghai, UTC+08:00)")).to_be_visible()
    expect(page.get_by_label("Moment")).to_have_value(moment)
    expect(page.get_by_role("row", name="total_spent")).to_contain_text("40")
    page.get_by_label("Moment").fill("2100-01-01T00:00:00")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("That moment is in the future.")).to_be_visible()
    expect(page.get_by_label("Moment")).to_be_focused()


def test_history_is_turned_off_only_after_the_consequences_were_read(page: Page) -> None:
    page.goto(AT)
    page.get_by_role("navigation", name="Project").get_by_role("link", name="History").click()
    expect(page.get_by_text("At this rate, 30 days take")).to_be_visible()
    page.get_by_label("Record changes").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("What was before cannot be restored.")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_label("Record changes")).to_be_checked()
    page.goto(f"{AT}/attributes/city")
    page.get_by_role("link", name="Turn history off").click()
    page.get_by_role("button", name="Turn history off").click()
    expect(page.get_by_role("status")).to_have_text("The history of this attribute is off.")
    page.get_by_role("button", name="Turn history on").click()
    expect(page.get_by_text("The history of this attribute was turned on at")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_pages_of_history_fit_and_can_be_read_by_everybody(browser: Browser, server: ServerProcess, width: int) -> None:
    context = browser.new_context(base_url=server.url, locale="en-GB", bypass_csp=True, reduced_motion="reduce")
    page = sign_in(context)
    page.set_viewport_size({"width": width, "height": 800})
    paths = (
        *(f"{USER}/{tab}" for tab in ("history", "as-of?at=2000-01-01T00:00", "compare")),
        *(f"{AT}/users/{IMPORTED}/history", f"{AT}/attributes/level", f"{AT}/history", f"{AT}/attributes/level/history"),
    )
    for path in paths:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        check_accessible(page)
        if "history" in path and "users" in path:
            page.get_by_role("link", name="Row at this moment").last.click()
            page.wait_for_url("**/as-of?**")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            check_accessible(page)
    page.goto(f"{USER}/compare")
    page.get_by_role("link", name="24 hours ago").click()
    page.wait_for_url("**/compare?**")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_accessible(page)
    context.close()
