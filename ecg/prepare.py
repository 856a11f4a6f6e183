"""Record <-> model array. Every parameter comes from the model's card.

Training and serving both go through here, so a model is served exactly what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from typing import NamedTuple

import numpy as np

from ecg.leads import INDEPENDENT_LEADS, independent_leads
from ecg.piecewise import Piecewise
from ecg.quality import Quality, SegmentQuality, assess_segments, summarise
from ecg.record import PIECE, Record
from ecg.waveform import fill_gaps, highpass, resample, resampling_ratio, wavelet_denoise

MAX_GAP_S = 0.2
AT_ONCE = 64  # segments, which bounds what a long record takes
SHORTEST_S = 1.0  # a remainder shorter than this holds no whole beat: it is left out


@dataclass(frozen=True)
class Denoising:
    """Wavelet shrinkage: see `ecg.waveform.wavelet_denoise`."""

    wavelet: str
    level: int
    strength: float


@dataclass(frozen=True)
class Preparation:
    """How a segment becomes a model's input: fs in Hz, n_samples a segment, scale in mV a unit."""

    fs: float = 100.0
    n_samples: int = 1000
    highpass_hz: float | None = 0.5
    denoising: Denoising | None = None
    scale_mv: float = 1.0


@dataclass(frozen=True)
class Segments:
    """A record cut for a model.

    sig: float32 [segment, 8, n_samples], mV, zero where there is nothing (a lead, or padding);
    lead_mask: float32 [segment, 8]; n_valid: samples before the padding, [segment];
    start_s, end_s: where each piece lies in the record; quality: of the whole record.
    A segment whose lead_mask is zero throughout is not to be answered.
    """

    sig: np.ndarray
    lead_mask: np.ndarray
    n_valid: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    quality: Quality

    @property
    def usable(self) -> np.ndarray:
        return np.asarray(self.lead_mask.any(axis=1))

    def part(self, first: int, last: int) -> Segments:
        """The segments from `first` to before `last`."""
        names = ("sig", "lead_mask", "n_valid", "start_s", "end_s")
        return replace(self, **{name: getattr(self, name)[first:last] for name in names})


class Block(NamedTuple):
    """Neighbouring segments of a record, and the verdict on each; `segments.quality` is of these
    alone."""

    segments: Segments
    verdicts: list[SegmentQuality]


def cut(record: Record, preparation: Preparation) -> Segments:
    """Resample, cut into segments, and keep the leads that pass the quality gate in each."""
    return cut_all([record], preparation)[0]


def cut_all(records: Sequence[Record], preparation: Preparation) -> list[Segments]:
    """`cut` of each. Records of one shape go together: a step over many costs little more than over
    one."""
    alike: dict[tuple[float, tuple[str, ...], int], list[int]] = {}
    found: dict[int, Segments] = {}
    for i, record in enumerate(records):
        if record.is_long:
            found[i] = join(list(cut_by_blocks(record, preparation)), record.leads)
        else:
            alike.setdefault((record.fs, record.leads, record.n_samples), []).append(i)
    for rows in alike.values():
        found |= zip(rows, _cut_alike([records[i] for i in rows], preparation), strict=True)
    return [found[i] for i in range(len(records))]


def cut_some(record: Record, preparation: Preparation, first: int, last: int) -> Segments:
    """The segments from `first` to before `last` of those that `cut` makes; their quality is of
    these alone where the record is long."""
    if record.is_long:
        return join(list(cut_by_blocks(record, preparation, first, last)), record.leads)
    return cut(record, preparation).part(first, last)


def cut_by_blocks(
    record: Record, preparation: Preparation, first: int = 0, last: int | None = None
) -> Iterator[Block]:
    """`cut`, some segments at a time, from `first` to before `last`: what it takes does not grow
    with the record.

    The samples are those of the record prepared as a whole, to rounding; only an fs in no ratio of
    small numbers to the preparation's, which a whole record leaves its time axis with, is exact
    here.
    """
    pieces = Piecewise(record, round(MAX_GAP_S * record.fs))
    stretches = _stretches(record, preparation)[first:last]
    a_segment = len(record.leads) * (stretches[0].raw.stop - stretches[0].raw.start)
    at_once = max(1, min(AT_ONCE, PIECE // a_segment))
    for i in range(0, len(stretches), at_once):
        some = stretches[i : i + at_once]
        begin, end = (some[0].sig.start, some[0].raw.start), (some[-1].sig.stop, some[-1].raw.stop)
        start, stop = pieces.needed(preparation.fs, begin[0], end[0])
        start, stop = min(start, begin[1]), max(stop, end[1])
        raw, missing = pieces.filled(start, stop)
        sig = pieces.resampled(raw, start, preparation.fs, begin[0], end[0])
        here = [
            _Stretch(
                slice(s.sig.start - begin[0], s.sig.stop - begin[0]),
                slice(s.raw.start - start, s.raw.stop - start),
            )
            for s in some
        ]
        (block,) = _segments(
            raw[None], missing[None], sig[None], here, record.leads, preparation, begin[0]
        )
        yield block


def join(blocks: Sequence[Block], leads: Sequence[str]) -> Segments:
    """A record's blocks as its segments, with the quality of all."""
    names = ("sig", "lead_mask", "n_valid", "start_s", "end_s")
    whole = {n: np.concatenate([getattr(b.segments, n) for b in blocks]) for n in names}
    return Segments(**whole, quality=summarise([v for b in blocks for v in b.verdicts], leads))


def _cut_alike(records: Sequence[Record], preparation: Preparation) -> list[Segments]:
    """Of records that share fs, leads and length."""
    first, fs = records[0], preparation.fs
    raw = first.sig[None] if len(records) == 1 else np.stack([r.sig for r in records])
    raw, missing = fill_gaps(raw, round(MAX_GAP_S * first.fs))
    sig = resample(raw, first.fs, fs)[..., : _resampled(first, preparation)]
    stretches = _stretches(first, preparation)
    blocks = _segments(raw, missing, sig, stretches, first.leads, preparation)
    return [block.segments for block in blocks]


def _segments(
    raw: np.ndarray,
    missing: np.ndarray,
    sig: np.ndarray,
    stretches: Sequence[_Stretch],
    leads: tuple[str, ...],
    preparation: Preparation,
    origin: int = 0,
) -> list[Block]:
    """Of each record of raw, missing (as sampled) and sig (at the preparation's fs), all [record,
    lead, time]; origin: which sample of its record is the first of sig."""
    fs, n_records = preparation.fs, len(sig)
    shape = (n_records, len(stretches), len(INDEPENDENT_LEADS))
    out = np.zeros((*shape, preparation.n_samples), dtype=np.float32)
    lead_mask = np.zeros(shape, dtype=np.float32)
    verdicts: list[list[SegmentQuality]] = [[] for _ in range(n_records)]
    for begin, end in _equally_long(stretches, max(1, AT_ONCE // n_records)):
        some = stretches[begin:end]
        piece = _side_by_side(sig, [stretch.sig for stretch in some])
        of_raw = [stretch.raw for stretch in some]
        assessed = assess_segments(
            _side_by_side(raw, of_raw), _side_by_side(missing, of_raw), piece, fs, leads
        )
        usable = np.array([verdict.usable for verdict in assessed])
        eight, known = independent_leads(piece, leads, usable)
        shape = (n_records, len(some), len(INDEPENDENT_LEADS))
        out[:, begin:end, :, : piece.shape[-1]] = eight.reshape(*shape, -1)
        lead_mask[:, begin:end] = known.reshape(shape)
        for i in range(n_records):
            verdicts[i] += assessed[i * len(some) : (i + 1) * len(some)]
    at = np.array([(origin + s.sig.start, origin + s.sig.stop) for s in stretches])
    start_s, end_s = (at / fs).T
    n_valid = at[:, 1] - at[:, 0]
    return [
        Block(
            Segments(out[i], lead_mask[i], n_valid, start_s, end_s, summarise(found, leads)), found
        )
        for i, found in enumerate(verdicts)
    ]


class _Stretch(NamedTuple):
    """Of a record's time: samples at the model's fs, and as they came."""

    sig: slice
    raw: slice


def count_segments(record: Record, preparation: Preparation) -> int:
    """Into how many pieces `cut` cuts the record."""
    n_samples = _resampled(record, preparation)
    n, rest = divmod(n_samples, preparation.n_samples)
    return max(1, n + (rest >= SHORTEST_S * preparation.fs))


def _resampled(record: Record, preparation: Preparation) -> int:
    n = round(record.n_samples * preparation.fs / record.fs)
    if record.is_long:
        return n
    # `resample` takes a ratio of small numbers, which may give a sample or two less.
    return min(n, ceil(record.n_samples * resampling_ratio(record.fs, preparation.fs)))


def _stretches(record: Record, preparation: Preparation) -> list[_Stretch]:
    n_samples, width = _resampled(record, preparation), preparation.n_samples
    starts = [i * width for i in range(count_segments(record, preparation))]
    last = record.n_samples  # rounding must not lead behind it
    of_raw = record.fs / preparation.fs
    return [
        _Stretch(slice(a, b), slice(round(a * of_raw), min(round(b * of_raw), last)))
        for a, b in ((start, min(start + width, n_samples)) for start in starts)
    ]


def _equally_long(stretches: Sequence[_Stretch], at_most: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbours of one length, which rounding may change, `at_most` in each."""
    first = 0
    for _, alike in groupby(stretches, lambda s: [part.stop - part.start for part in s]):
        n = len(list(alike))
        for start in range(first, first + n, at_most):
            yield start, min(start + at_most, first + n)
        first += n


def _side_by_side(sig: np.ndarray, pieces: Sequence[slice]) -> np.ndarray:
    """[record, lead, time] -> [segment, lead, time], a record's segments together."""
    if len(pieces) == 1:
        return sig[:, :, pieces[0]]
    stacked = np.stack([sig[:, :, piece] for piece in pieces], axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def condition(sig: np.ndarray, n_valid: np.ndarray, preparation: Preparation) -> np.ndarray:
    """A batch of cut segments as the model's input: baseline removed, denoised, scaled.

    Args:
        sig: mV [segment, 8, n_samples]; n_valid: [segment].
    Returns:
        float32 [segment, 8, n_samples], zero in the padding.
    """
    whole = n_valid == sig.shape[-1]
    if whole.all():
        return _condition(sig, preparation)
    out = np.zeros_like(sig)
    if whole.any():
        out[whole] = _condition(sig[whole], preparation)
    for i in np.flatnonzero(~whole):
        out[i, :, : n_valid[i]] = _condition(sig[i, :, : n_valid[i]], preparation)
    return out


def sample_mask(n_valid: np.ndarray, n_samples: int) -> np.ndarray:
    """float32 [segment, n_samples]: 1 where there is signal, 0 in the padding."""
    return (np.arange(n_samples) < n_valid[:, None]).astype(np.float32)


def _condition(sig: np.ndarray, preparation: Preparation) -> np.ndarray:
    if preparation.highpass_hz is not None:
        sig = highpass(sig, preparation.fs, preparation.highpass_hz)
    if preparation.denoising is not None:
        d = preparation.denoising
        sig = wavelet_denoise(sig, d.wavelet, d.level, d.strength)
    return sig / np.float32(preparation.scale_mv)
