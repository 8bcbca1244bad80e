"""Charts as SVG markup: classes for the style sheet, no inline styles, no scripts. All text in them is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its parts from the bottom up (class of the style sheet, amount), and its tooltip."""

    parts: tuple[tuple[str, float], ...]
    title: str
    address: str = ""
    """The address that it links to; empty for no link."""

    @property
    def total(self) -> float:
        return sum(amount for _, amount in self.parts)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a horizontal bar: its class of the style sheet, and its tooltip."""

    name: str
    amount: float
    title: str = ""
    address: str = ""
    """The address that it links to; empty for no link."""


def columns(
    bars: Sequence[Bar],
    *,
    label: str,
    ticks: Sequence[tuple[float, str]],
    scale: Sequence[tuple[float, str]],
    height: int = 220,
) -> str:
    """Return a chart of vertical bars.

    Args:
        label: what the chart shows, for screen readers.
        ticks: labels below the chart, each at a position from 0 (left) to 1 (right).
        scale: labels at the side, each at an amount; the greatest is the top of the chart.
    """
    left, bottom, top = 46, 26, 8
    across, up = WIDTH - left, height - bottom - top
    maximum = max(amount for amount, _ in scale) or 1.0
    step = across / max(1, len(bars))
    gap = min(2.0, step * 0.15)
    out = [_open(height, label, bars)]
    for amount, text in scale:
        y = top + up * (1 - amount / maximum)
        out.append(f'<line class="chart-grid" x1="{left}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="chart-text" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for index, bar in enumerate(bars):
        if not bar.total:
            continue
        x, y = left + index * step + gap / 2, float(top + up)
        out.append(_begin(bar.title, bar.address))
        # The hover area is larger than the bar, which may be one pixel high.
        out.append(f'<rect class="hit" x="{left + index * step:.2f}" y="{top}" width="{step:.2f}" height="{up}"/>')
        for name, amount in bar.parts:
            if not amount:
                continue
            # Any amount above 0 is visible, however small it is.
            tall = max(1.0, up * amount / maximum)
            y -= tall
            out.append(
                f'<rect class="{name}" x="{x:.2f}" y="{y:.2f}" width="{max(0.5, step - gap):.2f}" height="{tall:.2f}"/>'
            )
        out.append(_end(bar.address))
    for number, (at, text) in enumerate(ticks):
        anchor = "start" if at == 0 else "end" if at == 1 else "middle"
        # On a narrow screen, the style sheet hides every other one.
        name = "chart-text other" if number % 2 else "chart-text"
        out.append(
            f'<text class="{name}" x="{left + across * at:.1f}" y="{height - 6}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )
    out.append("</svg>")
    return "".join(out)


def share(parts: Sequence[Part], *, label: str) -> str:
    """Return one horizontal bar, divided into parts."""
    whole = sum(part.amount for part in parts) or 1.0
    out, x = [_open(24, label, parts)], 0.0
    for part in parts:
        wide = WIDTH * part.amount / whole
        if wide:
            out.append(_begin(part.title, part.address))
            out.append(f'<rect class="{part.name}" x="{x:.2f}" y="0" width="{wide:.2f}" height="24"/>')
            out.append(_end(part.address))
        x += wide
    out.append("</svg>")
    return "".join(out)


def scale(maximum: float, lines: int = 4) -> list[float]:
    """Return round amounts from 0 to at least `maximum`, for the side of a chart."""
    if maximum <= 0:
        return [0.0, 1.0]
    size = 10.0 ** len(str(int(maximum))) if maximum >= 1 else 10.0
    while size > maximum * 10:
        size /= 10
    step = next(size * part for part in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if size * part * lines >= maximum)
    return [step * index for index in range(lines + 1) if step * (index - 1) < maximum]


def _open(height: int, label: str, parts: Sequence[Bar | Part]) -> str:
    # Screen readers skip what is inside an image, so a chart with links is a group.
    role = "group" if any(part.address for part in parts) else "img"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="{role}" aria-label="{escape(label)}"'
        ' xmlns="http://www.w3.org/2000/svg">'
    )


def _begin(title: str, address: str) -> str:
    begun = f'<a href="{escape(address)}" aria-label="{escape(title)}">' if address else "<g>"
    return f"{begun}<title>{escape(title)}</title>"


def _end(address: str) -> str:
    return "</a>" if address else "</g>"
