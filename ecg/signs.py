"""What a segment looks like, in numbers that mean the same whatever its scale: signs of quality and
of beats, from which the quality gate draws its verdicts.

Everything is vectorised over segments, and a segment's signs do not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from scipy.ndimage import maximum_filter1d, uniform_filter1d

BLOCK_S = 0.2
STEEP_S, ROUND_S = 0.03, 0.01  # a difference over the one of a sum over the other: about 5-25 Hz
BEAT_S = 0.09  # over which steepness is averaged: a narrow QRS
REFRACTORY_S = 0.2  # to both sides
BEFORE_S, AFTER_S = 0.15, 0.3  # of a beat's steepest moment
TALL = 0.3  # a beat's steepness, of the typical second's
EPS, TINY = np.float32(1e-9), np.float32(1e-12)

# Energies are compared as decimal logarithms.
LEAD_SIGNS = (
    "floor",  # steepness between beats (fifth of the blocks lie below), against that of beats
    "burst",  # the steepest block, against that of beats
    "fine_floor",  # curvature between beats, against the steepness of beats
    "fine",  # curvature, against steepness, over all: muscle, or white noise
    "sharp",  # steepness, against the signal, over all
    "largest",  # the block of most energy, of all
    "baseline",  # what the high-pass took, against the steepness of beats
    "agreement",  # mean correlation between any two beats
    "step",  # level after a beat, less that before it, against its swing
    "mirrored",  # correlation of a mean beat's rise with its fall, as in a mirror
    "kink",  # largest curvature of the mean beat, against its steepest slope: 2 in a cartoon
    "tail",  # energy of the mean beat after its QRS, against all of it
    "baseline_mv",  # rms of what the high-pass took, log10 mV
    "swing_mv",  # peak to peak, log10 mV
)
SCALE_FREE = LEAD_SIGNS[:12]  # the last two are in mV
AGREEMENT = LEAD_SIGNS.index("agreement")
OF_BEATS = [0, 1, 2, 6]  # compared with the steepness of beats
SEGMENT_SIGNS = (
    "beats",  # found, a second
    "spread",  # of the intervals between them, standard deviation against mean
    "gathered",  # share of the steepness that lies within beats
    "alike",  # 1 where all leads are copies of one, less the more they differ
)


@dataclass(frozen=True)
class Signs:
    """lead: [segment, lead, LEAD_SIGNS]; segment: [segment, SEGMENT_SIGNS]. float32; what belongs
    to a lead that is not usable means nothing.

    shapes: mean of the beats, each of unit energy, [segment, lead, time], zero where none was
    found; alignment: correlations between the leads' shapes [segment, lead, lead].
    """

    lead: np.ndarray
    segment: np.ndarray
    shapes: np.ndarray
    alignment: np.ndarray


def signs_of(
    sig: np.ndarray, swings: np.ndarray, ptp: np.ndarray, usable: np.ndarray, fs: float
) -> Signs:
    """Of segments of one length.

    Args:
        sig: mV [segment, lead, time] at fs Hz; swings: the same, baseline removed; ptp: of these.
        usable: [segment, lead], bool: of the others nothing is taken.
    """
    norm = usable / np.maximum(ptp, TINY)
    z = swings * norm[..., None]
    round_, far = max(1, round(ROUND_S * fs)), round(STEEP_S * fs)
    summed = z[..., round_:] + z[..., :-round_]
    steep = summed[..., far:] - summed[..., :-far]
    slope = z[..., 1:] - z[..., :-1]
    curved = slope[..., 1:] - slope[..., :-1]
    width = round(BLOCK_S * fs)
    steepness = np.sort(_energy(steep, width), axis=-1)
    curvature = np.sort(_energy(curved, width), axis=-1)
    size = _energy(z, width)
    n = steepness.shape[-1]
    of_beats = steepness[..., int(0.9 * n)] + EPS
    all_steep, all_size = steepness.sum(axis=-1) + EPS, size.sum(axis=-1) + EPS
    every = max(1, round(0.1 * fs))  # it moves slowly
    drift = _variance(sig[..., ::every] - swings[..., ::every])
    at, segment = _beats(steep, usable / all_steep, fs, z.shape[-1])
    agreement, shapes = _shapes(z, *at, fs)
    alignment, segment[:, 3] = _alignment(shapes, usable)
    lead = np.empty((*usable.shape, len(LEAD_SIGNS)), dtype=np.float32)
    lead[..., 0] = steepness[..., int(0.2 * n)]
    lead[..., 1] = steepness[..., -1]
    lead[..., 2] = curvature[..., int(0.3 * n)]
    lead[..., 6] = drift * norm * norm * z.shape[-1]
    lead[..., OF_BEATS] /= of_beats[..., None]
    lead[..., 3] = curvature.sum(axis=-1) / all_steep
    lead[..., 4] = all_steep / all_size
    lead[..., 5] = size.max(axis=-1) / all_size
    lead[..., 7:12] = 1
    lead[..., 12] = np.sqrt(drift)
    lead[..., 13] = ptp
    np.log10(lead + EPS, out=lead)
    lead[..., AGREEMENT] = agreement
    lead[..., 8:12] = _form(shapes, fs)
    return Signs(lead, segment, shapes, alignment)


def _variance(x: np.ndarray) -> np.ndarray:
    """[...] of x [..., time]; np.var takes several times as long on few samples."""
    from_mean = x - (np.einsum("...t->...", x) / x.shape[-1])[..., None]
    return np.einsum("...t,...t->...", from_mean, from_mean) / x.shape[-1]


def _blocks(x: np.ndarray, width: int) -> np.ndarray:
    n = x.shape[-1] // width
    return x[..., : n * width].reshape(*x.shape[:-1], n, width)


def _energy(x: np.ndarray, width: int) -> np.ndarray:
    """[..., block]"""
    blocks = _blocks(x, width)
    return np.einsum("...t,...t->...", blocks, blocks)


def _beats(
    steep: np.ndarray, weight: np.ndarray, fs: float, n_samples: int
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Where beats are: segments and samples, in order; and the first three SEGMENT_SIGNS.

    Leads count alike, whatever their size. A beat is the steepest moment within REFRACTORY_S, and
    not much less steep than most seconds' steepest.
    """
    power = (weight[:, None] @ (steep * steep))[:, 0]
    width = round(BEAT_S * fs)
    mean = uniform_filter1d(power, width, axis=-1, mode="constant")
    highest = maximum_filter1d(mean, 2 * round(REFRACTORY_S * fs) + 1, axis=-1, mode="constant")
    second = min(round(fs), mean.shape[-1])
    seconds = np.sort(_blocks(mean, second).max(axis=-1), axis=-1)
    typical = seconds[:, int(0.6 * seconds.shape[-1])]
    peak = (mean == highest) & (mean > TALL * typical[:, None])
    centre = (n_samples - steep.shape[-1]) // 2
    first, last = round(BEFORE_S * fs) - centre, n_samples - round(AFTER_S * fs) - centre
    peak[:, :first] = False
    peak[:, last + 1 :] = False
    which, when = np.nonzero(peak)
    found = np.zeros((len(steep), len(SEGMENT_SIGNS)), dtype=np.float32)
    if not len(which):
        return (which, when), found
    starts = _starts(which)
    parts = np.ones((4, len(when)))
    parts[1] = mean[which, when]
    interval = parts[2]
    interval[:-1] = when[1:] - when[:-1]
    interval[starts[1:] - 1] = interval[-1] = 0  # to the next segment's
    parts[3] = interval * interval
    count, within, sums, squares = np.add.reduceat(parts, starts, axis=1)
    several = np.maximum(count - 1, 1)
    average = sums / several
    spread = np.sqrt(np.maximum(squares / several - average**2, 0)) / np.maximum(average, 1)
    has = which[starts]
    found[has, 0] = count / ((last - first) / fs)
    found[has, 1] = spread
    found[has, 2] = within * width / (power[has].sum(axis=-1) + EPS)
    return (which, when + centre), found


def _starts(which: np.ndarray) -> np.ndarray:
    """Where each segment's beats begin."""
    first = np.ones(len(which), dtype=bool)
    np.not_equal(which[1:], which[:-1], out=first[1:])
    return np.flatnonzero(first)


def _shapes(
    z: np.ndarray, which: np.ndarray, when: np.ndarray, fs: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sign `agreement` [segment, lead], and mean beats [segment, lead, time], beats of unit size.

    The mean correlation between two of n beats, unit vectors u, is (|sum u|^2 - n) / (n (n - 1)):
    0 for noise, however few.
    """
    before, width = round(BEFORE_S * fs), round((BEFORE_S + AFTER_S) * fs)
    shapes = np.zeros((*z.shape[:2], width), dtype=np.float32)
    n = np.maximum(np.bincount(which, minlength=len(z)), 1).astype(np.float32)[:, None]
    if len(which):
        step = z.strides[-1]
        of_start = (len(z), z.shape[-1] - width + 1, z.shape[1], width)
        windows = as_strided(z, of_start, (z.strides[0], step, z.strides[1], step), writeable=False)
        beats = windows[which, when - before]
        beats = beats - (np.einsum("blt->bl", beats) / np.float32(width))[..., None]
        beats /= np.sqrt(np.einsum("blt,blt->bl", beats, beats) + EPS)[..., None]
        starts = _starts(which)
        shapes[which[starts]] = np.add.reduceat(beats, starts, axis=0)
    agreement = (np.einsum("slt,slt->sl", shapes, shapes) - n) / np.maximum(n * (n - 1), 1)
    shapes /= n[..., None]
    return np.where(n > 1, agreement, 0), shapes


def _form(shapes: np.ndarray, fs: float) -> np.ndarray:
    """Signs `step`, `mirrored`, `kink` and `tail`, [segment, lead, sign]."""
    views, parts = _views(fs, shapes.shape[-1])
    seen = shapes @ views
    step, around, slope, curved, after = (seen[..., part] for part in parts)
    out = np.empty((*shapes.shape[:2], 4), dtype=np.float32)
    swing = shapes.max(axis=-1) - shapes.min(axis=-1) + 1e-6
    out[..., 0] = np.abs(step[..., 0]) / swing
    mirrored = np.einsum("slt,slt->sl", around, around[..., ::-1])
    out[..., 1] = mirrored / (np.einsum("slt,slt->sl", around, around) + EPS)
    out[..., 2] = np.abs(curved).max(axis=-1) / (np.abs(slope).max(axis=-1) + 1e-6)
    out[..., 3] = np.einsum("slt,slt->sl", after, after)
    out[..., 3] /= np.einsum("slt,slt->sl", shapes, shapes) + EPS
    return out


@lru_cache(maxsize=16)
def _views(fs: float, n: int) -> tuple[np.ndarray, list[slice]]:
    """What `_form` looks at, as one linear map of a beat [time, value], and where in its result:
    level after less before, the QRS without its mean, its slope, its curvature, and what follows.
    """
    peak, arm = round(BEFORE_S * fs), round(0.1 * fs)
    near, far = round(0.08 * fs), round(0.12 * fs)
    time = np.eye(n)
    step = time[peak + near : peak + far].mean(axis=0) - time[peak - far : peak - near].mean(axis=0)
    around = time[peak - arm : peak + arm + 1]
    slope = np.diff(around, axis=0)
    views = [
        step[None],
        around - around.mean(axis=0),
        slope,
        np.diff(slope, axis=0),
        time[peak + far :],
    ]
    ends = np.cumsum([len(view) for view in views]).tolist()
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return np.concatenate(views).T.astype(np.float32), parts


def _alignment(shapes: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations between the leads' mean beats [segment, lead, lead]; and how much these are
    copies of one: the mean squared correlation between two leads, 1 for a single one."""
    length = np.sqrt(np.einsum("slt,slt->sl", shapes, shapes) + EPS)
    unit = shapes / length[..., None]
    between = unit @ unit.transpose(0, 2, 1)
    n = usable.sum(axis=-1)
    squared = np.einsum("slm,slm->s", between, between)
    return between, np.where(n > 1, (squared - n) / np.maximum(n * (n - 1), 1), 1)
