"""AF burden: how much of a long recording is atrial fibrillation, and when.

An *AF segment* is one whose AFIB probability reaches its threshold. An *episode* is a run of AF
segments; one segment alone that could not be analysed does not end a run, though it is not counted
in it, while two of them, or a segment without AF, do. Runs that last at least 30 s are episodes: AF
has to last that long, or the whole ECG, to be diagnosed (2024 ESC guidelines, Van Gelder et al.,
doi 10.1093/eurheartj/ehae176). The burden is the AF segments' time in episodes as a share of the
time that could be analysed; what was AF for less than 30 s is given apart and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EPISODE_S = 30.0
NOTE = (
    "share of the analysed time in episodes of at least 30 s; a segment that could not be analysed "
    "counts neither way, and one alone does not end an episode"
)


@dataclass(frozen=True)
class Episode:
    start_s: float
    end_s: float


@dataclass(frozen=True)
class AfBurden:
    """`share` of `analysed_s` that is AF (`af_s`, in episodes), None where nothing could be
    analysed; `brief_s`: AF segments outside episodes; `longest_s`: of an episode, 0 without."""

    share: float | None
    af_s: float
    analysed_s: float
    brief_s: float
    longest_s: float
    episodes: tuple[Episode, ...]
    note: str = NOTE


def af_burden(
    start_s: np.ndarray, end_s: np.ndarray, af: np.ndarray, analysed: np.ndarray
) -> AfBurden:
    """Of segments in the order of time: start_s, end_s; af and analysed, bool, [segment]."""
    af = af & analysed
    length = end_s - start_s
    within = np.zeros(len(af), dtype=bool)
    episodes = []
    for first, last in _runs(af, analysed):
        if end_s[last] - start_s[first] >= EPISODE_S:
            episodes.append(Episode(_rounded(start_s[first]), _rounded(end_s[last])))
            within[first : last + 1] = True
    analysed_s, af_s = float(length[analysed].sum()), float(length[af & within].sum())
    return AfBurden(
        round(af_s / analysed_s, 6) if analysed_s else None,
        _rounded(af_s),
        _rounded(analysed_s),
        _rounded(length[af & ~within].sum()),
        max((_rounded(e.end_s - e.start_s) for e in episodes), default=0.0),
        tuple(episodes),
    )


def _runs(af: np.ndarray, analysed: np.ndarray) -> list[tuple[int, int]]:
    """First and last segment of each run of AF segments."""
    bridge = np.zeros(len(af), dtype=bool)
    bridge[1:-1] = ~analysed[1:-1] & af[:-2] & af[2:]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (af | bridge).view(np.int8), [0]))))
    return [(int(first), int(stop) - 1) for first, stop in edges.reshape(-1, 2)]


def _rounded(seconds: float) -> float:
    return round(float(seconds), 3)
