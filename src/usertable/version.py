"""The version of this build. It comes from git, by hatch-vcs: `0.1.dev214+gba7fb6d` is 214 commits on the way to 0.1."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from functools import cache
from pathlib import Path

UNKNOWN = "unknown"
"""The version of a folder that is neither installed nor a git checkout."""


@cache
def version() -> str:
    """Return the version of the running code.

    In a git checkout this is the version of its current commit, or SETUPTOOLS_SCM_PRETEND_VERSION, because the installed
    metadata is as old as the last installation. Anywhere else it is the version of the installed package.
    """
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        # As get_version does, without the 0.1 s to import it.
        if pretended := os.environ.get("SETUPTOOLS_SCM_PRETEND_VERSION"):
            return pretended
        # Without the build tools, or without git, the version is unknown.
        with contextlib.suppress(ImportError, LookupError):
            from setuptools_scm import get_version

            return get_version(checkout)
    return _installed()


def _installed() -> str:
    try:
        return importlib.metadata.version("usertable")
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
