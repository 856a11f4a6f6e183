"""What a rater sees, and in which order: of the study's seed and the rater's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

APART = 0.25  # of the ECGs lie, at least, between one and its repeat


class Shown(NamedTuple):
    """One presentation: the ECG's number, in a pair that of the other one (right of it), and which
    earlier presentation it repeats."""

    item: int
    other: int | None = None
    repeat_of: int | None = None


def pairs(labels: Sequence[str], seed: int) -> list[tuple[int, int]]:
    """Pairs of ECGs of one label, each in one pair at most, the same for every rater."""
    rng = np.random.default_rng((seed, 3))
    found: list[tuple[int, int]] = []
    for label in sorted(set(labels)):
        some = rng.permutation([i for i, one in enumerate(labels) if one == label]).tolist()
        found += zip(some[::2], some[1::2], strict=False)
    return found


def course(labels: Sequence[str], mode: str, repeats: float, seed: int, rater: int) -> list[Shown]:
    """All that a rater is shown. The sides of a pair are drawn anew for each rater, and a repeat
    has them the other way round: who always says `left` does not agree with themselves."""
    rng = np.random.default_rng((seed, 4, rater))
    if mode == "pairs":
        turned = rng.random(len(labels)) < 0.5
        first = [
            Shown(b, a) if turn else Shown(a, b)
            for (a, b), turn in zip(pairs(labels, seed), turned, strict=False)
        ]
    else:
        first = [Shown(item) for item in range(len(labels))]
    firsts = [first[i] for i in rng.permutation(len(first))]
    return _with_repeats(firsts, round(repeats * len(firsts)), rng)


def _with_repeats(firsts: list[Shown], n: int, rng: np.random.Generator) -> list[Shown]:
    """The same with n of them again, each far enough behind its first showing."""
    apart = max(1, round(APART * len(firsts)))
    early = max(0, len(firsts) - apart)
    line = [(k, False) for k in range(len(firsts))]
    for k in rng.choice(early, min(n, early), replace=False).tolist():
        line.insert(int(rng.integers(line.index((k, False)) + apart, len(line) + 1)), (k, True))
    at = {k: position for position, (k, again) in enumerate(line) if not again}
    return [_again(firsts[k], at[k]) if again else firsts[k] for k, again in line]


def _again(shown: Shown, position: int) -> Shown:
    if shown.other is None:
        return Shown(shown.item, repeat_of=position)
    return Shown(shown.other, shown.item, position)
