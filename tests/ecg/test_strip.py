"""The strip over a long record: what lies where, and that a day takes little memory."""

import re
import tracemalloc
from xml.etree import ElementTree

import numpy as np
import pytest

from ecg.draw import layout
from ecg.record import Meta, Record, Stored, make_stored_record
from ecg.strip import COLUMNS, envelope, rhythm_lead, strip_svg

SVG = "{http://www.w3.org/2000/svg}"


def lasting(duration_s, fs=100.0, leads=("I", "II"), value=0.0):
    n = round(duration_s * fs)
    time = np.arange(n) / fs
    sig = np.tile(np.sin(2 * np.pi * 1.3 * time) + value, (len(leads), 1))
    return Record(sig.astype(np.float32), fs, leads)


@pytest.mark.parametrize(
    ("duration_s", "rows", "row_s"),
    [(400, 7, 60), (1440, 24, 60), (1441, 5, 300), (7200, 24, 300), (86_400, 24, 3600)],
)
def test_rows_are_few_and_their_length_is_round(duration_s, rows, row_s):
    root = ElementTree.fromstring(strip_svg(lasting(duration_s, fs=50.0)))
    assert (int(root.get("data-rows")), float(root.get("data-row-s"))) == (rows, row_s)
    labels = [t.text for t in root.iter(f"{SVG}text")]
    assert "0:00:00" in labels
    last = (rows - 1) * row_s
    assert f"{last // 3600}:{last // 60 % 60:02}:{last % 60:02}" in labels


def test_a_column_reaches_from_the_lowest_to_the_highest_of_its_seconds():
    record = lasting(3600.0)
    found = envelope(record, 0)
    assert found.row_s == 300 and found.low.shape == (12, COLUMNS)
    sig = record.sig[0].copy()
    sig[: 100 * 300] *= 2  # the first row
    at = round(2000.5 * 100)
    sig[at] = 5.0
    found = envelope(Record(sig[None], 100.0, ("I",)), 0)
    assert np.median(found.high[0]) > 1.8 * np.median(found.high[1])
    row, column = np.unravel_index(np.argmax(found.high), found.high.shape)
    assert abs(row * 300 + (column + 0.5) * 300 / COLUMNS - 2000.5) < 300 / COLUMNS


def test_an_offset_is_taken_away_and_a_wander_followed():
    time = np.arange(360_000) / 100
    wander = lasting(3600.0).sig[:1] + 3 * np.sin(2 * np.pi * time / 120) + 7
    found = envelope(Record(wander.astype(np.float32), 100.0, ("I",)), 0)
    assert np.nanmax(np.abs(found.high)) < 1.5 and np.nanmax(np.abs(found.low)) < 1.5


def test_where_nothing_was_recorded_nothing_is_drawn():
    record = lasting(1200.0)
    record.sig[:, 30_000:48_000] = np.nan
    found = envelope(record, 1)
    empty = np.isnan(found.low).ravel()
    assert empty[300 * 15 + 2 : 480 * 15 - 2].all() and empty.sum() <= 180 * 15 + 2
    text = strip_svg(record)
    assert "nan" not in text
    paths = re.findall(r'data-of-row="(\d+)"', text)
    assert paths == [str(i) for i in (*range(5), *range(8, 20))]


def test_the_rhythm_lead_is_ii_then_v1_then_the_first():
    assert rhythm_lead(lasting(10, leads=("V1", "II"))) == "II"
    assert rhythm_lead(lasting(10, leads=("V2", "V1"))) == "V1"
    assert rhythm_lead(lasting(10, leads=("V5", "V6"))) == "V5"
    assert "Lead V5," in strip_svg(lasting(400, leads=("V5",)))


def test_a_synthetic_record_says_so():
    record = lasting(400)
    made = Record(record.sig, record.fs, record.leads, Meta(synthetic=True))
    assert "Synthetic ECG" in strip_svg(made) and "Synthetic" not in strip_svg(record)


def test_noise_in_a_part_does_not_flatten_the_rest():
    record = lasting(3600.0)
    record.sig[:, :20_000] *= 50
    said = re.findall(r"([\d.]+) mV a row", strip_svg(record))[0]
    assert float(said) < 5


def test_a_day_of_twelve_leads_is_printed_and_drawn_in_little_memory():
    hour = np.tile(np.rint(1000 * lasting(60, fs=250.0).sig[:1]).astype("<i2"), (3, 60))
    sig = np.tile(hour, 6)
    stored = Stored.of(sig, [0.001] * 3)
    record = make_stored_record(stored, 250, ["I", "II", "V1"])
    tracemalloc.start()
    strip_svg(record)
    page = layout(record, start_s=6 * 3600 - 15.0)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak < 70
    assert "21585 to 21595 s of 21600 s" in page.description


def test_the_print_of_a_long_record_is_that_of_what_lies_there():
    long = lasting(1000.0)
    long.sig[:, 70_000:71_000] *= np.linspace(1, 2, 1000)
    short = Record(long.piece(69_900, 71_200), 100.0, long.leads)
    of_long, of_short = layout(long, start_s=700.0), layout(short, start_s=1.0)
    assert len(of_long.primitives) == len(of_short.primitives)
    for a, b in zip(of_long.primitives, of_short.primitives, strict=True):
        if hasattr(a, "lines"):
            for one, other in zip(a.lines, b.lines, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6)
