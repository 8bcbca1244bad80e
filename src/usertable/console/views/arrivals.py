"""Arrivals: the requests of the last hour, updated live."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.responses import Response

from usertable.app.activity import KEPT_MS
from usertable.app.service import Service
from usertable.console.charts import Bar, columns, scale
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.live import Parts, stream
from usertable.dialects.jiguang.codes import code
from usertable.domain.arrival import Arrival, Rate
from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.permissions import Scope
from usertable.domain.schema import Project
from usertable.store.protocol import KEPT_SAMPLES

SHOWN = 50
_KINDS = frozenset(ProblemKind)
STEP_MS = 20_000
LIVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Which requests the page lists."""

    show: str = ""
    """`accepted`, `refused`, or empty for both."""
    kind: str = ""
    """Kind of problem of the rejected requests to list; empty for all."""
    attribute: str = ""
    """Attribute with a problem in the rejected requests to list; empty for all."""
    key: str = ""
    """Name of the key whose requests to list; empty for all."""
    request: str = ""
    """ID of the requests to list; empty for all."""

    @classmethod
    def of(cls, context: PageContext) -> Choice:
        """Return the choice in the query of the request."""
        query = context.request.query_params
        show, kind = query.get("show", ""), query.get("kind", "")
        key, request = query.get("key", ""), query.get("request", "")
        if kind in _KINDS:
            return cls("refused", kind, query.get("attribute", ""), key, request)
        return cls(show if show in ("accepted", "refused") else "", key=key, request=request)

    @property
    def query(self) -> str:
        """Return the query string for this choice; empty for all requests."""
        return urlencode([(name, value) for name, value in asdict(self).items() if value])

    def of_service(self, service: Service, project: Project) -> list[tuple[int, Arrival]]:
        """Return the newest samples of these requests, each with its number."""
        refused = {"refused": True, "accepted": False}.get(self.show)
        if not self.is_narrow:
            return service.arrivals(project, limit=SHOWN, refused=refused)
        kept = service.arrivals(project, limit=2 * KEPT_SAMPLES, refused=refused)
        return [(number, arrival) for number, arrival in kept if self._includes(arrival)][:SHOWN]

    @property
    def is_narrow(self) -> bool:
        """Return whether only some of the accepted or of the rejected requests are listed."""
        return bool(self.kind or self.key or self.request)

    def _includes(self, arrival: Arrival) -> bool:
        is_of_kind = not self.kind or any(map(self._is_about, arrival.problems))
        return is_of_kind and self.key in ("", arrival.key) and self.request in ("", arrival.request)

    def _is_about(self, problem: Problem) -> bool:
        return problem.kind == self.kind and self.attribute in ("", problem.attribute)


def show(context: PageContext) -> Response:
    """Show a chart of requests per second, the newest requests, and rejected requests by kind and attribute."""
    project = context.project()
    return context.render("arrivals.html", project=project, **_seen(context, project, Choice.of(context)))


def live(context: PageContext) -> Response:
    """Send the same as a stream of updates."""
    project = context.project()
    choice = Choice.of(context)

    def look() -> tuple[Parts, bool]:
        seen = _seen(context, project, choice)
        return {
            name: context.fragment(f"arrivals_{name}.html", project=project, **seen)
            for name in ("chart", "requests", "refusals")
        }, False

    async def look_aside() -> tuple[Parts, bool]:
        return await asyncio.to_thread(look)

    return stream(context, look_aside, LIVE_SECONDS)


def _seen(context: PageContext, project: Project, choice: Choice) -> dict[str, Any]:
    until = context.console.clock.now_ms() // STEP_MS * STEP_MS + STEP_MS
    since = until - KEPT_MS
    rates = context.service.rates(project, since=since, step=STEP_MS)
    accepted, turned_away, sampled = (sum(getattr(r, n) for r in rates) for n in ("accepted", "refused", "sampled"))
    return {
        "chart": chart(context, project, rates, since, until),
        "accepted": accepted,
        "refused": turned_away,
        "left_out": 0 if choice.is_narrow else max(0, accepted + turned_away - sampled),
        "requests": choice.of_service(context.service, project),
        "groups": context.service.refusals(project, since=since),
        "choice": choice,
        "code": lambda kind: code(kind)[0],
        "payloads": context.console.config.arrival_payloads,
    }


def chart(context: PageContext, project: Project, rates: list[Rate], since: int, until: int) -> Markup:
    """Return a chart of accepted and rejected requests per second over the last hour."""
    zone = project.zone
    by_step = {rate.at: rate for rate in rates}
    seconds = STEP_MS / 1000
    bars = []
    for at in range(since, until, STEP_MS):
        rate = by_step.get(at, Rate(at, 0, 0, 0))
        clock = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).strftime("%H:%M:%S")
        title = context.text("arrivals.bar", time=clock, accepted=f"{rate.accepted:,}", refused=f"{rate.refused:,}")
        bars.append(Bar((("bar-good", rate.accepted / seconds), ("bar-bad", rate.refused / seconds)), title))
    maximum = max(bar.total for bar in bars)
    ticks = [
        (index / 6, datetime.fromtimestamp((since + KEPT_MS * index / 6) / 1000, UTC).astimezone(zone).strftime("%H:%M"))
        for index in range(7)
    ]
    sides = [(amount, f"{amount:,g}") for amount in scale(maximum)]
    return Markup(columns(bars, label=context.text("arrivals.chart"), ticks=ticks, scale=sides))


_ARRIVALS = f"{HOME}/projects/{{project}}/arrivals"

PAGES = (
    PageRoute("GET", _ARRIVALS, show, Scope.READ),
    PageRoute("GET", f"{_ARRIVALS}/live", live, Scope.READ),
)
