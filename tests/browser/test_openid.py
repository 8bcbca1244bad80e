"""Signing in with a real OpenID Connect provider, of another site, in a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.actors import TESTER
from support.browser import browser_errors
from support.openid_provider import CLIENT, CLIENT_SECRET, OpenIdProvider, openid_provider
from support.sample_server import AT, TOKEN, create_sample_store
from support.server_process import PROJECT, ServerProcess
from usertable.app.service import Service
from usertable.store import open_store

PASSWORD = "correct horse battery staple"
LOCAL = "local@example.com"
"""An admin with a password."""


@contextlib.contextmanager
def server_with(provider: OpenIdProvider, folder: Path) -> Iterator[ServerProcess]:
    url = f"sqlite:///{folder / 'store.db'}"
    create_sample_store(url)
    store = open_store(url)
    Service(store).add_person(LOCAL, admin=True, password=PASSWORD, actor=TESTER)
    store.close()
    server = ServerProcess(
        url,
        folder,
        admin_token=TOKEN,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=CLIENT_SECRET,
        oidc_label="Example SSO",
        oidc_email_domains="example.com",
        oidc_roles_claim="groups",
        oidc_roles=f"staff:{PROJECT}=viewer, leads:{PROJECT}=owner",
    )
    try:
        yield server
    finally:
        assert server.stop() == 0
        assert "Traceback" not in server.log, server.log


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdProvider]:
    with openid_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: OpenIdProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_with(provider, tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture
def page(context: BrowserContext, provider: OpenIdProvider) -> Iterator[Page]:
    """Open a page that is not signed in. An error in the browser's console fails the test."""
    provider.set_user("ann", email="Ann@example.com", email_verified=True, name="Ann", groups=["staff"])
    page = context.new_page()
    errors = browser_errors(page)
    yield page
    assert errors == []


def sign_in_there(page: Page, subject: str) -> None:
    """Press the sign-in button, and sign in at the provider."""
    page.get_by_role("link", name="Sign in with Example SSO").click()
    page.locator("input[name=sub]").fill(subject)
    page.get_by_role("button", name="Authorize", exact=True).click()


def sign_out(page: Page) -> None:
    page.get_by_text("Preferences").click()
    page.get_by_role("button", name="Sign out").click()
    # The console redirected to the provider without a click.
    page.get_by_role("button", name="End session").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")


def refusal(page: Page) -> str:
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    return page.get_by_role("alert").inner_text()


def test_one_signs_in_at_the_provider_and_out_of_both(page: Page) -> None:
    page.goto(f"{AT}/attributes")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    sign_in_there(page, "ann")
    expect(page.get_by_role("heading", name="Attributes")).to_be_visible()
    assert page.url.endswith(f"{AT}/attributes")
    sign_out(page)
    page.goto(AT)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_role_follows_the_claim_and_the_address_may_change_its_letter_case(page: Page, provider: OpenIdProvider) -> None:
    page.goto(AT)
    sign_in_there(page, "ann")
    navigation = page.get_by_role("navigation", name="Project")
    expect(navigation.get_by_role("link", name="Attributes")).to_be_visible()
    expect(navigation.get_by_role("link", name="Settings")).to_have_count(0)
    sign_out(page)
    provider.set_user("ann", email="ANN@EXAMPLE.COM", email_verified=True, groups=["staff", "leads"])
    page.goto(f"{AT}/members")
    sign_in_there(page, "ann")
    expect(navigation.get_by_role("link", name="Settings")).to_be_visible()
    expect(page.get_by_text("ann@example.com")).to_have_count(1)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"email": "ann@other.example", "email_verified": True, "groups": ["staff"]}, "is not of a domain that may sign in"),
        ({"email": "bob@example.com", "groups": ["staff"]}, "Example SSO does not say that bob@example.com is verified"),
        ({"email": "bob@example.com", "email_verified": True}, "no value of the claim groups gives one"),
    ],
)
def test_whoever_may_not_enter_is_told_what_is_missing(
    page: Page, provider: OpenIdProvider, claims: dict[str, object], said: str
) -> None:
    provider.set_user("stranger", **claims)
    page.goto(AT)
    sign_in_there(page, "stranger")
    assert said in refusal(page)
    assert Axe().run(page).violations_count == 0


def test_whoever_is_denied_at_the_provider_can_sign_in_another_way(page: Page) -> None:
    page.goto(f"{AT}/identifiers")
    page.get_by_role("link", name="Sign in with Example SSO").click()
    page.locator("button[value=deny]").click()
    # This provider omits the state, so its answer could belong to any sign-in.
    assert "not started in this browser" in refusal(page)
    page.get_by_label("E-mail address").fill(LOCAL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).first.click()
    expect(page.get_by_role("heading", name="Identifiers")).to_be_visible()


def test_a_callback_that_was_used_signs_nobody_in(page: Page) -> None:
    callbacks: list[str] = []
    page.on("request", lambda request: callbacks.append(request.url) if "/callback?" in request.url else None)
    page.goto(AT)
    sign_in_there(page, "ann")
    expect(page.get_by_role("navigation", name="Project")).to_be_visible()
    sign_out(page)
    page.goto(callbacks[0])
    assert "not started in this browser" in refusal(page)
    page.goto(AT)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_what_was_typed_is_there_again_after_signing_in_in_another_tab(page: Page, provider: OpenIdProvider) -> None:
    provider.set_user("lead", email="lead@example.com", email_verified=True, groups=["leads"])
    page.goto(f"{AT}/settings")
    sign_in_there(page, "lead")
    page.get_by_label("Name").fill("Typed")
    page.context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Sign in with Example SSO").click()
    other = opened.value
    other.locator("input[name=sub]").fill("lead")
    other.get_by_role("button", name="Authorize", exact=True).click()
    expect(other.get_by_role("heading", name="Projects")).to_be_visible()
    page.get_by_role("button", name="I have signed in, continue").first.click()
    expect(page.get_by_label("Name")).to_have_value("Typed")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")


def test_the_page_is_the_same_in_chinese_and_on_a_phone(browser: Browser, server: ServerProcess) -> None:
    context = browser.new_context(
        base_url=server.url, locale="zh-CN", color_scheme="dark", viewport={"width": 375, "height": 812}
    )
    page = context.new_page()
    page.goto(AT)
    button = page.get_by_role("link", name="使用 Example SSO 登录")
    expect(button).to_be_in_viewport()
    assert Axe().run(page).violations_count == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_while_the_provider_is_down_one_signs_in_with_a_password(browser: Browser, tmp_path: Path) -> None:
    with openid_provider(tmp_path) as provider, server_with(provider, tmp_path) as server:
        provider.stop()
        context = browser.new_context(base_url=server.url, locale="en-GB")
        page = context.new_page()
        page.goto(f"{AT}/identifiers")
        page.get_by_role("link", name="Sign in with Example SSO").click()
        assert refusal(page).startswith("Can't reach Example SSO right now.")
        page.get_by_label("E-mail address").fill(LOCAL)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).first.click()
        expect(page.get_by_role("heading", name="Identifiers")).to_be_visible()
        assert f"the OpenID Connect provider {provider.issuer} cannot be used" in server.log
        context.close()


def test_a_token_of_the_provider_that_has_expired_signs_nobody_in(browser: Browser, tmp_path: Path) -> None:
    with openid_provider(tmp_path, token_seconds=-120) as provider, server_with(provider, tmp_path) as server:
        provider.set_user("ann", email="ann@example.com", email_verified=True, groups=["staff"])
        context = browser.new_context(base_url=server.url, locale="en-GB")
        page = context.new_page()
        page.goto(AT)
        sign_in_there(page, "ann")
        assert "failed a check (exp)" in refusal(page)
        assert "it has expired; compare the clocks" in server.log
        context.close()
