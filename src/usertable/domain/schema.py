"""What a project declares: attributes with their data type and rule, identifiers in priority order.

Everything here is immutable; an edit gives a new object or raises :class:`~usertable.domain.errors.Refused`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from zoneinfo import ZoneInfo

from usertable.dialects.jiguang import vocabulary
from usertable.domain.errors import ProblemKind, check_all, refusal
from usertable.domain.values import DEFAULT_LIMITS, DataType, Limits


class Rule(StrEnum):
    """How a reported value meets the stored one. The meaning of each is in :mod:`usertable.domain.merge`."""

    OVERWRITE = "overwrite"
    ONCE = "once"
    ACCUMULATE = "accumulate"
    APPEND = "append"


LEGAL_RULES: Mapping[DataType, tuple[Rule, ...]] = MappingProxyType(
    {
        DataType.NUMBER: (Rule.OVERWRITE, Rule.ONCE, Rule.ACCUMULATE),
        DataType.STRING: (Rule.OVERWRITE, Rule.ONCE),
        DataType.BOOL: (Rule.OVERWRITE, Rule.ONCE),
        DataType.DATETIME: (Rule.OVERWRITE, Rule.ONCE),
        DataType.LIST: (Rule.OVERWRITE, Rule.ONCE, Rule.APPEND),
    }
)
"""Which rules a data type may have. STRING's row and "accumulate: NUMBER only" are the platform's; the rest is ours."""

PRESET_PREFIX = vocabulary.PRESET_PREFIX
"""What the names of presets begin with, and no other names do."""
DEFAULT_TIMEZONE = vocabulary.TIMEZONE
"""The time zone of a project that does not name one."""
NAME_LENGTH = 100
TEXT_LENGTH = 1000
MAX_ATTRIBUTES = 2000
MAX_LIST_ELEMENTS = 100_000
MAX_LIST_ELEMENT_BYTES = 8192
IDENTIFIER_VALUES = 10
"""A user has at most so many values of an identifier that is not unique; of a unique one, one."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Attribute:
    """A declared attribute. Name, data type and rule never change; the rest can be edited at any time."""

    name: str
    type: DataType
    rule: Rule
    display_name: str = ""
    description: str = ""
    hidden: bool = False
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class Identifier:
    """A named way to point at a user in the customer's own systems."""

    name: str
    display_name: str = ""
    unique: bool = True
    masked: bool = False

    @property
    def preset(self) -> bool:
        """Whether it is one of the platform's own, which every project has and nobody deletes."""
        return self.name.startswith(PRESET_PREFIX)


PRESET_IDENTIFIERS = tuple(Identifier(name, display_name, unique) for name, display_name, unique in vocabulary.PRESETS)


@dataclass(frozen=True, slots=True)
class Schema:
    """The attributes by name, in order of declaration, and the identifiers by priority (the first is priority 1)."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    identifiers: tuple[Identifier, ...] = PRESET_IDENTIFIERS

    def declare(self, attribute: Attribute, max_attributes: int = MAX_ATTRIBUTES) -> Schema:
        """This schema with one more attribute.

        Raises:
            Refused: the name has not the form of a name, is a preset's or taken; the rule is not legal for the type;
                a limit is out of its range; a text is too long; or there are `max_attributes` already.
        """
        check_all(
            lambda: _check_new_name(attribute.name, self.attributes),
            lambda: _check_attribute(attribute),
        )
        if len(self.attributes) >= max_attributes:
            raise refusal(ProblemKind.TOO_MANY_ATTRIBUTES, attribute.name, limit=max_attributes)
        return replace(self, attributes={**self.attributes, attribute.name: attribute})

    def edit(self, name: str, **changes: object) -> Schema:
        """This schema with some of `display_name`, `description`, `hidden` of an attribute changed.

        Raises:
            Refused: there is no such attribute, or a text is too long.
        """
        changed = replace(self.attribute(name), **changes)  # type: ignore[arg-type]
        _check_attribute(changed)
        return replace(self, attributes={**self.attributes, name: changed})

    def delete(self, name: str, reported: Iterable[str]) -> Schema:
        """This schema without an attribute for which no value was ever reported (`reported`: those that have).

        Raises:
            Refused: there is no such attribute, or a value was reported for it.
        """
        self.attribute(name)
        if name in reported:
            raise refusal(ProblemKind.ATTRIBUTE_IN_USE, name)
        return replace(self, attributes={n: a for n, a in self.attributes.items() if n != name})

    def attribute(self, name: str) -> Attribute:
        """The attribute of that name; raises Refused if there is none."""
        if found := self.attributes.get(name):
            return found
        raise refusal(ProblemKind.ATTRIBUTE_UNKNOWN, name)

    def declare_identifier(self, identifier: Identifier) -> Schema:
        """This schema with one more identifier, below the declared ones and above the presets that stand last.

        Raises:
            Refused: the name has not the form of a name, is a preset's or taken, or the display name is too long.
        """
        check_all(
            lambda: _check_new_name(identifier.name, [i.name for i in self.identifiers]),
            lambda: _check_text(identifier.name, "display_name", identifier.display_name),
        )
        declared = list(self.identifiers)
        index = len(declared)
        while index and declared[index - 1].preset:
            index -= 1
        declared.insert(index, identifier)
        return replace(self, identifiers=tuple(declared))

    def edit_identifier(self, name: str, **changes: object) -> Schema:
        """This schema with some of `display_name`, `masked` of an identifier changed; raises Refused as above."""
        self.identifier(name)
        edited = tuple(
            replace(i, **changes) if i.name == name else i  # type: ignore[arg-type]
            for i in self.identifiers
        )
        for identifier in edited:
            _check_text(identifier.name, "display_name", identifier.display_name)
        return replace(self, identifiers=edited)

    def delete_identifier(self, name: str, identifying: Iterable[str]) -> Schema:
        """This schema without an identifier that no user has a value of (`identifying`: those that one has).

        Raises:
            Refused: there is no such identifier, it is a preset, or a user has a value of it.
        """
        if self.identifier(name).preset:
            raise refusal(ProblemKind.IDENTIFIER_PRESET, name)
        if name in identifying:
            raise refusal(ProblemKind.IDENTIFIER_IN_USE, name)
        return replace(self, identifiers=tuple(i for i in self.identifiers if i.name != name))

    def order_identifiers(self, names: Iterable[str]) -> Schema:
        """This schema with its identifiers in the order of `names`, which must name each of them once.

        Raises:
            Refused: a name is missing, unknown or repeated.
        """
        wanted = list(names)
        if sorted(wanted) != sorted(i.name for i in self.identifiers):
            raise refusal(ProblemKind.IDENTIFIER_ORDER, have=", ".join(i.name for i in self.identifiers))
        return replace(self, identifiers=tuple(self.identifier(n) for n in wanted))

    def identifier(self, name: str) -> Identifier:
        """The identifier of that name; raises Refused if there is none."""
        for identifier in self.identifiers:
            if identifier.name == name:
                return identifier
        raise refusal(ProblemKind.IDENTIFIER_UNKNOWN, name, have=", ".join(i.name for i in self.identifiers))

    def registration_identifier(self, name: str) -> Identifier:
        """The identifier `name`, if it can be exchanged for a CUID: declared, unique and of priority 1.

        Raises:
            Refused: it is not; the problem says which of the three.
        """
        identifier = self.identifier(name)
        if not identifier.unique:
            raise refusal(ProblemKind.IDENTIFIER_NOT_UNIQUE, name)
        if identifier != self.identifiers[0]:
            raise refusal(ProblemKind.IDENTIFIER_NOT_FIRST, name, first=self.identifiers[0].name)
        return identifier


@dataclass(frozen=True, slots=True)
class Project:
    """A project with all that a request to it needs. `number` is the store's own key; `id` is what callers send."""

    number: int
    id: str
    name: str
    secret_salt: bytes
    secret_hash: bytes
    timezone: str
    qps: int | None
    """Requests per second and API; None for no limit."""
    created_at: int
    """Milliseconds since 1970 UTC."""
    schema: Schema = field(default_factory=Schema)
    version: int = 1
    """Grows with every change of the project or its schema."""
    reported: frozenset[str] = frozenset()
    """Attributes that a value was ever reported for. It only grows, and not every growth makes a new version."""
    identifying: frozenset[str] = frozenset()
    """Identifiers that a user has a value of. Like `reported`, it changes without a new version."""

    @property
    def zone(self) -> ZoneInfo:
        """The project's time zone."""
        return ZoneInfo(self.timezone)


def _check_new_name(name: str, taken: Collection[str]) -> None:
    if name.startswith(PRESET_PREFIX):
        raise refusal(ProblemKind.NAME_PRESET, name, prefix=PRESET_PREFIX)
    if len(name) > NAME_LENGTH or not _NAME.fullmatch(name):
        raise refusal(ProblemKind.NAME_FORM, name, limit=NAME_LENGTH)
    if name in taken:
        raise refusal(ProblemKind.NAME_TAKEN, name)


def _check_text(name: str, field_name: str, text: str) -> None:
    if len(text) > TEXT_LENGTH:
        raise refusal(ProblemKind.TEXT_TOO_LONG, name, field=field_name, limit=TEXT_LENGTH)
    if not text.isprintable() and field_name != "description":
        raise refusal(ProblemKind.PARAMETER, name, name=field_name, expected="printable text on one line")
    if "\0" in text or not _encodable(text):
        raise refusal(ProblemKind.PARAMETER, name, name=field_name, expected="Unicode text without U+0000")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_attribute(attribute: Attribute) -> None:
    check_all(
        lambda: _check_rule(attribute),
        lambda: _check_text(attribute.name, "display_name", attribute.display_name),
        lambda: _check_text(attribute.name, "description", attribute.description),
        lambda: _check_limits(attribute),
    )


def _check_rule(attribute: Attribute) -> None:
    legal = LEGAL_RULES[attribute.type]
    if attribute.rule not in legal:
        raise refusal(
            ProblemKind.RULE_ILLEGAL, attribute.name, type=attribute.type, rule=attribute.rule, legal=", ".join(legal)
        )


def _check_limits(attribute: Attribute) -> None:
    name, limits = attribute.name, attribute.limits
    if limits != DEFAULT_LIMITS and attribute.type is not DataType.LIST:
        raise refusal(ProblemKind.LIMIT_ILLEGAL, name, field="limits", expected="limits on a LIST only")
    check_all(
        lambda: _check_limit(name, "max_elements", limits.elements, MAX_LIST_ELEMENTS),
        lambda: _check_limit(name, "max_element_bytes", limits.element_bytes, MAX_LIST_ELEMENT_BYTES),
    )


def _check_limit(name: str, field_name: str, limit: int, maximum: int) -> None:
    if not 1 <= limit <= maximum:
        raise refusal(ProblemKind.LIMIT_ILLEGAL, name, field=field_name, expected=f"1 to {maximum}")
