"""What columns are for, as a YAML file: `Customer no: cuid`, a line for each column; nothing for one to be left out."""

from __future__ import annotations

from ruamel.yaml.nodes import MappingNode, ScalarNode

from usertable.domain.errors import ProblemKind, Refused, excerpt, refusal
from usertable.wire.yaml_tree import BadYAML, yaml_tree

_NULL = "tag:yaml.org,2002:null"


def column_map(content: bytes) -> dict[str, str]:
    """By column, what it is for; empty for nothing. A column's name is what is written, `2024.10` or `007` too.

    Raises:
        Refused: it is not YAML, or does not map names to names, each once.
    """
    try:
        node = yaml_tree(content)
    except BadYAML as error:
        raise _refused(error.line, error.expected) from error
    if not isinstance(node, MappingNode):
        raise _refused(1, "it must map each column to a name, or to nothing")
    found: dict[str, str] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode) or not isinstance(value, ScalarNode):
            raise _refused(line, "it must map each column to a name, or to nothing")
        if key.value in found:
            raise _refused(line, f"the column {excerpt(key.value)} is mapped twice")
        found[key.value] = "" if str(value.tag) == _NULL else value.value
    return found


def _refused(line: int, reason: str) -> Refused:
    return refusal(ProblemKind.IMPORT_FILE, reason=f"--map-file, line {line}: {reason}")
