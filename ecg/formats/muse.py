"""GE MUSE XML (RestingECG): the rhythm waveform, its leads as base64 of little-endian integers.

Read without ecgdatakit, which rounds fs to whole Hz and leaves a wrong CRC to a warning. The
external DTD that such files name is never fetched. Leads that are not stored are not derived here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from xml.etree.ElementTree import Element  # nosec B405  # a type: defusedxml parses

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import markup
from ecg.formats.channels import MICROVOLTS, Channel, scaled, to_record
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.record import Record, check_channels

MAX_LEADS = 64
_SAMPLE_BYTES = (1, 2, 4)


@dataclass(frozen=True)
class _Lead:
    """`counts` int [time] of `microvolts` each; `intact` by its CRC, None where it has none."""

    name: str
    counts: np.ndarray
    microvolts: float
    intact: bool | None


def matches(file: File) -> bool:
    return markup.root_name(file.content) == "RestingECG"


def claims(file: File) -> bool:
    return "muse" in file.media_type.lower()


def read(file: File, hints: Hints) -> list[Record]:
    root = markup.parse(file.content, hints.limits)
    if root.tag != "RestingECG":
        raise UnreadableError("not a MUSE XML: the outermost element must be RestingECG")
    waveform = _rhythm(root)
    elements = waveform.findall("LeadData")
    if not elements:
        raise UnservableError("holds no lead in its rhythm waveform", "leads")
    if len(elements) > MAX_LEADS:
        raise UnservableError(f"holds more than {MAX_LEADS} leads", "leads")
    check_channels(len(elements), hints.limits, "leads")
    names = [markup.text(element, "LeadID") for element in elements]
    leads = [
        _lead(element, canonical(name) or "")
        for element, name in zip(elements, names, strict=True)
        if canonical(name)
    ]
    # Programs that rewrite such files leave the CRCs of the old samples in them, all of them:
    # where some fit, one that does not is of a damaged lead.
    if any(lead.intact for lead in leads):
        for lead in leads:
            if lead.intact is False:
                raise UnreadableError("is damaged: its samples do not fit its CRC", lead.name)
    held = iter(Channel(one.name, scaled(one.counts, one.microvolts)) for one in leads)
    channels = [next(held) if canonical(name) else Channel(name, np.empty(0)) for name in names]
    return [to_record(channels, _fs(waveform), hints.limits)]


def _rhythm(root: Element) -> Element:
    """The waveform that is called rhythm, or that is called nothing; never a median beat."""
    waveforms = root.findall("Waveform")
    for wanted in ("rhythm", ""):
        for waveform in waveforms:
            if markup.text(waveform, "WaveformType").lower() == wanted:
                return waveform
    raise UnservableError("holds no rhythm waveform, and a median beat is not an ECG")


def _fs(waveform: Element) -> float:
    base = markup.number(markup.text(waveform, "SampleBase"), "fs")
    exponent = markup.number(markup.text(waveform, "SampleExponent") or "0", "fs")
    if not -12 <= exponent <= 12:
        raise UnservableError("has an impossible SampleExponent", "fs")
    return base * 10**exponent if exponent >= 0 else base / 10**-exponent


def _lead(element: Element, name: str) -> _Lead:
    content = _decoded(markup.text(element, "WaveFormData"), name)
    size = markup.number(markup.text(element, "LeadSampleSize") or "2", name)
    if size not in _SAMPLE_BYTES or len(content) % size:
        raise UnreadableError("is not whole samples of 1, 2 or 4 bytes", name)
    n_samples = len(content) // int(size)
    _check_total(element, "LeadByteCountTotal", len(content), name)
    _check_total(element, "LeadSampleCountTotal", n_samples, name)
    unit = MICROVOLTS.get(markup.text(element, "LeadAmplitudeUnits").lower())
    if unit is None:
        raise UnservableError("has no LeadAmplitudeUnits of MICROVOLTS or MILLIVOLTS", name)
    per_bit = markup.number(markup.text(element, "LeadAmplitudeUnitsPerBit"), name) * unit
    if not 0 < per_bit < np.inf:
        raise UnservableError("has no positive LeadAmplitudeUnitsPerBit", name)
    stated = markup.text(element, "LeadDataCRC32")
    intact = zlib.crc32(content) == int(stated) if stated.isdecimal() else None
    return _Lead(name, np.frombuffer(content, dtype=f"<i{int(size)}"), per_bit, intact)


def _decoded(data: str, name: str) -> bytes:
    try:
        content = markup.from_base64(data)
    except ValueError:
        raise UnreadableError("is not base64", name) from None
    if not content:
        raise UnservableError("holds no samples", name)
    return content


def _check_total(element: Element, tag: str, held: int, name: str) -> None:
    stated = markup.text(element, tag)
    if stated and markup.number(stated, name) != held:
        raise UnreadableError(f"holds {held}, which is not what its {tag} says", name)
