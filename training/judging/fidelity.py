"""Whether generated ECGs are what was asked for: statements, heart rate, laws, and no copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ecg.decision import calibrate
from ecg.leads import LEADS
from ecg.store import Classifier
from training.beats import FINER, median_beat
from training.ldm.heart_rate import heart_rate
from training.metrics import auroc, bootstrap, common_columns, macro_auroc
from training.shards import CODES, Shard


def with_signals(part: Shard, sig: np.ndarray, source: str) -> Shard:
    """The part's labels on other signals, mV [segment, 8, n_samples]: a patient's label, but no
    patient's ECG."""
    return replace(
        part,
        source=source,
        sig=sig.astype(np.float16),
        lead_mask=np.ones((len(sig), 8), np.uint8),
        n_valid=np.full(len(sig), sig.shape[2], np.int32),
    )


def probabilities(classifier: Classifier, sig: np.ndarray) -> np.ndarray:
    """[segment, 1 + statements], calibrated, of prepared mV [segment, 8, n_samples]."""
    card, out = classifier.card, []
    for start in range(0, len(sig), 64):
        part = sig[start : start + 64].astype(np.float32)
        n_leads = np.full(len(part), part.shape[1])
        masks = np.ones((len(part), part.shape[1]), np.float32)
        logits = classifier.logits(part, masks, np.full(len(part), card.n_samples))
        out.append(calibrate(logits, n_leads, list(card.calibration), card.implying)[0])
    return np.concatenate(out)


def label_fidelity(
    classifier: Classifier, label: np.ndarray, patient: np.ndarray, sig: np.ndarray
) -> dict[str, dict]:
    """AUROCs of the stored classifier against the labels asked for, [segment, 1 + 71] of CODES."""
    statements = classifier.card.statements
    label = label[:, [0, *(1 + CODES.index(code) for code in statements)]]
    p = probabilities(classifier, sig)
    common = 1 + common_columns(label[:, 1:])
    figures = {"atrial": lambda rows: auroc(label[rows, 0], p[rows, 0])}
    if len(common):
        figures["macro"] = lambda rows: macro_auroc(label[rows], p[rows], common)
    every = np.arange(len(label))
    return {
        name: {"value": float(figure(every)), "interval": bootstrap(figure, patient, n=300)}
        for name, figure in figures.items()
    } | {
        "statements": {
            statements[j - 1]: {
                "value": auroc(label[:, j], p[:, j]),
                "n_positive": int((label[:, j] == 1).sum()),
            }
            for j in common
        }
    }


def afib_fidelity(classifier: Classifier, afib: np.ndarray, sinus: np.ndarray) -> dict:
    """AUROC of the classifier's AFIB on ECGs asked to be AFIB against those asked to be SR.

    Errors: ValueError where the classifier does not know AFIB.
    """
    j = 1 + classifier.card.statements.index("AFIB")
    score = np.concatenate([probabilities(classifier, sig)[:, j] for sig in (afib, sinus)])
    label = np.repeat([1, 0], [len(afib), len(sinus)])
    interval = bootstrap(lambda rows: auroc(label[rows], score[rows]), np.arange(len(label)))
    return {"value": auroc(label, score), "interval": interval, "n": len(label)}


def heart_rates(sig: np.ndarray, fs: float, asked: Sequence[float]) -> dict:
    """Beats a minute measured against those asked for."""
    measured = np.array([heart_rate(one, fs) for one in sig])
    known = ~np.isnan(measured)
    error = np.abs(measured - np.asarray(asked))[known]
    if not known.any():
        return {"median_error": None, "measured_share": 0.0, "asked": list(asked), "measured": []}
    return {
        "median_error": float(np.median(error)),
        "interval": bootstrap(lambda rows: float(np.median(error[rows])), np.arange(len(error))),
        "within_5": float((error <= 5).mean()),
        "measured_share": float(known.mean()),
        "asked": [float(a) for a in np.asarray(asked)[known]],
        "measured": [round(float(m), 2) for m in measured[known]],
    }


def limb_lead_error(sig: np.ndarray) -> float:
    """The largest departure, mV, of twelve leads [n, 12, time] from Einthoven's and Goldberger's
    laws."""
    lead = dict(zip(LEADS, sig.astype(np.float64).transpose(1, 0, 2), strict=True))
    departures = (
        lead["I"] + lead["III"] - lead["II"],
        lead["aVR"] + (lead["I"] + lead["II"]) / 2,
        lead["aVL"] - (lead["I"] - lead["III"]) / 2,
        lead["aVF"] - (lead["II"] + lead["III"]) / 2,
    )
    return max(float(np.abs(d).max()) for d in departures)


def nearest_beat(sig: np.ndarray, training: np.ndarray, fs: float) -> np.ndarray:
    """[n]: the highest correlation of each ECG's median beat with any training ECG's, all leads
    together, whatever their rhythms; NaN where no beat was found."""
    a, b = (_beats(x, fs) for x in (sig, training))
    return (a @ b[~np.isnan(b).any(axis=1)].T).max(axis=1)


def _beats(sig: np.ndarray, fs: float) -> np.ndarray:
    """[n, leads * time]: from 0.2 s before to 0.4 s after the QRS, centred, of unit norm."""
    out = np.full((len(sig), sig.shape[1] * round(0.6 * fs * FINER)), np.nan, np.float32)
    for i, one in enumerate(sig):
        beat = median_beat(one.astype(float), fs)
        if beat is None:
            continue
        first, last = beat.at - round(0.2 * beat.fs), beat.at + round(0.4 * beat.fs)
        # At a high rate the beat is shorter: what is missing is level.
        padded = np.pad(beat.sig, ((0, 0), (max(0, -first), max(0, last - beat.sig.shape[1]))))
        part = _centred(padded[None, :, max(0, first) :][:, :, : last - first])
        out[i] = part.ravel() / max(float(np.linalg.norm(part)), 1e-9)
    return out


def _centred(sig: np.ndarray) -> np.ndarray:
    """Without each lead's mean."""
    sig = sig.astype(np.float32)
    return sig - sig.mean(axis=2, keepdims=True)
