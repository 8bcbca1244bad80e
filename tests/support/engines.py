"""Every store, for the tests that all of them must pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from support import postgres
from support.citus import CitusCluster


@contextmanager
def database(version: int, *, empty: bool = False) -> Iterator[str]:
    """Return a database on a server of this version, with the tables of a store unless `empty`."""
    cluster = postgres.shared(version)
    if empty:
        url = cluster.create()
        yield url
        cluster.drop(url)
    else:
        with cluster.migrated() as url:
            yield url


CITUS = os.environ.get("USERTABLE_TEST_CITUS")
"""An empty database on a Citus cluster's coordinator, with the extension and the workers, which the tests may use."""


# How to create a database for a store; it is removed at the end of the context.
ENGINES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "memory": lambda folder: nullcontext("memory:"),
    "sqlite": lambda folder: nullcontext(f"sqlite:///{folder / 'store.db'}"),
    "postgresql newest": lambda folder: database(postgres.NEWEST),
    "postgresql oldest": lambda folder: database(postgres.OLDEST),
}
if CITUS:
    cluster = CitusCluster(CITUS)
    ENGINES["citus"] = lambda folder: cluster.database()
KEPT = [engine for engine in ENGINES if engine in ("sqlite", "postgresql newest", "citus")]
"""Those that outlive their server."""
SHARED = [engine for engine in KEPT if engine != "sqlite"]
"""Those that may have several servers."""
