"""The quickstart works as written, and so do the requests of other pages on its project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pages import ROOT, blocks
from support.server_process import ServerProcess

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

    def type(self, text: str) -> str:
        """Run a block of shell. Return its output."""
        if text.strip() == "usertable serve":
            store = self._environment["USERTABLE_STORE"].removeprefix("sqlite:///")
            self.server = ServerProcess(f"sqlite:///{self.folder / store}", self.folder)
            return ""
        for name, value in re.findall(r"^export (USERTABLE_\w+)=(\S+)$", text, re.MULTILINE):
            self._environment[name] = value
        return self._run(["bash", "-euc", text.replace("curl ", "curl --silent --show-error --fail-with-body ")])

    def run_python(self, text: str) -> str:
        return self._run([sys.executable, "-c", text])

    def _run(self, command: list[str]) -> str:
        if self.server:
            command[-1] = command[-1].replace(ADDRESS, self.server.url.removeprefix("http://"))
        ran = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self._environment, check=False)
        assert ran.returncode in (0, 22), ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Run the quickstart, with usertable installed already."""
    who = Newcomer(tmp_path_factory.mktemp("newcomer"))
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
