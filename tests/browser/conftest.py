"""A server and a browser for each module, and a page for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browser import PATIENCE_MS, SignedIn, chromium
from support.sample_server import sample_server
from support.server_process import ServerProcess

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with sample_server(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def context(browser: Browser, server: ServerProcess) -> Iterator[BrowserContext]:
    """Open a page in its own browser context, which is not signed in."""
    context = browser.new_context(base_url=server.url, locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, server: ServerProcess) -> Iterator[SignedIn]:
    signed_in = SignedIn(browser, server.url)
    yield signed_in
    signed_in.close()


@pytest.fixture
def page(signed_in: SignedIn) -> Iterator[Page]:
    """Open a page that is signed in. An error in the browser's console fails the test."""
    with signed_in.page() as page:
        yield page
