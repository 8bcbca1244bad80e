"""A real browser on the console of a sample server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.chromium import find
from support.sample_server import TOKEN


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the tests fail if there is none."""
    program = find()
    if program is None:
        pytest.fail("no Chromium for the browser tests; `make test` gets one")
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container often has not; all it opens is our own server.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def sign_in(context: BrowserContext) -> Page:
    """A page of the console, signed in."""
    page = context.new_page()
    page.goto("/console/sign-in")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/projects")
    return page


class SignedIn:
    """A signed-in page that each test gets as if it had just signed in.

    To sign in costs a second of CPU, most of it for the browser's new session.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self._context = browser.new_context(base_url=url, locale="en-GB")
        self._context.set_default_timeout(15_000)
        self._page = sign_in(self._context)
        self._cookies = self._context.cookies()
        self._errors = browser_errors(self._page)

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """The page, showing the projects. What earlier tests opened beside it or stored is gone.

        Raises:
            AssertionError: the browser complained about something meanwhile.
        """
        for other in self._context.pages:
            if other is not self._page:
                other.close()
        self._context.clear_cookies()
        self._context.add_cookies(self._cookies)  # type: ignore[arg-type]
        self._page.goto("/console/projects")
        self._page.evaluate("localStorage.clear(); sessionStorage.clear()")
        self._errors.clear()
        yield self._page
        assert not self._errors

    def close(self) -> None:
        self._context.close()


def browser_errors(page: Page) -> list[str]:
    """What the browser complains about on that page: errors of its script, and what the policy forbids."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if "Security Policy" in message.text else None)
    return found
