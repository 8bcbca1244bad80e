"""The numbered scripts that create and change an engine's tables."""

from __future__ import annotations

from importlib import resources

from usertable.domain.errors import StoreFault


def migrations(engine: str) -> list[str]:
    """Return the numbered scripts that create an engine's tables, in order. The first has number 1. None is ever removed.

    Args:
        engine: the name of its package, `sqlite` or `postgres`.
    """
    folder = resources.files("usertable.store") / engine / "migrations"
    scripts = (f for f in folder.iterdir() if f.name.endswith(".sql"))
    return [script.read_text() for script in sorted(scripts, key=lambda f: f.name)]


def outdated(display_url: str, version: int, newest: int) -> StoreFault:
    """Return why a command that may not migrate does not open a store of an older version."""
    return StoreFault(
        f"{display_url} has store version {version}, and this usertable needs {newest}; nothing was changed."
        " Stop its server, back up the store, then run: usertable migrate"
    )
