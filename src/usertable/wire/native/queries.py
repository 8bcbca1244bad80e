"""The queries that the native API accepts."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.actor import ACTOR_PATTERN
from usertable.domain.audit import AuditFilter
from usertable.domain.condition import MAX_CONDITIONS, OPERATORS
from usertable.domain.errors import Problem, Refused
from usertable.domain.key import KEY_POSITION, MAX_KEYS
from usertable.domain.moments import expected_moment, parse_moment
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Rule
from usertable.domain.values import DataType
from usertable.wire.native.members import Flag, IdentifierName
from usertable.wire.native.problem_details import parameter_problem

MAX_ENTRIES = 1000
"""Maximum number of entries on a page of an audit log."""
MAX_CHANGES = 1000
"""Maximum number of a user's changes on a page."""
MAX_NUMBER = 2**63 - 1


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query without parameters."""


class AttributeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The attributes to list."""

    search: Annotated[str, Meta(description="Part of the name or display name; case does not matter.")] = ""
    status: Literal["visible", "hidden", "all"] = "visible"
    type: DataType | UnsetType = UNSET
    rule: Rule | UnsetType = UNSET


class KeyQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The keys to list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_KEYS, description="Maximum number of keys.")] = 100
    after: Annotated[
        Annotated[str, Meta(pattern=KEY_POSITION)] | UnsetType,
        Meta(description="The `next` of the previous page.", examples=["1.1700000000000.billing"]),
    ] = UNSET


class ChangeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The number of changes to list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


_AUDIT_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?$"


class AuditQuery(msgspec.Struct, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """The entries of an audit log to list."""

    actor: Annotated[
        str | UnsetType,
        Meta(
            description="Compared exactly. A name that does not have the form of an actor is rejected, unless an entry of an"
            " older version has it.",
            examples=["key:default"],
        ),
    ] = UNSET
    kind: Annotated[
        list[str],
        Meta(description="May be repeated: entries of any of these kinds.", examples=[["erase user", "add user"]]),
    ] = []
    subject: Annotated[
        str | UnsetType, Meta(description="What was changed; compared exactly.", examples=["level", "10000001"])
    ] = UNSET
    since: Annotated[
        Annotated[str, Meta(extra_json_schema={"pattern": _AUDIT_MOMENT})] | UnsetType,
        Meta(description="Entries at or after this time: a date, or a date and time; UTC without an offset."),
    ] = UNSET
    until: Annotated[
        Annotated[str, Meta(extra_json_schema={"pattern": _AUDIT_MOMENT})] | UnsetType,
        Meta(description="Entries before this time."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_ENTRIES, description="Maximum number of entries.")] = 100
    before: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_NUMBER)] | UnsetType,
        Meta(description="Only entries with a lower number: the `next` of the previous page."),
    ] = UNSET
    after: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | UnsetType,
        Meta(
            description="Only entries with a higher number, oldest first. 0 starts with the first entry. Later entries"
            " have higher numbers, so a program that follows the log never misses one."
        ),
    ] = UNSET

    def wanted(self) -> AuditFilter:
        """Return the filter for entries. Raises Refused if a time is invalid."""
        return AuditFilter(
            actor=None if self.actor is UNSET else self.actor,
            kinds=frozenset(self.kind),
            subject=None if self.subject is UNSET else self.subject,
            since=None if self.since is UNSET else _moment("from", self.since),
            until=None if self.until is UNSET else _moment("to", self.until),
        )


def _moment(name: str, sent: str) -> int:
    """Return milliseconds since 1970 UTC of a date, or of a date and time."""
    found = parse_moment(name, f"{sent}T00:00:00Z" if len(sent) == len("2026-11-30") else sent, UTC)
    if isinstance(found, Problem):
        raise Refused([parameter_problem(name, expected_moment(sent), sent)])
    return found.ms


class SchemaQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with the schema."""

    dry_run: Annotated[Flag, Meta(description="Return the plan without applying it.")] = "0"


class ColumnQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The attributes of a user to show."""

    attributes: Annotated[
        str | UnsetType,
        Meta(
            extra_json_schema={"pattern": "^([@a-z][a-z0-9_]*(,[@a-z][a-z0-9_]*)*)?$"},
            description="Names separated by commas: show only these, in this order, including hidden ones. Pseudo-columns"
            " such as `@updated_at`, which every user has, can be named too.",
            examples=["user_level,user_tags"],
        ),
    ] = UNSET
    hidden: Annotated[Flag, Meta(description="Include hidden attributes.")] = "0"


_MOMENT = Annotated[
    str, Meta(extra_json_schema={"pattern": _AUDIT_MOMENT}, examples=["2026-11-30 08:00:00", "2026-11-30T00:00:00Z"])
]


class UserReadQuery(ColumnQuery, forbid_unknown_fields=True):
    """What of a user to show, and as of when."""

    as_of: Annotated[
        _MOMENT | UnsetType,
        Meta(
            description="Show the row as it was then: a date, or a date and time; in the project's time zone without an"
            " offset."
        ),
    ] = UNSET


class UserChangeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The changes of a user to list."""

    attribute: Annotated[
        str | UnsetType, Meta(description="Only changes that this attribute was sent in.", examples=["level"])
    ] = UNSET
    actor: Annotated[
        Annotated[str, Meta(extra_json_schema={"pattern": ACTOR_PATTERN})] | UnsetType,
        Meta(description="Only changes by this actor; compared exactly.", examples=["key:default"]),
    ] = UNSET
    before: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_NUMBER)] | UnsetType,
        Meta(description="Only changes with a lower number: the `next` of the previous page."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_CHANGES, description="Maximum number of changes.")] = 100
    hidden: Annotated[Flag, Meta(description="Include hidden attributes.")] = "0"


class DifferenceQuery(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """The moments to compare."""

    start: Annotated[
        _MOMENT,
        Meta(description="The earlier moment: a date, or a date and time; in the project's time zone without an offset."),
    ]
    end: Annotated[_MOMENT | UnsetType, Meta(description="The later moment. Omitted: now.")] = UNSET
    hidden: Annotated[Flag, Meta(description="Include hidden attributes.")] = "0"


_PSEUDO = "|".join(PSEUDO_COLUMNS)
_CONDITION = rf"^([a-z][a-z0-9_]*|{_PSEUDO}):(set|unset|({'|'.join(OPERATORS)}):[\s\S]*)$"


class UserQuery(ColumnQuery, forbid_unknown_fields=True):
    """The users to list."""

    after: Annotated[
        Annotated[str, Meta(pattern="^[0-7][0-9a-f]{15}$", max_length=16)] | UnsetType,
        Meta(description="The `next` of the previous page."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="Maximum number of users on the page.")] = 100
    where: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"pattern": _CONDITION})]],
        Meta(
            extra_json_schema={"maxItems": MAX_CONDITIONS},
            description="A condition `attribute:operator` or `attribute:operator:value`; every one must be met. In place of"
            " an attribute it may name a pseudo-column: @cuid, @version, @created_at, @updated_at. Operators:"
            " set, unset (all types); eq, ne, in (all but LIST); lt, le, gt, ge, between (NUMBER, DATETIME); contains"
            " (STRING, LIST). The values of in and between are separated by commas; put one that contains a comma in double"
            ' quotes: `city:in:"Washington, D.C.",Paris`. At most 100 conditions, with 1,000 values together. A page may'
            " then hold fewer users than `limit`, even none, and still have a next one.",
            examples=[["user_level:ge:3", "user_tags:contains:news"]],
        ),
    ] = []
    identifier: Annotated[
        IdentifierName | UnsetType,
        Meta(description="Only the user with this identifier's `value`.", examples=["phone"]),
    ] = UNSET
    value: Annotated[str | UnsetType, Meta(description="Used with `identifier`; compared exactly.")] = UNSET

    def after_cuid(self) -> int:
        """Return the CUID after which the page begins; 0 for the first page."""
        return 0 if self.after is UNSET else int(self.after, 16)


class ExportQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to export, and how; the options of `usertable export`."""

    format: Annotated[Literal["csv", "ndjson", "parquet"], Meta(description="Format of the file.")] = "csv"
    attributes: Annotated[
        str,
        Meta(
            extra_json_schema={"pattern": r"^(\*|[@a-z][a-z0-9_]*)(,(\*|[@a-z][a-z0-9_]*))*$"},
            description="Names separated by commas: the columns, in this order. `*` means all visible attributes."
            " Pseudo-columns such as `@updated_at` can be named too.",
            examples=["user_level,user_tags"],
        ),
    ] = "*"
    where: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"pattern": _CONDITION})]],
        Meta(
            extra_json_schema={"maxItems": MAX_CONDITIONS},
            description="Only users that meet this condition, written as for the user table. Repeatable.",
            examples=[["user_level:ge:3"]],
        ),
    ] = []
    hidden: Annotated[Flag, Meta(description="Include hidden attributes.")] = "0"
    identifiers: Annotated[
        str,
        Meta(
            description="`all`, `none`, `masked` (all, with the values of masked identifiers shortened to 4 characters), or"
            " names separated by commas.",
            examples=["none"],
        ),
    ] = "all"
    datetimes: Annotated[
        Literal["local", "utc", "offset"],
        Meta(
            description="CSV and NDJSON: write DATETIME values in the project's time zone, in UTC (`2024-10-27 00:30:00Z`),"
            " or with their offset from UTC (`2024-10-27 02:30:00+02:00`)."
        ),
    ] = "local"
    numbers: Annotated[
        Literal["auto", "decimal", "float"],
        Meta(
            description="Parquet: column type of NUMBER attributes. `auto`: INT64 if all values are integers, else"
            " DECIMAL(38, 18); `decimal`: always DECIMAL(38, 18); `float`: DOUBLE, which rounds."
        ),
    ] = "auto"
    escape_formulas: Annotated[
        Flag, Meta(description="CSV: put ' in front of texts that a spreadsheet would run as a formula.")
    ] = "0"
    bom: Annotated[Flag, Meta(description="CSV: start with a byte order mark, so that Excel reads the file as UTF-8.")] = "0"
    as_of: Annotated[
        str | UnsetType,
        Meta(
            description="The table as it was at this moment, from history: `2026-11-30` (its first moment),"
            " `2026-11-30 08:00:00` in the project's time zone, or with an offset: `2026-11-30T00:00:00Z`.",
            examples=["2026-11-30T00:00:00Z"],
        ),
    ] = UNSET
