"""Whether a candidate may replace the served model: figures of both, and the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_COST = 2.0
MARGIN = {"AUROC": 0.01, "ECE": 0.02, "TSTR": 0.02}  # of each kind, in its own units


@dataclass(frozen=True)
class Figure:
    """gain: how much better the candidate is, whichever way is better, with the paired 95%
    interval over patients where one was drawn. decides: the rule reads it. Nothing is served where
    `served` and `gain` are None; then `interval` is the candidate's own."""

    name: str
    kind: str  # AUROC, ECE or TSTR
    where: str
    n: int
    candidate: float
    served: float | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None
    decides: bool = True


@dataclass(frozen=True)
class Cost:
    """Milliseconds, the medians of runs that took turns, and their ratio."""

    unit: str
    candidate_ms: float
    served_ms: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Accepted where there are no reasons against it."""

    figures: tuple[Figure, ...]
    cost: Cost
    reasons: tuple[str, ...]


def judge(figures: Sequence[Figure], cost: Cost, found: Sequence[str] = ()) -> Verdict:
    """By the rule of `training.promote`; found: reasons that are no figures."""
    deciding = [f for f in figures if f.decides]
    if cost.ratio is None:
        reasons = [against for f in deciding if (against := _by_chance(f))]
    else:
        reasons = [against for f in deciding if (against := _worse(f))]
        reasons += _no_gain(deciding)
        if cost.ratio > MAX_COST:
            reasons.append(f"it costs {cost.ratio:.2f} times as much, over {MAX_COST:g}")
    return Verdict(tuple(figures), cost, (*found, *reasons))


def _by_chance(f: Figure) -> str | None:
    if f.kind != "AUROC" or not f.name.startswith("atrial") or not f.interval:
        return None
    if f.interval[0] > 0.5:
        return None
    return f"{f.name} ({f.where}) of {f.candidate:.3f} may be chance"


def _worse(f: Figure) -> str | None:
    assert f.gain is not None
    highest = f.interval[1] if f.interval else f.gain
    if highest >= -MARGIN[f.kind]:
        return None
    shown = f"at best {highest:+.4f}" if f.interval else f"{f.gain:+.4f}"
    return f"{f.name} ({f.where}) is worse, {shown}, by more than {MARGIN[f.kind]:g}"


def _no_gain(figures: Sequence[Figure]) -> list[str]:
    gains = [f.gain for f in figures if f.kind == "AUROC" and f.gain is not None]
    if not gains:
        return ["there is no figure to compare"]
    mean = sum(gains) / len(gains)
    if mean >= 0 or any(f.kind == "AUROC" and f.interval and f.interval[0] > 0 for f in figures):
        return []
    return [f"the AUROCs are lower by {-mean:.4f} on average, and none is surely higher"]


def table(verdict: Verdict) -> str:
    """Markdown; a gain is above 0 where the candidate is better."""
    rows = ["| figure on fold 9 | n | served | candidate | gain | 95% interval |", "|---" * 6 + "|"]
    for f in verdict.figures:
        served = "" if f.served is None else f"{f.served:.4f}"
        gain = "" if f.gain is None else f"{f.gain:+.4f}"
        interval = f"{f.interval[0]:+.4f} to {f.interval[1]:+.4f}" if f.interval else ""
        name = f"{f.name}, {f.where}" + ("" if f.decides else " (does not decide)")
        rows.append(
            f"| {name} | {f.n or ''} | {served} | {f.candidate:.4f} | {gain} | {interval} |"
        )
    c = verdict.cost
    served = "" if c.served_ms is None else f"{c.served_ms:.3f}"
    ratio = "" if c.ratio is None else f"{c.ratio:.2f} times"
    rows.append(f"| {c.unit} | | {served} | {c.candidate_ms:.3f} | {ratio} | |")
    return "\n".join(rows)
