"""The documents about history: a user's changes, how a user differs between two moments, and how much is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.change import Change, ChangeKind
from usertable.domain.history import Difference, PastUser, effect
from usertable.domain.history_growth import Forecast
from usertable.domain.profile import Outcome, Profile
from usertable.domain.schema import Attribute, HistorySettings, Project, Rule
from usertable.domain.values import ABSENT, Absent, Value, show
from usertable.wire.native.documents import UserDocument, masked_value, moment, user_document
from usertable.wire.native.members import Cuid, HistoryDays, HistoryGigabytes, HistoryReports, Moment

if TYPE_CHECKING:
    # This import loads the stores, which is slow and only needed by those that open one.
    from usertable.store.history import HistoryFigures

AttributeValue = Annotated[
    Any,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"type": ["number", "string", "boolean", "null"]},
                {"type": "array", "items": {"type": "string"}},
            ]
        },
        description="As in a user's row; null for no value.",
    ),
]
Actor = Annotated[
    str,
    Meta(
        description="`key:NAME`, `person:EMAIL`, `admin-token`, `cli:OS_USER`, `import:JOB` or `undo:NUMBER`.",
        examples=["key:billing"],
    ),
]
Source = Annotated[
    str, Meta(description="The request's `Usertable-Source`; empty if it had none.", examples=["billing 2026.11.3"])
]
RequestId = Annotated[str, Meta(description="The request's `X-Request-Id`; empty for a command.")]


class AttributeChangeDocument(msgspec.Struct, omit_defaults=True):
    """An attribute of a change. For the rule `append`, `elements_before` and `added` stand for `before` and `after`."""

    rule: Rule
    sent: AttributeValue
    outcome: Outcome
    before: AttributeValue | UnsetType = UNSET
    after: AttributeValue | UnsetType = UNSET
    elements_before: Annotated[int, Meta(description="Number of elements before.")] | UnsetType = UNSET
    added: Annotated[list[str], Meta(description="The elements that were not in the list.")] | UnsetType = UNSET


class UserChangeDocument(msgspec.Struct):
    """A recorded change of a user."""

    number: Annotated[
        int, Meta(description="Later changes of the user have higher numbers. Users that one import created share a number.")
    ]
    version: Annotated[int, Meta(description="The version of the row after it.")]
    at: Moment
    since: Annotated[Moment, Meta(description="When the row before it was last changed.")] | None
    occurred_at: Annotated[Moment, Meta(description="When it happened, if the caller said so.")] | None
    kind: Annotated[
        str,
        Meta(
            description="`write`, `created` (by Get CUID, by hand, or by an import, whose first values belong to it),"
            " `import` (a row of an import), `identifier` (only identifier values were added) or `undo`. Newer servers have"
            " more kinds.",
            examples=["write"],
        ),
    ]
    actor: Actor
    source: Source
    request: RequestId
    unrecorded: Annotated[
        int,
        Meta(
            description="Minimum number of writes after it that were not recorded: up to the next newer change of the list,"
            " or to the present."
        ),
    ]
    not_kept: Annotated[
        list[str],
        Meta(
            description="Attributes whose history was off after it, at some time up to the next newer change of the list or"
            " to the present. Older changes of them may be missing too."
        ),
    ]
    attributes: Annotated[
        dict[str, AttributeChangeDocument],
        Meta(description="The attributes that were sent and recorded, without hidden ones."),
    ]
    identifiers: Annotated[
        dict[str, list[str]],
        Meta(description="Identifier values that the user got; masked identifiers show 4 characters."),
    ]
    created_through: (
        Annotated[
            str,
            Meta(
                description="Only for `created`: `import`, `api` (Get CUID, a batch, an import through a URL, a single"
                " user), `console` or `command`.",
                examples=["api"],
            ),
        ]
        | UnsetType
    ) = UNSET


class UserChangeList(msgspec.Struct):
    """A page of a user's changes, newest first."""

    changes: list[UserChangeDocument]
    next: Annotated[
        int | None,
        Meta(
            description="Pass it as `before` to get the next page; null on the last. A page of large changes may have fewer"
            " than `limit`, and one with a filter even none, and still have a next one."
        ),
    ]
    complete: Annotated[
        bool,
        Meta(
            description="Whether the page ends with the creation of the user. If it is false on the last page, older changes"
            " are no longer kept, or were never recorded."
        ),
    ]
    not_kept: Annotated[
        list[str], Meta(description="Attributes whose history was off before the oldest change of the page.")
    ]
    kept_since: Annotated[Moment, Meta(description="The changes of the project are kept from this moment on.")]


class LastChangeDocument(msgspec.Struct):
    """The newest of an attribute's changes between two moments."""

    number: int
    at: Moment
    kind: str
    actor: Actor
    source: Source
    request: RequestId


class DifferenceDocument(msgspec.Struct):
    """How an attribute differs between two moments."""

    before: AttributeValue
    after: AttributeValue
    changes: Annotated[int, Meta(description="Number of changes of it in between.")]
    last: LastChangeDocument | None


class IdentifierDifference(msgspec.Struct):
    """How an identifier's values differ between two moments; masked identifiers show 4 characters."""

    before: list[str]
    after: list[str]


class UserDifferenceDocument(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """How a user differs between two moments."""

    cuid: Cuid
    start: Moment
    end: Moment
    version_before: Annotated[int | None, Meta(description="Null if the user did not exist yet.")]
    version_after: int
    attributes: Annotated[
        dict[str, DifferenceDocument], Meta(description="The attributes that differ, or that changed in between.")
    ]
    identifiers: Annotated[dict[str, IdentifierDifference], Meta(description="The identifiers whose values differ.")]
    not_kept: Annotated[
        list[str],
        Meta(description="Attributes that cannot be compared: their history was off at one of the moments or later."),
    ]


class ForecastDocument(msgspec.Struct):
    """What is kept once a limit is reached, if history keeps growing as it has."""

    bytes: int
    days: float
    limit: Annotated[Literal["days", "gigabytes"], Meta(description="The limit that is reached first.")]


class HistoryDocument(msgspec.Struct):
    """The settings of a project's history, and how much is kept."""

    days: HistoryDays
    gigabytes: HistoryGigabytes
    reports: HistoryReports
    kept_since: Annotated[Moment, Meta(description="The oldest moment one can ask for; null if history is off.")] | None
    blocks: int
    changes: Annotated[int, Meta(description="Number of changes; one for all users that were created together.")]
    bytes: Annotated[int, Meta(description="Bytes of the compressed changes.")]
    oldest: (
        Annotated[Moment, Meta(description="The time of the newest change in the oldest block; null without changes.")]
        | None
    )
    newest: Annotated[Moment, Meta(description="When the newest change was made; null without changes.")] | None
    bytes_per_day: Annotated[
        int | None, Meta(description="Growth in the last 24 hours; null until history is an hour long.")
    ]
    forecast: ForecastDocument | None


class PrunedHistoryDocument(msgspec.Struct):
    """What was removed of a project's history."""

    blocks: int
    changes: Annotated[int, Meta(description="Number of changes; one for all users that were created together.")]
    bytes: int
    kept_since: Annotated[Moment, Meta(description="The oldest moment one can ask for now.")]


def user_change_document(
    change: Change, unrecorded: int, not_kept: Iterable[str], project: Project, shown: Mapping[str, Attribute]
) -> UserChangeDocument:
    """Return the document of a change of a user.

    Args:
        unrecorded: number of writes after it that were not recorded.
        not_kept: attributes whose history was off after it.
        shown: the attributes to show.
    """
    origin = change.origin
    identifiers: dict[str, list[str]] = {}
    for name, value in change.identifiers:
        identifiers.setdefault(name, []).append(value)
    return UserChangeDocument(
        number=change.number,
        version=change.version,
        at=moment(change.at),
        since=moment(change.since) if change.since else None,
        occurred_at=None if origin.occurred_at is None else moment(origin.occurred_at),
        kind=change.kind,
        actor=origin.actor,
        source=origin.source,
        request=change.request,
        unrecorded=unrecorded,
        not_kept=[name for name in not_kept if name in shown],
        attributes={name: _attribute(change, shown[name], project) for name in change.reports if name in shown},
        identifiers=_masked(identifiers, project),
        created_through=change.creation or UNSET,
    )


def _attribute(change: Change, attribute: Attribute, project: Project) -> AttributeChangeDocument:
    report, found = change.reports[attribute.name], effect(change, attribute)
    document = AttributeChangeDocument(attribute.rule, _shown(found.sent, attribute, project), found.outcome)
    if attribute.rule is Rule.APPEND and change.kind is not ChangeKind.UNDO:
        sent = found.sent if isinstance(found.sent, list) else []
        document.elements_before = report.elements or 0
        document.added = sent if report.added is None else report.added
    else:
        document.before = _shown(found.before, attribute, project)
        document.after = _shown(found.after, attribute, project)
    return document


def _shown(value: Value | Absent, attribute: Attribute, project: Project) -> Value | None:
    return None if value is ABSENT else show(value, attribute.type, project.zone)


def _masked(identifiers: Mapping[str, Sequence[str]], project: Project) -> dict[str, list[str]]:
    masked = {i.name for i in project.schema.identifiers if i.masked}
    return {name: [masked_value(v) if name in masked else v for v in found] for name, found in identifiers.items()}


def past_user_document(
    user: PastUser, project: Project, attributes: Sequence[str] | None, at: int, *, hidden: bool
) -> UserDocument:
    """Return the document of a user as of the moment `at` (ms since 1970 UTC). `attributes`: see :func:`user_document`."""
    from usertable.store.records import User

    profile = Profile(user.version, user.created_at, user.updated_at, user.attributes, {})
    document = user_document(User(user.cuid, profile, user.identifiers), project, attributes, hidden=hidden)
    declared = project.schema.attributes
    document.as_of = moment(at)
    document.not_kept = [
        n for n in user.not_kept if (n in attributes if attributes is not None else hidden or not declared[n].hidden)
    ]
    return document


def difference_document(
    first: PastUser | None,
    second: PastUser,
    attributes: Mapping[str, Difference],
    project: Project,
    start: int,
    end: int,
    shown: Mapping[str, Attribute],
) -> UserDifferenceDocument:
    """Return the document of how a user differs between two moments.

    Args:
        first: the user as of `start`, in ms since 1970 UTC; None if it did not exist.
        second: the user as of `end`.
        attributes: the attributes that differ or changed, by name.
        shown: the attributes to show.
    """
    not_kept = {*(first.not_kept if first else ()), *second.not_kept}
    before, after = first.identifiers if first else {}, second.identifiers
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    masked_before, masked_after = _masked(before, project), _masked(after, project)
    return UserDifferenceDocument(
        cuid=second.cuid,
        start=moment(start),
        end=moment(end),
        version_before=first.version if first else None,
        version_after=second.version,
        attributes={
            name: _difference(attributes[name], attribute, project)
            for name, attribute in shown.items()
            if name in attributes and name not in not_kept
        },
        identifiers={n: IdentifierDifference(masked_before.get(n, []), masked_after.get(n, [])) for n in names},
        not_kept=[name for name in shown if name in not_kept],
    )


def _difference(found: Difference, attribute: Attribute, project: Project) -> DifferenceDocument:
    last = None
    if (change := found.last) is not None:
        origin = change.origin
        last = LastChangeDocument(change.number, moment(change.at), change.kind, origin.actor, origin.source, change.request)
    before, after = _shown(found.before, attribute, project), _shown(found.after, attribute, project)
    return DifferenceDocument(before, after, found.changes, last)


def shown_attributes(project: Project, *, hidden: bool) -> dict[str, Attribute]:
    """Return a project's attributes by name, including hidden ones with `hidden`."""
    return {name: a for name, a in project.schema.attributes.items() if hidden or not a.hidden}


def history_document(
    settings: HistorySettings, since: int | None, figures: HistoryFigures, growth: int | None, expected: Forecast | None
) -> HistoryDocument:
    """Return the document of a project's history.

    Args:
        since: the oldest moment one can ask for, in ms since 1970 UTC; None if history is off.
        growth: bytes per day.
        expected: what will be kept.
    """
    return HistoryDocument(
        days=settings.days,
        gigabytes=settings.gigabytes,
        reports="all" if settings.all_reports else "different",
        kept_since=None if since is None else moment(since),
        blocks=figures.blocks,
        changes=figures.changes,
        bytes=figures.bytes,
        oldest=None if figures.oldest is None else moment(figures.oldest),
        newest=None if figures.newest is None else moment(figures.newest),
        bytes_per_day=growth,
        forecast=None if expected is None else ForecastDocument(expected.bytes, expected.days, expected.limit),
    )
