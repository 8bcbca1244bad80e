"""The names of actors."""

from __future__ import annotations

from usertable.domain.actor import Actor


def test_each_actor_has_its_form() -> None:
    actors = [
        Actor.key("orders"),
        Actor.person("ann@example.com"),
        Actor.admin_token(),
        Actor.cli("deploy"),
        Actor.import_job("crm: 2026-11"),
        Actor.undo(17),
        Actor.anonymous(),
    ]
    assert [*map(str, actors)] == [
        "key:orders",
        "person:ann@example.com",
        "admin-token",
        "cli:deploy",
        "import:crm: 2026-11",
        "undo:17",
        "anonymous",
    ]


def test_the_request_that_an_actor_comes_with_is_no_part_of_its_name() -> None:
    came = Actor.key("orders").with_origin("request-1", "192.0.2.7")
    assert (str(came), came.request_id, came.address) == ("key:orders", "request-1", "192.0.2.7")
