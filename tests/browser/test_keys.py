"""The keys of a project, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from support.sample_server import AT, CUID, TOKEN
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess
from usertable.app.secrets import public_id

API = f"/api/v1/projects/{PROJECT}"


@pytest.fixture
def owner(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        yield client


def put(server: ServerProcess, secret: str, city: str) -> int:
    body = {"cuid": CUID, "data": {"city": city}}
    return httpx.put(f"{server.url}{ATTRIBUTE}", json=body, auth=(PROJECT, secret), timeout=30).status_code


def test_a_key_is_made_used_looked_for_and_revoked(page: Page, server: ServerProcess, owner: httpx.Client) -> None:
    page.goto(AT)
    page.get_by_role("link", name="Keys", exact=True).click()
    expect(page.get_by_role("row", name="default")).to_contain_text("Active")
    page.get_by_role("link", name="New key").click()
    # The scopes for a service that sends values are preselected.
    expect(page.locator("[name=scope-write]")).to_be_checked()
    expect(page.locator("[name=scope-read]")).not_to_be_checked()
    page.get_by_label("Name").fill("orders")
    page.get_by_text("Get CUIDs, which creates users").click()
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("heading", name="Key created")).to_be_visible()
    secret = page.locator("#secret-value").inner_text()
    assert public_id(secret)
    page.reload()
    expect(page.locator("#secret-value")).to_have_text(secret)
    assert owner.get(f"{API}/keys/orders").json()["scopes"] == ["write"]
    assert put(server, secret, "上海") == 200
    page.get_by_role("link", name="I have saved it, continue").click()
    row = page.get_by_role("row", name="orders")
    expect(row).to_contain_text("write")
    expect(row).to_contain_text("admin-token")
    assert secret not in page.content()
    # Live requests, narrowed to a key.
    page.goto(f"{AT}/arrivals")
    request = page.locator(".arrivals > li", has=page.get_by_text("orders", exact=True))
    expect(request).to_have_count(1)
    request.locator("summary").click()
    request.get_by_role("link", name="orders").click()
    expect(page.locator(".chip")).to_contain_text("orders")
    expect(page.locator(".arrivals > li")).to_have_count(1)
    page.goto(f"{AT}/arrivals?key=nobody")
    expect(page.locator(".arrivals > li")).to_have_count(0)
    page.goto(f"{AT}/users/{CUID}")
    expect(page.locator(".arrivals")).to_contain_text("orders")
    page.goto(f"{AT}/keys")
    expect(row).not_to_contain_text("Never Never")
    row.get_by_role("link", name="Revoke key orders").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#confirm-error")).to_contain_text("Tick the box")
    page.get_by_text("I understand that this key stops working").click()
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_have_text("Key revoked.")
    expect(row).to_contain_text("Revoked")
    expect(row.get_by_role("link")).to_have_count(0)
    assert put(server, secret, "北京") == 401
    assert Axe().run(page).violations_count == 0
    page.goto(f"{AT}/changes")
    expect(page.locator(".done").first).to_have_text("Revoked key orders")


def test_what_is_wrong_with_a_new_key_stands_beside_its_field(page: Page) -> None:
    page.goto(f"{AT}/new-key")
    page.get_by_label("Name").fill("no key")
    for scope in ("write", "register"):
        page.locator(f"[name=scope-{scope}]").uncheck()
    page.get_by_label("Expires").fill("2020-01-01")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#name-error")).to_contain_text("letters, digits, dots")
    expect(page.locator("#scopes-error")).to_contain_text("Select at least one scope")
    expect(page.locator("#expires_at-error")).to_contain_text("a day in the future")
    expect(page.get_by_label("Name")).to_have_value("no key")
    expect(page.get_by_label("Expires")).to_have_value("2020-01-01")


def test_the_name_of_a_key_that_was_made_before_is_refused_beside_it(page: Page, owner: httpx.Client) -> None:
    for _ in range(2):
        page.goto(f"{AT}/new-key")
        page.get_by_label("Name").fill("twice")
        page.get_by_label("Expires").fill("2099-12-31")
        with page.expect_navigation():
            page.get_by_role("button", name="Create key").click()
    expect(page.locator("#name-error")).to_contain_text("“twice” was used before.")
    key = owner.get(f"{API}/keys/twice").json()
    assert (key["expires_at"], key["created_by"]) == ("2099-12-30T16:00:00.000Z", "admin-token")


def test_the_last_key_that_can_create_keys_is_named_as_such(page: Page) -> None:
    page.goto(f"{AT}/keys/default/revoke")
    expect(page.get_by_text("This is the last key with the scope “keys”.")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("row", name="default")).to_contain_text("Active")
