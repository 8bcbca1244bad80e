"""Parquet with the commands, as a data team uses them: what is named, which rows are written out, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.cli_runner import CliRunner
from support.held_import import State, held_program, wait_until_held
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable.store import open_store


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Create a store with a project, and a file with many special cases, in the current folder."""
    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(store)
    table = {
        "cuid": pa.array([1.0, 2.0, 3.0, 4.0, None], pa.float64()),
        "user_number_accumulate": pa.array([0.1, 0.1, float("nan"), 0.1, 0.1], pa.float32()),
        "user_list_append": pa.array([["a"], None, ["b"], ["c"], ["d"]], pa.large_list(pa.large_string())),
        "user_datetime_once": pa.array([1714564800123456789, None, 0, 0, 0], pa.timestamp("ns")),
        "user_string_once": pa.array([b"\xc3\xa9", b"x", b"y", b"M\xfcller", b"z"], pa.binary()).view(pa.string()),
        "odd": pa.array([{"a": 1}, None, None, None, None]),
    }
    parquet.write_table(pa.table(table), "crm.parquet", row_group_size=2)
    return CliRunner(store, {})


def load(cli: CliRunner, *words: str, code: int) -> dict[str, Any]:
    result = cli.run("import", *words, "--project", PROJECT, "--register", "--json", code=code)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def attributes(cli: CliRunner) -> dict[int, dict[str, Any]]:
    with closing(open_store(cli.url)) as store, store.snapshot(PROJECT) as snapshot:
        return {row[0]: json.loads(row[1], parse_float=Decimal) for page in snapshot.pages() for row in page}


def total(cli: CliRunner) -> Decimal:
    return sum((values["user_number_accumulate"] for values in attributes(cli).values()), Decimal(0))


EXPECTED = {
    1: {
        "user_number_accumulate": Decimal("0.1"),
        "user_list_append": ["a"],
        # 12:00 in Shanghai.
        "user_datetime_once": 1714536000123,
        "user_string_once": "é",
    },
    2: {"user_number_accumulate": Decimal("0.1"), "user_string_once": "x"},
}


def test_good_rows_are_stored_and_odd_ones_handed_back_until_they_are_mended(cli: CliRunner) -> None:
    found = load(cli, "crm.parquet", "--map", "odd=", code=1)
    assert (found["created"], found["refused"], found["moments_cut"]) == (2, 3, 1)
    assert attributes(cli) == EXPECTED
    rows = [json.loads(line) for line in Path("crm.rejects.ndjson").read_text().splitlines()]
    assert [row["#row"] for row in rows] == [3, 4, 5]
    assert "[NaN]" in rows[0]["#reason"]
    assert "0xFC, which is not UTF-8" in rows[1]["#reason"]
    assert "neither a cuid nor an identifier value" in rows[2]["#reason"]
    # Unchanged, they are refused again.
    Path("crm.rejects.ndjson").rename("again.ndjson")
    assert load(cli, "again.ndjson", code=1)["refused"] == 3
    line = json.loads(rows[1]["#line"].replace("\\xfc", "ü"))
    mended = [rows[0] | {"user_number_accumulate": 1}, line, rows[2] | {"cuid": 5}]
    Path("mended.ndjson").write_text("".join(json.dumps(row) + "\n" for row in mended))
    assert load(cli, "mended.ndjson", code=0)["created"] == 3
    assert attributes(cli)[4]["user_string_once"] == "Müller"
    assert attributes(cli)[3] == {
        "user_number_accumulate": 1,
        "user_list_append": ["b"],
        "user_datetime_once": -28_800_000,
        "user_string_once": "y",
    }


def test_through_the_api_it_comes_to_the_same(cli: CliRunner, tmp_path: Path) -> None:
    server = ServerProcess(cli.url, tmp_path)
    away = CliRunner("sqlite:////nowhere/there-is-no-such-store.db", {"USERTABLE_SECRET": SECRET})
    found = load(away, "crm.parquet", "--map", "odd=", "--url", server.url, code=1)
    assert (found["created"], found["refused"], found["moments_cut"]) == (2, 3, 1)
    assert server.stop() == 0
    assert attributes(cli) == EXPECTED


def test_a_column_that_cannot_be_taken_is_named_in_one_sentence(cli: CliRunner) -> None:
    parquet.write_table(pa.table({"cuid": [1], "user_list_append": [[1]]}), "bad.parquet")
    refused = cli.refused("import", "bad.parquet", "--project", PROJECT, "--register")
    assert refused == (
        "column [user_list_append]: it contains values of the type list<element: int64>, and user_list_append is a LIST,"
        " which takes lists of strings, or strings that are JSON arrays; or leave the column out with"
        " --map 'user_list_append='"
    )
    assert attributes(cli) == {}


def test_killed_in_every_state_every_row_of_a_parquet_counts_once(cli: CliRunner, tmp_path: Path) -> None:
    chance = random.Random(5)
    rows = 6000
    cuids = [chance.randrange(1, 500) for _ in range(rows)]
    floats = [float("nan") if chance.random() < 0.03 else 0.1 for _ in range(rows)]
    table = {"cuid": pa.array(cuids, pa.float64()), "user_number_accumulate": pa.array(floats, pa.float32())}
    parquet.write_table(pa.table(table), "many.parquet", row_group_size=1000)
    # The only command line that a supervisor has.
    words = ["import", "many.parquet", "--project", PROJECT, "--store", cli.url, "--register", "--batch", "200"]
    words += ["--resume", "--json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    sums = []
    for state in State:
        command = [sys.executable, *held_program(state, 4), *words]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            wait_until_held(process)
            process.kill()
        sums.append(total(cli))
    assert sums == sorted(set(sums))
    done = subprocess.run([sys.executable, "-m", "usertable", *words], env=environment, stdout=subprocess.PIPE)
    bad = sum(value != value for value in floats)
    found = json.loads(done.stdout)
    assert (found["rows"], found["refused"]) == (rows, bad)
    assert found["resumed_after"] < rows
    lines = Path("many.rejects.ndjson").read_bytes().splitlines()
    numbers = [json.loads(line)["#row"] for line in lines]
    assert numbers == [place for place, value in enumerate(floats, start=1) if value != value]
    assert total(cli) == (rows - bad) * Decimal("0.1")


def test_an_export_for_excel_begins_with_a_mark_and_is_imported_as_well(cli: CliRunner, tmp_path: Path) -> None:
    Path("one.csv").write_text("cuid,user_string_once\n1,张伟\n")
    cli.run("import", "one.csv", "--project", PROJECT, "--register")
    cli.run("export", "--project", PROJECT, "--bom", "-o", "users.csv")
    assert Path("users.csv").read_bytes().startswith(b"\xef\xbb\xbfcuid,")
    assert cli.out("export", "--project", PROJECT, "--bom").startswith("\ufeffcuid,")
    assert cli.out("export", "--project", PROJECT).startswith("cuid,")
    assert load(cli, "users.csv", code=0)["unchanged"] == 1
    assert "--bom applies to CSV" in cli.misused("export", "--project", PROJECT, "--bom", "-o", "users.parquet")
