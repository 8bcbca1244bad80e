"""The command line: every command, what it prints, its exit codes, and what bad input gets."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import apsw
import click
import httpx
import pytest

import usertable
from support.cli_runner import CliRunner
from support.terminal import shown_on
from support.waiting import wait_until
from usertable.app.secrets import public_id
from usertable.cli import cli as commands
from usertable.cli.config import MASK
from usertable.config import Config, load
from usertable.domain.schema import LEGAL_RULES, Rule
from usertable.domain.values import DataType

SECRET = "a-secret-of-the-tests"
CREATE = ("project", "create", "demo", "--id", "p1", "--secret", SECRET)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str | None]:
    """Remove the machine's settings from the environment."""
    for name in [name for name in os.environ if name.startswith("USERTABLE_")]:
        monkeypatch.delenv(name)
    return {"XDG_DATA_HOME": str(tmp_path / "data"), "LOGNAME": "tester"}


@pytest.fixture
def empty(tmp_path: Path, environment: dict[str, str | None]) -> CliRunner:
    """A store without a project."""
    return CliRunner(f"sqlite:///{tmp_path}/users.db", environment)


@pytest.fixture
def cli(tmp_path: Path, environment: dict[str, str | None]) -> CliRunner:
    """A store with the project `p1`."""
    return CliRunner.after([CREATE], tmp_path / "users.db", environment)


# projects


def test_project_create_makes_id_and_secret(empty: CliRunner) -> None:
    made = empty.json("project", "create", "demo")
    assert re.fullmatch(r"[0-9]{6}", made["id"])
    assert public_id(made["secret"])
    assert made == {
        "id": made["id"],
        "name": "demo",
        "timezone": "Asia/Shanghai",
        "qps": 100,
        "created_at": made["created_at"],
        "version": 1,
        "secret": made["secret"],
    }


def test_project_create_says_that_the_secret_is_shown_once(empty: CliRunner) -> None:
    out = empty.out("project", "create", "演示", "--id", "p1", "--secret", SECRET)
    assert out == (
        "id      p1\n"
        "name    演示\n"
        f"secret  {SECRET}\n"
        "The secret is shown only once. Save it now; if it is lost, rotate it.\n"
    )


@pytest.mark.parametrize("command", [("create", "demo"), ("rotate-secret", "p1")])
def test_a_short_secret_is_taken_with_a_warning(cli: CliRunner, command: tuple[str, str]) -> None:
    result = cli.run("project", *command, "--secret", "x" * 15, "--json")
    assert result.stderr.startswith("Warning: the secret has fewer than 16 characters")
    assert json.loads(result.stdout)["secret"] == "x" * 15
    assert cli.json("project", *command, "--secret", "x" * 16)["secret"] == "x" * 16


def test_project_list_shows_no_secret(cli: CliRunner) -> None:
    cli.run("project", "create", "shop", "--id", "p2", "--timezone", "Europe/Berlin", "--qps", "unlimited")
    lines = [line.split() for line in cli.out("project", "list").splitlines()]
    assert [line[:4] for line in lines] == [
        ["id", "name", "timezone", "qps"],
        ["p1", "demo", "Asia/Shanghai", "100"],
        ["p2", "shop", "Europe/Berlin", "unlimited"],
    ]
    projects = cli.json("project", "list")["projects"]
    assert [(p["id"], p["qps"]) for p in projects] == [("p1", 100), ("p2", "unlimited")]
    assert all("secret" not in p for p in projects)


def test_project_edit_changes_what_is_named(cli: CliRunner) -> None:
    assert cli.json("project", "edit", "p1", "--qps", "unlimited")["qps"] == "unlimited"
    edited = cli.json("project", "edit", "p1", "--qps", "7", "--name", "new", "--timezone", "UTC")
    assert (edited["qps"], edited["name"], edited["timezone"]) == (7, "new", "UTC")
    assert cli.out("project", "edit", "p1", "--name", "newer") == (
        "id        p1\nname      newer\ntimezone  UTC\nqps       7\n"
    )


def test_project_rotate_secret(cli: CliRunner) -> None:
    made = cli.json("project", "rotate-secret", "p1")
    assert made["version"] == 2
    assert public_id(made["secret"])
    assert made["secret"] != cli.json("project", "rotate-secret", "p1")["secret"]
    assert "only once" in cli.out("project", "rotate-secret", "p1")


def test_rotate_secret_says_until_when_the_old_secret_works(cli: CliRunner) -> None:
    begun = datetime.now(UTC)
    made = cli.json("project", "rotate-secret", "p1", "--overlap", "3600")
    left = datetime.fromisoformat(made["previous_secret_until"]) - timedelta(hours=1)
    assert begun - timedelta(milliseconds=1) <= left <= datetime.now(UTC)
    said = cli.out("project", "rotate-secret", "p1", "--overlap", "3600")
    assert re.search(r"^The old secret works until \d{4}-\d\d-\d\dT[0-9:.]+Z\.$", said, re.MULTILINE)
    assert "previous_secret_until" not in cli.json("project", "rotate-secret", "p1")
    assert "previous_secret_until" not in str(cli.json("project", "list"))


def test_every_change_is_recorded_with_who_made_it(cli: CliRunner) -> None:
    cli.run("attribute", "create", "level", "--project", "p1", "--type", "NUMBER", "--rule", "once")
    cli.run("attribute", "hide", "level", "--project", "p1")
    changes = cli.json("project", "changes", "p1")["changes"]
    assert [(c["actor"], c["what"]) for c in changes] == [
        ("cli:tester", "edit attribute level: hidden false → true"),
        ("cli:tester", "declare attribute level: NUMBER once"),
        ("cli:tester", "create project"),
    ]
    assert len(cli.out("project", "changes", "p1", "--limit", "2").splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "x", "--id", "p1"), "project [p1] already exists"),
        (("create", "x", "--id", "a/b"), "project id [a/b] is invalid"),
        (("create", "x", "--id", ""), "project id [] is invalid"),
        (("create", ""), "the project's name is invalid"),
        (("create", "a\nb"), "the project's name is invalid"),
        (("create", "x", "--secret", ""), "the secret is invalid"),
        (("create", "x", "--secret", "密码"), "the secret is invalid"),
        (("create", "x", "--timezone", "Mars/Olympus"), "time zone [Mars/Olympus] does not exist"),
        (("create", "x", "--timezone", "../etc/passwd"), "time zone [../etc/passwd] does not exist"),
        (("create", "x", "--qps", "0"), "QPS limit [0] is invalid"),
        (("edit", "p1", "--qps", "0"), "QPS limit [0] is invalid"),
        (("edit", "p1", "--qps", "-5"), "QPS limit [-5] is invalid"),
        (("edit", "p2", "--qps", "5"), "project [p2] does not exist"),
        (("rotate-secret", "p2"), "project [p2] does not exist"),
        (("changes", "p2"), "project [p2] does not exist"),
    ],
)
def test_a_project_that_cannot_be(cli: CliRunner, arguments: Sequence[str], reason: str) -> None:
    before = cli.json("project", "list")
    assert cli.refused("project", *arguments).startswith(reason)
    assert cli.json("project", "list") == before


# attributes


@pytest.mark.parametrize("data_type", DataType)
@pytest.mark.parametrize("rule", Rule)
def test_attribute_create_takes_the_legal_pairs(cli: CliRunner, data_type: DataType, rule: Rule) -> None:
    arguments = ("attribute", "create", "a", "--project", "p1", "--type", data_type, "--rule", rule)
    if rule in LEGAL_RULES[data_type]:
        limits = (1000, 512) if data_type is DataType.LIST else (None, None)
        assert cli.json(*arguments) == {
            "name": "a",
            "type": data_type,
            "rule": rule,
            "display_name": "",
            "description": "",
            "hidden": False,
            "reported": False,
            "max_elements": limits[0],
            "max_element_bytes": limits[1],
            "history": True,
        }
    else:
        legal = ", ".join(LEGAL_RULES[data_type])
        assert cli.refused(*arguments) == f"attribute [a]: {data_type} cannot have the rule {rule}; allowed: {legal}"


def test_attribute_create_takes_everything_else_too(cli: CliRunner) -> None:
    made = cli.json(
        *("attribute", "create", "tags", "--project", "p1", "--type", "list", "--rule", "APPEND", "--display-name", "标签"),
        *("--description", "What the user likes", "--hidden", "--max-elements", "5", "--max-element-bytes", "64"),
    )
    assert (made["type"], made["rule"], made["display_name"], made["hidden"]) == ("LIST", "append", "标签", True)
    assert (made["description"], made["max_elements"], made["max_element_bytes"]) == ("What the user likes", 5, 64)
    assert cli.out("attribute", "create", "a", "--project", "p1", "--type", "BOOL", "--rule", "once") == (
        "attribute a (BOOL, once) of project p1: declared\n"
    )


@pytest.fixture
def declared(tmp_path: Path, environment: dict[str, str | None]) -> CliRunner:
    """`p1` with some attributes and an identifier."""
    attributes = (
        ("level", "NUMBER", "overwrite", "--display-name", "等级"),
        ("tags", "LIST", "append"),
        ("vip", "BOOL", "overwrite"),
        ("born", "DATETIME", "once"),
        ("note", "STRING", "overwrite", "--hidden"),
    )
    commands = [
        CREATE,
        *(
            ("attribute", "create", name, "--project", "p1", "--type", data_type, "--rule", rule, *more)
            for name, data_type, rule, *more in attributes
        ),
        ("identifier", "create", "phone", "--project", "p1", "--masked"),
    ]
    return CliRunner.after(commands, tmp_path / "users.db", environment)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ((), "level tags vip born"),
        (("--status", "visible"), "level tags vip born"),
        (("--status", "hidden"), "note"),
        (("--status", "all"), "level tags vip born note"),
        (("--search", "级"), "level"),
        (("--search", "E"), "level"),
        (("--type", "list"), "tags"),
        (("--rule", "overwrite", "--status", "all"), "level vip note"),
        (("--rule", "overwrite", "--type", "BOOL", "--search", "v"), "vip"),
        (("--search", "nothing"), ""),
    ],
)
def test_attribute_list_filters(declared: CliRunner, filters: Sequence[str], names: str) -> None:
    listed = declared.json("attribute", "list", "--project", "p1", *filters)["attributes"]
    assert [a["name"] for a in listed] == names.split()
    lines = declared.out("attribute", "list", "--project", "p1", *filters).splitlines()
    assert [line.split()[0] for line in lines] == ["name", *names.split()]


def test_attribute_list_is_aligned_by_what_a_terminal_shows(declared: CliRunner) -> None:
    """Return the width of a text: a Chinese character has two columns."""
    declared.report("p1", register(declared, "1")[0], {"level": 1})
    assert declared.out("attribute", "list", "--project", "p1", "--type", "NUMBER") == (
        "name   display name  type    rule       status   reported  description\n"
        "level  等级          NUMBER  overwrite  visible  yes\n"
    )


def test_attribute_edit_hide_show(declared: CliRunner) -> None:
    edited = declared.json(
        "attribute", "edit", "vip", "--project", "p1", "--display-name", "VIP", "--description", "Pays\nevery month"
    )
    assert (edited["display_name"], edited["description"], edited["hidden"]) == ("VIP", "Pays\nevery month", False)
    assert declared.json("attribute", "edit", "vip", "--project", "p1", "--display-name", "")["display_name"] == ""
    assert declared.json("attribute", "hide", "vip", "--project", "p1")["hidden"] is True
    assert (
        declared.out("attribute", "hide", "vip", "--project", "p1")
        == "attribute vip (BOOL, overwrite) of project p1: hidden\n"
    )
    assert declared.json("attribute", "show", "vip", "--project", "p1")["hidden"] is False
    assert "Pays\\nevery month" in declared.out("attribute", "list", "--project", "p1", "--search", "vip")


def test_attribute_delete_only_before_a_value_was_reported(declared: CliRunner) -> None:
    assert declared.out("attribute", "delete", "vip", "--project", "p1") == "attribute vip deleted\n"
    assert declared.json("attribute", "delete", "born", "--project", "p1") == {"name": "born", "deleted": True}
    declared.report("p1", register(declared, "1")[0], {"level": 1})
    assert declared.refused("attribute", "delete", "level", "--project", "p1") == (
        "attribute [level] cannot be deleted: values were reported for it; hide it instead"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "level", "--type", "NUMBER", "--rule", "once"), "[level] already exists"),
        (("create", "Level", "--type", "NUMBER", "--rule", "once"), "name [Level] is invalid: lowercase letters"),
        (("create", "等级", "--type", "NUMBER", "--rule", "once"), "name [等级] is invalid: lowercase letters"),
        (("create", "x" * 101, "--type", "NUMBER", "--rule", "once"), "name [xxx"),
        (("create", "jg_x", "--type", "NUMBER", "--rule", "once"), "name [jg_x] is invalid: the prefix jg_"),
        (("create", "x", "--type", "LIST", "--rule", "once", "--max-elements", "0"), "max_elements of attribute [x]"),
        (("create", "x", "--type", "BOOL", "--rule", "once", "--max-elements", "9"), "limits of attribute [x]"),
        (
            ("create", "x", "--type", "BOOL", "--rule", "once", "--display-name", "a\nb"),
            "--display-name is invalid; expected printable text on one line",
        ),
        (("create", "x", "--type", "BOOL", "--rule", "once", "--description", "x" * 1001), "description of [x] is longer"),
        (("edit", "none", "--display-name", "x"), "user attribute [none] does not exist"),
        (("hide", "none"), "user attribute [none] does not exist"),
        (("show", "none"), "user attribute [none] does not exist"),
        (("delete", "none"), "user attribute [none] does not exist"),
    ],
)
def test_an_attribute_that_cannot_be(declared: CliRunner, arguments: Sequence[str], reason: str) -> None:
    before = declared.out("schema", "export", "--project", "p1")
    assert declared.refused("attribute", *arguments, "--project", "p1").startswith(reason)
    assert declared.out("schema", "export", "--project", "p1") == before


# identifiers


def test_identifiers(cli: CliRunner) -> None:
    assert cli.json("identifier", "create", "phone", "--project", "p1", "--display-name", "手机号", "--masked") == {
        "name": "phone",
        "display_name": "手机号",
        "priority": 1,
        "unique": True,
        "masked": True,
        "preset": False,
    }
    assert cli.out("identifier", "create", "tv", "--project", "p1", "--no-unique") == (
        "identifier tv of project p1: declared, priority 2\n"
    )
    assert cli.out("identifier", "list", "--project", "p1") == (
        "priority  name                display name      unique  masked  preset\n"
        "1         phone               手机号            yes     yes     no\n"
        "2         tv                                    no      no      no\n"
        "3         jg_registration_id  极光设备唯一标识  no      no      yes\n"
        "4         jg_UnionID          用户会员卡号      yes     no      yes\n"
    )
    edited = cli.json("identifier", "edit", "phone", "--project", "p1", "--no-masked", "--display-name", "")
    assert (edited["masked"], edited["display_name"]) == (False, "")
    assert cli.out("identifier", "delete", "tv", "--project", "p1") == "identifier tv deleted\n"
    assert cli.json("identifier", "delete", "phone", "--project", "p1") == {"name": "phone", "deleted": True}
    left = cli.json("identifier", "list", "--project", "p1")["identifiers"]
    assert [i["name"] for i in left] == ["jg_registration_id", "jg_UnionID"]


def test_identifier_order(declared: CliRunner) -> None:
    declared.run("identifier", "create", "login_id", "--project", "p1")
    order = declared.json("identifier", "order", "login_id", "phone", "--project", "p1")["identifiers"]
    assert [i["name"] for i in order] == ["login_id", "phone", "jg_registration_id", "jg_UnionID"]
    order = declared.json("identifier", "order", "jg_UnionID", "phone", "login_id", "--project", "p1")["identifiers"]
    assert [i["name"] for i in order] == ["jg_UnionID", "phone", "login_id", "jg_registration_id"]
    assert (
        declared.out("identifier", "order", "phone", "login_id", "--project", "p1")
        .splitlines()[1]
        .startswith("1         phone")
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "phone"), "[phone] already exists"),
        (("create", "Phone"), "name [Phone] is invalid"),
        (("create", "jg_UnionID"), "name [jg_UnionID] is invalid: the prefix jg_"),
        (("edit", "none", "--masked"), "identifier [none] does not exist; declared: phone, jg_registration_id, jg_UnionID"),
        (("delete", "none"), "identifier [none] does not exist"),
        (("delete", "jg_UnionID"), "identifier [jg_UnionID] is a preset and cannot be deleted"),
        (("delete", "phone"), "identifier [phone] cannot be deleted: users have values of it"),
        (("order", "phone", "phone"), "the order must name every identifier exactly once: phone, jg_registration_id"),
        (("order", "jg_UnionID"), "the order must name every identifier exactly once: phone, jg_registration_id"),
        (("order", "phone", "none"), "the order must name every identifier exactly once: phone, jg_registration_id"),
    ],
)
def test_an_identifier_that_cannot_be(declared: CliRunner, arguments: Sequence[str], reason: str) -> None:
    register(declared, "1")
    assert declared.refused("identifier", *arguments, "--project", "p1").startswith(reason)


# users


def register(cli: CliRunner, *values: str) -> list[int]:
    users = cli.json("user", "register", "phone", *values, "--project", "p1")["users"]
    assert [u["value"] for u in users] == list(values)
    return [u["cuid"] for u in users]


def test_user_register_gives_equal_values_one_cuid(declared: CliRunner) -> None:
    a, b, again = register(declared, "180", " 180", "180")
    assert a == again != b
    assert register(declared, "180") == [a]
    assert declared.out("user", "register", "phone", "180", "中文", "--project", "p1") == (
        f"value  cuid\n180    {a}\n中文   {b + 1}\n"
    )


def test_user_register_takes_more_than_the_api_does_at_once(declared: CliRunner) -> None:
    assert len(set(register(declared, *map(str, range(150))))) == 150


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("register", "none", "1"), "identifier [none] does not exist"),
        (("register", "jg_registration_id", "1"), "identifier [jg_registration_id] is not unique"),
        (("register", "jg_UnionID", "1"), "identifier [jg_UnionID] does not have priority 1; [phone] does"),
        (("register", "phone", "ok", ""), "parameter [VALUE 2] is invalid; expected a string of 1 to 256 characters"),
        (("register", "phone", "x" * 257), "parameter [VALUE 1] is invalid"),
        (("create", "5", "--identifier", "none=1"), "identifier [none] does not exist"),
        (("create", "5", "--identifier", "phone="), "parameter [--identifier phone] is invalid"),
        (("create", "5", "--identifier", "phone=180"), "the value [180] of identifier [phone] belongs to another user"),
        (("create", "7"), "cuid [7] already exists"),
        (("create", "8"), "cuid [8] was erased and cannot be used again"),
        (("get", "5"), "cuid [5] does not exist in this project"),
        (("get", "--identifier", "phone=none"), "cuid [phone=none] does not exist in this project"),
        (("get", "--identifier", "none=1"), "identifier [none] does not exist"),
        (("erase", "5", "--yes"), "cuid [5] does not exist in this project"),
        (("list", "--where", "none:set"), "condition [none:set] is invalid: it must begin with the name of a declared"),
        (("list", "--where", "level:like:3"), "condition [level:like:3] is invalid: the operator must be one of"),
        (("list", "--where", "level:eq:x"), "condition [level:eq:x] is invalid"),
        (("list", "--attribute", "none"), "user attribute [none] does not exist"),
    ],
)
def test_a_user_that_cannot_be(declared: CliRunner, arguments: Sequence[str], reason: str) -> None:
    register(declared, "180")
    declared.run("user", "create", "7", "--project", "p1")
    declared.run("user", "create", "8", "--project", "p1")
    declared.run("user", "erase", "8", "--project", "p1", "--yes")
    before = declared.json("user", "list", "--project", "p1")
    assert declared.refused("user", *arguments, "--project", "p1").startswith(reason)
    assert declared.json("user", "list", "--project", "p1") == before


def test_user_create_and_get(declared: CliRunner) -> None:
    declared.run("identifier", "create", "login_id", "--project", "p1")
    created = declared.json(
        "user", "create", "10362473", "--identifier", "phone=18012345678", "--identifier", "login_id=a=b", "--project", "p1"
    )
    assert created == {
        "cuid": 10362473,
        "version": 1,
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
        "attributes": {},
        "identifiers": {"phone": ["18012345678"], "login_id": ["a=b"]},
        "changed_at": {},
    }
    assert declared.out("user", "create", str(2**63 - 1), "--project", "p1") == f"user {2**63 - 1} created\n"
    data = {"level": 12, "tags": ["a", "b c"], "vip": 1, "born": "2000-02-29 08:00:00", "note": "hidden"}
    declared.report("p1", 10362473, data)
    user = declared.json("user", "get", "10362473", "--project", "p1")
    assert user["version"] == 2
    assert user["updated_at"] == "2033-05-18T03:33:20.000Z"
    assert user["attributes"] == {"level": 12, "tags": ["a", "b c"], "vip": True, "born": "2000-02-29 08:00:00"}
    assert user["changed_at"] == dict.fromkeys(user["attributes"], "2033-05-18T03:33:20.000Z")
    assert declared.json("user", "get", "--identifier", "phone=18012345678", "--project", "p1") == user
    assert declared.json("user", "get", "--identifier", "login_id=a=b", "--project", "p1") == user
    whole = declared.json("user", "get", "10362473", "--hidden", "--project", "p1")
    assert whole["attributes"] == {**user["attributes"], "note": "hidden"}
    assert declared.out("user", "get", "10362473", "--project", "p1") == (
        "cuid                 10362473\n"
        "version              2\n"
        f"created              {created['created_at']}\n"
        "updated              2033-05-18T03:33:20.000Z\n"
        "identifier login_id  a=b\n"
        "identifier phone     18012345678\n"
        "\n"
        "attribute  type      rule       value\n"
        "level      NUMBER    overwrite  12\n"
        'tags       LIST      append     ["a","b c"]\n'
        "vip        BOOL      overwrite  true\n"
        "born       DATETIME  once       2000-02-29 08:00:00\n"
    )


def test_numbers_are_printed_exactly(declared: CliRunner) -> None:
    (cuid,) = register(declared, "1")
    declared.report("p1", cuid, {"level": "1000000000000000000000000000001"})
    assert '"level":1000000000000000000000000000001}' in declared.out("user", "get", str(cuid), "--project", "p1", "--json")
    declared.report("p1", cuid, {"level": "0.10000000000000000000000000000000000001"})
    assert "0.10000000000000000000000000000000000001\n" in declared.out("user", "get", str(cuid), "--project", "p1")


def test_values_are_never_cut_or_wrapped_and_cannot_steer_a_terminal(declared: CliRunner) -> None:
    (cuid,) = register(declared, "1")
    declared.report("p1", cuid, {"note": "\x1b[31m[bold]长" + "x" * 500 + "\n\u202eend\u3000"})
    shown = "\\x1b[31m[bold]长" + "x" * 500 + "\\n\\u202eend\u3000"
    for command in (("get", str(cuid), "--hidden"), ("list", "--attribute", "note")):
        lines = declared.out("user", *command, "--project", "p1").splitlines()
        assert lines[-1].endswith(shown)


def test_user_list(declared: CliRunner) -> None:
    a, b, c = register(declared, "18012345678", "180", "18099999999")
    for level, cuid in ((1, a), (2, b), (3, c)):
        declared.report("p1", cuid, {"level": level, "note": "x"})
    assert declared.out("user", "list", "--project", "p1") == (
        f"cuid      phone        level\n{a}  1801*******  1\n{b}  180          2\n{c}  1809*******  3\n"
    )
    page = declared.json("user", "list", "--project", "p1", "--attribute", "level", "--attribute", "note")
    assert page["next"] is None
    assert [u["attributes"] for u in page["users"]] == [{"level": n, "note": "x"} for n in (1, 2, 3)]
    assert page["users"][0]["identifiers"] == {"phone": ["1801*******"]}
    assert set(page["users"][0]) == {"cuid", "version", "created_at", "updated_at", "attributes", "identifiers"}
    page = declared.json("user", "list", "--project", "p1", "--where", "level:ge:2", "--where", "level:lt:3")
    assert [u["cuid"] for u in page["users"]] == [b]


def test_user_list_goes_on_where_it_ended(declared: CliRunner) -> None:
    cuids = register(declared, *map(str, range(5)))
    page = declared.json("user", "list", "--project", "p1", "--limit", "2")
    assert ([u["cuid"] for u in page["users"]], page["next"]) == (cuids[:2], str(cuids[1]))
    page = declared.json("user", "list", "--project", "p1", "--limit", "3", "--after", page["next"])
    assert ([u["cuid"] for u in page["users"]], page["next"]) == (cuids[2:], None)
    result = declared.run("user", "list", "--project", "p1", "--limit", "2")
    assert result.stderr == f"More users may follow; continue with --after {cuids[1]}\n"
    assert len(result.stdout.splitlines()) == 3


def test_user_list_reaches_beyond_a_page_of_the_store(declared: CliRunner) -> None:
    cuids = register(declared, *map(str, range(1050)))
    page = declared.json("user", "list", "--project", "p1", "--limit", "1040")
    assert [u["cuid"] for u in page["users"]] == cuids[:1040]
    assert page["next"] == str(cuids[1039])


def test_user_erase_asks_first(declared: CliRunner) -> None:
    a, b = register(declared, "1", "2")
    result = declared.run("user", "erase", str(a), "--project", "p1", stdin="n\n", code=1)
    assert result.stderr.startswith(f"Permanently erase user {a} of project p1 (demo)? [y/N]:")
    assert result.stderr.endswith("Aborted!\n")
    declared.run("user", "get", str(a), "--project", "p1")
    result = declared.run("user", "erase", str(a), "--project", "p1", stdin="y\n")
    assert result.stdout == f"user {a} erased\n"
    assert declared.json("user", "erase", str(b), "--project", "p1", "--yes") == {"cuid": b, "erased": True}
    assert declared.json("user", "list", "--project", "p1")["users"] == []


@pytest.mark.parametrize("command", [("user", "erase", "8"), ("history", "prune", "--before", "2024-01-01")])
def test_a_command_that_asks_and_gets_no_answer_says_how_to_run_it_without_one(
    declared: CliRunner, command: tuple[str, ...]
) -> None:
    declared.run("user", "create", "8", "--project", "p1")
    for unanswered in (
        declared.misused(*command, "--project", "p1"),
        declared.misused(*command, "--project", "p1", "--json"),
    ):
        assert unanswered == "no answer, so nothing was done; use --yes to skip the question"
    declared.run("user", "get", "8", "--project", "p1")


# schema


def test_schema_export_reads_back(declared: CliRunner) -> None:
    exported = declared.out("schema", "export", "--project", "p1")
    assert exported.startswith("# A schema of usertable.")
    assert "display_name: 等级" in exported
    declared.run("project", "create", "copy", "--id", "p2")
    plan = declared.out("schema", "apply", "-", "--project", "p2", stdin=exported)
    assert plan.splitlines() == [
        "+ declare attribute level: NUMBER overwrite",
        "+ declare attribute tags: LIST append",
        "+ declare attribute vip: BOOL overwrite",
        "+ declare attribute born: DATETIME once",
        "+ declare attribute note: STRING overwrite",
        "+ declare identifier phone: unique",
    ]
    assert declared.out("schema", "export", "--project", "p2") == exported
    assert declared.out("schema", "apply", "-", "--project", "p2", stdin=exported) == "nothing to do\n"
    assert len(declared.json("project", "changes", "p2")["changes"]) == 2


def test_schema_export_as_json_is_a_schema_file_too(declared: CliRunner) -> None:
    exported = declared.out("schema", "export", "--project", "p1", "--json")
    phone = {"name": "phone", "display_name": "", "unique": True, "masked": True}
    assert json.loads(exported)["identifiers"][0] == phone
    assert declared.out("schema", "diff", "-", "--project", "p1", stdin=exported) == "nothing to do\n"


def test_schema_diff_and_apply_show_one_plan(declared: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    exported = declared.out("schema", "export", "--project", "p1")
    file.write_text(
        exported.replace("display_name: 等级", "display_name: Level\n  hidden: true").replace(
            "identifiers:\n", "identifiers:\n- name: login_id\n"
        ),
        encoding="utf-8",
    )
    steps = [
        {"verb": "edit", "thing": "attribute", "name": "level", "detail": "display_name, hidden"},
        {"verb": "declare", "thing": "identifier", "name": "login_id", "detail": "unique"},
        {
            "verb": "order",
            "thing": "identifiers",
            "name": "login_id > phone > jg_registration_id > jg_UnionID",
            "detail": "",
        },
    ]
    assert declared.json("schema", "diff", str(file), "--project", "p1")["steps"] == steps
    assert declared.out("schema", "export", "--project", "p1") == exported
    assert declared.out("schema", "diff", str(file), "--project", "p1") == (
        "~ edit attribute level: display_name, hidden\n"
        "+ declare identifier login_id: unique\n"
        "~ order identifiers login_id > phone > jg_registration_id > jg_UnionID\n"
    )
    assert declared.json("schema", "apply", str(file), "--project", "p1")["steps"] == steps
    assert declared.json("schema", "apply", str(file), "--project", "p1") == {"dry_run": False, "steps": [], "refused": []}
    assert declared.json("schema", "diff", str(file), "--project", "p1") == {"dry_run": True, "steps": [], "refused": []}


def test_a_schema_file_says_whether_history_is_off_and_what_it_leaves_out_has_its_default(declared: CliRunner) -> None:
    p1 = ("--project", "p1")
    declared.run("attribute", "edit", "level", "--no-history", *p1)
    exported = declared.out("schema", "export", *p1)
    assert exported.count("history: false") == 1
    assert declared.out("schema", "apply", "-", *p1, stdin=exported) == "nothing to do\n"
    without = exported.replace("  history: false\n", "")
    for command in ("diff", "apply"):
        assert declared.out("schema", command, "-", *p1, stdin=without) == "~ edit attribute level: history\n"
    assert declared.json("attribute", "show", "level", *p1)["history"] is True


@pytest.mark.parametrize("command", ["diff", "apply"])
@pytest.mark.parametrize(
    ("old", "new", "step"),
    [
        (
            "type: NUMBER",
            "type: STRING",
            "change attribute level: NUMBER overwrite cannot become STRING overwrite; declare a new attribute",
        ),
        (
            "rule: append",
            "rule: once",
            "change attribute tags: LIST append cannot become LIST once; declare a new attribute",
        ),
        (
            "name: vip",
            "name: vip2",
            "delete attribute vip: it is missing from the file; hide it, or delete it by its own command",
        ),
        ("unique: true", "unique: false", "change identifier phone: its uniqueness is fixed"),
        ("name: phone", "name: phone2", "delete identifier phone: it is missing from the file"),
    ],
)
def test_what_would_lose_or_reinterpret_data_is_refused_whole(
    declared: CliRunner, command: str, old: str, new: str, step: str
) -> None:
    exported = declared.out("schema", "export", "--project", "p1")
    file = exported.replace(old, new).replace("display_name: 等级", "display_name: other")
    result = declared.run("schema", command, "-", "--project", "p1", stdin=file, code=1)
    assert f"! {step}\n" in result.stdout
    assert "~ edit attribute level: display_name\n" in result.stdout or old == "type: NUMBER"
    assert result.stderr == f"Error: refused, because it would lose or reinterpret data: {step}\n"
    assert declared.out("schema", "export", "--project", "p1") == exported
    result = declared.run("schema", command, "-", "--project", "p1", "--json", stdin=file, code=1)
    assert [f"{s['verb']} {s['thing']} {s['name']}: {s['detail']}" for s in json.loads(result.stdout)["refused"]] == [step]


def test_a_schema_file_that_is_wrong(declared: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text("attributes:\n- name: A\n  type: NUMBER\n  rule: once\n- name: b\n")
    for command in ("diff", "apply"):
        assert declared.refused("schema", command, str(file), "--project", "p1").splitlines() == [
            "the schema file is invalid at line 2: name [A] is invalid: lowercase letters, digits and underscores only,"
            " starting with a letter, at most 100 characters",
            "the schema file is invalid at line 5: an attribute needs the key type, which is missing",
            "the schema file is invalid at line 5: an attribute needs the key rule, which is missing",
        ]
        assert "No such file" in declared.misused("schema", command, str(tmp_path / "none"), "--project", "p1")
        assert "directory" in declared.misused("schema", command, str(tmp_path), "--project", "p1")
        assert declared.refused("schema", command, "-", "--project", "p2", stdin="{}").startswith(
            f"project [p2] does not exist in the store {declared.url};"
        )


def test_schema_apply_keeps_to_the_number_of_attributes(declared: CliRunner) -> None:
    exported = declared.out("schema", "export", "--project", "p1")
    declared.environment["USERTABLE_MAX_ATTRIBUTES"] = "5"
    more = exported.replace("identifiers:", "- {name: more, type: BOOL, rule: once}\nidentifiers:")
    assert declared.refused("schema", "apply", "-", "--project", "p1", stdin=more) == (
        "the project already has 5 attributes, which is the maximum"
    )
    assert declared.out("schema", "export", "--project", "p1") == exported


# settings


def test_config_shows_every_setting_and_where_it_came_from(empty: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "usertable.toml"
    file.write_text('port = 9000\nhost = "::1"\nadmin_token = "0123456789abcdef"\n')
    empty.environment["USERTABLE_HOST"] = "127.0.0.2"
    settings = empty.json("config", "--config", str(file), "--store", "memory:")
    assert list(settings) == list(Config.__dataclass_fields__)
    assert {name: (s["value"], s["source"]) for name, s in settings.items() if s["source"] != "default"} == {
        "store": ("memory:", "flag"),
        "host": ("127.0.0.2", "environment"),
        "port": (9000, "file"),
        "admin_token": (MASK, "file"),
    }
    assert all(s["help"] for s in settings.values())
    out = empty.out("--config", str(file), "config")
    assert re.search(r"^port +9000 +file +port to listen on", out, re.MULTILINE)
    assert "0123456789abcdef" not in out
    empty.environment["USERTABLE_CONFIG"] = str(file)
    assert empty.json("config")["port"]["source"] == "file"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("prot = 9000\n", "unknown setting 'prot'"),
        ("port = 'x'\n", "port is 'x'; expected an integer from 0 to 65535"),
        ("port = \n", "is not valid TOML"),
        ('admin_token = "short"\n', "admin_token is set but has fewer than 16 characters"),
    ],
)
def test_a_configuration_that_cannot_be_is_wrong_usage(cli: CliRunner, tmp_path: Path, file: str, reason: str) -> None:
    path = tmp_path / "usertable.toml"
    path.write_text(file)
    for command in (("config",), ("project", "list"), ("serve",)):
        assert reason in cli.misused(*command, "--config", str(path))
    assert "cannot be read: No such file" in cli.misused("config", "--config", str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["USERTABLE_PROT", "USERTABLE_SECRETS", "USERTABLE_CONFIG_FILE"])
def test_an_unknown_variable_is_wrong_usage(cli: CliRunner, name: str) -> None:
    cli.environment[name] = "9000"
    assert cli.misused("project", "list").startswith(f"unknown environment variable {name}; known: USERTABLE_CONFIG")


def test_the_store_may_be_named_anywhere_and_the_innermost_wins(cli: CliRunner, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    for place, arguments in enumerate(
        (
            ("--store", other, "project", "create", "x"),
            ("project", "--store", other, "create", "x"),
            ("project", "create", "--store", other, "x"),
            ("project", "create", "x", "--store", other),
            ("--store", "nonsense:", "project", "--store", cli.url, "create", "x", "--store", other),
        ),
        start=1,
    ):
        cli.run(*arguments)
        assert len(cli.json("project", "list", "--store", other)["projects"]) == place
    assert len(cli.json("project", "list")["projects"]) == 1
    assert json.loads(cli.out("--json", "--store", other, "project", "list")) == cli.json(
        "project", "list", "--store", other
    )


def test_the_default_store_gets_a_folder_of_its_own(empty: CliRunner, tmp_path: Path) -> None:
    del empty.environment["USERTABLE_STORE"]
    empty.run("project", "create", "demo")
    folder = tmp_path / "data" / "usertable"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "usertable.db").stat().st_mode) == 0o600
    assert len(empty.json("project", "list")["projects"]) == 1


def test_the_folders_of_the_default_store_are_synced_in_their_parents(
    empty: CliRunner, tmp_path: Path, synced: list[Path]
) -> None:
    del empty.environment["USERTABLE_STORE"]
    empty.run("project", "create", "demo")
    assert {tmp_path, tmp_path / "data"} <= set(synced)


def test_a_default_folder_that_cannot_be_made(empty: CliRunner, tmp_path: Path) -> None:
    del empty.environment["USERTABLE_STORE"]
    (tmp_path / "data").write_text("a file")
    assert empty.refused("project", "create", "demo") == f"{tmp_path}/data/usertable: Not a directory"


LOOKING = [
    ("project", "list"),
    ("project", "edit", "p1", "--qps", "5"),
    ("attribute", "create", "level", "--type", "NUMBER", "--rule", "overwrite", "--project", "p1"),
    ("user", "get", "5", "--project", "p1"),
    ("user", "register", "phone", "1", "--project", "p1"),
    ("schema", "export", "--project", "p1"),
    ("export", "--project", "p1"),
]


@pytest.mark.parametrize("command", LOOKING)
def test_a_command_that_looks_for_something_makes_no_store(empty: CliRunner, tmp_path: Path, command: Sequence[str]) -> None:
    said = empty.refused(*command)
    assert said == (
        f"there is no store at {empty.url}; name it with --store URL or USERTABLE_STORE, or create one:"
        " usertable project create NAME"
    )
    del empty.environment["USERTABLE_STORE"]
    assert f"there is no store at sqlite:///{tmp_path}/data/usertable/usertable.db, the default; name" in empty.refused(
        *command
    )
    assert list(tmp_path.iterdir()) == []


def test_an_import_makes_the_store_but_a_dry_run_does_not(empty: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text("cuid\n1\n")
    assert "there is no store at" in empty.refused("import", str(file), "--project", "p1", "--dry-run")
    assert list(tmp_path.iterdir()) == [file]
    assert f"project [p1] does not exist in the store {empty.url}" in empty.refused("import", str(file), "--project", "p1")


KUBERNETES = {
    "USERTABLE_PORT": "tcp://10.96.12.7:8000",
    "USERTABLE_SERVICE_HOST": "10.96.12.7",
    "USERTABLE_SERVICE_PORT": "8000",
    "USERTABLE_SERVICE_PORT_HTTP": "8000",
    "USERTABLE_PORT_8000_TCP": "tcp://10.96.12.7:8000",
    "USERTABLE_PORT_8000_TCP_PROTO": "tcp",
    "USERTABLE_PORT_8000_TCP_PORT": "8000",
    "USERTABLE_PORT_8000_TCP_ADDR": "10.96.12.7",
    "USERTABLE_DB_SERVICE_HOST": "fd00:10:96::7",
    "USERTABLE_DB_PORT": "tcp://[fd00:10:96::7]:5432",
    "USERTABLE_DB_PORT_53_UDP": "udp://10.96.12.8:53",
}


def test_the_variables_of_a_kubernetes_service_are_no_settings(cli: CliRunner) -> None:
    cli.environment |= KUBERNETES
    config = cli.run("config", "--json")
    assert json.loads(config.stdout)["port"] == {**json.loads(config.stdout)["port"], "value": 8000, "source": "default"}
    assert config.stderr.count("\n") == 1
    assert all(name in config.stderr for name in KUBERNETES)
    assert "enableServiceLinks: false" in config.stderr
    assert "p1" in cli.out("project", "list")
    # Each of them alone, too.
    for name, value in KUBERNETES.items():
        assert "p1" in CliRunner(cli.url, {name: value}).out("project", "list")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USERTABLE_PORT", "8000 "),
        ("USERTABLE_PORT", "tcp:8000"),
        ("USERTABLE_SERVICE_HOST", "db.example.com"),
        ("USERTABLE_SERVICE_PORT", "http"),
        ("USERTABLE_PORT_8000_TCP_PROTO", "8000"),
        ("USERTABLE_HOSTS", "10.96.12.7"),
    ],
)
def test_a_variable_that_only_resembles_one_of_kubernetes_is_wrong_usage(cli: CliRunner, name: str, value: str) -> None:
    cli.environment[name] = value
    assert name in cli.misused("project", "list")


def test_a_file_of_windows_and_a_token_with_a_line_end_are_read(empty: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "usertable.toml"
    file.write_bytes(b'\xef\xbb\xbfport = 9000\r\nadmin_token = """0123456789abcdef\r\n"""\r\n')
    assert empty.json("config", "--config", str(file))["port"]["value"] == 9000
    assert load({}, {}, str(file)).config.admin_token == "0123456789abcdef"
    for text in ("0123456789abcdef\n", "0123456789abcdef\r\n", " 0123456789abcdef "):
        assert load({}, {"USERTABLE_ADMIN_TOKEN": text}).config.admin_token == "0123456789abcdef"
    assert load({}, {"USERTABLE_STORE": "sqlite:///users.db\n", "USERTABLE_PORT": "80\n"}).config.port == 80
    empty.environment["USERTABLE_CONFIG"] = f"{file}\n"
    assert empty.json("config")["port"]["source"] == "file"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_configuration_in_utf_16_is_told_so(empty: CliRunner, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "usertable.toml"
    file.write_text("port = 9000\n", encoding=encoding)
    assert f"{file} is in UTF-16, or not a text file; save it as UTF-8" in empty.misused("config", "--config", str(file))


def test_a_configuration_in_another_encoding_is_told_where(empty: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "usertable.toml"
    file.write_bytes("# München\n".encode("cp1252"))
    assert f"{file} is not UTF-8 (byte 4); save it as UTF-8" in empty.misused("config", "--config", str(file))


def test_a_line_break_in_a_setting_is_wrong_usage(empty: CliRunner) -> None:
    empty.environment["USERTABLE_ADMIN_TOKEN"] = "0123456789\nabcdef"
    said = empty.misused("config")
    assert said == "USERTABLE_ADMIN_TOKEN has a line break or another control character in it"


def test_without_a_home_folder_only_the_default_store_is_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    # A user that the system does not know has no home folder either.
    script = (
        "import os, pwd; os.environ.pop('HOME', None);"
        "pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid));"
        "from usertable.cli import main; main()"
    )

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], **more}
        return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment)

    store = f"sqlite:///{tmp_path}/users.db"
    assert run("project", "create", "demo", "--store", store).returncode == 0
    assert "demo" in run("project", "list", "--store", store).stdout
    assert "demo" in run("project", "list", USERTABLE_STORE=store).stdout
    without = run("project", "list")
    assert without.returncode == 2
    assert "HOME is not set); name one with --store URL or USERTABLE_STORE" in without.stderr
    assert "Traceback" not in without.stderr
    assert run("project", "create", "demo", XDG_DATA_HOME=f"{tmp_path}/data").returncode == 0


def test_no_folder_for_temporary_files_is_needed(cli: CliRunner, tmp_path: Path) -> None:
    cli.run("attribute", "create", "level", "--type", "NUMBER", "--rule", "overwrite", "--project", "p1")
    cli.run("user", "create", "5", "--project", "p1")
    cli.report("p1", 5, {"level": 3})
    command = [
        sys.executable,
        "-c",
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/none'];from usertable.cli import main; main()",
    ]
    store = ["--store", cli.url, "--project", "p1"]
    exported = subprocess.run([*command, "export", "--format", "parquet", *store], capture_output=True)
    assert (exported.returncode, exported.stderr) == (0, b"")
    imported = subprocess.run(
        [*command, "import", "-", "--format", "parquet", *store], input=exported.stdout, capture_output=True, cwd=tmp_path
    )
    assert imported.returncode == 0, imported.stderr
    assert b"1 unchanged" in imported.stdout
    with subprocess.Popen(
        [*command, "serve", "--store", cli.url, "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        assert any("serving" in line for line in server.stderr)
        server.terminate()
        server.stderr.read()
    assert server.returncode == 0


def test_a_memory_store_is_for_serve_only(empty: CliRunner) -> None:
    for url in ("memory:", "memory:x"):
        assert "exists only inside its server" in empty.misused("project", "list", "--store", url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///{tmp}/none/users.db", "the folder {tmp}/none does not exist; create it, or name another file"),
        ("sqlite:///{tmp}", "{tmp} is a folder; name a file in it"),
        ("sqlite:///{tmp}/text/users.db", "the folder {tmp}/text does not exist"),
        ("sqlite:////proc/users.db", "the store /proc/users.db cannot be written"),
        ("sqlite:///{tmp}/" + "x" * 300, "the store {tmp}/xxx"),
        ("sqlite:///{tmp}/text", "{tmp}/text is not a usertable store: it is not a SQLite database"),
        ("sqlite:///{tmp}/other.db", "{tmp}/other.db is not a usertable store: it is a SQLite database of another"),
        ("sqlite:///{tmp}/newer.db", "{tmp}/newer.db was written by a newer usertable"),
        ("sqlite://users.db", "unusable store URL 'sqlite://users.db'"),
        ("users.db", "unknown store URL 'users.db'"),
        ("mysql://me:secret@localhost/x", "unknown store URL 'mysql://me:********@localhost/x'"),
        ("", "unknown store URL ''"),
    ],
)
def test_a_store_that_cannot_be_used(empty: CliRunner, tmp_path: Path, url: str, reason: str) -> None:
    (tmp_path / "text").write_text("this is no database, but long enough to have been one")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE x (y)")
    db.close()
    empty.run("migrate", "--store", f"sqlite:///{tmp_path}/newer.db")
    with sqlite3.connect(tmp_path / "newer.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    url, reason = url.replace("{tmp}", str(tmp_path)), reason.replace("{tmp}", str(tmp_path))
    for command in (("project", "create", "x"), ("serve", "--port", "0")):
        assert empty.refused(*command, "--store", url).startswith(reason)
    for file, content in before.items():
        assert file.read_bytes() == content


def test_a_store_that_stays_locked(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.store.sqlite.connection.BUSY_SECONDS", 0.05)
    path = cli.url.removeprefix("sqlite:///")
    # By the same SQLite: two of them in one process do not see each other's locks.
    holder = apsw.Connection(path)
    holder.execute("BEGIN IMMEDIATE")
    try:
        reason = cli.refused("project", "edit", "p1", "--qps", "5")
    finally:
        holder.close()
    assert reason == f"temporarily unavailable, retry later: {path}: database is locked"


# usage


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--nope",), "No such option '--nope'"),
        (("nope",), "No such command 'nope'"),
        (("project", "nope"), "No such command 'nope'"),
        (("project", "list", "--nope"), "No such option '--nope'"),
        (("project", "list", "extra"), "Got unexpected extra argument (extra)"),
        (("project", "create"), "Missing argument 'NAME'"),
        (("project", "create", "x", "--qps", "many"), "'many' is neither an integer nor 'unlimited'"),
        (("project", "create", "x", "--qps", "1.5"), "'1.5' is neither an integer nor 'unlimited'"),
        (("project", "edit", "p1"), "nothing to change"),
        (("attribute", "create", "x", "--project", "p1", "--rule", "once"), "Missing option '--type'"),
        (("attribute", "create", "x", "--project", "p1", "--type", "BOOL"), "Missing option '--rule'"),
        (
            ("attribute", "create", "x", "--project", "p1", "--type", "FLOAT", "--rule", "once"),
            "'FLOAT' is not one of 'NUMBER', 'STRING', 'BOOL', 'DATETIME', 'LIST'",
        ),
        (
            ("attribute", "create", "x", "--project", "p1", "--type", "BOOL", "--rule", "max"),
            "'max' is not one of 'overwrite', 'once', 'accumulate', 'append'",
        ),
        (("attribute", "list", "--project", "p1", "--status", "x"), "'x' is not one of 'visible', 'hidden', 'all'"),
        (("attribute", "edit", "x", "--project", "p1"), "nothing to change"),
        (("identifier", "edit", "x", "--project", "p1"), "nothing to change"),
        (("identifier", "order", "--project", "p1"), "Missing argument 'NAME...'"),
        (("user", "register", "phone", "--project", "p1"), "Missing argument 'VALUE...'"),
        (("user", "get", "--project", "p1"), "give either a CUID or --identifier NAME=VALUE"),
        (("user", "get", "5", "--identifier", "a=b", "--project", "p1"), "give either a CUID or --identifier"),
        (("user", "get", "--identifier", "phone", "--project", "p1"), "'phone' is not NAME=VALUE"),
        (("user", "get", "--identifier", "=1", "--project", "p1"), "'=1' is not NAME=VALUE"),
        (
            ("user", "get", "five", "--project", "p1"),
            "'five' is not a CUID: a CUID is a number from 1 to 9223372036854775807",
        ),
        (("user", "get", "0", "--project", "p1"), "'0' is not a CUID"),
        (("user", "get", "007", "--project", "p1"), "'007' is not a CUID"),
        (("user", "get", "9223372036854775808", "--project", "p1"), "'9223372036854775808' is not a CUID"),
        (("user", "get", "9" * 5000, "--project", "p1"), "999…' is not a CUID"),
        (("user", "create", "0", "--project", "p1"), "'0' is not a CUID"),
        (("user", "erase", "abc", "--project", "p1"), "'abc' is not a CUID"),
        (
            ("user", "create", "5", "--identifier", "a=1", "--identifier", "a=2", "--project", "p1"),
            "--identifier names the same identifier twice",
        ),
        (("user", "list", "--limit", "0", "--project", "p1"), "0 is not in the range x>=1"),
        (("user", "list", "--after", "-1", "--project", "p1"), "-1 is not in the range"),
        (("schema", "diff", "--project", "p1"), "Missing argument 'FILE'"),
        (("serve", "--port", "x"), "--port is 'x'; expected an integer from 0 to 65535"),
        (("serve", "--port", "65536"), "--port is 65536; expected an integer from 0 to 65535"),
        (("serve", "--log-level", "loud"), "log_level is 'loud'"),
    ],
)
def test_wrong_usage(cli: CliRunner, arguments: Sequence[str], reason: str) -> None:
    assert reason in cli.misused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("attribute", "list"),
        ("identifier", "list"),
        ("identifier", "create", "x"),
        ("user", "list"),
        ("user", "get", "5"),
        ("user", "register", "phone", "1"),
        ("schema", "export"),
    ],
)
def test_a_project_that_is_not_there(cli: CliRunner, arguments: Sequence[str]) -> None:
    assert cli.refused(*arguments, "--project", "none") == (
        f"project [none] does not exist in the store {cli.url}; for another store, name it with"
        " --store URL or USERTABLE_STORE"
    )


def _commands(
    command: click.Command = commands, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in _commands()], ids=" ".join)
def test_the_help_is_the_manual(cli: CliRunner, path: tuple[str, ...]) -> None:
    command = dict(_commands())[path]
    out = cli.out(*path, "--help")
    assert out == cli.out(*path, "-h")
    assert out.startswith(f"Usage: usertable {' '.join(path)}".rstrip())
    assert all(parameter.help for parameter in command.params)
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert {"store", "config"} <= {option.name for option in options}
    assert ("json" in {option.name for option in options}) == (path != ("serve",))
    if not isinstance(command, click.Group):
        examples = re.findall(r"^ +(usertable .*)$", out, re.MULTILINE)
        assert examples
        assert all(example.startswith(f"usertable {' '.join(path)}") for example in examples)


def test_the_commands_are_those_of_the_manual() -> None:
    leaves = {" ".join(path) for path, command in _commands() if not isinstance(command, click.Group)}
    assert leaves == {
        "serve",
        "backup",
        "restore",
        "doctor",
        "import",
        "export",
        "config",
        "migrate",
        "audit",
        *(f"history {c}" for c in ("show", "diff", "status", "set", "prune")),
        "store copy",
        *(f"project {c}" for c in ("create", "list", "edit", "rotate-secret", "changes")),
        *(f"attribute {c}" for c in ("create", "list", "edit", "hide", "show", "delete")),
        *(f"key {c}" for c in ("create", "list", "revoke")),
        *(f"person {c}" for c in ("create", "list", "edit", "invite", "sign-out", "remove")),
        *(f"identifier {c}" for c in ("create", "list", "order", "edit", "delete")),
        *(f"user {c}" for c in ("register", "create", "get", "list", "erase")),
        *(f"schema {c}" for c in ("export", "diff", "apply")),
    }


# As a process of its own


class Process:
    """Runs `python -m usertable` on one store."""

    def __init__(self, cli: CliRunner) -> None:
        self.environment = {k: v for k, v in {**os.environ, **cli.environment}.items() if v is not None}
        self.environment["PYTHONPATH"] = str(Path(usertable.__file__).parent.parent)

    def start(self, *arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, *options.pop("flags", ()), "-m", "usertable", *arguments],
            env={**self.environment, **options.pop("env", {})},
            **{**streams, **options},
        )

    def run(self, *arguments: str | bytes, **options: Any) -> tuple[int, str, str]:
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(timeout=60)
        assert b"Traceback" not in err
        return process.returncode, (out or b"").decode(), (err or b"").decode()


class Server(Process):
    """A running `usertable serve`, on a free port."""

    def __init__(self, cli: CliRunner) -> None:
        super().__init__(cli)
        self.process = self.start("serve", "--port", "0")
        self.log: list[str] = []
        assert self.process.stderr is not None
        self.port = self._port(self.process.stderr)

    def _port(self, stderr: IO[bytes]) -> int:
        for line in stderr:
            self.log.append(line.decode())
            if found := re.search(r"serving .* on http://127\.0\.0\.1:([0-9]+)", self.log[-1]):
                return int(found[1])
        raise AssertionError(f"the server did not start: {self.log}")

    def put(self, secret: str, cuid: int, data: dict[str, object]) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.put(
            f"http://127.0.0.1:{self.port}/smartop/api/v1/user/attribute",
            auth=("p1", secret),
            json={"cuid": cuid, "data": data},
            headers={"Accept-Language": "en"},
            timeout=30,
        ).json()
        return answer

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
            _, err = self.process.communicate(timeout=60)
            self.log += err.decode().splitlines(keepends=True)
        return self.process.returncode


@pytest.fixture
def server(declared: CliRunner) -> Iterator[Server]:
    server = Server(declared)
    yield server
    server.stop()


def test_a_running_server_sees_what_a_command_changes(declared: CliRunner, server: Server) -> None:
    (cuid,) = register(declared, "1")
    unknown = {"code": 40010, "msg": "user attribute [score] does not exist"}
    ok = {"code": 0, "msg": "ok"}
    assert server.put(SECRET, cuid, {"score": 1}) == unknown
    declared.run("attribute", "create", "score", "--project", "p1", "--type", "NUMBER", "--rule", "accumulate")
    wait_until(lambda: server.put(SECRET, cuid, {"score": 1}) == ok)
    assert declared.json("user", "get", str(cuid), "--project", "p1")["attributes"] == {"score": 1}

    exported = declared.out("schema", "export", "--project", "p1")
    more = exported.replace("identifiers:", "- {name: more, type: BOOL, rule: once}\nidentifiers:")
    declared.run("schema", "apply", "-", "--project", "p1", stdin=more)
    wait_until(lambda: server.put(SECRET, cuid, {"more": 1}) == ok)

    new = declared.json("project", "rotate-secret", "p1")["secret"]
    wait_until(lambda: server.put(SECRET, cuid, {"score": 1})["code"] == 4009)
    assert server.put(new, cuid, {"score": 1}) == ok


def test_every_command_works_beside_a_server(declared: CliRunner, server: Server) -> None:
    (cuid,) = register(declared, "1")
    assert server.put(SECRET, cuid, {"level": 1}) == {"code": 0, "msg": "ok"}
    declared.run("user", "erase", str(cuid), "--project", "p1", "--yes")
    assert server.put(SECRET, cuid, {"level": 1})["code"] == 40003
    declared.run("user", "create", "5", "--project", "p1")
    assert server.put(SECRET, 5, {"level": 1}) == {"code": 0, "msg": "ok"}


def test_a_second_server_on_the_same_store_is_refused(server: Server) -> None:
    code, out, err = server.run("serve", "--port", "0")
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: another server (process {server.process.pid}) already serves ")
    assert server.stop() == 0


def test_a_taken_port_is_told_and_leaves_the_store_alone(empty: CliRunner, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = Process(empty).run("serve", "--port", str(port))
    assert (code, out) == (1, "")
    assert err == (
        f"Error: cannot listen on 127.0.0.1 port {port}: the address is in use;"
        " stop the other program, or choose another port with --port (0 for any free port)\n"
    )
    assert not (tmp_path / "users.db").exists()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("999.1.1.1", "unknown host; --host takes an address of this machine"),
        ("..", "unknown host; --host takes an address of this machine"),
        ("192.0.2.1", "this machine does not have that address; choose another with --host"),
    ],
)
def test_an_address_that_is_not_ours(empty: CliRunner, host: str, reason: str) -> None:
    assert empty.refused("serve", "--port", "0", "--host", host) == f"cannot listen on {host} port 0: {reason}"


def test_what_keeps_a_server_from_starting_is_named_when_it_is_not_the_address(cli: CliRunner) -> None:
    program = "import sys; sys.executable = '/nowhere/python'; from usertable.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--store", cli.url, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "Error: the server stopped because of a system error: No such file or directory: /nowhere/python\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_is_stopped_by_a_signal(server: Server, number: int) -> None:
    assert server.stop(number) == 0
    assert "stopped; every acknowledged write is stored" in server.log[-1]


def test_serve_says_who_can_reach_it(server: Server) -> None:
    assert "(reachable from this machine only)" in server.log[0]


def test_ctrl_c_ends_a_command_quietly(declared: CliRunner) -> None:
    (cuid,) = register(declared, "1")
    with Process(declared).start(
        *("user", "erase", str(cuid), "--project", "p1"),
        stdin=subprocess.PIPE,
        # If the tests run in the background, they and their children may ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        prompt = f"Permanently erase user {cuid} of project p1 (demo)? [y/N]: "
        assert process.stderr.read(len(prompt)).decode() == prompt
        # While `input` has yet to flush its prompt, Python loses the signal. Then it sleeps until there is an answer.
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (1, b"Aborted!")
    declared.run("user", "get", str(cuid), "--project", "p1")


@pytest.mark.parametrize("mode", [(), ("--json",)])
def test_a_reader_that_leaves_is_no_error(declared: CliRunner, mode: Sequence[str]) -> None:
    register(declared, *(f"{n:0200}" for n in range(1000)))
    with Process(declared).start("user", "list", "--limit", "1000", "--project", "p1", *mode) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")


def test_a_terminal_gets_a_table_that_fits_it(declared: CliRunner) -> None:
    (cuid,) = register(declared, "1")
    declared.report("p1", cuid, {"note": "x" * 100 + "[red]等级", "level": 1})
    main, terminal = pty.openpty()
    with Process(declared).start(
        "user", "get", str(cuid), "--hidden", "--project", "p1", stdout=terminal, env={"COLUMNS": "60"}
    ) as process:
        os.close(terminal)
        shown = shown_on(main)
    assert process.returncode == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()]
    assert max(len(line) for line in lines) <= 60
    assert "x" * 100 + "[red]等级" in "".join(line.split()[-1] for line in lines if "x" in line or "red" in line)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written(cli: CliRunner, unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = Process(cli).run("project", "list", stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert (code, err) == (1, "Error: No space left on device\n")


def test_an_argument_that_is_no_text(cli: CliRunner) -> None:
    code, _, err = Process(cli).run("project", "create", b"\xff", env={"LC_ALL": "C.UTF-8"})
    assert (code, err) == (2, "Error: argument 3 is not valid UTF-8\n")


def test_a_terminal_without_chinese(declared: CliRunner) -> None:
    env = {"PYTHONIOENCODING": "latin-1"}
    code, out, _ = Process(declared).run("attribute", "list", "--project", "p1", env=env)
    assert code == 0
    assert "\\u7b49\\u7ea7" in out
    code, out, _ = Process(declared).run("schema", "export", "--project", "p1", env=env)
    assert "display_name: 等级" in out
    code, out, _ = Process(declared).run("attribute", "list", "--project", "p1", "--json", env=env)
    assert json.loads(out)["attributes"][0]["display_name"] == "等级"
    code, _, err = Process(declared).run("attribute", "hide", "等级", "--project", "p1", env=env)
    assert code == 1
    assert "[\\u7b49\\u7ea7]" in err


def test_the_help_loads_nothing_slow(empty: CliRunner) -> None:
    code, _, err = Process(empty).run("--help", flags=("-X", "importtime"))
    loaded = {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}
    assert code == 0
    assert "usertable.cli" in loaded
    assert "usertable.store" not in loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("asyncio", "starlette", "uvicorn", "ruamel", "rich")}
