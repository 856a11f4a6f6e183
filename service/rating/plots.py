"""The report's plots as SVG: attributes alone, no style, no script, no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, SOFT, LINE = "#17212b", "#4a5763", "#c9d1d8"
REAL, GENERATED = "#1c5d3b", "#8c1c13"
# low to high, apart for those who do not tell red from green
LIKERT = ("#b35806", "#f1a340", "#d8daeb", "#998ec3", "#542788")
SHADES = ("#f7f7f7", "#fee8c8", "#fdbb84", "#fc8d59", "#d7301f", "#7f0000")
FONT = 12.0


def _svg(width: float, height: float, said: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" font-family="Arial, sans-serif" '
        f'font-size="{FONT:g}"><title>{escape(said)}</title>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", fill: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
    )


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1.0) -> str:
    return (
        f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )


def _rect(x: float, y: float, width: float, height: float, fill: str, said: str = "") -> str:
    told = f"<title>{escape(said)}</title>" if said else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
        f'fill="{fill}">{told}</rect>'
    )


def intervals(
    rows: Sequence[tuple[str, float, tuple[float, float]]],
    said: str,
    chance: float = 0.5,
    low: float = 0.0,
    high: float = 1.0,
) -> str:
    """A point with its interval a row, and a line where chance is."""
    left, width, row = 210.0, 420.0, 24.0
    height = row * len(rows) + 40

    def x(value: float) -> float:
        return left + width * (min(max(value, low), high) - low) / (high - low)

    parts = []
    for i in range(5):
        at = low + (high - low) * i / 4
        parts.append(_line(x(at), 8, x(at), height - 26, LINE))
        parts.append(_text(x(at), height - 10, f"{at:g}", "middle", SOFT))
    parts.append(_line(x(chance), 4, x(chance), height - 26, INK, 1.5))
    for i, (name, value, (a, b)) in enumerate(rows):
        y = 22 + row * i
        parts.append(_text(left - 12, y + 4, name, "end"))
        parts.append(_line(x(a), y, x(b), y, GENERATED, 2))
        parts.append(f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4.5" fill="{GENERATED}"/>')
        parts.append(_text(left + width + 10, y + 4, f"{value:.2f} [{a:.2f}, {b:.2f}]", fill=SOFT))
    return _svg(left + width + 130, height, said, parts)


def stacked(
    rows: Sequence[tuple[str, Sequence[int]]],
    names: Sequence[str],
    said: str,
) -> str:
    """Counts of ordered answers as shares of a bar, a row each."""
    left, width, row = 210.0, 420.0, 30.0
    colours = LIKERT if len(names) == 5 else (LIKERT[0], LIKERT[2], LIKERT[4])
    parts = []
    for i, (name, counts) in enumerate(rows):
        y, total, x = 8 + row * i, max(1, sum(counts)), left
        parts.append(_text(left - 12, y + 15, name, "end"))
        for value, n, colour in zip(names, counts, colours, strict=True):
            part = width * n / total
            parts.append(_rect(x, y, part, 22, colour, f"{value}: {n} of {sum(counts)}"))
            if part > 26:
                dark = colour in (LIKERT[0], LIKERT[4], LIKERT[3])
                parts.append(_text(x + part / 2, y + 15, str(n), "middle", "#fff" if dark else INK))
            x += part
        parts.append(_text(left + width + 10, y + 15, f"n = {sum(counts)}", fill=SOFT))
    foot, x = 8 + row * len(rows) + 10, left
    for value, colour in zip(names, colours, strict=True):
        parts.append(_rect(x, foot, 14, 14, colour))
        parts.append(_text(x + 19, foot + 11.5, value, fill=SOFT))
        x += 19 + 7.2 * len(value) + 22
    return _svg(max(left + width + 80, x), foot + 24, said, parts)


def shares(
    names: Sequence[str], series: Sequence[tuple[str, Sequence[float], str]], said: str
) -> str:
    """Bars of shares: a group a name, a bar a series."""
    left, width, bar = 210.0, 420.0, 13.0
    most = max([0.05, *(v for _, values, _ in series for v in values)])
    group = bar * len(series) + 12
    height = group * len(names) + 40
    parts = []
    for i, name in enumerate(names):
        y = 6 + group * i
        parts.append(_text(left - 12, y + (group - 12) / 2 + 4, name, "end"))
        for k, (source, values, colour) in enumerate(series):
            long = width * values[i] / most
            parts.append(
                _rect(left, y + bar * k, long, bar - 2, colour, f"{source}: {values[i]:.0%}")
            )
            parts.append(_text(left + long + 6, y + bar * k + 10, f"{values[i]:.0%}", fill=SOFT))
    x = left
    for source, _, colour in series:
        parts.append(_rect(x, height - 24, 14, 14, colour))
        parts.append(_text(x + 19, height - 12.5, source, fill=SOFT))
        x += 19 + 7.2 * len(source) + 22
    return _svg(max(left + width + 60, x), height, said, parts)


def heat(rows: Sequence[str], table: Sequence[Sequence[int]], title: str, most: int) -> str:
    """Counts by lead and second, darker is more; `most` is the darkest, so that several compare."""
    left, top, cell, high = 38.0, 24.0, 17.0, 13.0
    parts = [_text(0, 13, title)]
    for i, name in enumerate(rows):
        y = top + high * i
        parts.append(_text(left - 6, y + 10.5, name, "end", SOFT))
        for k, n in enumerate(table[i]):
            shade = SHADES[min(len(SHADES) - 1, -(-n * (len(SHADES) - 1) // max(1, most)))]
            said = f"{name}, {k} to {k + 1} s: {n}"
            parts.append(_rect(left + cell * k, top + high * i, cell - 1, high - 1, shade, said))
    columns = len(table[0])
    foot = top + high * len(rows) + 13
    parts.append(_text(left, foot, "0 s", fill=SOFT))
    parts.append(_text(left + cell * columns, foot, f"{columns} s", "end", SOFT))
    return _svg(left + cell * columns + 12, foot + 8, title, parts)
