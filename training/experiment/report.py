"""The answers of the studies as one page with plots: what a reader of the experiment sees."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOREST = "forest"  # has no steps, and no network to serve
TITLES = {
    "networks": "Classifiers",
    "generators": "Generators",
    "augmentation": "How scarce the real ECGs are",
    "rare": "Rare statements",
    "features": "What the generator has learned, for a classifier",
    "calls": "Few network calls",
}


def write_report(out: Path) -> None:
    """README.md and a plot a study, of every study whose answer lies in `out`."""
    answers = {
        name: json.loads(path.read_text())
        for name in TITLES
        if (path := out / f"{name}.json").exists()
    }
    lines = ["# Does it help to train on generated ECGs?", "", *introduction(answers)]
    for name, answer in answers.items():
        lines += ["", f"## {TITLES[name]}", "", where(answer), "", *SECTIONS[name](answer, out)]
    (out / "README.md").write_text("\n".join(lines) + "\n")


def introduction(answers: Mapping[str, Any]) -> Iterator[str]:
    for answer in list(answers.values())[:1]:
        t = answer["config"]["training"]
        seeds = ", ".join(map(str, t["seeds"]))
        yield (
            f"`python -m training.experiment --preset {answer['preset']}`; "
            f"{answer['data']['source']}. Classifiers learn for {t['steps']} steps where nothing "
            f"else is said, from seeds {seeds}; folds 1-8 train, fold 9 chooses each one's "
            "weights, fold 10 reports and has no generated ECG. A figure is the mean AUROC over "
            "seeds; square brackets: 95% of 1,000 resamples of patients; differences are paired, "
            "p is corrected for the arms of its table (Holm)."
        )


def where(answer: Mapping[str, Any]) -> str:
    """Each study may have been made by itself."""
    data = answer["data"]["sha256"][:12]
    return f"{answer['made']}, {answer['machine']}; records `{data}…`."


def networks(answer: Mapping[str, Any], out: Path) -> Iterator[str]:
    yield (
        "All of them on real ECGs, one seed, read on fold 9, beside what serving costs: ms a "
        "segment, alone and in batches of 16 (ONNX Runtime, one thread, medians of turns)."
    )
    yield ""
    yield "| | steps | atrial | macro | parameters | ms alone | ms of 16 |"
    yield "|---|---|---|---|---|---|---|"
    for name, one in answer["screened"]["arms"].items():
        auroc = [f"{one['figures'][k]['value']:.3f}" for k in ("atrial", "macro")]
        cost = answer["cost"].get(name)
        ms = [f"{cost['ms'][n]:.2f}" for n in ("1", "16")] if cost else ["", ""]
        size = f"{cost['n_parameters']:,}" if cost else ""
        steps = "" if name == FOREST else f"{answer['steps'][name]:,}"
        yield f"| {' | '.join([name, steps, *auroc, size, *ms])} |"
    yield ""
    yield "The best of them at every seed, read on fold 10:"
    yield ""
    yield from table(answer["final"])


def one_table(answer: Mapping[str, Any], out: Path) -> Iterator[str]:
    yield from table(answer)


def augmentation(answer: Mapping[str, Any], out: Path) -> Iterator[str]:
    plot_scarcity(shares(answer), out / "scarcity.png")
    yield "![AUROC against the share of the training records](scarcity.png)"
    yield from table_a_share(answer, out)


def table_a_share(answer: Mapping[str, Any], out: Path) -> Iterator[str]:
    for share, found in shares(answer).items():
        yield ""
        yield f"With {float(share):.0%} of the training records:"
        yield ""
        yield from table(found)


def shares(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What was found with each share of the training records."""
    return {k: v for k, v in answer.items() if isinstance(v, dict) and "arms" in v}


def rare(answer: Mapping[str, Any], out: Path) -> Iterator[str]:
    yield from table(answer, only=("mean", "macro", "atrial"))
    arms = answer["arms"]
    yield ""
    yield "Each statement, and how many training and test records have it:"
    yield ""
    yield f"| | train | test | {' | '.join(arms)} |"
    yield "|---|---|---|" + "---|" * len(arms)
    for code, n in answer["n_training"].items():
        figures = [f"{one['figures'][code]['value']:.3f}" for one in arms.values()]
        yield f"| {code} | {n} | {answer['n_test'][code]} | {' | '.join(figures)} |"


def table(found: Mapping[str, Any], only: tuple[str, ...] = ("atrial", "macro")) -> Iterator[str]:
    """A row an arm: each figure, and how far it lies above the reference."""
    yield "| | " + " | ".join(f"{k} | above" for k in only) + " |"
    yield "|---|" + "---|" * (2 * len(only))
    for name, one in found["arms"].items():
        cells = []
        for k in only:
            cells.append(f"{one['figures'][k]['value']:.3f} {interval(one['figures'][k], 3)}")
            cells.append(above(one, k))
        yield f"| {name} | {' | '.join(cells)} |"


def above(one: Mapping[str, Any], figure: str) -> str:
    if figure not in one["p"]:
        return ""
    d = one["above"][figure]
    return f"{d['value']:+.3f} {interval(d, 3)}, p {one['p'][figure]:.2g}"


def interval(figure: Mapping[str, Any], digits: int) -> str:
    low, high = figure["interval"]
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def plot_scarcity(shares: Mapping[str, Any], path: Path) -> None:
    """Each arm's figures against the share of the training records, with its resamples' spread."""
    names = list(dict.fromkeys(name for found in shares.values() for name in found["arms"]))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, kind in zip(axes, ("atrial", "macro"), strict=True):
        for i, name in enumerate(names):
            points = [
                (
                    100 * float(share) * 1.03 ** (i - len(names) / 2),
                    found["arms"][name]["figures"][kind],
                )
                for share, found in shares.items()
                if name in found["arms"]
            ]
            x = [at for at, _ in points]
            y = [f["value"] for _, f in points]
            spread = [[f["value"] - f["interval"][0] for _, f in points],
                      [f["interval"][1] - f["value"] for _, f in points]]  # fmt: skip
            style = {"color": "black", "linewidth": 2} if name == "real" else {"linewidth": 1}
            axis.errorbar(x, y, spread, marker="o", markersize=4, capsize=2, label=name, **style)
        axis.set_xscale("log")
        axis.set_xticks([100 * float(s) for s in shares], [f"{float(s):.0%}" for s in shares])
        axis.minorticks_off()
        axis.set_xlabel("share of the training records")
        axis.set_title(f"{kind} AUROC, fold 10")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


SECTIONS = {
    "networks": networks,
    "generators": one_table,
    "augmentation": augmentation,
    "rare": rare,
    "features": table_a_share,
    "calls": one_table,
}
