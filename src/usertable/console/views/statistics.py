"""Statistics of attributes: who has a value, when one was last written, how the values are spread, what was refused."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape
from starlette.responses import Response

from usertable.app.activity import KEPT_MS
from usertable.app.distribution import Distribution
from usertable.app.scans import Filled, Found
from usertable.console.charts import Bar, columns, scale, share
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.live import Parts, stream
from usertable.console.values import value_text
from usertable.dialects.jiguang.codes import code
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, datetime_text, number_text

LIVE_SECONDS = 0.5
_DAY_MS = 86_400_000


def of_attributes(context: PageContext, project: Project) -> dict[str, Any]:
    """What the list of attributes shows of each: fill rate and last write."""
    found = context.console.scans.filled(project, wait=True)
    return {
        "fill": lambda name: _fill(found, name),
        "last_writes": context.service.last_writes(project),
        "fill_live": context.project_path("/fill/live"),
    }


def of_attribute(context: PageContext, project: Project, attribute: Attribute) -> dict[str, Any]:
    """What an attribute's own page shows."""
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
    """Fill rates as they become known."""
    project = context.project()

    async def look() -> tuple[Parts, bool]:
        found = context.console.scans.filled(project)
        parts = {f"fill-{name}": escape(_fill(found, name)) for name in project.schema.attributes}
        return parts, found.ended

    return stream(context, look, LIVE_SECONDS)


def attribute_live(context: PageContext) -> Response:
    """The distribution as it becomes known."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])

    async def look() -> tuple[Parts, bool]:
        shown = _distribution(context, project, attribute)
        found = shown["found"]
        parts = {"distribution": context.fragment("distribution.html", project=project, attribute=attribute, **shown)}
        return parts, found.ended

    return stream(context, look, LIVE_SECONDS)


def percent(found: Found[Filled] | Found[Distribution], filled: int) -> str:
    """A share of the users that were looked at; what is not none or all is not shown as none or all."""
    if not found.examined or not filled:
        return "0%"
    share_ = 100 * filled / found.examined
    if filled == found.examined:
        return "100%"
    return "< 0.1%" if share_ < 0.1 else "> 99.9%" if share_ > 99.9 else f"{share_:.1f}%"


def _fill(found: Found[Filled], name: str) -> str:
    if found.failed or not found.examined:
        return "–" if found.failed or found.done else "…"
    return percent(found, found.result.filled.get(name, 0))


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
        if not result.values:
            return None
        counts = dict(result.top)
        parts = [
            (name, counts.get(value, 0), f"{value_text(value)}: {counts.get(value, 0):,}")
            for value, name in ((True, "bar-good"), (False, "bar-other"))
        ]
        return Markup(share(parts, label=label))
    if not result.bins:
        return None
    edges = [_edge(b.low, attribute, project, b.high - b.low) for b in result.bins]
    edges.append(_edge(result.bins[-1].high, attribute, project, result.bins[-1].high - result.bins[-1].low))
    bars = [
        Bar((("bar-good", b.count),), context.text("statistics.bar", low=low, high=high, count=f"{b.count:,}"))
        for b, low, high in zip(result.bins, edges, edges[1:], strict=False)
    ]
    steps = min(4, len(bars))
    indexes = [round(step * len(bars) / steps) for step in range(steps + 1)]
    ticks = [(index / len(bars), edges[index]) for index in indexes]
    sides = [(amount, f"{amount:,g}") for amount in scale(max(bar.total for bar in bars))]
    return Markup(columns(bars, label=label, ticks=ticks, scale=sides))


def _edge(value: float, attribute: Attribute, project: Project, width: float) -> str:
    if attribute.type is DataType.DATETIME:
        try:
            text = datetime_text(int(value), project.zone)
        except (OverflowError, ValueError):
            return ""
        return text[:10] if width >= _DAY_MS else text[5:16]
    return f"{value:,.10g}"


def _top(context: PageContext, attribute: Attribute, result: Distribution) -> list[tuple[str, int, Markup]]:
    """The most frequent values, each with its count and a bar as long as its share of the users with a value."""
    if attribute.type not in (DataType.STRING, DataType.LIST):
        return []
    return [
        (
            str(value),
            count,
            Markup(share([("bar-good", count, ""), ("bar-none", max(0, result.values - count), "")], label=f"{count:,}")),
        )
        for value, count in result.top
    ]


def _ends(project: Project, attribute: Attribute, result: Distribution) -> tuple[str, str] | None:
    if result.minimum is None or result.maximum is None:
        return None
    if attribute.type is DataType.DATETIME:
        low, high = (datetime_text(int(end), project.zone) for end in (result.minimum, result.maximum))
    else:
        low, high = number_text(result.minimum), number_text(result.maximum)
    return low, high


_PROJECT = f"{HOME}/projects/{{project}}"

PAGES = (
    PageRoute("GET", f"{_PROJECT}/fill/live", fill_live),
    PageRoute("GET", f"{_PROJECT}/attributes/{{name}}/live", attribute_live),
)
