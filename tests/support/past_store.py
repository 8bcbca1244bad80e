"""A store whose project has a shop's attributes, and a user with a history of some days."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from support.actors import ADMIN, TESTER
from support.commands import import_batch
from support.merging import write_as_server
from support.sample_server import CUID, SAMPLE_ATTRIBUTES, SAMPLE_IDENTIFIERS
from support.server_process import PROJECT, SECRET
from usertable.app.clock import now_ms
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.domain.change import Origin
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Project
from usertable.store import open_store
from usertable.store.records import ImportBatch, ImportRow, ImportRows, Write

HOUR = 3_600_000
DAY = 24 * HOUR
IMPORTED = 50_000_001
"""A user that an import created."""


class PastStore:
    """A store that is written to in the past. `now` is its clock, in ms since 1970 UTC."""

    def __init__(self, url: str, begin: int) -> None:
        self.now = begin
        self.store = open_store(url)
        self.service = Service(self.store, clock=lambda: self.now)

    def write(self, cuid: int, data: Mapping[str, object], origin: Origin, request: str) -> None:
        project = self.service.project(PROJECT)
        patch = validate(project.schema, data, project.zone)
        assert isinstance(patch, Patch), patch
        write = Write(project.number, cuid, patch, project.version, self.now, None, False, origin=origin, request=request)
        write_as_server(self.store, [write], WriteBatch(Rules()))

    def import_rows(self, *rows: ImportRow, job: str) -> None:
        project = self.service.project(PROJECT)
        names = frozenset(project.schema.attributes)
        batch = ImportBatch(
            *(project.number, project.version, ImportRows.of(rows), names, self.now, True, job),
            self.store.job(project.number, job),
            origin=Origin(f"import:{job}"),
        )
        import_batch(self.store, batch, note=lambda result: f"{self.now}")

    def make_project(self, name: str = "Tests") -> Project:
        self.service.create_project(name, id=PROJECT, secret=SECRET, actor=ADMIN)
        for attribute in SAMPLE_ATTRIBUTES:
            self.service.declare_attribute(PROJECT, attribute, actor=ADMIN)
        for identifier in SAMPLE_IDENTIFIERS:
            self.service.declare_identifier(PROJECT, identifier, actor=ADMIN)
        return self.service.project(PROJECT)


def create_past_store(url: str, name: str = "Tests") -> int:
    """Create the project four days ago, with a user who changed since, and return when it was created."""
    begin = now_ms() // 1000 * 1000 - 4 * DAY
    past = PastStore(url, begin)
    project = past.make_project(name)
    past.now = begin + HOUR
    assert past.service.register(project, "phone", ["18012345678"], actor=TESTER) == [CUID]
    past.import_rows((IMPORTED, (), '{"level":"bronze","tags":["news"],"total_spent":5}'), job="crm-2026")
    orders, web = "key:orders", "key:web"
    changes: list[tuple[int, dict[str, object], Origin, str]] = [
        (2 * HOUR, {"level": "bronze", "city": "上海", "referrer": "search"}, Origin(web, "web-41"), "web-1"),
        (DAY, {"total_spent": Decimal("46.2"), "tags": ["news", "sport"], "is_member": 0}, Origin(orders), "orders-1"),
        (DAY + 5, {"level": "silver", "referrer": "campaign"}, Origin(web, "web-42"), "web-2"),
        (2 * DAY, {"total_spent": Decimal("-6.2"), "tags": ["sport", "music"]}, Origin(orders, "", begin + DAY), "orders-2"),
        (2 * DAY + HOUR, {"level": "silver"}, Origin("key:crm"), "crm-1"),
        (3 * DAY, {"level": "gold", "is_member": 1, "first_paid_at": "2023-12-12 00:56:23"}, Origin(web, "web-42"), "web-3"),
        (3 * DAY + 6 * HOUR, {"city": "北京", "logins": 1}, Origin(web, "web-43"), "web-4"),
    ]
    for at, data, origin, request in changes:
        past.now = begin + at
        past.write(CUID, data, origin, request)
    past.write(IMPORTED, {"tags": ["travel"], "level": "silver"}, Origin(orders), "orders-3")
    past.store.close()
    return begin
