"""Statements by name, from the `.sql` files next to an engine's modules.

-- name: user_by_cuid
-- One user's row.
SELECT cuid, attributes FROM usertable.users WHERE project = %(project)s AND cuid = %(cuid)s;

In a statement, {name} stands for an earlier one of its file, or a part that several have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import LiteralString

_HEAD = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PART = re.compile(r"\{(\w+)\}")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


def load_queries(package: str, file: str) -> Mapping[str, LiteralString]:
    """Return the statements in a package's file, by name, without their comments and final semicolons.

    What stands in braces and is not the name of an earlier statement stays, for the caller to replace.
    """
    # The text before the first name is about the whole file.
    _, *parts = _HEAD.split((resources.files(package) / file).read_text())
    queries: dict[str, LiteralString] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"{file} has two statements named {name}")
        statement = _COMMENT.sub("", text).strip().removesuffix(";")
        queries[name] = _PART.sub(lambda part: queries.get(part[1], part[0]), statement)
    return queries
