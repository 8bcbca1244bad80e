"""Statistics of attributes: fill rate, last write, distribution of values, and rejected values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape
from starlette.responses import Response

from usertable.app.activity import KEPT_MS
from usertable.app.distribution import SHOWN_CHARACTERS, Bin, Distribution
from usertable.app.scans import Filled, Found
from usertable.console.charts import Bar, Part, columns, scale, share
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.live import Parts, stream
from usertable.console.values import value_text
from usertable.dialects.jiguang.codes import code
from usertable.domain.moments import DAY_MS
from usertable.domain.permissions import Scope
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, datetime_text, number, number_text

LIVE_SECONDS = 0.5
MAX_TICKS = 5
"""Maximum number of intervals between the ticks of a histogram."""


@dataclass(frozen=True, slots=True)
class TopValue:
    """A frequent value of an attribute."""

    text: str
    count: int
    percent: str
    """Percentage of the users with a value that have this one."""
    bar: Markup
    """Bar with the length of that percentage."""
    address: str
    """Address of the users with this value; empty if no filter can select them."""


def of_attributes(context: PageContext, project: Project) -> dict[str, Any]:
    """Return what the list of attributes shows of each: fill rate and last write."""
    found = context.console.scans.filled(project, wait=True)
    return {
        "fill": lambda name: _fill(found, name),
        "last_writes": context.service.last_writes(project),
        "fill_live": context.project_path("/fill/live"),
    }


def of_attribute(context: PageContext, project: Project, attribute: Attribute) -> dict[str, Any]:
    """Return what an attribute's own page shows."""
    refresh = context.request.query_params.get("anew") == "1"
    return {
        **_distribution(context, project, attribute, refresh=refresh, wait=True),
        "last_write": context.service.last_writes(project).get(attribute.name),
        "groups": context.service.refusals(
            project, since=context.console.clock.now_ms() - KEPT_MS, attribute=attribute.name
        ),
        "code": lambda kind: code(kind)[0],
        "statistics_live": context.project_path(f"/attributes/{attribute.name}/live"),
    }


def fill_live(context: PageContext) -> Response:
    """Stream the fill rates as they are counted."""
    project = context.project()

    async def look() -> tuple[Parts, bool]:
        found = context.console.scans.filled(project)
        parts = {f"fill-{name}": escape(_fill(found, name)) for name in project.schema.attributes}
        return parts, found.ended

    return stream(context, look, LIVE_SECONDS)


def attribute_live(context: PageContext) -> Response:
    """Stream the distribution as it is counted."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])

    async def look() -> tuple[Parts, bool]:
        shown = _distribution(context, project, attribute)
        found = shown["found"]
        parts = {"distribution": context.fragment("distribution.html", project=project, attribute=attribute, **shown)}
        return parts, found.ended

    return stream(context, look, LIVE_SECONDS)


def percent(part: int, whole: int) -> str:
    """Return a percentage. Only none is shown as 0%, and only all as 100%."""
    if not part or not whole:
        return "0%"
    share_ = 100 * part / whole
    if part == whole:
        return "100%"
    return "< 0.1%" if share_ < 0.1 else "> 99.9%" if share_ > 99.9 else f"{share_:.1f}%"


def _fill(found: Found[Filled], name: str) -> str:
    if found.failed or not found.examined:
        return "–" if found.failed or found.done else "…"
    return percent(found.result.filled.get(name, 0), found.examined)


def _distribution(
    context: PageContext, project: Project, attribute: Attribute, *, refresh: bool = False, wait: bool = False
) -> dict[str, Any]:
    found = context.console.scans.distribution(project, attribute, refresh=refresh, wait=wait)
    result = found.result
    return {
        "found": found,
        "picture": _picture(context, project, attribute, result),
        "top": _top(context, attribute, result),
        "ends": _ends(project, attribute, result),
        "percent": percent,
    }


def _picture(context: PageContext, project: Project, attribute: Attribute, result: Distribution) -> Markup | None:
    label = context.text("statistics.chart", attribute=attribute.name)
    if attribute.type is DataType.BOOL:
        counts = dict(result.top)
        parts = [
            Part(
                name,
                counts.get(value, 0),
                f"{value_text(value)}: {counts.get(value, 0):,}",
                _users(context, f"{attribute.name}:eq:{value_text(value)}"),
            )
            for value, name in ((True, "bar-good"), (False, "bar-other"))
        ]
        return Markup(share(parts, label=label)) if result.values else None
    return Markup(_histogram(context, project, attribute, result, label)) if result.bins else None


def _histogram(context: PageContext, project: Project, attribute: Attribute, result: Distribution, label: str) -> str:
    edges = [*(b.low for b in result.bins), result.bins[-1].high]
    names = [_edge_name(edge, attribute, project, result.bins[0]) for edge in edges]

    def bar(style: str, count: int, text: str, low: int | None, high: int | None) -> Bar:
        said = {"low": "" if low is None else names[low], "high": "" if high is None else names[high]}
        title = context.text(text, **said, count=f"{count:,}")
        ends = (("ge", low), ("lt", high))
        written = [(op, None if index is None else _written(edges[index], attribute, project)) for op, index in ends]
        where = [f"{attribute.name}:{op}:{value}" for op, value in written if value is not None]
        return Bar(((style, count),), title, _users(context, *where) if where else "")

    last = len(result.bins)
    bars = [bar("bar-good", b.count, "statistics.bar", index, index + 1) for index, b in enumerate(result.bins)]
    # Outliers have a separate bar at either end.
    low, high = ("before", "after") if attribute.type is DataType.DATETIME else ("below", "above")
    below = [bar("bar-other", result.below, f"statistics.bar_{low}", None, 0)] if result.below else []
    above = [bar("bar-other", result.above, f"statistics.bar_{high}", last, None)] if result.above else []
    bars = [*below, *bars, *above]
    every = -(-last // MAX_TICKS)
    ticks = [((index + len(below)) / len(bars), names[index]) for index in range(0, last + 1, every)]
    sides = [(amount, f"{amount:,g}") for amount in scale(max(bar.total for bar in bars))]
    return columns(bars, label=label, ticks=ticks, scale=sides)


def _users(context: PageContext, *where: str) -> str:
    """Return the address of the users that meet these conditions."""
    return f"{context.project_path('/users')}?{urlencode([('where', text) for text in where])}"


def _edge_name(value: int | Decimal, attribute: Attribute, project: Project, bin: Bin) -> str:
    """Return the edge of a bin as the chart shows it."""
    if attribute.type is DataType.DATETIME:
        text = _written(value, attribute, project) or ""
        return text[:10] if bin.high - bin.low >= DAY_MS else text[5:16]
    return _grouped(value) if not value or 1e-6 < abs(float(value)) < 1e12 else f"{float(value):.6g}"


def _written(value: int | Decimal, attribute: Attribute, project: Project) -> str | None:
    """Return the edge of a bin as a condition takes it; None if no attribute can have this value."""
    if attribute.type is DataType.DATETIME:
        try:
            return datetime_text(int(value), project.zone)
        except (OverflowError, ValueError):
            return None
    exact = number(value)
    return None if exact is None else number_text(exact)


def _top(context: PageContext, attribute: Attribute, result: Distribution) -> list[TopValue]:
    """Return the most frequent values of a STRING or LIST attribute."""
    if attribute.type not in (DataType.STRING, DataType.LIST):
        return []
    op = "contains" if attribute.type is DataType.LIST else "eq"
    return [
        TopValue(
            value := str(each),
            count,
            percent(count, result.values),
            Markup(share([Part("bar-good", count), Part("bar-none", max(0, result.values - count))], label=f"{count:,}")),
            # Of a longer value, only the beginning is known.
            _users(context, f"{attribute.name}:{op}:{value}") if len(value) < SHOWN_CHARACTERS else "",
        )
        for each, count in result.top
    ]


def _ends(project: Project, attribute: Attribute, result: Distribution) -> tuple[str, str] | None:
    if result.minimum is None or result.maximum is None:
        return None
    if attribute.type is DataType.DATETIME:
        low, high = (datetime_text(int(end), project.zone) for end in (result.minimum, result.maximum))
        return low, high
    return _grouped(result.minimum), _grouped(result.maximum)


def _grouped(value: int | Decimal) -> str:
    return f"{Decimal(value):,f}"


_PROJECT = f"{HOME}/projects/{{project}}"

PAGES = (
    PageRoute("GET", f"{_PROJECT}/fill/live", fill_live, Scope.READ),
    PageRoute("GET", f"{_PROJECT}/attributes/{{name}}/live", attribute_live, Scope.READ),
)
