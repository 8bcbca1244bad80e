"""`usertable import` and `usertable export`, as their users would use them."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.actors import TESTER
from support.cli_runner import CliRunner
from support.store_harness import StoreHarness
from usertable.files.rejects import Rejects
from usertable.store import open_store
from usertable.store.encoding import decode_attributes

DECLARED = {
    "level": "NUMBER overwrite",
    "spent": "NUMBER accumulate",
    "name": "STRING overwrite",
    "vip": "BOOL overwrite",
    "seen": "DATETIME once",
    "tags": "LIST append",
}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Create a store with the project `p`, some attributes and the identifiers `phone` and `device`, in the current
    folder."""
    monkeypatch.chdir(tmp_path)
    commands: list[Sequence[str]] = [("project", "create", "demo", "--id", "p")]
    for name, form in DECLARED.items():
        data_type, rule = form.split()
        commands.append(("attribute", "create", name, "--project", "p", "--type", data_type, "--rule", rule))
    commands.append(("identifier", "create", "phone", "--project", "p"))
    commands.append(("identifier", "create", "device", "--no-unique", "--project", "p"))
    return CliRunner.after(commands, tmp_path / "users.db", {})


def load(cli: CliRunner, file: str, *options: str, code: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
    """Import a file. Return the command's answer."""
    result = cli.run("import", file, "--project", "p", "--json", *options, code=code, stdin=stdin)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def user(cli: CliRunner, cuid: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli.out("user", "get", str(cuid), "--project", "p", "--json"))["attributes"]
    return found


def table(cli: CliRunner, *options: str) -> list[dict[str, Any]]:
    """Return the user table, from an export."""
    lines = cli.out("export", "--project", "p", "--format", "ndjson", *options).splitlines()
    return [json.loads(line, parse_float=Decimal) for line in lines]


def rejects(file: str) -> list[dict[str, str]]:
    with Path(file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


CRM = """cuid,phone,level,spent,name,vip,seen,tags
1,p1,1.50,0.1,"a ""quote""
and a line",1,2023-12-12 00:56:23,"[""x"",""y""]"
2,p2,,,,false,,
,p3,7,2,=1+1,true,,[]
1,,,0.2,,,2024-01-01 00:00:00,"[""y"",""z""]"
"""


def check_crm(cli: CliRunner) -> None:
    assert table(cli) == [
        {
            "cuid": 1,
            "phone": "p1",
            "level": Decimal("1.5"),
            "spent": Decimal("0.3"),
            "name": 'a "quote"\nand a line',
            "vip": True,
            "seen": "2023-12-12 00:56:23",
            "tags": ["x", "y", "z"],
        },
        {"cuid": 2, "phone": "p2", "vip": False},
        {"cuid": 10000001, "phone": "p3", "level": 7, "spent": 2, "name": "=1+1", "vip": True},
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_is_imported(cli: CliRunner, encoding: str) -> None:
    Path("crm.csv").write_bytes(CRM.encode(encoding))
    assert load(cli, "crm.csv", "--register") == {
        "rows": 4,
        "created": 3,
        "changed": 1,
        "unchanged": 0,
        "refused": 0,
        "moments_cut": 0,
        "rejects": None,
        "resumed_after": 0,
        "dry_run": False,
        "reasons": [],
    }
    check_crm(cli)


def test_an_ndjson_from_stdin_is_imported(cli: CliRunner) -> None:
    rows: list[dict[str, object]] = [
        {"cuid": 1, "phone": "p1", "level": 1.50, "spent": "0.1", "name": 'a "quote"\nand a line', "vip": 1},
        {"cuid": "2", "phone": "p2", "vip": False, "level": None, "name": "", "tags": []},
        {"phone": "p3", "level": 7, "spent": 2, "name": "=1+1", "vip": True},
        {"cuid": 1, "spent": 0.2, "seen": "2023-12-12 00:56:23", "tags": ["x", "y"]},
        {"cuid": 1, "seen": "2024-01-01 00:00:00", "tags": ["y", "z"]},
    ]
    body = "\n".join(json.dumps(row) for row in rows).encode() + b"\n\n"
    assert load(cli, "-", "--format", "ndjson", "--register", stdin=body)["refused"] == 0
    check_crm(cli)


def test_a_parquet_is_imported(cli: CliRunner) -> None:
    moment = datetime(2023, 12, 11, 16, 56, 23, tzinfo=UTC)
    columns = {
        "cuid": pa.array([1, 2, None, 1], pa.int64()),
        "phone": pa.array(["p1", "p2", "p3", None]).dictionary_encode(),
        "level": pa.array([1.5, None, 7.0, None], pa.float64()),
        "spent": pa.array([Decimal("0.10"), None, Decimal("2.00"), Decimal("0.20")], pa.decimal128(10, 2)),
        "name": pa.array(['a "quote"\nand a line', None, "=1+1", ""], pa.large_string()),
        "vip": pa.array([True, False, True, None]),
        "seen": pa.array([moment, None, None, moment], pa.timestamp("us", "UTC")),
        "tags": pa.array([["x", "y"], None, [], ["y", "z"]], pa.list_(pa.string())),
    }
    parquet.write_table(pa.table(columns), "crm.parquet", row_group_size=3)
    assert load(cli, "crm.parquet", "--register")["refused"] == 0
    check_crm(cli)
    stdin = Path("crm.parquet").read_bytes()
    assert load(cli, "-", "--format", "parquet", "--dry-run", stdin=stdin)["changed"] == 3


def test_a_byte_of_another_encoding_refuses_its_row(cli: CliRunner) -> None:
    Path("crm.csv").write_bytes(b"cuid,name\n1,ok\n" + b"2,\xd5\xc5\n3,ok\n")
    found = load(cli, "crm.csv", "--register", "--encoding", "utf-8", code=1)
    assert (found["created"], found["refused"]) == (2, 1)
    kept = Path("crm.rejects.csv").read_bytes().splitlines()[1]
    assert kept.startswith(b"2,\xd5\xc5,2,")
    assert b"the byte 0xD5 is not utf-8; name the file's encoding with --encoding" in kept


def test_refused_rows_are_handed_back_and_imported_when_mended(cli: CliRunner) -> None:
    Path("crm.csv").write_text(
        'cuid,level,name,spent\n1,abc,x,1\n2,1,y,1\n3,1\n4,1,z,1,extra\n,1,z,1\n0,1,z,1\n9,"1"2,z,1\n7,2,v,1\n', newline=""
    )
    found = load(cli, "crm.csv", "--register", code=1)
    assert (found["rows"], found["created"], found["refused"], found["rejects"]) == (8, 2, 6, "crm.rejects.csv")
    kept = rejects("crm.rejects.csv")
    reasons = {row["#row"]: row["#reason"] for row in kept}
    assert "the value [abc] of user attribute [level] is invalid" in reasons["1"]
    assert "it has 2 cells, and the header has 4" in reasons["3"]
    assert "neither a cuid nor an identifier value" in reasons["5"]
    assert "cuid [0] is invalid" in reasons["6"]
    assert "expected after" in reasons["7"]
    text = Path("crm.rejects.csv").read_text()
    mended = [line for line in text.replace("1,abc", "1,5").splitlines() if line.startswith(("cuid", "1,"))]
    Path("mended.csv").write_text("\n".join(mended))
    assert load(cli, "mended.csv", "--register")["created"] == 1
    assert user(cli, 1) == {"level": 5, "name": "x", "spent": 1}


def test_refused_lines_of_ndjson_keep_their_text(cli: CliRunner) -> None:
    lines = [
        '{"cuid":1,"level":1.000}',
        '{"cuid":2,"level":1e400}',
        '{"cuid":3',
        '{"cuid":4,"cuid":5}',
        '{"cuid":6,"color":"red"}',
    ]
    Path("crm.ndjson").write_text("\n".join(lines))
    assert load(cli, "crm.ndjson", "--register", code=1)["refused"] == 4
    kept = Path("crm.rejects.ndjson").read_text().splitlines()
    assert kept[0].endswith('"cuid":2,"level":1e400}')
    assert json.loads(kept[1])["#line"] == '{"cuid":3'
    assert "repeated" in json.loads(kept[2])["#reason"]
    assert "neither cuid nor a declared attribute or identifier" in json.loads(kept[3])["#reason"]
    Path("again.ndjson").write_text("\n".join([kept[1], kept[0].replace("1e400", "2")]))
    assert load(cli, "again.ndjson", "--register", code=1)["created"] == 1
    assert user(cli, 2) == {"level": 2}


def test_columns_are_mapped(cli: CliRunner) -> None:
    Path("crm.csv").write_text("Kunde;Telefon;Umsatz;Alt\n1;p1;12,50;x\n2;p2;3;y\n")
    options = ("--register", "--delimiter", ";", "--map", "Kunde=cuid", "--map", "Telefon=phone", "--map", "Alt=")
    assert "column [Umsatz]: Umsatz is neither cuid nor" in cli.refused("import", "crm.csv", "--project", "p", *options)
    assert "there is no" not in cli.refused("import", "crm.csv", "--project", "p", *options)
    found = load(cli, "crm.csv", *options, "--map", "Umsatz=spent", code=1)
    assert (found["created"], found["refused"]) == (1, 1)
    Path("map.yaml").write_text("Kunde: cuid\nTelefon: identifier:phone\nUmsatz: attribute:spent\nAlt:\n")
    found = load(cli, "crm.csv", "--delimiter", ";", "--map-file", "map.yaml", "--rejects", "r.csv", code=1)
    assert (found["changed"], found["refused"]) == (1, 1)
    assert user(cli, 2) == {"spent": 6}
    Path("twice.csv").write_text("cuid,level,Level\n")
    assert "imported to the same as column [level]" in cli.refused(
        "import", "twice.csv", "--project", "p", "--map", "Level=level"
    )
    Path("nobody.csv").write_text("level\n1\n")
    assert "no column is the cuid or an identifier" in cli.refused("import", "nobody.csv", "--project", "p")


def test_empty_cells_and_separators(cli: CliRunner) -> None:
    Path("crm.csv").write_text("cuid,level,tags\n1,NULL,x|y|x\n2,5,\n")
    assert load(cli, "crm.csv", "--register", "--null", "NULL", "--list-separator", "|")["created"] == 2
    assert [user(cli, 1), user(cli, 2)] == [{"tags": ["x", "y"]}, {"level": 5}]
    found = load(cli, "crm.csv", "--empty", "refuse", "--list-separator", "|", code=1)
    assert found["refused"] == 2
    assert "must not be empty" in rejects("crm.rejects.csv")[1]["#reason"]


def test_a_cell_that_is_no_array_is_told_the_option_for_separators(cli: CliRunner) -> None:
    Path("crm.csv").write_text('cuid,tags\n1,x|y\n2,"[""x"",""y"""\n3,"[""x""]"\n4,[]\n5,null\n6,"[1]"\n')
    assert load(cli, "crm.csv", "--register", code=1)["refused"] == 3
    told = "expects a JSON array of strings; for elements separated by a character, use --list-separator"
    reasons = {row["cuid"]: row["#reason"] for row in rejects("crm.rejects.csv")}
    assert [cuid for cuid, reason in reasons.items() if told in reason] == ["1", "2"]
    assert reasons["6"].endswith("LIST expects an array of strings")


def test_a_masked_value_becomes_no_user(cli: CliRunner) -> None:
    cli.run("identifier", "edit", "phone", "--project", "p", "--masked")
    # As shown in a list of users, and in the console's file; the last one is not masked.
    Path("crm.csv").write_text("phone,level\n1380*******,1\n+861**********,2\n'+861**********,3\n13800000001,3\n1380,4\n")
    assert load(cli, "crm.csv", "--register", code=1)["refused"] == 3
    assert {row["#reason"] for row in rejects("crm.rejects.csv")} == {
        "parameter [phone] is invalid; expected the whole value, and this one is masked;"
        " `usertable export` writes whole values"
    }
    assert [row["phone"] for row in table(cli)] == ["13800000001", "1380"]
    # Without masking, asterisks are characters like any others.
    Path("more.csv").write_text("phone,device\n13800000001,1380*******\n")
    load(cli, "more.csv", "--register")


def test_a_dry_run_shows_and_keeps_nothing(cli: CliRunner) -> None:
    Path("crm.csv").write_text(CRM + "5,,abc,,,,,\n")
    result = cli.run("import", "crm.csv", "--project", "p", "--register", "--dry-run", code=1)
    assert "5 rows: 3 users would be created, 1 would be changed, 0 unchanged, 1 would be rejected" in result.stdout
    assert 'row 1: cuid 1: level=1.5, spent=0.1, name=a "quote"\\nand a line, vip=true' in result.stderr
    assert "row 4: cuid 1: level=1.5, spent=0.3" in result.stderr
    assert "row 5: the value [abc] of user attribute [level] is invalid" in result.stderr
    assert table(cli) == []
    assert not Path("crm.rejects.csv").exists()


def test_without_register_unknown_users_are_refused(cli: CliRunner) -> None:
    Path("crm.csv").write_text("phone,level\np1,1\n")
    assert load(cli, "crm.csv", code=1)["refused"] == 1
    assert "cuid [phone=p1] does not exist" in rejects("crm.rejects.csv")[0]["#reason"]
    assert "already exists; move it" in cli.refused("import", "crm.csv", "--project", "p", "--register")
    assert load(cli, "crm.csv", "--register", "--rejects", "other.csv")["created"] == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", b"", "it is empty"),
        ("cut.parquet", b"PAR1 and no more", "it is not a complete Parquet file"),
        ("x.csv", "姓名,cuid\n".encode("gbk"), "line 1 is not UTF-8"),
        ("not.csv", b'"cuid\n1', "unexpected end of data"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_stored(cli: CliRunner, name: str, content: bytes, reason: str) -> None:
    Path(name).write_bytes(content)
    assert reason in cli.refused("import", name, "--project", "p", "--register")
    assert table(cli) == []


def test_a_truncated_parquet_is_refused(cli: CliRunner) -> None:
    parquet.write_table(pa.table({"cuid": list(range(1, 5000))}), "whole.parquet")
    whole = Path("whole.parquet").read_bytes()
    Path("cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert "it is not a complete Parquet file" in cli.refused("import", "cut.parquet", "--project", "p", "--register")
    assert table(cli) == []


def test_an_interrupted_import_must_be_resumed_or_restarted(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    from usertable.store.sqlite import SQLiteStore

    Path("crm.csv").write_text("cuid,spent\n" + "".join(f"{1 + n % 7},1\n" for n in range(100)) + "8,x\n9,1\n")
    transact = SQLiteStore.transact
    batches = 0

    def failing(self: SQLiteStore, command: Any, *, background: bool = False) -> Any:
        nonlocal batches
        batches += background
        if background and batches == 6:
            raise OSError(28, "No space left on device")
        return transact(self, command, background=background)

    command = ("import", "crm.csv", "--project", "p", "--register", "--batch", "10")
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStore, "transact", failing)
        assert "No space left on device" in cli.run(*command, code=1).stderr
    assert "it was interrupted after row 40; resume it with --resume" in cli.refused(*command)
    assert "with other options" in cli.refused(*command, "--resume", "--empty", "refuse")
    changed = Path("crm.csv").read_text().replace("1,1", "1,2", 1)
    Path("other.csv").write_text(changed)
    job = str(Path("crm.csv").resolve())
    assert (
        "its first 40 rows are not those imported before"
        in cli.run(
            *("import", "other.csv", "--project", "p", "--register", "--batch", "10", "--resume", "--job", job), code=1
        ).stderr
    )
    found = load(cli, "crm.csv", "--register", "--resume", "--batch", "7", code=1)
    assert (found["rows"], found["created"], found["refused"], found["resumed_after"]) == (102, 8, 1, 40)
    assert sum(row["spent"] for row in table(cli)) == 101
    assert load(cli, "crm.csv", "--register", "--resume")["rows"] == 102
    assert sum(row["spent"] for row in table(cli)) == 101


def test_refused_rows_of_a_batch_that_was_not_committed_do_not_count(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("crm.csv").write_text("cuid,spent\n1,x\n2,1\n")
    keep = Rejects.keep

    def failing(self: Rejects, *arguments: Any) -> int:
        keep(self, *arguments)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Rejects, "keep", failing)
        cli.run("import", "crm.csv", "--project", "p", "--register", code=1)
    assert Path("crm.rejects.csv").exists()
    assert table(cli) == []
    assert load(cli, "crm.csv", "--register", "--resume", code=1)["rows"] == 2
    assert [row["#row"] for row in rejects("crm.rejects.csv")] == ["1"]


def test_a_schema_that_changes_meanwhile_is_taken_up(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    from usertable.store.sqlite import SQLiteStore

    Path("crm.csv").write_text("cuid,spent\n" + "".join(f"{1 + n % 7},1\n" for n in range(100)))
    transact = SQLiteStore.transact
    batches = 0

    def meanwhile(self: SQLiteStore, command: Any, *, background: bool = False) -> Any:
        nonlocal batches
        batches += background
        if background and batches == 4:
            with closing(open_store(cli.url)) as store:
                StoreHarness(store).service.edit_attribute("p", "spent", display_name="Spent", actor=TESTER)
        return transact(self, command, background=background)

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStore, "transact", meanwhile)
        assert load(cli, "crm.csv", "--register", "--batch", "10")["rows"] == 100
    assert sum(row["spent"] for row in table(cli)) == 100


def test_an_export_is_filtered(cli: CliRunner) -> None:
    Path("crm.csv").write_text(CRM)
    load(cli, "crm.csv", "--register")
    cli.run("attribute", "hide", "vip", "--project", "p")
    assert table(cli, "--where", "level:ge:2", "--attributes", "level,spent") == [
        {"cuid": 10000001, "phone": "p3", "level": 7, "spent": 2}
    ]
    assert all("vip" not in row for row in table(cli))
    assert all("vip" in row for row in table(cli, "--hidden"))
    assert cli.out("export", "--project", "p", "--attribute", "name", "--where", "name:set").splitlines()[0] == (
        "cuid,phone,device,name"
    )
    assert "color" in cli.refused("export", "--project", "p", "--attribute", "color")
    assert "condition" in cli.refused("export", "--project", "p", "--where", "level:like:3")
    assert "does not exist" in cli.refused("export", "--project", "q")


def test_an_export_finds_a_value_with_a_comma_among_several(cli: CliRunner) -> None:
    Path("crm.csv").write_text('cuid,name\n1,"Washington, D.C."\n2,Paris\n3,Washington\n')
    load(cli, "crm.csv", "--register")
    found = table(cli, "--where", 'name:in:"Washington, D.C.",Paris', "--attributes", "name")
    assert [row["name"] for row in found] == ["Washington, D.C.", "Paris"]
    told = cli.refused("export", "--project", "p", "--where", "name:in:Washington, D.C.,Paris")
    assert 'put a value that contains a comma in double quotes, as in "Washington, D.C.",Paris' in told


def test_an_export_is_there_whole_or_not_at_all(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("crm.csv").write_text(CRM)
    load(cli, "crm.csv", "--register")
    Path("out.csv").write_text("what was there before")
    Path("crm.csv").unlink()
    assert cli.out("export", "--project", "p", "-o", "out.csv") == "3 users written to out.csv\n"
    whole = Path("out.csv").read_text()
    from usertable.files.writers import ndjson as module

    def failing(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.NDJSONWriter, "write", failing)
    Path("out.csv").write_text("before")
    assert "No space left" in cli.refused("export", "--project", "p", "--format", "ndjson", "-o", "out.csv")
    assert Path("out.csv").read_text() == "before"
    assert sorted(path.name for path in Path.cwd().iterdir() if "users.db" not in path.name) == ["out.csv"]
    assert whole.startswith("cuid,")


def test_formulas_are_exported_as_they_are_or_escaped(cli: CliRunner) -> None:
    Path("crm.csv").write_text("cuid,level,name\n1,-1,=1+1\n2,1,@x\n3,1,plain\n")
    load(cli, "crm.csv", "--register")
    columns = ("--attributes", "level,name")
    assert [line.rsplit(",", 1)[1] for line in cli.out("export", "--project", "p", *columns).splitlines()] == [
        "name",
        "=1+1",
        "@x",
        "plain",
    ]
    escaped = cli.out("export", "--project", "p", *columns, "--escape-formulas").splitlines()
    assert [line.rsplit(",", 3)[1:] for line in escaped] == [
        ["level", "name", "#escaped"],
        ["-1", "'=1+1", ""],
        ["1", "'@x", ""],
        ["1", "plain", ""],
    ]
    Path("escaped.csv").write_text("\n".join(escaped))
    told = cli.refused("import", "escaped.csv", "--project", "p", "--register", "--map", "#escaped=")
    assert "its texts are escaped for spreadsheets; import a file written by `usertable export` without" in told


def test_parquet_has_types(cli: CliRunner) -> None:
    Path("crm.csv").write_text(CRM)
    load(cli, "crm.csv", "--register")
    cli.run("export", "--project", "p", "-o", "out.parquet")
    found = parquet.read_table("out.parquet")
    assert [str(field.type) for field in found.schema] == [
        "int64",
        "string",
        "list<element: string>",
        "decimal128(38, 18)",
        "decimal128(38, 18)",
        "string",
        "bool",
        "timestamp[ms, tz=UTC]",
        "list<element: string>",
    ]
    assert found["spent"].to_pylist() == [Decimal("0.3"), None, Decimal(2)]
    assert found["seen"][0].as_py() == datetime(2023, 12, 11, 16, 56, 23, tzinfo=UTC)
    Path("crm.csv").write_text("cuid,level\n1,0.12345678901234567890\n")
    load(cli, "crm.csv", "--job", "second")
    result = cli.run("export", "--project", "p", "-o", "out.parquet")
    assert "stored as text, because DECIMAL(38, 18) cannot hold all their values: level" in result.stderr
    assert parquet.read_table("out.parquet")["level"].to_pylist() == ["0.1234567890123456789", None, "7"]


def test_an_export_takes_no_other_place_than_a_files(cli: CliRunner) -> None:
    Path("crm.csv").write_text(CRM)
    load(cli, "crm.csv", "--register")
    os.mkfifo("pipe")
    Path("kept.csv").touch()
    Path("link.csv").symlink_to("kept.csv")
    for place in ("pipe", "."):
        assert "is not a regular file" in cli.misused("export", "--project", "p", "--format", "csv", "-o", place)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
    cli.run("export", "--project", "p", "-o", "link.csv")
    assert Path("link.csv").is_symlink()
    assert Path("kept.csv").read_text().startswith("cuid,")


def test_without_pyarrow_the_error_says_how_to_get_it(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = cli.refused("export", "--project", "p", "--format", "parquet")
    assert told == "Parquet needs pyarrow; install it with: pip install 'usertable[parquet]'"


def test_misuse_is_told(cli: CliRunner) -> None:
    assert "--format is required" in cli.misused("import", "crm.txt", "--project", "p")
    assert "one of them" in cli.misused("import", "crm.csv", "--project", "p", "--resume", "--restart")
    assert "expected one character" in cli.misused("import", "crm.csv", "--project", "p", "--delimiter", "ab")
    assert "both mapped and left out" in cli.misused(
        "import", "crm.csv", "--project", "p", "--map", "a=level", "--map", "a="
    )
    assert "crm.csv: No such file or directory" in cli.refused("import", "crm.csv", "--project", "p")
    assert "applies to CSV" in cli.misused("export", "--project", "p", "--format", "ndjson", "--escape-formulas")


MOMENTS = {
    "2024-05-01 12:00:00": 0,
    "2024-05-01T12:00:00": 0,
    "2024-05-01 12:00:00.123": 123,
    "2024-05-01 12:00:00.5": 500,
    "2024-05-01T04:00:00Z": 0,
    "2024-05-01 04:00:00+00": 0,
    "2024-05-01 12:00:00+08": 0,
    "2024-05-01 12:00:00+0800": 0,
    "2024-05-01 12:00:00.120000+08:00": 120,
    "2024-05-01 12:00:00.123456": 123,
    "2024-04-30T23:00:00.000999999-05": 0,
}
"""Forms of times near noon in Shanghai, and the milliseconds of each. The last two have a higher precision."""


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("alike", [True, False])
def test_a_moment_is_read_in_the_forms_that_others_write(cli: CliRunner, form: str, alike: bool) -> None:
    rows = list(enumerate(MOMENTS, start=1))
    # A mistake in one row must not change how the others are read.
    wrong = [] if alike else ["2024-05-01", "2024-05-01 12:00:00 +08", "2024-05-01 12:00:00+24", "2024-02-30T12:00:00"]
    cells = [*rows, *((100 + n, text) for n, text in enumerate(wrong))]
    if form == "csv":
        content = "cuid,seen\n" + "".join(f"{n},{text}\n" for n, text in cells)
    else:
        content = "".join(json.dumps({"cuid": n, "seen": text}) + "\n" for n, text in cells)
    Path(f"crm.{form}").write_text(content)
    found = load(cli, f"crm.{form}", "--register", code=1 if wrong else 0)
    assert (found["created"], found["refused"], found["moments_cut"]) == (len(MOMENTS), len(wrong), 2)
    noon = 1_714_536_000_000
    kept = [decode_attributes(row[1])["seen"] for row in stored(cli)]
    assert kept == [noon + ms for ms in MOMENTS.values()]
    if wrong:
        assert "a fraction of up to nine digits and Z or an offset such as +08:00" in Path(f"crm.rejects.{form}").read_text()


def test_the_summary_says_how_many_moments_were_cut(cli: CliRunner) -> None:
    Path("crm.csv").write_text("cuid,phone,seen\n1,,2024-05-01 12:00:00.1234\n,p1,2024-05-01 12:00:00.1234\n")
    # For the refused row, nothing was cut.
    result = cli.run("import", "crm.csv", "--project", "p", "--dry-run", "--register")
    assert "2 DATETIME values would be truncated to milliseconds" in result.stdout
    assert "moment" not in cli.run("import", "crm.csv", "--project", "p", code=1).stdout


def stored(cli: CliRunner) -> list[Any]:
    """Return the rows of the store."""
    with closing(open_store(cli.url)) as store, store.snapshot("p") as snapshot:
        return [row for page in snapshot.pages() for row in page]


@pytest.fixture
def masked(cli: CliRunner) -> CliRunner:
    """Create users with a masked phone and a device that is not masked."""
    cli.run("identifier", "edit", "phone", "--masked", "--project", "p")
    Path("in.csv").write_text("cuid,phone,device,level\n1,13800138000,d1,5\n2,+8613800138001,d2,6\n3,,,7\n")
    load(cli, "in.csv", "--register")
    return cli


@pytest.mark.parametrize(
    ("given", "first", "names"),
    [
        ("all", {"phone": "13800138000", "device": ["d1"]}, ["phone", "device"]),
        ("none", {}, []),
        ("masked", {"masked:phone": "1380*******", "device": ["d1"]}, ["masked:phone", "device"]),
        ("phone", {"phone": "13800138000"}, ["phone"]),
        ("device,phone", {"phone": "13800138000", "device": ["d1"]}, ["phone", "device"]),
    ],
)
def test_an_export_has_the_identifiers_that_are_asked_for(
    masked: CliRunner, given: str, first: dict[str, object], names: list[str]
) -> None:
    options = ("export", "--project", "p", "--identifiers", given, "--attributes", "level")
    found = table(masked, "--identifiers", given, "--attributes", "level")
    assert {name: value for name, value in found[0].items() if name not in ("cuid", "level") and value} == first
    assert [row["level"] for row in found] == [5, 6, 7]
    if given == "all":
        assert table(masked, "--attributes", "level") == found
    masked.run(*options, "-o", "out.csv")
    with Path("out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["cuid", *names, "level"]
    masked.run(*options, "-o", "out.parquet")
    written = parquet.read_table("out.parquet")
    assert written.column_names == ["cuid", *names, "level"]
    if names:
        assert written[names[0]].to_pylist()[2] is None
        assert str(first[names[0]]) == rows[0][names[0]] == written[names[0]].to_pylist()[0]


def test_an_export_of_an_identifier_that_is_not_declared(masked: CliRunner) -> None:
    said = masked.refused("export", "--project", "p", "--identifiers", "phone,nobody")
    assert said.startswith("identifier [nobody] does not exist")


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_masked_identifiers_are_never_imported(masked: CliRunner, form: str) -> None:
    file = f"masked.{form}"
    masked.run("export", "--project", "p", "--identifiers", "masked", "-o", file)
    before = table(masked)
    # Even if they are no longer masked, or under another name.
    for unmask in ("--masked", "--no-masked"):
        masked.run("identifier", "edit", "phone", unmask, "--project", "p")
        for more in ((), ("--map", "masked:phone=phone"), ("--map", "masked:phone=identifier:phone")):
            Path("masked.rejects.ndjson").unlink(missing_ok=True)
            refused = masked.run("import", file, "--project", "p", "--register", "--restart", *more, code=1)
            # Each row of NDJSON has its own members, so its rows are refused one by one.
            said = Path("masked.rejects.ndjson").read_text() if form == "ndjson" else refused.stderr
            assert "the values of column [masked:phone] are masked; leave it out with --map 'masked:phone='" in said
    assert table(masked) == before
    Path("masked.rejects.ndjson").unlink(missing_ok=True)
    assert load(masked, file, "--restart", "--map", "masked:phone=")["unchanged"] == 3
