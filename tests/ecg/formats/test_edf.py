"""EDF: pyEDFlib is the oracle of what is read and of what is written."""

import time
import warnings
from dataclasses import replace

import numpy as np
import pyedflib
import pytest

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import File, Hints, edf, read
from ecg.leads import LEADS
from ecg.record import Meta, Record, Stored, make_record

UNIT = {"dimension": "uV", "physical_min": -32768, "physical_max": 32767}
DIGITAL = {"digital_min": -32768, "digital_max": 32767}


def headers(labels, fs, **more):
    given = {**UNIT, **DIGITAL, "prefilter": "", "transducer": "", **more}
    return [{**given, "label": label, "sample_frequency": fs} for label in labels]


def in_a_file(folder, counts, signals, file_type=pyedflib.FILETYPE_EDFPLUS, notes=()):
    """What pyEDFlib writes of counts, one array a signal."""
    path = folder / "x.edf"
    with pyedflib.EdfWriter(str(path), len(signals), file_type=file_type) as writer:
        writer.setSignalHeaders(signals)
        writer.setPatientName("Jane_Doe")
        for onset, text in notes:
            writer.writeAnnotation(onset, -1, text)
        writer.writeSamples([np.ascontiguousarray(c, np.int32) for c in counts], digital=True)
    return path.read_bytes()


def read_by_pyedflib(folder, content):
    """mV or whatever the unit is, of each signal, and their fs."""
    path = folder / "back.edf"
    path.write_bytes(content)
    with pyedflib.EdfReader(str(path)) as file:
        n = file.signals_in_file
        return [file.readSignal(i) for i in range(n)], list(file.getSampleFrequencies())


def one(content, hints=None):
    (record,) = read([File(content)], hints or Hints())
    return record


def edited(content, at, text):
    return content[:at] + text + content[at + len(text) :]


def raw(signals, n_records, seconds="1", reserved="", version=b"0       ", data=b"", **more):
    """A file by hand. signals: (label, unit, low, high, digital low, digital high, samples)."""
    given = {"patient": "X X X X", "recording": "Startdate X X X X", **more}
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    head = f"{given['patient']:<80}{given['recording']:<80}01.01.8500.00.00"
    head += (
        f"{256 * (1 + len(signals)):<8}{reserved:<44}{n_records:<8}{seconds:<8}{len(signals):<4}"
    )
    columns = [(label, "", *rest[:5], "", rest[5], "") for label, *rest in signals]
    for i, width in enumerate(widths):
        head += "".join(f"{column[i]!s:<{width}}" for column in columns)
    return version + head.encode("latin-1") + data


ONE = ("ECG II", "uV", -32768, 32767, -32768, 32767, 500)


@pytest.fixture
def counts(rng):
    return rng.integers(-3000, 3000, (12, 5000), dtype=np.int16)


@pytest.mark.parametrize("file_type", [pyedflib.FILETYPE_EDF, pyedflib.FILETYPE_EDFPLUS])
def test_it_gives_what_was_stored(tmp_path, counts, file_type):
    labels = [f"ECG {lead}" for lead in LEADS]
    notes = [(0.5, "a"), (3, "b")] if file_type == pyedflib.FILETYPE_EDFPLUS else []
    content = in_a_file(tmp_path, counts, headers(labels, 500), file_type, notes)
    record = one(content)
    np.testing.assert_array_equal(record.sig, (counts * 1e-3).astype(np.float32))
    assert (record.leads, record.fs) == (LEADS, 500)
    assert record.meta == Meta()


def test_24_bits_are_read(tmp_path, rng):
    counts = rng.integers(-(2**23), 2**23 - 1, (3, 5000))
    digital = {"digital_min": -(2**23), "digital_max": 2**23 - 1}
    physical = {"physical_min": -100_000, "physical_max": 100_000}
    signals = headers(["I", "II", "V1"], 250, **digital, **physical)
    content = in_a_file(tmp_path, counts, signals, pyedflib.FILETYPE_BDFPLUS)
    record = one(content)
    expected, _ = read_by_pyedflib(tmp_path, content)
    np.testing.assert_allclose(record.sig, np.array(expected[:3]) * 1e-3, rtol=1e-6, atol=1e-7)
    assert record.leads == ("I", "II", "V1")


@pytest.mark.parametrize("unit", ["uV", "mV", "V", "nV", "µV"])
def test_units_and_ranges_are_each_channels_own(unit):
    counts = np.array([-2048, 0, 2047, 100] * 750, dtype="<i2")
    signals = [
        ("EKG V2", unit, -5, 5.5, -2048, 2047, 300),
        ("ECG I", "mV", "10", "-10", -2048, 2047, 300),
    ]
    data = np.stack([counts.reshape(10, 300)] * 2, axis=1).tobytes()
    record = one(raw(signals, 10, data=data))
    assert record.leads == ("V2", "I")
    factor = {"uV": 1e-3, "mV": 1.0, "V": 1e3, "nV": 1e-6, "µV": 1e-3}[unit]
    expected = (-5 + (counts + 2048.0) * 10.5 / 4095) * factor
    np.testing.assert_allclose(record.sig[0], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(record.sig[1], 10 - (counts + 2048.0) * 20 / 4095, rtol=1e-6)


@pytest.mark.parametrize("unit", ["mmHg", "%"])
def test_a_lead_in_something_else_than_volts_is_refused(unit):
    signal = ("ECG II", unit, *ONE[2:])
    with pytest.raises(UnservableError, match="not in V"):
        one(raw([signal], 10, data=b"\1\0" * 5000))


def test_a_unit_may_be_said_beside_the_file():
    content = raw([("ECG II", "", *ONE[2:])], 10, data=b"\1\0" * 5000)
    assert one(content, Hints(units="mV")).sig[0, 0] == 1
    with pytest.raises(UnservableError):
        one(content)


def test_other_channels_are_ignored_and_named(tmp_path, counts):
    labels = ["EEG Fpz-Cz", "ECG II", "MLII", "ecg avr", "ECG II"]
    record = one(in_a_file(tmp_path, counts[:5], headers(labels, 500)))
    assert record.leads == ("II", "aVR")
    assert record.meta.ignored_channels == ("EEG Fpz-Cz", "MLII", "ECG II")


@pytest.mark.parametrize(
    ("label", "lead"),
    [
        ("I", "I"),
        ("EKG II", "II"),
        ("ECG-V1", "V1"),
        ("ecg_avf", "aVF"),
        ("Lead V6", "V6"),
        ("MDC_ECG_LEAD_III", "III"),
        ("ECG", "I"),
        ("EKG", "I"),
        ("ECG ECG1-ECG2", "I"),
    ],
)
def test_a_label_names_the_lead(label, lead):
    record = one(raw([(label, *ONE[1:])], 10, data=b"\1\0" * 5000))
    assert record.leads == (lead,)


def test_the_only_ecg_among_other_signals_is_lead_i_unless_the_sender_says_another(
    tmp_path, counts
):
    content = in_a_file(tmp_path, counts[:3], headers(["EEG C3", "EKG1-EKG2", "EOG"], 500))
    assert one(content).leads == ("I",)
    assert one(content).meta.ignored_channels == ("EEG C3", "EOG")
    named = one(content, Hints(leads=("V5",)))
    assert named.leads == ("V5",)
    np.testing.assert_array_equal(named.sig[0], (counts[1] * 1e-3).astype(np.float32))


@pytest.mark.parametrize("labels", [("-I", "aVR-"), ("ECG 1", "ECG 2"), ("EEG C3", "EOG")])
def test_what_names_no_lead_is_refused_with_the_way_to_name_it(tmp_path, counts, labels):
    content = in_a_file(tmp_path, counts[:2], headers(labels, 500))
    with pytest.raises(UnservableError, match="leads=I,II"):
        one(content)
    assert one(content, Hints(leads=("V1", "V5"))).leads == ("V1", "V5")


def test_leads_of_the_fs_that_most_have_make_the_record(tmp_path, rng):
    rows = [rng.integers(-9, 9, n) for n in (10_000, 5000, 5000, 2000)]
    signals = [
        headers([label], fs)[0]
        for label, fs in (("I", 1000), ("II", 500), ("V1", 500), ("V2", 200))
    ]
    record = one(in_a_file(tmp_path, rows, signals))
    assert (record.leads, record.fs) == (("II", "V1"), 500)
    assert record.meta.ignored_channels == ("I", "V2")
    two = one(in_a_file(tmp_path, rows[:2], signals[:2]))
    assert (two.leads, two.fs) == (("I",), 1000)


def test_data_records_need_not_last_a_second():
    data = np.arange(6000, dtype="<i2").tobytes()
    for seconds, fs in (("2", 250), ("0.5", 1000), ("0,5", 1000)):
        assert one(raw([ONE], 12, seconds, data=data)).fs == fs


def test_the_number_of_data_records_may_be_unknown():
    record = one(raw([ONE], -1, data=b"\1\0" * 5700))
    assert record.n_samples == 5500  # the half one is not there


def test_what_lies_behind_the_last_data_record_is_nothing():
    assert one(raw([ONE], 10, data=b"\1\0" * 5700)).n_samples == 5000


def test_a_count_outside_of_the_digital_range_that_recorders_use_for_none_is_missing():
    counts = np.full(5000, 7, dtype="<i2")
    counts[100:200] = -32768
    narrow = ("ECG II", "uV", -32767, 32767, -32767, 32767, 500)
    inside = one(raw([ONE], 10, data=counts.tobytes()))
    outside = one(raw([narrow], 10, data=counts.tobytes()))
    assert not np.isnan(inside.sig).any()
    np.testing.assert_array_equal(np.isnan(outside.sig[0]), counts == -32768)


def discontinuous(onsets, n_samples=500, reserved="EDF+D"):
    notes = ("EDF Annotations", "", -1, 1, -32768, 32767, 10)
    records = [
        np.full(n_samples, i + 1, dtype="<i2").tobytes()
        + f"+{onset}\x14\x14".encode().ljust(20, b"\0")
        for i, onset in enumerate(onsets)
    ]
    return raw([ONE, notes], len(onsets), reserved=reserved, data=b"".join(records))


def test_gaps_between_data_records_are_missing():
    record = one(discontinuous([10, 11, 12.5, 13.5, 16, 17]))
    assert record.duration_s == 8
    missing = np.isnan(record.sig[0]).reshape(-1, 250)
    assert np.flatnonzero(missing.all(axis=1)).tolist() == [4, 9, 10, 11]
    assert missing.sum() == 4 * 250
    assert round(1000 * float(record.sig[0, 1250])) == 3
    whole = one(discontinuous(range(6)))
    assert not np.isnan(whole.sig).any()


def test_rounded_time_stamps_are_no_gaps_and_no_overlaps():
    onsets = [round(i / 3, 2) for i in range(18)]
    record = one(discontinuous(onsets).replace(f"{1:<8}".encode(), b"0.333333", 1))
    assert not np.isnan(record.sig).any()


def test_continuous_files_are_not_asked_for_time_stamps():
    assert one(discontinuous([0, 0, 0, 0, 0], reserved="EDF+C")).n_samples == 2500


@pytest.mark.parametrize(
    ("onsets", "kind"),
    [
        ([0, 1, 2, 3, 4, 5, 100], UnservableError),
        ([0, 1, 2, 3, 4, 5, 6e6], UnservableError),
        ([0, 1, 2, 2.5, 4, 5, 6], UnreadableError),
        ([6, 5, 4, 3, 2, 1], UnreadableError),
        (["x", 1, 2, 3, 4, 5], UnreadableError),
    ],
)
def test_gaps_are_bounded_and_records_may_not_overlap(onsets, kind, peak_mb):
    content = discontinuous(onsets)
    with peak_mb(2), pytest.raises(kind):
        one(content)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (252, b"9999"),
        (252, b"-1  "),
        (252, b"x   "),
        (236, b"11      "),
        (236, b"1e9     "),
        (236, b"nan     "),
        (244, b"0       "),
        (244, b"-1      "),
        (244, b"1e-300  "),
        (256 + 216, b"99999999"),
        (256 + 216, b"1e99    "),
        (256 + 216, b"1.5     "),
        (256 + 104, b"32767   "),
        (256 + 104, b"inf     "),
        (256 + 104, b"1e308   "),
        (256 + 120, b"32767   "),
    ],
)
def test_a_header_that_cannot_be_is_refused(at, text, peak_mb):
    """Numbers of signals, data records, seconds, samples; ranges that are empty or endless."""
    content = edited(raw([ONE], 10, data=b"\1\0" * 5000), at, text)
    with peak_mb(2), pytest.raises(EcgError):
        read([File(content, "x.edf")], Hints())


def test_a_number_as_a_patients_name_is_not_taken_for_another_format():
    content = raw([ONE], 10, data=b"\1\0" * 5000, patient="123 456 M 01-JAN-1950 Doe")
    assert one(content).leads == ("II",)


def test_a_day_is_read_with_little_beside_the_record(rng, peak_mb):
    """24 h of one lead at 250 Hz, in records of 1 s and in one record: 43 MB, 86 MB in float32."""
    data = rng.integers(-999, 999, 86_400 * 250, dtype=np.int16).tobytes()
    one_second = raw([(*ONE[:6], 250)], 86_400, data=data)
    all_in_one = raw([(*ONE[:6], 86_400 * 250)], 1, "86400", data=data)
    for content in (one_second, all_in_one):
        with peak_mb(2 * 86.4 + 60):
            record = one(content)
        assert record.duration_s == 86_400
    started = time.process_time()
    (signal,) = edf.parse(File(one_second)).signals
    assert time.process_time() - started < 0.1
    assert signal.counts.shape == (86_400, 250)
    assert not signal.counts.flags.owndata


def test_a_long_record_stays_as_it_is_stored(rng):
    signals = [("ECG II", "uV", -1000, 2000, -32768, 32767, 250), ("SpO2", "%", 0, 1, 0, 9, 7)]
    signals.append(("V1", "mV", -5, 5, -32767, 32767, 250))
    counts = rng.integers(-9000, 9000, (700, 507), dtype=np.int16)
    counts[3, 300] = -32768  # below V1's digital range
    signals[0] = (*signals[0][:4], -32767, 32767, 250)
    record = one(raw(signals, len(counts), data=counts.tobytes()))
    assert isinstance(record.samples, Stored)
    second, v1 = counts[:, :250].ravel(), counts[:, 257:].ravel()
    scaled = np.stack([-1 + (second + 32767.0) * 3 / 65534, -5 + (v1 + 32767.0) * 10 / 65534])
    scaled[1, 3 * 250 + 43] = np.nan
    np.testing.assert_allclose(record.sig, scaled, rtol=0, atol=1e-6)
    for start, stop in ((0, 5), (249, 251), (740, 1303), (174_990, 175_000)):
        np.testing.assert_array_equal(record.piece(start, stop), record.sig[:, start:stop])
    assert record.meta.ignored_channels == ("SpO2",)


def test_mutated_files_raise_no_error_but_ours(tmp_path, counts, rng):
    files = [
        in_a_file(tmp_path, counts[:3, :3000], headers(["I", "II", "EEG"], 500)),
        in_a_file(tmp_path, counts[:2, :3000], headers(["ECG", "x"], 500), pyedflib.FILETYPE_BDF),
        discontinuous([0, 1, 2, 3, 5, 6]),
        edf.write(Record(np.zeros((12, 3000), np.float32), 500.0, LEADS)),
    ]
    marks = b"0123456789.-+eE, \0\xff"
    for _ in range(600):
        content = bytearray(files[rng.integers(len(files))])
        head = min(len(content), 4000)
        for _ in range(rng.integers(1, 8)):
            content[rng.integers(head)] = marks[rng.integers(len(marks))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                read([File(bytes(content), "x.edf")], Hints())
            except EcgError as error:
                assert "Doe" not in str(error)


# --- what is written


def mv(rng, n_leads=12, n_samples=5000, peak=2.0):
    return rng.uniform(-peak, peak, (n_leads, n_samples)).astype(np.float32)


@pytest.mark.parametrize(
    ("fs", "n_samples"),
    [
        (100, 1000),
        (500, 5000),
        (360, 6500),
        (257.5, 5003),
        (1000, 10_007),
        (128, 1280),
        (314.159265, 3001),
    ],
)
def test_pyedflib_and_we_read_what_was_written(tmp_path, rng, fs, n_samples):
    record = make_record(mv(rng, 12, n_samples), fs, LEADS, "mV")
    content = edf.write(record)
    back = one(content)
    assert (back.leads, back.fs, back.n_samples) == (LEADS, fs, n_samples)
    assert np.abs(back.sig - record.sig).max() < 0.000501
    signals, rates = read_by_pyedflib(tmp_path, content)
    assert rates[:12] == pytest.approx([fs] * 12)
    for row, microvolts in zip(record.sig, signals, strict=False):
        assert np.abs(microvolts[:n_samples] * 1e-3 - row).max() < 0.000501


def test_what_was_in_whole_microvolts_or_a_devices_steps_comes_back_as_it_was(record, rng):
    assert np.array_equal(one(edf.write(record)).sig, record.sig)
    for step in (1.25, 2.5, 4.88, 5.0):
        counts = rng.integers(-400, 400, (2, 5000)) * step
        stepped = make_record(counts, 500, ("I", "II"), "uV")
        assert np.array_equal(one(edf.write(stepped)).sig, stepped.sig)


@pytest.mark.parametrize("peak", [33.0, 200.0, 5000.0, 3e7])
def test_the_step_holds_the_largest_voltage(rng, peak):
    record = make_record(mv(rng, 2, 5000, peak), 500, ("I", "II"), "mV")
    assert np.abs(one(edf.write(record)).sig - record.sig).max() < peak / 1000


def test_gaps_come_back(rng):
    sig = mv(rng)
    sig[0, :50] = sig[3, 700:900] = np.nan
    record = make_record(sig, 500, LEADS, "mV")
    np.testing.assert_array_equal(np.isnan(one(edf.write(record)).sig), np.isnan(sig))


def test_no_identity_is_written_and_what_is_synthetic_says_so(tmp_path, rng):
    made = Record(mv(rng), 500.0, LEADS, Meta("secret-id", synthetic=True))
    real = replace(made, meta=Meta("secret-id"))
    assert one(edf.write(made)).meta == Meta(synthetic=True)
    assert one(edf.write(real)).meta == Meta()
    assert b"secret" not in edf.write(made) + edf.write(real)
    path = tmp_path / "x.edf"
    path.write_bytes(edf.write(made))
    with pyedflib.EdfReader(str(path)) as file:
        assert file.getPatientName() == file.getEquipment() == "SYNTHETIC ECG"
