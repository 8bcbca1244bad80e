"""What another process changes in the store is known to a running server within a second, by the server's clock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import httpx
import pytest

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.native_server import serving_by
from support.server_process import ATTRIBUTE, PROJECT, SECRET, create_project
from support.waiting import wait_until
from usertable.app.service import Service
from usertable.domain.permissions import ALL_SCOPES, Scope
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType
from usertable.store import open_store

LEVEL = Attribute("level", DataType.STRING, Rule.OVERWRITE)
KNOWN = "user_string_overwrite"


class Change(NamedTuple):
    """A change, and a PUT that is answered differently before and after it."""

    make: Callable[[Service], object]
    key: str
    attribute: str
    before: int
    after: int


CHANGES = {
    "a new attribute": Change(lambda s: s.declare_attribute(PROJECT, LEVEL, actor=TESTER), "sender", "level", 400, 200),
    "a revoked key": Change(lambda s: s.revoke_key(PROJECT, "sender", actor=TESTER), "sender", KNOWN, 200, 401),
    "a replaced secret": Change(
        lambda s: s.rotate_secret(PROJECT, secret="another-secret", actor=TESTER), "default", KNOWN, 200, 401
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_server_knows_within_a_second_what_another_process_changed(kept_url: str, change: str) -> None:
    make, key, attribute, before, after = CHANGES[change]
    (cuid,) = create_project(kept_url, users=1)
    clock = ManualClock()
    with contextlib.closing(open_store(kept_url)) as other:
        service = Service(other)
        secrets = {"default": SECRET}
        _, secrets["sender"] = service.create_key(PROJECT, "sender", [Scope.WRITE], granted=ALL_SCOPES, actor=TESTER)
        with serving_by(clock, kept_url) as server:
            sender = server.caller(PROJECT, secrets[key])

            def put() -> httpx.Response:
                return sender.put(ATTRIBUTE, json={"cuid": cuid, "data": {attribute: "a"}})

            assert put().status_code == before
            make(service)
            clock.advance(1)
            wait_until(lambda: put().status_code == after)
