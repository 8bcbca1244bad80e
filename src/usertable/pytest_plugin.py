"""The pytest plugin of usertable: the fixture `usertable_server`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from usertable.testing import Server


@pytest.fixture
def usertable_server() -> Iterator[Server]:
    """A server for one test, with a store in memory, one project, and a clock that the test sets."""
    # Imported here because pytest loads this module in every project that has usertable installed.
    from usertable.testing import running

    with running() as server:
        yield server
