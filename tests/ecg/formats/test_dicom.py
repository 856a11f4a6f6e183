"""DICOM: pydicom is the oracle of what is read and of what is written."""

import io
import struct
import time
import warnings
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import File, Hints, dicom, read
from ecg.leads import LEADS
from ecg.limits import Limits
from ecg.record import Meta, Record, make_record
from tests.conftest import DATA
from tests.service.bodies import as_zip

CODES = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)  # of LEADS
EXAMPLE = DATA / "ecgtoolkit_example.dcm"


def code(value, scheme="MDC", meaning=""):
    out = Dataset()
    out.CodeValue, out.CodingSchemeDesignator, out.CodeMeaning = value, scheme, meaning
    return out


def channel(source=None, unit="uV", gain="1", baseline="0", label=None, correction="1"):
    out = Dataset()
    if source is not None:
        out.ChannelSourceSequence = Sequence([source])
    if label is not None:
        out.ChannelLabel = label
    if gain is not None:
        out.ChannelSensitivity = gain
        out.ChannelSensitivityCorrectionFactor = correction
        out.ChannelBaseline = baseline
    if unit is not None:
        out.ChannelSensitivityUnitsSequence = Sequence([code(unit, "UCUM", unit)])
    out.WaveformBitsStored = 16
    return out


def twelve():
    return [channel(code(f"2:{number}")) for number in CODES]


def group(counts, channels=None, fs=500, label="RHYTHM", originality="ORIGINAL", **more):
    """A multiplex group of counts [channel, time]."""
    out = Dataset()
    out.WaveformOriginality = originality
    out.NumberOfWaveformChannels, out.NumberOfWaveformSamples = counts.shape
    out.SamplingFrequency = str(fs)
    if label is not None:
        out.MultiplexGroupLabel = label
    out.ChannelDefinitionSequence = Sequence(channels or twelve()[: len(counts)])
    kinds = {"i1": "SB", "u1": "UB", "i2": "SS", "u2": "US", "i4": "SL", "u4": "UL"}
    out.WaveformBitsAllocated = 8 * counts.dtype.itemsize
    out.WaveformSampleInterpretation = kinds[counts.dtype.str[1:]]
    vr = "OB" if counts.dtype.itemsize == 1 else "OW"
    data = counts.T.tobytes()
    out.add_new("WaveformData", vr, data + b"\0" * (len(data) % 2))
    for keyword, value in more.items():
        if keyword == "WaveformPaddingValue":
            out.add_new(keyword, vr, value)
        else:
            setattr(out, keyword, value)
    return out


def in_a_file(*groups, syntax=uid.ExplicitVRLittleEndian, undefined=False, **more):
    """The bytes that pydicom writes."""
    out = Dataset()
    out.SOPClassUID = uid.TwelveLeadECGWaveformStorage
    out.SOPInstanceUID = "1.2.3"
    out.PatientName = "Doe^Jane"
    out.WaveformSequence = Sequence(groups)
    out.AcquisitionContextSequence = Sequence([Dataset()])
    for keyword, value in more.items():
        setattr(out, keyword, value)
    if undefined:
        for item in out.iterall():
            item.is_undefined_length = item.VR == "SQ"
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    out.save_as(file, enforce_file_format=True)
    return file.getvalue()


def one(content, hints=None):
    (record,) = read([File(content)], hints or Hints())
    return record


def as_float32(counts, gain=1e-3):
    return (counts.astype(np.float64) * gain).astype(np.float32)


@pytest.fixture
def counts(rng):
    return rng.integers(-3000, 3000, (12, 5000), dtype=np.int16)


@pytest.fixture(scope="module")
def example():
    return EXAMPLE.read_bytes()


def test_a_devices_file_gives_what_pydicom_makes_of_it(example):
    record = one(example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its UIDs are not to the letter
        microvolts = pydicom.dcmread(io.BytesIO(example)).waveform_array(0).T
    np.testing.assert_array_equal(record.sig, as_float32(microvolts))
    assert (record.leads, record.fs) == (LEADS, 500)
    assert record.meta == Meta()


def test_nothing_is_warned_or_logged_of_values_that_are_not_to_the_letter(example, caplog):
    dirty = example.replace(b"SBJ-123\0", b"SBJ\xff12\x01\x02")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one(dirty).leads == LEADS
    assert not caplog.records


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
    ],
)
def test_every_transfer_syntax_gives_the_same(counts, syntax, undefined):
    stored = counts.astype(">i2") if syntax == uid.ExplicitVRBigEndian else counts
    content = in_a_file(group(stored), syntax=syntax, undefined=undefined)
    np.testing.assert_array_equal(one(content).sig, as_float32(counts))


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_preamble_and_file_meta_information_may_be_missing(counts, syntax):
    content = in_a_file(group(counts), syntax=syntax)
    without_preamble = content[132:]
    length = struct.unpack_from("<L", content, 140)[0]
    bare = content[144 + length :]
    preamble_alone = content[:132] + bare
    for shorter in (without_preamble, bare, preamble_alone):
        np.testing.assert_array_equal(one(shorter).sig, as_float32(counts))


def test_a_transfer_syntax_that_the_data_set_contradicts_is_not_believed(counts):
    content = in_a_file(group(counts), syntax=uid.ExplicitVRLittleEndian)
    wrong = content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    np.testing.assert_array_equal(one(wrong).sig, as_float32(counts))


def test_a_sequence_kept_as_unknown_by_an_archive_is_read(counts):
    """VR UN, in which an archive keeps what it did not know, implicit inside (PS3.5 6.2.2)."""
    implicit = in_a_file(group(counts), syntax=uid.ImplicitVRLittleEndian)
    at = implicit.index(b"\x00\x54\x00\x01")
    inside = implicit[at + 8 :]
    explicit = in_a_file(group(counts))
    before = explicit[: explicit.index(b"\x00\x54\x00\x01")]
    unknown = before + b"\x00\x54\x00\x01UN\0\0" + struct.pack("<L", len(inside)) + inside
    np.testing.assert_array_equal(one(unknown).sig, as_float32(counts))


@pytest.mark.parametrize(
    "sop_class",
    [
        uid.GeneralECGWaveformStorage,
        uid.AmbulatoryECGWaveformStorage,
        uid.General32bitECGWaveformStorage,
    ],
)
def test_the_other_ecg_classes_are_read(counts, sop_class):
    assert one(in_a_file(group(counts), SOPClassUID=sop_class)).leads == LEADS


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4"])
def test_every_linear_sample_is_read(rng, dtype):
    info = np.iinfo(dtype)
    counts = rng.integers(info.min, info.max, (12, 2501), dtype=dtype)
    channels = [channel(code(f"2:{n}"), gain="0.5", baseline="-100") for n in CODES]
    record = one(in_a_file(group(counts, channels)))
    expected = ((counts.astype(float) * 0.5 - 100) * 1e-3).astype(np.float32)
    np.testing.assert_array_equal(record.sig, expected)


@pytest.mark.parametrize("law", ["MB", "AB"])
def test_compressed_samples_are_refused(counts, law):
    content = in_a_file(group(counts.astype("i1"), WaveformSampleInterpretation=law))
    with pytest.raises(UnservableError, match="mu-law or A-law"):
        one(content)


def test_gain_correction_baseline_and_units_are_each_channels_own():
    counts = np.tile(np.int16([100, -200]), (4, 2500))
    channels = [
        channel(code("2:1"), "uV", "2.5", "10", correction="2"),
        channel(code("2:2"), "mV", "0.005", "-0.1"),
        channel(code("2:3"), "V", "1e-6"),
        channel(code("2:4"), "nV", "4880"),
    ]
    record = one(in_a_file(group(counts, channels)))
    assert record.leads == ("I", "II", "V1", "V2")
    expected = [[0.51, -0.99], [0.4, -1.1], [0.1, -0.2], [0.488, -0.976]]
    np.testing.assert_allclose(record.sig[:, :2], expected, rtol=1e-6)


def test_units_may_stand_in_the_meaning_alone_or_beside_the_file(counts):
    units = Dataset()
    units.CodeMeaning = "Millivolts"
    lead = channel(code("2:1"), unit=None)
    lead.ChannelSensitivityUnitsSequence = Sequence([units])
    assert one(in_a_file(group(counts[:1], [lead]))).sig[0, 0] == counts[0, 0]
    latin = in_a_file(group(counts[:1], [channel(code("2:1"), unit="xV")])).replace(b"xV", b"\xb5V")
    assert one(latin).sig[0, 0] == np.float32(counts[0, 0] * 1e-3)
    without = in_a_file(group(counts[:1], [channel(code("2:1"), unit=None)]))
    assert one(without, Hints(units="mV")).sig[0, 0] == counts[0, 0]
    with pytest.raises(UnservableError, match="has no units"):
        one(without)


def test_what_is_no_voltage_or_has_no_gain_is_refused(counts):
    for bad, words in (
        (channel(code("2:1"), unit="mm[Hg]"), "not in V"),
        (channel(code("2:1"), gain=None), "how much voltage"),
    ):
        with pytest.raises(UnservableError, match=words) as refusal:
            one(in_a_file(group(counts[:1], [bad])))
        assert refusal.value.where == "WaveformSequence[0].ChannelDefinitionSequence[0]"


@pytest.mark.parametrize(
    ("source", "label", "lead"),
    [
        (code("2:62", meaning="aVR, augmented voltage, right"), None, "aVR"),
        (code("2:1"), "V5", "I"),
        (code("131073"), None, "I"),
        (code("131136"), None, "aVF"),
        (code("131329"), None, "I"),
        (code("131389"), None, "III"),
        (code("2:264"), None, "V6"),
        (code("MDC_ECG_LEAD_AVL"), None, "aVL"),
        (code("5.6.3-9-64", "SCPECG"), None, "aVF"),
        (code("5.6.3-9-8", "SCPECG"), None, "V6"),
        (code("LI", "99VENDOR", "Lead I (Einthoven)"), None, "I"),
        (code("X", "99VENDOR", "Lead aVR (augmented voltage, right)"), None, "aVR"),
        (code("X", "99VENDOR", "ecg lead v3"), None, "V3"),
        (code("2:0", meaning="Unspecified lead"), "Lead II", "II"),
        (None, "aVF", "aVF"),
    ],
)
def test_a_lead_is_known_by_code_meaning_or_label(counts, source, label, lead):
    content = in_a_file(group(counts[:1], [channel(source, label=label)]))
    assert one(content).leads == (lead,)


@pytest.mark.parametrize(
    "source",
    [
        code("2:65", meaning="aVR"),  # its negative, by the standard's own words
        code("2:31", meaning="Derived Lead I"),
        code("2:11", meaning="Lead V3R"),
        code("5.6.3-9-16", "SCPECG", "Lead X"),
    ],
)
def test_other_leads_are_ignored_and_named(counts, source):
    channels = [channel(code("2:2")), channel(source), channel(code("2:2"), label="II strip")]
    record = one(in_a_file(group(counts[:3], channels)))
    assert record.leads == ("II",)
    known = source.CodeMeaning if source.CodeMeaning != "Derived Lead I" else "channel 2"
    assert record.meta.ignored_channels == (known, "channel 3")
    with pytest.raises(UnservableError, match="none of the channels"):
        one(in_a_file(group(counts[:1], [channel(source)])))


def test_leads_without_names_may_be_named_beside_the_file(counts):
    channels = [channel(code("2:0"), label=f"Channel {i}") for i in (1, 2)]
    record = one(in_a_file(group(counts[:2], channels)), Hints(leads=("II", "V5")))
    assert record.leads == ("II", "V5")


def test_padding_is_missing(counts):
    counts[:, -1000:] = -32768
    counts[2, 7] = -32768
    record = one(in_a_file(group(counts, WaveformPaddingValue=b"\x00\x80")))
    np.testing.assert_array_equal(np.isnan(record.sig), counts == -32768)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian])
def test_padding_has_the_samples_byte_order(counts, syntax):
    counts[0, :99] = 0x0102
    order = ">i2" if syntax == uid.ExplicitVRBigEndian else "<i2"
    padding = np.array(0x0102, order).tobytes()
    content = in_a_file(group(counts.astype(order), WaveformPaddingValue=padding), syntax=syntax)
    np.testing.assert_array_equal(np.isnan(one(content).sig), counts == 0x0102)


def test_a_padding_of_zero_leaves_zeros_alone(counts):
    counts[3, ::7] = 0
    record = one(in_a_file(group(counts, WaveformPaddingValue=b"\0\0")))
    np.testing.assert_array_equal(record.sig, as_float32(counts))


def test_a_padding_of_zero_is_a_gap_where_zero_is_the_lowest_voltage(rng):
    counts = rng.integers(30_000, 35_000, (1, 5000), dtype=np.uint16)
    counts[0, 100:200] = 0
    lead = channel(code("2:1"), baseline="-32768")
    record = one(in_a_file(group(counts, [lead], WaveformPaddingValue=b"\0\0")))
    np.testing.assert_array_equal(np.isnan(record.sig), counts == 0)


MEDIAN = {"label": "MEDIAN BEAT", "originality": "DERIVED"}


@pytest.mark.parametrize(
    "others",
    [
        [(1200, MEDIAN)],
        [(60_000, {"label": "AVERAGE BEATS", "originality": "ORIGINAL"})],
        [(9000, {"label": None, "originality": "DERIVED"})],
        [(600, {"label": None})],
        [(5000, {"label": "RHYTHM", "originality": "DERIVED"})],
    ],
)
def test_the_rhythm_is_chosen_wherever_it_lies(counts, rng, others):
    more = [group(rng.integers(-9, 9, (12, n), dtype=np.int16), **how) for n, how in others]
    rhythm = group(counts)
    for groups in ([rhythm, *more], [*more, rhythm]):
        np.testing.assert_array_equal(one(in_a_file(*groups)).sig, as_float32(counts))


def test_without_labels_the_most_leads_and_then_the_longest_is_the_rhythm(counts, rng):
    short, strip = (rng.integers(-9, 9, s, dtype=np.int16) for s in ((12, 2600), (1, 30_000)))
    groups = [group(x, label=None, originality="") for x in (short, strip, counts)]
    np.testing.assert_array_equal(one(in_a_file(*groups)).sig, as_float32(counts))


def test_beats_alone_are_refused_whatever_their_length(counts):
    with pytest.raises(UnservableError, match="averaged beats"):
        one(in_a_file(group(counts, **MEDIAN)))


def test_leads_of_one_time_in_several_groups_make_one_record(counts):
    parts = [group(counts[a:b], twelve()[a:b]) for a, b in ((0, 3), (3, 6), (6, 12))]
    record = one(in_a_file(*parts))
    assert record.leads == LEADS
    np.testing.assert_array_equal(record.sig, as_float32(counts))


def test_the_same_leads_at_other_times_are_records_of_their_own(counts):
    offsets = ("20000", "0", "10000", "15000")  # the last overlaps with the third
    parts = [group(counts + i, MultiplexGroupTimeOffset=at) for i, at in enumerate(offsets)]
    records = read([File(in_a_file(*parts))], Hints())
    assert [round(1000 * float(r.sig[0, 0])) - counts[0, 0] for r in records] == [1, 2, 0]


def test_the_same_leads_at_the_same_time_are_one_record(counts):
    np.testing.assert_array_equal(
        one(in_a_file(group(counts), group(counts + 1))).sig, as_float32(counts)
    )


def test_other_objects_are_refused_with_what_is_read():
    image = Dataset()
    image.SOPClassUID = uid.CTImageStorage
    image.SOPInstanceUID = "1.2.3"
    image.PixelData = b"\0" * 64
    image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    for content in (file.getvalue(), in_a_file(SOPClassUID=uid.HemodynamicWaveformStorage)):
        with pytest.raises(UnservableError, match="no ECG waveform"):
            one(content)


def test_a_discs_directory_is_stepped_over(counts):
    directory = in_a_file(SOPClassUID=uid.MediaStorageDirectoryStorage)
    disc = as_zip([File(directory, "DICOMDIR"), File(in_a_file(group(counts)), "IMAGES/1")])
    assert one(disc).leads == LEADS
    with pytest.raises(UnreadableError, match="no record"):
        one(directory)


def test_the_content_decides_whatever_the_name(counts):
    content = in_a_file(group(counts))
    for name in ("x.csv", "x.json", "x.hea", "x.edf", "IM0001"):
        (record,) = read([File(content, name, "text/csv")], Hints())
        assert record.leads == LEADS
    with pytest.raises(UnreadableError):
        read([File(b"DICM", "x.dcm")], Hints())


def test_damage_is_said_without_a_value(counts):
    content = in_a_file(group(counts))
    for broken, kind in (
        (content[: len(content) // 2], UnreadableError),
        (content[:132], UnreadableError),
        (in_a_file(), UnreadableError),
        (in_a_file(group(counts, NumberOfWaveformSamples=5001)), UnreadableError),
        (in_a_file(group(counts, NumberOfWaveformChannels=11)), UnreadableError),
        (in_a_file(group(counts, fs=30)), UnservableError),
        (in_a_file(group(counts[:, :900])), UnservableError),
    ):
        with pytest.raises(kind) as refusal:
            one(broken)
        assert "Doe" not in str(refusal.value)


def test_what_a_deflated_file_inflates_to_is_bounded_before_it_is_inflated(peak_mb):
    zeros = np.zeros((12, 2_000_000), dtype=np.int16)  # 48 MB
    content = in_a_file(group(zeros), syntax=uid.DeflatedExplicitVRLittleEndian)
    assert len(content) < 100_000
    with peak_mb(3), pytest.raises(TooLargeError):
        one(content, Hints(limits=Limits(max_unpacked=1_000_000)))


@pytest.mark.parametrize("tag", [b"\x00\x54\x00\x01", b"\x08\x00\x10\x11"], ids=["ours", "other"])
def test_a_file_of_nothing_but_elements_is_left_soon(example, tag):
    """16 MB; pydicom takes 6 s for a quarter of it."""
    start = example[: example.index(b"\x08\0\x18\0")]
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 2_000_000
    started = time.process_time()
    with pytest.raises(TooLargeError, match="elements"):
        one(start + tag + b"\xff\xff\xff\xff" + items)
    assert time.process_time() - started < 3


def test_a_file_of_sequences_in_sequences_is_refused(counts):
    deep = b"\x00\x54\x00\x01SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    with pytest.raises(EcgError):
        one(in_a_file()[:200] + deep)


def test_mutated_files_raise_no_error_but_ours(example, counts, rng):
    small = counts[:3, :2600]
    files = [example[:6000] + example[-130_000:]] + [
        in_a_file(group(small, WaveformPaddingValue=b"\1\0"), undefined=u, syntax=s)
        for u in (False, True)
        for s in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
    ]
    for _ in range(400):
        content = bytearray(files[rng.integers(len(files))])
        head = min(len(content), 4000)
        for _ in range(rng.integers(1, 8)):
            content[rng.integers(head)] = rng.integers(256)
        try:
            read([File(bytes(content), "x.dcm")], Hints())
        except EcgError as error:
            assert "Doe" not in str(error)


# --- what is written


def mv(rng, n_leads=12, n_samples=5000, peak=2.0):
    return rng.uniform(-peak, peak, (n_leads, n_samples)).astype(np.float32)


def written(record):
    """The object as pydicom reads it, strictly."""
    return pydicom.dcmread(io.BytesIO(dicom.write(record)))


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """pydicom raises where it writes or reads back a value that is not to the letter."""
    settings = pydicom.config.settings
    monkeypatch.setattr(settings, "_writing_validation_mode", pydicom.config.RAISE)
    assert settings.writing_validation_mode == pydicom.config.RAISE


@pytest.mark.parametrize(
    ("fs", "leads", "n_samples", "sop_class"),
    [
        (500, LEADS, 5000, uid.TwelveLeadECGWaveformStorage),
        (1000, LEADS, 16_384, uid.TwelveLeadECGWaveformStorage),
        (1000, LEADS, 16_385, uid.GeneralECGWaveformStorage),
        (250, LEADS[:3], 2500, uid.GeneralECGWaveformStorage),
        (100, LEADS, 1000, uid.AmbulatoryECGWaveformStorage),
        (2000, LEADS, 20_000, uid.General32bitECGWaveformStorage),
    ],
)
def test_the_sop_class_is_the_narrowest_whose_limits_are_kept(rng, fs, leads, n_samples, sop_class):
    """PS3.3 A.34.3.4, A.34.4.4, A.34.5.4: 200 to 1,000 Hz, ambulatory from 50 Hz."""
    record = make_record(mv(rng, len(leads), n_samples), fs, leads, "mV")
    found = written(record)
    assert found.SOPClassUID == found.file_meta.MediaStorageSOPClassUID == sop_class
    back = one(dicom.write(record))
    assert (back.leads, back.fs) == (record.leads, record.fs)
    assert np.abs(back.sig - record.sig).max() < 0.000501


# Attributes of type 1 and 2 of the modules that PS3.3 tables A.34.3-1 to A.34.5-1 make mandatory.
TYPE_1 = {
    "general study, series": ("StudyInstanceUID", "Modality", "SeriesInstanceUID"),
    "waveform identification": (
        *("InstanceNumber", "ContentDate", "ContentTime", "AcquisitionDateTime"),
    ),
    "enhanced general equipment": (
        *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
    ),
    "waveform": ("WaveformSequence",),
    "SOP common": ("SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet"),
}
TYPE_2 = {
    "patient": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "general study": (
        *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    ),
    "general series": ("SeriesNumber",),
    "acquisition context": ("AcquisitionContextSequence",),
}
GROUP_TYPE_1 = (
    *("WaveformOriginality", "NumberOfWaveformChannels", "NumberOfWaveformSamples"),
    *("SamplingFrequency", "ChannelDefinitionSequence", "WaveformBitsAllocated"),
    *("WaveformSampleInterpretation", "WaveformData"),
)
CHANNEL_TYPE_1 = (
    *("ChannelSourceSequence", "ChannelSensitivity", "ChannelSensitivityUnitsSequence"),
    *("ChannelSensitivityCorrectionFactor", "ChannelBaseline", "ChannelSampleSkew"),
    "WaveformBitsStored",
)


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("fs", [100, 500, 2000])
def test_every_attribute_that_the_standard_demands_is_there(rng, fs, synthetic):
    found = written(make_record(mv(rng, 12, 10 * fs), fs, LEADS, "mV", Meta(synthetic=synthetic)))
    for keywords in TYPE_1.values():
        assert all(found[keyword].value not in (None, "") for keyword in keywords)
    for keywords in TYPE_2.values():
        assert all(keyword in found for keyword in keywords)
    assert found.Modality == "ECG"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert uid.UID(found[keyword].value).is_valid
    (only,) = found.WaveformSequence
    assert all(keyword in only for keyword in GROUP_TYPE_1)
    assert only.WaveformSampleInterpretation == "SS"
    assert only.NumberOfWaveformChannels == len(only.ChannelDefinitionSequence) == 12
    for lead, number, item in zip(LEADS, CODES, only.ChannelDefinitionSequence, strict=True):
        assert all(keyword in item for keyword in CHANNEL_TYPE_1)
        (source,) = item.ChannelSourceSequence
        assert (source.CodeValue, source.CodingSchemeDesignator) == (f"2:{number}", "MDC")
        assert lead in source.CodeMeaning
        (unit,) = item.ChannelSensitivityUnitsSequence
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("uV", "UCUM")
    assert found.PatientIdentityRemoved == "YES"
    assert found.DeidentificationMethod


def test_pydicom_gives_the_samples_back(record):
    record = make_record(np.repeat(record.sig, 5, axis=1), 500, record.leads, "mV")
    microvolts = written(record).waveform_array(0).T
    np.testing.assert_array_equal(as_float32(microvolts), record.sig)  # PTB-XL's are whole uV


def test_a_file_of_a_device_is_written_again_without_loss(example):
    first = one(example)
    again = one(dicom.write(first))
    np.testing.assert_array_equal(again.sig, first.sig)


@pytest.mark.parametrize("peak", [0.5, 32.0, 40.0, 900.0, 3e7])
def test_the_step_holds_the_largest_voltage(rng, peak):
    record = make_record(mv(rng, 1, 3000, peak), 500, ("I",), "mV")
    (item,) = written(record).WaveformSequence[0].ChannelDefinitionSequence
    step = float(item.ChannelSensitivity) * 1e-3
    back = one(dicom.write(record))
    assert np.abs(back.sig - record.sig).max() <= step * 0.501 + 1e-7 * peak
    assert step <= max(1e-3, peak / 3000)


def test_voltages_without_end_are_refused(rng):
    with pytest.raises(UnservableError):
        dicom.write(make_record(mv(rng, 1, 3000, 1e30), 500, ("I",), "mV"))


def test_gaps_are_padded_and_come_back(rng):
    sig = mv(rng)
    sig[0, :50] = sig[3, 700:900] = np.nan
    record = make_record(sig, 500, LEADS, "mV")
    assert "WaveformPaddingValue" in written(record).WaveformSequence[0]
    np.testing.assert_array_equal(np.isnan(one(dicom.write(record)).sig), np.isnan(sig))
    whole = written(replace(record, sig=mv(rng)))
    assert "WaveformPaddingValue" not in whole.WaveformSequence[0]


def test_what_is_synthetic_says_so_everywhere_and_is_read_as_such(rng):
    sig = mv(rng)
    made, real = (
        Record(sig, 500.0, LEADS, Meta("secret-id", synthetic=synthetic))
        for synthetic in (True, False)
    )
    found = written(made)
    assert found.SyntheticData == "YES"
    (maker,) = found.ContributingEquipmentSequence
    assert maker.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert maker.Manufacturer
    assert found.PatientName == found.PatientID == "SYNTHETIC"
    assert "SYNTHETIC" in found.SeriesDescription
    assert "SYNTHETIC" in found.WaveformAnnotationSequence[0].UnformattedTextValue
    assert found.WaveformSequence[0].WaveformOriginality == "DERIVED"
    assert one(dicom.write(made)).meta.synthetic
    assert not one(dicom.write(real)).meta.synthetic
    assert "SyntheticData" not in written(real)
    assert b"SYNTH" not in dicom.write(real)
    assert all(b"secret-id" not in dicom.write(record) for record in (made, real))


def test_a_record_is_brought_to_what_the_twelve_lead_class_allows_around_its_own_samples(record):
    brought = dicom.for_twelve_lead(record)
    assert (brought.fs, brought.n_samples) == (200, 2 * record.n_samples)
    np.testing.assert_array_equal(brought.sig[:, ::2], record.sig)
    laws = brought.sig[1] - brought.sig[0] - brought.sig[2]
    assert np.abs(laws).max() < 2e-3  # as in PTB-XL's whole uV
    assert written(brought).SOPClassUID == uid.TwelveLeadECGWaveformStorage
    assert dicom.for_twelve_lead(brought) is brought


def test_every_object_has_uids_of_its_own(record):
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    uids = [written(record)[keyword].value for _ in range(3) for keyword in keywords]
    assert len(set(uids)) == 9
