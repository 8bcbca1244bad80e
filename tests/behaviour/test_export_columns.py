"""`usertable export`: the columns of a file, and the form of their values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.cli_runner import CliRunner
from usertable.files import export as export_module

ROWS = """\
cuid,phone,order_id,price,seen
1,p1,9007199254740993,1.5,2024-10-27 02:30:00+02:00
2,p2,7,2,2024-10-27 02:30:00+01:00
3,p3,,,2024-05-01 12:00:00.250
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Create the project `p` in Berlin, whose users 1, 2 and 3 have a phone, orders and times."""
    monkeypatch.chdir(tmp_path)
    commands: list[Sequence[str]] = [
        ("project", "create", "shop", "--id", "p", "--timezone", "Europe/Berlin"),
        ("identifier", "create", "phone"),
    ]
    for name, data_type in (("order_id", "NUMBER"), ("price", "NUMBER"), ("seen", "DATETIME")):
        commands.append(("attribute", "create", name, "--type", data_type, "--rule", "overwrite"))
    shop = CliRunner.after(commands, tmp_path / "users.db", {})
    Path("in.csv").write_text(ROWS)
    shop.run("import", "in.csv", "--register")
    return shop


def rows(shop: CliRunner, *options: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(shop.out("export", *options))))


def objects(shop: CliRunner, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shop.out("export", "--format", "ndjson", *options).splitlines()]


def unchanged(shop: CliRunner, file: str) -> int:
    """Import a file. Return the number of users that stayed unchanged."""
    count: int = json.loads(shop.run("import", file, "--json").stdout)["unchanged"]
    return count


# pseudo-columns


def test_pseudo_columns_are_exported_where_they_are_named(shop: CliRunner) -> None:
    assert not any(name.startswith("@") for name in rows(shop)[0])
    shop.report("p", 2, {"order_id": 8})
    found = rows(shop, "--attributes", "@version,order_id,@updated_at,@created_at,@cuid", "--utc")
    assert list(found[0]) == ["cuid", "phone", "@version", "order_id", "@updated_at", "@created_at"]
    users = {user["cuid"]: user for user in shop.json("user", "list")["users"]}
    for row in found:
        user = users[int(row["cuid"])]
        assert row["@version"] == str(user["version"])
        for name in ("@updated_at", "@created_at"):
            assert datetime.fromisoformat(row[name]) == datetime.fromisoformat(user[name.removeprefix("@")])
    assert found[1]["@updated_at"] == "2033-05-18 03:33:20Z"
    assert [row["@version"] for row in objects(shop, "--attributes", "@version")] == [int(row["@version"]) for row in found]


def test_a_star_stands_for_all_visible_attributes(shop: CliRunner) -> None:
    shop.run("attribute", "hide", "price")
    assert list(rows(shop, "--attributes", "@version,*")[0]) == ["cuid", "phone", "@version", "order_id", "seen"]
    assert list(rows(shop, "--attributes", "*", "--attributes", "price", "--identifiers", "none")[0]) == [
        *("cuid", "order_id", "seen", "price")
    ]
    assert "names an attribute twice" in shop.misused("export", "--attributes", "@version,@version")


def test_parquet_has_types_for_pseudo_columns(shop: CliRunner) -> None:
    shop.report("p", 1, {"order_id": 8})
    shop.run("export", "--attributes", "@version,@updated_at", "--numbers", "float", "-o", "out.parquet")
    found = parquet.read_table("out.parquet")
    assert found.schema.field("@version").type == pa.int64()
    assert found.schema.field("@updated_at").type == pa.timestamp("ms", "UTC")
    assert found["@updated_at"].cast(pa.int64()).to_pylist()[0] == 2_000_000_000_000


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_an_import_ignores_pseudo_columns(shop: CliRunner, form: str) -> None:
    before = objects(shop, "--project", "p")
    shop.run("export", "--attributes", "*,@version,@created_at,@updated_at", "-o", f"out.{form}")
    shop.run("project", "create", "other", "--id", "q", "--timezone", "Europe/Berlin")
    schema = shop.out("schema", "export", "--project", "p")
    shop.run("schema", "apply", "-", "--project", "q", stdin=schema)
    shop.run("import", f"out.{form}", "--register", "--project", "q")
    assert objects(shop, "--project", "q") == before


def test_users_are_found_by_pseudo_columns(shop: CliRunner) -> None:
    shop.report("p", 2, {"order_id": 8})
    then = "2033-05-18T03:33:20Z"

    def cuids(*conditions: str) -> tuple[list[int], list[int]]:
        where = [word for condition in conditions for word in ("--where", condition)]
        listed = [user["cuid"] for user in shop.json("user", "list", "--project", "p", *where)["users"]]
        return listed, [row["cuid"] for row in objects(shop, "--project", "p", *where)]

    assert cuids("@version:gt:2", f"@updated_at:eq:{then}") == ([2], [2])
    assert cuids("@updated_at:eq:2033-05-18 05:33:20") == ([2], [2])
    assert cuids(f"@updated_at:lt:{then}", "@cuid:in:1,2,3") == ([1, 3], [1, 3])
    assert cuids("@cuid:between:2,3", "price:unset") == ([3], [3])
    assert cuids("@created_at:unset") == ([], [])
    assert cuids(f"@created_at:lt:{then}", "seen:eq:2024-05-01 12:00:00.25") == ([3], [3])


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("@updated:set", "the pseudo-columns are @cuid, @version, @created_at, @updated_at"),
        ("@version:eq:1.5", "@version is a 64-bit integer"),
        ("@cuid:lt:9223372036854775808", "@cuid is a 64-bit integer"),
        ("@updated_at:ge:yesterday", "yyyy-MM-dd HH:mm:ss, where T may replace the space"),
        ("@updated_at:contains:2024", "contains is for STRING, LIST, not for DATETIME"),
    ],
)
def test_a_condition_on_a_pseudo_column_that_cannot_be(shop: CliRunner, condition: str, reason: str) -> None:
    assert reason in shop.refused("export", "--where", condition)
    assert reason in shop.refused("user", "list", "--where", condition)


def test_a_list_of_users_shows_pseudo_columns(shop: CliRunner) -> None:
    shop.report("p", 2, {"order_id": 8})
    out = shop.out("user", "list", "--where", "@version:gt:2", "--attribute", "@updated_at", "--attribute", "@version")
    assert [line.split() for line in out.splitlines()] == [
        ["cuid", "phone", "@updated_at", "@version"],
        ["2", "p2", "2033-05-18T03:33:20.000Z", "3"],
    ]


# moments


@pytest.mark.parametrize(
    ("options", "moments"),
    [
        ((), ["2024-10-27 02:30:00", "2024-10-27 02:30:00+01:00", "2024-05-01 12:00:00.250+02:00"]),
        (("--offsets",), ["2024-10-27 02:30:00+02:00", "2024-10-27 02:30:00+01:00", "2024-05-01 12:00:00.250+02:00"]),
        (("--utc",), ["2024-10-27 00:30:00Z", "2024-10-27 01:30:00Z", "2024-05-01 10:00:00.250Z"]),
    ],
)
def test_moments_are_written_in_the_projects_zone_with_offsets_or_in_utc(
    shop: CliRunner, options: tuple[str, ...], moments: list[str]
) -> None:
    assert [row["seen"] for row in rows(shop, *options)] == moments
    assert [row["seen"] for row in objects(shop, *options)] == moments
    # Without a user whose time has milliseconds.
    assert [row["seen"] for row in rows(shop, "--where", "@cuid:lt:3", *options)] == moments[:2]
    shop.run("export", *options, "-o", "out.csv")
    assert unchanged(shop, "out.csv") == 3


def test_options_that_are_not_for_the_format_are_refused(shop: CliRunner) -> None:
    assert "--utc and --offsets exclude each other" in shop.misused("export", "--utc", "--offsets")
    assert "--utc applies to CSV and NDJSON" in shop.misused("export", "--utc", "-o", "out.parquet")
    assert "--numbers applies to Parquet" in shop.misused("export", "--numbers", "float")
    assert "--bom applies to CSV" in shop.misused("export", "--bom", "--format", "ndjson")


# identifiers


def test_presets_are_exported_where_a_user_has_a_value(shop: CliRunner) -> None:
    assert list(rows(shop, "--attributes", "price")[0]) == ["cuid", "phone", "price"]
    assert list(rows(shop, "--attributes", "price", "--identifiers", "phone,jg_UnionID")[0]) == [
        *("cuid", "phone", "jg_UnionID", "price")
    ]
    shop.run("user", "create", "9", "--identifier", "jg_UnionID=member")
    found = rows(shop, "--attributes", "price")
    assert list(found[0]) == ["cuid", "phone", "jg_UnionID", "price"]
    assert [row["jg_UnionID"] for row in found] == ["", "", "", "member"]


# numbers


def query(sql: str) -> list[Any]:
    """Return what another program reads."""
    found: list[Any] = duckdb.connect().execute(sql).fetchall()
    return found


def types(shop: CliRunner, *options: str) -> dict[str, str]:
    """Return the types that another program sees in a Parquet file of the project."""
    shop.run("export", *options, "-o", "out.parquet")
    return dict(query("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM 'out.parquet')"))


def test_whole_numbers_are_integers_in_parquet(shop: CliRunner) -> None:
    assert types(shop) == {
        "cuid": "BIGINT",
        "phone": "VARCHAR",
        "order_id": "BIGINT",
        "price": "DECIMAL(38,18)",
        "seen": "TIMESTAMP WITH TIME ZONE",
    }
    assert query("SELECT order_id, price FROM 'out.parquet'") == [
        (9007199254740993, Decimal("1.5")),
        (7, Decimal(2)),
        (None, None),
    ]
    assert unchanged(shop, "out.parquet") == 3
    # Only those of exported users count.
    assert types(shop, "--where", "price:eq:2")["price"] == "BIGINT"


def test_numbers_can_be_decimals_or_floats_throughout(shop: CliRunner) -> None:
    found = types(shop, "--numbers", "decimal")
    assert (found["order_id"], found["price"]) == ("DECIMAL(38,18)", "DECIMAL(38,18)")
    found = types(shop, "--numbers", "float")
    assert (found["order_id"], found["price"]) == ("DOUBLE", "DOUBLE")
    assert query("SELECT order_id, price FROM 'out.parquet'") == [
        (9007199254740992.0, 1.5),
        (7.0, 2.0),
        (None, None),
    ]


@pytest.mark.parametrize("restarts", [0, 3])
def test_a_number_that_is_no_integer_is_met_late(shop: CliRunner, monkeypatch: pytest.MonkeyPatch, restarts: int) -> None:
    monkeypatch.setattr("usertable.store.sqlite.snapshot.SNAPSHOT_ROWS", 1)
    monkeypatch.setattr(export_module, "RESTARTS", restarts)
    # One with decimals, one beyond 64 bits, and one that does not fit DECIMAL(38, 18).
    Path("in.csv").write_text("cuid,order_id,price\n4,10,\n5,9223372036854775808,\n6,0.5,1" + "0" * 30 + "\n")
    shop.run("import", "in.csv", "--register", "--job", "more")
    result = shop.run("export", "-o", "out.parquet")
    assert "stored as text, because DECIMAL(38, 18) cannot hold all their values: price" in result.stderr
    found = parquet.read_table("out.parquet")
    assert found["order_id"].to_pylist() == [9007199254740993, 7, None, 10, 9223372036854775808, Decimal("0.5")]
    assert found["price"].to_pylist() == ["1.5", "2", None, None, None, "1" + "0" * 30]
