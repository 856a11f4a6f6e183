"""ISHNE Holter files, byte by byte as the specification lays them out (Badilini 1998)."""

import binascii
import struct

import numpy as np
import pytest

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import File, Hints, ishne, read
from ecg.record import Stored
from tests.ecg.formats.mutations import survives

CODES = {"X": 2, "I": 5, "II": 6, "III": 7, "aVR": 8, "aVL": 9, "aVF": 10, "V1": 11, "V6": 16,
         "ES": 17, "generic": 1, "unknown": 0, "absent": -9}  # fmt: skip


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(3).integers(-3000, 3000, size=(3, 4000)).astype("<i2")


def written(
    counts,
    names=("II", "V1", "aVF"),
    fs=200,
    nanovolts=(2500, 1000, 5000),
    block=b"",
    crc="own",
    size=None,
    offset=None,
    behind=b"",
):
    n = len(counts)
    header = struct.pack(
        "<iiiih",
        len(block),
        counts.shape[1] if size is None else size,
        522,
        522 + len(block) if offset is None else offset,
        1,
    )
    header += b"Mary".ljust(40, b"\0") + b"Miller".ljust(40, b"\0") + b"4711".ljust(20, b"\0")
    header += struct.pack("<hh3h3h3h3h", 2, 1, 3, 2, 1961, 5, 6, 2020, 5, 6, 2020, 8, 30, 0)
    header += struct.pack("<h", n)
    header += struct.pack("<12h", *([CODES[name] for name in names] + [-9] * (12 - n)))
    header += struct.pack("<12h", *([1] * n + [-9] * (12 - n)))
    header += struct.pack("<12h", *(list(nanovolts[:n]) + [-9] * (12 - n)))
    header += struct.pack("<h40sh80s80s88s", 0, b"digital", fs, b"", b"", b"")
    assert len(header) == 512
    own = binascii.crc_hqx(header + block, 0xFFFF)
    stated = {"own": own, "swapped": own >> 8 | (own & 255) << 8}.get(crc, crc)
    stated = binascii.crc_hqx(header, 0xFFFF) if crc == "fixed block" else stated
    room = b"" if offset is None else b"\xee" * (offset - 522 - len(block))
    head = b"ISHNE1.0" + struct.pack("<H", stated) + header + block + room
    return head + np.ascontiguousarray(counts.T).tobytes() + behind


def only(content, hints=None):
    (record,) = read([File(content)], hints or Hints())
    return record


def expected(counts, nanovolts=(2500, 1000, 5000)):
    scale = np.array(nanovolts)[:, None] / 1000
    return (counts.astype(float) * scale * 1e-3).astype(np.float32)


def test_frames_are_leads_in_millivolts(counts):
    record = only(written(counts))
    np.testing.assert_array_equal(record.sig, expected(counts))
    assert (record.fs, record.leads) == (200.0, ("II", "V1", "aVF"))
    assert record.meta.ignored_channels == () and record.meta.record_id is None


def test_the_samples_are_a_view_on_the_file(counts):
    content = written(counts)
    held = ishne.frames(content)
    assert held.counts.dtype == np.int16 and not held.counts.flags.owndata
    assert np.shares_memory(held.counts, np.frombuffer(content, np.uint8))
    np.testing.assert_array_equal(held.counts, counts)
    assert held.microvolts == (2.5, 1.0, 5.0)


@pytest.mark.parametrize("block", [b"", b"Mary Miller, palpitations", b"\0" * 1000])
@pytest.mark.parametrize("crc", ["own", "swapped", "fixed block", 0])
def test_a_variable_block_and_every_crc_that_is_written_are_read(block, crc, counts):
    record = only(written(counts, block=block, crc=crc))
    np.testing.assert_array_equal(record.sig, expected(counts))


@pytest.mark.parametrize("at", [11, 30, 170, 272, 520, 530])
def test_a_header_that_does_not_fit_its_crc_is_refused(at, counts):
    content = bytearray(written(counts, block=b"a comment here"))
    content[at] ^= 1
    with pytest.raises(UnreadableError):
        only(bytes(content))


def test_room_behind_the_variable_block_is_passed_over(counts):
    record = only(written(counts, block=b"comment", offset=1024))
    np.testing.assert_array_equal(record.sig, expected(counts))


@pytest.mark.parametrize("offset", [-1, 1, 2**31 - 1])
def test_an_impossible_offset_is_the_specifications(offset, counts):
    content = bytearray(written(counts, crc=0))
    content[22:26] = struct.pack("<i", offset)
    np.testing.assert_array_equal(only(bytes(content)).sig, expected(counts))


@pytest.mark.parametrize("size", [4000, 12_000, 0, -1, 2**31 - 1])
def test_sizes_are_of_a_lead_or_of_all_or_nominal(size, counts):
    np.testing.assert_array_equal(only(written(counts, size=size)).sig, expected(counts))


@pytest.mark.parametrize("size", [4000, 12_000])
def test_what_pads_the_last_block_is_no_sample(size, counts):
    record = only(written(counts, size=size, behind=b"\x55" * 512))
    np.testing.assert_array_equal(record.sig, expected(counts))


def test_a_frame_that_was_cut_is_left_out(counts):
    assert only(written(counts)[:-1]).n_samples == 3999


def test_the_value_of_a_fault_is_a_gap(counts):
    faulty = counts.copy()
    faulty[1, 100:300] = -32768
    sig = only(written(faulty)).sig
    assert np.isnan(sig[1, 100:300]).all() and np.isnan(sig).sum() == 200


def test_other_channels_are_ignored(counts):
    record = only(written(counts, names=("X", "II", "ES")))
    assert record.leads == ("II",) and record.meta.ignored_channels == ("X", "ES")
    np.testing.assert_array_equal(record.sig, expected(counts)[1:2])


@pytest.mark.parametrize("names", [("generic",) * 3, ("unknown",) * 3, ("X", "X", "absent")])
def test_channels_that_are_called_nothing_are_named_by_the_sender(names, counts):
    content = written(counts, names=names)
    with pytest.raises(UnservableError, match="name them in the query"):
        only(content)
    record = only(content, Hints(leads=("V5", "II", "V1")))
    assert record.leads == ("V5", "II", "V1")
    with pytest.raises(UnservableError, match="must name 3 channels"):
        only(content, Hints(leads=("V5", "II")))


@pytest.mark.parametrize(
    ("more", "kind", "says"),
    [
        ({"fs": 20}, UnservableError, "fs"),
        ({"fs": -9}, UnservableError, "fs"),
        ({"nanovolts": (0, -9, 0)}, UnservableError, "resolution"),
        ({"names": ("II", "II", "V1")}, UnservableError, "repeats lead II"),
    ],
)
def test_what_is_wrong_is_said(more, kind, says, counts):
    with pytest.raises(kind) as refusal:
        only(written(counts, **more))
    assert says in str(refusal.value)
    assert "Mary" not in str(refusal.value)


@pytest.mark.parametrize("n", [8, 100, 521, 522, 530])
def test_less_than_five_seconds_is_refused(n, counts):
    with pytest.raises((UnreadableError, UnservableError)):
        only(written(counts)[:n])


@pytest.mark.parametrize(("n", "at"), [(0, 156), (13, 156), (-1, 156), (-1, 10), (2**31 - 1, 10)])
def test_impossible_counts_are_refused(n, at, counts):
    content = bytearray(written(counts, crc=0))
    content[at : at + (2 if at == 156 else 4)] = struct.pack("<h" if at == 156 else "<i", n)
    with pytest.raises(UnreadableError):
        only(bytes(content))


def test_hours_take_little_beyond_their_samples(peak_mb):
    hours = np.zeros((3, 4 * 3600 * 128), dtype="<i2")
    hours[:, ::100] = 300
    content = written(hours, fs=128)
    with peak_mb(3.2 * 4 * hours.size / 1e6 + 40):  # float32, its checked copy, and a chunk
        record = only(content)
    assert record.duration_s == 4 * 3600


def test_a_long_record_stays_as_it_is_stored(rng):
    counts = rng.integers(-3000, 3000, (3, 200 * 900)).astype("<i2")
    counts[1, 777] = ishne.FAULT
    record = only(written(counts))
    assert isinstance(record.samples, Stored)
    scaled = expected(counts)
    scaled[1, 777] = np.nan
    np.testing.assert_allclose(record.sig, scaled, rtol=1e-6)
    np.testing.assert_array_equal(record.piece(700, 800), record.sig[:, 700:800])


def test_mutations_are_read_or_refused(counts):
    survives(written(counts))
    survives(written(counts, crc=0), repaired=lambda c: c[:8] + b"\0\0" + c[10:])
