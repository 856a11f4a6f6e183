"""The signal-quality gate: which leads of a segment can be trusted, and whether it is an ECG.

A lead that fails is taken out of the segment; a segment with no lead left, or with nothing like an
ECG in it, is not answered. Limits of single leads were read off PTB-XL's training folds and CinC
2017 (training/LOG.md); what is noisy, an ECG or swapped is learned (`ecg.scores`), and measured in
training/reports/quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ecg.decision import sigmoid
from ecg.electrodes import swapped
from ecg.faults import MAX_SWING_MV, MIN_SWING_MV, flat, implausible, limb_disagreement, saturated
from ecg.interference import MAINS_HZ, mains_mv, paced
from ecg.leads import INDEPENDENT_LEADS, LIMB_LEADS
from ecg.limits import LIMITS
from ecg.scores import ecg_signs, gate, record_signs
from ecg.signs import LEAD_SIGNS, SCALE_FREE, Signs, signs_of
from ecg.waveform import highpass

LIMB_POOR, LIMB_BROKEN = 0.1, 0.25  # rms that breaks the limb-lead laws, against the leads' rms
SCORE_DIGITS = 4
MANY_LEADS = 7  # limb and chest leads
MAINS_MV = 0.05  # rms
WANDER_MV, WANDER_OF_NOISY_MV = 1.0, 0.3  # rms of what the high-pass takes
FINE_FLOOR = -1.5  # log10: between beats

DETAILS = {
    "missing_lead": "no sample at all",
    "gap": "samples missing for longer than 0.2 s",
    "flat_lead": "constant for at least half of a segment",
    "saturated_lead": "clipped at its largest or smallest value",
    "wrong_units": "looks like an ECG of an impossible size: check the gain, and whether mV and uV "
    "were mixed up",
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
    surely experts would accept the signal, 0 to 1, the mean over segments; None where each is too
    short to say. A signal may be good and still no ECG."""

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
    """What verdicts rest on.

    faults, usable: [segment, lead], bool; disagreement: of the limb leads, [segment]; swings: mV,
    baseline removed; ptp: their peak to peak; signs: of `rows` of the leads.
    """

    faults: dict[str, np.ndarray]
    usable: np.ndarray
    disagreement: np.ndarray
    swings: np.ndarray
    ptp: np.ndarray
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
    if sig.shape[-1] >= LIMITS.min_duration_s * fs:  # a pause may fill a shorter remainder
        judged = judge(seen)
        verdicts |= _learned(judged, seen, usable, raw, fs, leads)
        usable = usable & ~verdicts["not_an_ecg"]
        _wrong_units(verdicts, seen, sig, fs)
        scores = _shown(judged, seen)
    found = {code: bad for code, bad in verdicts.items() if bad.any()}
    return [
        SegmentQuality(
            usable[i],
            {code: _named(bad[i], leads) for code, bad in found.items() if bad[i].any()},
            scores[i],
        )
        for i in range(len(sig))
    ]


def _shown(scores: Scores, seen: Examined) -> list[float | None]:
    """Of each segment: the record's, or a lone lead's own; 0 where every lead has a fault."""
    logit = scores.clean[:, 0] if seen.usable.shape[-1] == 1 else scores.record
    return np.round(sigmoid(logit) * seen.usable.any(axis=-1), SCORE_DIGITS).tolist()


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
    constant = flat(raw, fs * raw.shape[-1] / sig.shape[-1]) & ~gone
    faults = {
        "missing_lead": gone,
        "gap": gap,
        "flat_lead": constant,
        "saturated_lead": saturated(raw),
        "implausible_amplitude": implausible(swings, ptp) & ~constant & ~gone,
    }
    usable = ~np.any(list(faults.values()), axis=0)
    limb = np.array([name in LIMB_LEADS for name in leads])
    disagreement = limb_disagreement(swings, usable & limb, leads)
    rows = list(range(len(leads)))
    if set(INDEPENDENT_LEADS) <= set(leads):  # the others say the same again
        rows = [leads.index(name) for name in INDEPENDENT_LEADS]
    signs = signs_of(sig[:, rows], swings[:, rows], ptp[:, rows], usable[:, rows], fs)
    return Examined(faults, usable, disagreement, swings, ptp, rows, signs)


def judge(seen: Examined) -> Scores:
    """The learned scores, as logits."""
    usable = seen.usable[:, seen.rows]
    learned = gate()
    clean = learned.lead.logit(seen.signs.lead[..., : len(SCALE_FREE)])
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
    verdicts = {}
    many = seen.usable[:, rows].sum(axis=-1) >= MANY_LEADS
    least, clean = (
        np.where(many, score.threshold_in_many, score.threshold)[:, None]
        for score in (learned.ecg, learned.lead)
    )
    beatless = usable & (scores.ecg[:, None] < least)
    ecg = usable & ~beatless
    noisy = ecg[:, rows] & (scores.clean < clean)
    refused = (scores.record < learned.record.threshold) & ecg.all(axis=-1) & ~noisy.any(axis=-1)
    refused &= ecg.shape[-1] > 1
    if refused.any():
        worst = np.argmin(np.where(ecg[:, rows], scores.clean, np.inf), axis=-1)
        noisy[refused, worst[refused]] = True
    drift = lead[..., LEAD_SIGNS.index("baseline_mv")]
    wander = ecg[:, rows] & (drift > np.log10(WANDER_MV))
    if noisy.any() or wander.any():
        wander |= noisy & (drift > np.log10(WANDER_OF_NOISY_MV))
        fine = lead[..., LEAD_SIGNS.index("fine_floor")] > FINE_FLOOR
        kinds = {
            "baseline_wander": wander,
            "muscle_noise": noisy & fine & ~wander,
            "noisy": noisy & ~wander & ~fine,
        }
        for code, bad in kinds.items():
            verdicts[code] = np.zeros_like(ecg)
            verdicts[code][:, rows] = bad
    raw_fs = fs * raw.shape[-1] / seen.swings.shape[-1]
    if raw_fs > 2 * MAINS_HZ[0]:
        verdicts["mains_noise"] = ecg & (mains_mv(raw, raw_fs) > MAINS_MV)
    if tuple(leads[i] for i in rows) == INDEPENDENT_LEADS:
        wrong = ecg[:, rows].all(axis=-1) & swapped(seen.signs, learned, fs)
        if wrong.any():
            limb = np.array([name in LIMB_LEADS for name in leads])
            verdicts["limb_leads_swapped"] = wrong[:, None] & limb
    spikes = paced(raw, ecg, raw_fs)
    if spikes.any():
        verdicts["paced"] = spikes[:, None] & ecg
    return {"not_an_ecg": beatless, **verdicts}


def _wrong_units(
    verdicts: dict[str, np.ndarray], seen: Examined, sig: np.ndarray, fs: float
) -> None:
    """Where every lead is too small or too large, but they would be an ECG at another scale: said
    instead of what each lead looks like."""
    if not (verdicts["flat_lead"] | verdicts["implausible_amplitude"]).all(axis=-1).any():
        return
    small = verdicts["flat_lead"] & (seen.ptp > 0)
    odd = small | verdicts["implausible_amplitude"]
    verdicts["wrong_units"] = np.zeros_like(odd)
    for i in np.flatnonzero(odd.all(axis=-1)):
        some = np.ix_(np.array([i]), np.array(seen.rows))
        signs = signs_of(sig[some], seen.swings[some], seen.ptp[some], odd[some], fs)
        if gate().ecg.logit(ecg_signs(signs, odd[some]))[0] >= gate().ecg.threshold:
            verdicts["wrong_units"][i] = True
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
