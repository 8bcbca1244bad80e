"""Where the user tables live: one protocol (:mod:`usertable.store.base`), one file per engine."""

from __future__ import annotations

from urllib.parse import urlsplit

from usertable.domain.errors import StoreFault
from usertable.store.base import Store, sqlite_place
from usertable.store.memory import MemoryStore
from usertable.store.sqlite import SQLiteStore

__all__ = ["Store", "open_store"]


def open_store(url: str, *, serving: bool = False) -> Store:
    """Open the store a URL names, and create or migrate it as needed.

    Args:
        url: `memory:` or `sqlite:///path/file.db` (three slashes and a relative path, four and an absolute one), with
            `?cache_mb=N` for the most memory that SQLite may keep pages in.
        serving: this process will be the store's server; engines that allow one only refuse a second.

    Raises:
        StoreFault: an unknown scheme, an unusable place, a file that is not ours, or a store that is too new.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryStore()
    if scheme == "sqlite":
        path, cache_mb = sqlite_place(url)
        return SQLiteStore(path, serving=serving, cache_mb=cache_mb)
    raise StoreFault(
        f"unknown store URL {url!r}: the scheme {scheme!r} is none of memory, sqlite. Example: sqlite:///usertable.db"
    )
