"""An import through the API that is killed, refused, cut off and left alone: every row counts once."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from client_doubles import breaking
from serving import PROJECT, SECRET, Server, prepare
from usertable.store import open_store

BATCH = 50


def crm(folder: Path, rows: int) -> tuple[Path, dict[str, Decimal], int]:
    """A file of phones and amounts, some rows of which are refused; the sum of each phone, and how many are refused."""
    chance = random.Random(5)
    sums: dict[str, Decimal] = {}
    refused = 0
    file = folder / "crm.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["phone", "user_number_accumulate", "user_list_append"])
        for number in range(rows):
            phone, amount = f"p{chance.randrange(300)}", Decimal(chance.randrange(1, 999)) / 100
            if chance.random() < 0.03:
                # Refused by the reader, or by the server.
                writer.writerow([phone, "many", ""] if chance.random() < 0.5 else ["p" * 300, amount, f'["{number}"]'])
                refused += 1
            else:
                sums[phone] = sums.get(phone, Decimal(0)) + amount
                writer.writerow([phone, amount, f'["{number}"]'])
    return file, sums, refused


def start(url: str, file: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    command = [sys.executable, "-m", "usertable", "import", str(file), "--project", PROJECT, "--register", "--url", url]
    return subprocess.Popen(
        [*command, "--batch", str(BATCH), "--json", *options],
        env=environment | {"USERTABLE_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def position(file: Path) -> dict[str, Any] | None:
    kept = Path(f"{file}.import.json")
    content = kept.read_bytes() if kept.exists() else b""
    found: dict[str, Any] | None = json.loads(content) if content else None
    return found


def stored(url: str) -> list[Decimal]:
    """The sums of all users."""
    with closing(open_store(url)) as store, store.snapshot(PROJECT) as snapshot:
        rows = [json.loads(row[1], parse_float=Decimal) for page in snapshot.pages() for row in page]
    return sorted(Decimal(row["user_number_accumulate"]) for row in rows)


def check(url: str, folder: Path, process: subprocess.Popen[bytes], rows: int, sums: dict[str, Decimal], bad: int) -> None:
    """It ended well, every sum is right, every user is there once, and every refused row is in its file once."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    found = json.loads(out)
    assert (found["rows"], found["refused"], found["changed"]) == (rows, bad, rows - bad), err
    assert stored(url) == sorted(sums.values())
    with (folder / "crm.rejects.csv").open(newline="") as stream:
        numbers = [int(row["#row"]) for row in csv.DictReader(stream)]
    assert len(numbers) == bad
    assert numbers == sorted(set(numbers))


def test_killed_again_and_again_every_row_counts_once(kept_url: str, tmp_path: Path) -> None:
    prepare(kept_url)
    file, sums, bad = crm(tmp_path, 3000)
    server = Server(kept_url, tmp_path)
    chance = random.Random(7)
    kills = 0
    while True:
        before = position(file)
        process = start(server.url, file, *(["--resume"] if before else []))
        while process.poll() is None and position(file) == before:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.15))
        if kills >= 6 or process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
    assert kills >= 3, "it was done before it could be killed"
    check(kept_url, tmp_path, process, 3000, sums, bad)
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_through_a_proxy_that_drops_requests_and_replies(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepare(url)
    file, sums, bad = crm(tmp_path, 1500)
    server = Server(url, tmp_path)
    with breaking(server.url) as proxy:
        process = start(proxy.url, file)
        # Its first calls are not so patient.
        while position(file) is None and process.poll() is None:
            time.sleep(0.005)
        proxy.faults = {"refuse": 0.1, "before": 0.1, "lost": 0.1, "cut": 0.1}
        check(url, tmp_path, process, 1500, sums, bad)
        assert all(proxy.met.values()), proxy.met
    assert server.stop() == 0


def test_within_the_limit_of_requests(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepare(url, qps=5)
    file, sums, bad = crm(tmp_path, 600)
    server = Server(url, tmp_path)
    # Two at once see refusals that one by itself would avoid.
    other = tmp_path / "other"
    other.mkdir()
    (other / "crm.csv").write_bytes(file.read_bytes())
    first, second = start(server.url, file), start(server.url, other / "crm.csv")
    out, err = second.communicate(timeout=120)
    assert json.loads(out)["rows"] == 600, err
    check(url, tmp_path, first, 600, {phone: 2 * total for phone, total in sums.items()}, bad)
    assert server.stop() == 0


def test_the_server_is_killed_and_comes_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepare(url)
    file, sums, bad = crm(tmp_path, 2000)
    server = Server(url, tmp_path)
    # The proxy keeps the address, which the server changes.
    with breaking(server.url) as proxy:
        process = start(proxy.url, file)
        while (position(file) or {"state": {"rows": 0}})["state"]["rows"] < 500 and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, "it was done before the server was killed"
        server.kill()
        server.start()
        proxy.lead_to(server.url)
        check(url, tmp_path, process, 2000, sums, bad)
    assert server.stop() == 0


def test_two_processes_do_not_go_on_with_one_import(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepare(url)
    file, sums, bad = crm(tmp_path, 2000)
    server = Server(url, tmp_path)
    first = start(server.url, file)
    while position(file) is None and first.poll() is None:
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    second = start(server.url, file, "--resume")
    _, err = second.communicate(timeout=60)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert b"in use by another process" in err, err
    check(url, tmp_path, first, 2000, sums, bad)
    assert server.stop() == 0
