"""EDF, EDF+ and BDF (Kemp 1992, Kemp and Olivan 2003; BioSemi's 24 bits).

Our own reader: pyEDFlib opens paths alone, refuses any EDF+ header that is not to the letter, and
gives doubles, where the body of a file of 24 h can be used as it lies. It is the tests' oracle.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.channels import ignored_names
from ecg.formats.edf_writing import FIELD_WIDTHS, HEADER_BYTES, SYNTHETIC, write
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.limits import LIMITS, Limits
from ecg.record import (
    VOLTAGES,
    Meta,
    Record,
    Stored,
    check_channels,
    check_fs,
    check_not_too_long,
    is_long,
    make_record,
    make_stored_record,
)

__all__ = ["claims", "matches", "parse", "read", "write"]

MAX_PIECES = 200_000  # of a file with gaps
_EDF, _BDF = b"0       ", b"\xffBIOSEMI"
_LABEL, _UNIT, _LOW, _HIGH, _DIGITAL_LOW, _DIGITAL_HIGH, _SAMPLES = 0, 2, 3, 4, 5, 6, 8
_PREFIX = re.compile(r"^(ECG|LEAD)[\s_-]+")
_AT_ONCE = 1 << 20  # samples
_ROUNDED_S = 0.01
_DAMAGED = "an EDF header with an impossible number"


@dataclass(frozen=True)
class Signal:
    """One signal. `counts`: [data record, sample] int16 of EDF, [data record, sample, 3] bytes of
    BDF, a view of the file's bytes; times `gain` plus `offset` they are in `unit`."""

    label: str
    unit: str
    fs: float
    gain: float
    offset: float
    missing: int | None  # the count that is no measurement
    counts: np.ndarray


@dataclass(frozen=True)
class Recording:
    """`starts`: where each data record begins, in s, or None where they follow each other."""

    signals: tuple[Signal, ...]
    starts: np.ndarray | None
    synthetic: bool


def matches(file: File) -> bool:
    head = file.content[:HEADER_BYTES]
    if len(head) < HEADER_BYTES or head[:8] not in (_EDF, _BDF):
        return False
    size, n_signals = head[184:192].strip(), head[252:256].strip()
    return (
        n_signals.isdigit() and size.isdigit() and int(size) == HEADER_BYTES * (1 + int(n_signals))
    )


def claims(file: File) -> bool:
    known = file.content[:8] in (_EDF, _BDF)
    return known or file.name.lower().endswith((".edf", ".bdf")) or "edf" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    recording = parse(file, hints.limits)
    signals = recording.signals
    names = _leads([signal.label for signal in signals], hints)
    # Leads of one fs make a record: that which most have, or else the highest.
    having = Counter(s.fs for s, name in zip(signals, names, strict=True) if name)
    if not having:
        raise UnservableError(
            "none of the channels is one of the twelve leads; name them in `leads`, for example "
            "?leads=I,II",
            "leads",
        )
    fs = check_fs(max(having, key=lambda fs: (having[fs], fs)), hints.limits)
    rows: dict[str, Signal] = {}
    ignored = []
    for i, (signal, name) in enumerate(zip(signals, names, strict=True), start=1):
        if name is None or name in rows or signal.fs != fs:
            ignored.append((i, signal.label))
        else:
            rows[name] = signal
    chosen, leads = list(rows.values()), list(rows)
    meta = Meta(None, ignored_names(ignored), recording.synthetic)
    if recording.starts is None and _may_stay(chosen, fs):
        return [make_stored_record(_stored(chosen, hints), fs, leads, meta, hints.limits)]
    sig = _millivolts(chosen, recording.starts, hints)
    return [make_record(sig, fs, leads, "mV", meta, hints.limits)]


def parse(file: File, limits: Limits = LIMITS) -> Recording:
    """The signals of a file but its annotations, their samples not yet touched.

    Errors: UnreadableError, UnservableError.
    """
    content = file.content
    if content[:8] not in (_EDF, _BDF) or len(content) < 2 * HEADER_BYTES:
        raise UnreadableError("neither an EDF nor a BDF file")
    width = 3 if content[:8] == _BDF else 2
    n_signals = _whole(content[252:256])
    start = HEADER_BYTES * (1 + n_signals)
    check_channels(n_signals, limits)
    if n_signals <= 0 or start > len(content):
        raise UnreadableError("an EDF header that does not describe the signals it announces")
    fields = _fields(content, n_signals)
    lengths = [_whole(text) for text in fields[_SAMPLES]]
    record_bytes = sum(lengths) * width
    seconds = _number(content[244:252])
    if record_bytes <= 0 or min(lengths) < 0 or seconds <= 0:
        raise UnreadableError("an EDF file without samples")
    held = (len(content) - start) // record_bytes
    n_records = _whole(content[236:244])
    if n_records < 0:  # not known when the header was written
        n_records = held
    if n_records > held:
        raise UnreadableError(
            f"the header promises {n_records} data records; the file holds {held} of them"
        )
    body = np.frombuffer(content, np.uint8, n_records * record_bytes, start)
    body = body.reshape(n_records, record_bytes)
    ends = np.cumsum(lengths) * width
    parts = [body[:, end - n * width : end] for end, n in zip(ends, lengths, strict=True)]
    columns = [[field[i] for field in fields] for i in range(n_signals)]
    notes = [part for part, c in zip(parts, columns, strict=True) if _is_annotations(c)]
    signals = tuple(
        _signal(c, part, width, seconds)
        for part, c in zip(parts, columns, strict=True)
        if not _is_annotations(c) and part.shape[1]
    )
    gaps = content[192:197] in (b"EDF+D", b"BDF+D")
    starts = _starts(notes, n_records) if gaps else None
    return Recording(signals, starts, SYNTHETIC.encode() in content[88:168].split())


def _fields(content: bytes, n_signals: int) -> list[list[bytes]]:
    """[field][signal], trimmed."""
    fields = []
    at = HEADER_BYTES
    for width in FIELD_WIDTHS:
        column = content[at : at + width * n_signals]
        fields.append([column[i : i + width].strip(b" \0") for i in range(0, len(column), width)])
        at += width * n_signals
    return fields


def _is_annotations(column: list[bytes]) -> bool:
    return column[_LABEL] in (b"EDF Annotations", b"BDF Annotations")


def _signal(column: list[bytes], part: np.ndarray, width: int, seconds: float) -> Signal:
    n_records, n_bytes = part.shape
    n_samples = n_bytes // width
    low, high, digital_low, digital_high = (
        _number(column[i]) for i in (_LOW, _HIGH, _DIGITAL_LOW, _DIGITAL_HIGH)
    )
    scaled = digital_high != digital_low and high != low
    gain = (high - low) / (digital_high - digital_low) if scaled else math.nan
    least = -(2 ** (8 * width - 1))
    return Signal(
        label=column[_LABEL].decode("latin-1"),
        unit=column[_UNIT].decode("latin-1"),
        fs=float(f"{n_samples / seconds:.9g}"),
        gain=gain,
        offset=low - digital_low * gain,
        missing=least if digital_low > least else None,
        counts=part.reshape(n_records, n_samples, 3) if width == 3 else part.view("<i2"),
    )


def _leads(labels: list[str], hints: Hints) -> list[str | None]:
    """The lead of each signal. Sleep and hand-held recorders call their only one ECG or EKG: it is
    taken as lead I, unless the sender says which it is."""
    plain = [label.upper().replace("EKG", "ECG") for label in labels]
    names = [canonical(_PREFIX.sub(r"\1 ", label)) for label in plain]
    if any(names):
        return names
    unnamed = [i for i, label in enumerate(plain) if "ECG" in label] or range(len(labels))
    if hints.leads and len(hints.leads) == len(unnamed):
        given = dict(zip(unnamed, map(canonical, hints.leads), strict=True))
        return [given.get(i) for i in range(len(labels))]
    if len(unnamed) == 1 and "ECG" in plain[unnamed[0]]:
        return ["I" if i == unnamed[0] else None for i in range(len(labels))]
    return names


def _may_stay(signals: list[Signal], fs: float) -> bool:
    """Whether the samples of a long record need not be turned into mV before they are used."""
    in_16_bits = all(s.counts.ndim == 2 for s in signals)
    return (
        in_16_bits
        and len({s.missing for s in signals}) == 1
        and is_long(signals[0].counts.size, fs)
    )


def _stored(signals: list[Signal], hints: Hints) -> Stored:
    n_samples = signals[0].counts.shape[1]

    def take(start: int, stop: int) -> np.ndarray:
        first, last = start // n_samples, -(-stop // n_samples)
        at = slice(start - first * n_samples, stop - first * n_samples)
        return np.stack([s.counts[first:last].reshape(-1)[at] for s in signals])

    return Stored(
        take,
        len(signals),
        signals[0].counts.size,
        np.array([s.gain * _factor(s, hints) for s in signals]),
        np.array([-s.offset / s.gain for s in signals]),
        sum(s.counts.nbytes for s in signals),
        signals[0].missing,
    )


def _millivolts(signals: list[Signal], starts: np.ndarray | None, hints: Hints) -> np.ndarray:
    """float32 [lead, time] of signals of one fs; NaN where nothing was recorded."""
    n_records, n_samples = signals[0].counts.shape[:2]
    missing = None if starts is None else _gaps(starts, n_samples, signals[0].fs)
    total = n_records * n_samples + (int(missing[-1]) if missing is not None and n_records else 0)
    if total > 2 * n_records * n_samples:
        raise UnservableError("an EDF+D file of more gaps than signal; send its parts alone")
    check_not_too_long(total, signals[0].fs, hints.limits)
    hints.limits.check_samples(total * len(signals))
    sig = np.full((len(signals), total), np.nan, dtype=np.float32)
    for row, signal in zip(sig, signals, strict=True):
        factor = _factor(signal, hints)
        for records, samples in _blocks(n_records, n_samples):
            places = np.arange(records.start, records.stop) * n_samples
            if missing is not None:
                places += missing[records]
            at = places[:, None] + np.arange(samples.start, samples.stop)
            row[at] = _scaled(signal, signal.counts[records, samples], factor)
    # Data records are of one length: what the last one lacked was filled up.
    sure = max(0, total - n_samples + 1)
    recorded = np.logical_or.reduce(np.isfinite(sig[:, sure:]), axis=0)
    return sig[:, : total - int(np.argmax(recorded[::-1])) if recorded.any() else sure]


def _gaps(starts: np.ndarray, n_samples: int, fs: float) -> np.ndarray:
    """Samples missing before each data record, in all. Time stamps are rounded: a record may seem
    to begin a little early or late. Errors: UnreadableError."""
    found, gap, within = [], 0, max(1.0, _ROUNDED_S * fs)
    places = np.arange(len(starts)) * n_samples
    for seen in (np.rint((starts - starts[:1]) * fs) - places).tolist():
        if seen < gap - within:
            raise UnreadableError("an EDF+D file whose data records overlap")
        gap = int(seen) if seen > gap + within else gap
        found.append(gap)
    return np.array(found, dtype=np.int64)


def _blocks(n_records: int, n_samples: int) -> Iterator[tuple[slice, slice]]:
    """Data records, and samples of them, few enough to be scaled at once."""
    step = max(1, _AT_ONCE // n_samples)
    for first in range(0, n_records, step):
        for start in range(0, n_samples, _AT_ONCE):
            yield (
                slice(first, min(first + step, n_records)),
                slice(start, min(start + _AT_ONCE, n_samples)),
            )


def _scaled(signal: Signal, counts: np.ndarray, factor: float) -> np.ndarray:
    """mV, float32, of some of a signal's counts; one rounding, at the end."""
    if counts.ndim == 3:
        low, middle, high = (counts[..., i].astype(np.int32) for i in range(3))
        counts = low | middle << 8 | (high << 24 >> 8)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = ((counts * signal.gain + signal.offset) * factor).astype(np.float32)
    if signal.missing is not None:
        scaled[counts == signal.missing] = np.nan
    return scaled


def _factor(signal: Signal, hints: Hints) -> float:
    """Errors: UnservableError where the unit is no voltage, or nothing says how large one is."""
    where = "channel"
    if not math.isfinite(signal.gain) or not math.isfinite(signal.offset):
        raise UnservableError("a lead whose physical or digital range is empty", where)
    factor = VOLTAGES.get((signal.unit or hints.units or "").strip().lower())
    if factor is None:
        raise UnservableError("a lead is not in V, mV, uV or nV", where)
    return factor


def _starts(notes: list[np.ndarray], n_records: int) -> np.ndarray:
    """When each data record began, in s: the first time stamp of each (EDF+ 2.2.4)."""
    if not notes:
        raise UnreadableError("an EDF+D file that does not say when its data records began")
    if n_records > MAX_PIECES:
        raise UnservableError(f"an EDF+D file of more than {MAX_PIECES} pieces")
    stamps = [bytes(note[:32]).split(b"\x14")[0].split(b"\x15")[0] for note in notes[0]]
    starts = np.array([_number(stamp.strip(b"\0")) for stamp in stamps])
    if n_records and np.abs(starts).max() > 1e7:
        raise UnreadableError(_DAMAGED)
    return starts


def _number(text: bytes) -> float:
    """Of a header: with a decimal comma, too, as some write it. Errors: UnreadableError."""
    try:
        value = float(text.strip(b" \0").replace(b",", b".").decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        value = math.nan
    if not math.isfinite(value):
        raise UnreadableError(_DAMAGED)
    return value


def _whole(text: bytes) -> int:
    value = _number(text)
    if not -1 <= value < 1e9 or value != int(value):
        raise UnreadableError(_DAMAGED)
    return int(value)
