"""Prometheus and its promtool, for the tests of the metrics: those that are installed, else Debian's package.

Run by itself, as `make test` does, it gets them, or says loudly why it could not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from support import debian
from support.waiting import DEADLINE_SECONDS

Labels = frozenset[tuple[str, str]]


def provide() -> None:
    """See that both programs are there; exits if they cannot be had."""
    if not _are_there():
        print("The tests of the metrics need Prometheus. Asking Debian for its package ...", flush=True)
        debian.install("prometheus")
    if not _are_there():
        sys.exit("No Prometheus for the tests of the metrics: install prometheus and promtool (on Debian: prometheus).")


def _are_there() -> bool:
    return all(shutil.which(program) for program in ("prometheus", "promtool"))


def promtool(*arguments: str, given: str = "") -> str:
    """What promtool says; an empty text if it has nothing to find fault with."""
    found = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True)
    return "" if found.returncode == 0 else f"{found.stdout}{found.stderr}"


def samples(text: str) -> dict[tuple[str, Labels], float]:
    """The values of a scrape, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Prometheus:
    """A real Prometheus that scrapes servers every second.

    Args:
        servers: host and port of each.
        rules: a file of alert rules.
    """

    def __init__(self, folder: Path, servers: Sequence[str], rules: Path, token: str) -> None:
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{rules}']\n"
            "scrape_configs:\n"
            "  - job_name: usertable\n"
            f"    authorization: {{credentials: '{token}'}}\n"
            f"    static_configs: [{{targets: {list(servers)}}}]\n"
        )
        self._log = (folder / "prometheus.log").open("w+")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._http = httpx.Client(base_url=self._address(), timeout=DEADLINE_SECONDS)

    def _address(self) -> str:
        """Where it listens: it chose a free port, and only its sockets tell which."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (port := _listening_port(self._process.pid)):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression comes to now."""
        answer = self._http.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """What an expression comes to, as soon as it comes to anything."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression}: nothing came of it"
            time.sleep(0.1)
        return found

    def alerts(self) -> dict[str, str]:
        """The state of each alert rule: inactive, pending or firing."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


def _listening_port(pid: int) -> int | None:
    """The port of 127.0.0.1 that a process listens on, by its sockets."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        # Its address is 0100007F:1F90; 0A is LISTEN.
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].partition(":")[2], 16)
    return None


if __name__ == "__main__":
    provide()
