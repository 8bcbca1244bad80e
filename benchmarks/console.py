"""Measure the console's pages with a million users, and what an open page costs the writes.

Fills a store (SQLite, or with --store a PostgreSQL database that is empty), starts the real server, signs in, and asks for
every page again and again, each time with other filters, so that scans of the whole table go on beside. Then alternates
rounds of PUTs with nobody looking and with Arrivals open. Prints medians and ratios, and writes them to
`benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import apsw
import httpx

from put import PROJECT, STORED, fill, rows, send, serving
from usertable.app.service import Service
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.actor import Actor
from usertable.store import open_store, redacted_url
from usertable.store.encoding import decode_attributes
from usertable.store.records import FIRST_CUID
from usertable.store.tables import USERS, Row
from wrk import Measured, write_results

TOKEN = "benchmark-token-0000000"
BAR_MS = 300
HOME = f"/console/projects/{PROJECT}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--users", type=int, default=1_000_000, help="users stored (default 1000000)")
    arguments.add_argument("--store", help="an empty PostgreSQL database (default: a SQLite file)")
    arguments.add_argument("--requests", type=int, default=40, help="requests of each page")
    arguments.add_argument("--rounds", type=int, default=4, help="rounds of PUTs with and without an open page")
    arguments.add_argument("--seconds", type=int, default=6, help="length of a round of PUTs")
    arguments.add_argument("--folder", help="where the store is made (default: the system's temporary folder)")
    chosen = arguments.parse_args()
    os.environ["USERTABLE_ADMIN_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory(prefix="usertable-bench-", dir=chosen.folder) as folder:
        if chosen.store:
            url = chosen.store
            load(url, chosen.users)
        else:
            url = f"sqlite:///{Path(folder) / 'users.db'}?cache_mb=2048"
            fill(Path(folder) / "users.db", chosen.users)
        print(f"{chosen.users:,} users, {len(STORED)} attributes each, {redacted_url(url).partition(':')[0]}")
        results: list[dict[str, object]] = []
        with serving(url) as base, httpx.Client(base_url=base, timeout=60) as client:
            sign_in(client)
            results += pages(client, chosen.users, chosen.requests)
            results.append(puts(base, client.cookies, chosen.users, chosen.rounds, chosen.seconds))
    engine = {} if chosen.store else {"sqlite": apsw.sqlite_lib_version()}
    write_results("console-postgresql" if chosen.store else "console", engine, results)


def load(url: str, users: int) -> None:
    """Fill a store of any engine, as `fill` does for SQLite."""
    store = open_store(url)
    service = Service(store)
    project, _ = service.create_project(
        "benchmark", id=PROJECT, secret="benchmark-secret-000", qps=None, actor=Actor.cli("benchmark")
    )
    for attribute in STORED:
        service.declare_attribute(PROJECT, attribute, actor=Actor.cli("benchmark"))
    whole: Iterator[Row] = (
        (cuid, 1, 1_700_000_000_000, 1_700_000_000_000, decode_attributes(text), {}, 0, "") for cuid, text in rows(users)
    )
    while part := list(itertools.islice(whole, 10_000)):
        store.load(project.number, USERS, part)
    store.close()


def sign_in(client: httpx.Client) -> None:
    """Sign in as a browser does."""
    page = client.get("/console/sign-in").text
    token = re.search(r'name="form_token" value="([^"]+)"', page)
    assert token is not None
    answer = client.post("/console/sign-in", data={"form_token": token[1], "token": TOKEN})
    assert answer.status_code == 303, answer.text


def pages(client: httpx.Client, users: int, requests: int) -> list[dict[str, object]]:
    """Measure the server's time for every page."""
    middle = FIRST_CUID + users // 2

    def asked(number: int) -> dict[str, str]:
        place = middle + number * 1000
        return {
            "users": f"{HOME}/users",
            "users, deep": f"{HOME}/users?after={place}",
            "users, back": f"{HOME}/users?before={place}",
            "users, all columns": f"{HOME}/users?" + "&".join(f"column={a.name}" for a in STORED),
            "users, common filter": f"{HOME}/users?where=age:ge:{number % 70}",
            "users, rare filter": f"{HOME}/users?where=city:eq:city-{number * 37}",
            "users, nobody": f"{HOME}/users?where=nickname:eq:nobody-{number}",
            "users, exact decimal": f"{HOME}/users?where=total_spent:between:{number}.25,{number}.25",
            "users, three filters": f"{HOME}/users?where=interests:contains:tag-3&where=level:lt:{number % 50 + 5}"
            f"&where=last_seen:gt:2023-01-01+00:00:00",
            "users, last updated": f"{HOME}/users?order=-updated",
            "find": f"{HOME}/users/find?identifier=cuid&value={place}",
            "user": f"{HOME}/users/{place}",
            "erase, asked": f"{HOME}/users/{place}/erase",
            "attributes": f"{HOME}/attributes",
            **{f"attribute, {a.type} {a.name}": f"{HOME}/attributes/{a.name}" for a in STORED[:5]},
            "arrivals": f"{HOME}/arrivals",
            "overview": HOME,
            "projects": "/console/projects",
            "settings": f"{HOME}/settings",
            "identifiers": f"{HOME}/identifiers",
            "changes": f"{HOME}/changes",
            "try it": f"{HOME}/try",
        }

    results: list[dict[str, object]] = []
    for name in asked(0):
        times = []
        for number in range(requests):
            began = time.perf_counter()
            answer = client.get(asked(number)[name])
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status_code in (200, 303), (name, answer.status_code, answer.text[:500])
        times.sort()
        p50, p95 = statistics.median(times), times[int(len(times) * 0.95)]
        print(f"  {name:32} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms{'   OVER THE BAR' if p95 > BAR_MS else ''}")
        results.append({"page": name, "p50": round(p50, 2), "p95": round(p95, 2), "within_bar": p95 <= BAR_MS})
    return results


def puts(base: str, cookies: httpx.Cookies, users: int, rounds: int, seconds: int) -> dict[str, object]:
    """Measure PUTs per second without an open page, and with *Live requests* open."""
    send(base + ATTRIBUTE_PATH, 64, seconds, users)
    alone: list[Measured] = []
    watched: list[Measured] = []
    for _ in range(rounds):
        for found, looking in ((alone, nullcontext()), (watched, arrivals_open(base, cookies))):
            with looking:
                found.append(send(base + ATTRIBUTE_PATH, 64, seconds, users))
    errors = sum(measured.errors for measured in (*alone, *watched))
    ratio = statistics.median(w.per_second / a.per_second for a, w in zip(alone, watched, strict=True))
    nobody, somebody = (statistics.median(m.per_second for m in found) for found in (alone, watched))
    print(f"  {nobody:,.0f} PUT/s with nobody looking, {somebody:,.0f} with Arrivals open: ratio {ratio:.3f}", end="")
    print(f"   ERRORS {errors}" if errors else "")
    return {"PUT/s, nobody looking": nobody, "PUT/s, Arrivals open": somebody, "ratio": round(ratio, 3), "errors": errors}


@contextmanager
def arrivals_open(base: str, cookies: httpx.Cookies) -> Iterator[None]:
    """Keep *Live requests* open, with its live updates."""
    stop = threading.Event()

    def look() -> None:
        with httpx.stream("GET", f"{base}{HOME}/arrivals/live", cookies=cookies, timeout=60) as events:
            assert events.status_code == 200, events.status_code
            for _ in events.iter_raw():
                if stop.is_set():
                    return

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(1)
    assert thread.is_alive(), "Arrivals is not kept up to date"
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


if __name__ == "__main__":
    main()
