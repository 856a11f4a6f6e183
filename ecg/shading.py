"""What an explanation looks like on a print: shades, where they lie, and the words beside them.

One hue, in steps of lightness, so that a reader who tells no colours apart, and a grey copy, show
the same; blue, since the paper's own squares are red.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg.explain import NAMED, Explanation
from ecg.leads import LIMB_LEADS

SHADES = ("#dbe6f4", "#b4cdea", "#86afdc", "#5a8fcb")  # light to dark
LEAST = (0.2, 0.4, 0.6, 0.8)  # of the largest change, from where on each shade is used
WORDS_FOR = 3  # leads, and windows


@dataclass(frozen=True)
class Shade:
    """What a print is shaded by, or why it is not: `explanation` is None where the model
    abstained."""

    explanation: Explanation | None

    def stretches(self, lead: str, start_s: float, end_s: float) -> list[tuple[float, float, str]]:
        """Where a lead is shaded between two times of the record: from (s), to (s), colour."""
        e = self.explanation
        if e is None or lead not in e.leads:
            return []
        level = np.searchsorted(LEAST, e.speaking[e.leads.index(lead)], side="right")
        edges = np.minimum(e.start_s + np.arange(len(level) + 1) * e.window_s, e.end_s)
        edges = np.clip(edges, start_s, end_s)
        runs = np.flatnonzero(np.diff(level, prepend=-1, append=-1))
        return [
            (float(edges[a]), float(edges[b]), SHADES[level[a] - 1])
            for a, b in zip(runs[:-1], runs[1:], strict=True)
            if level[a] and edges[b] > edges[a]
        ]

    def legend(self, shown: Sequence[str], with_map: bool) -> list[str]:
        """Lines that say what the shades mean; `shown`: the leads on the print."""
        e = self.explanation
        if e is None:
            return ["not shaded: the model gave no answer here"]
        way = "raised" if e.status == "abnormal" else "lowered"
        notes = ["map: each lead over the long strip's time"] if with_map else []
        derived = [name for name in LIMB_LEADS[2:] if name in shown]
        if derived:
            notes.append(f"never shaded: {', '.join(derived)} (the model reads I and II instead)")
        if unread := [name for name in shown if name not in (*e.leads, *derived)]:
            notes.append(f"left out here: {', '.join(unread)}")
        return [
            f"shaded: what {way} the atrial probability, darker = more   "
            f"{e.start_s:g} to {e.end_s:g} s in windows of {e.window_s:g} s",
            f"{_check(e)}.",
            *(["   ".join(notes)] if notes else []),
        ]

    def words(self) -> str:
        """The same for somebody who reads no legends, in two or three sentences."""
        e = self.explanation
        if e is None:
            return "The model gave no answer here, so there is nothing to explain."
        share = np.maximum(e.speaking, 0).sum(axis=1)
        if not share.any():
            return f"No window of {e.window_s:g} s alone moved the atrial probability."
        share = share / share.sum()
        leads = [f"{e.leads[i]} ({share[i]:.0%})" for i in np.argsort(-share)[:WORDS_FOR]]
        at = np.argsort(-e.speaking, axis=None, kind="stable")[:WORDS_FOR]
        rows, windows = np.unravel_index(at, e.speaking.shape)
        begin = e.start_s + windows * e.window_s
        where = [
            f"{e.leads[row]} at {b:.1f} to {min(b + e.window_s, e.end_s):.1f} s"
            for row, b in zip(rows, begin, strict=True)
        ]
        way = "raised" if e.status == "abnormal" else "lowered"
        return (
            f"What {way} the atrial probability of {e.start_s:g} to {e.end_s:g} s lies in "
            f"{_listed(leads)}, most of all in {_listed(where)}. {_check(e)}. {_hangs(e)}"
        )


def _check(e: Explanation) -> str:
    said = [_two(p) for p in (e.probability, e.without_named, e.without_random)]
    share = f"{NAMED:.0%} of the windows"
    return (
        f"Atrial probability {said[0]}; {said[1]} once the {share} that matter most are flattened "
        f"to straight lines; {said[2]} with {share} at random"
    )


def _hangs(e: Explanation) -> str:
    without = "abnormal" if e.without_named >= e.threshold else "normal"
    if without == e.status:
        return f"Without them the answer would stay {e.status}: it does not hang on them alone."
    return f"Without them the answer would turn {without}."


def _two(p: float) -> str:
    """Two decimals, and never a certainty."""
    if p >= 0.995:
        return ">0.99"
    return "<0.01" if p < 0.005 else f"{p:.2f}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
