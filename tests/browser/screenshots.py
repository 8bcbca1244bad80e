"""Screenshots of the console: a few for the documentation, or every page in every language, theme and size.

`python screenshots.py` writes `docs/images`; `python screenshots.py --all FOLDER` writes all of them to that folder.
Chinese needs a font that has it, such as Debian's fonts-noto-cjk.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page

from support.browser import chromium, sign_in
from support.sample_server import AT, CUID, TOKEN, page_paths, sample_server
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, ServerProcess

IMAGES = Path(__file__).parents[2] / "docs" / "images"
USERS = 300
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
LOCALES = {"en": "en-GB", "zh": "zh-CN"}
THEMES = ("light", "dark")

KEPT = (
    ("users", f"{AT}/users", "en", "light", "desktop"),
    ("users-zh-dark", f"{AT}/users", "zh", "dark", "desktop"),
    ("user-history", f"{AT}/users/{CUID}/history", "en", "light", "desktop"),
    ("arrivals", f"{AT}/arrivals", "en", "dark", "desktop"),
    ("attributes-zh", f"{AT}/attributes", "zh", "light", "desktop"),
    ("attribute", f"{AT}/attributes/total_spent", "en", "light", "desktop"),
    ("new-attribute", f"{AT}/new-attribute", "en", "light", "desktop"),
    ("try-it", f"{AT}/try", "en", "light", "desktop"),
    ("overview-zh-phone", AT, "zh", "light", "phone"),
    ("attributes-phone", f"{AT}/attributes", "en", "dark", "phone"),
)
"""What the documentation shows: name, address, language, theme, size."""


def fill(server: ServerProcess) -> None:
    """Add users with values, and send a few requests that are rejected."""
    chance = random.Random(7)
    with server.client() as client:
        numbers = [f"139{n:08}" for n in range(USERS)]
        cuids: list[int] = []
        for start in range(0, USERS, 100):
            body = {"identityName": "phone", "identityValues": numbers[start : start + 100]}
            cuids += [entry["cuid"] for entry in client.post(REGISTER, json=body).json()["data"]]
        for cuid in [CUID, *cuids]:
            data = {
                "level": chance.choices(["bronze", "silver", "gold"], [6, 3, 1])[0],
                "total_spent": round(chance.lognormvariate(4, 1), 2),
                "first_paid_at": f"2026-{chance.randrange(1, 12):02}-{chance.randrange(1, 29):02} 09:30:00",
                "tags": chance.sample(["news", "sport", "music", "travel", "food"], chance.randrange(1, 4)),
                "is_member": int(chance.random() < 0.4),
                "city": chance.choice(["上海", "北京", "深圳", "杭州", "成都"]),
            }
            kept = {name: value for name, value in data.items() if chance.random() < 0.85} or {"city": "上海"}
            client.put(ATTRIBUTE, json={"cuid": cuid, "data": kept})
            time.sleep(0.012)
        refused: list[tuple[int, dict[str, object]]] = [
            (CUID, {"total_spent": "much"}),
            (7, {"level": "gold"}),
            (CUID, {"no_such": 1}),
            (CUID, {"city": ""}),
        ]
        for cuid, wrong in refused:
            client.put(ATTRIBUTE, json={"cuid": cuid, "data": wrong}, headers={"X-Request-Id": f"shop-{cuid}"})
        keys = f"{server.url}/api/v1/projects/{PROJECT}/keys"
        admin = {"Authorization": f"Bearer {TOKEN}"}
        for name, scopes, expires in (
            ("orders", ["write", "register"], None),
            ("dashboard", ["read"], "2027-06-30"),
            ("crm-import-2025", ["import", "read"], None),
        ):
            wanted = {"name": name, "scopes": scopes, "expires_at": expires}
            made = httpx.post(keys, json=wanted, headers=admin).json()
            if name == "orders":
                came = {"cuid": CUID, "data": {"city": "上海"}}
                client.put(ATTRIBUTE, json=came, auth=(PROJECT, made["secret"])).raise_for_status()
        httpx.post(f"{keys}/crm-import-2025:revoke", headers=admin).raise_for_status()
    # Arrivals are stored once a second.
    time.sleep(1.5)


def show(page: Page, path: str) -> None:
    """Open a page, and fill in or open what the screenshot shows."""
    page.goto(path)
    if path.endswith("/try"):
        page.fill("#value", str(CUID))
        page.fill(
            "#data", '{\n  "total_spent": 9.9,\n  "tags": ["news", "<script>"],\n  "first_paid_at": "2026-11-24 12:00:00"\n}'
        )
        page.click("button[value=dry]")
        page.wait_for_selector("#result")
    if path.endswith("/new-attribute"):
        page.fill("#name", "total_points")
        page.check("[name=type][value=NUMBER]")
        page.check("[name=rule][value=accumulate]")
    # The page's script loads statistics and arrivals.
    page.wait_for_timeout(1200)


def pages(browser: Browser, server: ServerProcess, locale: str, theme: str, size: str) -> Iterator[Page]:
    """Open a page that is signed in, in this language, theme and size."""
    width, height = SIZES[size]
    context = browser.new_context(
        base_url=server.url,
        locale=LOCALES[locale],
        color_scheme="dark" if theme == "dark" else "light",
        viewport={"width": width, "height": height},
        reduced_motion="reduce",
    )
    yield sign_in(context)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", metavar="FOLDER", type=Path, help="every page in every language, theme and size, there")
    everything: Path | None = parser.parse_args().all
    folder = everything or IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sample_server(Path(place), "Shop") as server, chromium() as browser:
        fill(server)
        if everything:
            for dress in itertools.product(LOCALES, THEMES, SIZES):
                for page in pages(browser, server, *dress):
                    for path in page_paths():
                        if path.endswith("/sign-in"):
                            continue
                        show(page, path)
                        name = path.removeprefix(AT).removeprefix("/console").strip("/").replace("/", "-") or "overview"
                        # The header is sticky, so it would cover a part of the page.
                        page.evaluate("scrollTo(0, 0)")
                        page.screenshot(path=folder / f"{'-'.join(dress)}-{name}.jpeg", quality=80, full_page=True)
        else:
            for name, path, locale, theme, size in KEPT:
                for page in pages(browser, server, locale, theme, size):
                    show(page, path)
                    page.screenshot(path=folder / f"{name}.jpeg", quality=82)


if __name__ == "__main__":
    main()
