"""A server for the tests of those who use the client: in the test's process, with a store in memory and a clock to set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from usertable.app.clock import SYSTEM_CLOCK
from usertable.app.service import Service
from usertable.client import AsyncClient, Client
from usertable.config import Config
from usertable.domain.schema import DEFAULT_TIMEZONE, Attribute, Identifier, Rule
from usertable.domain.values import DataType
from usertable.http.server import in_background
from usertable.store import open_store

ADMIN_TOKEN = "the-token-of-the-test-double"
START = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    """The time of a test server. It stands still until it is set."""

    def __init__(self) -> None:
        self.now = START
        """An aware datetime; may be set to any other."""

    def advance(self, **parts: float) -> None:
        """Move it by a :class:`~datetime.timedelta` of these parts: `advance(hours=25)`."""
        self.now += timedelta(**parts)

    def ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return int(self.now.timestamp() * 1000)


class Server:
    """A running server with one project.

    Attributes:
        url: where it listens.
        project, secret: the project's credentials.
        admin_token: of the native API's admin.
        clock: its time.
        service: the use cases, for what the methods here do not do.
    """

    def __init__(self, url: str, service: Service, clock: Clock, project: str, secret: str) -> None:
        self.url = url
        self.service = service
        self.clock = clock
        self.project = project
        self.secret = secret
        self.admin_token = ADMIN_TOKEN

    def client(self, **settings: Any) -> Client:
        """A client for the project, with any settings of :class:`usertable.Client`."""
        return Client(self.url, self.project, self.secret, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """An asynchronous client for the project."""
        return AsyncClient(self.url, self.project, self.secret, **settings)

    def declare(self, name: str, type: str, rule: str = "overwrite") -> None:
        """Declare an attribute, such as `declare("total_spent", "NUMBER", "accumulate")`."""
        attribute = Attribute(name, DataType(type), Rule(rule))
        self.service.declare_attribute(self.project, attribute, actor="test")

    def declare_identifier(self, name: str) -> None:
        """Declare an identifier. The first is the one that Get CUID takes."""
        self.service.declare_identifier(self.project, Identifier(name), actor="test")

    def add_user(self, cuid: int, **identifiers: str) -> int:
        """Make a user with that CUID; gives it back."""
        return self.service.add_user(self.service.project(self.project), cuid, identifiers).cuid

    def attributes(self, cuid: int) -> dict[str, Any]:
        """What is stored of a user: NUMBER `int` or `Decimal`, BOOL `bool`, LIST `list`, DATETIME an aware datetime."""
        project = self.service.project(self.project)
        kept = self.service.user(project, cuid).profile.attributes
        moments = {a.name for a in project.schema.attributes.values() if a.type is DataType.DATETIME}
        return {
            name: datetime.fromtimestamp(value // 1000, project.zone)
            if name in moments and isinstance(value, int)
            else value
            for name, value in kept.items()
        }


@contextlib.contextmanager
def running(*, timezone: str = DEFAULT_TIMEZONE, qps: int | None = None, **settings: Any) -> Iterator[Server]:
    """A server for a while, with a project and nothing declared in it.

    Args:
        timezone: of the project.
        qps: its limit; none by default, so that tests are not held up.
        settings: of the server, as in the reference.
    """
    clock = Clock()
    store = open_store("memory:")
    service = Service(store, clock=clock.ms)
    project, secret = service.create_project("test", timezone=timezone, qps=qps, actor="test")
    config = Config(**{"store": "memory:", "port": 0, "admin_token": ADMIN_TOKEN, **settings})
    try:
        with in_background(config, store, replace(SYSTEM_CLOCK, now_ms=clock.ms)) as url:
            yield Server(url, service, clock, project.id, secret)
    finally:
        store.close()
