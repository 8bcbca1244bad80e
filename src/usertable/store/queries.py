"""Statements by name, from the `.sql` files next to an engine's modules.

-- name: user_by_cuid
-- One user's row.
SELECT cuid, attributes FROM usertable.users WHERE project = %(project)s AND cuid = %(cuid)s;
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import LiteralString

_HEAD = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


def load_queries(package: str, file: str) -> Mapping[str, LiteralString]:
    """Return the statements in a package's file, by name, without their comments and final semicolons."""
    # The text before the first name is about the whole file.
    _, *parts = _HEAD.split((resources.files(package) / file).read_text())
    queries: dict[str, LiteralString] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"{file} has two statements named {name}")
        queries[name] = _COMMENT.sub("", text).strip().removesuffix(";")
    return queries
