"""Secrets in files of their own, and an admin token that is changed while the server runs."""

from __future__ import annotations

import signal
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from support.cli_runner import CliRunner
from support.engines import database
from support.native_server import TOKEN, native_server
from support.postgres import NEWEST
from support.server_process import ServerProcess, create_project
from support.waiting import wait_until
from usertable.config import FROM_FILES, TOKENS, Config, ConfigError, load

NOWHERE = "sqlite:////nowhere/there-is-no-such-store.db"
OLD, NEW = "the-first-admin-token", "the-second-admin-token"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@pytest.mark.parametrize("name", FROM_FILES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_every_secret_can_be_in_a_file(file: Path, name: str, end: str) -> None:
    value = "sqlite:///users.db" if name == "store" else NEW
    file.write_text(value + end, newline="")
    others = {
        "admin_token_previous": {"USERTABLE_ADMIN_TOKEN": OLD},
        "oidc_client_secret": {
            "USERTABLE_OIDC_ISSUER": "https://sso.example.com",
            "USERTABLE_OIDC_CLIENT_ID": "usertable",
        },
    }.get(name, {})
    by_environment = load({}, {f"USERTABLE_{name.upper()}_FILE": str(file), **others})
    assert (getattr(by_environment.config, name), by_environment.sources[name]) == (value, "environment")
    settings = file.with_name("usertable.toml")
    settings.write_text(f'{name}_file = "{file}"\n')
    by_file = load({}, others, str(settings))
    assert (getattr(by_file.config, name), by_file.sources[name]) == (value, "file")


def test_every_setting_that_is_a_token_can_be_in_a_file() -> None:
    assert {setting.name for setting in fields(Config) if "token" in setting.name} == set(TOKENS) < set(FROM_FILES)


def test_a_setting_is_given_by_value_or_by_file_and_the_environment_goes_before_the_configuration(file: Path) -> None:
    file.write_text(NEW)
    both = {"USERTABLE_ADMIN_TOKEN": OLD, "USERTABLE_ADMIN_TOKEN_FILE": str(file)}
    with pytest.raises(
        ConfigError, match="USERTABLE_ADMIN_TOKEN and USERTABLE_ADMIN_TOKEN_FILE are both set; set one of them"
    ):
        load({}, both)
    settings = file.with_name("usertable.toml")
    settings.write_text(f'admin_token_file = "{file}"\nadmin_token = "{OLD}"\n')
    with pytest.raises(ConfigError, match=r"admin_token_file and .*admin_token are both set"):
        load({}, {}, str(settings))
    settings.write_text(f'admin_token = "{OLD}"\n')
    assert load({}, {"USERTABLE_ADMIN_TOKEN_FILE": str(file)}, str(settings)).config.admin_token == NEW


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\n", "is empty"),
        (b"caf\xe9-and-some-more-of-it", "cannot be read: it is not UTF-8"),
        (b"short", "admin_token is set but has fewer than 16 characters"),
        (b"two-lines-of-text\ntwo-lines-of-text", "has a line break or another control character in it"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_and_not_shown(file: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        file.write_bytes(content)
    cli = CliRunner("memory:", {"USERTABLE_ADMIN_TOKEN_FILE": str(file)})
    said = cli.misused("config")
    assert said.startswith("USERTABLE_ADMIN_TOKEN_FILE") or content == b"short"
    assert reason in said
    assert not any(text in said for text in ("caf", "two-lines", "short"))


def test_a_previous_token_needs_a_new_one_and_is_not_the_metrics() -> None:
    with pytest.raises(ConfigError, match="admin_token_previous is set, but admin_token is not"):
        load({}, {"USERTABLE_ADMIN_TOKEN_PREVIOUS": OLD})
    tokens = {"USERTABLE_ADMIN_TOKEN": NEW, "USERTABLE_ADMIN_TOKEN_PREVIOUS": OLD, "USERTABLE_METRICS_TOKEN": OLD}
    with pytest.raises(ConfigError, match="metrics_token is the admin token"):
        load({}, tokens)


def test_a_command_reads_the_projects_secret_from_a_file(tmp_path: Path, file: Path) -> None:
    with native_server(tmp_path) as server:
        server.new_project(id="own", secret="a-secret-of-the-tests")
        file.write_text("a-secret-of-the-tests\n")
        cli = CliRunner(NOWHERE, {"USERTABLE_SECRET_FILE": str(file)})
        command = ("attribute", "list", "--project", "own", "--url", server.url)
        cli.run(*command)
        rows = tmp_path / "rows.csv"
        rows.write_text("cuid\n")
        cli.run("import", str(rows), "--project", "own", "--url", server.url)
        cli.environment["USERTABLE_SECRET"] = "another-secret-than-it"
        said = cli.misused(*command)
        assert said == "USERTABLE_SECRET and USERTABLE_SECRET_FILE are both set; set one of them"
        file.write_text(TOKEN)
        admin = CliRunner(NOWHERE, {"USERTABLE_ADMIN_TOKEN_FILE": str(file)})
        assert "own" in admin.out("project", "list", "--url", server.url)


def test_during_a_rotation_every_worker_takes_both_tokens(tmp_path: Path, file: Path) -> None:
    previous = tmp_path / "previous"
    settings = tmp_path / "usertable.toml"
    with database(NEWEST) as url:
        create_project(url)
        file.write_text(OLD)
        settings.write_text(f'admin_token_file = "{file}"\n')
        server = ServerProcess(url, tmp_path, workers="2", config=str(settings))

        def statuses(token: str) -> set[int]:
            # A connection of its own each time: the system chooses the worker.
            headers = {"Authorization": f"Bearer {token}"}
            return {httpx.get(f"{server.url}/api/v1/projects", headers=headers, timeout=30).status_code for _ in range(12)}

        def reload(said: str) -> None:
            server.signal(signal.SIGHUP)
            server.wait_for_log(said)

        def wait_for(*expected: set[int]) -> None:
            wait_until(lambda: (statuses(OLD), statuses(NEW)) == expected)

        try:
            wait_for({200}, {401})
            file.write_text(f"{NEW}\n")
            previous.write_text(f"{OLD}\n")
            settings.write_text(f'admin_token_file = "{file}"\nadmin_token_previous_file = "{previous}"\n')
            reload("SIGHUP: reloaded admin_token, admin_token_previous")
            wait_for({200}, {200})
            settings.write_text(f'admin_token_file = "{file}"\n')
            reload("SIGHUP: reloaded admin_token_previous")
            wait_for({401}, {200})
            file.unlink()
            reload("SIGHUP: nothing was reloaded: ")
            wait_for({401}, {200})
        finally:
            assert server.stop() == 0
