"""SCP-ECG: a published example, and records written section by section as EN 1064 says."""

import binascii
import struct
import time

import numpy as np
import pytest

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.formats.huffman import Decoder, read_tables
from ecg.leads import LEADS
from tests.conftest import DATA
from tests.ecg.formats.mutations import survives

IDS = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8, "X": 16,
       "III": 61, "aVR": 62, "aVL": 63, "aVF": 64, "odd": 200}  # fmt: skip
N = 3000


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(5)
    walk = rng.integers(-30, 31, size=(12, N)).cumsum(axis=1)
    walk[:, 1000:1005] += 900  # jumps that only the escapes can code
    return walk


# A writer


def differences(row, order):
    row = np.asarray(row, dtype=np.int64)
    if order == 0:
        return row
    if order == 1:
        return np.diff(row, prepend=0)
    return np.concatenate((row[:2], row[2:] - 2 * row[1:-1] + row[:-2]))


def default_bits(value):
    if value == 0:
        return "0"
    if abs(value) <= 8:
        return "1" * abs(value) + "0" + ("1" if value < 0 else "0")
    if -128 <= value < 128:
        return "1111111110" + f"{value & 0xFF:08b}"
    return "1111111111" + f"{value & 0xFFFF:016b}"


def packed(bits):
    bits += "0" * (-len(bits) % 16)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def default_coded(values):
    return packed("".join(default_bits(int(v)) for v in values))


def plain_coded(values):
    return np.asarray(values).astype("<i2").tobytes()


def samples(rows, order=2, coded=default_coded, nanovolts=2500, interval=2000, flag=0):
    leads = [coded(differences(row, order)) for row in rows]
    head = struct.pack("<HHBB", nanovolts, interval, order, flag)
    return head + struct.pack(f"<{len(leads)}H", *map(len, leads)) + b"".join(leads)


def definition(names, spans, flags=0b100):
    leads = [struct.pack("<IIB", *span, IDS[n]) for n, span in zip(names, spans, strict=True)]
    return bytes([len(leads), flags]) + b"".join(leads)


def with_crc(block):
    return struct.pack("<H", binascii.crc_hqx(block, 0xFFFF)) + block


def assembled(sections, crcs=True):
    """Sections by number, each behind its header; twelve pointers, as the standard has them."""
    at = 6 + 16 + 12 * 10
    pointers, blocks = [struct.pack("<HII", 0, at - 6, 7)], []
    for number in range(1, 12):
        body = sections.get(number)
        if body is None:
            pointers.append(struct.pack("<HII", number, 0, 0))
            continue
        body += b"\0" * (len(body) % 2)
        header = struct.pack("<HIBB6x", number, 16 + len(body), 20, 20)
        block = with_crc(header + body) if crcs else b"\0\0" + header + body
        pointers.append(struct.pack("<HII", number, len(block), at + 1))
        blocks.append(block)
        at += len(block)
    header = struct.pack("<HIBB6s", 0, 16 + 120, 20, 20, b"SCPECG") + b"".join(pointers)
    zero = with_crc(header) if crcs else b"\0\0" + header
    whole = struct.pack("<I", at) + zero + b"".join(blocks)
    return with_crc(whole) if crcs else b"\0\0" + whole


def repaired(content):
    """The same with every CRC left out, so that what is behind them is read."""
    out = bytearray(content)
    out[:2] = b"\0\0"
    for at in range(22, 6 + 16 + 12 * 10 - 9, 10):
        index = int.from_bytes(out[at + 6 : at + 10], "little")
        if 0 < index < len(out) - 2:
            out[index - 1 : index + 1] = b"\0\0"
    return bytes(out)


DEFAULT = struct.pack("<H", 19_999)
PATIENT = b"\x00\x07\x00Miller\0\xff\x00\x00"


def usual(counts, names=LEADS, tables=DEFAULT, **more):
    return assembled(
        {
            1: PATIENT,
            2: tables,
            3: definition(names, [(1, N)] * len(names)),
            6: samples(counts[: len(names)], **more),
        }
    )


def only(content):
    (record,) = read([File(content)], Hints())
    return record


def millivolts(counts, nanovolts=2500):
    return (counts * (nanovolts / 1000) * 1e-3).astype(np.float32)


# The published example


def test_the_published_example_is_read():
    record = only((DATA / "ecgtoolkit_Example.scp").read_bytes())
    assert (record.fs, record.n_samples, set(record.leads)) == (500.0, 5000, set(LEADS))
    first, second, third = (record.sig[record.leads.index(n)] for n in ("I", "II", "III"))
    assert np.abs(second - first - third).max() < 0.0026  # one count


# Samples


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("coding", ["default", "none", "absent"])
def test_every_coding_and_order_of_differences_gives_the_samples(coding, order, counts):
    coded = default_coded if coding == "default" else plain_coded
    tables = {"default": DEFAULT, "none": struct.pack("<H", 0), "absent": None}[coding]
    record = only(usual(counts, tables=tables, coded=coded, order=order))
    np.testing.assert_array_equal(record.sig, millivolts(counts))
    assert (record.leads, record.fs) == (LEADS, 500.0)


def test_differences_wrap_around_as_16_bits_do():
    steep = np.tile([30_000, -30_000], N // 2)[None]
    wrapped = [((row + 2**15) % 2**16) - 2**15 for row in (differences(steep[0], 2),)]
    head = struct.pack("<HHBBH", 1000, 2000, 2, 0, 2 * N) + plain_coded(wrapped[0])
    content = assembled({3: definition(["V1"], [(1, N)]), 6: head})
    np.testing.assert_array_equal(only(content).sig, millivolts(steep, 1000))


OWN = [  # two tables, the second for what is large; one code leads there and one back
    [(1, 1, 1, 0, "0"), (3, 3, 1, 1, "100"), (3, 3, 1, -1, "101"), (2, 2, 0, 2, "11")],
    [(2, 10, 1, 0, "00"), (2, 18, 1, 0, "01"), (1, 1, 0, 1, "1")],
]


def own_tables():
    out = struct.pack("<H", len(OWN))
    for table in OWN:
        out += struct.pack("<H", len(table))
        for prefix, total, mode, base, code in table:
            out += struct.pack("<BBBhI", prefix, total, mode, base, int(code[::-1], 2))
    return out


def own_coded(values):
    bits = ""
    for value in map(int, values):
        if abs(value) <= 1:
            bits += {0: "0", 1: "100", -1: "101"}[value]
        elif -128 <= value < 128:
            bits += f"1100{value & 0xFF:08b}1"
        else:
            bits += f"1101{value & 0xFFFF:016b}1"
    return packed(bits)


def test_own_tables_and_switches_between_them_are_followed(counts):
    record = only(usual(counts, tables=own_tables(), coded=own_coded))
    np.testing.assert_array_equal(record.sig, millivolts(counts))


def test_the_default_table_written_out_is_the_default_table(rng):
    codes = [(1, 1, 1, 0, "0")]
    for n in range(1, 9):
        codes += [(n + 2, n + 2, 1, n, "1" * n + "00"), (n + 2, n + 2, 1, -n, "1" * n + "01")]
    codes += [(10, 18, 1, 0, "1" * 9 + "0"), (10, 26, 1, 0, "1" * 10)]
    written = struct.pack("<HH", 1, len(codes)) + b"".join(
        struct.pack("<BBBhI", *code[:4], int(code[4][::-1], 2)) for code in codes
    )
    values = np.concatenate((rng.integers(-9, 10, 500), rng.integers(-(2**15), 2**15, 500)))
    content = default_coded(values)
    for tables in (written, DEFAULT):
        got = Decoder(read_tables(tables)).samples(content, len(values))
        np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize(
    ("interval", "fs"), [(1000, 1000), (2000, 500), (4000, 250), (3333, 300), (1953, 512),
                         (833, 1200), (7812, 128), (5000, 200)],
)  # fmt: skip
def test_an_interval_is_that_of_a_whole_fs(interval, fs, counts):
    long = np.tile(counts[:1], 2)
    content = {2: DEFAULT, 3: definition(["II"], [(1, 2 * N)]), 6: samples(long, interval=interval)}
    assert only(assembled(content)).fs == fs


def test_amplitudes_are_nanovolts_a_count(counts):
    record = only(usual(counts, ["V2"], nanovolts=4880))
    np.testing.assert_array_equal(record.sig, millivolts(counts[:1], 4880))


def test_leads_lie_where_they_were_recorded(counts):
    spans = [(1 + 750 * q, 750 + 750 * q) for q in range(4) for _ in range(3)]
    rows = [row[:750] for row in counts]
    record = only(assembled({2: DEFAULT, 3: definition(LEADS, spans), 6: samples(rows)}))
    assert record.sig.shape == (12, N)
    for i, (first, last) in enumerate(spans):
        known = np.flatnonzero(np.isfinite(record.sig[i]))
        assert (known[0] + 1, known[-1] + 1, len(known)) == (first, last, 750)
        np.testing.assert_array_equal(record.sig[i, known], millivolts(rows[i]))


def test_other_channels_are_ignored_and_not_decoded(counts):
    names = ["X", "II", "odd"]
    body = samples(counts[:3])
    record = only(assembled({2: DEFAULT, 3: definition(names, [(1, N)] * 3), 6: body}))
    assert record.leads == ("II",) and record.meta.ignored_channels == ("X", "channel 3")


# The reference beat, and what is decimated around it


def with_reference(counts, beat, fiducial, beats, by=1, zones=(), nanovolts=2500):
    """`beat` was taken off at (first, fiducial, last) of `beats`; outside `zones` each `by`
    samples are their mean."""
    residuals = counts.copy()
    factor = nanovolts // 2500
    for first, middle, last in beats:
        at = fiducial - middle + first - 1
        residuals[:, first - 1 : last] -= factor * beat[:, at : at + last - first + 1]
    rows = [decimated(row, by, zones) for row in residuals] if by > 1 else residuals
    locations = struct.pack("<HHH", beat.shape[1] * 2, fiducial, len(beats))
    locations += b"".join(struct.pack("<HIII", 0, *one) for one in beats)
    locations += b"".join(struct.pack("<II", *zone) for zone in zones)
    return assembled(
        {
            2: DEFAULT,
            3: definition(LEADS, [(1, N)] * 12, flags=0b101),
            4: locations,
            5: samples(beat, nanovolts=nanovolts),
            6: samples(rows, interval=2000 * by, flag=int(by > 1)),
        }
    )


def decimated(row, by, zones):
    out, at = [], 0
    for first, last in [*zones, (N + 1, N)]:
        run = row[at : first - 1].reshape(-1, by)
        out += [run.mean(axis=1).round().astype(int), row[first - 1 : last]]
        at = last
    return np.concatenate(out)


BEATS = [(101, 200, 400), (901, 1000, 1200), (2701, 2800, 3000)]


@pytest.fixture(scope="module")
def beat():
    return np.random.default_rng(6).integers(-300, 300, size=(12, 350))


@pytest.mark.parametrize("nanovolts", [2500, 5000])
def test_a_reference_beat_is_added_where_it_was_subtracted(nanovolts, beat, counts):
    content = with_reference(counts, beat, 120, BEATS, nanovolts=nanovolts)
    np.testing.assert_array_equal(only(content).sig, millivolts(counts))


@pytest.mark.parametrize("by", [2, 4])
def test_bimodal_compression_keeps_the_zones_and_the_rest_nearly(by, beat, counts):
    zones = [(161, 240), (961, 1040), (2761, 2840)]
    smooth = np.round(1000 * np.sin(np.arange(N) / 60) * np.linspace(0.5, 1, 12)[:, None])
    smooth = smooth.astype(int)
    for first, last in zones:
        smooth[:, first - 1 : last] += counts[:, first - 1 : last] % 50
    for first, middle, last in BEATS:
        smooth[:, first - 1 : last] += beat[:, 120 - middle + first - 1 :][:, : last - first + 1]
    record = only(with_reference(smooth, beat, 120, BEATS, by=by, zones=zones))
    assert (record.fs, record.n_samples) == (500.0, N)
    for first, last in zones:
        at = slice(first - 1, last)
        np.testing.assert_array_equal(record.sig[:, at], millivolts(smooth[:, at]))
    assert np.abs(record.sig - millivolts(smooth)).max() < 0.06 * by  # of 2.5 mV
    assert np.sqrt(np.mean((record.sig - millivolts(smooth)) ** 2)) < 0.01


def test_a_reference_beat_that_was_left_out_is_missed(beat, counts):
    content = assembled(
        {2: DEFAULT, 3: definition(LEADS, [(1, N)] * 12, flags=0b101), 6: samples(counts)}
    )
    with pytest.raises(UnreadableError, match="reference beat"):
        only(content)


# CRCs and sizes


@pytest.mark.parametrize("at", [2, 8, 350, 400, 1000, -20])
def test_a_changed_byte_is_found_by_the_crcs(at, counts):
    content = bytearray(usual(counts))
    content[at] ^= 0x10
    with pytest.raises(EcgError):
        only(bytes(content))


def test_a_changed_name_is_no_damage_to_the_samples(counts):
    content = bytearray(usual(counts))
    content[content.index(b"Miller")] ^= 1
    np.testing.assert_array_equal(only(bytes(content)).sig, millivolts(counts))


def test_records_without_crcs_are_read(counts):
    sections = {2: DEFAULT, 3: definition(LEADS, [(1, N)] * 12), 6: samples(counts)}
    content = assembled(sections, crcs=False)
    np.testing.assert_array_equal(only(content).sig, millivolts(counts))


def test_what_follows_the_record_is_passed_over(counts):
    assert only(usual(counts) + b"\0" * 100).n_samples == N


@pytest.mark.parametrize(
    ("sections", "kind", "says"),
    [
        ({3: None}, UnreadableError, "lead definition"),
        ({3: b"\x0c"}, UnreadableError, "lead definition"),
        ({6: None}, UnservableError, "no rhythm data"),
        ({6: b"\x01\x02"}, UnreadableError, "sizes"),
        ({6: samples([[0] * N] * 12, order=2)[:4] + b"\x03" + bytes(99)}, UnreadableError, "order"),
        ({6: samples([[0] * N] * 12, nanovolts=0)}, UnservableError, "amplitude"),
        ({6: samples([[0] * N] * 12, interval=0)}, UnservableError, "interval"),
        ({6: samples([[0] * 9] * 12)}, UnreadableError, "samples"),
        ({2: struct.pack("<HH", 1, 60_000)}, UnreadableError, "impossible size"),
        ({2: struct.pack("<HHBBBhI", 1, 1, 0, 0, 1, 0, 0)}, UnreadableError, "length"),
        ({2: struct.pack("<HHBBBhI", 1, 1, 1, 1, 0, 9, 0)}, UnreadableError, "no table"),
        ({2: struct.pack("<HHBBBhI", 1, 1, 1, 1, 0, 1, 0)}, UnreadableError, "ends before"),
        ({3: definition(LEADS, [(9, 1)] * 12)}, UnreadableError, "before it begins"),
        ({3: definition(LEADS, [(1, 2**32 - 1)] * 12)}, UnservableError, "more than 240000"),
        ({3: definition(LEADS, [(1, 240_000)] * 12)}, UnreadableError, "more samples"),
        ({3: definition(["X"] * 12, [(1, N)] * 12)}, UnservableError, "none of the channels"),
        ({3: definition(["I"] * 12, [(1, N)] * 12)}, UnservableError, "repeats lead I"),
        (
            {3: definition(LEADS, [(1, N)] * 11 + [(2**31, 2**31 + N - 1)])},
            UnreadableError,
            "too far apart",
        ),
    ],
)
def test_what_is_wrong_is_said(sections, kind, says, counts, peak_mb):
    usually = {2: DEFAULT, 3: definition(LEADS, [(1, N)] * 12), 6: samples(counts)}
    with peak_mb(60), pytest.raises(kind) as refusal:
        only(assembled({**usually, **sections}))
    assert says in str(refusal.value)


def test_a_full_body_of_the_shortest_codes_is_decoded_in_time():
    n = 240_000
    lead = bytes(65_535)
    head = struct.pack("<HHBB12H", 2500, 2000, 2, 0, *[65_535] * 12)
    content = assembled({2: DEFAULT, 3: definition(LEADS, [(1, n)] * 12), 6: head + lead * 12})
    begun = time.thread_time()
    assert only(content).n_samples == n
    assert time.thread_time() - begun < 5  # 1 s by itself


def test_mutations_are_read_or_refused(beat, counts):
    for content in (usual(counts), with_reference(counts, beat, 120, BEATS)):
        survives(content, 100)
        survives(content, 200, repaired)
