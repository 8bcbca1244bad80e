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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from support.actors import TESTER
from support.faulty_proxy import faulty_proxy
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from support.waiting import wait_until
from usertable.app.service import Service
from usertable.domain.schema import Identifier
from usertable.store import open_store

BATCH = 50


def crm(folder: Path, rows: int) -> tuple[Path, dict[str, Decimal], int]:
    """Write a file of phones and amounts, some of them refused.

    Return it, the sum of each phone, and the number of refused rows.

    Some users have a CUID and several identifiers, the others only a phone.
    """
    chance = random.Random(5)
    sums: dict[str, Decimal] = {}
    refused = 0
    file = folder / "crm.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cuid", "phone", "device", "user_number_accumulate", "user_list_append"])
        for number in range(rows):
            user, amount = chance.randrange(300), Decimal(chance.randrange(1, 999)) / 100
            phone, device = f"p{user}", ""
            if user < 150:
                device = json.dumps([f"d{user}-{chance.randrange(4)}", f"e{user}"])
            if chance.random() < 0.03:
                # Refused by the reader, or by the server.
                writer.writerow(["", phone, "", "many", ""] if chance.random() < 0.5 else ["", "", "nobody's", amount, ""])
                refused += 1
            else:
                sums[phone] = sums.get(phone, Decimal(0)) + amount
                writer.writerow([1000 + user if user < 150 else "", phone, device, amount, f'["{number}"]'])
    return file, sums, refused


def prepared(url: str, **settings: int) -> None:
    create_project(url, **settings)
    with closing(open_store(url)) as store:
        Service(store).declare_identifier(PROJECT, Identifier("device", unique=False), actor=TESTER)


@contextmanager
def start(url: str, file: Path | str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start an import in its own process, which ends with the block; from stdin if the file is `-`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    command = [sys.executable, "-m", "usertable", "import", str(file), "--project", PROJECT, "--register", "--url", url]
    process = subprocess.Popen(
        [*command, "--batch", str(BATCH), "--json", *options],
        env=environment | {"USERTABLE_SECRET": SECRET},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def position(file: Path) -> dict[str, Any] | None:
    kept = Path(f"{file}.import.json")
    content = kept.read_bytes() if kept.exists() else b""
    found: dict[str, Any] | None = json.loads(content) if content else None
    return found


def stored(url: str) -> dict[str, Decimal]:
    """Return the sums of all users by phone. Each has the CUID in the file, and all of its devices."""
    sums: dict[str, Decimal] = {}
    with closing(open_store(url)) as store, store.snapshot(PROJECT) as snapshot:
        for cuid, text, identifiers in (row for page in snapshot.pages() for row in page):
            (phone,) = identifiers["phone"]
            number = int(phone[1:])
            assert (cuid == 1000 + number) == (number < 150)
            assert (f"e{number}" in identifiers.get("device", [])) == (number < 150)
            assert phone not in sums
            sums[phone] = Decimal(json.loads(text, parse_float=Decimal)["user_number_accumulate"])
    return sums


def check(
    url: str,
    folder: Path,
    process: subprocess.Popen[bytes],
    rows: int,
    sums: dict[str, Decimal],
    bad: int,
    *,
    is_alone: bool = True,
) -> None:
    """Check that it succeeded, every sum is right, every user exists once, and every refused row is in its file once."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    found = json.loads(out)
    assert (found["rows"], found["refused"], found["created"] + found["changed"]) == (rows, bad, rows - bad), err
    if is_alone:
        assert found["created"] == len(sums)
    assert stored(url) == sums
    with (folder / "crm.rejects.csv").open(newline="") as stream:
        numbers = [int(row["#row"]) for row in csv.DictReader(stream)]
    assert len(numbers) == bad
    assert numbers == sorted(set(numbers))


def test_killed_again_and_again_every_row_counts_once(kept_url: str, tmp_path: Path) -> None:
    prepared(kept_url)
    file, sums, bad = crm(tmp_path, 3000)
    server = ServerProcess(kept_url, tmp_path)
    chance = random.Random(7)
    with faulty_proxy(server.url) as proxy:
        for kill in range(6):
            parts = set(tmp_path.glob(".*.part"))
            # Otherwise it could be done before it is killed.
            proxy.hold_after(chance.randrange(10, 24))
            with start(proxy.url, file, *(["--resume"] if position(file) else [])) as process:
                wait_until(lambda: proxy.is_holding)
                time.sleep(chance.uniform(0, 0.15))
                if kill % 2:
                    process.terminate()
                    proxy.release()
                    _, err = process.communicate(timeout=60)
                    assert process.returncode == 143, err
                    assert set(tmp_path.glob(".*.part")) == parts
            proxy.release()
        assert position(file)
        with start(proxy.url, file, "--resume") as process:
            check(kept_url, tmp_path, process, 3000, sums, bad)
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_through_a_proxy_that_drops_requests_and_replies(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url)
    file, sums, bad = crm(tmp_path, 1500)
    server = ServerProcess(url, tmp_path)
    with faulty_proxy(server.url) as proxy, start(proxy.url, file) as process:
        # Its first calls have a shorter time limit.
        while position(file) is None and process.poll() is None:
            time.sleep(0.005)
        proxy.faults = {"refuse": 0.1, "before": 0.1, "lost": 0.1, "cut": 0.1}
        check(url, tmp_path, process, 1500, sums, bad)
        assert all(proxy.met.values()), proxy.met
    assert server.stop() == 0


def test_within_the_limit_of_requests(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url, qps=5)
    file, sums, bad = crm(tmp_path, 600)
    server = ServerProcess(url, tmp_path)
    # Two at once get refusals that a single one would avoid.
    other = tmp_path / "other"
    other.mkdir()
    (other / "crm.csv").write_bytes(file.read_bytes())
    with start(server.url, file) as first, start(server.url, other / "crm.csv") as second:
        out, err = second.communicate(timeout=120)
        assert json.loads(out)["rows"] == 600, err
        twice = {phone: 2 * total for phone, total in sums.items()}
        check(url, tmp_path, first, 600, twice, bad, is_alone=False)
    assert server.stop() == 0


def test_the_server_is_killed_and_comes_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url)
    file, sums, bad = crm(tmp_path, 2000)
    server = ServerProcess(url, tmp_path)
    # The proxy keeps its address, and the server changes its own.
    with faulty_proxy(server.url) as proxy, start(proxy.url, file) as process:
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
    # So that the first is not done before it is stopped.
    prepared(url, qps=10)
    file, sums, bad = crm(tmp_path, 2000)
    server = ServerProcess(url, tmp_path)
    with start(server.url, file) as first:
        while position(file) is None and first.poll() is None:
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        with start(server.url, file, "--resume") as second:
            _, err = second.communicate(timeout=60)
        first.send_signal(signal.SIGCONT)
        assert second.returncode == 1
        assert b"in use by another process" in err, err
        check(url, tmp_path, first, 2000, sums, bad)
    assert server.stop() == 0


def test_what_is_done_is_noted_while_a_pipe_has_no_more_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url)
    # A file is read one mebibyte at a time.
    line = json.dumps({"phone": "p200", "user_number_accumulate": 1, "filler": "x" * 2**14}).encode() + b"\n"
    options = ["--format", "ndjson", "--map", "filler=", "--rejects", str(tmp_path / "rejects")]
    options += ["--state", str(tmp_path / "pipe.import.json")]
    server = ServerProcess(url, tmp_path)
    with start(server.url, "-", *options) as process:
        assert process.stdin
        process.stdin.write(line * 80)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while (position(tmp_path / "pipe") or {"state": {"rows": 0}})["state"]["rows"] < BATCH:
            assert process.poll() is None
            assert time.monotonic() < deadline, position(tmp_path / "pipe")
            time.sleep(0.01)
    with start(server.url, "-", *options, "--resume") as process:
        out, err = process.communicate(line * 80, timeout=60)
    assert json.loads(out)["rows"] == 80, err
    assert stored(url) == {"p200": 80}
    assert server.stop() == 0
