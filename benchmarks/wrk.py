"""Run wrk, the load generator, and store results in files."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass
class Measured:
    """Result of one round; latencies in milliseconds."""

    per_second: float
    p50: float
    p99: float
    errors: int


def wrk(
    url: str, connections: int, seconds: int, script: str | None = None, settings: Mapping[str, str] | None = None
) -> Measured:
    """Load `url`. `script` is a file next to this one, and `settings` its environment."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "--timeout", "30"]
    if script is not None:
        command += ["-s", str(HERE / script)]
    environment = {**os.environ, **(settings or {})}
    said = subprocess.run([*command, url], env=environment, capture_output=True, text=True, check=True).stdout
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Measured(
        float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),  # type: ignore[index]
        milliseconds(re.search(r"\n +50% +(\S+)", said)[1]),  # type: ignore[index]
        milliseconds(re.search(r"\n +99% +(\S+)", said)[1]),  # type: ignore[index]
        int(wrong[1]) if wrong else 0,
    )


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def write_results(name: str, versions: Mapping[str, object], results: object) -> None:
    """Store results with the date and a description of the machine in `results/NAME-DATE.json`."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    machine = {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        **versions,
    }
    today = time.strftime("%Y-%m-%d")
    target = HERE / "results" / f"{name}-{today}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"date": today, "machine": machine, "results": results}, indent=2) + "\n")
    print(f"\nwritten to {target.relative_to(HERE.parent)}")
