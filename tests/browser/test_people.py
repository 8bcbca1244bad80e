"""People in a real browser: invitations, roles, sessions; and how all of it looks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.actors import TESTER
from support.browser import PATIENCE_MS, check_accessible
from support.sample_server import AT, TOKEN, create_sample_store, page_paths
from support.server_process import PROJECT, ServerProcess
from usertable.app.service import Service
from usertable.store import open_store

PASSWORD = "correct horse battery staple"
INVITED = "somebody.with.a.very.long.address.who.was.invited@engineering.example.com"


@dataclass
class Site:
    """A server with people: an admin, an owner, and somebody who was invited."""

    server: ServerProcess
    owner_id: str
    link: str
    """Where the one who was invited sets a password."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("people")
    url = f"sqlite:///{folder / 'store.db'}"
    create_sample_store(url, "Shop")
    store = open_store(url)
    service = Service(store)
    service.add_person("ada@example.com", name="Ada", admin=True, password=PASSWORD, actor=TESTER)
    owner = service.add_person(
        "olga@example.com", name="奥尔加 Olga", roles={PROJECT: "owner"}, password=PASSWORD, actor=TESTER
    )
    service.add_person(INVITED, roles={PROJECT: "viewer"}, actor=TESTER)
    _, token = service.make_password_link(INVITED, actor=TESTER)
    store.close()
    server = ServerProcess(url, folder, admin_token=TOKEN)
    yield Site(server, owner.id, f"/console/password?link={token}")
    assert server.stop() == 0
    assert "Traceback" not in server.log, server.log


def opened(browser: Browser, site: Site, locale: str = "en-GB", *, bypass_csp: bool = False) -> BrowserContext:
    context = browser.new_context(base_url=site.server.url, locale=locale, bypass_csp=bypass_csp, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    return context


def sign_in(context: BrowserContext, email: str) -> Page:
    page = context.new_page()
    page.goto("/console/sign-in")
    page.locator("#sign_in_email").fill(email)
    page.locator("#sign_in_password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/projects")
    return page


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_the_pages_of_people_are_accessible_in_both_themes_and_fit_a_phone(
    browser: Browser, site: Site, locale: str
) -> None:
    context = opened(browser, site, locale, bypass_csp=True)

    def check(page: Page) -> None:
        check_accessible(page, colors=locale == "en-GB")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.url
        page.set_viewport_size({"width": 1280, "height": 800})

    page = context.new_page()
    for path in ("/console/sign-in", site.link, "/console/password?link=over"):
        page.goto(path)
        check(page)
    page.goto("/console/sign-in")
    page.locator("summary", has_text=re.compile("operator|管理员")).click()
    page.locator("#sign_in_email").fill("ada@example.com")
    page.locator("#sign_in_password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#sign_in_password-error")).to_be_visible()
    expect(page.locator("#sign_in_email")).to_have_value("ada@example.com")
    check(page)
    page.close()
    page = sign_in(context, "ada@example.com")
    of_people = [path for path in page_paths(site.owner_id) if re.search("people|person|account|members", path)]
    assert len(of_people) >= 7
    for path in of_people:
        page.goto(path)
        check(page)
    page.goto("/console/new-person")
    page.locator("#email").fill("ada@EXAMPLE.com")
    page.keyboard.press("Enter")
    expect(page.locator("#email-error")).to_be_visible()
    check(page)
    context.close()
    context = opened(browser, site, locale, bypass_csp=True)
    page = sign_in(context, "olga@example.com")
    page.goto("/console/new-project")
    expect(page.get_by_role("heading", level=1)).to_have_text({"en-GB": "You can't do this", "zh-CN": "没有权限"}[locale])
    check(page)
    context.close()


def test_somebody_is_invited_sets_a_password_and_gets_another_role(browser: Browser, site: Site) -> None:
    admins, theirs = opened(browser, site), opened(browser, site)
    admin = sign_in(admins, "ada@example.com")
    admin.get_by_role("link", name="People").click()
    admin.get_by_role("link", name="Invite person").click()
    admin.get_by_label("E-mail address").fill("new@example.com")
    admin.get_by_label("Project").select_option(PROJECT)
    admin.get_by_label("Role").select_option("viewer")
    admin.get_by_role("button", name="Create invitation").click()
    link = admin.locator("#link").inner_text()
    page = theirs.new_page()
    page.goto(link)
    page.get_by_label("Name").fill("Nea New")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Set password and sign in").click()
    expect(page.get_by_role("status")).to_contain_text("You are signed in")
    page.get_by_role("link", name="Shop").click()
    expect(page.get_by_role("link", name="Try it")).to_have_count(0)
    expect(page.get_by_role("link", name="Settings")).to_have_count(0)
    page.goto(f"{AT}/new-attribute")
    expect(page.locator("main")).to_contain_text(
        "This needs the role Editor. These people can give it to you: Ada, 奥尔加 Olga."
    )
    admin.get_by_role("link", name="Continue").click()
    admin.get_by_label("Role in Shop").select_option("editor")
    admin.locator("#roles ~ ul").get_by_role("button", name="Save").click()
    expect(admin.get_by_role("status")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Create attribute")).to_be_visible()
    page.get_by_text("Preferences").click()
    page.get_by_role("link", name="My account").click()
    expect(page.locator(".facts")).to_contain_text("Shop: Editor")
    # An admin signs them out. The open page says so at its next request.
    page.goto(f"{AT}/arrivals")
    admin.reload()
    admin.get_by_role("button", name="Sign out everywhere").click()
    expect(page.locator("[data-live-notice]")).to_contain_text("Your session has ended")
    for context in (admins, theirs):
        context.close()


def test_a_browser_that_was_left_open_elsewhere_is_signed_out(browser: Browser, site: Site) -> None:
    here, there = opened(browser, site), opened(browser, site)
    mine, left = sign_in(here, "olga@example.com"), sign_in(there, "olga@example.com")
    mine.goto("/console/account")
    expect(mine.get_by_text("This browser")).to_have_count(1)
    mine.get_by_role("button", name="Sign out other browsers").click()
    expect(mine.get_by_role("status")).to_contain_text("Other browsers are signed out")
    left.reload()
    expect(left.get_by_role("heading", name="Sign in")).to_be_visible()
    # The admin token is offered below the password.
    left.get_by_text("Sign in as the server's operator").click()
    left.get_by_label("Admin token").fill(TOKEN)
    left.keyboard.press("Enter")
    left.wait_for_url("**/console/projects")
    left.goto("/console/account")
    expect(left.locator("main")).to_contain_text("The admin token is not a person")
    for context in (here, there):
        context.close()
