"""Limb electrodes in each other's place, as the leads they make show it.

LA-RA turns lead I over and exchanges II and III; RA-LL turns II over and exchanges I and III. The
other leads follow. LA-LL only exchanges I and II, which normal hearts do among themselves: it is
not looked for. An arm's electrode in the place of the right leg's leaves lead II or III flat.
"""

from __future__ import annotations

import numpy as np

from ecg.scores import Gate
from ecg.signs import BEFORE_S, Signs

SWAPS = {  # what (I, II) become
    "LA-RA": np.array([[-1.0, 0.0], [-1.0, 1.0]]),
    "RA-LL": np.array([[1.0, -1.0], [0.0, -1.0]]),
}
P_S = (0.15, 0.08)  # before the steepest moment: where P waves end, mostly
T_S = (0.14, 0.30)


def swap_signs(signs: Signs, fs: float) -> np.ndarray:
    """[segment, sign] where the rows are the eight independent leads: how I and II lie to each
    other and to the chest leads, and which way their P, QRS and T waves point."""
    beside = signs.alignment[:, :2]
    shapes = signs.shapes[:, :2]
    peak = round(BEFORE_S * fs)
    swing = shapes.max(axis=-1) - shapes.min(axis=-1) + 1e-6
    level = shapes[..., : peak - round(P_S[1] * fs)]
    p = level.max(axis=-1) + level.min(axis=-1) - 2 * np.median(level, axis=-1)
    qrs = shapes.max(axis=-1) + shapes.min(axis=-1)
    t = shapes[..., peak + round(T_S[0] * fs) :].mean(axis=-1) - level.mean(axis=-1)
    waves = [x / swing for x in (p, qrs, t)]
    return np.concatenate([beside[:, 0, 1:], beside[:, 1, 2:], *waves], axis=-1, dtype=np.float32)


def swapped(signs: Signs, gate: Gate, fs: float) -> np.ndarray:
    """[segment], bool. Either swap turns I or II against V6, which lies to the left."""
    found = np.zeros(len(signs.lead), dtype=bool)
    turned = signs.alignment[:, :2, -1].min(axis=-1) < 0
    if turned.any():
        seen = swap_signs(signs, fs)[turned]
        said = [score.logit(seen) > score.threshold for score in gate.swaps.values()]
        found[turned] = np.any(said, axis=0)
    return found
