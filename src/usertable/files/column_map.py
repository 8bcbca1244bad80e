"""What columns are for, as a YAML file.

`Customer no: cuid`, a line for each column; nothing for one to be left out, and `Phone: [phone, contact]` for several.
"""

from __future__ import annotations

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from usertable.domain.errors import ProblemKind, Refused, excerpt, refusal
from usertable.wire.yaml_tree import BadYAML, yaml_tree

_NULL = "tag:yaml.org,2002:null"


def column_map(content: bytes) -> dict[str, str]:
    """By column, what it is for, several with commas between; empty for nothing. A column's name is what is written,
    `2024.10` or `007` too.

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
        names = _names(value)
        if not isinstance(key, ScalarNode) or names is None:
            raise _refused(line, "it must map each column to a name, or to nothing")
        if key.value in found:
            raise _refused(line, f"the column {excerpt(key.value)} is mapped twice")
        found[key.value] = ",".join(names)
    return found


def _names(value: Node) -> list[str] | None:
    """The names that a column is mapped to; None if that is something else."""
    if isinstance(value, SequenceNode):
        nodes = value.value
        return [node.value for node in nodes] if nodes and all(isinstance(node, ScalarNode) for node in nodes) else None
    if isinstance(value, ScalarNode):
        return [] if str(value.tag) == _NULL or not value.value else [value.value]
    return None


def _refused(line: int, reason: str) -> Refused:
    return refusal(ProblemKind.IMPORT_FILE, reason=f"--map-file, line {line}: {reason}")
