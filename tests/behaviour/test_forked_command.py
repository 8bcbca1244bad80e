"""A command that is forked does what one that is started does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.forked_command import ForkedCommand


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["config"], 0),
        (["project", "create", "demo", "--id", "demo", "--secret", "a-secret-for-the-tests"], 0),
        (["attribute", "list", "--project", "none"], 1),
        (["frobnicate"], 2),
    ],
)
def test_a_forked_command_says_leaves_and_returns_what_a_started_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.setenv("USERTABLE_STORE", "sqlite:///users.db")
    monkeypatch.setenv("USERTABLE_PORT", "4711")
    found = []
    for name in ("started", "forked"):
        log = tmp_path / f"{name}.log"
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if name == "started":
            with log.open("ab") as stream:
                command = [sys.executable, "-m", "usertable", *arguments]
                done = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
        else:
            done = ForkedCommand(arguments, os.environ, log).wait(60)
        assert done == code
        found.append((log.read_text(), sorted(path.name for path in Path().iterdir())))
    assert found[0] == found[1]
    assert found[0][0]
