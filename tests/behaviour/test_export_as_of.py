"""`usertable export --as-of`, on a store and through a server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pyarrow import parquet

from support.actors import TESTER
from support.cli_runner import CliRunner
from support.commands import edit_project
from support.native_server import NativeServer, native_server
from usertable.domain.schema import Project
from usertable.store import open_store

SECRET = "a-secret-of-the-tests"
NOWHERE = "sqlite:////nowhere/there-is-no-such-store.db"
ROUTE = "/api/v1/projects/p/users:export"
FIRST = "cuid,phone,level,city,note\n1,p1,1,Berlin,n1\n2,p2,2,杭州,n2\n3,p3,3,=x,n3\n"
LATER = "cuid,phone,level,city,note\n1,,10,Paris,m1\n3,,30,,m3\n4,p4,4,Rome,m4\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    folder = tmp_path_factory.mktemp("server")
    with native_server(folder) as started:
        shop = here(started)
        shop.run("project", "create", "shop", "--id", "p", "--secret", SECRET, "--timezone", "Europe/Berlin")
        shop.run("identifier", "create", "phone")
        for name, kind in (("level", "NUMBER"), ("city", "STRING"), ("note", "STRING")):
            shop.run("attribute", "create", name, "--type", kind, "--rule", "overwrite")
        yield started


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Then:
    """What was exported at a moment, by format."""

    files: dict[str, bytes]
    moment: str
    """`2026-11-30T08:00:00.123Z`."""


@pytest.fixture(scope="module")
def then(server: NativeServer, tmp_path_factory: pytest.TempPathFactory) -> Then:
    """Export the table. Since then, everything has changed."""
    folder = tmp_path_factory.mktemp("files")
    shop = here(server)
    (folder / "first.csv").write_text(FIRST)
    shop.run("import", str(folder / "first.csv"), "--register")
    files = {format: shop.run("export", "--format", format).stdout_bytes for format in ("csv", "ndjson", "parquet")}
    times = shop.out("export", "--attributes", "@updated_at", "--format", "ndjson", "--utc").splitlines()
    # Some milliseconds have passed since the last of them.
    moment: str = max(json.loads(line)["@updated_at"] for line in times)
    (folder / "later.csv").write_text(LATER)
    shop.run("import", str(folder / "later.csv"), "--register")
    body = {"cuid": 2, "data": {"level": 20, "city": "London"}}
    answer = server.caller("p", SECRET).put("/smartop/api/v1/user/attribute", json=body)
    assert answer.json()["code"] == 0
    return Then(files, moment.replace(" ", "T"))


def here(server: NativeServer) -> CliRunner:
    """Return a shell on the server's store."""
    return CliRunner(f"sqlite:///{server.database}", {"USERTABLE_PROJECT": "p"})


def there() -> CliRunner:
    """Return a shell without a store."""
    return CliRunner(NOWHERE, {"USERTABLE_PROJECT": "p", "USERTABLE_SECRET": SECRET})


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_the_file_is_the_one_that_was_exported_then(server: NativeServer, then: Then, format: str) -> None:
    options = ("export", "--as-of", then.moment, "--format", format)
    for result in (here(server).run(*options), there().run(*options, "--url", server.url)):
        assert result.stdout_bytes == then.files[format]
        assert result.stderr == ""
    assert here(server).run("export", "--format", format).stdout_bytes != then.files[format]


def test_the_answer_names_the_moment_in_utc(server: NativeServer, then: Then) -> None:
    moment = then.moment
    for shell, url in ((here(server), ()), (there(), ("--url", server.url))):
        said = shell.out("export", "--as-of", moment, "-o", "users.csv.gz", *url)
        assert said == f"3 users as of {moment} written to users.csv.gz\n"
        told = shell.json("export", "--as-of", moment, "-o", "users.parquet", *url)
        assert told == {"users": 3, "file": "users.parquet", "as_text": [], "as_of": moment, "not_kept": []}
        assert parquet.read_table("users.parquet")["city"].to_pylist() == ["Berlin", "杭州", "=x"]
    answer = server.caller("p", SECRET).get(ROUTE, params={"as_of": moment, "where": "level:ge:2"})
    assert (answer.headers["usertable-as-of"], answer.headers["usertable-users"]) == (moment, "2")
    assert answer.text.splitlines()[1] == "2,p2,2,杭州,n2"


def test_filters_and_columns_are_those_of_the_row_then(server: NativeServer, then: Then) -> None:
    out = here(server).out(
        *("export", "--as-of", then.moment, "--where", "city:eq:Berlin", "--attributes", "level,@version"),
        *("--identifiers", "none"),
    )
    assert out.splitlines() == ["cuid,level,@version", "1,1,2"]


def test_a_page_of_the_table_is_of_now_and_refuses_an_earlier_moment(server: NativeServer, then: Then) -> None:
    query = {"as_of": then.moment, "where": "city:eq:Berlin"}
    answer = server.caller("p", SECRET).get("/api/v1/projects/p/users", params=query)
    assert answer.status_code == 400
    assert answer.json()["detail"] == (
        "parameter [as_of] is invalid; expected one of attributes, hidden, after, limit, where, identifier, value"
    )
    # The export has who was in Berlin then, and nobody is now.
    then_there = server.caller("p", SECRET).get(ROUTE, params={**query, "attributes": "city", "identifiers": "none"})
    assert then_there.text.splitlines() == ["cuid,city", "1,Berlin"]
    del query["as_of"]
    assert server.caller("p", SECRET).get("/api/v1/projects/p/users", params=query).json()["users"] == []


@pytest.mark.parametrize(
    ("moment", "status", "detail"),
    [
        ("yesterday", 422, "parameter [as_of] is invalid; expected a date such as"),
        ("2026-02-30", 422, "parameter [as_of] is invalid; expected a day of 2026-02, 01 to 28, got [2026-02-30]"),
        ("2026-03-29 02:30:00", 422, "parameter [as_of]: [2026-03-29 02:30:00] does not exist"),
        ("2999-01-01", 422, "parameter [as_of]: [2999-01-01] is in the future"),
        ("2001-01-01", 410, "history is kept from ["),
    ],
)
def test_a_moment_that_cannot_be_asked_for_is_refused(
    server: NativeServer, then: Then, moment: str, status: int, detail: str
) -> None:
    answer = server.caller("p", SECRET).get(ROUTE, params={"as_of": moment})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    Path("users.csv").write_text("of yesterday")
    detail = detail.replace("parameter [as_of]", "--as-of")
    for shell, url in ((here(server), ()), (there(), ("--url", server.url))):
        assert detail in shell.refused("export", "--as-of", moment, *url)
        assert detail in shell.refused("export", "--as-of", moment, "-o", "users.csv", *url)
    assert Path("users.csv").read_text() == "of yesterday"


def test_columns_whose_history_was_off_are_empty_and_named(server: NativeServer, then: Then) -> None:
    def off(project: Project) -> Project:
        attributes = {**project.schema.attributes}
        attributes["note"] = replace(attributes["note"], history_since=None)
        return replace(project, schema=replace(project.schema, attributes=attributes))

    store = open_store(f"sqlite:///{server.database}")
    before = store.project("p")
    assert before is not None
    schema = before.schema
    try:
        edit_project(store, "p", off, TESTER, time.time_ns() // 10**6)
        moment = then.moment
        for shell, url in ((here(server), ()), (there(), ("--url", server.url))):
            result = shell.run("export", "--as-of", moment, *url)
            assert result.stdout.splitlines()[1:] == ["1,p1,1,Berlin,", "2,p2,2,杭州,", "3,p3,3,=x,"]
            assert result.stderr == f"empty, because their history was off at {moment} or later: note\n"
            told = shell.run("export", "--as-of", moment, "-o", "users.csv", "--json", *url)
            assert json.loads(told.stdout)["not_kept"] == ["note"]
            for options in (("--attributes", "level,note"), ("--where", "note:set")):
                assert shell.refused("export", "--as-of", moment, *options, *url) == (
                    f"the values of user attribute [note] at [{moment}] are not known, because its history was off then or"
                    " later; leave it out"
                )
    finally:
        edit_project(store, "p", lambda project: replace(project, schema=schema), TESTER, 1)
        store.close()
