"""One suite for every store: `store` is each engine in turn, and a test must not ask which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from house import House
from usertable.store import Store, open_store

ENGINES: dict[str, Callable[[Path], str]] = {
    "memory": lambda folder: "memory:",
    "sqlite": lambda folder: f"sqlite:///{folder / 'store.db'}",
}


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(ENGINES[request.param](tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def house(store: Store) -> House:
    return House(store)
