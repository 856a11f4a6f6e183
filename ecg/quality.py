"""The signal-quality gate: which leads of a segment can be trusted, and whether it is an ECG.

A lead that fails is taken out of the segment; a segment with no lead left, or with nothing like an
ECG in it, is not answered. Limits of single leads were read off PTB-XL's training folds and CinC
2017 (training/LOG.md); what is noisy, an ECG or swapped is learned (`ecg.scores`), and measured in
training/reports/quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ecg.electrodes import swapped
from ecg.interference import mains_mv, paced
from ecg.leads import INDEPENDENT_LEADS, LIMB_FROM_I_II, LIMB_LEADS
from ecg.record import MIN_DURATION_S
from ecg.scores import ecg_signs, gate, record_signs
from ecg.signs import LEAD_SIGNS, Signs, signs_of
from ecg.waveform import highpass

FLAT_WINDOW_S = 0.5
FLAT_MV = 0.005  # peak to peak within a window
RAIL_MV = 2.0  # a lead clipped below this range is rather a quantised quiet one
RAIL_SHARE = 0.02  # of the samples at the extreme value
MIN_SWING_MV, MAX_SWING_MV = 0.05, 20.0  # between these quantiles, baseline removed
SWING = (0.005, 0.995)
LIMB_POOR, LIMB_BROKEN = 0.1, 0.25  # rms that breaks the limb-lead laws, against the leads' rms
PARTS, BEYOND = 50, 6
SCORE_DIGITS = 4
MAINS_MV = 0.05  # rms
WANDER_MV = 0.3  # rms of what the high-pass takes
FINE_FLOOR = -1.5  # log10: between beats

DETAILS = {
    "missing_lead": "no sample at all",
    "gap": "samples missing for longer than 0.2 s",
    "flat_lead": "constant for at least half of a segment",
    "saturated_lead": "clipped at its largest or smallest value",
    "wrong_units": "looks like an ECG of an impossible size: check whether mV and uV were mixed up, "
    "and the gain",
    "implausible_amplitude": f"swing outside {MIN_SWING_MV:g} to {MAX_SWING_MV:g} mV, baseline "
    "removed: check the units and the electrode",
    "limb_leads_inconsistent": "limb leads contradict each other: check the lead names",
    "not_an_ecg": "no lead shows anything like heartbeats",
    "limb_leads_swapped": "limb electrodes seem to be in each other's place: check the arms' and "
    "the left leg's",
    "baseline_wander": "the baseline moves so much that waves are hard to read: check the "
    "electrodes, and let the patient lie still",
    "mains_noise": "hum at 50 or 60 Hz: check the cables and the earth",
    "muscle_noise": "fine noise between beats: let the patient relax",
    "noisy": "noise hides much of the heartbeats",
    "paced": "spikes like a pacemaker's: statements were learned from few paced hearts",
}
NOTES = {"paced"}  # said, without making the record poor
STATUSES = ("acceptable", "poor", "unusable")


@dataclass(frozen=True)
class Reason:
    code: str
    leads: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Quality:
    """`status` is acceptable, poor (answered with care) or unusable (not answered). score: how
    surely the signal is good, 0 to 1, the mean over segments; None where too short to say."""

    status: str
    reasons: tuple[Reason, ...]
    score: float | None = None


@dataclass(frozen=True)
class SegmentQuality:
    """Which rows of a segment to trust, [lead] bool; what was found: code -> lead names; and the
    score, as in Quality."""

    usable: np.ndarray
    found: dict[str, tuple[str, ...]]
    score: float | None = None


class Examined(NamedTuple):
    """What verdicts rest on. Arrays [segment, lead], bool, of faults; signs, of `rows` alone;
    disagreement of the limb leads [segment]."""

    faults: dict[str, np.ndarray]
    usable: np.ndarray
    disagreement: np.ndarray
    swings: np.ndarray
    rows: list[int]
    signs: Signs


class Scores(NamedTuple):
    """Logits: clean [segment, row], record and ecg [segment]."""

    clean: np.ndarray
    record: np.ndarray
    ecg: np.ndarray


def assess_segments(
    raw: np.ndarray, missing: np.ndarray, sig: np.ndarray, fs: float, leads: Sequence[str]
) -> list[SegmentQuality]:
    """Judge segments of one length.

    Args:
        raw: mV [segment, lead, time] as sampled, short gaps filled; missing: like raw, bool.
        sig: the same stretches at fs Hz, mV [segment, lead, time].
    """
    seen = examine(raw, missing, sig, fs, leads)
    usable, verdicts = seen.usable, seen.faults
    limb = np.array([name in LIMB_LEADS for name in leads])
    limbs = usable & limb
    verdicts["limb_leads_inconsistent"] = limbs & (seen.disagreement[:, None] > LIMB_POOR)
    usable = usable & ~(limbs & (seen.disagreement[:, None] > LIMB_BROKEN))
    scores: list[float | None] = [None] * len(sig)
    if sig.shape[-1] >= MIN_DURATION_S * fs:  # a pause may fill a shorter remainder
        judged = judge(seen)
        verdicts |= _learned(judged, seen, usable, raw, fs, leads)
        usable = usable & ~verdicts["not_an_ecg"]
        _wrong_units(verdicts, seen, sig, fs)
        one = seen.usable.sum(axis=-1) < 2
        logit = np.where(one, np.where(seen.usable[:, seen.rows], judged.clean, -np.inf).max(axis=-1), judged.record)
        probability = np.where(usable.any(axis=-1), 1 / (1 + np.exp(-logit)), 0.0)
        scores = [round(p, SCORE_DIGITS) for p in probability.tolist()]
    found = {code: bad for code, bad in verdicts.items() if bad.any()}
    return [
        SegmentQuality(
            usable[i],
            {code: _named(bad[i], leads) for code, bad in found.items() if bad[i].any()},
            scores[i],
        )
        for i in range(len(sig))
    ]


def examine(
    raw: np.ndarray, missing: np.ndarray, sig: np.ndarray, fs: float, leads: Sequence[str]
) -> Examined:
    """The leads' faults, and the signs of those without; arguments as for `assess_segments`."""
    nowhere = np.zeros(raw.shape[:2], dtype=bool)
    gone, gap = nowhere, nowhere
    if missing.any():
        gone = missing.all(axis=-1)
        gap = missing.any(axis=-1) & ~gone
    swings = highpass(sig, fs, 0.5)
    ptp = swings.max(axis=-1) - swings.min(axis=-1)
    flat = _flat(raw, fs * raw.shape[-1] / sig.shape[-1]) & ~gone
    implausible = _implausible(swings, ptp) & ~flat & ~gone
    saturated = _saturated(raw)
    faults = {
        "missing_lead": gone,
        "gap": gap,
        "flat_lead": flat,
        "saturated_lead": saturated,
        "implausible_amplitude": implausible,
    }
    usable = ~(gone | gap | flat | saturated | implausible)
    limb = np.array([name in LIMB_LEADS for name in leads])
    disagreement = _limb_disagreement(swings, usable & limb, leads)
    rows = list(range(len(leads)))
    if set(INDEPENDENT_LEADS) < set(leads):  # the others say the same again
        rows = [leads.index(name) for name in INDEPENDENT_LEADS]
    signs = signs_of(sig[:, rows], swings[:, rows], usable[:, rows], fs)
    return Examined(faults, usable, disagreement, swings, rows, signs)


def judge(seen: Examined) -> Scores:
    """The learned scores, as logits."""
    usable = seen.usable[:, seen.rows]
    learned = gate()
    clean = learned.lead.logit(seen.signs.lead)
    lost = (~seen.usable).sum(axis=-1)
    record = record_signs(seen.signs, clean, usable, lost, seen.disagreement)
    return Scores(
        clean,
        learned.record.logit(record),
        learned.ecg.logit(ecg_signs(seen.signs, usable)),
    )


def _learned(
    scores: Scores,
    seen: Examined,
    usable: np.ndarray,
    raw: np.ndarray,
    fs: float,
    leads: Sequence[str],
) -> dict[str, np.ndarray]:
    """Verdicts [segment, lead] that rest on scores; usable: [segment, lead]."""
    learned, rows, lead = gate(), seen.rows, seen.signs.lead
    beatless = usable & (scores.ecg < learned.ecg.threshold)[:, None]
    ecg = usable & ~beatless
    noisy = np.zeros_like(ecg)
    noisy[:, rows] = scores.clean < learned.lead.threshold
    several = ecg[:, rows].sum(axis=-1) > 1
    worst = np.argmin(np.where(ecg[:, rows], scores.clean, np.inf), axis=-1)
    refused = several & (scores.record < learned.record.threshold)
    noisy[np.flatnonzero(refused), np.take(rows, worst[refused])] = True
    noisy &= ecg
    wander, fine = np.zeros_like(ecg), np.zeros_like(ecg)
    wander[:, rows] = lead[..., LEAD_SIGNS.index("baseline_mv")] > np.log10(WANDER_MV)
    fine[:, rows] = lead[..., LEAD_SIGNS.index("fine_floor")] > FINE_FLOOR
    raw_fs = fs * raw.shape[-1] / seen.swings.shape[-1]
    verdicts = {
        "not_an_ecg": beatless,
        "baseline_wander": noisy & wander,
        "mains_noise": ecg & (mains_mv(raw, raw_fs) > MAINS_MV),
        "muscle_noise": noisy & fine & ~wander,
        "noisy": noisy & ~wander & ~fine,
    }
    if len(rows) == len(INDEPENDENT_LEADS) == 8 and tuple(leads[i] for i in rows) == INDEPENDENT_LEADS:
        whole = ecg[:, rows].all(axis=-1)
        limb = np.array([name in LIMB_LEADS for name in leads])
        verdicts["limb_leads_swapped"] = (whole & swapped(seen.signs, learned, fs))[:, None] & limb
    spikes = paced(raw, ecg, raw_fs)
    if spikes.any():
        verdicts["paced"] = spikes[:, None] & ecg
    return verdicts


def _wrong_units(
    verdicts: dict[str, np.ndarray], seen: Examined, sig: np.ndarray, fs: float
) -> None:
    """Where every lead is too small or too large, but they would be an ECG at another scale: said
    instead of what each lead looks like."""
    small = verdicts["flat_lead"] & (np.ptp(seen.swings, axis=-1) > 0)
    odd = small | verdicts["implausible_amplitude"]
    verdicts["wrong_units"] = np.zeros_like(odd)
    for i in np.flatnonzero(odd.all(axis=-1)):
        rows = seen.rows
        signs = signs_of(sig[i : i + 1, rows], seen.swings[i : i + 1, rows], odd[i : i + 1, rows], fs)
        if gate().ecg.logit(ecg_signs(signs, odd[i : i + 1, rows]))[0] >= gate().ecg.threshold:
            verdicts["wrong_units"][i] = True
            verdicts["flat_lead"] = verdicts["flat_lead"].copy()
            verdicts["flat_lead"][i] = verdicts["implausible_amplitude"][i] = False


def _named(rows: np.ndarray, leads: Sequence[str]) -> tuple[str, ...]:
    return tuple(leads[i] for i in np.flatnonzero(rows).tolist())


def summarise(segments: Sequence[SegmentQuality], leads: Sequence[str]) -> Quality:
    """One verdict for the record out of its segments'."""
    reasons = []
    for code, detail in DETAILS.items():
        where = [s for s in segments if code in s.found]
        if where:
            named = {name for s in where for name in s.found[code]}
            extent = (
                ""
                if len(where) == len(segments)
                else f" ({len(where)} of {len(segments)} segments)"
            )
            reasons.append(
                Reason(code, tuple(name for name in leads if name in named), detail + extent)
            )
    if not any(s.usable.any() for s in segments):
        status = "unusable"
    else:
        status = "poor" if any(r.code not in NOTES for r in reasons) else "acceptable"
    scores = [s.score for s in segments if s.score is not None]
    score = round(sum(scores) / len(scores), SCORE_DIGITS) if scores else None
    return Quality(status, tuple(reasons), score)


def _implausible(sig: np.ndarray, ptp: np.ndarray) -> np.ndarray:
    """[segment, lead]: the swing, from the 0.5th to the 99.5th percentile, is out of bounds.

    Percentiles are slow, and rarely needed: no swing is more than peak to peak (`ptp`), and none
    less than the distance from the sixth lowest to the sixth highest extreme of fifty interleaved
    parts, since six samples lie at or beyond each.
    """
    n, k = sig.shape[-1], BEYOND
    if n % PARTS or int(SWING[0] * (n - 1)) + 1 >= k:
        doubtful = np.ones(ptp.shape, dtype=bool)
    else:
        parts = sig.reshape(*sig.shape[:-1], -1, PARTS)
        lows = np.sort(parts.min(axis=-2), axis=-1)[..., k - 1]
        highs = np.sort(parts.max(axis=-2), axis=-1)[..., -k]
        doubtful = (highs - lows < MIN_SWING_MV) | (ptp > MAX_SWING_MV)
    out = np.zeros(ptp.shape, dtype=bool)
    if doubtful.any():
        low, high = np.quantile(sig[doubtful], SWING, axis=-1)
        out[doubtful] = (high - low < MIN_SWING_MV) | (high - low > MAX_SWING_MV)
    return out


def _flat(raw: np.ndarray, fs: float) -> np.ndarray:
    """[segment, lead]: at least half of the half-second windows are constant."""
    width = max(2, round(FLAT_WINDOW_S * fs))
    n_windows = raw.shape[-1] // width
    if n_windows == 0:
        return np.ptp(raw, axis=-1) < FLAT_MV
    windows = raw[..., : n_windows * width].reshape(*raw.shape[:-1], n_windows, width)
    swing = windows.max(axis=-1) - windows.min(axis=-1)
    return (swing < FLAT_MV).mean(axis=-1) >= 0.5


def _saturated(raw: np.ndarray) -> np.ndarray:
    """[segment, lead]: too many samples at exactly the highest or the lowest value of a wide
    range."""
    high, low = raw.max(axis=-1), raw.min(axis=-1)
    found = high - low > RAIL_MV
    for at in zip(*np.nonzero(found), strict=True):
        row = raw[at]
        at_rail = max(np.count_nonzero(row == high[at]), np.count_nonzero(row == low[at]))
        found[at] = at_rail > RAIL_SHARE * raw.shape[-1]
    return found


def _limb_disagreement(sig: np.ndarray, limbs: np.ndarray, leads: Sequence[str]) -> np.ndarray:
    """[segment]: the share of the rms of the limb leads that no pair (I, II) explains; 0 with fewer
    than three. limbs: which rows to look at, [segment, lead], bool."""
    out = np.zeros(len(sig))
    left = limbs.sum(axis=-1) >= 3
    while left.any():  # segments with the same limb leads together: mostly all
        rows = limbs[np.argmax(left)]
        alike = left & (limbs == rows).all(axis=-1)
        some = sig[np.ix_(alike, rows)]
        residual = some - _explained_by_i_ii(_named(rows, leads)) @ some
        of_all, of_residual = (np.einsum("slt,slt->s", x, x) for x in (some, residual))
        out[alike] = np.sqrt(of_residual / np.maximum(of_all, 1e-12))
        left &= ~alike
    return out


@lru_cache(maxsize=64)
def _explained_by_i_ii(leads: tuple[str, ...]) -> np.ndarray:
    """The projection [lead, lead] onto what some (I, II) gives in these leads."""
    rows = LIMB_FROM_I_II[[LIMB_LEADS.index(name) for name in leads]]
    return (rows @ np.linalg.pinv(rows)).astype(np.float32)
