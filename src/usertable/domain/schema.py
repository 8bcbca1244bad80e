"""A project's schema: attributes with their data type and rule, identifiers in priority order.

Everything here is immutable. An edit returns a new object or raises :class:`~usertable.domain.errors.Refused`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from zoneinfo import ZoneInfo

from usertable.dialects.jiguang import vocabulary
from usertable.domain.errors import ProblemKind, check_all, other_value, phrase, refusal
from usertable.domain.key import DEFAULT_KEY, Key, Proof, default_key, find_key
from usertable.domain.phrases import PhraseKind
from usertable.domain.values import DEFAULT_LIMITS, DataType, Limits


class Rule(StrEnum):
    """How a new value is merged with the stored one. The rules are in :mod:`usertable.domain.merge`."""

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
"""The rules that each data type can have. STRING's row and "accumulate: NUMBER only" are the platform's, the rest ours."""

PRESET_PREFIX = vocabulary.PRESET_PREFIX
"""The prefix of the presets' names. No other name may have it."""
DEFAULT_TIMEZONE = vocabulary.TIMEZONE
"""The time zone of a project that does not set one."""
NAME_LENGTH = 100
TEXT_LENGTH = 1000
MAX_ATTRIBUTES = 2000
MAX_LIST_ELEMENTS = 100_000
MAX_LIST_ELEMENT_BYTES = 8192
IDENTIFIER_VALUES = 10
"""Maximum number of values per user of an identifier that is not unique. For a unique identifier it is one."""
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
    history_since: int | None = 0
    """Moment from which changes of it are recorded, in ms since 1970 UTC; 0 for always, None for not at all."""
    history_from: int = 0
    """If it was off before: no change with a lower number has its values, whatever the clocks said."""

    def history_at(self, moment: int) -> bool:
        """Return whether its values at `moment` (ms since 1970 UTC) are known from history."""
        return self.history_since is not None and self.history_since <= moment

    def begins_after(self, before: Attribute) -> bool:
        """Return whether its changes are recorded, and were not in an earlier state of it."""
        return before.history_since is None and self.history_since is not None

    def with_history(self, on: bool, now: int) -> Attribute:
        """Return this attribute with its changes recorded or not.

        Args:
            now: from when they are, if they were not before; ms since 1970 UTC.
        """
        if on == (self.history_since is not None):
            return self
        return replace(self, history_since=now if on else None)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A kind of ID that points to a user in the customer's own systems."""

    name: str
    display_name: str = ""
    unique: bool = True
    masked: bool = False

    @property
    def preset(self) -> bool:
        """Whether it is one of the platform's, which every project has and which cannot be deleted."""
        return self.name.startswith(PRESET_PREFIX)


PRESET_IDENTIFIERS = tuple(Identifier(name, display_name, unique) for name, display_name, unique in vocabulary.PRESETS)


@dataclass(frozen=True, slots=True)
class Schema:
    """The attributes by name, in order of declaration, and the identifiers by priority (the first is priority 1)."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    identifiers: tuple[Identifier, ...] = PRESET_IDENTIFIERS

    def declare(self, attribute: Attribute, max_attributes: int = MAX_ATTRIBUTES) -> Schema:
        """Return this schema with one more attribute.

        Raises:
            Refused: the name is malformed, a preset's or taken; the rule is not legal for the type; a limit is out of range;
                a text is too long; or there are already `max_attributes`.
        """
        check_all(
            lambda: _check_new_name(attribute.name, self.attributes),
            lambda: _check_attribute(attribute),
        )
        if len(self.attributes) >= max_attributes:
            raise refusal(ProblemKind.TOO_MANY_ATTRIBUTES, attribute.name, limit=max_attributes)
        return replace(self, attributes={**self.attributes, attribute.name: attribute})

    def edit(self, name: str, **changes: object) -> Schema:
        """Return this schema with fields of an attribute changed, such as `display_name`, `description` or `hidden`.

        Raises:
            Refused: there is no such attribute, or a text is too long.
        """
        changed = replace(self.attribute(name), **changes)  # type: ignore[arg-type]
        _check_attribute(changed)
        return replace(self, attributes={**self.attributes, name: changed})

    def delete(self, name: str, reported: Iterable[str]) -> Schema:
        """Return this schema without an attribute. `reported` contains the attributes that ever had a value.

        Raises:
            Refused: there is no such attribute, or it ever had a value.
        """
        self.attribute(name)
        if name in reported:
            raise refusal(ProblemKind.ATTRIBUTE_IN_USE, name)
        return replace(self, attributes={n: a for n, a in self.attributes.items() if n != name})

    def attribute(self, name: str) -> Attribute:
        """Return the attribute with this name. Raises Refused if there is none."""
        if found := self.attributes.get(name):
            return found
        raise refusal(ProblemKind.ATTRIBUTE_UNKNOWN, name)

    def declare_identifier(self, identifier: Identifier) -> Schema:
        """Return this schema with one more identifier, below the declared ones and above trailing presets.

        Raises:
            Refused: the name is malformed, a preset's or taken, or the display name is too long.
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
        """Return this schema with `display_name` or `masked` of an identifier changed. Raises Refused as above."""
        self.identifier(name)
        edited = tuple(
            replace(i, **changes) if i.name == name else i  # type: ignore[arg-type]
            for i in self.identifiers
        )
        for identifier in edited:
            _check_text(identifier.name, "display_name", identifier.display_name)
        return replace(self, identifiers=edited)

    def delete_identifier(self, name: str, identifying: Iterable[str]) -> Schema:
        """Return this schema without an identifier. `identifying` contains the identifiers of which a user has a value.

        Raises:
            Refused: there is no such identifier, it is a preset, or a user has a value of it.
        """
        if self.identifier(name).preset:
            raise refusal(ProblemKind.IDENTIFIER_PRESET, name)
        if name in identifying:
            raise refusal(ProblemKind.IDENTIFIER_IN_USE, name)
        return replace(self, identifiers=tuple(i for i in self.identifiers if i.name != name))

    def order_identifiers(self, names: Iterable[str]) -> Schema:
        """Return this schema with its identifiers in the order of `names`, which must contain each of them once.

        Raises:
            Refused: a name is missing, unknown or repeated.
        """
        wanted = list(names)
        if sorted(wanted) != sorted(i.name for i in self.identifiers):
            raise refusal(ProblemKind.IDENTIFIER_ORDER, have=tuple(i.name for i in self.identifiers))
        return replace(self, identifiers=tuple(self.identifier(n) for n in wanted))

    def identifier(self, name: str) -> Identifier:
        """Return the identifier with this name. Raises Refused if there is none."""
        for identifier in self.identifiers:
            if identifier.name == name:
                return identifier
        raise refusal(ProblemKind.IDENTIFIER_UNKNOWN, name, have=tuple(i.name for i in self.identifiers))

    def registration_identifier(self, name: str) -> Identifier:
        """Return the identifier `name` if its values can be exchanged for CUIDs: declared, unique and of priority 1.

        Raises:
            Refused: one of the three does not hold; the problem says which.
        """
        identifier = self.identifier(name)
        if not identifier.unique:
            raise refusal(ProblemKind.IDENTIFIER_NOT_UNIQUE, name)
        if identifier != self.identifiers[0]:
            raise refusal(ProblemKind.IDENTIFIER_NOT_FIRST, name, first=self.identifiers[0].name)
        return identifier


HISTORY_DAYS = 30
HISTORY_GIGABYTES = 20
"""How much history a project keeps that does not say otherwise: days, and 10^9 bytes."""
MAX_HISTORY_DAYS = 36_500
MAX_HISTORY_GIGABYTES = 1_000_000


def _check_number(name: str, number: int, minimum: int, maximum: int) -> None:
    if not minimum <= number <= maximum:
        expected = other_value(phrase(PhraseKind.RANGE, minimum=minimum, maximum=maximum), str(number))
        raise refusal(ProblemKind.PARAMETER, name=name, expected=expected)


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How much history of a project is kept: what is older than `days`, or exceeds `gigabytes`, is removed.

    Raises:
        Refused: a number is out of range.
    """

    days: int = HISTORY_DAYS
    """0 for no history."""
    gigabytes: int = HISTORY_GIGABYTES
    """10^9 bytes."""
    all_reports: bool = False
    """Record reports that change nothing even if the same actor has sent the value before."""

    def __post_init__(self) -> None:
        check_all(
            lambda: _check_number("days", self.days, 0, MAX_HISTORY_DAYS),
            lambda: _check_number("gigabytes", self.gigabytes, 1, MAX_HISTORY_GIGABYTES),
        )

    @property
    def is_on(self) -> bool:
        """Whether changes are recorded."""
        return self.days > 0


DEFAULT_HISTORY = HistorySettings()


@dataclass(frozen=True, slots=True)
class Project:
    """A project, with everything that a request to it needs. `number` is the store's key; `id` is what callers send."""

    number: int
    id: str
    name: str
    secret_salt: bytes
    secret_hash: bytes
    """scrypt hash of the secret of the key `default`, which every version of usertable reads."""
    timezone: str
    qps: int | None
    """Maximum requests per second and API; None for no limit."""
    created_at: int
    """Milliseconds since 1970 UTC."""
    schema: Schema = field(default_factory=Schema)
    version: int = 1
    """Incremented by every change of the project or its schema."""
    reported: frozenset[str] = frozenset()
    """Attributes that ever had a value. It only grows, and may grow without a new version."""
    identifying: frozenset[str] = frozenset()
    """Identifiers of which a user has a value. Like `reported`, it changes without a new version."""
    stored_keys: tuple[Key, ...] = ()
    """The stored keys, by name: `default`, and those that are not revoked. :attr:`keys` contains `default` in any case."""
    history: HistorySettings = DEFAULT_HISTORY

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys by name: `default`, and those that are not revoked."""
        default = default_key(Proof(self.secret_hash, salt=self.secret_salt), self.stored_keys, self.created_at)
        others = (key for key in self.stored_keys if key.name != DEFAULT_KEY)
        return tuple(sorted((default, *others), key=lambda key: key.name))

    def key(self, name: str) -> Key:
        """Return the key with this name. Raises Refused if there is none."""
        return find_key(self.keys, name)

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
        raise refusal(ProblemKind.PARAMETER, name, name=field_name, expected=phrase(PhraseKind.SINGLE_LINE))
    if "\0" in text or not _encodable(text):
        raise refusal(ProblemKind.PARAMETER, name, name=field_name, expected=phrase(PhraseKind.UNICODE_TEXT))


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
        raise refusal(ProblemKind.RULE_ILLEGAL, attribute.name, type=attribute.type, rule=attribute.rule, legal=tuple(legal))


def _check_limits(attribute: Attribute) -> None:
    name, limits = attribute.name, attribute.limits
    if limits != DEFAULT_LIMITS and attribute.type is not DataType.LIST:
        raise refusal(ProblemKind.LIMIT_ILLEGAL, name, field="limits", expected=phrase(PhraseKind.LIST_ONLY))
    check_all(
        lambda: _check_limit(name, "max_elements", limits.elements, MAX_LIST_ELEMENTS),
        lambda: _check_limit(name, "max_element_bytes", limits.element_bytes, MAX_LIST_ELEMENT_BYTES),
    )


def _check_limit(name: str, field_name: str, limit: int, maximum: int) -> None:
    if not 1 <= limit <= maximum:
        bounds = phrase(PhraseKind.RANGE, minimum=1, maximum=maximum)
        raise refusal(ProblemKind.LIMIT_ILLEGAL, name, field=field_name, expected=bounds)
