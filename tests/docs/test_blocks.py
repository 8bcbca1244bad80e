"""Commands, options, settings, code blocks, files, metrics and routes in the documentation exist and can be parsed."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from support.pages import COMMANDS, PAGES, REFERENCE, ROOT, Block, blocks, options, page_id, rows, spans
from usertable import config
from usertable.cli import cli
from usertable.config import FILE_SUFFIX, FROM_FILES, PREFIX, PROJECT, SECRET, SECRET_FILE, Config
from usertable.console.app import PAGES as PAGES_OF_CONSOLE
from usertable.http.openapi import document as openapi_document
from usertable.http.operations import OPERATIONS

SHELL = blocks("sh")
FILES = [path for folder in ("src", "tests", "docs", "deploy", "benchmarks") for path in (ROOT / folder).rglob("*")]
_HEREDOC = re.compile(r"<<'?(\w+)'?\n.*?^\s*\1$", re.MULTILINE | re.DOTALL)
_WRAPPERS = {"sudo", "exec", "time", "env", "nice"}
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of `usertable` in a shell script."""
    text = _HEREDOC.sub("", text.replace("\\\n", " "))
    # Remove quoted operators, comments, command substitutions and redirections of one output to another.
    text = re.sub(r"""(['"])[();<>|&]+\1""", "X", text)
    text = re.sub(r"\d>&\d", "", re.sub(r"\$\([^()]*\)", "X", re.sub(r"(^|\s)#.*$", "", text, flags=re.MULTILINE)))
    lexer = shlex.shlex(f"{text}\n", posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in lexer:
        if not set(word) <= set("();<>|&\n"):
            words.append(word)
            continue
        if call := _call(words):
            yield call[1:]
        words = []


def _call(words: list[str]) -> list[str]:
    """Return the words from `usertable` on, if the command runs that program; else none."""
    while words and (words[0] in _WRAPPERS or _ASSIGNMENT.fullmatch(words[0])):
        # `sudo -u USER`
        words = words[3:] if words[:2] == ["sudo", "-u"] else words[1:]
    return words if words and words[0].rpartition("/")[2] == "usertable" else []


def check_call(words: list[str], *, whole: bool = True) -> None:
    """Raise a click.UsageError if the command line has no such command, option or choice.

    Args:
        whole: whether required arguments and options must be present.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="usertable", **cli.context_settings)
    while True:
        given, rest, _ = command.make_parser(context).parse_args(words)
        for parameter in command.params:
            values = given.get(parameter.name or "")
            if whole and parameter.required and values is None and not any(w in ("-h", "--help") for w in words):
                raise click.MissingParameter(ctx=context, param=parameter)
            for value in values if isinstance(values, (list, tuple)) else [values]:
                if isinstance(value, str) and not re.search("[…|]", value) and isinstance(parameter.type, click.Choice):
                    parameter.type.convert(value, parameter, context)
        if not isinstance(command, click.Group):
            if rest:
                raise click.UsageError(f"unexpected {rest}", context)
            return
        if not rest:
            return
        found = command.get_command(context, rest[0])
        if found is None:
            raise click.UsageError(f"no such command {rest[0]!r}", context)
        context = click.Context(found, parent=context, info_name=rest[0])
        command, words = found, rest[1:]


@pytest.mark.parametrize("page", sorted({block.page for block in SHELL}), ids=page_id)
def test_every_shell_block_can_be_read_by_a_shell(page: Path) -> None:
    script = "\n".join(f"f{block.line}() {{\n{block.text}\n}}" for block in SHELL if block.page == page)
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr


def test_every_command_in_a_block_is_one_of_the_command_line() -> None:
    wrong, seen = [], 0
    for block in SHELL:
        for words in command_lines(block.text):
            seen += 1
            try:
                check_call(words)
            except click.UsageError as error:
                wrong.append(f"{block}: usertable {shlex.join(words)}: {error.format_message()}")
    assert wrong == []
    assert seen > 60


def test_every_command_in_a_sentence_is_one_of_the_command_line() -> None:
    wrong, seen = [], 0
    for page in PAGES:
        for span in spans(page):
            # `usertable user get ID`, but neither `usertable.db` nor a synopsis with [OPTIONS].
            if not re.match(r"usertable [\w-]", span) or "[" in span or "(" in span:
                continue
            seen += 1
            try:
                check_call(["--help"] if "COMMAND" in span else shlex.split(span)[1:], whole=False)
            except click.UsageError as error:
                # A sentence may name an option without its value.
                if not isinstance(error, click.BadOptionUsage):
                    wrong.append(f"{page_id(page)}: {span}: {error.format_message()}")
    assert wrong == []
    assert seen > 60


OF_OTHER_PROGRAMS = {"--preload": "gunicorn", "--profile": "docker compose", "--all": "make screenshots"}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_option_in_a_sentence_exists(page: Path) -> None:
    known = {"--help", "--version", *(option for command in COMMANDS.values() for option in options(command))}
    named = {match[1] for span in spans(page) if (match := re.match(r"(--[a-z][a-z0-9-]*[a-z0-9])", span))}
    assert named - known - set(OF_OTHER_PROGRAMS) == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    known = {f"{PREFIX}{f.name.upper()}" for f in fields(Config)} | {f"{PREFIX}CONFIG", PROJECT, SECRET, SECRET_FILE}
    known |= {f"{PREFIX}{name}{FILE_SUFFIX}".upper() for name in FROM_FILES}
    # Read by the tests, and set by Kubernetes.
    known |= {"USERTABLE_TEST_CITUS", "USERTABLE_SERVICE_HOST", "USERTABLE_PORT_8000_TCP_ADDR"}
    assert set(re.findall(r"(?<!\w)USERTABLE_[A-Z0-9_]*[A-Z0-9]", page.read_text())) - known == set()


OF_OTHERS = {
    *("archive_mode", "archive_timeout", "recovery_target", "remote_write"),
    *("alter_distributed_table", "citus_split_shard_by_split_points", "block_writes"),
    "proxy_read_timeout",
}
"""Settings and functions of PostgreSQL, Citus and nginx."""


@cache
def words_of_the_program() -> set[str]:
    """Return every word in the code, the deployment files, the tests and the benchmarks."""
    found = {f"{name}{FILE_SUFFIX}" for name in FROM_FILES}
    for file in FILES:
        if file.suffix in (".py", ".sql", ".html", ".yaml", ".json") and file != Path(__file__):
            found |= {file.stem, *re.findall(r"\w+", file.read_text())}
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_setting_and_other_name_in_backticks_exists(page: Path) -> None:
    named = {span for span in spans(page) if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", span)}
    # prometheus-client's own metrics are compared with a server's answer by tests/behaviour/test_metrics.py.
    named = {name for name in named if not name.startswith(("process_", "python_"))}
    assert named - words_of_the_program() - OF_OTHERS == set()


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_block_of_settings_is_a_valid_configuration(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "usertable.toml"
    file.write_text(block.text)
    assert config.load({}, {}, str(file)).file == str(file)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_every_block_of_json_can_be_read(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_block_of_yaml_can_be_read(block: Block) -> None:
    assert YAML(typ="safe").load(block.text)


@pytest.mark.parametrize("block", blocks("ini"), ids=str)
def test_every_block_of_ini_can_be_read(block: Block) -> None:
    parser = ConfigParser(strict=False, interpolation=None, delimiters="=")
    # PostgreSQL's file has no sections.
    parser.read_string(block.text if block.text.startswith(("[", "#")) else f"[postgresql]\n{block.text}")
    assert all(parser[section] for section in parser.sections())


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_block_of_python_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = compile(block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "usertable":
            module = importlib.import_module(node.module or "")
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == []


def test_no_block_is_in_a_language_that_nothing_checks() -> None:
    # Those of the proxies are run by tests/behaviour/test_proxies.py, of SQL by tests/behaviour/test_sql_in_pages.py.
    checked = {"sh", "toml", "json", "yaml", "ini", "python", "sql", "nginx", "caddyfile", "haproxy", "http", "text"}
    named = {match for page in PAGES for match in re.findall(r"^ *```(\w+)$", page.read_text(), re.MULTILINE)}
    assert named <= checked


FOLDERS = "src|tests|docs|deploy|benchmarks|requirements"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_file_of_the_project_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(rf"(?<![\w/.:-])((?:{FOLDERS})/[\w./*-]*\w)", page.read_text()))
    # The files in deploy/secrets are created by the operator.
    missing = [path for path in named if not path.startswith("deploy/secrets/") and not any(ROOT.glob(path))]
    for span in spans(page):
        # `wire/messages.py`, or a file name alone.
        if re.fullmatch(r"[\w/]+\.(py|sql)", span) and not any(f"/{file}".endswith(f"/{span}") for file in FILES):
            missing.append(span)
    assert missing == []


def test_the_packages_on_the_page_of_the_architecture_have_its_modules() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    seen = 0
    for first, *cells in rows(text):
        folder = ROOT / "src" / "usertable" / first.strip("`")
        if not re.fullmatch(r"`\w+/`", first) or not folder.is_dir():
            continue
        for name in re.findall(r"`([\w/]+\.py|[\w/]+/)`", " ".join(cells)):
            seen += 1
            assert any(folder.rglob(name.rstrip("/"))), f"{first} has no {name}"
    assert seen > 60


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for span in spans(page) for target in re.findall(r"^make ([a-z-]+)", span)}
    named |= {target for block in SHELL for target in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)}
    assert named - targets == set()
    assert named


NOT_METRICS = re.compile(
    r"usertable_(server|session|visitor|link|openid|language|theme|columns_N|secret|owner|reader|completion)"
)
"""The pytest fixture, the console's cookies, and roles of PostgreSQL."""


def test_every_metric_that_is_named_is_one_of_those_on_their_page() -> None:
    # The page is compared with a server's answer by tests/behaviour/test_metrics.py.
    metrics = {row[0].strip("`") for row in rows((REFERENCE / "metrics.md").read_text())}
    named = {name for page in PAGES for name in re.findall(r"(?<!\w)usertable_\w+", page.read_text())}
    named |= {
        name for file in (ROOT / "deploy").rglob("*.yaml") for name in re.findall(r"\busertable_\w+", file.read_text())
    }
    plain = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named if not NOT_METRICS.fullmatch(name)}
    assert plain - metrics == set()
    assert plain


def test_every_path_of_the_server_that_is_named_is_served() -> None:
    served = {*openapi_document(OPERATIONS)["paths"], *(page.path for page in PAGES_OF_CONSOLE)}
    served |= {"/metrics", "/console/static", "/api/v1", "/smartop", "/console"}
    forms = [re.compile(re.sub(r"\{\w+\}", r"[^/]+", path)) for path in served]
    wrong = []
    for page in PAGES:
        for path in re.findall(r"(?<![a-z.}])/(?:api/v1|smartop|console|readyz|livez|openapi)[\w{}/:.-]*", page.read_text()):
            if not any(form.fullmatch(path.rstrip("/.:")) for form in forms):
                wrong.append(f"{page_id(page)}: {path}")
    assert wrong == []
