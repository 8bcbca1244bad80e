"""The documentation matches the code: settings, commands, problems, codes, rules, routes, dependencies, links."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from support import cli_reference
from support.pages import LINK, PAGES, REFERENCE, ROOT, anchors, page_id, prose, row_of, rows
from usertable import client
from usertable.client.errors import ERRORS
from usertable.config import FILE_SUFFIX, FROM_FILES, PREFIX, SECRET, SECRET_FILE, Config
from usertable.config import PROJECT as PROJECT_VARIABLE
from usertable.console.app import HEADERS
from usertable.console.app import PAGES as PAGES_OF_CONSOLE
from usertable.dialects.jiguang import codes
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, REGISTER_PATH
from usertable.domain.audit import INSTALLATION_KINDS, PROJECT_LOG_KINDS
from usertable.domain.errors import ProblemKind
from usertable.domain.profile import Outcome
from usertable.domain.schema import LEGAL_RULES, Rule
from usertable.domain.values import DataType
from usertable.http.openapi import LIVE_PATH
from usertable.http.openapi import document as openapi_document
from usertable.http.operations import OPERATIONS
from usertable.wire.catalogue import en, zh
from usertable.wire.native import problem_details

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_index_has_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    missing = [page_id(p) for p in PAGES if p.is_relative_to(index.parent) and p != index and p not in listed]
    assert not missing


def test_every_setting_in_a_file_for_deployment_exists() -> None:
    known = {f"{PREFIX}{f.name.upper()}" for f in fields(Config)}
    known |= {f"{PREFIX}{name}{FILE_SUFFIX}".upper() for name in FROM_FILES}
    files = [file for file in (ROOT / "deploy").rglob("*") if file.is_file() and "secrets" not in file.parts]
    named = {name for file in files for name in re.findall(rf"{PREFIX}[A-Z_]+", file.read_text())}
    assert named
    assert named - known - {f"{PREFIX}CONFIG"} == set()


@pytest.mark.parametrize("setting", fields(Config), ids=lambda setting: setting.name)
def test_every_setting_is_on_its_page(setting: object) -> None:
    name: str = setting.name  # type: ignore[attr-defined]
    default = setting.default  # type: ignore[attr-defined]
    metadata = setting.metadata  # type: ignore[attr-defined]
    row = row_of(REFERENCE / "configuration.md", f"`{name}`")
    assert row[1] == f"`{PREFIX}{name.upper()}`"
    if isinstance(default, bool):
        assert row[2:4] == [str(default).lower(), "true, false"]
    elif isinstance(default, int):
        assert row[2:4] == [str(default), f"{metadata['minimum']} to {metadata['maximum']}"]
    elif default is not MISSING:
        assert row[2] == (default or "(empty)")
    assert row[4].lower() == metadata["help"].lower()


def test_no_setting_is_on_the_page_that_is_not_in_the_code() -> None:
    named = re.findall(r"`(USERTABLE_[A-Z0-9_]+)`", (REFERENCE / "configuration.md").read_text())
    settings = {f"{PREFIX}{setting.name.upper()}" for setting in fields(Config)}
    files = {f"{PREFIX}{name.upper()}_FILE" for name in FROM_FILES}
    assert set(named) == {f"{PREFIX}CONFIG", PROJECT_VARIABLE, SECRET, SECRET_FILE, *settings, *files}


def test_the_page_of_the_command_line_is_what_the_commands_say() -> None:
    text = cli_reference.PAGE.read_text()
    assert text == cli_reference.page(text), "run `make reference`"


@pytest.mark.parametrize("kind", ProblemKind)
def test_every_kind_of_problem_is_on_its_page_with_its_texts(kind: ProblemKind) -> None:
    _, platform, status, chinese, english = row_of(REFERENCE / "errors.md", f"`{kind}`")
    number, http = codes.code(kind)
    assert platform == f"{number}, {http}"
    assert status == str(problem_details.STATUSES.get(kind, "400/422"))
    assert (chinese, english) == (zh.PROBLEMS[kind], en.PROBLEMS[kind])


def test_every_code_of_the_platforms_endpoints_is_on_their_page() -> None:
    page = REFERENCE / "wire-api.md"
    text = page.read_text()
    described = openapi_document(OPERATIONS)["paths"]
    sections = re.split(r"^## `(?:PUT|POST) ", text, flags=re.MULTILINE)[1:]
    for section, operation in zip(
        sections, (described[ATTRIBUTE_PATH]["put"], described[REGISTER_PATH]["post"]), strict=True
    ):
        answers = operation["responses"]
        expected = {("0", "200", "–")}
        for status, answer in answers.items():
            if status != "200":
                expected |= {(n, status, f"`{k}`") for n, k in re.findall(r"- (-?\d+) `(\w+)`", answer["description"])}
        table = [row for row in rows(section) if len(row) == 5 and re.fullmatch(r"-?\d+", row[0])]
        assert {(row[0], row[1], row[2]) for row in table} == expected
        for row in table[1:]:
            told = ProblemKind(row[2].strip("`"))
            assert (row[3], row[4]) == (zh.PROBLEMS[told], en.PROBLEMS[told])
    for kind, (number, status) in codes.CODES.items():
        assert str(number) in text, kind
        assert str(status) in text, kind
        assert f"`{kind}`" in text, kind


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "explanation" / "rules.md"], ids=page_id)
def test_the_pages_have_the_legal_pairs_and_no_others(page: Path) -> None:
    tables = [row for row in rows(page.read_text()) if len(row) == 5]
    (head,) = [row for row in tables if row[0] == "Data type" and row[1:] == [f"`{rule}`" for rule in Rule]]
    body = tables[tables.index(head) + 2 :][: len(DataType)]
    assert [row[0] for row in body] == list(DataType)
    for row in body:
        legal = {rule for rule, cell in zip(Rule, row[1:], strict=True) if cell != "–"}
        assert legal == set(LEGAL_RULES[DataType(row[0])]), row[0]


@pytest.mark.parametrize("word", [*DataType, *(f"`{rule}`" for rule in Rule), *(f"`{outcome}`" for outcome in Outcome)])
def test_every_type_rule_and_outcome_is_explained(word: str) -> None:
    first_cells = {row[0] for row in rows((ROOT / "docs" / "explanation" / "rules.md").read_text())}
    assert word in first_cells


def test_every_route_is_on_the_page_of_the_native_api() -> None:
    listed = {tuple(row[:3]) for row in rows((REFERENCE / "native-api.md").read_text()) if len(row) == 4}
    expected = {(f"`{o.method}`", f"`{o.path}`", o.access) for o in OPERATIONS} | {("`GET`", f"`{LIVE_PATH}`", "public")}
    assert listed - {("Method", "Path", "Who"), ("---", "---", "---")} == expected


def test_every_page_of_the_console_is_on_its_page_and_every_header() -> None:
    listed = [row for row in rows((REFERENCE / "console.md").read_text()) if len(row) == 4 and row[0].startswith("`")]
    expected = {(f"`{p.method}`", f"`{p.path}`", str(p.needs)) for p in PAGES_OF_CONSOLE}
    assert {tuple(row[:3]) for row in listed} == expected
    assert len(listed) == len(PAGES_OF_CONSOLE)
    assert all(row[3] for row in listed)
    for name, value in HEADERS.items():
        described = row_of(REFERENCE / "console.md", f"`{name.title()}`")[1]
        assert described.startswith(f"`{value}`"), name


def test_every_name_and_argument_of_the_client_is_on_its_page() -> None:
    page = (REFERENCE / "client.md").read_text()
    missing = [name for name in client.__all__ if f"`{name}" not in page]
    kind = client.Client
    for call in (kind, kind.set, kind.get, kind.batch, kind.buffer, client.Retry):
        names = set(inspect.signature(call).parameters) - {"self"}
        missing += [name for name in names if not re.search(rf"[`(, *]{name}\b", page)]
    missing += [name for name in vars(client.Buffer) if not name.startswith("_") and f"`{name}" not in page]
    assert missing == []
    codes = {row[0].strip("`"): row[1] for row in rows(page) if row[0].startswith("`")}
    for code, error in ERRORS.items():
        assert codes[error.__name__].partition(",")[0] == str(code)


def test_the_layers_on_the_page_are_those_of_the_contract() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    block = re.search(r"<!-- layers.*?-->\n```text\n(.*?)\n```", text, re.DOTALL)
    assert block is not None
    (contract,) = [c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    assert block[1].splitlines() == contract["layers"]


def test_the_platforms_words_stand_in_its_dialect_only() -> None:
    source = ROOT / "src" / "usertable"
    files = [file for file in source.rglob("*") if file.suffix in (".py", ".html", ".sql", ".js")]
    assert len(files) > 100
    found = [
        str(file.relative_to(source))
        for file in files
        if source / "dialects" not in file.parents and re.search(r"smartop|\bjg_|极光", file.read_text())
    ]
    assert found == []


def test_every_line_that_asks_for_action_is_on_the_page_for_who_is_on_call() -> None:
    logged: dict[str, str] = {}
    for file in sorted((ROOT / "src" / "usertable").rglob("*.py")):
        # The client logs in its users' processes.
        for node in ast.walk(ast.parse(file.read_text())) if "client" not in file.parts else ():
            match node:
                case ast.Call(ast.Attribute(_, "warning" | "error" | "exception" | "critical" as level), [text, *_]):
                    literal = ast.literal_eval(text)
                    logged[re.sub(r"%[sd]", "…", literal)] = "error" if level == "exception" else level
    told = {row[0][1:-1]: row[1].lower() for row in rows((ROOT / "docs/howto/on-call.md").read_text()) if row[0][0] == "`"}
    assert told == logged


def test_every_dependency_has_its_reason() -> None:
    groups = PROJECT["dependency-groups"]
    extras = [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]
    required = [*PROJECT["project"]["dependencies"], *extras, *(text for group in groups.values() for text in group)]
    names = {match[0] for text in required if (match := re.match(r"[A-Za-z0-9._-]+", text))} - {"usertable"}
    tables = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2].partition("\n## ")[0]
    reasons = {row[0].strip("`"): row[1] for row in rows(tables) if row[0].startswith("`")}
    assert set(reasons) == names
    assert all(reasons.values())


def test_the_folders_for_tests_that_are_named_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text()
    for folder in re.findall(r"\| `(tests/[a-z]+/)`", table):
        assert (ROOT / folder).is_dir(), folder


def test_the_page_on_the_audit_log_names_every_kind_in_its_log() -> None:
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "docs/howto/audit.md").read_text(), re.DOTALL)
    listed = [
        {kind for line in block.splitlines() for kind in re.split(r"\s{2,}", line.strip()) if kind} for block in blocks
    ]
    assert listed[:2] == [set(PROJECT_LOG_KINDS), set(INSTALLATION_KINDS)]
