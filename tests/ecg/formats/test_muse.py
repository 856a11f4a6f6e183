"""GE MUSE XML, written as the MUSE system exports it."""

import base64
import zlib

import numpy as np
import pytest

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from tests.ecg.formats.mutations import survives

STORED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
PROLOG = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(2).integers(-400, 400, size=(8, 5000)).astype("<i2")


def lead_data(name, row, per_bit="4.88", units="MICROVOLTS", crc=None, total=None):
    content = row.tobytes()
    text = base64.encodebytes(content).decode()
    crc = zlib.crc32(content) if crc is None else crc
    return f"""<LeadData>
<LeadByteCountTotal>{len(content)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>
<LeadSampleCountTotal>{len(row) if total is None else total}</LeadSampleCountTotal>
<LeadAmplitudeUnitsPerBit>{per_bit}</LeadAmplitudeUnitsPerBit>
<LeadAmplitudeUnits>{units}</LeadAmplitudeUnits>
<LeadHighLimit>2147483647</LeadHighLimit><LeadLowLimit>268435456</LeadLowLimit>
<LeadID>{name}</LeadID><LeadOffsetFirstSample>0</LeadOffsetFirstSample>
<FirstSampleBaseline>0</FirstSampleBaseline><LeadSampleSize>{row.itemsize}</LeadSampleSize>
<LeadOff>FALSE</LeadOff><BaselineSway>FALSE</BaselineSway>
<LeadDataCRC32>{crc}</LeadDataCRC32><WaveFormData>
{text}</WaveFormData></LeadData>"""


def waveform(kind, rows, names=STORED, base="500", exponent="0", **more):
    leads = "".join(lead_data(n, r, **more) for n, r in zip(names, rows, strict=False))
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><WaveformStartTime>0</WaveformStartTime>"
        f"<NumberofLeads>{len(rows)}</NumberofLeads><SampleType>CONTINUOUS_SAMPLES</SampleType>"
        f"<SampleBase>{base}</SampleBase><SampleExponent>{exponent}</SampleExponent>"
        f"<HighPassFilter>16</HighPassFilter>{leads}</Waveform>"
    )


def document(*waveforms, prolog=PROLOG):
    return (
        f"{prolog}<RestingECG><MuseInfo/><PatientDemographics><PatientLastName>Müller"
        f"</PatientLastName></PatientDemographics>{''.join(waveforms)}</RestingECG>"
    ).encode("latin-1")


def usual(counts, **more):
    return document(waveform("Median", counts[:, :600] * 0 + 1), waveform("Rhythm", counts, **more))


def only(content):
    (record,) = read([File(content)], Hints())
    return record


def test_the_rhythm_is_read_though_the_median_comes_first(counts):
    record = only(usual(counts))
    assert (record.leads, record.fs) == (STORED, 500.0)  # derived leads are the preparation's
    expected = (counts.astype(float) * 4.88 * 1e-3).astype(np.float32)
    np.testing.assert_array_equal(record.sig, expected)
    assert record.meta.ignored_channels == ()


def test_the_dtd_is_neither_fetched_nor_needed(counts, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)
    monkeypatch.setattr("builtins.open", None)
    prolog = PROLOG.replace("restecg.dtd", "http://127.0.0.1:9/restecg.dtd")
    for one in (prolog, PROLOG, "", PROLOG.split("\n", 1)[1]):
        content = document(waveform("Rhythm", counts), prolog=one)
        np.testing.assert_array_equal(only(content).sig, only(usual(counts)).sig)


@pytest.mark.parametrize(
    ("base", "exponent", "fs"), [("500", "0", 500), ("25", "1", 250), ("5", "2", 500),
                                 ("2500", "-1", 250), ("240", "", 240), ("1000", "0", 1000)],
)  # fmt: skip
def test_fs_is_a_base_and_a_power_of_ten(base, exponent, fs, counts):
    assert only(usual(counts, base=base, exponent=exponent)).fs == fs


@pytest.mark.parametrize(
    ("per_bit", "units"), [("0.00488", "MILLIVOLTS"), ("4.88", "uV"), ("4.88", "Microvolts")]
)
def test_units_do_not_matter(per_bit, units, counts):
    record = only(usual(counts, per_bit=per_bit, units=units))
    np.testing.assert_allclose(record.sig, only(usual(counts)).sig, rtol=1e-6)


def test_samples_of_four_bytes_are_read(counts):
    record = only(usual(counts.astype("<i4")))
    np.testing.assert_array_equal(record.sig, only(usual(counts)).sig)


def test_all_twelve_stored_leads_and_others_are_read(counts):
    names = ("I", "II", "III", "aVR", "aVL", "aVF", "V3R", "Miller")
    record = only(usual(counts, names=names))
    assert record.leads == names[:6]
    assert record.meta.ignored_channels == ("V3R", "channel 8")


def test_a_damaged_lead_among_sound_ones_is_refused(counts):
    rows = [lead_data(n, r) for n, r in zip(STORED, counts, strict=True)]
    rows[3] = lead_data("V2", counts[3], crc=1)
    one = waveform("Rhythm", []).replace("</Waveform>", "".join(rows) + "</Waveform>")
    with pytest.raises(UnreadableError, match="CRC") as refusal:
        only(document(one))
    assert refusal.value.where == "V2"


@pytest.mark.parametrize("crc", [1, "", "none"])
def test_crcs_that_fit_no_lead_are_another_programs(crc, counts):
    np.testing.assert_array_equal(only(usual(counts, crc=crc)).sig, only(usual(counts)).sig)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ((b"<WaveformType>Rhythm", b"<WaveformType>Other"), UnservableError, "no rhythm"),
        ((b"MICROVOLTS", b"FURLONGS"), UnservableError, "LeadAmplitudeUnits"),
        ((b"MICROVOLTS", b""), UnservableError, "LeadAmplitudeUnits"),
        ((b"PerBit>4.88", b"PerBit>0"), UnservableError, "PerBit"),
        ((b"PerBit>4.88", b"PerBit>"), UnservableError, "missing"),
        ((b"<SampleBase>500", b"<SampleBase>"), UnservableError, "fs: is missing"),
        ((b"<SampleBase>500", b"<SampleBase>5"), UnservableError, "between 50 and"),
        ((b"Exponent>0", b"Exponent>999999"), UnservableError, "SampleExponent"),
        ((b"SampleSize>2", b"SampleSize>3"), UnreadableError, "1, 2 or 4"),
        ((b"CountTotal>5000", b"CountTotal>4999"), UnreadableError, "LeadSampleCountTotal"),
        ((b"CountTotal>10000", b"CountTotal>9999"), UnreadableError, "LeadByteCountTotal"),
        ((b"WaveFormData>\n", b"WaveFormData>\n*"), UnreadableError, "base64"),
        ((b"LeadID>II<", b"LeadID>I<"), UnservableError, "repeats lead I"),
        ((b"LeadID>", b"LeadID>x"), UnservableError, "none of the channels"),
        ((b"LeadData", b"Lead"), UnservableError, "no lead"),
        ((b"</RestingECG>", b""), UnreadableError, "well-formed"),
    ],
)
def test_what_is_wrong_is_said(change, kind, says, counts):
    with pytest.raises(kind) as refusal:
        only(usual(counts).replace(*change))
    assert says in str(refusal.value)
    assert "Müller" not in str(refusal.value)


def test_hundreds_of_leads_are_refused(counts):
    with pytest.raises(UnservableError, match="more than 64"):
        only(usual(np.ones((100, 4), "<i2"), names=["V1"] * 100))


def test_mutations_are_read_or_refused(counts):
    survives(usual(counts))
