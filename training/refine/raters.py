"""Simulated raters: a critic's verdicts with the errors and the inconsistency of people.

They are no cardiologists; what they leave behind says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIKERT = (1, 5)


@dataclass(frozen=True)
class Verdict:
    """What a rater says of one ECG: whether it passes for what its label says, its plausibility
    from 1 to 5, and the defects seen."""

    passes: bool
    plausibility: int
    defects: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedRater:
    """Says what the critic found, but takes good for bad and bad for good with the chance `error`,
    anew at each look; its Likert values scatter by `spread` around its own `leniency`."""

    name: str
    error: float = 0.15
    spread: float = 0.7
    leniency: float = 0.0

    def rate(self, defects: tuple[str, ...], rng: np.random.Generator) -> Verdict:
        """A look at an ECG of which the critic sees these defects."""
        seen = defects
        if rng.random() < self.error:
            seen = () if defects else (_any_defect(rng),)
        low, high = LIKERT
        value = high - 0.5 - 1.5 * len(seen) + self.leniency + self.spread * rng.standard_normal()
        return Verdict(not seen, int(np.clip(round(value), low, high)), seen)


DEFECTS = ("P wave", "PR", "QRS", "ST/T", "RR regularity", "lead coherence", "noise", "artefact")


def _any_defect(rng: np.random.Generator) -> str:
    return DEFECTS[rng.integers(len(DEFECTS))]


def panel(n: int, error: float, seed: int) -> tuple[SimulatedRater, ...]:
    """Raters who differ in how lenient they are."""
    rng = np.random.default_rng(seed)
    return tuple(
        SimulatedRater(f"simulated {i + 1}", error, leniency=float(rng.normal(0, 0.4)))
        for i in range(n)
    )
