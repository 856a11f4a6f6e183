"""SCP-ECG (EN 1064, ISO 11073-91064): lead definition, reference beat and rhythm data.

Read without ecgdatakit, which decodes bit by bit (a large body takes minutes), leaves a wrong CRC
to a warning, rounds fs to whole Hz and knows no bimodal compression.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.channels import Channel, fs_of_interval, scaled, to_record
from ecg.formats.huffman import Decoder, read_tables
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.limits import Limits
from ecg.record import Record, check_channels

SECTION_HEADER = 16
MAX_DECIMATION = 4
MAX_BEATS = 4096
MAX_SAMPLES = 240_000  # a lead: 8 minutes at 500 Hz, in a format of 64 KB a lead
_HUFFMAN, _LEADS, _QRS, _REFERENCE, _RHYTHM, _LONG_RHYTHM = 2, 3, 4, 5, 6, 12
_READ = (_HUFFMAN, _LEADS, _QRS, _REFERENCE, _RHYTHM)
_NAMES = {
    **dict(enumerate(("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "V7"), start=1)),
    **dict(enumerate(("V2R", "V3R", "V4R", "V5R", "V6R", "V7R", "X", "Y", "Z"), start=10)),
    **dict(enumerate(("III", "aVR", "aVL", "aVF", "-aVR", "V8", "V9", "V8R", "V9R"), start=61)),
    **dict(enumerate(("D", "A", "J"), start=70)),
}


@dataclass(frozen=True)
class _Lead:
    """One of section 3: samples `first` to `last`, counted from 1."""

    name: str
    first: int
    last: int

    @property
    def n_samples(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class _Coded:
    """Section 5 or 6: nV a count, us a sample, order of differences, flag, bytes of each lead."""

    nanovolts: int
    interval: int
    differences: int
    bimodal: bool
    leads: list[bytes]


@dataclass(frozen=True)
class _Beats:
    """Section 4: where the reference beat was subtracted (type, first, fiducial, last), and which
    samples were kept at full rate; `fiducial` in the reference beat, `length` of it in ms."""

    length: int
    fiducial: int
    subtracted: list[tuple[int, int, int, int]]
    protected: list[tuple[int, int]]


def matches(file: File) -> bool:
    """Section 0, at byte 7, that points to itself first."""
    content = file.content[:32]
    if len(content) < 32:
        return False
    section, length = struct.unpack_from("<HI", content, 8)
    pointer, _, index = struct.unpack_from("<HII", content, 22)
    return section == pointer == 0 and length >= SECTION_HEADER + 10 and index == 7


def claims(file: File) -> bool:
    return file.name.lower().endswith((".scp", ".scp-ecg")) or "scp" in file.media_type.lower()


def read(file: File, hints: Hints) -> list[Record]:
    if not matches(file):
        raise UnreadableError("not an SCP-ECG file, which begins with a pointer section")
    sections = _sections(file.content)
    if _RHYTHM not in sections:
        kind = "only long-term data" if _LONG_RHYTHM in sections else "no rhythm data"
        raise UnservableError(f"holds {kind}; SCP-ECG is read with section 6")
    if _LEADS not in sections:
        raise UnreadableError("has no lead definition (section 3)")
    leads, subtracts = _lead_definition(sections[_LEADS], hints.limits)
    rhythm = _coded(sections[_RHYTHM], len(leads))
    reference = None
    if _REFERENCE in sections and (subtracts or rhythm.bimodal):
        reference = _coded(sections[_REFERENCE], len(leads))
    beats = _beats(sections[_QRS]) if _QRS in sections and reference is not None else None
    tables = read_tables(sections[_HUFFMAN]) if _HUFFMAN in sections else []
    decoder = Decoder(tables) if tables else None
    if subtracts and (reference is None or beats is None):
        raise UnreadableError("leaves out the reference beat that was subtracted from it")
    by = _decimation(rhythm, reference) if subtracts or rhythm.bimodal else 1
    if by > 1 and reference is not None:
        fs = _fs(reference.interval)
    else:
        fs = _fs(rhythm.interval)
    channels = []
    for i, lead in enumerate(leads):
        if canonical(lead.name) is None:
            channels.append(Channel(lead.name, np.empty(0)))
            continue
        zones = beats.protected if beats is not None and rhythm.bimodal else []
        counts = _full_rate(_stored(rhythm, i, lead, decoder, zones, by), lead, zones, by)
        unit = rhythm.nanovolts
        if subtracts and reference is not None and beats is not None:
            counts, unit = _with_beats(counts, lead, i, rhythm, reference, beats, decoder)
        channels.append(Channel(lead.name, scaled(counts, unit / 1000), lead.first))
    return [to_record(channels, fs, hints.limits)]


def _sections(content: bytes) -> dict[int, bytes]:
    """What the sections hold behind their headers, of those that are read.

    Errors: UnreadableError where they lie outside the file, or neither their CRC nor the file's
    fits; some writers leave one of them, or both, at zero.
    """
    (size,) = struct.unpack_from("<I", content, 2)
    if size > len(content):
        raise UnreadableError("is cut: it is shorter than the size that it declares")
    if size >= SECTION_HEADER + 6:
        content = content[:size]
    whole = _fits(content)
    (length,) = struct.unpack_from("<I", content, 10)
    sections = {}
    for at in range(6 + SECTION_HEADER, min(6 + length, len(content)) - 9, 10):
        section, n_bytes, index = struct.unpack_from("<HII", content, at)
        if section not in (*_READ, _LONG_RHYTHM) or n_bytes <= SECTION_HEADER:
            continue
        body = content[index - 1 : index - 1 + n_bytes] if index else b""
        if len(body) < n_bytes or struct.unpack_from("<H", body, 2)[0] != section:
            raise UnreadableError(f"points for section {section} to where it is not")
        if whole is not True and _fits(body) is False:
            raise UnreadableError(f"is damaged: section {section} does not fit its CRC")
        sections[section] = body[SECTION_HEADER:]
    return sections


def _fits(block: bytes) -> bool | None:
    """Whether the CRC-CCITT in the first two bytes is the others'; None where there is none."""
    (stated,) = struct.unpack_from("<H", block)
    if not stated:
        return None
    computed = binascii.crc_hqx(block[2:], 0xFFFF)
    return stated in (computed, computed >> 8 | (computed & 0xFF) << 8)


def _lead_definition(section: bytes, limits: Limits) -> tuple[list[_Lead], bool]:
    """The leads, and whether the reference beat is subtracted from them."""
    if len(section) < 2 or not section[0] or len(section) < 2 + 9 * section[0]:
        raise UnreadableError("has a lead definition of an impossible size")
    leads = []
    for first, last, code in struct.iter_unpack("<IIB", section[2 : 2 + 9 * section[0]]):
        if last < first:
            raise UnreadableError("has a lead that ends before it begins")
        if last - first >= MAX_SAMPLES:
            raise UnservableError(f"holds more than {MAX_SAMPLES} samples a lead", "sig")
        leads.append(_Lead(_NAMES.get(code, f"lead {code}"), first, last))
    check_channels(len(leads), limits)
    limits.check_samples(sum(lead.n_samples for lead in leads if canonical(lead.name)), "sig")
    return leads, bool(section[1] & 1)


def _coded(section: bytes, n_leads: int) -> _Coded:
    if len(section) < 6 + 2 * n_leads:
        raise UnreadableError("ends within the sizes of its leads")
    nanovolts, interval, differences, flag = struct.unpack_from("<HHBB", section)
    if differences > 2:
        raise UnreadableError("has differences of an unknown order")
    if not nanovolts or not interval:
        raise UnservableError("has no amplitude or no interval for its samples")
    sizes = struct.unpack_from(f"<{n_leads}H", section, 6)
    at, leads = 6 + 2 * n_leads, []
    for size in sizes:
        if at + size > len(section):
            raise UnreadableError("ends within the samples of a lead")
        leads.append(section[at : at + size])
        at += size
    return _Coded(nanovolts, interval, differences, flag == 1, leads)


def _beats(section: bytes) -> _Beats:
    if len(section) < 6:
        raise UnreadableError("ends within the QRS locations")
    length, fiducial, n = struct.unpack_from("<HHH", section)
    if n > MAX_BEATS or len(section) < 6 + 14 * n:
        raise UnreadableError("has an impossible number of QRS locations")
    subtracted = list(struct.iter_unpack("<HIII", section[6 : 6 + 14 * n]))
    zones = section[6 + 14 * n : 6 + 22 * n]
    protected = list(struct.iter_unpack("<II", zones)) if len(zones) == 8 * n else []
    return _Beats(length, fiducial, subtracted, protected)


def _decimation(rhythm: _Coded, reference: _Coded | None) -> int:
    """How many samples outside the protected zones were made one of; 1 where none were."""
    if reference is None or reference.interval >= rhythm.interval:
        return 1
    by = round(rhythm.interval / reference.interval)
    if by > MAX_DECIMATION or abs(by * reference.interval - rhythm.interval) > MAX_DECIMATION:
        raise UnreadableError("has intervals that are not 1 to 4 of the reference beat's")
    return by


def _fs(interval: int) -> float:
    """Hz; an interval of whole us is that of a whole number of Hz if any is as near."""
    rate = round(1e6 / interval)
    if abs(1e6 / rate - interval) < 1:
        return float(rate)
    return fs_of_interval(interval / 1e6)


def _stored(
    coded: _Coded, i: int, lead: _Lead, decoder: Decoder | None, zones: list, by: int
) -> np.ndarray:
    """The counts that lead `i` holds, int64, their differences undone."""
    n = lead.n_samples if by == 1 else sum(-(-n // every) for n, every in _runs(lead, zones, by))
    return _amplitudes(_codes(coded.leads[i], n, decoder), coded.differences)


def _codes(content: bytes, n: int, decoder: Decoder | None) -> np.ndarray:
    if decoder is not None:
        return decoder.samples(content, n)
    if 2 * n > len(content):
        raise UnreadableError("holds a lead that ends before its last sample")
    return np.frombuffer(content, dtype="<i2", count=n).astype(np.int64)


def _amplitudes(values: np.ndarray, differences: int) -> np.ndarray:
    """Out of first or second differences, which writers compute in 16 bits, wrapping around."""
    if differences == 1:
        values = np.cumsum(values)
    elif differences == 2 and len(values) > 2:
        slopes = np.cumsum(np.concatenate((values[1:2] - values[:1], values[2:])))
        values = np.concatenate((values[:1], values[0] + np.cumsum(slopes)))
    return values.astype(np.int16).astype(np.int64)


def _runs(lead: _Lead, zones: list[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    """The lead's samples in runs of (how many, how many of them were made one)."""
    runs, at = [], lead.first
    for first, last in sorted(zones):
        first, last = max(first, at), min(last, lead.last)
        if last < first:
            continue
        runs += [(first - at, by), (last - first + 1, 1)]
        at = last + 1
    return [run for run in (*runs, (lead.last - at + 1, by)) if run[0] > 0]


def _full_rate(stored: np.ndarray, lead: _Lead, zones: list, by: int) -> np.ndarray:
    """Decimated runs interpolated between the middles of what each value stands for."""
    if by == 1:
        return stored
    if lead.n_samples > MAX_DECIMATION * len(stored):
        raise UnreadableError("promises more samples than it holds")
    pieces, at = [], 0
    for n, every in _runs(lead, zones, by):
        held = stored[at : at + -(-n // every)]
        at += len(held)
        if every > 1:
            middles = np.minimum(np.arange(len(held)) * every + (every - 1) / 2, n - 1)
            held = np.round(np.interp(np.arange(n), middles, held)).astype(np.int64)
        pieces.append(held)
    return np.concatenate(pieces)


def _with_beats(
    counts: np.ndarray,
    lead: _Lead,
    i: int,
    rhythm: _Coded,
    reference: _Coded,
    beats: _Beats,
    decoder: Decoder | None,
) -> tuple[np.ndarray, int]:
    """The lead with the reference beat added where it was subtracted, and its nV a count: the
    greatest in which both are whole."""
    n = round(beats.length * 1000 / reference.interval)
    beat = _amplitudes(_codes(reference.leads[i], n, decoder), reference.differences)
    unit = math.gcd(rhythm.nanovolts, reference.nanovolts)
    counts = counts * (rhythm.nanovolts // unit)
    beat = beat * (reference.nanovolts // unit)
    for kind, first, fiducial, last in beats.subtracted:
        offset = fiducial - beats.fiducial + 1  # the sample that the beat begins at
        first = max(first, lead.first, offset)
        last = min(last, lead.last, offset + n - 1)
        if kind == 0 and first <= last:  # other kinds were left as they are
            counts[first - lead.first : last - lead.first + 1] += beat[
                first - offset : last - offset + 1
            ]
    return counts, unit
