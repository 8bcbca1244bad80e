"""The browser of the tests: one that is installed, else Playwright's own, else Debian's package.

Run as a program, as in `make test`, it installs the one that takes the least CPU time, or another, or explains why it could
not.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from support import debian

INSTALLED = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""In order of preference: the first one is the same engine without windows, and takes two thirds of the CPU time."""


def find() -> str | None:
    """Return the program to run: the one in `USERTABLE_TEST_CHROMIUM`, an installed one, or Playwright's; None if there
    is none."""
    if named := os.environ.get("USERTABLE_TEST_CHROMIUM"):
        return named
    for name in INSTALLED:
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def provide() -> str:
    """Return the program, installing one if there is none or a better one; exit if there is none then."""
    if "USERTABLE_TEST_CHROMIUM" not in os.environ and not shutil.which(INSTALLED[0]):
        debian.install(INSTALLED[0])
    if found := find():
        return found
    print("The browser tests need a Chromium. Asking Playwright for its own ...", flush=True)
    debian.run(
        [sys.executable, "-m", "playwright", "install", "chromium"], {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "15000"}
    )
    if not find():
        print("That did not work. Asking Debian for its package ...", flush=True)
        debian.install("chromium")
    if found := find():
        return found
    sys.exit(
        "No Chromium for the browser tests: install chromium or google-chrome (on Debian: apt-get install chromium),"
        " or name one in USERTABLE_TEST_CHROMIUM."
    )


if __name__ == "__main__":
    provide()
