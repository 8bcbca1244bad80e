"""`usertable import --url`: through the API of a real server, as its users would do it."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.cli_runner import CliRunner
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable.store import open_store

ADMIN_TOKEN = "a-token-for-the-tests-only"


class Place:
    """A server with a project, a folder to work in, and a shell."""

    def __init__(self, folder: Path) -> None:
        self.store = f"sqlite:///{folder / 'store.db'}"
        self.cuids = create_project(self.store, users=3)
        self.server = ServerProcess(self.store, folder, admin_token=ADMIN_TOKEN)
        self.shell = CliRunner("sqlite:////nowhere/there-is-no-such-store.db", {"USERTABLE_SECRET": SECRET})

    def command(self, file: str, *options: str) -> list[str]:
        return ["import", file, "--project", PROJECT, "--url", self.server.url, *options]

    def load(self, file: str, *options: str, code: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
        result = self.shell.run(*self.command(file, *options), "--json", code=code, stdin=stdin)
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def table(self) -> dict[int, dict[str, Any]]:
        """Return every user's attributes, by CUID."""
        with closing(open_store(self.store)) as store, store.snapshot(PROJECT) as snapshot:
            return {row[0]: json.loads(row[1], parse_float=Decimal) for page in snapshot.pages() for row in page}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path)
    yield made
    made.server.stop()
    assert "Traceback" not in made.server.log


def write_csv(*rows: str, name: str = "crm.csv") -> None:
    Path(name).write_text("\n".join(rows) + "\n")


def rejects() -> list[dict[str, str]]:
    with Path("crm.rejects.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_type_arrives_from_every_format(place: Place) -> None:
    first, second, third = place.cuids
    names = ["number_accumulate", "string_once", "bool_overwrite", "datetime_once", "list_append"]
    write_csv(
        "cuid," + ",".join(f"user_{name}" for name in names),
        f'{first},1.5,"a ""quote""",true,2023-12-12 00:56:23,"[""x"",""y""]"',
        f'{first},0.25,later,,2024-01-01 00:00:00,"[""y"",""z""]"',
    )
    line = {"cuid": second, "user_number_accumulate": 10**30, "user_bool_overwrite": False, "user_list_append": ["é"]}
    Path("more.ndjson").write_text(json.dumps(line) + "\n")
    columns = {
        "cuid": pa.array([third]),
        "user_number_accumulate": pa.array([Decimal("0.10")], pa.decimal128(10, 2)),
        "user_datetime_once": pa.array([1_700_000_000], pa.timestamp("s", "UTC")),
    }
    parquet.write_table(pa.table(columns), "rest.parquet")
    assert place.load("crm.csv") == {
        "rows": 2,
        "created": 0,
        "changed": 2,
        "unchanged": 0,
        "refused": 0,
        "moments_cut": 0,
        "rejects": None,
        "resumed_after": 0,
        "dry_run": False,
        "reasons": [],
    }
    assert place.load("-", "--format", "ndjson", stdin=Path("more.ndjson").read_bytes())["changed"] == 1
    assert place.load("rest.parquet")["changed"] == 1
    assert place.table() == {
        first: {
            "user_number_accumulate": Decimal("1.75"),
            "user_string_once": 'a "quote"',
            "user_bool_overwrite": True,
            "user_datetime_once": 1702313783000,
            "user_list_append": ["x", "y", "z"],
        },
        second: {"user_number_accumulate": 10**30, "user_bool_overwrite": False, "user_list_append": ["é"]},
        third: {"user_number_accumulate": Decimal("0.1"), "user_datetime_once": 1_700_000_000_000},
    }


def test_the_history_of_users_names_the_file(place: Place) -> None:
    first, *_ = place.cuids
    for file in ("crm.csv", "客户.csv"):
        Path(file).write_text(f"cuid,user_string_overwrite\n{first},{file}\n")
        place.load(file)
    shown = place.shell.run("history", "show", str(first), "--project", PROJECT, "--url", place.server.url, "--json")
    assert [change["source"] for change in json.loads(shown.stdout)["changes"]][:2] == ["import ??.csv", "import crm.csv"]


def test_a_secret_with_the_line_end_of_its_file_is_the_secret(place: Place) -> None:
    write_csv("cuid,user_number_accumulate", f"{place.cuids[0]},1")
    for number, end in enumerate(("\n", "\r\n"), start=1):
        place.shell.environment["USERTABLE_SECRET"] = SECRET + end
        assert place.load("crm.csv", "--restart", "--state", f"{number}.json")["changed"] == 1
    place.shell.environment["USERTABLE_SECRET"] = "\n"
    assert "--url needs credentials" in place.shell.misused(*place.command("crm.csv"))
    place.shell.environment["USERTABLE_SECRET"] = "two\nlines"
    said = place.shell.misused(*place.command("crm.csv"))
    assert said == "the project's secret contains a line break or another control character"


def test_an_identifiers_value_makes_a_user_once(place: Place) -> None:
    write_csv("Phone,user_number_accumulate", "new1,1", "new2,1", "new1,1")
    refused = place.load("crm.csv", "--map", "Phone=phone", code=1)
    assert (refused["refused"], refused["changed"]) == (3, 0)
    # The refused rows only need the option to succeed.
    Path("crm.rejects.csv").rename("again.csv")
    again = place.load("again.csv", "--map", "Phone=phone", "--register")
    assert (again["created"], again["changed"]) == (2, 1)
    made = [values["user_number_accumulate"] for cuid, values in place.table().items() if cuid not in place.cuids]
    assert sorted(made) == [1, 2]


def test_refused_rows_are_mended_and_imported_again(place: Place) -> None:
    first = place.cuids[0]
    write_csv(
        "cuid,user_number_accumulate,user_number_overwrite",
        f"{first},1,1",
        f"{first},many,1",
        "999,1,1",
        f"{first},,",
        f"{first},1,2",
    )
    result = place.shell.run(*place.command("crm.csv"), code=1)
    assert "5 rows: 0 users created, 2 changed, 1 unchanged, 2 rejected" in result.stdout
    assert "crm.rejects.csv; fix them there" in result.stderr
    assert [(row["#row"], row["cuid"]) for row in rejects()] == [("2", str(first)), ("3", "999")]
    first_reason, second_reason = (row["#reason"] for row in rejects())
    assert "user_number_accumulate" in first_reason
    assert second_reason == "cuid [999] does not exist in this project"
    mended = Path("crm.rejects.csv").read_text().replace("many", "2").replace("999,", f"{first},").splitlines()
    Path("mended.csv").write_text("\n".join(mended[:3]) + "\n")
    assert place.load("mended.csv")["changed"] == 2
    assert place.table()[first]["user_number_accumulate"] == 5


FULL = """\
{"cuid":1,"phone":"p1","mail":"a@x","device":["d1","[d2]"],"user_number_once":99999999999999999999999999999999999999}
{"cuid":2,"device":["d3"],"user_number_overwrite":0.1234567890123456789,"user_list_append":["a","b"]}
{"cuid":3}
{"cuid":4,"mail":"d@x"}
{"cuid":9223372036854775807,"phone":"p5","user_datetime_once":"2024-10-27 02:30:00+01:00","user_bool_overwrite":0}
{"cuid":6,"user_datetime_once":"2024-10-27 02:30:00+02:00","user_datetime_overwrite":"2024-01-01 00:00:00.007+01:00"}
{"cuid":7,"user_string_once":"=1+1\\n\\"quoted\\", and more \\\\","user_string_overwrite":"中文 😀"}
"""


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_an_import_of_an_export_gives_back_the_same_table(place: Place, ending: str, tmp_path: Path) -> None:
    """Through the API as into a store: several identifiers, users without values, times that local time cannot represent."""
    local = CliRunner(f"sqlite:///{tmp_path / 'full.db'}", {})
    create_project(local.url)
    shells = {"local": local, "api": CliRunner(place.store, {})}
    for cli in shells.values():
        cli.run("project", "edit", PROJECT, "--timezone", "Europe/Berlin")
        cli.run("identifier", "create", "mail", "--project", PROJECT)
        cli.run("identifier", "create", "device", "--no-unique", "--project", PROJECT)
    for cuid in place.cuids:
        shells["api"].run("user", "erase", str(cuid), "--project", PROJECT, "--yes")
    Path("full.ndjson").write_text(FULL)
    local.run("import", "full.ndjson", "--project", PROJECT, "--register")
    local.run("export", "--project", PROJECT, "-o", f"whole.{ending}")
    done = place.load(f"whole.{ending}", "--register", "--batch", "2")
    assert (done["rows"], done["created"], done["refused"]) == (7, 7, 0)
    for name, cli in shells.items():
        cli.run("export", "--project", PROJECT, "-o", f"{name}.ndjson")
        cli.run("export", "--project", PROJECT, "-o", f"{name}.{ending}")
    assert Path("api.ndjson").read_text() == Path("local.ndjson").read_text()
    assert Path(f"api.{ending}").read_bytes() == Path(f"local.{ending}").read_bytes()
    assert "2024-01-01 00:00:00.007+01:00" in Path("api.ndjson").read_text()
    # Once more: everything exists already.
    again = place.load(f"whole.{ending}")
    assert (again["created"], again["changed"], again["unchanged"], again["refused"]) == (0, 0, 7, 0)


def test_both_ways_refuse_the_same_rows_in_the_same_words(place: Place, tmp_path: Path) -> None:
    local = CliRunner(f"sqlite:///{tmp_path / 'local.db'}", {})
    assert create_project(local.url, users=3) == place.cuids
    for cli in (local, CliRunner(place.store, {})):
        cli.run("identifier", "create", "device", "--no-unique", "--project", PROJECT)
    first, second, third = place.cuids
    lines: list[dict[str, object]] = [
        {"cuid": first, "phone": "00000000001", "user_number_overwrite": 1},
        {"cuid": first, "phone": "another", "device": ["d1", "d2"]},
        {"phone": "00000000002", "device": ["d1"], "user_number_accumulate": 1},
        {"device": "d1", "user_number_accumulate": "9" * 38},
        {"device": "d1", "user_number_accumulate": "9" * 38},
        {"device": "nobody", "user_number_accumulate": 1},
        {"cuid": 55, "phone": "own"},
        {"cuid": 55, "phone": "own", "user_number_accumulate": 1},
        {"cuid": 0, "user_number_accumulate": 1},
        {"user_number_accumulate": 1},
        {"cuid": second, "device": [f"e{n}" for n in range(11)]},
        {"cuid": third, "user_list_append": ["a"] * 2, "user_bool_once": 2, "user_number_once": "x"},
        {"cuid": third, "device": "x" * 300},
    ]
    Path("crm.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for options in ([], ["--register"]):
        found = {}
        for name in ("local", "api"):
            command = [*place.command("crm.ndjson"), "--state", "position"]
            if name == "local":
                command = ["import", "crm.ndjson", "--project", PROJECT, "--restart"]
            cli = local if name == "local" else place.shell
            done = json.loads(cli.run(*command, *options, "--json", code=1).stdout)
            found[name] = (done, Path("crm.rejects.ndjson").read_text())
            Path("crm.rejects.ndjson").unlink()
        assert found["api"] == found["local"]
    assert found["api"][0]["created"] == 1
    local.run("export", "--project", PROJECT, "-o", "local.csv")
    CliRunner(place.store, {}).run("export", "--project", PROJECT, "-o", "api.csv")
    assert Path("api.csv").read_text() == Path("local.csv").read_text()


def test_a_dry_run_changes_nothing(place: Place, tmp_path: Path) -> None:
    write_csv("phone,user_number_accumulate", "00000000000,1", "new,1", "00000000000,many")
    before = set(tmp_path.glob("*crm*"))
    result = place.shell.run(*place.command("crm.csv", "--register", "--dry-run"), code=1)
    assert f"row 1: cuid {place.cuids[0]}: user_number_accumulate=1" in result.stderr
    assert "row 2: a new user: user_number_accumulate=1" in result.stderr
    assert "row 3: " in result.stderr.partition("row 3: rejected")[2]
    assert "3 rows: 1 user would be created, 1 would be changed, 0 unchanged, 1 would be rejected" in result.stdout
    assert place.table() == {cuid: {} for cuid in place.cuids}
    assert set(tmp_path.glob("*crm*")) == before


def test_an_import_that_is_unfinished_is_not_begun_again_by_chance(place: Place) -> None:
    first = place.cuids[0]
    write_csv("cuid,user_number_accumulate", *(f"{first},1" for _ in range(3)))
    assert place.load("crm.csv", "--resume")["changed"] == 3
    # Restarted on purpose, all rows count again; a finished one has nothing left.
    assert place.load("crm.csv")["changed"] == 3
    assert place.load("crm.csv", "--resume")["resumed_after"] == 3
    assert place.table()[first]["user_number_accumulate"] == 6
    unfinish(sent=0, since=0)
    assert "interrupted after row 3" in place.shell.refused(*place.command("crm.csv"))
    assert "other options" in place.shell.refused(*place.command("crm.csv", "--resume", "--register"))
    elsewhere = place.command("crm.csv", "--resume")
    elsewhere[elsewhere.index("--url") + 1] = place.server.url.replace("127.0.0.1", "localhost")
    assert "its position is of project" in place.shell.refused(*elsewhere)
    Path("crm.csv.import.json").write_text("{}")
    assert "is not a state file, or is damaged" in place.shell.refused(*place.command("crm.csv", "--resume"))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("missing/state.json", "cannot be written: No such file or directory"),
        ("/dev/null", "is not a regular file"),
        (".", "is not a regular file"),
    ],
)
def test_a_position_that_cannot_be_kept_is_found_before_anything_is_sent(place: Place, state: str, why: str) -> None:
    write_csv("cuid,user_number_accumulate", f"{place.cuids[0]},1")
    reason = place.shell.refused(*place.command("crm.csv", "--state", state))
    assert f"the state file {state} {why}; name another with --state" in reason
    assert place.table()[place.cuids[0]] == {}
    assert not Path(state).is_file()


def unfinish(*, sent: int, since: int, **state: object) -> None:
    """Set the position to that of a killed import."""
    file = Path("crm.csv.import.json")
    position = json.loads(file.read_text())
    position |= {"sent": sent, "since": since, "state": position["state"] | {"finished": False} | state}
    file.write_text(json.dumps(position))


def test_what_the_server_may_have_forgotten_is_not_sent_again(place: Place) -> None:
    first = place.cuids[0]
    write_csv("cuid,user_number_accumulate", *(f"{first},1" for _ in range(5)))
    place.load("crm.csv")
    now = int(time.time() * 1000)
    # As before the answer to its only batch.
    nothing = {"rows": 0, "digest": "", "changed": 0}
    unfinish(sent=5, since=now - 24 * 3_600_000, **nothing)
    assert "rows 1 to 5 may have been stored, and were sent 24.0 hours ago" in place.shell.refused(
        *place.command("crm.csv", "--resume")
    )
    unfinish(sent=5, since=now + 3_600_000, **nothing)
    assert "in the future by this machine's clock" in place.shell.refused(*place.command("crm.csv", "--resume"))
    # Another batch size does not matter: every row has its own key.
    unfinish(sent=5, since=now - 22 * 3_600_000, **nothing)
    assert place.load("crm.csv", "--resume", "--batch", "2")["changed"] == 5
    assert place.table()[first]["user_number_accumulate"] == 5


def test_a_row_that_was_stored_and_means_something_else_now_stops_it(place: Place) -> None:
    first = place.cuids[0]
    write_csv("cuid,user_number_accumulate", *(f"{first},1" for _ in range(5)))
    place.load("crm.csv")
    unfinish(sent=5, since=int(time.time() * 1000), rows=0, digest="", changed=0)
    write_csv("cuid,user_number_accumulate", f"{first},1", f"{first},2", f"{first},1")
    assert "row 2 was sent before with other content" in place.shell.refused(*place.command("crm.csv", "--resume"))
    assert not Path("crm.rejects.csv").exists()
    assert place.table()[first]["user_number_accumulate"] == 5


def test_what_is_wrong_is_said_and_nothing_is_sent(place: Place) -> None:
    write_csv("cuid,user_number_accumulate", f"{place.cuids[0]},1")
    command = place.command("crm.csv")
    store = place.shell.misused("--store", "memory:", *command)
    assert "--store and --url exclude each other" in store
    assert "--state" in place.shell.misused(*command, "--job", "mine")
    assert "the maximum with --url is 1000" in place.shell.misused(*command, "--batch", "1001")
    assert "requires --url" in place.shell.misused("import", "crm.csv", "--project", PROJECT, "--state", "x")
    assert "expected a URL such as https://" in place.shell.misused(*place.command("crm.csv", "--url", "example.com"))
    wrong = place.shell.refused(*command, "--secret", "wrong")
    assert "rejected project 100102 with that secret" in wrong
    assert "rejected project none" in place.shell.refused(*command, "--project", "none")
    elsewhere = place.shell.refused(*place.command("crm.csv", "--url", f"{place.server.url}/elsewhere"))
    assert "is not a usertable server that accepts batches; check the URL" in elsewhere
    closed = place.shell.refused(*place.command("crm.csv", "--url", "http://127.0.0.1:9"))
    assert "temporarily unavailable" in closed
    undeclared = place.shell.refused(*command, "--map", "user_number_accumulate=nothing_of_that_name")
    assert "nothing_of_that_name is neither cuid nor a declared attribute" in undeclared
    place.shell.environment["USERTABLE_SECRET"] = None
    assert "USERTABLE_SECRET" in place.shell.misused(*command)
    place.shell.environment["USERTABLE_ADMIN_TOKEN"] = "a-token-that-is-wrong"
    assert "rejected the admin token" in place.shell.refused(*command)
    assert place.table() == {cuid: {} for cuid in place.cuids}
    assert not Path("crm.csv.import.json").exists()


def test_the_admin_token_imports_into_any_project(place: Place) -> None:
    write_csv("cuid,user_number_accumulate", f"{place.cuids[0]},7")
    del place.shell.environment["USERTABLE_SECRET"]
    place.shell.environment["USERTABLE_ADMIN_TOKEN"] = ADMIN_TOKEN
    assert place.load("crm.csv")["changed"] == 1
    assert place.table()[place.cuids[0]]["user_number_accumulate"] == 7
    # The only project need not be named.
    alone = ("import", "crm.csv", "--url", place.server.url, "--restart", "--json")
    assert json.loads(place.shell.run(*alone).stdout)["changed"] == 1
    # A given secret is used.
    assert "rejected project 100102 with that secret" in place.shell.refused(*place.command("crm.csv", "--secret", "wrong"))
