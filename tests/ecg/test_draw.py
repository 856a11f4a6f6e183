"""The print against closed forms: 1 mV is 10 mm, 1 s is 25 mm, wherever it is drawn."""

import io
import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ecg import draw
from ecg.errors import UnservableError
from ecg.explain import Explanation
from ecg.leads import INDEPENDENT_LEADS, LEADS
from ecg.record import Meta, Record
from ecg.shading import SHADES, Shade

SVG = "{http://www.w3.org/2000/svg}"
FS = 200.0


def a_record(leads=LEADS, duration_s=10.0, fs=FS, fill=0.0):
    sig = np.full((len(leads), round(duration_s * fs)), fill, dtype=np.float32)
    return Record(sig, fs, tuple(leads))


def a_step(at_s, until_s, mv, leads=("II",), **kwargs):
    record = a_record(leads, **kwargs)
    record.sig[:, round(at_s * record.fs) : round(until_s * record.fs)] += mv
    return record


def points(path):
    """Each run of a path as [point, (x, y)] in mm."""
    runs = path.get("d").split("M")[1:]
    return [np.array([xy.split(",") for xy in run.split()], dtype=float) for run in runs]


def traces(svg):
    """(lead, runs) of each trace, in drawing order."""
    paths = ET.fromstring(svg).iter(f"{SVG}path")
    return [(p.get("data-lead"), points(p)) for p in paths if p.get("data-lead")]


def texts(svg):
    return [t.text or "" for t in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_millivolt_is_10_mm_and_a_second_25_mm():
    ((lead, (trace,)),) = traces(draw.print_svg(a_step(2.0, 5.0, 1.0)))
    assert lead == "II"
    assert np.ptp(trace[:, 1]) == pytest.approx(10.0, abs=0.011)
    high = trace[trace[:, 1] < trace[0, 1] - 5.0, 0]  # y points down
    assert high[0] - trace[0, 0] == pytest.approx(50.0, abs=0.011)
    assert high[-1] - high[0] == pytest.approx(75.0 - 25.0 / FS, abs=0.011)
    assert trace[-1, 0] - trace[0, 0] == pytest.approx(250.0 - 25.0 / FS, abs=0.011)


@pytest.mark.parametrize("fs", [50.0, 100.0, 360.0, 500.0, 4000.0])
def test_the_scale_does_not_depend_on_fs(fs):
    ((_, (trace,)),) = traces(draw.print_svg(a_step(4.0, 5.0, -1.5, fs=fs)))
    low = trace[trace[:, 1] > trace[0, 1] + 5.0, 0]
    assert low[0] - trace[0, 0] == pytest.approx(100.0, abs=0.011)
    assert np.ptp(trace[:, 1]) == pytest.approx(15.0, abs=0.011)


def test_the_calibration_mark_is_1_mv_and_200_ms():
    paths = [p for p in ET.fromstring(draw.print_svg(a_record())).iter(f"{SVG}path")]
    marks = [p for p in map(points, paths) if len(p) == 1 and len(p[0]) == 6]
    assert len(marks) == 4  # one a row
    for (mark,) in marks:
        assert np.ptp(mark[:, 1]) == 10.0
        assert mark[3, 0] - mark[2, 0] == 5.0


def test_the_grid_is_every_millimetre_and_bold_every_fifth():
    lines = [p for p in draw.layout(a_record()).primitives if isinstance(p, draw.Lines)]
    fine, bold = lines[0], lines[1]
    assert bold.width > fine.width
    for axis in (0, 1):
        across = [line[0, axis] for line in bold.lines if line[0, axis] == line[1, axis]]
        assert np.all(np.diff(across) == 5.0)
        both = [ln[0, axis] for ln in (*fine.lines, *bold.lines) if ln[0, axis] == ln[1, axis]]
        assert np.all(np.diff(sorted(both)) == 1.0)


def test_three_by_four_and_a_long_strip_follow_each_other_in_time():
    drawn = traces(draw.print_svg(a_record()))
    rows = [["I", "aVR", "V1", "V4"], ["II", "aVL", "V2", "V5"], ["III", "aVF", "V3", "V6"]]
    assert [lead for lead, _ in drawn] == [*itertools.chain(*rows), "II"]
    begin = [runs[0][0, 0] for _, runs in drawn]
    assert np.allclose(np.diff(begin[:4]), 2.5 * 25.0)
    assert begin[-1] == begin[0]
    assert np.ptp(drawn[-1][1][0][:, 0]) == pytest.approx(250.0 - 25.0 / FS, abs=0.011)


def test_a_moment_lies_at_the_same_x_in_its_column_and_in_the_long_strip():
    drawn = traces(draw.print_svg(a_step(6.0, 6.005, 1.0, LEADS)))
    peaks = {runs[0][np.argmin(runs[0][:, 1]), 0] for lead, runs in drawn if np.ptp(runs[0][:, 1])}
    (x,) = peaks
    assert x - drawn[0][1][0][0, 0] == pytest.approx(150.0, abs=0.011)


def test_every_lead_is_centred_on_its_row():
    record = a_record(fill=30.0)  # mV, an electrode's offset
    for _, runs in traces(draw.print_svg(record)):
        assert np.all(runs[0][:, 1] == runs[0][0, 1])
    page = draw.layout(record)
    assert not any("clipped" in p.text for p in page.primitives if isinstance(p, draw.Text))


def test_a_gap_breaks_the_line():
    record = a_record(["II"])
    record.sig[0, 400:500] = np.nan
    svg = draw.print_svg(record)
    ((_, runs),) = traces(svg)
    assert "nan" not in svg
    assert [len(run) for run in runs] == [400, len(record.sig[0]) - 500]
    assert runs[1][0, 0] - runs[0][0, 0] == pytest.approx(500 / FS * 25.0, abs=0.011)


def test_a_lead_without_samples_is_derived_or_left_empty():
    record = a_record()
    record.sig[0] = np.nan
    assert "derived: I" in draw.print_svg(record)
    record.sig[6] = np.nan
    assert "V1" not in dict(traces(draw.print_svg(record)))


def test_a_tall_wave_stays_in_its_row_and_says_so():
    svg = draw.print_svg(a_step(1.0, 1.1, 9.0, ["V1", "V2"]))
    for row, (_, runs) in enumerate(traces(svg)):
        top = draw.HEADER_MM + row * draw.ROW_MM
        assert runs[0][:, 1].min() == top
        assert runs[0][:, 1].max() <= top + draw.ROW_MM
    assert {"V1 *", "V2 *"} <= set(texts(svg))
    assert any("* clipped" in text for text in texts(svg))


def test_a_row_gives_way_before_it_clips():
    svg = draw.print_svg(a_step(1.0, 1.1, -2.5, ["V2"]))
    ((_, (trace,)),) = traces(svg)
    assert np.ptp(trace[:, 1]) == pytest.approx(25.0, abs=0.011)
    assert "clipped" not in svg


def test_one_lead_gets_the_whole_width():
    page = draw.layout(a_record(["aVF"]))
    assert [p.lead for p in page.primitives if isinstance(p, draw.Lines) and p.lead] == ["aVF"]
    assert page.height == draw.HEADER_MM + draw.ROW_MM + draw.FOOTER_MM


@pytest.mark.parametrize(
    ("leads", "drawn"),
    [
        (["V5", "V1"], ["V1", "V5"]),
        (["III", "I"], ["I", "aVR", "II", "aVL", "III", "aVF", "II"]),
        (["V1", "V2", "V3", "V6"], ["V1", "V2", "V3", "V6", "V1"]),
    ],
)
def test_unknown_leads_are_left_out(leads, drawn):
    assert [lead for lead, _ in traces(draw.print_svg(a_record(leads)))] == drawn


def test_derived_leads_are_named():
    assert "derived: III, aVR, aVL, aVF" in draw.print_svg(a_record(["I", "II", "V1"]))
    assert "derived" not in draw.print_svg(a_record())


def test_a_long_record_shows_the_ten_seconds_asked_for():
    record = a_step(31.0, 31.1, 1.0, duration_s=60.0)
    ((_, (first,)),) = traces(draw.print_svg(record))
    assert np.ptp(first[:, 1]) == 0.0
    svg = draw.print_svg(record, start_s=30.0)
    ((_, (trace,)),) = traces(svg)
    peak = trace[np.argmin(trace[:, 1]), 0]
    assert peak - trace[0, 0] == pytest.approx(25.0, abs=0.011)
    assert any("30 to 40 s of 60 s" in text for text in texts(svg))


@pytest.mark.parametrize("start_s", [-1.0, 10.0, float("nan")])
def test_a_start_outside_the_record_is_refused(start_s):
    with pytest.raises(UnservableError, match="start_s"):
        draw.print_svg(a_record(), start_s=start_s)


def test_a_short_record_fills_its_columns_and_says_that_they_overlap():
    svg = draw.print_svg(a_record(duration_s=6.0))
    widths = [np.ptp(runs[0][:, 0]) for _, runs in traces(svg)]
    assert widths[:-1] == pytest.approx([2.5 * 25.0] * 12, abs=25.0 / FS + 0.011)
    assert any("columns overlap" in text for text in texts(svg))


def test_the_footer_says_the_scale_and_the_use():
    footer = " ".join(texts(draw.print_svg(a_record(fs=250.0))))
    for words in ("25 mm/s", "10 mm/mV", "250 Hz", "Research use only"):
        assert words in footer


@pytest.mark.parametrize("title", ['<script>alert("x")</script> & co', "a\x00b\nc", "x" * 500])
def test_a_title_is_text_and_nothing_else(title):
    root = ET.fromstring(draw.print_svg(a_record(["I"]), title))
    assert root.get("role") == "img"
    assert root.get("viewBox") == f"0 0 {root.get('width')[:-2]} {root.get('height')[:-2]}"
    assert not list(root.iter(f"{SVG}script"))
    told = root.find(f"{SVG}title").text
    assert told == "".join(c for c in title if c.isprintable())
    assert "leads I;" in root.find(f"{SVG}desc").text
    draw.print_png(a_record(["I"]), title, px_per_mm=2.0)


@pytest.mark.parametrize("title", ["", "A pupil's title"])
def test_a_synthetic_record_says_so_in_its_print_whatever_its_title(title):
    real = a_record()
    svg = draw.print_svg(replace(real, meta=Meta(synthetic=True)), title)
    (shown,) = [text for text in texts(svg) if text.startswith(draw.SYNTHETIC)]
    assert title in shown
    assert "Synthetic electrocardiogram" in ET.fromstring(svg).find(f"{SVG}desc").text
    assert "ynthetic" not in draw.print_svg(real, title)


def test_the_png_prints_at_true_scale():
    page = draw.layout(a_record())
    image = Image.open(io.BytesIO(draw.print_png(a_record(), px_per_mm=4.0)))
    assert image.format == "PNG"
    assert image.size == (round(page.width * 4), round(page.height * 4))
    assert image.info["dpi"] == pytest.approx((101.6, 101.6), abs=0.01)


def test_both_pictures_are_the_same_drawing():
    record = a_step(3.0, 7.0, 1.0)
    ((_, (trace,)),) = traces(draw.print_svg(record))
    image = Image.open(io.BytesIO(draw.print_png(record, px_per_mm=8.0))).convert("L")
    ink = np.asarray(image) < 128
    for x, y in trace[100:-100:50] * 8.0:
        assert ink[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].any()


def test_an_unreasonable_resolution_is_refused():
    with pytest.raises(ValueError, match="px_per_mm"):
        draw.print_png(a_record(), px_per_mm=500.0)


# Shades: what an explanation names, behind the traces


def an_explanation(leads=INDEPENDENT_LEADS, start_s=0.0, n_windows=50, status="abnormal", **cells):
    """Nothing moved the probability but the cells: lead=(window, log odds)."""
    importance = np.zeros((len(leads), n_windows))
    for lead, (window, value) in cells.items():
        importance[leads.index(lead), window] = value
    end_s = start_s + n_windows * 0.2
    return Explanation(0, start_s, end_s, tuple(leads), importance, status, 0.9, 0.5, 0.3, 0.88)


def shades(svg):
    """(lead, x, y, width, height, colour) of each shade, in mm."""
    return [
        (r.get("data-shade"), *(float(r.get(k)) for k in ("x", "y", "width", "height")))
        + (r.get("fill"),)
        for r in ET.fromstring(svg).iter(f"{SVG}rect")
        if r.get("data-shade")
    ]


def test_a_shade_lies_behind_its_window_in_every_trace_that_shows_it_and_in_the_map():
    shade = Shade(an_explanation(II=(5, 2.0), V1=(26, 1.0)))  # 1.0 to 1.2 s, 5.2 to 5.4 s
    found = shades(draw.print_svg(a_record(), shade=shade))
    x0 = draw.MARGIN_MM + draw.PULSE_MM
    two = [s for s in found if s[0] == "II"]
    assert [s[1] for s in two] == [x0 + 25.0] * 3, "its column, the long strip and the map"
    assert {s[3] for s in two} == {5.0} and len({s[5] for s in two}) == 1
    rows = [draw.HEADER_MM + row * draw.ROW_MM for row in (1, 3)]
    for shaded, top in zip(two[:2], rows, strict=True):
        assert top < shaded[2] and shaded[2] + shaded[4] < top + draw.ROW_MM
    assert two[2][2] > draw.HEADER_MM + 4 * draw.ROW_MM
    one = [s for s in found if s[0] == "V1"]
    assert [s[1] for s in one] == [x0 + 130.0] * 2
    assert len(found) == 5


def test_a_window_whose_trace_is_not_shown_is_in_the_map_alone():
    found = shades(draw.print_svg(a_record(), shade=Shade(an_explanation(V6=(0, 1.0)))))
    ((lead, x, y, *_),) = found
    assert lead == "V6" and x == draw.MARGIN_MM + draw.PULSE_MM
    assert y > draw.HEADER_MM + 4 * draw.ROW_MM


def test_darker_is_more_and_what_speaks_against_the_answer_is_not_shaded():
    cells = {"I": (0, 0.9), "II": (0, 0.7), "V1": (0, 0.5), "V2": (0, 0.3), "V3": (0, 0.1)}
    shade = Shade(an_explanation(**cells, V4=(0, -1.0)))
    of = {lead: colour for lead, *_, colour in shades(draw.print_svg(a_record(), shade=shade))}
    assert [of.get(lead) for lead in cells] == [*reversed(SHADES), None]
    assert "V4" not in of
    lightness = [sum(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in SHADES]
    assert lightness == sorted(lightness, reverse=True)
    normal = Shade(an_explanation(**cells, V4=(0, -1.0), status="normal"))
    assert {s[0] for s in shades(draw.print_svg(a_record(), shade=normal))} == {"V4"}


def test_neighbours_of_one_shade_are_one_band():
    explanation = an_explanation(("II",))
    explanation.importance[0, 10:14] = 1.0
    found = shades(draw.print_svg(a_record(["II"]), shade=Shade(explanation)))
    ((_, x, _, width, *_),) = found
    assert (x, width) == (draw.MARGIN_MM + draw.PULSE_MM + 50.0, 20.0)


def test_leads_that_are_shown_whole_need_no_map():
    shade = Shade(an_explanation(("II", "V1"), V1=(3, 1.0)))
    few = draw.layout(a_record(["II", "V1"]), shade=shade)
    plain = draw.layout(a_record(["II", "V1"]))
    assert few.height == plain.height + 2 * draw.LEGEND_MM
    assert len(shades(draw.print_svg(a_record(["II", "V1"]), shade=shade))) == 1


def test_the_legend_says_what_darker_means_and_what_is_never_shaded():
    svg = draw.print_svg(a_record(), shade=Shade(an_explanation(II=(5, 2.0))))
    legend = " ".join(texts(svg))
    assert "what raised the atrial probability, darker = more" in legend
    assert "never shaded: III, aVR, aVL, aVF (the model reads I and II instead)" in legend
    assert "0.90; 0.30 once the 10% of the windows" in legend and "0.88 with 10%" in legend
    assert "map: each lead over the long strip's time" in legend
    told = ET.fromstring(svg).get("data-shaded")
    assert "II (100%)" in told and "II at 1.0 to 1.2 s" in told
    assert told in ET.fromstring(svg).find(f"{SVG}desc").text
    assert "Without them the answer would turn normal." in told
    held = replace(an_explanation(II=(5, 2.0)), without_named=0.6)
    assert "the answer would stay abnormal" in Shade(held).words()
    left_out = Shade(an_explanation(("I", "II", "V2"), II=(5, 2.0)))
    assert "left out here: V1" in " ".join(texts(draw.print_svg(a_record(), shade=left_out)))


@pytest.mark.parametrize("leads", [INDEPENDENT_LEADS, ("V3",)])
def test_the_legend_fits_on_the_paper(leads):
    shade = Shade(an_explanation(leads, 86_380.0, V3=(5, 2.0)))
    page = draw.layout(a_record(duration_s=86_390.0, fs=50.0), start_s=86_380.0, shade=shade)
    font = draw._font(32)
    for p in page.primitives:
        if isinstance(p, draw.Text) and not p.right:
            assert p.x + font.getlength(p.text) / 32 * p.size < page.width - 3.0, p.text


def test_only_the_part_of_a_segment_that_is_printed_is_shaded():
    shade = Shade(an_explanation(("II",), 10.0, II=(24, 1.0)))  # 14.8 to 15.0 s
    record = a_record(["II"], duration_s=30.0)
    ((_, x, _, width, *_),) = shades(draw.print_svg(record, start_s=14.9, shade=shade))
    assert x == draw.MARGIN_MM + draw.PULSE_MM
    assert width == pytest.approx(2.5, abs=0.011)
    assert not shades(draw.print_svg(record, start_s=20.0, shade=shade))


def test_an_unmoved_probability_and_an_abstention_are_said():
    flat = draw.layout(a_record(), shade=Shade(an_explanation()))
    assert "No window of 0.2 s alone moved" in flat.shaded
    none = draw.print_svg(a_record(), shade=Shade(None))
    assert not shades(none) and any("gave no answer" in text for text in texts(none))


def test_both_pictures_have_the_same_shades():
    shade = Shade(an_explanation(("II",), II=(20, 1.0)))
    (band,) = [p for p in draw.layout(a_record(["II"]), shade=shade).primitives
               if isinstance(p, draw.Band) and p.lead]  # fmt: skip
    png = draw.print_png(a_record(["II"]), px_per_mm=8.0, shade=shade)
    image = np.asarray(Image.open(io.BytesIO(png)))
    colour = [int(band.colour[i : i + 2], 16) for i in (1, 3, 5)]
    inside = image[round(band.y * 8) + 4, round(band.x * 8) + 4]
    assert np.abs(inside.astype(int) - colour).max() <= 4
    assert (
        np.abs(image[round(band.y * 8) + 4, round(band.x * 8) - 4].astype(int) - colour).max() > 4
    )
