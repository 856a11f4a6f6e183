"""Philips Sierra and Philips ECG XML (1.03 to 1.04.02): `parsedwaveforms`, plain, base64 or XLI.

Read without ecgdatakit's parser, which rebuilds the compressed limb leads by rounding down, where
the devices round to zero (seen in the parity of what they store): 5 uV off at every other sample.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element  # nosec B405  # a type: defusedxml parses

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import markup, xli
from ecg.formats.channels import Channel, scaled, to_record
from ecg.formats.source import File, Hints
from ecg.leads import LEADS, LIMB_LEADS, canonical
from ecg.record import Record, check_channels, check_fs, check_not_too_long

MAX_LEADS = 32
MAX_SAMPLES = 60_000  # a lead; resting ECGs
WITH_PULSE_MS, ECG_MS = 11_000, 10_000  # the last second ends in a calibration pulse
_STANDARD = ("STD-12", "10-WIRE", "STD", "")
_YES = ("true", "yes", "t", "1")


def matches(file: File) -> bool:
    return markup.root_name(file.content) == "restingecgdata"


def claims(file: File) -> bool:
    media_type = file.media_type.lower()
    return "sierra" in media_type or "philips" in media_type


def read(file: File, hints: Hints) -> list[Record]:
    root = markup.parse(file.content, hints.limits)
    if root.tag != "restingecgdata":
        raise UnreadableError("not a Philips XML: the outermost element must be restingecgdata")
    signal = root.find("dataacquisition/signalcharacteristics")
    waveforms = next(root.iter("parsedwaveforms"), None)
    if waveforms is None:
        raise UnservableError("holds no parsedwaveforms; a representative beat is not an ECG")
    fs = _number(waveforms, "samplespersecond", signal, "samplingrate", "fs")
    check_fs(fs, hints.limits)
    duration = markup.number(waveforms.get("durationperchannel", ""), "durationperchannel")
    n_samples = duration * fs / 1000
    if not 1 <= n_samples <= MAX_SAMPLES:
        raise UnservableError("is impossible for a resting ECG", "durationperchannel")
    check_not_too_long(n_samples, fs, hints.limits)
    names = _names(waveforms, signal)
    check_channels(len(names), hints.limits, "numberofleads")
    hints.limits.check_samples(len(names) * round(n_samples), "parsedwaveforms")
    counts = _counts(waveforms, signal, names, round(n_samples))
    if duration == WITH_PULSE_MS:
        counts = [lead[: round(ECG_MS * fs / 1000)] for lead in counts]
    resolution = _resolution(waveforms, signal)
    zero = waveforms.get("signaloffset") or markup.text(signal, "signaloffset") or "0"
    origin = -markup.number(zero, "signaloffset") * resolution
    channels = [
        Channel(name, scaled(lead, resolution, origin))
        for name, lead in zip(names, counts, strict=True)
    ]
    return [to_record(channels, fs, hints.limits)]


def _names(waveforms: Element, signal: Element | None) -> list[str]:
    """As written, or the standard twelve, which older files leave unsaid."""
    names = waveforms.get("leadlabels", "").split()
    counted = waveforms.get("numberofleads") or markup.text(signal, "numberchannelsallocated")
    n = markup.number(counted, "numberofleads") if counted else len(names) or len(LEADS)
    if not 1 <= n <= MAX_LEADS:
        raise UnservableError(f"must be 1 to {MAX_LEADS}", "numberofleads")
    if names:
        return names[: int(n)] if len(names) <= MAX_LEADS else names[:MAX_LEADS]
    kind = markup.text(signal, "acquisitiontype") or markup.text(signal, "leadset")
    if kind.upper() not in _STANDARD:
        raise UnservableError("is missing: the file names no leads", "leadlabels")
    return [*LEADS, *(f"channel {i}" for i in range(len(LEADS) + 1, int(n) + 1))][: int(n)]


def _counts(
    waveforms: Element, signal: Element | None, names: list[str], n_samples: int
) -> list[np.ndarray]:
    """Integers [time] for each of `names`."""
    text = (waveforms.text or "").strip()
    encoding = waveforms.get("dataencoding", "").lower()
    if _compressed(waveforms):
        leads = xli.unpack_leads(_decoded(text), len(names), n_samples + n_samples // 8)
        if any(len(lead) < n_samples for lead in leads):
            raise UnreadableError("holds fewer samples than its durationperchannel")
        leads = [lead[:n_samples] for lead in leads]
        if tuple(canonical(name) for name in names[:6]) == LIMB_LEADS:
            _rebuild_limb_leads(leads)
        return leads
    if encoding == "base64":
        signed = waveforms.get("signalsigned") or markup.text(signal, "signalsigned") or "true"
        content = _decoded(text)
        flat = np.frombuffer(content, "<i2" if signed.lower() in _YES else "<u2", len(content) // 2)
    elif encoding == "plain":
        flat = _plain(text, len(names) * n_samples)
    else:
        raise UnservableError("must be Base64 or Plain", "dataencoding")
    if len(flat) < len(names) * n_samples:
        raise UnreadableError("holds fewer samples than its durationperchannel")
    return list(flat[: len(names) * n_samples].reshape(len(names), n_samples))


def _compressed(waveforms: Element) -> bool:
    """1.03 says it by a flag and a method, 1.04 by the method alone."""
    flag = waveforms.get("compressflag", "true").lower()
    method = waveforms.get("compression") or waveforms.get("compressmethod") or ""
    if flag not in _YES or method.lower() in ("", "none", "uncompressed"):
        return False
    if method.upper() != "XLI":
        raise UnservableError("must be XLI or none", "compression")
    return True


def _rebuild_limb_leads(leads: list[np.ndarray]) -> None:
    """III, aVR, aVL and aVF, in place: stored is what differs from their sums of I and II."""
    first, second = leads[0], leads[1]
    leads[2] = third = second - first - leads[2]
    leads[3] = -leads[3] - _half(first + second)
    leads[4] = _half(first - third) - leads[4]
    leads[5] = _half(second + third) - leads[5]


def _half(counts: np.ndarray) -> np.ndarray:
    """Rounded to zero, as the devices do."""
    return (counts + (counts < 0)) // 2


def _decoded(text: str) -> bytes:
    try:
        return markup.from_base64(text)
    except ValueError:
        raise UnreadableError("is not base64", "parsedwaveforms") from None


def _plain(text: str, wanted: int) -> np.ndarray:
    words = text.replace(",", " ").split(maxsplit=wanted)[:wanted]
    try:
        return np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        raise UnreadableError("holds a sample that is no integer", "parsedwaveforms") from None


def _resolution(waveforms: Element, signal: Element | None) -> float:
    """uV per count."""
    named = "resolution" if markup.text(signal, "resolution") else "signalresolution"
    value = _number(waveforms, "resolution", signal, named, "resolution")
    if not 0 < value < np.inf:
        raise UnservableError("must be positive, in uV", "resolution")
    return value


def _number(
    waveforms: Element, attribute: str, signal: Element | None, tag: str, where: str
) -> float:
    return markup.number(waveforms.get(attribute) or markup.text(signal, tag), where)
