"""A critic by rules: an ECG's measured physiology against what its labels and real ECGs allow.

It stands in for a cardiologist where there is none, and is called simulated wherever it does. Its
limits are read off real training records; it has no opinion on what cannot be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from training.beats import MEASURES, measure_all
from training.features.table import NAMES
from training.features.tables import features_of
from training.shards import CODES, Shard

ALLOWED = 0.975  # of the real ECGs that a rule is of, the share that keep it

NO_P = ("AFIB", "AFLT")
IRREGULAR = ("AFIB", "AFLT", "SARRH", "SVARR", "PVC", "PAC", "BIGU", "TRIGU", "SVTAC", "PSVT",
             "2AVB", "3AVB", "PACE", "PRC(S)")  # fmt: skip
WIDE = ("CLBBB", "CRBBB", "IVCD", "PACE", "WPW", "PVC", "BIGU", "TRIGU", "IRBBB", "ILBBB")
LONG_PR = ("1AVB", "LPR", "2AVB", "3AVB")


@dataclass(frozen=True)
class Rule:
    """`measure` is to stay below (+1) or above (-1) its limit, in ECGs with one of `having` (in any
    where there is none) and with none of `lacking`; else `defect`, a rater's word, is seen."""

    defect: str
    measure: str
    side: int
    having: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    def is_of(self, label: np.ndarray) -> np.ndarray:
        """bool [n]; label [n, 1 + statements], 1 present."""
        has = {name: label[:, [1 + CODES.index(c) for c in codes]] == 1
               for name, codes in (("having", self.having), ("lacking", self.lacking))}  # fmt: skip
        wanted = has["having"].any(axis=1) | (not self.having)
        return wanted & ~has["lacking"].any(axis=1)


BY_BEATS = (
    Rule("P wave", "p_wave_uv", +1, having=("AFIB",)),
    Rule("P wave", "p_wave_uv", -1, having=("SR", "NORM"), lacking=NO_P),
    Rule("PR", "pr_ms", +1, lacking=(*NO_P, *LONG_PR)),
    Rule("PR", "pr_ms", -1, having=("1AVB",)),
    Rule("QRS", "qrs_ms", +1, lacking=WIDE),
    Rule("QRS", "qrs_ms", -1, having=("CLBBB", "CRBBB")),
    Rule("ST/T", "qtc_ms", +1, lacking=("LNGQT",)),
    Rule("ST/T", "qtc_ms", -1),
    Rule("RR regularity", "rr_irregularity", -1, having=("AFIB",)),
    Rule("RR regularity", "rr_irregularity", +1, having=("SR", "NORM"), lacking=IRREGULAR),
    Rule("noise", "power_40_50_db", +1),
)
BY_NEUROKIT = (
    Rule("P wave", "p_share", +1, having=("AFIB",)),
    Rule("P wave", "p_share", -1, having=("SR", "NORM"), lacking=NO_P),
    Rule("PR", "pr", +1, lacking=(*NO_P, *LONG_PR)),
    Rule("QRS", "qrs", +1, lacking=WIDE),
    Rule("QRS", "qrs", -1, having=("CLBBB", "CRBBB")),
    Rule("ST/T", "qtc", +1, lacking=("LNGQT",)),
    Rule("RR regularity", "rr_cv", -1, having=("AFIB",)),
    Rule("RR regularity", "rr_cv", +1, having=("SR", "NORM"), lacking=IRREGULAR),
    Rule("lead coherence", "beat_coherence", -1, lacking=IRREGULAR),
    Rule("noise", "noise", +1),
    Rule("artefact", "wander", +1),
)
Measure = Callable[[Shard], np.ndarray]
# Of measures, their names and the rules; each by hands of its own, so that what pleases one is
# checked by another that had no part in it.
KINDS: Mapping[str, tuple[Measure, tuple[str, ...], tuple[Rule, ...]]] = {
    "beats": (lambda part: measure_all(part.sig, part.preparation.fs), MEASURES, BY_BEATS),
    "neurokit": (features_of, NAMES, BY_NEUROKIT),
}


@dataclass(frozen=True)
class Critic:
    """`limits`, a number a rule of the kind's."""

    kind: str
    limits: tuple[float, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        return KINDS[self.kind][2]

    def broken(self, part: Shard) -> np.ndarray:
        """bool [segment, rule]: which rules each ECG breaks, by its record's labels."""
        measure, names, rules = KINDS[self.kind]
        return _broken(measure(part), names, rules, part.label[part.record], self.limits)

    def defects(self, part: Shard) -> list[tuple[str, ...]]:
        """Of each segment, in a rater's words, none twice."""
        return [
            tuple(
                dict.fromkeys(rule.defect for rule, is_ in zip(self.rules, row, strict=True) if is_)
            )
            for row in self.broken(part)
        ]

    def passes(self, part: Shard) -> np.ndarray:
        """bool [segment]."""
        return ~self.broken(part).any(axis=1)


def fit(kind: str, real: Shard) -> Critic:
    """A critic whose rules each let ALLOWED of the real ECGs pass that they are of. Errors:
    SystemExit for a rule that is of none of them."""
    measure, names, rules = KINDS[kind]
    values, label = measure(real), real.label[real.record]
    limits = []
    for rule in rules:
        x = values[rule.is_of(label), names.index(rule.measure)]
        if not np.isfinite(x).any():
            raise SystemExit(f"no real ECG to read the limit of {rule.measure} off: {rule}")
        share = ALLOWED if rule.side > 0 else 1 - ALLOWED
        limits.append(float(np.nanquantile(x, share)))
    return Critic(kind, tuple(limits))


def _broken(
    values: np.ndarray,
    names: tuple[str, ...],
    rules: tuple[Rule, ...],
    label: np.ndarray,
    limits: tuple[float, ...],
) -> np.ndarray:
    columns = [
        rule.is_of(label) & (rule.side * (values[:, names.index(rule.measure)] - limit) > 0)
        for rule, limit in zip(rules, limits, strict=True)
    ]
    return np.stack(columns, axis=1)
