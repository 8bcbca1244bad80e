"""Forms that are sent twice, reloaded, gone back to, or sent from an old tab, in a real browser."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browser import PATIENCE_MS, sign_in, wait_in_browser
from support.sample_server import AT, CUID, TOKEN
from support.server_process import PROJECT, ServerProcess

API = f"/api/v1/projects/{PROJECT}"


@pytest.fixture
def owner(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        yield client


def logins(owner: httpx.Client) -> Any:
    return owner.get(f"{API}/users/{CUID}").json()["attributes"].get("logins", 0)


def fill_in_try(page: Page) -> None:
    page.goto(f"{AT}/try")
    page.fill("#value", str(CUID))
    page.fill("#data", '{"logins": 1}')


def click_twice_while_it_hangs(page: Page, server: ServerProcess, name: str, requests: int) -> None:
    """Click twice before the server answers the first click, and return the number of requests."""
    place = page.get_by_role("button", name=name).bounding_box()
    assert place is not None
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    # With the mouse: Playwright's click on an element may wait for the next page.
    at = (place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        page.mouse.click(*at)
        page.wait_for_timeout(400)
        page.mouse.click(*at)
        # More requests could follow.
        page.wait_for_timeout(1000)
        wait_in_browser(page, lambda: sent.count("POST") >= requests)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert sent.count("POST") == requests


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_two_clicks_on_a_slow_server_do_it_once(
    browser: Browser, server: ServerProcess, owner: httpx.Client, script: bool
) -> None:
    context = browser.new_context(base_url=server.url, locale="en-GB", java_script_enabled=script)
    context.set_default_timeout(PATIENCE_MS)
    page = sign_in(context)
    before = logins(owner)
    fill_in_try(page)
    # The script ignores the second click. Without it, the browser sends both, and the server executes one.
    requests = 1 if script else 2
    click_twice_while_it_hangs(page, server, "Send for real", requests)
    expect(page.get_by_text("Written", exact=True)).to_be_visible()
    expect(page.get_by_role("row", name="logins").locator("ins")).to_have_text(str(before + 1))
    assert logins(owner) == before + 1
    projects = len(owner.get("/api/v1/projects").json()["projects"])
    page.goto("/console/new-project")
    page.get_by_label("Name").fill("Two clicks")
    click_twice_while_it_hangs(page, server, "Create project", requests)
    expect(page.locator("#secret-value")).to_be_visible()
    assert len(owner.get("/api/v1/projects").json()["projects"]) == projects + 1
    context.close()


def test_a_reload_and_the_way_back_send_nothing_again(page: Page, owner: httpx.Client) -> None:
    before = logins(owner)
    fill_in_try(page)
    page.get_by_role("button", name="Send for real").click()
    expect(page.get_by_text("Written", exact=True)).to_be_visible()
    result = page.url
    for _ in range(2):
        page.reload()
        expect(page.get_by_text("Written", exact=True)).to_be_visible()
    page.goto(AT)
    page.go_back()
    expect(page).to_have_url(result)
    expect(page.get_by_text("Written", exact=True)).to_be_visible()
    expect(page.locator("#data")).to_have_value('{"logins": 1}')
    assert logins(owner) == before + 1
    # Also after a dry run, with what was typed.
    page.fill("#data", '{"logins": 7}')
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("Dry run: nothing was written")).to_be_visible()
    page.goto(AT)
    page.go_back()
    expect(page.locator("#data")).to_have_value('{"logins": 7}')
    assert logins(owner) == before + 1


def test_an_older_tab_saves_only_what_was_edited_in_it(page: Page, owner: httpx.Client) -> None:
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto(f"{AT}/settings")
    other.get_by_label("QPS limit").fill("150")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("status")).to_have_text("Saved.")
    page.get_by_label("Name").fill("Renamed")
    page.get_by_role("button", name="Save").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This was changed after you opened the page.")
    expect(alert).to_contain_text("QPS limit: 100 → 150")
    expect(page.get_by_label("Name")).to_have_value("Renamed")
    expect(page.get_by_label("QPS limit")).to_have_value("150")
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    found = owner.get(API).json()
    assert (found["name"], found["qps"]) == ("Renamed", 150)


def test_a_note_of_what_was_done_is_gone_with_a_reload(page: Page) -> None:
    page.goto(f"{AT}/attributes/level")
    page.get_by_role("button", name="Hide").click()
    expect(page.get_by_role("status").first).to_contain_text("Attribute hidden")
    page.reload()
    expect(page.get_by_text("Attribute hidden. It still accepts values.")).to_have_count(0)
    page.get_by_role("button", name="Unhide").click()


def test_many_windows_open_and_the_rest_go_on_when_some_are_closed(context: BrowserContext) -> None:
    sign_in(context)
    windows = [context.new_page() for _ in range(8)]
    for window in windows:
        window.goto(f"{AT}/arrivals")
        expect(window.get_by_role("heading", name="Live requests")).to_be_visible()
    # A browser opens six connections to a server. Live pages leave some of them for other pages.

    def too_many() -> int:
        return sum(window.get_by_text("Too many windows are open").count() for window in windows)

    wait_in_browser(windows[0], lambda: too_many() == 4)
    for window in windows[:4]:
        window.close()
    for window in windows[4:]:
        expect(window.get_by_text("Too many windows are open")).to_have_count(0)


def test_several_values_of_a_filter_are_named_one_per_line(page: Page, owner: httpx.Client, server: ServerProcess) -> None:
    with server.client() as client:
        for city in ("Washington, D.C.", "Paris"):
            cuid = client.post(
                "/smartop/api/v1/user/register", json={"identityName": "phone", "identityValues": [city]}
            ).json()["data"][0]["cuid"]
            client.put("/smartop/api/v1/user/attribute", json={"cuid": cuid, "data": {"city": city}}).raise_for_status()
    page.goto(f"{AT}/users")
    page.get_by_text("Add filter").click()
    page.locator("#add_attribute").select_option("city")
    page.locator("#add_operator").select_option("in")
    expect(page.locator("#add_value")).to_be_hidden()
    page.get_by_label("Values, one per line").fill("Washington, D.C.\nParis")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".chip .token")).to_have_text(["Washington, D.C.", "Paris"])
    expect(page.locator("[data-part=count]")).to_contain_text("2 users")
    assert Axe().run(page).violations_count == 0
