"""Record <-> model array. Every parameter comes from the model's card.

Training and serving both go through here, so a model is served exactly what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg.leads import INDEPENDENT_LEADS, independent_leads
from ecg.quality import Quality, SegmentQuality, assess_segment, summarise
from ecg.record import Record
from ecg.waveform import fill_gaps, highpass, resample, wavelet_denoise

MAX_GAP_S = 0.2
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


def cut(record: Record, preparation: Preparation) -> Segments:
    """Resample, cut into segments, and keep the leads that pass the quality gate in each."""
    fs, width = preparation.fs, preparation.n_samples
    filled, missing = fill_gaps(record.sig, round(MAX_GAP_S * record.fs))
    sig = resample(filled, record.fs, fs)
    n_samples = round(record.n_samples * fs / record.fs)
    sig = sig[:, :n_samples]
    starts = list(range(0, sig.shape[1], width))
    if len(starts) > 1 and sig.shape[1] - starts[-1] < SHORTEST_S * fs:
        starts.pop()
    out = np.zeros((len(starts), len(INDEPENDENT_LEADS), width), dtype=np.float32)
    lead_mask = np.zeros((len(starts), len(INDEPENDENT_LEADS)), dtype=np.float32)
    n_valid = np.zeros(len(starts), dtype=np.int64)
    qualities: list[SegmentQuality] = []
    for i, start in enumerate(starts):
        piece = sig[:, start : start + width]
        raw = slice(round(start * record.fs / fs), round((start + piece.shape[1]) * record.fs / fs))
        quality = assess_segment(filled[:, raw], missing[:, raw], piece, fs, record.leads)
        rows, known = independent_leads(piece, record.leads, quality.usable)
        out[i, :, : piece.shape[1]] = rows
        lead_mask[i] = known
        n_valid[i] = piece.shape[1]
        qualities.append(quality)
    start_s = np.array(starts) / fs
    return Segments(
        sig=out,
        lead_mask=lead_mask,
        n_valid=n_valid,
        start_s=start_s,
        end_s=start_s + n_valid / fs,
        quality=summarise(qualities, record.leads),
    )


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
