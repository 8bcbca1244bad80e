"""The quickstart works as written, and so do the requests of other pages on its project."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from support.pages import ROOT, blocks
from support.server_process import ServerProcess
from support.terminal import run_on_terminal

DOCS = ROOT / "docs"
QUICKSTART = DOCS / "quickstart.md"
ADDRESS = "127.0.0.1:8000"


class Newcomer:
    """Runs the commands of a page, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("USERTABLE_")}
        self._environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.server: ServerProcess | None = None

    def type(self, text: str, *, on_terminal: bool = False) -> str:
        """Run a block of shell. Return its output, which may go to a terminal."""
        if text.strip() == "usertable serve":
            store = self._environment["USERTABLE_STORE"].removeprefix("sqlite:///")
            self.server = ServerProcess(f"sqlite:///{self.folder / store}", self.folder)
            return ""
        exported = re.findall(r"^export (\w+)=", text, re.MULTILINE)
        # The next block is of the same shell.
        keep = "".join(f'\nprintf %s "${name}" > .{name}' for name in exported)
        command = text.replace("curl ", "curl --silent --show-error --fail-with-body ")
        printed = self._run(["bash", "-euc", f"{command}{keep}"], on_terminal)
        self._environment |= {name: (self.folder / f".{name}").read_text() for name in exported}
        return printed

    def run_python(self, text: str) -> str:
        return self._run([sys.executable, "-c", text])

    def _run(self, command: list[str], on_terminal: bool = False) -> str:
        if self.server:
            command[-1] = command[-1].replace(ADDRESS, self.server.url.removeprefix("http://"))
        run = run_on_terminal if on_terminal else partial(subprocess.run, capture_output=True, text=True, check=False)
        ran = run(command, cwd=self.folder, env=self._environment)
        assert ran.returncode in (0, 22), ran.stderr
        assert isinstance(ran.stdout, str)
        return ran.stdout


@contextlib.contextmanager
def after_the_quickstart(folder: Path) -> Iterator[Newcomer]:
    """Run the quickstart, with usertable installed already."""
    who = Newcomer(folder)
    printed = ""
    try:
        for block in blocks("sh", "json"):
            if block.page != QUICKSTART or "make .venv" in block.text:
                continue
            if block.language == "json":
                # The answer to the request above it, byte for byte.
                assert printed.strip() == block.text.strip(), block
            else:
                printed = who.type(block.text)
        assert '"level":3' in printed
        yield who
    finally:
        if who.server:
            who.server.stop()


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    with after_the_quickstart(tmp_path_factory.mktemp("newcomer")) as who:
        yield who


def test_the_quickstart_gives_what_it_says(newcomer: Newcomer) -> None:
    user = json.loads(newcomer.type("usertable user get --identifier phone=18012345678 --project 100102 --json"))
    assert user["attributes"] == {
        "level": 3,
        "total_spent": 10,
        "first_seen": "2023-12-12 00:56:23",
        "tags": ["news", "sport", "music"],
    }


def test_a_request_with_a_key_is_applied_once(newcomer: Newcomer) -> None:
    (request,) = [block for block in blocks("sh") if block.page == DOCS / "howto" / "retry-safely.md"]
    first, second = newcomer.type(request.text), newcomer.type(request.text)
    assert "idempotency-replayed" not in first
    assert "idempotency-replayed: true" in second
    assert first.endswith('{"code":0,"msg":"ok"}')
    assert second.endswith('{"code":0,"msg":"ok"}')


def test_the_requests_of_the_native_apis_page_are_answered(newcomer: Newcomer) -> None:
    requests = [block for block in blocks("sh") if block.page == DOCS / "reference" / "native-api.md"]
    batches = [json.loads(newcomer.type(request.text)) for request in requests if "users:batch" in request.text]
    assert [batch["done"] for batch in batches] == [2, 2]
    (export,) = [request for request in requests if "users:export" in request.text]
    newcomer.type(export.text)
    assert any(file.suffix == ".parquet" for file in newcomer.folder.iterdir())


def test_the_example_of_the_python_client_runs(newcomer: Newcomer) -> None:
    example = next(block for block in blocks("python") if block.page == DOCS / "howto" / "use-the-client.md")
    assert "'level': 3" in newcomer.run_python(example.text)


def without_moments(printed: str) -> str:
    """Return what was printed without what differs each time: moments, and the IDs of requests."""
    moments = re.sub(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}\.\d{3,6}(Z|\+00:00)?", "MOMENT", printed.strip())
    return re.sub(r"\b[0-9a-f]{12}-\d+\b", "REQUEST", moments)


def test_the_examples_about_history_give_what_they_say(tmp_path: Path) -> None:
    with after_the_quickstart(tmp_path) as who:
        # The page notes a moment to the second, and means one after the quickstart.
        time.sleep(1 - time.time() % 1)
        printed, compared = "", 0
        for block in blocks("sh", "python", "json", "text"):
            if block.page != DOCS / "howto" / "history.md":
                continue
            if block.language == "sh":
                printed = who.type(block.text, on_terminal=True)
            elif block.language == "python":
                printed = who.run_python(block.text)
            else:
                assert without_moments(printed) == without_moments(block.text), block
                compared += 1
    assert compared == 6
