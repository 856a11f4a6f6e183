"""A long record at a glance: its rhythm lead in rows of a minute to an hour, as SVG.

Each column of a row is drawn from the lowest to the highest sample of its seconds, from the line
that the signal moves around: not what a beat looks like, but where the rhythm, the amplitude or the
noise changes. The document says in `data-` attributes where which time lies, so that others can
mark it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr  # nosec B406  # nothing is parsed with it

import numpy as np

from ecg.draw import FINE, INK, PAPER, RHYTHM_LEADS, SYNTHETIC
from ecg.record import PIECE, Record

ROWS_S = (60.0, 300.0, 600.0, 1800.0, 3600.0)  # a row's length, the first that gives few enough
MAX_ROWS = 24
COLUMNS = 900  # of a row
BASELINE_S = 2.0  # the mean over so long, or over a column, is the line that a trace moves around
SHOWN, USUAL = 0.995, 1.5  # of the columns fit into their row, if that is no more than
MIN_SCALE_MV = 0.5  # USUAL times the middle one: an hour of noise must not flatten the rest
TRACE = "#3d4852"
LEFT, RIGHT, TOP, BOTTOM, ROW, GAP = 52.0, 8.0, 24.0, 22.0, 26.0, 4.0
TEXT = 11.0


@dataclass(frozen=True)
class Envelope:
    """mV [row, column] around the baseline, NaN where there is no sample."""

    low: np.ndarray
    high: np.ndarray
    row_s: float


def rhythm_lead(record: Record) -> str:
    return next((name for name in RHYTHM_LEADS if name in record.leads), record.leads[0])


def strip_svg(record: Record, lead: str | None = None) -> str:
    """The whole record as an SVG document, COLUMNS user units to the row; lead: one of the
    record's, or the rhythm lead."""
    lead = lead or rhythm_lead(record)
    found = envelope(record, record.leads.index(lead))
    n_rows = len(found.low)
    width, height = LEFT + COLUMNS + RIGHT, TOP + n_rows * ROW + BOTTOM
    scale_mv = _scale(found)
    said = (
        f"Lead {lead}, {_clock(record.duration_s)} in rows of {_length(found.row_s)}, a column is "
        f"{found.row_s / COLUMNS:.2g} s from its lowest to its highest value; baseline removed, "
        f"{2 * scale_mv:.2g} mV a row"
    )
    title = f"{SYNTHETIC}: overview" if record.meta.synthetic else "Overview of the recording"
    data = {"row-s": found.row_s, "rows": n_rows, "left": LEFT, "top": TOP, "columns": COLUMNS,
            "row": ROW, "trace": ROW - GAP, "lead": lead}  # fmt: skip
    attributes = " ".join(f"data-{k}={quoteattr(_said(v))}" for k, v in data.items())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" {attributes}>',
            f"<title>{escape(title)}</title><desc>{escape(said)}; research use only.</desc>",
            f'<rect width="{width:g}" height="{height:g}" fill="{PAPER}"/>',
            '<g font-family="Arial, Helvetica, sans-serif" font-variant-numeric="tabular-nums">',
            *_axes(record, found.row_s, n_rows),
            *(_trace(found, i, scale_mv) for i in range(n_rows)),
            _text(LEFT, height - 7.0, said),
            _text(width - RIGHT, height - 7.0, "Research use only", "end"),
            "</g></svg>",
        ]
    )


def envelope(record: Record, row: int) -> Envelope:
    """Of the record's lead `row`, in memory that does not grow with the record."""
    row_s = next((s for s in ROWS_S if record.duration_s <= s * MAX_ROWS), ROWS_S[-1])
    n_rows = int(np.ceil(record.duration_s / row_s - 1e-9))
    edges = np.rint(np.arange(n_rows * COLUMNS + 1) * row_s / COLUMNS * record.fs).astype(np.int64)
    edges = edges[: np.searchsorted(edges, record.n_samples)]
    edges = np.append(edges, record.n_samples)
    low, high = (np.full(n_rows * COLUMNS, np.nan) for _ in range(2))
    for first, last in _groups(edges):
        # One sample more, so that neighbours touch as the signal does.
        sig = record.piece(edges[first], min(edges[last] + 1, record.n_samples), _only(row))[0]
        starts = edges[first:last] - edges[first]
        width = max(1, round(BASELINE_S * record.fs))
        line = _baseline(sig, width, starts, edges[first + 1 : last + 1] - edges[first])
        lows = np.fmin.reduceat(sig, starts)
        highs = np.fmax.reduceat(sig, starts)
        after = sig[np.minimum(edges[first + 1 : last + 1] - edges[first], len(sig) - 1)]
        low[first:last] = np.fmin(lows, np.where(np.isnan(lows), np.nan, after)) - line
        high[first:last] = np.fmax(highs, np.where(np.isnan(highs), np.nan, after)) - line
    return Envelope(low.reshape(n_rows, -1), high.reshape(n_rows, -1), row_s)


def _only(row: int) -> slice:
    return slice(row, row + 1)


def _groups(edges: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of columns of about PIECE samples each."""
    n = len(edges) - 1
    a_column = max(1, int(edges[-1] // max(n, 1)))
    step = max(1, PIECE // a_column)
    for first in range(0, n, step):
        yield first, min(first + step, n)


def _baseline(sig: np.ndarray, width: int, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """mV [column]: the mean over `width` samples around it, or over the column where it is wider;
    0 where there is none."""
    there = np.isfinite(sig)
    total = np.concatenate([[0.0], np.cumsum(np.where(there, sig, 0.0), dtype=np.float64)])
    count = np.concatenate([[0], np.cumsum(there)])
    middle, half = (starts + stops) // 2, np.maximum(width, stops - starts) // 2
    a, b = np.maximum(middle - half, 0), np.minimum(middle + half + 1, len(sig))
    return (total[b] - total[a]) / np.maximum(count[b] - count[a], 1)


def _scale(found: Envelope) -> float:
    """mV from the middle of a row to its edge."""
    reach = np.fmax(np.abs(found.low), np.abs(found.high))
    known = reach[np.isfinite(reach)]
    if not len(known):
        return MIN_SCALE_MV
    middle, most = np.quantile(known, (0.5, SHOWN))
    return max(MIN_SCALE_MV, float(min(most, USUAL * middle)))


def _trace(found: Envelope, row: int, scale_mv: float) -> str:
    """One path: a column is a line from its lowest to its highest value."""
    middle, reach = TOP + row * ROW + (ROW - GAP) / 2, (ROW - GAP) / 2
    to_y = reach / scale_mv
    top = middle - np.clip(found.high[row] * to_y, -reach, reach)
    bottom = middle - np.clip(found.low[row] * to_y, -reach, reach)
    d = "".join(
        f"M{LEFT + i + 0.5:g} {a - 0.2:.1f}V{b + 0.2:.1f}"
        for i, (a, b) in enumerate(zip(top.tolist(), bottom.tolist(), strict=True))
        if a == a  # a column without a sample is NaN
    )
    return f'<path data-of-row="{row}" stroke="{TRACE}" stroke-width="1" d="{d}"/>' if d else ""


def _axes(record: Record, row_s: float, n_rows: int) -> list[str]:
    """Each row's begin, lines at tenths or sixths of it, and what they stand for."""
    parts = 6 if row_s in (60.0, 600.0, 1800.0, 3600.0) else 5
    foot = TOP + n_rows * ROW - GAP
    out = []
    for k in range(parts + 1):
        x = LEFT + COLUMNS * k / parts
        out.append(f'<path stroke="{FINE}" d="M{x:g} {TOP:g}V{foot:g}"/>')
        anchor = "end" if k == parts else "middle" if k else "start"
        out.append(_text(x, TOP - 8.0, f"+{_length(row_s * k / parts) if k else 0}", anchor))
    for row in range(n_rows):
        y = TOP + row * ROW + (ROW - GAP) / 2 + TEXT / 3
        out.append(_text(LEFT - 6.0, y, _clock(row * row_s), "end"))
    return out


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{TEXT:g}" text-anchor="{anchor}" '
        f'fill="{INK}">{escape(text)}</text>'
    )


def _clock(s: float) -> str:
    """Hours, minutes and seconds since the record began, 1:03:20."""
    whole = int(s)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _length(s: float) -> str:
    if s >= 3600 and s % 3600 == 0:
        return f"{s / 3600:g} h"
    return f"{s / 60:g} min" if s >= 60 and s % 60 == 0 else f"{s:g} s"


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
