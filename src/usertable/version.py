"""Which build this is. The version comes from git, by hatch-vcs: `0.1.dev214+gba7fb6d` is 214 commits on the way to 0.1."""

from __future__ import annotations

import contextlib
import importlib.metadata
from functools import cache
from pathlib import Path

UNKNOWN = "unknown"
"""The version of a folder that is neither installed nor a git checkout."""


@cache
def version() -> str:
    """Return the version of the running code.

    In a git checkout this is the version of its present commit, since the installed metadata is as old as the last
    installation. Anywhere else it is the version of the installed package.
    """
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        # Without what builds the package, or without the command git, there is no saying.
        with contextlib.suppress(ImportError, LookupError):
            from setuptools_scm import get_version

            return get_version(checkout)
    return _installed()


def _installed() -> str:
    try:
        return importlib.metadata.version("usertable")
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
