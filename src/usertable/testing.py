"""A server for the tests of programs that use the client: in the test's process, with a store in memory and a manual
clock."""

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
from usertable.domain.actor import Actor
from usertable.domain.schema import DEFAULT_TIMEZONE, Attribute, Identifier, Rule
from usertable.domain.values import DataType
from usertable.http.server import in_background
from usertable.store import open_store

ADMIN_TOKEN = "the-token-of-the-test-double"
_ACTOR = Actor.cli("test")
START = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    """The clock of a test server. It stands still until it is set."""

    def __init__(self) -> None:
        self.now = START
        """An aware datetime. Assign another to set the clock."""

    def advance(self, **parts: float) -> None:
        """Advance the clock by a :class:`~datetime.timedelta` with these arguments: `advance(hours=25)`."""
        self.now += timedelta(**parts)

    def ms(self) -> int:
        """Return milliseconds since 1970 UTC."""
        return int(self.now.timestamp() * 1000)


class Server:
    """A running server with one project.

    Attributes:
        url: the server's URL.
        project, secret: the project's credentials.
        admin_token: the token for the native API's admin operations.
        clock: the server's clock.
        service: the use cases, for anything that the methods here do not cover.
    """

    def __init__(self, url: str, service: Service, clock: Clock, project: str, secret: str) -> None:
        self.url = url
        self.service = service
        self.clock = clock
        self.project = project
        self.secret = secret
        self.admin_token = ADMIN_TOKEN

    def client(self, **settings: Any) -> Client:
        """Return a client for the project, with any arguments of :class:`usertable.Client`."""
        return Client(self.url, self.project, self.secret, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """Return an asynchronous client for the project."""
        return AsyncClient(self.url, self.project, self.secret, **settings)

    def declare(self, name: str, type: str, rule: str = "overwrite") -> None:
        """Declare an attribute, for example `declare("total_spent", "NUMBER", "accumulate")`."""
        attribute = Attribute(name, DataType(type), Rule(rule))
        self.service.declare_attribute(self.project, attribute, actor=_ACTOR)

    def declare_identifier(self, name: str) -> None:
        """Declare an identifier. Get CUID uses the first one."""
        self.service.declare_identifier(self.project, Identifier(name), actor=_ACTOR)

    def add_user(self, cuid: int, **identifiers: str) -> int:
        """Create a user with this CUID, and return it."""
        return self.service.add_user(self.service.project(self.project), cuid, identifiers, actor=_ACTOR).cuid

    def attributes(self, cuid: int) -> dict[str, Any]:
        """Return a user's stored values: NUMBER `int` or `Decimal`, BOOL `bool`, LIST `list`, DATETIME an aware datetime."""
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
    """Run a server with one project and an empty schema, for the length of the block.

    Args:
        timezone: the project's time zone.
        qps: the project's QPS limit; none by default, so that tests are not delayed.
        settings: server settings, as in the settings reference.
    """
    clock = Clock()
    store = open_store("memory:")
    service = Service(store, clock=clock.ms)
    project, secret = service.create_project("test", timezone=timezone, qps=qps, actor=_ACTOR)
    config = Config(**{"store": "memory:", "port": 0, "admin_token": ADMIN_TOKEN, **settings})
    try:
        with in_background(config, store, replace(SYSTEM_CLOCK, now_ms=clock.ms)) as url:
            yield Server(url, service, clock, project.id, secret)
    finally:
        store.close()
