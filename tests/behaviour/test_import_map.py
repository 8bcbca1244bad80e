"""The targets of columns, by --map and --map-file: names as written, and only those that the file has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.cli_runner import CliRunner


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    commands: list[Sequence[str]] = [("project", "create", "demo", "--id", "p")]
    for name in ("level", "score", "spent", "null"):
        commands.append(("attribute", "create", name, "--project", "p", "--type", "NUMBER", "--rule", "overwrite"))
    return CliRunner.after(commands, tmp_path / "users.db", {})


def write(ending: str, names: list[str]) -> str:
    """Write a file with a row of ones."""
    file = f"crm.{ending}"
    if ending == "csv":
        Path(file).write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    elif ending == "ndjson":
        Path(file).write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    else:
        parquet.write_table(pa.table({name: [1] for name in names}), file)
    return file


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_columns_in_a_map_file_are_named_as_they_are_written(cli: CliRunner, ending: str) -> None:
    file = write(ending, ["cuid", "2024.10", "2024.1", "007", "true", "1e3", "0x1F", "no", "null", "2024-05-01"])
    Path("map.yaml").write_text(
        "2024.10: level\n2024.1:\n007: score\ntrue: spent\n1e3: null\n0x1F: ''\nno: ~\nnull: 'null'\n2024-05-01:\n"
    )
    result = cli.run("import", file, "--project", "p", "--register", "--map-file", "map.yaml", "--json")
    assert json.loads(result.stdout)["created"] == 1
    found = json.loads(cli.out("user", "get", "1", "--project", "p", "--json"))["attributes"]
    assert found == {"level": 1, "score": 1, "spent": 1, "null": 1}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("target", ["level", ""])
def test_a_map_that_names_a_column_the_file_does_not_have_is_refused(cli: CliRunner, ending: str, target: str) -> None:
    file = write(ending, ["cuid", "level"])
    Path("map.yaml").write_text(f"Levle: {target}\n")
    reason = "column [Levle]: it is mapped, but the file does not have it; it has cuid, level"
    assert reason in cli.refused("import", file, "--project", "p", "--register", "--map-file", "map.yaml")
    assert reason in cli.refused("import", file, "--project", "p", "--register", "--map", f"Levle={target}")


def test_a_mapped_member_that_no_row_of_ndjson_has_is_told_at_the_end(cli: CliRunner) -> None:
    Path("crm.ndjson").write_text('{"cuid":1}\n{"cuid":2,"Level":3}\n')
    command = ("import", "crm.ndjson", "--project", "p", "--register", "--map", "Level=level", "--map", "Levle=spent")
    assert "column [Levle] is mapped, but no row has it\n" in cli.run(*command).stderr
    assert "Level]" not in cli.run(*command).stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("- a\n", "line 1: it must map each column to a name"),
        ("", "line 1: it must map each column to a name"),
        ("a: level\nb: {x: y}\n", "line 2: it must map each column to a name"),
        ("a: level\nb: []\n", "line 2: it must map each column to a name"),
        ("a: level\nb: [x, [y]]\n", "line 2: it must map each column to a name"),
        ("1.1: level\n\n1.1: score\n", "line 3: the column 1.1 is mapped twice"),
        ("%YAML 1.3\n---\na: level\n", "line 1: it is YAML 1.3, and 1.2 is read; remove %YAML"),
        ("a: 'level\n", "line 2: not valid YAML"),
    ],
)
def test_a_map_file_that_is_none_is_refused_with_the_line(cli: CliRunner, content: str, reason: str) -> None:
    Path("map.yaml").write_text(content)
    file = write("csv", ["cuid", "a"])
    assert f"--map-file, {reason}" in cli.refused("import", file, "--project", "p", "--map-file", "map.yaml")


@pytest.mark.parametrize("version", ["1.3", "1.0", "1.10"])
def test_a_schema_file_of_another_version_of_yaml_is_told_with_the_line(cli: CliRunner, version: str) -> None:
    Path("schema.yaml").write_text(f"# ours\n%YAML {version}\n---\nattributes: []\n")
    reason = cli.refused("schema", "diff", "schema.yaml", "--project", "p")
    assert f"line 2: it is YAML {version}, and 1.2 is read; remove %YAML" in reason
    for known in ("1.1", "1.2"):
        Path("schema.yaml").write_text(f"%YAML {known}\n---\nattributes: []\n")
        cli.run("schema", "diff", "schema.yaml", "--project", "p", code=1)
