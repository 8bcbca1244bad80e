"""The import is killed in every state and resumed: every row counts once. Also with a server on the same store.

After SIGINT or SIGTERM, an import or an export leaves no incomplete files.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.actors import TESTER
from support.commands import add_user, import_batch
from support.held_import import State, held_program, release, wait_until_held
from support.histories import check_history
from support.load import check_sums, load, read_sums, wait_for_more
from support.manual_clock import ManualClock
from support.process_memory import find_running, running
from support.server_process import PROJECT, ServerProcess, create_project
from support.waiting import wait_until
from usertable.domain.change import ChangeKind
from usertable.domain.merge import decide
from usertable.store import open_store
from usertable.store.records import ImportBatch, ImportRows
from usertable.store.transaction import Transaction

OPTIONS = ("--register", "--batch", "200")
READ_ROWS = 20_000
"""Rows of a file that another process reads, and that is larger than what waits between the two."""


def crm(folder: Path, rows: int) -> tuple[Path, dict[int, Decimal], int]:
    """Write a file whose rows add to the sums of some users, some of them refused.

    Return it, the sums, and the number of refused rows.
    """
    chance = random.Random(3)
    sums: dict[int, Decimal] = {}
    refused = 0
    file = folder / "crm.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cuid", "phone", "user_number_accumulate", "user_string_overwrite"])
        for _ in range(rows):
            cuid, amount = chance.randrange(1, 3000), Decimal(chance.randrange(-999, 999)) / 100
            if chance.random() < 0.03:
                # Refused by the reader, or by the store.
                writer.writerow([cuid, "", "many", "x"] if chance.random() < 0.5 else [cuid, "taken", amount, "x"])
                refused += 1
            else:
                sums[cuid] = sums.get(cuid, Decimal(0)) + amount
                writer.writerow([cuid, f"p{cuid}", amount, "several\nlines"])
    return file, sums, refused


def prepared(url: str) -> list[int]:
    """Create a project with some users, and one with the phone that no row may have. Return the CUIDs of the others."""
    cuids = create_project(url, users=30)
    with closing(open_store(url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        add_user(store, project.number, 5000, {"phone": "taken"}, 0)
    return cuids


@contextmanager
def command(url: str, *words: str, program: Sequence[str] = ("-m", "usertable")) -> Iterator[subprocess.Popen[bytes]]:
    """Run `usertable` in its own process, at most until the end of the block."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    process = subprocess.Popen(
        [sys.executable, *program, *words, "--project", PROJECT, "--store", url, "--json"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # If the tests run in the background, they may ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def start(url: str, file: Path, *options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return command(url, "import", str(file), *OPTIONS, *options)


@contextmanager
def held(url: str, file: Path, state: State, calls: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start an import, and wait until it is held."""
    with command(url, "import", str(file), *OPTIONS, *options, program=held_program(state, calls)) as process:
        wait_until_held(process)
        yield process


def progress(url: str, file: Path) -> dict[str, Any]:
    """Return the progress of the import of the file, as it is committed."""
    with closing(open_store(url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        text = store.job(project.number, str(file.resolve()))
    assert text is not None
    found: dict[str, Any] = json.loads(text)
    return found


def stored(url: str) -> dict[int, Decimal]:
    with closing(open_store(url)) as store, store.snapshot(PROJECT) as snapshot:
        users = [json.loads(row[1], parse_float=Decimal) | {"cuid": row[0]} for page in snapshot.pages() for row in page]
    return {user["cuid"]: Decimal(user["user_number_accumulate"]) for user in users if "user_number_accumulate" in user}


def check_histories(url: str, cuids: Iterable[int]) -> None:
    """Check that each imported row is a change of its user, and nothing else is."""
    with closing(open_store(url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        for cuid in cuids:
            check_history(store, project.number, cuid, project.schema)


def test_killed_in_every_state_every_row_counts_once(kept_url: str, tmp_path: Path) -> None:
    prepared(kept_url)
    rows = 4000
    file, sums, refused = crm(tmp_path, rows)
    rejects = tmp_path / "crm.rejects.csv"
    committed = 0
    for turn in range(2):
        for state in State:
            # Each commits one to three batches, of at least 20.
            options = ["--resume"] if turn or state is not State.BEFORE_A_TRANSACTION else []
            with held(kept_url, file, state, 4, *options):
                pass
            before, committed = committed, progress(kept_url, file)["rows"]
            assert before < committed < rows
            if state is State.IN_A_TRANSACTION:
                assert rejects.stat().st_size > progress(kept_url, file)["rejects"]
    with start(kept_url, file, "--resume") as process:
        out, err = process.communicate(timeout=150)
    assert process.returncode == 1, err
    assert out, err
    found = json.loads(out)
    assert (found["rows"], found["refused"]) == (rows, refused)
    assert stored(kept_url) == sums
    check_histories(kept_url, list(sums)[:300])
    with rejects.open(newline="") as stream:
        numbers = [int(row["#row"]) for row in csv.DictReader(stream)]
    assert len(numbers) == refused
    assert numbers == sorted(set(numbers))


def test_an_import_beside_a_server_disturbs_nobody(kept_url: str, tmp_path: Path) -> None:
    cuids = prepared(kept_url)
    file, sums, _ = crm(tmp_path, 4000)
    server = ServerProcess(kept_url, tmp_path)
    with load([server], cuids, 4) as clients, start(kept_url, file) as process:
        out, err = process.communicate(timeout=150)
        wait_for_more(clients, 20)
    assert json.loads(out)["rows"] == 4000, err
    first = next(iter(sums))
    with server.client() as client:
        # The server sees at once what the import reported, and the users it created.
        body = {"cuid": first, "data": {"user_number_accumulate": 1}}
        answer = client.put("/smartop/api/v1/user/attribute", json=body)
        deleted = client.delete(f"/api/v1/projects/{PROJECT}/attributes/user_string_overwrite")
    assert server.stop() == 0
    assert answer.json() == {"code": 0, "msg": "ok"}
    assert deleted.status_code == 409
    check_sums(kept_url, cuids, clients, 20)
    sums[first] += 1
    assert {cuid: total for cuid, total in stored(kept_url).items() if cuid < 3000} == sums
    check_histories(kept_url, list(sums)[:300])


def test_an_import_and_a_server_write_the_same_users_and_history_has_both(kept_url: str, tmp_path: Path) -> None:
    cuids = create_project(kept_url, users=5)
    file = tmp_path / "scores.csv"
    rounds = 400
    rows = "".join(f"{cuid},{turn}\n" for turn in range(rounds) for cuid in cuids)
    file.write_text(f"cuid,user_number_overwrite\n{rows}")
    server = ServerProcess(kept_url, tmp_path)
    with load([server], cuids, 4) as clients:
        wait_for_more(clients, 20)
        # Small batches, so that many transactions meet those of the server.
        with command(kept_url, "import", str(file), "--batch", "20") as process:
            out, err = process.communicate(timeout=150)
        wait_for_more(clients, 20)
    assert server.stop() == 0
    assert json.loads(out)["rows"] == rounds * len(cuids), err
    acknowledged = sum((client.acknowledged for client in clients), Counter[int]())
    assert read_sums(kept_url, cuids) == {cuid: acknowledged[cuid] for cuid in cuids}
    with closing(open_store(kept_url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        for cuid in cuids:
            kinds = Counter(change.kind for change in check_history(store, project.number, cuid, project.schema))
            assert kinds == {ChangeKind.CREATED: 1, ChangeKind.IMPORT: rounds, ChangeKind.WRITE: acknowledged[cuid]}


def test_a_commit_whose_answer_is_lost_is_found(monkeypatch: pytest.MonkeyPatch, kept_url: str, tmp_path: Path) -> None:
    from usertable.app.service import Service
    from usertable.domain.errors import StoreDown
    from usertable.files.import_to_store import StoreImport
    from usertable.files.options import ReadOptions

    prepared(kept_url)
    file, sums, _ = crm(tmp_path, 3000)
    with closing(open_store(kept_url)) as store, file.open("rb") as stream:
        transact, calls = store.transact, 0

        def losing(command: Callable[[Transaction], object], *, background: bool) -> object:
            nonlocal calls
            calls += 1
            if calls % 3 == 1:
                raise StoreDown("it cannot be reached")
            result = transact(command, background=background)
            if calls % 3 == 2:
                raise StoreDown("the connection broke during COMMIT")
            return result

        monkeypatch.setattr(store, "transact", losing)
        work = StoreImport(
            Service(store),
            PROJECT,
            stream,
            ReadOptions("csv", rows=100),
            actor=TESTER,
            job="job",
            register=True,
            rejects=tmp_path / "rejects.csv",
            clock=ManualClock().clock,
        )
        with closing(work):
            work.begin("new")
            work.run(lambda state, position: None, lambda rows: None)
    found = stored(kept_url)
    assert {cuid: found[cuid] for cuid in sums} == sums
    assert work.state.rows == 3000


UNFINISHED = """
import time
from usertable.cli import main
from usertable.store.sqlite.snapshot import SQLiteSnapshot

pages = SQLiteSnapshot.pages

def first_page(*arguments, **options):
    yield next(pages(*arguments, **options))
    time.sleep(1000)

SQLiteSnapshot.pages = first_page
main()
"""
"""`usertable`, whose exports stop after their first page until they are ended."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_export_that_is_ended_leaves_what_was_there(tmp_path: Path, ending: str, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    rows = [(cuid, (), '{"user_string_once":"' + f"{cuid}" * 10 + '"}') for cuid in range(1, 5001)]
    with closing(open_store(url)) as store:
        project = store.project(PROJECT)
        assert project is not None
        names = frozenset({"user_string_once"})
        batch = ImportBatch(project.number, project.version, ImportRows.of(rows), names, 0, register=True)
        import_batch(store, batch, decide, lambda taken: "")
    place = tmp_path / "exported"
    place.mkdir()
    target = place / f"users.{ending}"
    target.write_bytes(b"what was there")
    with command(url, "export", "-o", str(target), program=("-c", UNFINISHED)) as process:
        while process.poll() is None and not list(place.glob(".*.part")):
            time.sleep(0.001)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143 if number == signal.SIGTERM else 1, b""), err
    assert b"Traceback" not in err
    assert target.read_bytes() == b"what was there"
    assert list(place.iterdir()) == [target]


def test_an_import_that_is_ended_takes_its_reader_along_and_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url)
    file, sums, refused = crm(tmp_path, READ_ROWS)
    with held(url, file, State.BEFORE_A_TRANSACTION, 4) as process:
        reader = running(process.pid, "reader_process")
        # As a supervisor does, which signals all processes of a unit.
        os.kill(reader, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, b""), err
    assert b"Traceback" not in err
    assert b"Error" not in err
    assert not Path(f"/proc/{reader}").exists()
    with start(url, file, "--resume") as process:
        out, err = process.communicate(timeout=150)
    found = json.loads(out)
    assert (found["rows"], found["refused"]) == (READ_ROWS, refused), err
    assert 0 < found["resumed_after"] < READ_ROWS
    assert stored(url) == sums


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_does_not_end_a_reader_that_is_starting(tmp_path: Path, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url)
    plain, sums, _ = crm(tmp_path, 100)
    # A small file is not read in another process, unless it is compressed.
    file = plain.with_suffix(".csv.gz")
    file.write_bytes(gzip.compress(plain.read_bytes()))
    with start(url, file) as process:
        os.kill(wait_until(lambda: find_running(process.pid, "reader_process")), number)
        out, err = process.communicate(timeout=150)
    assert json.loads(out)["rows"] == 100, err
    assert stored(url) == sums


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGSEGV, b"the process that reads it ended with SIGSEGV; the file may be damaged"),
        (signal.SIGKILL, b"the process that reads it was killed; there may be too little memory"),
    ],
)
def test_a_reader_that_crashes_or_is_killed_ends_the_import_with_the_reason(
    tmp_path: Path, number: signal.Signals, why: bytes
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    prepared(url)
    file, sums, _ = crm(tmp_path, READ_ROWS)
    with held(url, file, State.BEFORE_A_TRANSACTION, 4) as process:
        os.kill(running(process.pid, "reader_process"), number)
        release(process)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b""), err
    assert why in err
    assert b"Traceback" not in err
    with start(url, file, "--resume") as process:
        process.communicate(timeout=150)
    assert stored(url) == sums
