"""Debian's packages, for programs that the tests run and that no Python package contains."""

from __future__ import annotations

import os
import shutil
import subprocess

# Nobody can answer a package's questions.
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def install(package: str) -> bool:
    """Install a package, if this is Debian and it is permitted. Return whether it is installed."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    return run(command, _QUIET) or (run(["apt-get", "update"], _QUIET) and run(command, _QUIET))


def run(command: list[str], environment: dict[str, str]) -> bool:
    """Run a command with additional variables and without its output. Return whether it succeeded."""
    return subprocess.run(command, env=os.environ | environment, stdout=subprocess.DEVNULL).returncode == 0
