"""DICOM ECG waveforms: 12-lead, general, general 32-bit and ambulatory (PS3.3 A.34, C.10.9)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydicom import uid

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.channels import CHUNK, ignored_names, is_known
from ecg.formats.dicom_elements import PREAMBLE_BYTES, Item, data_set
from ecg.formats.dicom_writing import for_twelve_lead, write
from ecg.formats.source import File, Hints, check_count
from ecg.leads import MDC_TERMS, canonical
from ecg.limits import LIMITS
from ecg.record import (
    VOLTAGES,
    Meta,
    Record,
    check_channels,
    check_fs,
    check_not_too_long,
    make_record,
)

__all__ = ["claims", "counts", "for_twelve_lead", "matches", "read", "write"]

ECG_CLASSES = {
    uid.TwelveLeadECGWaveformStorage,
    uid.GeneralECGWaveformStorage,
    uid.AmbulatoryECGWaveformStorage,
    uid.General32bitECGWaveformStorage,
}
_SAMPLES = {  # bits allocated and sample interpretation (C.10.9.1.5)
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
}
_MILLIVOLTS = {
    **VOLTAGES,
    **{"volt": 1e3, "millivolt": 1.0, "microvolt": 1e-3, "nanovolt": 1e-6},
}
_LEADS = {number: lead for lead, number in MDC_TERMS.items()}
_BEAT = re.compile(r"MEDIAN|AVERAGE|\bMEAN\b|REPRESENTATIVE|TEMPLATE|\bBEATS?\b")
# CID 3001 in its present and its former spelling, and 11073-10101's number in one piece.
_LEAD_CODE = re.compile(r"(?:2:|5\.6\.3-9-)(\d{1,5})")
_MDC_CODE = re.compile(r"13[12]\d{3}")
_MDC_PARTITION_2, _POTENTIAL = 2 << 16, 256


def matches(file: File) -> bool:
    """A preamble and DICM; or a data set without them, which a UID of DICOM's own follows soon."""
    if file.content[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return True
    starts = (b"\x02\0", b"\x08\0", b"\0\x08")
    return file.content.startswith(starts) and b"1.2.840.10008." in file.content[:4096]


def claims(file: File) -> bool:
    return file.name.lower().endswith((".dcm", ".dicom")) or "dicom" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    found = data_set(file.content, hints.limits)
    sop_class = found.text("SOPClassUID")
    if not sop_class:
        raise UnreadableError("not a DICOM file, or one without a SOP class")
    if sop_class == uid.MediaStorageDirectoryStorage:
        return []  # a disc's DICOMDIR, which comes in zips; the records are beside it
    if sop_class not in ECG_CLASSES:
        raise UnservableError(
            "a DICOM object that is no ECG waveform; 12-lead, general, general 32-bit and "
            "ambulatory ECG waveforms are read",
            "SOPClassUID",
        )
    items = found.items("WaveformSequence")
    if not items:
        raise UnreadableError("a DICOM object without a waveform", "WaveformSequence")
    groups = [_group(item, i, hints) for i, item in enumerate(items)]
    recordings = _recordings([group for group in groups if group.leads])
    check_count(len(recordings), hints.limits)
    synthetic = found.text("SyntheticData").upper() == "YES"
    return [_record(recording, hints, synthetic) for recording in recordings]


@dataclass(frozen=True)
class _Group:
    """A multiplex group: channels sampled together. `leads`: lead -> row of `counts`."""

    item: Item
    where: str
    fs: float
    start_s: float
    n_samples: int
    leads: dict[str, int]
    others: tuple[tuple[int, str], ...]  # channels that are not leads: their place and name

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.fs if self.fs > 0 else 0.0

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """What speaks for its being the recording; more is better. The order in the file does not:
        a median beat may come first."""
        label = self.item.text("MultiplexGroupLabel").upper()
        original = self.item.text("WaveformOriginality").upper() != "DERIVED"
        return self.duration_s >= LIMITS.min_duration_s, "RHYTHM" in label, original

    @property
    def is_beat(self) -> bool:
        label = self.item.text("MultiplexGroupLabel").upper()
        return "RHYTHM" not in label and _BEAT.search(label) is not None


def _group(item: Item, i: int, hints: Hints) -> _Group:
    """Errors: UnreadableError, UnservableError."""
    where = f"WaveformSequence[{i}]"
    channels = item.items("ChannelDefinitionSequence")
    n_channels = item.integer("NumberOfWaveformChannels") or len(channels)
    if not channels or n_channels != len(channels):
        raise UnreadableError("does not define the channels it announces", where)
    check_channels(n_channels, hints.limits, where)
    names = [_lead(channel) for channel in channels]
    if hints.leads and not any(names) and len(hints.leads) == len(names):
        names = [canonical(name) for name in hints.leads]
    leads: dict[str, int] = {}
    others = []
    for row, name in enumerate(names):
        if name is None or name in leads:
            others.append((row + 1, _described(channels[row])))
        else:
            leads[name] = row
    fs = item.number("SamplingFrequency") or 0.0
    n_samples = item.integer("NumberOfWaveformSamples") or 0
    start_s = (item.number("MultiplexGroupTimeOffset") or 0.0) / 1000
    return _Group(item, where, fs, start_s, n_samples, leads, tuple(others))


def _recordings(groups: list[_Group]) -> list[list[_Group]]:
    """Groups that make a record together, for each record of the file.

    The rhythm is chosen by label, originality, number of leads and length. Other groups of its kind
    join it where they hold other leads of the same time; they are records of their own where they
    hold the same leads at another time, in the order of time. Any others are the same heart beats
    once more: averaged, filtered, or a strip of one lead.
    """
    if not groups:
        raise UnservableError("none of the channels is one of the twelve leads", "leads")
    rhythms = [group for group in groups if not group.is_beat]
    if not rhythms:
        raise UnservableError("holds averaged beats alone; send the rhythm they were made of")
    first = max(rhythms, key=lambda g: (g.rank, len(g.leads), g.duration_s))
    recordings = [[first]]
    for group in rhythms:
        if group is first or group.rank != first.rank or group.fs != first.fs:
            continue
        if _same_time(group, first):
            if not any(group.leads.keys() & other.leads.keys() for other in recordings[0]):
                recordings[0].append(group)
        elif group.leads.keys() == first.leads.keys() and not any(
            _overlap(group, other) for other, *_ in recordings
        ):
            recordings.append([group])
    recordings[0].sort(key=rhythms.index)
    return sorted(recordings, key=lambda recording: recording[0].start_s)


def _same_time(a: _Group, b: _Group) -> bool:
    return a.n_samples == b.n_samples and abs(a.start_s - b.start_s) * a.fs < 0.5


def _overlap(a: _Group, b: _Group) -> bool:
    within = 0.5 / a.fs
    return a.start_s < b.start_s + b.duration_s - within and b.start_s < (
        a.start_s + a.duration_s - within
    )


def _record(groups: list[_Group], hints: Hints, synthetic: bool) -> Record:
    rows = [(group, lead, row) for group in groups for lead, row in group.leads.items()]
    n_samples = groups[0].n_samples
    fs = check_fs(groups[0].fs, hints.limits)
    check_not_too_long(n_samples, fs, hints.limits)
    hints.limits.check_samples(n_samples * len(rows))
    stored = {group.where: counts(group.item, group.where) for group in groups}
    sig = np.empty((len(rows), n_samples), dtype=np.float32)
    for i, (group, _, row) in enumerate(rows):
        for at in range(0, n_samples, CHUNK):
            piece = stored[group.where][row, at : at + CHUNK]
            with np.errstate(over="ignore", invalid="ignore"):
                sig[i, at : at + CHUNK] = _millivolts(piece, group, row, hints)
    ignored = ignored_names([one for group in groups for one in group.others])
    leads = [lead for _, lead, _ in rows]
    meta = Meta(None, ignored, synthetic)
    return make_record(sig, fs, leads, "mV", meta, hints.limits)


def counts(group: Item, where: str = "") -> np.ndarray:
    """The stored integers of a multiplex group, [channel, time]: a view of the file's bytes.

    Errors: UnreadableError, UnservableError.
    """
    bits = group.integer("WaveformBitsAllocated") or 0
    kind = group.text("WaveformSampleInterpretation").upper() or "SS"
    if kind in ("MB", "AB"):
        raise UnservableError("holds compressed samples (mu-law or A-law); send linear ones", where)
    if (bits, kind) not in _SAMPLES:
        raise UnservableError(
            "stores its samples in a way that is not read: 8, 16 or 32 bits, SB, UB, SS, US, SL "
            "or UL, are",
            where,
        )
    dtype = np.dtype(_SAMPLES[bits, kind]).newbyteorder("<" if group.order == "little" else ">")
    n_channels = len(group.items("ChannelDefinitionSequence"))
    n_samples = group.integer("NumberOfWaveformSamples") or 0
    data = group.raw("WaveformData")
    if not n_samples or n_samples * n_channels * dtype.itemsize > len(data):
        raise UnreadableError("holds fewer samples than it announces", where)
    flat = np.frombuffer(data, dtype=dtype, count=n_samples * n_channels)
    return flat.reshape(n_samples, n_channels).T


def _millivolts(stored: np.ndarray, group: _Group, row: int, hints: Hints) -> np.ndarray:
    """One channel in mV, float64; NaN where it is padded."""
    where = f"{group.where}.ChannelDefinitionSequence[{row}]"
    channel = group.item.items("ChannelDefinitionSequence")[row]
    sensitivity = channel.number("ChannelSensitivity")
    if not sensitivity:
        raise UnservableError("does not say how much voltage a unit is: ChannelSensitivity", where)
    correction = channel.number("ChannelSensitivityCorrectionFactor")
    gain = sensitivity * (1.0 if correction is None else correction)
    baseline = channel.number("ChannelBaseline") or 0.0
    sig = (stored.astype(np.float64) * gain + baseline) * _in_millivolts(channel, where, hints)
    padding = _padding(group.item, stored.dtype)
    if padding is not None:
        sig[stored == padding] = np.nan
    return sig


def _in_millivolts(channel: Item, where: str, hints: Hints) -> float:
    for units in channel.items("ChannelSensitivityUnitsSequence"):
        for word in (units.text("CodeValue"), units.text("CodeMeaning")):
            factor = _MILLIVOLTS.get(word.lower().replace(" ", "").removesuffix("s"))
            if factor is not None:
                return factor
        raise UnservableError("is not in V, mV, uV or nV", where)
    if (hints.units or "").lower() not in _MILLIVOLTS:
        raise UnservableError("has no units; V, mV, uV or nV are read", where)
    return _MILLIVOLTS[(hints.units or "").lower()]


def _padding(group: Item, dtype: np.dtype) -> int | None:
    """The count that stands for a missing sample. Devices declare 0 without meaning it, and it is
    an ordinary sample where counts are signed."""
    raw = bytes(group.raw("WaveformPaddingValue"))
    if len(raw) < dtype.itemsize:
        return None
    value = int(np.frombuffer(raw, dtype=dtype, count=1)[0])
    return None if value == 0 and dtype.kind == "i" else value


def _lead(channel: Item) -> str | None:
    """The lead by its code, or else by its name."""
    for source in channel.items("ChannelSourceSequence"):
        code = source.text("CodeValue") or source.text("LongCodeValue")
        number = _lead_number(code)
        if number:  # decisive: 2:65, the negative of aVR, is called aVR too
            return _LEADS.get(number)
        for name in (code, source.text("CodeMeaning")):
            if lead := canonical(_bare(name)):
                return lead
    return canonical(_bare(channel.text("ChannelLabel")))


def _lead_number(code: str) -> int:
    """11073-10101's number of a lead in its partition, which is SCP-ECG's too; 0 if unspecified."""
    if match := _LEAD_CODE.fullmatch(code):
        number = int(match[1])
    elif _MDC_CODE.fullmatch(code):
        number = int(code) - _MDC_PARTITION_2
    else:
        return 0
    return number - _POTENTIAL if number >= _POTENTIAL else number


def _bare(name: str) -> str:
    """Without its explanation: `Lead I (Einthoven)`, `aVF, augmented voltage, foot`."""
    return re.split(r"[(,]", name, maxsplit=1)[0]


def _described(channel: Item) -> str:
    source = channel.items("ChannelSourceSequence")
    words = [channel.text("ChannelLabel")]
    words += [_bare(s.text("CodeMeaning")) for s in source]
    return next((word for word in words if is_known(word)), "")
