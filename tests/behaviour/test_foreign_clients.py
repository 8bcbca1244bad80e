"""Unmodified clients of other authors. The bytes they send are in test_http_requests.py, for machines without them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.raw_http import AUTHORIZATION
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project

OK = '{"code":0,"msg":"ok"}'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    folder = tmp_path_factory.mktemp("foreign")
    url = f"sqlite:///{folder / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, folder, body_limit="1000000")
    try:
        yield server, cuid
        assert "Traceback" not in server.log
    finally:
        assert server.stop() == 0


def body(cuid: int) -> str:
    return json.dumps({"cuid": cuid, "data": {"user_number_accumulate": 1}})


def stored(server: ServerProcess, cuid: int) -> int:
    with server.client() as http:
        shown = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_bool_once": 1}})
    return int(shown.json()["data"]["user"]["attributes"].get("user_number_accumulate", 0))


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK: on Debian, default-jdk-headless")
def test_java_s_own_client_writes_as_it_comes(served: tuple[ServerProcess, int]) -> None:
    server, cuid = served
    before = stored(server, cuid)
    program = Path(__file__).parent / "Put.java"
    command = ["java", str(program), server.url + ATTRIBUTE, AUTHORIZATION, body(cuid)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stdout.splitlines() == [f"200 {OK}"] * 25, ran.stderr
    assert stored(server, cuid) == before + 25


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    "option", ["--http1.0", "--http1.1", "--http2", "--no-keepalive", "--tcp-nodelay", "--expect100-timeout=5"]
)
def test_curl_writes_by_every_version_that_it_can_offer(served: tuple[ServerProcess, int], option: str) -> None:
    server, cuid = served
    before = stored(server, cuid)
    request = ["-X", "PUT", server.url + ATTRIBUTE, "-H", "Content-Type: application/json", "-d", body(cuid)]
    command = ["curl", "-sS", "-u", f"{PROJECT}:{SECRET}", *option.split("="), *request, "--next", "-sS"]
    command += ["-u", f"{PROJECT}:{SECRET}", *option.split("="), *request]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == (OK * 2, "")
    assert stored(server, cuid) == before + 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "in chunks"])
def test_curl_reads_why_a_large_file_is_refused(served: tuple[ServerProcess, int], tmp_path: Path, chunked: bool) -> None:
    server, _ = served
    file = tmp_path / "large.json"
    file.write_bytes(b"x" * 20_000_000)
    command = ["curl", "-sS", "-u", f"{PROJECT}:{SECRET}", "-T", str(file), server.url + ATTRIBUTE, "-w", " %{http_code}"]
    command += ["-H", "Content-Type: application/json", "-H", "Expect:"]
    command += ["-H", "Transfer-Encoding: chunked"] if chunked else []
    for _ in range(5):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.stdout == '{"code":40002,"msg":"请求体超过上限 1000000 字节"} 413', ran.stderr
