"""Any record that a format can hold comes back out of every reader, to the format's own step."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg import formats
from ecg.errors import EcgError, UnservableError
from ecg.formats import WRITERS, File, Hints, fhir, read
from ecg.leads import LEADS
from ecg.record import LARGEST_MV, Record
from tests.ecg.formats import test_aecg, test_apple, test_ishne, test_muse, test_scp, test_sierra

NOTHING = Hints()
# Many kinds, each with a file of its own to write: a few of each here, many more in the long run.
FEW = settings(max_examples=max(12, settings().max_examples // 8))
EXACT = {"npz", "hdf5", "csv"}  # float32 as it is; the others round to integers
FINEST_MV = {"wfdb": 1e-4, "dicom": 1e-3, "edf": 1e-3, "fhir": 1e-3}
COARSER = 10 / 32_000  # a step as a share of the peak, at most: steps are powers of ten
USUAL_FS = (50, 62.5, 100, 125, 128, 180, 200, 240, 250, 257, 300, 333.25, 360, 500, 512, 977, 1000)

LEAD_LISTS = st.lists(st.sampled_from(LEADS), min_size=1, max_size=12, unique=True)
ANY_FS = st.one_of(
    st.sampled_from(USUAL_FS),
    st.floats(50, 1100).map(lambda fs: round(fs, 4)),
    st.sampled_from((50.0, 4000.0)),
)
PEAKS = st.one_of(
    st.floats(0.5, 5), st.sampled_from((0.0, 1e-6, 1e-3, 3.2767, 32.767, 32.768, 327.7, 1e4, 9e7))
)


def counts_of(draw, n_leads, n_samples, largest=32_767):
    """Whole numbers [lead, time]: noise, the ends of their range, steps, or one number."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (n_leads, n_samples)
    match draw(st.sampled_from(("noise", "small", "ends", "steps", "constant"))):
        case "noise":
            return rng.integers(-largest, largest + 1, shape)
        case "small":
            return rng.integers(-9, 10, shape)
        case "ends":
            return rng.choice((-largest, -1, 0, 1, largest), shape)
        case "steps":
            return np.repeat(rng.integers(-largest, largest + 1, (n_leads, 1)), n_samples, axis=1)
        case _:
            return np.full(shape, int(rng.integers(-largest, largest + 1)))


def gaps_of(draw, n_leads, n_samples):
    """Where samples are missing, bool [lead, time]: never everywhere."""
    missing = np.zeros((n_leads, n_samples), dtype=bool)
    for _ in range(draw(st.integers(0, 3))):
        lead = draw(st.integers(0, n_leads - 1))
        start = draw(st.sampled_from((0, n_samples // 2, n_samples - 1)))
        missing[lead, start : start + draw(st.sampled_from((1, 5, n_samples // 3)))] = True
    return missing


@st.composite
def records(draw):
    """With the corners of what a Record may be: floats, not counts."""
    fs = float(draw(ANY_FS))
    leads = tuple(draw(LEAD_LISTS))
    n_samples = math.ceil(5 * fs) + draw(st.sampled_from((0, 1, 7, 250)))
    counts = counts_of(draw, len(leads), n_samples)
    sig = (counts / 32_767 * draw(PEAKS)).astype(np.float32)
    sig[gaps_of(draw, *sig.shape)] = np.nan
    return Record(sig, fs, leads)


@pytest.mark.parametrize("name", WRITERS)
@FEW
@given(record=records())
def test_what_is_written_is_read_back(name, record):
    writer = WRITERS[name]
    if name == "edf":  # where missing samples at the end look like what fills a data record
        there = np.flatnonzero(~np.isnan(record.sig).all(axis=0))
        short = there[-1] + 1 < 5 * record.fs
        record = replace(record, sig=record.sig[:, : None if short else there[-1] + 1])
        if short:
            return
    try:
        content = writer.write([record] if writer.several else record)
    except UnservableError:  # more than the format has room for
        assert name not in EXACT and np.nanmax(np.abs(record.sig)) > 1e3
        return
    (back,) = read([File(content)], Hints(repr(record.fs), None, "mV"))
    near = 5e-7 if name == "edf" else 1e-11  # EDF has eight characters for the time of some samples
    assert back.leads == record.leads and back.fs == pytest.approx(record.fs, rel=near)
    np.testing.assert_array_equal(np.isnan(back.sig), np.isnan(record.sig))
    assert back.meta.record_id is None and back.meta.ignored_channels == ()
    if name in EXACT:
        np.testing.assert_array_equal(back.sig, record.sig)
        return
    peak = float(np.nanmax(np.abs(record.sig)))
    coarsest = FINEST_MV[name] if name == "fhir" else max(FINEST_MV[name], COARSER * peak)
    off = np.nanmax(np.abs(back.sig.astype(float) - record.sig))
    assert off <= coarsest / 2 * 1.001 + 1e-6 * peak


@FEW
@given(st.data())
def test_several_records_come_back_in_their_order(data):
    fs, leads = float(data.draw(ANY_FS)), tuple(data.draw(LEAD_LISTS))
    n, n_samples = data.draw(st.integers(1, 6)), math.ceil(5 * fs)
    sigs = counts_of(data.draw, n * len(leads), n_samples).reshape(n, len(leads), -1) / 1000
    several = [Record(sig.astype(np.float32), fs, leads) for sig in sigs]
    for name in ("npz", "hdf5"):
        back = read([File(WRITERS[name].write(several))], NOTHING)
        assert [r.fs for r in back] == [fs] * n and {r.leads for r in back} == {leads}
        np.testing.assert_array_equal([r.sig for r in back], [r.sig for r in several])


# Formats that are read alone: files as their devices write them, out of integer counts


@dataclass(frozen=True)
class Device:
    """`write(counts, leads, fs, step_uv)`; leads: those that it can have, all of them in this order
    where they are `fixed`; largest: count; gaps: `write` takes `missing`, bool [lead, time]."""

    write: Callable[..., bytes | str]
    fs: tuple[float, ...] = USUAL_FS
    leads: tuple[str, ...] = LEADS
    steps_uv: tuple[float, ...] = (1.0, 2.5, 4.88, 5.0)
    fixed: bool = False
    n_samples: int | None = None
    largest: int = 32_767
    gaps: bool = False


def json_file(counts, leads, fs, step_uv, missing, units="uV"):
    values = counts * step_uv / {"uV": 1, "mV": 1000}[units]
    rows = [
        [None if gone else v for v, gone in zip(*pair, strict=True)]
        for pair in zip(values.tolist(), missing.tolist(), strict=True)
    ]
    return json.dumps({"sig": rows, "fs": fs, "leads": leads, "units": units})


def aecg_file(counts, leads, fs, step_uv, missing):
    words = np.where(missing, "NA", counts.astype(str))
    sequences = [
        test_aecg.sequence(f"MDC_ECG_LEAD_{lead.upper()}", " ".join(row), scale=repr(step_uv))
        for lead, row in zip(leads, words, strict=True)
    ]
    times = test_aecg.times(repr(1000 / fs), "ms")
    return test_aecg.document(test_aecg.series(test_aecg.sequence_set(times, *sequences)))


def scp_file(counts, leads, fs, step_uv, order, coding):
    coded = {"default": test_scp.default_coded, "none": test_scp.plain_coded}[coding]
    more = {"order": order, "coded": coded, "nanovolts": round(1000 * step_uv)}
    sections = {
        1: test_scp.PATIENT,
        2: test_scp.DEFAULT if coding == "default" else None,
        3: test_scp.definition(leads, [(1, counts.shape[1])] * len(leads)),
        6: test_scp.samples(counts, interval=round(1e6 / fs), **more),
    }
    return test_scp.assembled({k: v for k, v in sections.items() if v is not None})


def muse_file(counts, leads, fs, step_uv):
    rows = counts.astype("<i2")
    waveform = test_muse.waveform("Rhythm", rows, leads, repr(fs), per_bit=repr(step_uv))
    return test_muse.document(waveform)


def sierra_file(counts, leads, fs, step_uv, compressed):
    ms = round(1000 * counts.shape[1] / fs)
    if compressed:
        text = test_sierra.b64(test_sierra.xli(test_sierra.stored(counts)))
        return test_sierra.newer(text, leads=leads, ms=ms)
    return test_sierra.newer(
        test_sierra.b64(counts.astype("<i2").tobytes()), "", leads=leads, ms=ms
    )


def ishne_file(counts, leads, fs, step_uv):
    nanovolts = (round(1000 * step_uv),) * len(leads)
    return test_ishne.written(counts.astype("<i2"), leads, round(fs), nanovolts)


def apple_file(counts, leads, fs, step_uv, number):
    values = counts[0] * step_uv
    header = test_apple.ENGLISH.replace("512 hertz", f"{fs:g} hertz")
    return header + test_apple.body(values, test_apple.NUMBERS[number])


def fhir_file(counts, leads, fs, step_uv, missing, version):
    sig = np.where(missing, np.nan, counts * step_uv / 1000).astype(np.float32)
    return fhir.write(Record(sig, float(fs), tuple(leads)), version, step_uv / 1000)


WHOLE_FS = tuple(fs for fs in USUAL_FS if fs == int(fs))
OF_MICROSECONDS = (50, 62.5, 100, 125, 200, 250, 500, 1000)
WITHIN_TEN_BITS = 2_000  # of the second differences that XLI keeps
DEVICES = {
    ("json", "mV"): Device(partial(json_file, units="mV"), gaps=True, largest=10_000_000),
    ("json", "uV"): Device(json_file, gaps=True, largest=10_000_000),
    ("aecg", ""): Device(aecg_file, gaps=True),
    **{
        ("scp", f"{coding} {order}"): Device(
            partial(scp_file, order=order, coding=coding), OF_MICROSECONDS, largest=8_000
        )
        for coding in ("default", "none")
        for order in (0, 1, 2)
    },
    ("muse", ""): Device(muse_file, WHOLE_FS, test_muse.STORED),
    **{
        ("sierra", str(compressed)): Device(
            partial(sierra_file, compressed=compressed),
            (500,),
            steps_uv=(5.0,),
            fixed=True,
            n_samples=5500,
            largest=WITHIN_TEN_BITS if compressed else 32_767,
        )
        for compressed in (True, False)
    },
    ("ishne", ""): Device(ishne_file, WHOLE_FS, tuple(n for n in test_ishne.CODES if n in LEADS)),
    **{
        ("apple", number): Device(
            partial(apple_file, number=number), (512, 511.5), ("I",), (1.0, 0.5)
        )
        for number in test_apple.NUMBERS
    },
    **{
        ("fhir", version): Device(partial(fhir_file, version=version), gaps=True)
        for version in ("R4", "R5")
    },
}


@pytest.mark.parametrize("kind", DEVICES, ids=" ".join)
@FEW
@given(data=st.data())
def test_a_device_s_counts_are_read_as_they_are(kind, data):
    device = DEVICES[kind]
    fs, step_uv = (data.draw(st.sampled_from(of)) for of in (device.fs, device.steps_uv))
    leads = device.leads
    if not device.fixed:
        leads = data.draw(st.lists(st.sampled_from(leads), min_size=1, max_size=3, unique=True))
    n_samples = device.n_samples or math.ceil(5 * fs) + data.draw(st.sampled_from((0, 1, 33)))
    counts = counts_of(data.draw, len(leads), n_samples, device.largest)
    missing = gaps_of(data.draw, *counts.shape) if device.gaps else np.zeros(counts.shape, bool)
    more = {"missing": missing} if device.gaps else {}
    content = device.write(counts, leads, fs, step_uv, **more)
    (back,) = read([File(content if isinstance(content, bytes) else content.encode())], NOTHING)
    assert back.leads == tuple(leads) and back.fs == pytest.approx(fs, rel=1e-9)
    n = back.n_samples
    assert n == n_samples or device.fixed  # of its 11 s the last one is a pulse of calibration
    expected = np.where(missing, np.nan, counts * step_uv / 1000)[:, :n].astype(np.float32)
    np.testing.assert_allclose(back.sig, expected, rtol=2e-7, atol=1e-9)


def test_every_writer_and_every_reader_is_tried():
    """A format that is added must be added here."""
    readers = {reader.__name__.rpartition(".")[2] for reader in formats._READERS}
    assert set(WRITERS) == EXACT | set(FINEST_MV)
    assert {name for name, _ in DEVICES} | set(WRITERS) == readers


# What a sender says beside a file

TEXT = st.text(max_size=12) | st.sampled_from(("100", "1e2", "nan", "inf", "-1", "٣٠٠", "mV", "µV"))
HINTS = st.builds(
    Hints,
    fs=st.none() | TEXT,
    leads=st.none() | st.lists(TEXT | st.sampled_from(LEADS), max_size=4).map(tuple),
    units=st.none() | TEXT,
)
ARRAYS = Record(np.ones((2, 500), np.float32), 100.0, ("II", "V1"))
SILENT = {
    "csv": b"II,V1\n" + b"1,2\n" * 500,
    "json": json.dumps({"sig": [[1.5] * 500] * 2}).encode(),
}


@pytest.mark.parametrize("kind", SILENT)
@given(hints=HINTS)
def test_whatever_is_said_beside_a_file_makes_a_record_or_a_refusal(kind, hints):
    try:
        (record,) = read([File(SILENT[kind])], hints)
    except EcgError as refusal:
        assert refusal.where.startswith(("fs", "units", "leads", "sig"))
        said = [hints.fs, hints.units, *(hints.leads or ())]
        assert not any(word in str(refusal) for word in said if word and len(word) > 4)
    else:
        assert 50 <= record.fs <= 4000 and float(hints.fs) == record.fs
        assert set(record.leads) <= set(LEADS) and np.abs(record.sig).max() < LARGEST_MV
