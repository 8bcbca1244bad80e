"""What an export writes, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usertable.domain.condition import Condition
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Attribute, Identifier, Project
from usertable.files.options import Format, MomentStyle, Numbers


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Which identifiers a table has."""

    chosen: Sequence[Identifier]
    masked: frozenset[str] = frozenset()
    """Names of those whose values are cut. Their columns are called so, and no import takes them for identifiers."""


def used_identifiers(project: Project) -> list[Identifier]:
    """The identifiers that a project declared, and those of the platform's presets that a user has a value of."""
    return [i for i in project.schema.identifiers if not i.preset or i.name in project.identifying]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export writes, and how."""

    format: Format
    attributes: Sequence[Attribute]
    """The columns beside the CUID and the identifiers, in order: attributes and pseudo-columns."""
    identifiers: Identifiers
    conditions: Sequence[Condition] = ()
    """Only users that meet all of them are written."""
    escape_formulas: bool = False
    """Of CSV: put an apostrophe before a text that a spreadsheet would take for a formula."""
    moments: MomentStyle = "local"
    """Of CSV and NDJSON."""
    numbers: Numbers = "auto"
    """Of Parquet."""

    @property
    def needs_rows(self) -> bool:
        """Whether a column or a condition is a pseudo-column."""
        names = {attribute.name for attribute in self.attributes} | {condition.attribute for condition in self.conditions}
        return not names.isdisjoint(PSEUDO_COLUMNS)
