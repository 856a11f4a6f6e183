"""HL7 aECG (ANSI/HL7 V3 ECG R1): the rhythm series of an annotated ECG.

Read without ecgdatakit, which rounds fs to whole Hz and reads the first sequence set of the first
series alone. A sample is origin + scale x digit; the time sequence's increment gives fs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element  # nosec B405  # a type: defusedxml parses

import numpy as np

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import markup
from ecg.formats.channels import CHUNK, MICROVOLTS, Channel, fs_of_interval, scaled, to_record
from ecg.formats.source import File, Hints, check_count
from ecg.leads import canonical
from ecg.limits import Limits
from ecg.record import Record, check_channels, check_fs

_SECONDS = {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "μs": 1e6}  # of them in a second
_BEATS = ("REPRESENTATIVE_BEAT", "MEDIAN_BEAT")
_MISSING = {"NA", "NAN", "NI", "NULL", "UNK", "NASK", "ASKU", "-"}
_TIMESTAMP = re.compile(r"(\d{14})(\.\d{1,9})?([+-]\d{4})?")
# ISO/IEEE 11073-10101's numbers of the leads, which some files write instead of its names.
_NUMBERS = dict(
    zip(
        (f"2:{i}" for i in (*range(1, 9), *range(61, 65))),
        ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF"),
        strict=True,
    )
)


@dataclass(frozen=True)
class _Set:
    """Sequences of one time axis; `head` in seconds, of a clock or of the series' own."""

    channels: list[Channel]
    fs: float
    head: float | None


def matches(file: File) -> bool:
    return markup.root_name(file.content) == "AnnotatedECG"


def claims(file: File) -> bool:
    return file.name.lower().endswith(".aecg") or "aecg" in file.media_type.lower()


def read(file: File, hints: Hints) -> list[Record]:
    """A Record for each rhythm series, or each of its sequence sets that stand alone."""
    root = markup.parse(file.content, hints.limits)
    if root.tag != "AnnotatedECG":
        raise UnreadableError("not an HL7 aECG: the outermost element must be AnnotatedECG")
    series = _rhythms(root, hints.limits)
    records: list[Record] = []
    for i, one in enumerate(series):
        try:
            records.extend(_series(one, hints.limits))
        except EcgError as error:
            raise (error.within(f"series[{i}]") if len(series) > 1 else error) from None
        check_count(len(records), hints.limits)
    return records


def _rhythms(root: Element, limits: Limits) -> list[Element]:
    """Those called rhythm, or, where none is, all that are not a beat computed from others."""
    series = root.findall("component/series")
    codes = [markup.attribute(one, "code", "code").upper() for one in series]
    rhythms = [one for one, code in zip(series, codes, strict=True) if code == "RHYTHM"]
    if not rhythms:
        rhythms = [one for one, code in zip(series, codes, strict=True) if code not in _BEATS]
    if not rhythms:
        raise UnservableError("holds no rhythm series, and a single beat is not an ECG", "series")
    check_count(len(rhythms), limits)
    return rhythms


def _series(series: Element, limits: Limits) -> list[Record]:
    sets = [_set(one, limits) for one in series.findall("component/sequenceSet")]
    sets = [one for one in sets if one.channels]
    if not sets:
        raise UnservableError("holds no samples", "series")
    check_count(len(sets), limits)
    if len(sets) > 1 and (joined := _joined(sets)) is not None:
        sets = [joined]
    return [to_record(one.channels, one.fs, limits) for one in sets]


def _set(element: Element, limits: Limits) -> _Set:
    sequences = element.findall("component/sequence")
    check_channels(len(sequences) - 1, limits, "series")  # one of them is time's
    codes = [markup.attribute(one, "code", "code") for one in sequences]
    times = [
        one
        for one, code in zip(sequences, codes, strict=True)
        if code.upper().startswith("TIME_") and one.find("value/increment") is not None
    ]
    if not times:
        raise UnservableError("is missing: the series has no time sequence with an increment", "fs")
    fs = _fs(times[0], limits)
    channels = [
        Channel(_name(code), _samples(one, _name(code)))
        for one, code in zip(sequences, codes, strict=True)
        if not code.upper().startswith("TIME_") and one.find("value/digits") is not None
    ]
    return _Set(channels, fs, _head(times[0]))


def _fs(time: Element, limits: Limits) -> float:
    unit = markup.attribute(time, "value/increment", "unit")
    if unit not in _SECONDS:
        raise UnservableError("has an increment that is not in s, ms or us", "fs")
    step = markup.number(markup.attribute(time, "value/increment", "value"), "fs")
    return check_fs(fs_of_interval(step / _SECONDS[unit]), limits)


def _head(time: Element) -> float | None:
    """When the set begins, in seconds; None where it does not say."""
    value = markup.attribute(time, "value/head", "value")
    unit = markup.attribute(time, "value/head", "unit")
    try:
        if unit:
            return float(value) / _SECONDS[unit]
        if (stamp := _TIMESTAMP.fullmatch(value)) is None:
            return None
        whole = datetime.strptime(stamp[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return whole.timestamp() + float(stamp[2] or 0)
    except (KeyError, ValueError, OverflowError):
        return None


def _joined(sets: list[_Set]) -> _Set | None:
    """Sets that follow each other (3 x 4 leads of 2.5 s, or pieces), on one time axis.

    None where they do not say when they begin, overlap, or differ in fs.
    """
    heads = [one.head for one in sets if one.head is not None and np.isfinite(one.head)]
    fs = sets[0].fs
    if len(heads) < len(sets) or any(one.fs != fs for one in sets):
        return None
    channels, ends = [], {}
    total = sum(len(one.channels[0].sig) for one in sets)
    for head, one in sorted(zip(heads, sets, strict=True), key=lambda pair: pair[0]):
        seconds = head - min(heads)
        if seconds * fs > 2 * total:
            return None
        start = round(seconds * fs)
        for channel in one.channels:
            if start < ends.get(channel.name, 0):
                return None
            ends[channel.name] = start + len(channel.sig)
            channels.append(Channel(channel.name, channel.sig, start))
    return _Set(channels, fs, min(heads))


def _name(code: str) -> str:
    """The lead, if it is one; makers put their own prefix before `_ECG_LEAD_`."""
    lead = _NUMBERS.get(code) or code.upper().rpartition("_ECG_LEAD_")[2]
    return canonical(lead) or code


def _samples(sequence: Element, name: str) -> np.ndarray:
    """float32 mV; channels that are not leads are not decoded."""
    if canonical(name) is None:
        return np.empty(0, dtype=np.float32)
    factor = _microvolts(sequence, "scale", name)
    if not factor or not np.isfinite(factor):
        raise UnservableError("has a scale of zero or none", name)
    origin = _microvolts(sequence, "origin", name) if _says(sequence, "origin") else 0.0
    digits = sequence.findtext("value/digits") or ""
    if not digits.strip():
        raise UnservableError("holds no digits", name)
    pieces = [scaled(_numbers(chunk, name), factor, origin) for chunk in _chunks(digits)]
    return np.concatenate(pieces)


def _says(sequence: Element, what: str) -> bool:
    """Whether there is such a quantity that is not zero, for which no unit would be needed."""
    return markup.attribute(sequence, f"value/{what}", "value").strip("0.") != ""


def _microvolts(sequence: Element, what: str, name: str) -> float:
    value = markup.attribute(sequence, f"value/{what}", "value")
    factor = MICROVOLTS.get(markup.attribute(sequence, f"value/{what}", "unit").lower())
    if factor is None:
        raise UnservableError(f"has a {what} whose unit is not V, mV, uV or nV", name)
    return markup.number(value, name) * factor


def _chunks(digits: str) -> Iterator[str]:
    """Pieces of whole words, so that a long text is not held as words all at once."""
    at = 0
    while at < len(digits):
        end = at + CHUNK
        while end < len(digits) and not digits[end].isspace():
            end += 1
        yield digits[at:end]
        at = end


def _numbers(digits: str, name: str) -> np.ndarray:
    """float64, NaN for a missing sample."""
    words = digits.split()
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        words = ["nan" if word.upper() in _MISSING else word for word in words]
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        raise UnservableError("holds a digit that is not a number", name) from None
