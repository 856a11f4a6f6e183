"""The report on the quality gate as a page: plots and tables of figures.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from training.quality.not_ecg import LAYOUTS
from training.sources import cinc2011, cinc2017, ptbxl

INK, ACCENT = "#1b1f24", "#b3261e"
NSTDB = "MIT-BIH Noise Stress Test Database, Moody, Muldrow and Mark 1984, PhysioNet, ODC-BY 1.0"


def plot_roc(path: Path, *parts: tuple[np.ndarray, np.ndarray]) -> None:
    """Sensitivity to bad records against the share of good ones refused; parts: good, score."""
    fig, axis = plt.subplots(figsize=(4.6, 4.2))
    names = ("CinC 2011, held-out half", "CinC 2017 noisy class, fold 10")
    for (good, score), name, colour in zip(parts, names, (INK, ACCENT), strict=True):
        at = np.concatenate([[-np.inf], np.unique(score), [np.inf]])
        found = [(score[~good] < t).mean() for t in at]
        lost = [(score[good] < t).mean() for t in at]
        axis.plot(lost, found, color=colour, label=name, drawstyle="steps-post")
    axis.set(xlabel="share of good records refused", ylabel="share of bad records refused")
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axis.legend(loc="lower right", fontsize=8, frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def plot_coverage(path: Path, curve: list[dict[str, Any]]) -> None:
    """AUROC and accuracy of the atrial substrate against the share of copies kept."""
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.6))
    share = [100 * point["coverage"] for point in curve]
    for axis, name in zip(axes, ("AUROC", "accuracy"), strict=True):
        low, high = np.array([point[name]["interval"] for point in curve]).T
        axis.fill_between(share, low, high, color=ACCENT, alpha=0.15, lw=0)
        axis.plot(share, [point[name]["value"] for point in curve], color=ACCENT)
        axis.set(xlabel="kept, % of noisy copies", title=f"atrial substrate, {name}")
        axis.invert_xaxis()
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _figure(f: dict[str, Any]) -> str:
    low, high = f["interval"]
    return f"{f['value']:.3f} [{low:.3f}, {high:.3f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _statuses(name: str, c: dict[str, Any]) -> list[str]:
    reasons = ", ".join(f"{code} {n}" for code, n in c["reasons"].items()) or "-"
    counts = [str(c.get(status, 0)) for status in ("acceptable", "poor", "unusable")]
    return [name, str(c["n"]), *counts, f"{c['answered']:.1%}", reasons]


def page(found: dict[str, Any]) -> str:
    """README.md"""
    experts, held = found["cinc2011"], found["cinc2017"]
    statuses = [
        _statuses("CinC 2011, held out, acceptable", experts["acceptable"]),
        _statuses("CinC 2011, held out, unacceptable", experts["unacceptable"]),
        *(_statuses(f"CinC 2017 fold 10, class {c}", held[c]) for c in "NAO~"),
        *(_statuses(f"PTB-XL fold 10, {name}", c) for name, c in found["ptb-xl"].items()),
    ]
    kinds = [
        [kind.replace("_", " "), str(c["abstained"]), *(f"{c[layout]:.0%}" for layout in LAYOUTS)]
        for kind, c in found["not_ecg"].items()
    ]
    noisy = [
        [f"{name}, {how}", _figure(c["all"]), _figure(c["kept"]), _figure(c["gain"]),
         f"{c['answered by the gate']:.1%}"]
        for how, part in found["coverage"].items()
        for name, c in {"all together": part["pooled"], **part["by noise"]}.items()
    ]  # fmt: skip
    swaps = [[name, f"{share:.1%}"] for name, share in found["swaps"].items()]
    best = experts["best accuracy of the challenge"]
    return f"""# The quality gate, measured

Made by `python -m training.gate report` on {found["made"]}, with {found["model"]}. Records that the
gate was not tuned on; square brackets are bootstrap 95% intervals. All numbers: `figures.json`.
Research use only.

## Acceptable or not

| | figure |
| --- | --- |
| CinC 2011, held-out half: AUROC of the score | {_figure(experts["AUROC"])} |
| accuracy of the score at its threshold | {_figure(experts["accuracy of the score"])} |
| accuracy of the status: acceptable or not | {_figure(experts["accuracy of the status"])} |
| the challenge's best accuracy, on its hidden set B | {best} |
| CinC 2017 fold 10, noisy class against the others: AUROC of the score | {_figure(held["AUROC"])} |

![ROC](roc.png)

{_table(["records", "n", "acceptable", "poor", "unusable", "answered", "reasons"], statuses)}

## Not an ECG

Of 100 drawn signals a kind, how many abstain, and the share in each layout (limb leads always obey
their laws). The kinds are simulated (`training/quality/not_ecg.py`), with other seeds than for
fitting but from the same ranges.

{_table(["kind", "abstain", *LAYOUTS], kinds)}

## Accuracy against coverage

PTB-XL fold 10 with noise of NSTDB added at 0 and 6 dB; the atrial substrate's AUROC over all
copies, over the 90% with the highest score, and the difference on the same resamples of patients.
The signal-to-noise ratio is measured in two ways: as for NSTDB's own records, from the height of
the QRS complexes, and by mean power, under which the same noise is several dB weaker. The curve is
of the first.

{_table(["noise", "all", "90% kept", "difference", "answered by the gate"], noisy)}

![Coverage](coverage.png)

## Limb electrodes exchanged

Share of PTB-XL fold 10 of which the gate says so.

{_table(["electrodes", "said"], swaps)}

## Data

- {cinc2011.CITATION}; {cinc2011.LICENCE}. Split into halves by a hash of the record's name.
- {cinc2017.CITATION}; {cinc2017.LICENCE}. Split 80/10/10 by a hash of the name.
- {ptbxl.CITATION}; {ptbxl.LICENCE}.
- {NSTDB}.
"""
