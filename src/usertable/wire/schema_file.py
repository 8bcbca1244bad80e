"""Schema as code: a project's attributes and identifiers as a YAML file, YAML 1.2.

The file::

    attributes:                 # in order of declaration
    - name: level               # required, as are type and rule
      type: NUMBER              # NUMBER STRING BOOL DATETIME LIST
      rule: overwrite           # overwrite once accumulate append
      display_name: 等级        # up to 1,000 characters; default: empty
      description: ...          # the same; may have several lines
      hidden: false             # default: false
      history: true             # whether its changes are recorded; default: true
    - name: tags
      type: LIST
      rule: append
      max_elements: 50          # for a LIST only; default: 1000
      max_element_bytes: 64     # for a LIST only; default: 512
    identifiers:                # by priority; the first has priority 1
    - name: phone
      display_name: 手机号
      unique: true              # default: true
      masked: false             # default: false

The platform's preset identifiers may be omitted. They then keep their place at the end.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, phrase
from usertable.domain.phrases import Param, Phrase, PhraseKind
from usertable.domain.schema import PRESET_IDENTIFIERS, Attribute, Identifier, Rule, Schema
from usertable.domain.values import DEFAULT_LIMITS, DataType, Limits
from usertable.wire.messages import text
from usertable.wire.yaml_tree import BadYAML, yaml_tree

HEADER = "# A schema of usertable. The first identifier has priority 1.\n"
_ATTRIBUTE_KEYS = (
    *("name", "type", "rule", "display_name", "description", "hidden", "max_elements", "max_element_bytes", "history"),
)
_IDENTIFIER_KEYS = ("name", "display_name", "unique", "masked")
_PRESETS = {i.name: i for i in PRESET_IDENTIFIERS}


def decode(content: bytes) -> Schema:
    """Return the schema in a file. Everything in it may be declared, except that there may be too many attributes.

    Raises:
        Refused: the file is not YAML in UTF-8, or has an unknown, repeated or missing key, a value of the wrong type, a
            repeated name, or something that cannot be declared. One `ProblemKind.SCHEMA_FILE` for each, with its line.
    """
    file = _File()
    schema = file.schema(_compose(content))
    if file.problems:
        raise Refused(file.problems)
    return schema


def encode(schema: Schema) -> str:
    """Return the file that :func:`decode` reads as the same schema."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    # No line is wrapped, so that a line can be searched for and compared.
    yaml.width = 2**31
    stream = io.StringIO()
    yaml.dump(_document(schema), stream)
    return HEADER + stream.getvalue()


def _document(schema: Schema) -> dict[str, list[dict[str, Any]]]:
    """Return the content of the file, without defaults."""
    attributes = []
    for a in schema.attributes.values():
        entry: dict[str, Any] = {"name": a.name, "type": a.type.value, "rule": a.rule.value}
        if a.display_name:
            entry["display_name"] = a.display_name
        if a.description:
            entry["description"] = a.description
        if a.hidden:
            entry["hidden"] = True
        if a.limits.elements != DEFAULT_LIMITS.elements:
            entry["max_elements"] = a.limits.elements
        if a.limits.element_bytes != DEFAULT_LIMITS.element_bytes:
            entry["max_element_bytes"] = a.limits.element_bytes
        if a.history_since is None:
            entry["history"] = False
        attributes.append(entry)
    written = schema.identifiers
    if written[-len(PRESET_IDENTIFIERS) :] == PRESET_IDENTIFIERS:
        written = written[: -len(PRESET_IDENTIFIERS)]
    identifiers = []
    for i in written:
        entry = {"name": i.name}
        if i.display_name or i.preset:
            entry["display_name"] = i.display_name
        entry["unique"] = i.unique
        if i.masked:
            entry["masked"] = True
        identifiers.append(entry)
    return {"attributes": attributes, "identifiers": identifiers}


class _Representer(SafeRepresenter):
    """Escapes characters that are not printable; the emitter loses some line breaks in other styles."""

    def represent_str(self, data: Any) -> ScalarNode:
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Representer.add_representer(str, _Representer.represent_str)


def _compose(content: bytes) -> Node | None:
    """Return the file's tree, with the line of each node."""
    try:
        return yaml_tree(content)
    except BadYAML as error:
        raise Refused([_problem(f"line {error.line}", error.expected)]) from error


def _problem(location: str, expected: Param) -> Problem:
    return Problem(ProblemKind.SCHEMA_FILE, None, {"location": location, "expected": expected})


class _File:
    """Reads the tree of a file, and collects its problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, node: Node | None, expected: Param) -> None:
        line = node.start_mark.line + 1 if node is not None else 1
        self.problems.append(_problem(f"line {line}", expected))

    def schema(self, node: Node | None) -> Schema:
        members = self.members(node, ("attributes", "identifiers"), phrase(PhraseKind.FILE_KEYS))
        if members is None:
            return Schema()
        attributes: dict[str, Attribute] = {}
        for entry in self.entries(members.get("attributes"), "attributes"):
            attribute = self.attribute(entry)
            if attribute is not None and attribute.name in attributes:
                self.wrong(entry, phrase(PhraseKind.REPEATED_ATTRIBUTE, name=attribute.name))
            elif attribute is not None:
                attributes[attribute.name] = attribute
        identifiers: dict[str, Identifier] = {}
        for entry in self.entries(members.get("identifiers"), "identifiers"):
            identifier = self.identifier(entry)
            if identifier is not None and identifier.name in identifiers:
                self.wrong(entry, phrase(PhraseKind.REPEATED_IDENTIFIER, name=identifier.name))
            elif identifier is not None:
                identifiers[identifier.name] = identifier
        left_out = [preset for preset in PRESET_IDENTIFIERS if preset.name not in identifiers]
        return Schema(attributes, (*identifiers.values(), *left_out))

    def entries(self, node: Node | None, what: str) -> list[Node]:
        if isinstance(node, SequenceNode):
            return list(node.value)
        if node is not None and not _is(node, "null"):
            self.wrong(node, phrase(PhraseKind.KEY_LIST, key=what))
        return []

    def attribute(self, node: Node) -> Attribute | None:
        before = len(self.problems)
        members = self.members(node, _ATTRIBUTE_KEYS, phrase(PhraseKind.ATTRIBUTE_KEYS, keys=_ATTRIBUTE_KEYS))
        if members is None:
            return None
        name = self.needed(node, members, "name", PhraseKind.ATTRIBUTE_NEEDS_KEY)
        data_type = self.needed(node, members, "type", PhraseKind.ATTRIBUTE_NEEDS_KEY, tuple(DataType))
        rule = self.needed(node, members, "rule", PhraseKind.ATTRIBUTE_NEEDS_KEY, tuple(Rule))
        display_name, description = self.text(members, "display_name"), self.text(members, "description")
        hidden = self.flag(members, "hidden", default=False)
        history_since = 0 if self.flag(members, "history", default=True) else None
        limits = Limits(
            self.count(members, "max_elements", DEFAULT_LIMITS.elements),
            self.count(members, "max_element_bytes", DEFAULT_LIMITS.element_bytes),
        )
        if len(self.problems) > before:
            return None
        attribute = Attribute(
            *(name, DataType(data_type), Rule(rule), display_name, description, hidden, limits, history_since)
        )
        try:
            Schema().declare(attribute)
        except Refused as refused:
            self.take_over(node, refused)
        return attribute

    def identifier(self, node: Node) -> Identifier | None:
        before = len(self.problems)
        members = self.members(node, _IDENTIFIER_KEYS, phrase(PhraseKind.IDENTIFIER_KEYS, keys=_IDENTIFIER_KEYS))
        if members is None:
            return None
        name = self.needed(node, members, "name", PhraseKind.IDENTIFIER_NEEDS_KEY)
        preset = _PRESETS.get(name)
        default = preset or Identifier(name)
        identifier = Identifier(
            name,
            self.text(members, "display_name", default.display_name),
            self.flag(members, "unique", default=default.unique),
            self.flag(members, "masked", default=default.masked),
        )
        if len(self.problems) > before:
            return None
        try:
            if preset:
                Schema().edit_identifier(name, display_name=identifier.display_name)
            else:
                Schema().declare_identifier(identifier)
        except Refused as refused:
            self.take_over(node, refused)
        return identifier

    def take_over(self, node: Node, refused: Refused) -> None:
        for problem in refused.problems:
            # Only for the command line, which is in English.
            self.wrong(node, text(problem, "en"))

    def members(self, node: Node | None, known: tuple[str, ...], keys: Phrase) -> dict[str, Node] | None:
        """Return the values of a mapping by key, None if it is not a mapping. Unknown and repeated keys are problems."""
        if not isinstance(node, MappingNode):
            self.wrong(node, phrase(PhraseKind.EXPECTED_MAPPING, keys=keys))
            return None
        members: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else None
            if name not in known:
                self.wrong(key, phrase(PhraseKind.UNKNOWN_KEY, key=excerpt(name or "…"), keys=keys))
            elif name in members:
                self.wrong(key, phrase(PhraseKind.REPEATED_KEY, key=name))
            else:
                members[name] = value
        return members

    def needed(
        self, node: Node, members: dict[str, Node], key: str, missing: PhraseKind, choices: tuple[str, ...] | None = None
    ) -> str:
        if key not in members:
            self.wrong(node, phrase(missing, key=key))
            return ""
        node = members[key]
        if choices and not (_is(node, "str") and node.value in choices):
            self.wrong(node, phrase(PhraseKind.KEY_CHOICE, key=key, choices=choices))
            return ""
        return self.text(members, key)

    def text(self, members: dict[str, Node], key: str, default: str = "") -> str:
        node = members.get(key)
        if node is None:
            return default
        if not _is(node, "str"):
            self.wrong(node, phrase(PhraseKind.KEY_STRING, key=key))
            return default
        return str(node.value)

    def flag(self, members: dict[str, Node], key: str, *, default: bool) -> bool:
        node = members.get(key)
        if node is None:
            return default
        if not _is(node, "bool") or node.value.lower() not in ("true", "false"):
            self.wrong(node, phrase(PhraseKind.KEY_BOOLEAN, key=key))
            return default
        return bool(node.value.lower() == "true")

    def count(self, members: dict[str, Node], key: str, default: int) -> int:
        node = members.get(key)
        if node is None:
            return default
        if not _is(node, "int") or not node.value.isascii() or not node.value.isdigit() or len(node.value) > 18:
            self.wrong(node, phrase(PhraseKind.KEY_INTEGER, key=key))
            return default
        return int(node.value)


def _is(node: Node, scalar: str) -> bool:
    return isinstance(node, ScalarNode) and str(node.tag) == f"tag:yaml.org,2002:{scalar}"
