"""The options of an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usertable.domain.condition import Condition, parse_conditions
from usertable.domain.errors import Refused, phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Attribute, Identifier, Project, Schema
from usertable.files.options import FORMATS_OF, Format, MomentStyle, Numbers
from usertable.wire.native.members import is_set
from usertable.wire.native.problem_details import parameter_problem
from usertable.wire.native.queries import ExportQuery


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The identifiers of a table."""

    chosen: Sequence[Identifier]
    masked: frozenset[str] = frozenset()
    """Names of the identifiers whose values are masked. Their columns are renamed so that no import uses them as
    identifiers."""


def used_identifiers(project: Project) -> list[Identifier]:
    """Return the identifiers that a project declared, and the platform's presets of which a user has a value."""
    return [i for i in project.schema.identifiers if not i.preset or i.name in project.identifying]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of an export."""

    format: Format
    attributes: Sequence[Attribute]
    """The columns after the CUID and the identifiers, in order: attributes and pseudo-columns."""
    identifiers: Identifiers
    conditions: Sequence[Condition] = ()
    """Only users that meet all of them are written."""
    escape_formulas: bool = False
    """For CSV: put an apostrophe before a text that a spreadsheet would treat as a formula."""
    moments: MomentStyle = "local"
    """For CSV and NDJSON."""
    numbers: Numbers = "auto"
    """For Parquet."""
    byte_order_mark: bool = False
    """For CSV: begin with a byte order mark."""

    @property
    def needs_rows(self) -> bool:
        """Whether a column or a condition is a pseudo-column."""
        names = {attribute.name for attribute in self.attributes} | {condition.attribute for condition in self.conditions}
        return not names.isdisjoint(PSEUDO_COLUMNS)


def export_options(project: Project, query: ExportQuery) -> ExportOptions:
    """Return the options for a query.

    Raises:
        Refused: it names something that is not declared, or an option that the format does not have.
    """
    unfit = [
        parameter_problem(name, phrase(PhraseKind.FORMATS_ONLY, formats=tuple(formats)))
        for name, formats in FORMATS_OF.items()
        if query.format not in formats and getattr(query, name) not in ("0", "false", "local", "auto")
    ]
    if unfit:
        raise Refused(unfit)
    return ExportOptions(
        query.format,
        _attributes(project.schema, query.attributes.split(","), hidden=is_set(query.hidden)),
        _identifiers(project, query.identifiers),
        parse_conditions(query.where, project.schema, project.zone),
        is_set(query.escape_formulas),
        query.datetimes,
        query.numbers,
        is_set(query.bom),
    )


def _attributes(schema: Schema, names: Sequence[str], *, hidden: bool) -> list[Attribute]:
    """Return the named attributes and pseudo-columns; `*` stands for all, including hidden ones if `hidden`."""
    if len(set(names)) < len(names):
        raise Refused([parameter_problem("attributes", Phrase(PhraseKind.NAMES_ONCE), ",".join(names))])
    found: dict[str, Attribute] = {}
    for name in names:
        if name == "*":
            found |= {a.name: a for a in schema.attributes.values() if hidden or not a.hidden}
        elif name in PSEUDO_COLUMNS:
            found[name] = PSEUDO_COLUMNS[name]
        else:
            found[name] = schema.attribute(name)
    # It is the first column anyway.
    found.pop("@cuid", None)
    return list(found.values())


def _identifiers(project: Project, given: str) -> Identifiers:
    """Return the named identifiers. An identifier called `all`, `none` or `masked` is named with a comma: `all,`."""
    if given == "none":
        return Identifiers(())
    if given in ("all", "masked"):
        chosen = used_identifiers(project)
        return Identifiers(chosen, frozenset(i.name for i in chosen if i.masked and given == "masked"))
    schema = project.schema
    names = [name for name in given.split(",") if name]
    for name in names:
        schema.identifier(name)
    return Identifiers([i for i in schema.identifiers if i.name in names])
