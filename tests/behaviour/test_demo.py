"""`make demo`, as a newcomer runs it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from support.pages import blocks
from support.ports import reserve_port
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


@contextmanager
def demo(folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("USERTABLE_", "DEMO_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "usertable.demo"],
        cwd=folder,
        env=environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_demo_takes_any_port_and_ends(tmp_path: Path) -> None:
    # Settings of the machine are none of the demo.
    settings = {"DEMO_PORT": "0", "DEMO_EXIT": "1", "USERTABLE_WORKERS": "2", "USERTABLE_LOG_LEVEL": "error"}
    with demo(tmp_path, **settings) as process:
        out, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert '200\n{"code":0,"msg":"ok"}' in out
    assert "user_number_once" in out
    assert "stopped; every acknowledged write" in log


def test_the_requests_of_the_readme_work_on_the_demo(tmp_path: Path) -> None:
    (curl,) = [block.text for block in blocks("sh") if block.page == README and block.text.startswith("curl ")]
    (python,) = [block.text for block in blocks("python") if block.page == README]
    with demo(tmp_path, DEMO_PORT="0") as process:
        assert process.stdout is not None
        address = next(found[0] for line in process.stdout if (found := re.search(r"127\.0\.0\.1:\d+", line)))

        def run(*command: str, code: str) -> str:
            text = code.replace("127.0.0.1:8000", address)
            return subprocess.run([*command, text], capture_output=True, text=True, check=True).stdout

        first, second = (json.loads(run("bash", "-c", code=curl))["data"]["user"]["attributes"] for _ in range(2))
        run(sys.executable, "-c", code=python)
        third = json.loads(run("bash", "-c", code=curl))["data"]["user"]["attributes"]
    # Sent twice, the number grows, and the list stays.
    numbers = [Decimal(str(sent["user_number_accumulate"])) for sent in (first, second, third)]
    assert [numbers[1] - numbers[0], numbers[2] - numbers[1]] == [Decimal("9.9"), Decimal("19.8")]
    assert first["user_list_append"] == second["user_list_append"] == third["user_list_append"]


@pytest.mark.parametrize("taken_by", ["a server that answers", "a program that is silent"])
def test_the_demo_fails_where_the_port_is_taken(tmp_path: Path, taken_by: str) -> None:
    port = reserve_port()
    with socket.create_server(("127.0.0.1", port)) as listener:
        if taken_by == "a server that answers":
            # What is asked there is a file of its own.
            (tmp_path / "readyz").write_text("ready")
            listener.close()
            command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
            other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: answers(port))
        try:
            with demo(tmp_path, DEMO_PORT=str(port), DEMO_EXIT="1") as process:
                out, log = process.communicate(timeout=60)
        finally:
            if taken_by == "a server that answers":
                other.kill()
                other.wait()
    assert process.returncode == 1
    assert out == ""
    assert f"cannot listen on 127.0.0.1 port {port}: the address is in use" in log
    assert "another port: make demo DEMO_PORT=8001" in log


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_ended_leaves_no_server_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path, DEMO_PORT="0") as process:
        assert process.stdout is not None
        said = ""
        while "Serving from" not in said:
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            said += line
        found = re.search(r"http://127.0.0.1:(\d+)/", said)
        assert found is not None
        port = int(found[1])
        servers = children(process.pid)
        assert servers
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == (0 if number is signal.SIGINT else 128 + number)
        assert not any(Path(f"/proc/{server}").exists() for server in servers)
        assert not answers(port)


SIGNALED_AT_ITS_START = """
import os, signal, sys
from usertable import demo

start = demo.start

def start_and_be_signaled(url, port):
    server = start(url, port)
    print(server.pid, flush=True)
    os.kill(os.getpid(), int(sys.argv[1]))
    return server

demo.start = start_and_be_signaled
demo.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_ended_while_it_starts_its_server_leaves_none_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", SIGNALED_AT_ITS_START, str(int(number))]
    environment = os.environ | {"DEMO_PORT": "0"}
    # Not read to their ends: a server that is left behind would keep them open.
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        assert process.wait() == (0 if number is signal.SIGINT else 128 + number)
    assert not Path(f"/proc/{server}").exists()
