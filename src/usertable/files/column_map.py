"""The mapping of columns, as a YAML file.

One line per column: `Customer no: cuid`. An empty value omits the column; `Phone: [phone, contact]` maps it to several
targets.
"""

from __future__ import annotations

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from usertable.domain.errors import ProblemKind, Refused, excerpt, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.wire.yaml_tree import BadYAML, yaml_tree

_NULL = "tag:yaml.org,2002:null"


def column_map(content: bytes) -> dict[str, str]:
    """Return the targets of each column, separated by commas; empty for none.

    A column's name is its text in the file, including `2024.10` and `007`.

    Raises:
        Refused: it is not YAML, or does not map each name once to names.
    """
    try:
        node = yaml_tree(content)
    except BadYAML as error:
        raise _refused(error.line, error.expected) from error
    if not isinstance(node, MappingNode):
        raise _refused(1, Phrase(PhraseKind.MAP_FORM))
    found: dict[str, str] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        names = _names(value)
        if not isinstance(key, ScalarNode) or names is None:
            raise _refused(line, Phrase(PhraseKind.MAP_FORM))
        if key.value in found:
            raise _refused(line, phrase(PhraseKind.MAPPED_TWICE, column=excerpt(key.value)))
        found[key.value] = ",".join(names)
    return found


def _names(value: Node) -> list[str] | None:
    """Return the names that a column is mapped to; None if the value is something else."""
    if isinstance(value, SequenceNode):
        nodes = value.value
        return [node.value for node in nodes] if nodes and all(isinstance(node, ScalarNode) for node in nodes) else None
    if isinstance(value, ScalarNode):
        return [] if str(value.tag) == _NULL or not value.value else [value.value]
    return None


def _refused(line: int, reason: Phrase) -> Refused:
    return refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.MAP_FILE, line=line, reason=reason))
