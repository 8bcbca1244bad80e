"""The PostgreSQL programs that back up and restore a store, and their command lines."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from usertable.store.backup import DatabaseTools, Tool
from usertable.store.postgres.citus import load_shards
from usertable.store.postgres.connection import opened
from usertable.store.postgres.url import OWN_PARAMETERS, connection_parameters
from usertable.store.urls import SECRETS, redacted_url

_BACKUP, _RESTORE = ("pg_basebackup", "pg_dump"), ("createdb", "pg_restore")
_DEBIAN = "/usr/lib/postgresql/{version}/bin/{name}"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")
"""The version in a program's answer to `--version`: `pg_dump (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)`."""


def database_tools(url: str, file: Path, *, restore: bool) -> DatabaseTools:
    """See :func:`usertable.store.database_tools`."""
    conninfo, _ = connection_parameters(url)
    with opened(conninfo, redacted_url(url)) as db:
        server = db.info.server_version // 10_000
        shown: str = db.execute("SELECT current_setting('server_version')").fetchall()[0][0]
        distributed = load_shards(db) is not None
        database = db.info.dbname
    tools = [_tool(name, server) for name in (_RESTORE if restore else _BACKUP)]
    commands = [_command(tool, conninfo, database, file) for tool in tools]
    return DatabaseTools(shown.partition(" ")[0], distributed, tools, commands)


def _tool(name: str, server: int) -> Tool:
    """Return the program of this name for the server's version; otherwise one of another version."""
    tool = Tool(name, None, None, f"{name} is not installed; on Debian: apt-get install postgresql-client-{server}")
    for path in (shutil.which(name), _DEBIAN.format(version=server, name=name)):
        if path is None or not Path(path).exists():
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if not (found := _VERSION.search(said)):
            continue
        version = found[1] + found[2]
        if int(found[1]) >= server:
            return Tool(name, path, version, None)
        problem = f"{name} {version} is older than the server; on Debian: apt-get install postgresql-client-{server}"
        tool = Tool(name, path, version, problem)
    return tool


def _command(tool: Tool, conninfo: str, database: str, file: Path) -> str:
    given = {
        name: value
        for name, value in conninfo_to_dict(conninfo).items()
        if name not in SECRETS and OWN_PARAMETERS.get(name) != value
    }
    target = make_conninfo("", **given)
    restored = make_conninfo("", **{**given, "dbname": f"{database}_restored"})
    arguments = {
        "pg_basebackup": ["-d", target, "-D", str(file), "-X", "stream", "-c", "fast"],
        "pg_dump": ["-d", target, "-Fc", "-n", "usertable", "-f", str(file)],
        "createdb": ["--maintenance-db", target, "-T", "template0", "-E", "UTF8", f"{database}_restored"],
        "pg_restore": ["-d", restored, "--single-transaction", "--exit-on-error", str(file)],
    }
    return shlex.join([tool.path or tool.name, *arguments[tool.name]])
