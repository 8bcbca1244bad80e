"""`usertable import` of files from other sources: other dates and numbers, compressed, with gaps; refused rows."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.cli_runner import CliRunner
from usertable.files import reader, reasons
from usertable.files.block import Block
from usertable.files.import_job import ImportJob
from usertable.zstandard import zstd

DECLARED = {"level": "NUMBER", "contact": "STRING", "vip": "BOOL", "seen": "DATETIME", "tags": "LIST"}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Create a project in Berlin with an attribute of each type and the identifier `phone`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    commands = [
        ("project", "create", "demo", "--id", "p", "--timezone", "Europe/Berlin"),
        *(("attribute", "create", name, "--type", data_type, "--rule", "overwrite") for name, data_type in DECLARED.items()),
        ("identifier", "create", "phone"),
    ]
    return CliRunner.after(commands, tmp_path / "users.db", {})


def write(form: str, names: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Write a file with rows of texts; None is an empty cell."""
    file = f"crm.{form}"
    if form == "csv":
        with Path(file).open("w", newline="") as stream:
            csv.writer(stream).writerows([names, *rows])
    elif form == "ndjson":
        Path(file).write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    else:
        columns = zip(*rows, strict=True)
        parquet.write_table(pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)}), file)
    return file


def load(cli: CliRunner, file: str, *options: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli.run("import", file, "--register", "--json", *options, code=code).stdout)
    return found


def users(cli: CliRunner) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli.out("export", "--format", "ndjson").splitlines()]


FORMS = ["csv", "ndjson", "parquet"]


@pytest.fixture(params=[False, True], ids=["row by row", "with Arrow"])
def arrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read row by row, large ones by a process with Arrow."""
    if request.param:
        monkeypatch.setattr(reader, "DIRECT_BYTES", -1)


# what a column is for


@pytest.mark.usefixtures("arrow")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options",
    [("--map", "Phone=phone,contact"), ("--map", "Phone=phone", "--map", "Phone=contact"), ("--map-file", "map.yaml")],
    ids=["a list", "repeated", "a file"],
)
def test_a_column_may_be_for_two_things(cli: CliRunner, form: str, options: tuple[str, ...]) -> None:
    Path("map.yaml").write_text("Phone: [phone, contact]\n")
    file = write(form, ["Phone", "level"], [("0170", "1"), ("0171", None)])
    assert load(cli, file, *options)["created"] == 2
    assert users(cli) == [
        {"cuid": 10000001, "phone": "0170", "level": 1, "contact": "0170"},
        {"cuid": 10000002, "phone": "0171", "contact": "0171"},
    ]


def test_a_number_of_parquet_may_be_the_cuid_and_an_attribute(cli: CliRunner) -> None:
    parquet.write_table(pa.table({"id": pa.array([5.0, 6.0]), "phone": ["a", "b"]}), "crm.parquet")
    assert load(cli, "crm.parquet", "--map", "id=cuid,level")["created"] == 2
    assert [(user["cuid"], user["level"]) for user in users(cli)] == [(5, 5), (6, 6)]


def test_a_column_that_is_for_the_same_twice_is_refused(cli: CliRunner) -> None:
    file = write("csv", ["cuid", "a"], [("1", "x")])
    assert "imported to the same as column [a]" in cli.refused("import", file, "--map", "a=contact,contact")
    assert "column [a]: x is neither cuid nor a declared" in cli.refused("import", file, "--map", "a=contact,x")


# how cells are written


@pytest.mark.usefixtures("arrow")
@pytest.mark.parametrize("form", FORMS)
def test_dates_numbers_and_words_are_read_as_the_options_say(cli: CliRunner, form: str) -> None:
    rows = [
        ("1", "1.234,50", "ja", "31.12.2024 10:00"),
        ("2", "-7", "nein", "1.7.2024"),
        ("3", "1\u00a0234\u00a0567", "TRUE", "01.07.24 08:30"),
        ("4", "0,5", "0", None),
    ]
    file = write(form, ["cuid", "level", "vip", "seen"], rows)
    options = ["--decimal-comma", "--true", "ja", "--false", "nein"]
    for date_format in ("%d.%m.%Y %H:%M", "%d.%m.%Y", "%d.%m.%y %H:%M"):
        options += ["--date-format", date_format]
    assert load(cli, file, *options)["created"] == 4
    assert users(cli) == [
        {"cuid": 1, "level": 1234.5, "vip": True, "seen": "2024-12-31 10:00:00"},
        {"cuid": 2, "level": -7, "vip": False, "seen": "2024-07-01 00:00:00"},
        {"cuid": 3, "level": 1234567, "vip": True, "seen": "2024-07-01 08:30:00"},
        {"cuid": 4, "level": 0.5, "vip": False},
    ]


@pytest.mark.usefixtures("arrow")
@pytest.mark.parametrize("form", FORMS)
def test_cells_in_other_forms_than_the_options_say_are_refused(cli: CliRunner, form: str) -> None:
    rows = [
        ("1", "1.5", None, None),
        ("2", "12.34,5", None, None),
        ("3", None, "yes", None),
        ("4", None, None, "2024-12-31 10:00:00"),
        ("5", None, None, "30.02.2024"),
        # On that day the clocks went from 2:00 to 3:00.
        ("6", None, None, "31.03.2024 02:30"),
        ("7", "2", "1", "31.03.2024 03:30"),
    ]
    file = write(form, ["cuid", "level", "vip", "seen"], rows)
    dates = ("--date-format", "%d.%m.%Y", "--date-format", "%d.%m.%Y %H:%M")
    found = load(cli, file, "--decimal-comma", "--true", "ja", *dates, code=1)
    assert (found["refused"], found["created"]) == (6, 1)
    said = Path("crm.rejects.csv" if form == "csv" else "crm.rejects.ndjson").read_text()
    assert "NUMBER expects a number with a decimal comma, such as 1234,5 or 1.234,5" in said
    assert "BOOL expects one of 0, 1, false, true, FALSE, TRUE, False, True, ja" in said
    assert "DATETIME expects a date and time in the format %d.%m.%Y, %d.%m.%Y %H:%M" in said
    assert "[2024-03-31 02:30:00] of user attribute [seen] does not exist" in said


def test_numbers_of_json_have_no_decimal_comma(cli: CliRunner) -> None:
    Path("crm.ndjson").write_text('{"cuid":1,"level":1.234}\n{"cuid":2,"level":"1.234"}\n')
    load(cli, "crm.ndjson", "--decimal-comma")
    assert [user["level"] for user in users(cli)] == [1.234, 1234]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--date-format", "%H:%M"), "--date-format is '%H:%M'; expected year, month and day"),
        (("--date-format", "%d.%m.%Y %Z"), "not %Z"),
        (("--date-format", "dd.mm.yyyy"), "such as '%d.%m.%Y %H:%M'"),
        (("--true", "x", "--false", "x"), "'x' is given to both --true and --false"),
        (("--default", "level=1", "--default", "level=2"), "--default names the same attribute twice"),
        (("--default", "level="), "--default has an empty value"),
        (("--map", "a=level", "--map", "a="), "column a is both mapped and left out"),
    ],
)
def test_options_that_cannot_be_meant_are_wrong_usage(cli: CliRunner, options: tuple[str, ...], reason: str) -> None:
    Path("crm.csv").write_text("cuid,a\n1,2\n")
    assert reason in cli.misused("import", "crm.csv", *options)


# values that are missing


@pytest.mark.usefixtures("arrow")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("empty", [(), ("--empty", "refuse")], ids=["skip", "refuse"])
def test_a_value_that_a_row_does_not_have_has_a_default(cli: CliRunner, form: str, empty: tuple[str, ...]) -> None:
    file = write(form, ["cuid", "level", "contact"], [("1", "5", "a"), ("2", None, "-"), ("3", "n/a", 'say "x"')])
    defaults = ("--default", "level=7,5", "--default", "contact=no, thanks", "--default", 'tags=["new"]')
    more = ("--default", "vip=nein", "--false", "nein", "--default", "seen=2024-01-01 00:00:00", "--decimal-comma")
    load(cli, file, *defaults, *more, "--null", "n/a", "--null", "-", *empty)
    same = {"vip": False, "seen": "2024-01-01 00:00:00", "tags": ["new"]}
    assert users(cli) == [
        {"cuid": 1, "level": 5, "contact": "a", **same},
        {"cuid": 2, "level": 7.5, "contact": "no, thanks", **same},
        {"cuid": 3, "level": 7.5, "contact": 'say "x"', **same},
    ]


def test_a_default_makes_no_row_of_a_blank_one(cli: CliRunner) -> None:
    Path("crm.csv").write_text("cuid,level\n1,2\n,\n")
    found = load(cli, "crm.csv", "--default", "contact=x")
    assert (found["rows"], found["created"], found["refused"]) == (2, 1, 0)


def test_a_default_that_is_no_value_is_refused_before_the_first_row(cli: CliRunner) -> None:
    file = write("csv", ["cuid"], [("1",)])
    assert "the value [x] of user attribute [level] is invalid" in cli.refused("import", file, "--default", "level=x")
    assert "user attribute [nope] does not exist" in cli.refused("import", file, "--default", "nope=1")
    assert users(cli) == []


# compressed files


def packed(ending: str, content: bytes) -> bytes:
    return gzip.compress(content) if ending == "gz" else zstd.compress(content)


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_compressed_export_is_imported(cli: CliRunner, form: str, ending: str) -> None:
    file = write("csv", ["cuid", "level"], [(str(n), str(n)) for n in range(1, 2001)])
    load(cli, file)
    before = users(cli)
    cli.run("export", "-o", f"out.{form}")
    cli.run("export", "-o", f"out.{form}.{ending}")
    content = Path(f"out.{form}.{ending}").read_bytes()
    assert len(content) < Path(f"out.{form}").stat().st_size / 2
    assert (gzip if ending == "gz" else zstd).decompress(content) == Path(f"out.{form}").read_bytes()
    # The same content gives the same file.
    cli.run("export", "-o", f"again.{form}.{ending}")
    assert Path(f"again.{form}.{ending}").read_bytes() == content
    found = load(cli, f"out.{form}.{ending}")
    assert (found["rows"], found["unchanged"]) == (2000, 2000)
    assert users(cli) == before


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_compressed_file_of_several_members_and_its_refused_rows(cli: CliRunner, ending: str) -> None:
    Path(f"crm.csv.{ending}").write_bytes(packed(ending, b"cuid,level\n1,1\n2,x\n") + packed(ending, b"3,3\n"))
    assert load(cli, f"crm.csv.{ending}", code=1)["created"] == 2
    assert Path("crm.rejects.csv").read_text().splitlines()[1].startswith("2,x,2,")


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_compressed_file_is_resumed_after_the_last_row_that_was_stored(cli: CliRunner, ending: str) -> None:
    rows = b"cuid,level\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(1, 301))
    file = Path(f"crm.csv.{ending}")
    file.write_bytes(packed(ending, rows))
    interrupt(cli, file)
    stored = len(users(cli))
    assert 0 < stored < 300
    # It may have been compressed again.
    file.write_bytes(packed(ending, rows[:1000]) + packed(ending, rows[1000:]))
    found = load(cli, str(file), "--resume", "--batch", "100")
    assert (found["resumed_after"], found["created"]) == (stored, 300)
    assert len(users(cli)) == 300


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_compressed_file_that_is_cut_off_is_refused_before_anything_is_stored(cli: CliRunner, ending: str) -> None:
    rows = b"cuid,level\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(1, 301))
    Path(f"crm.csv.{ending}").write_bytes(packed(ending, rows)[:-20])
    said = cli.refused("import", f"crm.csv.{ending}", "--register")
    assert "but it is not, is damaged or is cut off" in said
    assert users(cli) == []


def test_a_file_that_is_not_compressed_as_its_name_says_is_refused(cli: CliRunner) -> None:
    for ending in ("gz", "zst"):
        Path(f"crm.csv.{ending}").write_text("cuid,level\n1,1\n")
        said = cli.refused("import", f"crm.csv.{ending}")
        assert "but it is not, is damaged or is cut off" in said
    assert "Parquet files are compressed internally" in cli.misused("import", "crm.parquet.gz")
    assert "Parquet files are compressed internally" in cli.misused("export", "-o", "crm.parquet.zst")
    assert "--format is required: crm does not end in" in cli.misused("import", "crm.gz")
    Path("crm.gz").write_bytes(gzip.compress(b"cuid,level\n1,1\n"))
    assert load(cli, "crm.gz", "--format", "csv")["created"] == 1


# refused rows


def test_refused_rows_are_grouped_by_their_reason_at_the_end(cli: CliRunner) -> None:
    cells = ["n/a"] * 1200 + ["-"] * 30 + ["x", "y"] + ["5"] * 10
    file = write("csv", ["cuid", "level", "vip"], [(str(n), c, "1") for n, c in enumerate(cells, start=1)])
    with Path(file).open("a") as stream:
        stream.write("9000,1,maybe\n9001,1\n")
    said = cli.run("import", file, "--register", code=1).stderr.splitlines()
    assert said[-4:-1] == [
        "1,232 rows: the value […] of user attribute [level] is invalid; NUMBER expects a number, or a string that is a"
        " plain number (n/a: 1,200, -: 30, x: 1 and 1 other)",
        "1 row: the value [maybe] of user attribute [vip] is invalid; BOOL expects the integer 0 or 1",
        "1 row: the row cannot be read: it has 2 cells, and the header has 3",
    ]
    Path("crm.rejects.csv").unlink()
    found = load(cli, file, "--dry-run", code=1)["reasons"]
    assert found[0]["rows"] == 1232
    assert found[0]["values"] == {"n/a": 1200, "-": 30, "x": 1}
    assert found[1] == {
        "rows": 1,
        "reason": "the value [maybe] of user attribute [vip] is invalid; BOOL expects the integer 0 or 1",
        "values": {},
    }


def test_more_reasons_than_are_told_are_counted(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "MAXIMUM_REASONS", 3)
    lines = [f'{{"cuid":{n},"unknown_{n}":1}}' for n in range(1, 15)] + [f'{{"cuid":1,"level":"v{n}"}}' for n in range(5)]
    Path("crm.ndjson").write_text("\n".join(lines))
    found = load(cli, "crm.ndjson", code=1)["reasons"]
    assert found[0] == {"rows": 13, "reason": "other reasons", "values": {}}
    assert sum(group["rows"] for group in found) == 19


def test_a_resumed_import_counts_the_reasons_of_all_its_rows(cli: CliRunner) -> None:
    for form, codec in (("csv", "utf-8"), ("csv", "utf-16"), ("ndjson", "utf-8")):
        rows = [f"{n},x,1" if form == "csv" else json.dumps({"cuid": n, "level": "x"}) for n in range(1, 301)]
        head = "cuid,level,vip\n" if form == "csv" else ""
        file = Path(f"{codec}.{form}")
        whole = head + "\n".join(rows)
        file.write_bytes(whole.encode(codec))
        interrupt(cli, file)
        found = load(cli, str(file), "--register", "--batch", "100", "--resume", code=1)
        assert 0 < found["resumed_after"] < 300
        assert [(group["rows"], group["values"]) for group in found["reasons"]] == [(300, {})]


def interrupt(cli: CliRunner, file: Path) -> None:
    """Begin an import that is interrupted after its second batch of a hundred rows."""
    note = ImportJob._note
    batches = 0

    def interrupted(self: ImportJob, block: Block, refused: Sequence[tuple[int, str]]) -> None:
        nonlocal batches
        batches += 1
        note(self, block, refused)
        if batches == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImportJob, "_note", interrupted)
        cli.run("import", str(file), "--register", "--batch", "100", code=1)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_refused_rows_keep_the_number_that_they_had_first(cli: CliRunner, form: str) -> None:
    cells = ["1", "n/a", "3", "x", "y"]
    file = write(form, ["cuid", "level"], [(str(n), cell) for n, cell in enumerate(cells, start=1)])
    load(cli, file, code=1)
    rejected = Path(f"crm.rejects.{form}")
    # One of them is fixed; the others are refused again, with their row numbers in the first file.
    mended = {"csv": ("2,n/a", "2,2"), "ndjson": ('"level": "n/a"', '"level": 2')}[form]
    rejected.write_text(rejected.read_text().replace(*mended))
    dry = cli.run("import", str(rejected), "--register", "--dry-run", code=1).stderr
    assert "row 2: cuid 2: level=2" in dry
    assert "row 4: rejected: the value [x]" in dry
    assert "\nrow 5: the value [y]" in dry
    again = load(cli, str(rejected), code=1)
    assert (again["created"], again["refused"]) == (1, 2)
    left = Path(f"crm.rejects.rejects.{form}").read_text()
    numbers = (
        [int(row["#row"]) for row in csv.DictReader(left.splitlines())]
        if form == "csv"
        else [json.loads(line)["#row"] for line in left.splitlines()]
    )
    assert numbers == [4, 5]
