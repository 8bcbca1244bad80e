"""A real browser on the console of a sample server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.chromium import find
from support.sample_server import TOKEN
from support.waiting import DEADLINE_SECONDS

PATIENCE_MS = 1000 * DEADLINE_SECONDS
"""Milliseconds that the browser's calls and expectations wait at most."""
AXE = Axe().axe_script
VIOLATIONS = (
    "options => axe.run(document, {resultTypes: ['violations'], preload: false, ...options}).then(found => found.violations)"
)
"""A script that returns axe's findings, without its long lists of passed checks. axe itself is loaded once per page.

Otherwise it would fetch the style sheets again each time, only to check whether they rotate the page (a rule that is off),
and for media that play automatically, of which there are none.
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Return a browser; the tests fail if there is none."""
    program = find()
    if program is None:
        pytest.fail("no Chromium for the browser tests; `make test` gets one")
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container often does not have. The browser opens only the test's own server.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def sign_in(context: BrowserContext) -> Page:
    """Return a page of the console, signed in."""
    page = context.new_page()
    page.goto("/console/sign-in")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/projects")
    return page


class SignedIn:
    """A signed-in page that each test gets as if it had just signed in.

    Signing in costs a second of CPU, mostly for the browser's new session.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self._context = browser.new_context(base_url=url, locale="en-GB")
        self._context.set_default_timeout(PATIENCE_MS)
        self._page = sign_in(self._context)
        self._cookies = self._context.cookies()
        self._errors = browser_errors(self._page)

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """Return the page, showing the projects, without what earlier tests opened next to it or stored.

        Raises:
            AssertionError: the browser reported an error meanwhile.
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
    """Return the browser's complaints about this page: errors of its script, and violations of the content security
    policy."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if "Security Policy" in message.text else None)
    return found


def wait_in_browser(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until something holds, while the browser goes on and tells what happens."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, page.url
        page.wait_for_timeout(20)


def check_accessible(page: Page, *, colors: bool = True) -> None:
    """Check that axe finds nothing serious.

    Args:
        colors: whether the contrasts are checked too, which takes half the time, in both themes: a theme changes only
            colors. A language changes none, as `test_no_color_depends_on_the_language` says.
    """
    page.evaluate(AXE)
    page.emulate_media(color_scheme="light")
    found = page.evaluate(VIOLATIONS, {} if colors else {"rules": {"color-contrast": {"enabled": False}}})
    page.emulate_media(color_scheme="dark")
    if colors:
        found += page.evaluate(VIOLATIONS, {"runOnly": ["color-contrast"]})
    serious = [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, (page.url, serious)
