"""Tab completes the command line, set up as docs/howto/shell-completion.md says."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import ROOT, blocks

PAGE = ROOT / "docs" / "howto" / "shell-completion.md"
SHELLS = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
SECONDS = 30


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every command of the page, with `usertable` in the PATH. Return the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR", "BASH_ENV", "ENV"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".zshrc").write_text("autoload -Uz compinit && compinit -u\n")
    for block in blocks("sh"):
        if block.page == PAGE:
            subprocess.run(["bash", "-c", f"set -e\n{block.text}"], check=True)
    return tmp_path


class Terminal:
    """An interactive shell in a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self._controller, terminal = os.openpty()
        self._shell = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, close_fds=True
        )
        os.close(terminal)
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Wait for a pattern. Return what was shown since the last call."""
        while not (found := re.search(pattern, self._shown)):
            ready, _, _ = select.select([self._controller], [], [], SECONDS)
            assert ready, f"{pattern!r} is not in {self._shown!r}"
            self._shown += os.read(self._controller, 65536).decode(errors="replace").replace("\b", "")
        shown, self._shown = self._shown[: found.end()], self._shown[found.end() :]
        return shown

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._controller)


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "fish"])
def test_tab_completes_a_command_an_option_and_a_value(home: Path, shell: str) -> None:
    terminal = Terminal(shell, "-i")
    try:
        terminal.type("echo re''ady\n")
        terminal.wait_for("ready\r\n")
        terminal.type("usertable attr\t")
        terminal.wait_for("usertable attr.*ibute ")
        terminal.type("create --ty\t")
        terminal.wait_for("--ty.*pe ")
        terminal.type("NUMB\t")
        terminal.wait_for("NUMB.*ER")
    finally:
        terminal.close()


if "fish" in SHELLS:

    @pytest.mark.parametrize(
        ("typed", "expected"),
        [
            ("usertable attr", "attribute"),
            ("usertable attribute create --ty", "--type"),
            ("usertable attribute create level --type NUMB", "NUMBER"),
        ],
    )
    def test_fish_completes_a_command_an_option_and_a_value(home: Path, typed: str, expected: str) -> None:
        asked = subprocess.run(["fish", "-c", f"complete -C '{typed}'"], capture_output=True, text=True, check=True)
        assert [line.partition("\t")[0] for line in asked.stdout.splitlines()] == [expected]
