"""Whether generated ECGs have the physiology that their labels say, measured beside real ones.

Real and generated ECGs carry the same labels: what is compared is the same statement's ECGs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from training.beats import AMPLITUDES, MEASURES, SPECTRUM
from training.metrics import auroc, bootstrap
from training.shards import CODES

# What a statement is known by, against which other one: higher (+1) or lower (-1).
SIGNS = (
    ("AFIB", "SR", "rr_irregularity", +1),
    ("AFIB", "SR", "p_wave_uv", -1),
    ("1AVB", "NORM", "pr_ms", +1),
    ("CLBBB", "NORM", "qrs_ms", +1),
    ("CRBBB", "NORM", "qrs_ms", +1),
    ("LVH", "NORM", "sokolow_mv", +1),
    ("LVH", "NORM", "cornell_mv", +1),
    ("STACH", "SR", "heart_rate", +1),
    ("SBRAD", "SR", "heart_rate", -1),
    ("LNGQT", "NORM", "qtc_ms", +1),
)
ALL = "all"
LABELS = (ALL, "SR", "NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "LVH", "STACH", "SBRAD")
SHOWN = tuple(name for name in MEASURES if name not in AMPLITUDES)
MIN_MEASURED = 5
N_RESAMPLES = 200
N_QUANTILES = 41


@dataclass(frozen=True)
class Measured:
    """values: [n, MEASURES]; label: [n, 1 + CODES]; patient: [n]."""

    values: np.ndarray
    label: np.ndarray
    patient: np.ndarray

    def of(self, measure: str) -> np.ndarray:
        return self.values[:, MEASURES.index(measure)]

    def has(self, code: str) -> np.ndarray:
        """[n], bool."""
        if code == ALL:
            return np.ones(len(self.label), dtype=bool)
        return self.label[:, 1 + CODES.index(code)] == 1


def compare(real: Measured, made: Measured) -> dict:
    """`labels`: for each label its measures' distributions and tests; `signs`: what a statement is
    known by, in real and in generated ECGs; `missing`: how often something cannot be measured."""
    labels = {
        code: rows
        for code in LABELS
        if (rows := {
            name: found
            for name in (MEASURES if code == ALL else SHOWN)
            if (found := _beside(real, made, code, name)) is not None
        })
    }  # fmt: skip
    _adjust([found for rows in labels.values() for found in rows.values()])
    missing = {
        name: {kind: float(np.isnan(of.of(name)).mean()) for kind, of in _both(real, made).items()}
        for name in SHOWN
        if name not in SPECTRUM
    }
    signs = [s for sign in SIGNS if (s := _sign(real, made, *sign)) is not None]
    return {"labels": labels, "signs": signs, "missing": missing}


def _both(real: Measured, made: Measured) -> Mapping[str, Measured]:
    return {"real": real, "generated": made}


def _beside(real: Measured, made: Measured, code: str, name: str) -> dict | None:
    """One measure of one label's ECGs; None where too few could be measured.

    effect: Cliff's delta (Cliff 1993, doi 10.1037/0033-2909.114.3.494), the chance that a generated
    ECG has more than a real one, less that it has less. p: Mann and Whitney's; ks: the largest
    distance between the distribution functions.
    """
    drawn, patients = [], []
    for of in (real, made):
        keep = of.has(code) & ~np.isnan(of.of(name))
        if keep.sum() < MIN_MEASURED:
            return None
        drawn.append(of.of(name)[keep])
        patients.append(of.patient[keep])
    score = np.concatenate(drawn)
    is_made = np.repeat([0, 1], [len(x) for x in drawn])

    def delta(rows: np.ndarray) -> float:
        return 2 * auroc(is_made[rows], score[rows]) - 1

    return {
        **{kind: _spread(x) for kind, x in zip(("real", "generated"), drawn, strict=True)},
        "effect": {
            "value": delta(np.arange(len(score))),
            "interval": bootstrap(delta, np.concatenate(patients), N_RESAMPLES),
        },
        "p": float(stats.mannwhitneyu(*drawn).pvalue),
        "ks": float(stats.ks_2samp(*drawn).statistic),
    }


def _spread(x: np.ndarray) -> dict:
    low, middle, high = np.percentile(x, (25, 50, 75))
    quantiles = np.quantile(x, np.linspace(0, 1, N_QUANTILES))
    return {
        "n": len(x), "median": float(middle), "quartiles": (float(low), float(high)),
        "quantiles": [float(f"{q:.4g}") for q in quantiles],
    }  # fmt: skip


def _adjust(found: list[dict]) -> None:
    """`p_adjusted`: of all tests together, by Benjamini and Hochberg."""
    adjusted = stats.false_discovery_control([f["p"] for f in found]) if found else []
    for f, p in zip(found, adjusted, strict=True):
        f["p_adjusted"] = float(p)


def _sign(
    real: Measured, made: Measured, code: str, against: str, name: str, sign: int
) -> dict | None:
    """The AUROC with which the measure tells the statement from the other one, in real and in
    generated ECGs; `shown` where generated ECGs show it as clearly as real ones, or nearly: their
    interval is above chance and reaches the real value."""
    out: dict = {"code": code, "against": against, "measure": name, "sign": sign}
    for kind, of in _both(real, made).items():
        x, is_code = sign * of.of(name), of.has(code)
        keep = ~np.isnan(x) & (is_code | of.has(against))
        y, x = is_code[keep].astype(int), x[keep]
        if min(y.sum(), len(y) - y.sum()) < MIN_MEASURED:
            return None

        def figure(rows: np.ndarray, y: np.ndarray = y, x: np.ndarray = x) -> float:
            return auroc(y[rows], x[rows])

        out[kind] = {
            "value": figure(np.arange(len(y))),
            "interval": bootstrap(figure, of.patient[keep], N_RESAMPLES),
            "n": int(y.sum()),
        }
    low, high = out["generated"]["interval"]
    out["shown"] = bool(low > 0.5 and high >= out["real"]["value"])
    return out
