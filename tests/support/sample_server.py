"""A running server whose project has a shop's attributes and one user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess
from usertable.app.service import Service
from usertable.console.app import PAGES
from usertable.domain.schema import Attribute, Identifier, Rule
from usertable.domain.values import DataType, Limits
from usertable.store import open_store

TOKEN = "a-token-for-the-tests-only"
AT = f"/console/projects/{PROJECT}"
SCRIPT = "<script>document.title='taken'</script>"
CUID = 10_000_001

_DECLARED = (
    Attribute("level", DataType.STRING, Rule.OVERWRITE, "会员等级 Level", "gold, silver or bronze"),
    Attribute("total_spent", DataType.NUMBER, Rule.ACCUMULATE, "累计消费 Total spent", "In yuan, refunds are negative"),
    Attribute("first_paid_at", DataType.DATETIME, Rule.ONCE, "首次付费 First payment"),
    Attribute("tags", DataType.LIST, Rule.APPEND, "兴趣 Interests", limits=Limits(200, 64)),
    Attribute("is_member", DataType.BOOL, Rule.OVERWRITE, "会员 Member"),
    Attribute("city", DataType.STRING, Rule.OVERWRITE, "城市 City"),
    Attribute("referrer", DataType.STRING, Rule.ONCE, "来源 Referrer", hidden=True),
    Attribute("logins", DataType.NUMBER, Rule.ACCUMULATE, "登录次数 Logins"),
)


def create_sample_store(url: str, name: str = "Tests") -> None:
    """A project with a shop's attributes and one user."""
    store = open_store(url)
    service = Service(store)
    project, _ = service.create_project(name, id=PROJECT, secret=SECRET, actor="admin")
    for attribute in _DECLARED:
        service.declare_attribute(PROJECT, attribute, actor="admin")
    service.declare_identifier(PROJECT, Identifier("phone", "手机号 Phone", masked=True), actor="admin")
    service.declare_identifier(PROJECT, Identifier("login_id", "账号 Login", unique=False), actor="admin")
    assert service.register(project, "phone", ["18012345678"]) == [CUID]
    store.close()


@contextlib.contextmanager
def sample_server(folder: Path, name: str = "Tests") -> Iterator[ServerProcess]:
    """A server with that project."""
    url = f"sqlite:///{folder / 'store.db'}"
    create_sample_store(url, name)
    server = ServerProcess(url, folder, admin_token=TOKEN)
    try:
        with server.client() as client:
            data = {
                "level": "silver",
                "total_spent": 46.2,
                "tags": ["news", "sport"],
                "first_paid_at": "2023-12-12 00:56:23",
            }
            assert client.put(ATTRIBUTE, json={"cuid": CUID, "data": data}).status_code == 200
        yield server
    finally:
        assert server.stop() == 0
        assert "Traceback" not in server.log, server.log


def page_paths() -> list[str]:
    """Every page that can be looked at, with something in it."""
    found = []
    for page in PAGES:
        # Streams and files are no pages.
        if page.method == "GET" and page.path != "/console" and not page.path.endswith(("/live", "/csv")):
            path = page.path.replace("{project}", PROJECT).replace("{cuid}", str(CUID))
            found.append(path.replace("{name}", "phone" if "/identifiers/" in path else "tags"))
    return [*found, "/console/there-is-no-such-page"]
