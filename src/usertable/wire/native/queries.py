"""What the native API takes in a query."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.condition import MAX_CONDITIONS, OPERATORS
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Rule
from usertable.domain.values import DataType
from usertable.wire.native.members import Flag, IdentifierName


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query without parameters."""


class AttributeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which attributes to list."""

    search: Annotated[str, Meta(description="Part of the name or display name; case does not matter.")] = ""
    status: Literal["visible", "hidden", "all"] = "visible"
    type: DataType | UnsetType = UNSET
    rule: Rule | UnsetType = UNSET


class ChangeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many changes to list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class SchemaQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with the schema."""

    dry_run: Annotated[Flag, Meta(description="Only tell what would be done.")] = "0"


class ColumnQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which attributes of a user to show."""

    attributes: Annotated[
        str | UnsetType,
        Meta(
            extra_json_schema={"pattern": "^([@a-z][a-z0-9_]*(,[@a-z][a-z0-9_]*)*)?$"},
            description="Names separated by commas: show these only, in this order, hidden ones too. Pseudo-columns such as"
            " `@updated_at` may be among them; every user has them.",
            examples=["user_level,user_tags"],
        ),
    ] = UNSET
    hidden: Annotated[Flag, Meta(description="Show hidden attributes too.")] = "0"


_PSEUDO = "|".join(PSEUDO_COLUMNS)
_CONDITION = rf"^([a-z][a-z0-9_]*|{_PSEUDO}):(set|unset|({'|'.join(OPERATORS)}):[\s\S]*)$"


class UserQuery(ColumnQuery, forbid_unknown_fields=True):
    """Which users to list."""

    after: Annotated[
        Annotated[str, Meta(pattern="^[0-7][0-9a-f]{15}$", max_length=16)] | UnsetType,
        Meta(description="The `next` of the page before."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="Users on the page at most.")] = 100
    where: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"pattern": _CONDITION})]],
        Meta(
            extra_json_schema={"maxItems": MAX_CONDITIONS},
            description="A condition `attribute:operator` or `attribute:operator:value`; every one must be met. In place of"
            " an attribute it may name a pseudo-column: @cuid, @version, @created_at, @updated_at. Operators:"
            " set, unset (all types); eq, ne, in (all but LIST); lt, le, gt, ge, between (NUMBER, DATETIME); contains"
            " (STRING, LIST). The values of in and between are separated by commas; one that holds a comma is put in double"
            ' quotes: `city:in:"Washington, D.C.",Paris`. At most 100 conditions, with 1,000 values together. A page may'
            " then hold fewer users than `limit`, even none, and still have a next one.",
            examples=[["user_level:ge:3", "user_tags:contains:news"]],
        ),
    ] = []
    identifier: Annotated[
        IdentifierName | UnsetType,
        Meta(description="Only the user that `value` of this identifier points to.", examples=["phone"]),
    ] = UNSET
    value: Annotated[str | UnsetType, Meta(description="Goes with `identifier`; compared exactly.")] = UNSET

    def after_cuid(self) -> int:
        """The CUID after which the page begins; 0 for the first page."""
        return 0 if self.after is UNSET else int(self.after, 16)
