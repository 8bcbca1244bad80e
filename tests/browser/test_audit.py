"""The audit logs in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from support.sample_server import AT, TOKEN
from support.server_process import PROJECT, ServerProcess

API = f"/api/v1/projects/{PROJECT}"
WIDTHS = (1280, 360)


@pytest.fixture
def owner(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        yield client


def test_the_log_of_a_project_is_filtered_and_paged(page: Page, owner: httpx.Client) -> None:
    for cuid in range(5001, 5061):
        owner.post(f"{API}/users", json={"cuid": cuid, "identifiers": {}}).raise_for_status()
    owner.delete(f"{API}/users/5007").raise_for_status()
    page.goto(AT)
    page.get_by_role("link", name="Audit log").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("Erased user 5007")
    expect(rows.first).to_contain_text("admin-token")
    expect(rows.first).to_contain_text("127.0.0.1")
    assert Axe().run(page).violations_count == 0
    page.get_by_role("link", name="Older entries").click()
    expect(rows.first).to_contain_text("Added user 5011")
    page.get_by_role("link", name="Newest").click()
    expect(rows.first).to_contain_text("Erased user 5007")
    page.get_by_label("Action").select_option(label="Added user")
    page.get_by_label("Subject").fill("5007")
    page.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Added user 5007")
    expect(page.get_by_label("Action")).to_have_value("add user")
    expect(page.get_by_label("Subject")).to_have_value("5007")
    page.get_by_label("Actor").fill("key:nobody")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="No entry matches")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    expect(rows).to_have_count(50)
    page.goto(f"{AT}/audit?from=2000-01-01&to=2000-01-02")
    expect(rows).to_have_count(0)
    expect(page.get_by_label("From")).to_have_value("2000-01-01")


def test_the_log_of_the_installation_has_sign_ins_and_projects(page: Page) -> None:
    page.goto("/console/projects")
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Audit log")
    expect(page.locator("nav.crumbs [aria-current=page]")).to_have_text("Audit log")
    page.get_by_label("Action").select_option(label="Signed in")
    with page.expect_navigation():
        page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr").first).to_contain_text("Signed in admin-token")
    page.get_by_label("Action").select_option(label="Created project")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr").first).to_contain_text(PROJECT)
    assert Axe().run(page).violations_count == 0


@pytest.mark.parametrize("path", ["/console/audit", f"{AT}/audit"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_a_log_is_wider_than_the_page(page: Page, path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("tbody tr").first).to_be_visible()


def test_the_earlier_address_of_a_log_leads_to_it(page: Page) -> None:
    page.goto(f"{AT}/changes")
    assert page.url.endswith(f"{AT}/audit")
