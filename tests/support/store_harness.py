"""A store with a project, for tests below HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from support.actors import TESTER
from support.merging import write_as_server
from support.sample_project import sample_project
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.domain.change import Origin
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Project
from usertable.store import Store
from usertable.store.records import Receipt, Result, Write


class StoreHarness:
    """A store with a project, and short methods to call it. The clock stands at `now` (ms)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 1_700_000_000_000
        self.service = Service(store, clock=lambda: self.now)

    def project(self, name: str = "one") -> Project:
        """Create a project with `user_<type>_<rule>` for every legal pair and the identifier `phone`."""
        return sample_project(self.store, name, "secret", name=name, qps=100, created_at=self.now)

    def user(self, project: Project, value: str = "18012345678") -> int:
        """Create a user, and return its CUID."""
        return self.service.register(project, "phone", [value], actor=TESTER)[0]

    def prepare(
        self,
        project: Project,
        cuid: int,
        data: Mapping[str, object],
        key: str = "",
        *,
        body: bytes = b"",
        whole: bool = False,
        dry_run: bool = False,
        actor: str = "key:default",
        request: str = "",
    ) -> Write:
        """Return a write as the server would create it; with a receipt if there is a key."""
        patch = validate(project.schema, data, project.zone)
        assert isinstance(patch, Patch), patch
        receipt = Receipt(key, body, whole) if key else None
        origin = Origin(actor) if project.history.is_on else None
        return Write(
            project.number, cuid, patch, project.version, self.now, receipt, dry_run, origin=origin, request=request
        )

    def write(self, *writes: Write) -> list[Result]:
        return write_as_server(self.store, writes, WriteBatch(Rules()))

    def attributes(self, project: Project, cuid: int) -> dict[str, object]:
        user = self.store.read(project.number, cuid)
        assert user is not None
        return dict(user.profile.attributes)
