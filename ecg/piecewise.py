"""A record's signal a piece at a time: gaps bridged and resampled as of the whole."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np
from scipy import signal

from ecg.record import Record
from ecg.waveform import resampling_ratio

SEARCHED = 65_536  # samples looked through at once for the end of a gap
FILTER_REACH = 10  # samples of the lower fs, on either side: SciPy's filter
ALIGNED = 1.0  # samples at the new fs by which the ratio may be off over the whole record


class _Gap(NamedTuple):
    """A run of missing samples, and the samples (mV) next to it, None at an end of the record."""

    start: int
    stop: int
    before: float | None
    after: float | None


class Piecewise:
    """Pieces of a record, which are best asked for in the order of time.

    Args:
        max_gap: the longest run of missing samples that a straight line may stand for.
    """

    def __init__(self, record: Record, max_gap: int) -> None:
        self._record, self._max_gap = record, max_gap
        self._gaps: dict[int, _Gap] = {}  # each lead's latest, so that a long one is walked once

    def filled(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """mV [lead, time] without NaN of the samples from `start` to before `stop`, and where gaps
        were too long to be bridged: what `fill_gaps` makes of the whole record."""
        sig = self._record.piece(start, stop)
        missing = np.isnan(sig)
        if missing.any():
            sig = sig.copy()
            for i in np.flatnonzero(missing.any(axis=1)).tolist():
                self._bridge(i, start, sig[i], missing[i])
        return sig, missing

    def _bridge(self, lead: int, start: int, row: np.ndarray, missing: np.ndarray) -> None:
        """One lead's piece, in place; short gaps are no longer missing."""
        stop = start + len(row)
        gaps = missing.copy()
        edges = np.flatnonzero(np.diff(np.concatenate(([0], gaps.view(np.int8), [0]))))
        runs = edges.reshape(-1, 2) + start
        time = np.arange(start, stop)
        at, values = time[~gaps], row[~gaps]
        if gaps[0]:
            first = self._gap(lead, start)
            runs[0, 0] = first.start
            if first.before is not None:
                at, values = np.append(first.start - 1, at), np.append(first.before, values)
        if gaps[-1]:
            last = self._gap(lead, stop - 1)
            runs[-1, 1] = last.stop
            if last.after is not None:
                at, values = np.append(at, last.stop), np.append(values, last.after)
        row[gaps] = np.interp(time[gaps], at, values) if len(at) else 0.0
        for begin, end in runs[runs[:, 1] - runs[:, 0] <= self._max_gap].tolist():
            missing[max(begin - start, 0) : end - start] = False

    def _gap(self, lead: int, sample: int) -> _Gap:
        """The one that a missing sample lies in."""
        known = self._gaps.get(lead)
        if known is None or not known.start <= sample < known.stop:
            before, start = self._walk(lead, sample, back=True)
            after, stop = self._walk(lead, sample, back=False)
            known = self._gaps[lead] = _Gap(start, stop, before, after)
        return known

    def _walk(self, lead: int, sample: int, back: bool) -> tuple[float | None, int]:
        """The nearest sample that is not missing, and where the gap ends there."""
        n, row = self._record.n_samples, slice(lead, lead + 1)
        while 0 <= sample < n:
            begin = max(0, sample + 1 - SEARCHED) if back else sample
            end = sample + 1 if back else min(n, sample + SEARCHED)
            (found,) = self._record.piece(begin, end, row)
            there = np.flatnonzero(~np.isnan(found))
            if len(there):
                i = int(there[-1 if back else 0])
                return float(found[i]), begin + i + 1 if back else begin + i
            sample = begin - 1 if back else end
        return None, 0 if back else n

    def resampled(
        self, sig: np.ndarray, at: int, fs_to: float, start: int, stop: int
    ) -> np.ndarray:
        """The samples from `start` to before `stop` at `fs_to` Hz.

        sig: `filled` samples from the record's sample `at` on, wide enough: see `needed`.
        """
        first, offset, ratio = self._origin(fs_to, start)
        n = stop - start
        if ratio == 1:
            return self._with_ends(sig, at, first + offset, first + offset + n)
        last = first + ceil((offset + n) / ratio) + _reach(ratio)
        up, down = ratio.numerator, ratio.denominator
        out = signal.resample_poly(
            self._with_ends(sig, at, first, last), up, down, axis=-1, padtype="constant"
        )
        return out[:, offset : offset + n].astype(sig.dtype, copy=False)

    def needed(self, fs_to: float, start: int, stop: int) -> tuple[int, int]:
        """From which sample to before which `resampled` needs to be given."""
        first, offset, ratio = self._origin(fs_to, start)
        last = first + ceil((offset + stop - start) / ratio) + _reach(ratio)
        return max(0, first), min(last, self._record.n_samples)

    def _origin(self, fs_to: float, start: int) -> tuple[int, int, Fraction]:
        """The record's sample from which on to resample, perhaps before its first; which sample of
        the result is `start`; and the ratio."""
        record = self._record
        ratio = resampling_ratio(record.fs, fs_to)
        reach = _reach(ratio)
        down = ratio.denominator
        drift = abs(record.n_samples * (float(ratio) - fs_to / record.fs))
        if drift < ALIGNED:
            first = (int(start / ratio) - reach) // down * down
            return first, start - first // down * ratio.numerator, ratio
        # No ratio of small numbers: the piece begins where it truly does, and nothing adds up.
        blocks = -(-reach // down)
        first = round(start * record.fs / fs_to) - blocks * down
        return first, blocks * ratio.numerator, ratio

    def _with_ends(self, sig: np.ndarray, at: int, first: int, last: int) -> np.ndarray:
        """Samples `first` to before `last`; beyond the record's ends along the line through them,
        as `resample` continues a whole one."""
        n = self._record.n_samples
        inside = sig[:, max(first, 0) - at : min(last, n) - at]
        if first >= 0 and last <= n:
            return inside
        begin, end = (self.filled(i, i + 1)[0] for i in (0, n - 1))
        slope = (end - begin) / np.float32(n - 1)
        ahead = begin + slope * np.arange(min(first, 0), 0, dtype=np.float32)
        behind = end + slope * np.arange(1, max(last - n, 0) + 1, dtype=np.float32)
        return np.concatenate([ahead, inside, behind], axis=1)


def _reach(ratio: Fraction) -> int:
    """Samples on either side of one that its resampled value depends on."""
    return ceil(FILTER_REACH * max(1, 1 / ratio)) + 1
