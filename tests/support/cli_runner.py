"""The command line, run in the test's own process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click.testing
from click.testing import Result

from usertable.cli import cli
from usertable.commands.write import WriteBatch
from usertable.domain.change import Origin
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, validate
from usertable.store import open_store
from usertable.store.records import Write, Written


class CliRunner:
    """Runs `usertable` on one store, in this process."""

    def __init__(self, url: str, environment: dict[str, str | None]) -> None:
        self.url = url
        self.environment = {**environment, "USERTABLE_STORE": url}

    @classmethod
    def after(cls, commands: Sequence[Sequence[str]], file: Path, environment: dict[str, str | None]) -> CliRunner:
        """Return a runner on a new SQLite store to which these commands were applied.

        They run once in each test process, and later stores are copies.
        """
        file.write_bytes(_store_after(tuple(map(tuple, commands)), environment.get("LOGNAME")))
        return cls(f"sqlite:///{file}", environment)

    def invoke(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run it, whatever its exit code."""
        result = click.testing.CliRunner(env=self.environment).invoke(cli, arguments, input=stdin, prog_name="usertable")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def run(self, *arguments: str, code: int = 0, stdin: str | bytes | None = None) -> Result:
        result = self.invoke(*arguments, stdin=stdin)
        assert result.exit_code == code, result.output
        return result

    def out(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        result = self.run(*arguments, stdin=stdin)
        assert result.stderr == ""
        return result.stdout

    def json(self, *arguments: str) -> Any:
        out = self.out(*arguments, "--json")
        assert out.count("\n") == 1
        return json.loads(out)

    def refused(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """Return the reason of a refusal; nothing else may be printed."""
        result = self.run(*arguments, code=1, stdin=stdin)
        assert result.stdout == ""
        return result.stderr.removeprefix("Error: ").strip()

    def misused(self, *arguments: str) -> str:
        result = self.run(*arguments, code=2)
        assert result.stdout == ""
        return result.stderr.rpartition("Error: ")[2].strip()

    def report(self, project_id: str, cuid: int, data: dict[str, object]) -> None:
        """Set attributes, as the server does."""
        store = open_store(self.url)
        try:
            project = store.project(project_id)
            assert project is not None
            patch = validate(project.schema, data, project.zone)
            assert isinstance(patch, Patch)
            (result,) = store.write(
                [Write(project.number, cuid, patch, project.version, 2_000_000_000_000, origin=Origin("key:default"))],
                WriteBatch(decide),
            )
            assert isinstance(result, Written)
        finally:
            store.close()


@cache
def _store_after(commands: tuple[tuple[str, ...], ...], logname: str | None) -> bytes:
    """Return the file of a store after these commands, run by this user."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        runner = CliRunner(f"sqlite:///{file}", {"LOGNAME": logname})
        for command in commands:
            runner.run(*command)
        assert list(Path(folder).iterdir()) == [file]
        return file.read_bytes()
