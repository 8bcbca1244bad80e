"""The browser of the tests: one that is installed, else Playwright's own, else Debian's package.

Run by itself, as `make test` does, it gets one, or says loudly why it could not.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from support import debian

INSTALLED = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""In this order: without a window of its own, the same engine takes a third of the CPU time."""


def find() -> str | None:
    """The program to run: what `USERTABLE_TEST_CHROMIUM` names, an installed one, or Playwright's; None if there is none."""
    if named := os.environ.get("USERTABLE_TEST_CHROMIUM"):
        return named
    for name in INSTALLED:
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def provide() -> str:
    """The same, after getting one if there is none; exits if none can be had."""
    if found := find():
        return found
    print("The browser tests need a Chromium. Asking Playwright for its own ...", flush=True)
    debian.run(
        [sys.executable, "-m", "playwright", "install", "chromium"], {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "15000"}
    )
    if not find():
        print("That did not work. Asking Debian for its package ...", flush=True)
        # Some releases have only the second.
        _ = debian.install("chromium-headless-shell") or debian.install("chromium")
    if found := find():
        return found
    sys.exit(
        "No Chromium for the browser tests: install chromium or google-chrome (on Debian: apt-get install chromium),"
        " or name one in USERTABLE_TEST_CHROMIUM."
    )


if __name__ == "__main__":
    provide()
