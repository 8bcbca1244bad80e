"""A store whose project has a user with a history: several callers, several releases, a write that is not recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from support.actors import ADMIN
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.domain.actor import Actor
from usertable.domain.change import Origin
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Identifier, Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.records import Write, Written

PROJECT = "100102"
SECRET = "a-secret-of-the-tests"
CUID, OTHER = 10_000_001, 10_000_002
DECLARED = (
    Attribute("level", DataType.NUMBER, Rule.OVERWRITE),
    Attribute("total_spent", DataType.NUMBER, Rule.ACCUMULATE),
    Attribute("tags", DataType.LIST, Rule.APPEND),
    Attribute("first_paid_at", DataType.DATETIME, Rule.ONCE),
    Attribute("is_member", DataType.BOOL, Rule.OVERWRITE),
    Attribute("note", DataType.STRING, Rule.OVERWRITE, hidden=True),
)


def ms(moment: str) -> int:
    """Return milliseconds since 1970 UTC of a moment in UTC."""
    return round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def create_sample_history(url: str) -> None:
    """Create the project, in the zone Europe/Berlin, and what happened to its users in 2024. Its history is never pruned."""
    now = [ms("2024-03-01 00:00:00")]
    store = open_store(url)
    service = Service(store, clock=lambda: now[0])
    service.create_project("Shop", id=PROJECT, secret=SECRET, timezone="Europe/Berlin", qps=None, actor=ADMIN)
    service.edit_history(PROJECT, days=36_500, actor=ADMIN)
    for attribute in DECLARED:
        service.declare_attribute(PROJECT, attribute, actor=ADMIN)
    service.declare_identifier(PROJECT, Identifier("phone", masked=True), actor=ADMIN)
    project = service.project(PROJECT)

    def write(moment: str, data: dict[str, object], origin: Origin | None, request: str, cuid: int = CUID) -> None:
        patch = validate(project.schema, data, project.zone)
        assert isinstance(patch, Patch)
        one = Write(project.number, cuid, patch, project.version, ms(moment), origin=origin, request=request)
        (result,) = store.write([one], WriteBatch(Rules()))
        assert isinstance(result, Written)

    now[0] = ms("2024-03-10 08:00:00")
    signup = Actor.key("signup").with_origin("r-0", "", "web 1.0")
    assert service.register(project, "phone", ["18012345678", "18012345679"], actor=signup) == [CUID, OTHER]
    write(
        "2024-03-30 10:00:00",
        {
            "level": 3,
            "total_spent": Decimal("1.5"),
            "tags": ["A", "B"],
            "first_paid_at": "2023-12-12 00:56:23",
            "is_member": 1,
        },
        Origin("key:billing", "billing 1.2"),
        "r-1",
    )
    write(
        "2024-03-30 11:00:00",
        {"level": 9, "total_spent": Decimal("-0.5"), "tags": ["B", "C"], "first_paid_at": "2024-02-02 00:00:00"},
        Origin("key:app"),
        "r-2",
    )
    # As an older version of usertable writes it.
    write("2024-03-31 12:00:00", {"level": 10}, None, "")
    write("2024-04-01 12:00:00", {"level": 4, "note": "vip"}, Origin("key:billing", "billing 1.3"), "r-3")
    write("2024-04-01 13:00:00", {"level": 1}, Origin("key:billing", "billing 1.3"), "r-4", OTHER)
    store.close()
