"""The clinical print of a record: 25 mm/s, 10 mm/mV, from one layout to SVG and to PNG.

The layout is a list of primitives in millimetres on the paper, x to the right and y down. Both
pictures draw that list and nothing else, so that they can't differ. Samples are drawn as they
are: no filter, and a lead that is not known is left out, never made up.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr  # nosec B406  # nothing is parsed with it

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecg.errors import UnservableError
from ecg.leads import LEADS, complete_leads
from ecg.record import Record
from ecg.shading import SHADES, Shade

MM_PER_S, MM_PER_MV = 25.0, 10.0
STRIP_S = 10.0  # the paper's width in time
COLUMNS = tuple(LEADS[i : i + 3] for i in range(0, len(LEADS), 3))
RHYTHM_LEADS = ("II", "V1")  # the long strip's lead is the first of these that is known
FEW_LEADS = 3  # up to here, each lead gets the whole width

MARGIN_MM, HEADER_MM, FOOTER_MM = 5.0, 10.0, 8.0
ROW_MM = 40.0  # +-2 mV around the baseline
PULSE_MM, PULSE_S, PULSE_MV = 15.0, 0.2, 1.0  # the calibration mark, 5 mm before and after it
MAX_SHIFT_MM = 10.0  # how far a row's baseline gives way to its tallest waves

PAPER, INK, FINE, BOLD = "#fffdfc", "#000000", "#f8cfcb", "#ea9e98"
FINE_MM, BOLD_MM, TRACE_MM, MARK_MM = 0.1, 0.2, 0.33, 0.25
LABEL_MM, TEXT_MM, HALO_MM = 3.8, 3.2, 0.4  # text sizes, and the paper kept clear around text
LABEL_RISE_MM, MAX_SLIDE_MM = 11.0, 20.0  # lead names: above the baseline, and out of a wave's way
SYNTHETIC = "Synthetic ECG, not a patient's"
BAND_MM, MAP_MM, LEGEND_MM = 34.0, 4.0, 5.0  # heights: of a shade, of a lead in the map, of a line
CLIPPED = " *"  # after a lead's name
MAX_TITLE = 110  # characters that fit on the paper
MIN_PX_PER_MM, MAX_PX_PER_MM = 2.0, 24.0


@dataclass(frozen=True)
class Lines:
    """Open lines, each [point, (x, y)] in mm, of one width and colour; `lead` if it is a trace."""

    lines: tuple[np.ndarray, ...]
    width: float
    colour: str
    lead: str = ""


@dataclass(frozen=True)
class Text:
    """`x`, `y` in mm is the baseline's left end, or its right end where `right` is true."""

    x: float
    y: float
    size: float
    text: str
    right: bool = False


@dataclass(frozen=True)
class Band:
    """A filled rectangle behind a trace or in the map, in mm; `lead` that it shades."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    lead: str = ""


@dataclass(frozen=True)
class Strip:
    """One lead's place: its row, ROW_MM high from `top` on, and from when to when (s, in the
    record) at which x (mm)."""

    lead: str
    row: int
    x: float
    start_s: float
    end_s: float
    first: bool  # of its row

    @property
    def top(self) -> float:
        return HEADER_MM + self.row * ROW_MM


@dataclass(frozen=True)
class Layout:
    """The drawing: paper in mm, primitives from back to front, and the same in words; `strips` is
    where each lead lies; `shaded` says what the shades say."""

    width: float
    height: float
    primitives: tuple[Lines | Text | Band, ...]
    title: str
    description: str
    strips: tuple[Strip, ...]
    shaded: str = ""


def print_svg(
    record: Record, title: str = "", start_s: float = 0.0, shade: Shade | None = None
) -> str:
    """The print as an SVG document, 1 user unit to the millimetre; one path a trace.

    Args:
        title: drawn in the header, cut if it is longer than the paper; that the record is
            synthetic comes before it.
        start_s: where in the record the 10 s that are shown begin.
        shade: what to shade behind the traces, and in a map of all leads over the 10 s where the
            traces show only a part of them.
    Raises:
        UnservableError: `start_s` does not lie in the record.
    """
    return svg_of(layout(record, title, start_s, shade))


def svg_of(page: Layout) -> str:
    """A layout as an SVG document."""
    w, h = f"{page.width:g}", f"{page.height:g}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}mm" '
        f'height="{h}mm" role="img"'
        + (f" data-shaded={quoteattr(page.shaded)}>" if page.shaded else ">"),
        f"<title>{escape(page.title)}</title><desc>{escape(page.description)}</desc>",
        f'<rect width="{w}" height="{h}" fill="{PAPER}"/>',
        '<g fill="none" stroke-linejoin="round" font-family="Arial, Helvetica, sans-serif">',
        *map(_svg, page.primitives),
        "</g></svg>",
    ]
    return "\n".join(parts)


def print_png(
    record: Record,
    title: str = "",
    px_per_mm: float = 6.0,
    start_s: float = 0.0,
    shade: Shade | None = None,
) -> bytes:
    """The print as a PNG whose resolution is stored in it, so that it prints at true scale.

    Args as in `print_svg`; px_per_mm: 2 to 24, else ValueError.
    """
    if not MIN_PX_PER_MM <= px_per_mm <= MAX_PX_PER_MM:
        raise ValueError(f"px_per_mm must be {MIN_PX_PER_MM:g} to {MAX_PX_PER_MM:g}")
    page = layout(record, title, start_s, shade)
    # Drawn larger and averaged down: Pillow's lines have no soft edges of their own.
    finer = max(1, min(3, round(18 / px_per_mm)))
    scale = px_per_mm * finer
    size = round(page.width * px_per_mm) * finer, round(page.height * px_per_mm) * finer
    image = Image.new("RGB", size, PAPER)
    canvas = ImageDraw.Draw(image)
    for p in page.primitives:
        if isinstance(p, Lines):
            for line in p.lines:
                xy = (line * scale).ravel().tolist()
                canvas.line(xy, p.colour, max(1, round(p.width * scale)), joint="curve")
        elif isinstance(p, Band):
            x0, y0, x1, y1 = (v * scale for v in (p.x, p.y, p.x + p.width, p.y + p.height))
            canvas.rectangle((round(x0), round(y0), round(x1) - 1, round(y1) - 1), p.colour)
        else:
            at, anchor = (p.x * scale, p.y * scale), "rs" if p.right else "ls"
            font, halo = _font(round(p.size * scale)), round(HALO_MM * scale)
            text = _plain(p.text)
            canvas.text(at, text, INK, font, anchor, stroke_width=halo, stroke_fill=PAPER)
    out = io.BytesIO()
    image.reduce(finer).save(out, "PNG", dpi=(px_per_mm * 25.4, px_per_mm * 25.4))
    return out.getvalue()


def layout(
    record: Record,
    title: str = "",
    start_s: float = 0.0,
    shade: Shade | None = None,
    filtered: str = "no filter",
) -> Layout:
    """Where everything goes, in mm. Arguments and errors as in `print_svg`; filtered: what was done
    to the samples before, for the footer."""
    if not 0.0 <= start_s < record.duration_s:
        raise UnservableError("must lie in the record: at least 0, less than its length", "start_s")
    given_sig, at = _near(record, start_s)
    usable = np.any(np.isfinite(given_sig), axis=1)
    if not usable.any():  # nothing to draw here; the leads' names say whose it would be
        usable[:] = True
    given = {name for i, name in enumerate(record.leads) if usable[i]}
    sig, known = complete_leads(given_sig, record.leads, usable)
    shown = {name: sig[i] for i, name in enumerate(LEADS) if known[i]}
    end_s = min(start_s + STRIP_S, record.duration_s)
    strips = _strips(tuple(shown), start_s, end_s)
    n_rows = strips[-1].row + 1
    width = 2 * MARGIN_MM + PULSE_MM + STRIP_S * MM_PER_S
    foot_of_rows = HEADER_MM + n_rows * ROW_MM
    under, end = ([], foot_of_rows)
    if shade:
        under, end = _legend(shade, strips, foot_of_rows, start_s, end_s)
    height = end + FOOTER_MM
    primitives: list[Lines | Text | Band] = [
        *(_bands(shade, strips) if shade else []),
        *_grid(n_rows),
        *under,
    ]
    for row in range(n_rows):
        primitives += _row([s for s in strips if s.row == row], shown, record.fs, at)
    title = "".join(c for c in title if c.isprintable()).strip()
    if record.meta.synthetic:
        title = f"{SYNTHETIC}: {title}" if title else SYNTHETIC
    title = title or "Electrocardiogram"
    cut = title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 3] + "..."
    extent = f"{start_s:g} to {end_s:g} s of {record.duration_s:g} s"
    footer = f"25 mm/s   10 mm/mV   {record.fs:g} Hz   {filtered}   {extent}"
    if derived := [name for name in shown if name not in given]:
        footer += f"   derived: {', '.join(derived)}"
    if end_s - start_s < STRIP_S and len({s.start_s for s in strips}) > 1:
        footer += "   columns overlap in time"
    if any(isinstance(p, Text) and p.text.endswith(CLIPPED) for p in primitives):
        footer += f"   {CLIPPED.strip()} clipped at the edge of its row"
    foot = height - FOOTER_MM + TEXT_MM + 1.5
    primitives += [
        Text(MARGIN_MM, HEADER_MM - 3.0, LABEL_MM, cut),
        Text(MARGIN_MM, foot, TEXT_MM, footer),
        Text(width - MARGIN_MM, foot, TEXT_MM, "Research use only", right=True),
    ]
    kind = "Synthetic electrocardiogram" if record.meta.synthetic else "Electrocardiogram"
    description = f"{kind}, leads {', '.join(shown)}; {footer}; research use only."
    if shade:
        description = f"{description} Shaded, darker is more. {shade.words()}"
    told = " ".join(description.split())
    shaded = shade.words() if shade else ""
    return Layout(width, height, tuple(primitives), title, told, tuple(strips), shaded)


def _near(record: Record, start_s: float) -> tuple[np.ndarray, int]:
    """mV [lead, time] of what is shown from `start_s` on, of a long record no more than that, and
    which of the record's samples is the first of it."""
    if not record.is_long:
        return record.sig, 0
    first = max(0, int((min(start_s, record.duration_s - STRIP_S)) * record.fs) - 1)
    last = int((start_s + STRIP_S) * record.fs) + 2
    return record.piece(first, min(last, record.n_samples)), first


def _strips(known: Sequence[str], start_s: float, end_s: float) -> list[Strip]:
    """Each lead's place, row by row: 3 x 4 and a long strip, or whole rows for a few leads.

    The columns follow each other in time, as on a cart; where less than 10 s are left, a later
    column goes back far enough to be filled. Columns without a known lead give up their width.
    """
    left = MARGIN_MM + PULSE_MM
    if len(known) <= FEW_LEADS:
        return [Strip(name, row, left, start_s, end_s, True) for row, name in enumerate(known)]
    columns = [c for c in COLUMNS if any(name in known for name in c)]
    span = STRIP_S / len(columns)
    strips = []
    n_rows = 0
    for i in range(3):
        row = [(k, column[i]) for k, column in enumerate(columns) if column[i] in known]
        for j, (k, name) in enumerate(row):
            begin = max(start_s, min(start_s + k * span, end_s - span))
            x = left + k * span * MM_PER_S
            strips.append(Strip(name, n_rows, x, begin, min(begin + span, end_s), j == 0))
        n_rows += bool(row)
    rhythm = next((name for name in RHYTHM_LEADS if name in known), known[0])
    return [*strips, Strip(rhythm, n_rows, left, start_s, end_s, True)]


def _bands(shade: Shade, strips: Sequence[Strip]) -> list[Band]:
    """Behind the traces, as long as each is shown."""
    return [
        _band(strip, s, strip.top + (ROW_MM - BAND_MM) / 2, BAND_MM)
        for strip in strips
        for s in shade.stretches(strip.lead, strip.start_s, strip.end_s)
    ]


def _band(strip: Strip, stretch: tuple[float, float, str], y: float, height: float) -> Band:
    begin_s, end_s, colour = stretch
    x = strip.x + (begin_s - strip.start_s) * MM_PER_S
    return Band(x, y, (end_s - begin_s) * MM_PER_S, height, colour, strip.lead)


def _legend(
    shade: Shade, strips: Sequence[Strip], top: float, start_s: float, end_s: float
) -> tuple[list[Lines | Text | Band], float]:
    """Under the rows: the map, where traces show their leads in part alone, and what the shades
    mean; and at which y it ends. The map's time is that of the long strip above it."""
    left = MARGIN_MM + PULSE_MM
    out: list[Lines | Text | Band] = []
    leads = shade.explanation.leads if shade.explanation else ()
    whole = {s.lead for s in strips if (s.start_s, s.end_s) == (start_s, end_s)}
    with_map = not set(leads) <= whole
    if with_map:
        top += 2.0
        for row, lead in enumerate(leads):
            y, strip = top + row * MAP_MM, Strip(lead, row, left, start_s, end_s, True)
            for stretch in shade.stretches(lead, start_s, end_s):
                out.append(_band(strip, stretch, y, MAP_MM))
            out.append(Text(left - 1.5, y + MAP_MM - 0.9, TEXT_MM, lead, right=True))
        bottom, right = top + len(leads) * MAP_MM, left + (end_s - start_s) * MM_PER_S
        level = [np.array([(left, y), (right, y)]) for y in np.arange(top, bottom + 0.1, MAP_MM)]
        seconds = np.arange(left, right + 0.1, MM_PER_S)
        upright = [np.array([(x, top), (x, bottom)]) for x in seconds]
        out.append(Lines((*level, *upright), FINE_MM, BOLD))
        top = bottom
    for i, line in enumerate(shade.legend(list(dict.fromkeys(s.lead for s in strips)), with_map)):
        top += LEGEND_MM
        out.append(Text(left, top, TEXT_MM, line))
        if shade.explanation and not i:
            for k, colour in enumerate(SHADES):
                out.append(Band(MARGIN_MM + 3.0 * k, top - 3.0, 3.0, 3.6, colour))
    return out, top


def _grid(n_rows: int) -> list[Lines | Text]:
    """1 mm squares, every fifth line bold."""
    x0, y0 = MARGIN_MM, HEADER_MM
    x1, y1 = x0 + PULSE_MM + STRIP_S * MM_PER_S, y0 + n_rows * ROW_MM
    upright = [np.array([(x, y0), (x, y1)]) for x in np.arange(x0, x1 + 0.5)]
    level = [np.array([(x0, y), (x1, y)]) for y in np.arange(y0, y1 + 0.5)]
    fine = [line for lines in (upright, level) for i, line in enumerate(lines) if i % 5]
    bold = upright[::5] + level[::5]
    return [Lines(tuple(fine), FINE_MM, FINE), Lines(tuple(bold), BOLD_MM, BOLD)]


def _row(
    strips: Sequence[Strip], shown: dict[str, np.ndarray], fs: float, origin: int
) -> list[Lines | Text]:
    """A row's calibration mark, traces, lead names, and marks between them; origin: which of the
    record's samples is the first that is given."""
    traces = [_trace(s, shown[s.lead], fs, origin) for s in strips]
    top = strips[0].top
    baseline = top + ROW_MM / 2 + _shift([y for _, y in traces])
    end, up = 5.0 + PULSE_S * MM_PER_S, PULSE_MV * MM_PER_MV
    pulse = np.array([(0, 0), (5, 0), (5, -up), (end, -up), (end, 0), (PULSE_MM, 0)])
    out: list[Lines | Text] = [Lines((pulse + (MARGIN_MM, baseline),), TRACE_MM, INK)]
    for strip, (x, y) in zip(strips, traces, strict=True):
        on_paper = np.clip(baseline - y, top, top + ROW_MM)
        cut = bool(np.any(on_paper != baseline - y, where=np.isfinite(y)))
        points = np.column_stack([x, on_paper])
        label = strip.lead + CLIPPED if cut else strip.lead
        rise = baseline - LABEL_RISE_MM
        at = _free(points, strip.x + 1.0, rise, 0.55 * LABEL_MM * len(label))
        out.append(Text(at, rise, LABEL_MM, label))
        out.append(Lines(_unbroken(points), TRACE_MM, INK, strip.lead))
        if not strip.first:
            mark = np.array([(strip.x, baseline - 1.5), (strip.x, baseline + 1.5)])
            out.append(Lines((mark,), MARK_MM, INK))
    return out


def _trace(strip: Strip, sig: np.ndarray, fs: float, origin: int) -> tuple[np.ndarray, np.ndarray]:
    """x in mm on the paper and y in mm above the lead's median, one entry a sample."""
    first = int(np.ceil(strip.start_s * fs - 1e-6))
    last = min(int(np.floor(strip.end_s * fs + 1e-6)) + 1, origin + len(sig))
    x = strip.x + (np.arange(first, last) / fs - strip.start_s) * MM_PER_S
    y = sig[first - origin : last - origin].astype(np.float64) * MM_PER_MV
    return x, y - np.nanmedian(y) if np.isfinite(y).any() else y


def _shift(traces: Sequence[np.ndarray]) -> float:
    """How far down (whole mm) a row's baseline moves so that its tallest waves fit."""
    every = np.concatenate(traces)
    every = every[np.isfinite(every)]
    if every.size == 0 or np.abs(every).max() <= ROW_MM / 2:
        return 0.0
    return float(np.clip(round((every.max() + every.min()) / 2), -MAX_SHIFT_MM, MAX_SHIFT_MM))


def _free(points: np.ndarray, x: float, y: float, width: float) -> float:
    """Where to the right of `x` (mm) a lead name fits above the trace, else `x`."""
    high = points[points[:, 1] < y + 1.0, 0]
    for to_right in range(round(MAX_SLIDE_MM)):
        begin = x + to_right
        if not np.any((high > begin - 0.6) & (high < begin + width + 0.6)):
            return begin
    return x


def _unbroken(points: np.ndarray) -> tuple[np.ndarray, ...]:
    """The runs of two points or more between missing samples."""
    finite = np.isfinite(points).all(axis=1)
    runs = np.split(points, np.flatnonzero(np.diff(finite)) + 1)
    return tuple(run for run in runs if len(run) > 1 and np.isfinite(run[0]).all())


def _svg(p: Lines | Text | Band) -> str:
    if isinstance(p, Lines):
        return _svg_lines(p)
    return _svg_band(p) if isinstance(p, Band) else _svg_text(p)


def _svg_band(p: Band) -> str:
    lead = f" data-shade={quoteattr(p.lead)}" if p.lead else ""
    return (
        f'<rect{lead} x="{_short(p.x)}" y="{_short(p.y)}" width="{_short(p.width)}" '
        f'height="{_short(p.height)}" fill="{p.colour}"/>'
    )


def _svg_lines(p: Lines) -> str:
    runs = (" ".join(f"{_short(x)},{_short(y)}" for x, y in run.tolist()) for run in p.lines)
    d = "".join(f"M{run}" for run in runs)
    lead = f" data-lead={quoteattr(p.lead)}" if p.lead else ""
    return f'<path{lead} stroke="{p.colour}" stroke-width="{p.width:g}" d="{d}"/>'


def _short(value: float) -> str:
    """Two decimals, without the zeros that say nothing."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _svg_text(p: Text) -> str:
    end = ' text-anchor="end"' if p.right else ""
    return (
        f'<text x="{_short(p.x)}" y="{_short(p.y)}" font-size="{p.size:g}"{end} fill="{INK}" '
        f'stroke="{PAPER}" stroke-width="{2 * HALO_MM:g}" paint-order="stroke" '
        f'xml:space="preserve">{escape(p.text)}</text>'
    )


def _plain(text: str) -> str:
    """The letters that Pillow's own font has: accents are dropped, other scripts become `?`."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode("ascii")


@lru_cache(maxsize=16)
def _font(px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(px)
