"""Debian's packages, for programs that the tests run and no Python package carries."""

from __future__ import annotations

import os
import shutil
import subprocess

# Nobody is there to answer a package's questions.
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def install(package: str) -> bool:
    """Install a package if this is Debian and we may; whether it is there."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    return run(command, _QUIET) or (run(["apt-get", "update"], _QUIET) and run(command, _QUIET))


def run(command: list[str], environment: dict[str, str]) -> bool:
    """Run a command with further variables and without its output; whether it succeeded."""
    return subprocess.run(command, env=os.environ | environment, stdout=subprocess.DEVNULL).returncode == 0
