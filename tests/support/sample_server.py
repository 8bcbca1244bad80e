"""A running server whose project has a shop's attributes and one user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from support.actors import ADMIN, TESTER
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess
from usertable.app.service import Service
from usertable.console.app import PAGES
from usertable.domain.key import DEFAULT_KEY
from usertable.domain.schema import Attribute, Identifier, Rule
from usertable.domain.values import DataType, Limits
from usertable.store import open_store

TOKEN = "a-token-for-the-tests-only"
AT = f"/console/projects/{PROJECT}"
SCRIPT = "<script>document.title='taken'</script>"
CUID = 10_000_001

SAMPLE_ATTRIBUTES = (
    Attribute("level", DataType.STRING, Rule.OVERWRITE, "会员等级 Level", "gold, silver or bronze"),
    Attribute("total_spent", DataType.NUMBER, Rule.ACCUMULATE, "累计消费 Total spent", "In yuan, refunds are negative"),
    Attribute("first_paid_at", DataType.DATETIME, Rule.ONCE, "首次付费 First payment"),
    Attribute("tags", DataType.LIST, Rule.APPEND, "兴趣 Interests", limits=Limits(200, 64)),
    Attribute("is_member", DataType.BOOL, Rule.OVERWRITE, "会员 Member"),
    Attribute("city", DataType.STRING, Rule.OVERWRITE, "城市 City"),
    Attribute("referrer", DataType.STRING, Rule.ONCE, "来源 Referrer", hidden=True),
    Attribute("logins", DataType.NUMBER, Rule.ACCUMULATE, "登录次数 Logins"),
)
SAMPLE_IDENTIFIERS = (
    Identifier("phone", "手机号 Phone", masked=True),
    Identifier("login_id", "账号 Login", unique=False),
)


def create_sample_store(url: str, name: str = "Tests") -> None:
    """Create a project with a shop's attributes and one user."""
    store = open_store(url)
    service = Service(store)
    project, _ = service.create_project(name, id=PROJECT, secret=SECRET, actor=ADMIN)
    for attribute in SAMPLE_ATTRIBUTES:
        service.declare_attribute(PROJECT, attribute, actor=ADMIN)
    for identifier in SAMPLE_IDENTIFIERS:
        service.declare_identifier(PROJECT, identifier, actor=ADMIN)
    assert service.register(project, "phone", ["18012345678"], actor=TESTER) == [CUID]
    store.close()


@contextlib.contextmanager
def sample_server(folder: Path, name: str = "Tests") -> Iterator[ServerProcess]:
    """Run a server with that project."""
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


def page_paths(person: str = "") -> list[str]:
    """Return the path of every page, with some content.

    Args:
        person: the ID of a person whose pages are included; without it, pages about a person are left out.
    """
    found = []
    for page in PAGES:
        # Streams and files are not pages.
        if page.method == "GET" and page.path != "/console" and not page.path.endswith(("/live", "/csv")):
            if "{person}" in page.path and not person:
                continue
            path = page.path.replace("{project}", PROJECT).replace("{cuid}", str(CUID)).replace("{person}", person)
            name = "phone" if "/identifiers/" in path else DEFAULT_KEY if "/keys/" in path else "tags"
            found.append(path.replace("{name}", name))
    return [*found, "/console/there-is-no-such-page"]
