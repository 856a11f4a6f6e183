"""What a model's atrial probability rests on: a window of a lead is taken out, and the rest judged.

Occlusion (Zeiler and Fergus 2014): each window of each lead in turn gives way to a straight line
between its ends; what the log odds lose is the window's importance. It is how sensitive the model
is to a stretch of signal, not why a heart beats as it does. Window and way of removal were chosen
on fold 9 by deletion curves (`training/reports/explanations`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

WINDOW_S = 0.2  # a big square of the paper
NAMED = 0.1  # the share of all windows that an explanation is checked with
RANDOM_DRAWS = 9  # as many checks with windows drawn at random
METHOD = "occlusion: a straight line in place of one window of one lead at a time"

# sig mV [lead, time] and gone [copy, lead, time], bool -> mV [copy, lead, time] without it
Remove = Callable[[np.ndarray, np.ndarray], np.ndarray]
Status = Literal["normal", "abnormal"]  # of a segment that was answered


@dataclass(frozen=True, eq=False)
class Explanation:
    """Of one segment of a record.

    leads: names of `importance`'s rows; importance: what the atrial log odds lose without a window,
    [lead, window]: above 0 where it raised the probability. status: of the segment, and what is
    shaded: what raised the probability of an abnormal one, what lowered it in a normal one.
    probability: of the segment whole; threshold: from where on it is abnormal; without_named:
    without the NAMED share of its windows that speak most for `status`; without_random: without as
    many drawn at random, the mean of several.
    """

    segment: int
    start_s: float
    end_s: float
    leads: tuple[str, ...]
    importance: np.ndarray
    status: Status
    probability: float
    threshold: float
    without_named: float
    without_random: float
    window_s: float = WINDOW_S

    @property
    def speaking(self) -> np.ndarray:
        """How much each window speaks for `status`, at most 1 for the one that moved it most."""
        toward = self.importance if self.status == "abnormal" else -self.importance
        return toward / max(float(np.abs(self.importance).max(initial=0.0)), 1e-12)


def window_of(n_valid: int, fs: float, window_s: float = WINDOW_S) -> np.ndarray:
    """To which window each of the `n_valid` samples belongs; the last may be shorter."""
    return np.arange(n_valid) // round(window_s * fs)


def one_at_a_time(lead_mask: np.ndarray, n_windows: int) -> np.ndarray:
    """bool [copy, lead, window]: every window of every known lead, alone."""
    shape = (len(lead_mask), n_windows)
    each = np.eye(len(lead_mask) * n_windows, dtype=bool).reshape(-1, *shape)
    return each[np.repeat(lead_mask > 0, n_windows)]


def straight_line(sig: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Between the samples on both sides of what is gone, or level with the only side there is; zero
    where a whole lead is gone."""
    out = np.repeat(sig[None], len(gone), axis=0)
    for copy, lead in zip(*np.nonzero(gone.any(axis=2)), strict=True):
        out_of = np.flatnonzero(gone[copy, lead])
        kept = np.flatnonzero(~gone[copy, lead])
        out[copy, lead, out_of] = np.interp(out_of, kept, sig[lead, kept]) if len(kept) else 0.0
    return out


def without(
    sig: np.ndarray, gone: np.ndarray, windows: np.ndarray, remove: Remove = straight_line
) -> np.ndarray:
    """Copies of a segment, each without its windows.

    Args:
        sig: mV [lead, n_samples], padding included; gone: bool [copy, lead, window];
        windows: of the samples before the padding, as `window_of` gives them.
    Returns:
        mV [copy, lead, n_samples], like `sig` in everything else.
    """
    out = np.repeat(sig[None], len(gone), axis=0)
    n_valid = len(windows)
    out[:, :, :n_valid] = remove(sig[:, :n_valid], gone[:, :, windows])
    return out


def importance(gone: np.ndarray, whole: float, score: np.ndarray) -> np.ndarray:
    """[lead, window] of copies that lack one window each; 0 where none was taken.

    gone: as `one_at_a_time` gives it; whole, score [copy]: log odds of the segment and its copies.
    """
    lost = np.zeros(gone.shape[1:])
    copy, lead, window = np.nonzero(gone)
    lost[lead, window] = whole - score[copy]
    return lost


def most(speaking: np.ndarray, lead_mask: np.ndarray, share: float = NAMED) -> np.ndarray:
    """bool [lead, window]: the `share` of the known leads' windows with the highest values."""
    known = np.broadcast_to(lead_mask[:, None] > 0, speaking.shape)
    order = np.argsort(-np.where(known, speaking, -np.inf), axis=None, kind="stable")
    named = np.zeros(speaking.size, dtype=bool)
    named[order[: round(share * known.sum())]] = True
    return named.reshape(speaking.shape)


def at_random(
    lead_mask: np.ndarray, n_windows: int, draws: int = RANDOM_DRAWS, share: float = NAMED
) -> np.ndarray:
    """bool [draw, lead, window]: as many windows as `most` names, the same ones each time."""
    rng = np.random.default_rng(0)
    shape = (len(lead_mask), n_windows)
    return np.stack([most(rng.random(shape), lead_mask, share) for _ in range(draws)])


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Of probabilities, which may be 0 or 1: then as of 1e-12 and of 1 less that."""
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.log(p / (1 - p))


def explain(
    score: Callable[[np.ndarray], np.ndarray],
    sig: np.ndarray,
    lead_mask: np.ndarray,
    windows: np.ndarray,
    remove: Remove = straight_line,
) -> np.ndarray:
    """The importance of a segment's windows, [lead, window].

    score: the atrial log odds [copy] of copies mV [copy, lead, n_samples]; the rest as above.
    """
    gone = one_at_a_time(lead_mask, int(windows[-1]) + 1)
    whole = float(score(sig[None])[0])
    return importance(gone, whole, score(without(sig, gone, windows, remove)))
