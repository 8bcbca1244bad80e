"""The pytest plugin that comes with usertable: the fixture `usertable_server`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from usertable.testing import Server


@pytest.fixture
def usertable_server() -> Iterator[Server]:
    """A server of the test's own, with a store in memory, a project, and a clock that the test sets."""
    # Not before it is asked for: every test run of every project that has usertable installed loads this module.
    from usertable.testing import running

    with running() as server:
        yield server
