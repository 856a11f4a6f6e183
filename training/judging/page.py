"""The judgement of a generated set as sections of a page: tables and plots of its figures."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from training.judging.evaluation_page import GENERATED, REAL, figure, page, svg, table
from training.judging.physiology import ALL, N_QUANTILES

SHARES = ("precision", "recall", "density", "coverage")
NAMES = {
    "heart_rate": "heart rate, beats/min",
    "rr_irregularity": "RR irregularity",
    "p_wave_uv": "P wave, µV rms",
    "pr_ms": "PR, ms",
    "qrs_ms": "QRS, ms",
    "qt_ms": "QT, ms",
    "qtc_ms": "QTc (Fridericia), ms",
    "sokolow_mv": "Sokolow-Lyon, mV",
    "cornell_mv": "Cornell, mV",
}
GREY = "#7a8b99"


def write_page(path: Path, found: dict[str, Any]) -> None:
    """The page of `training.judge`; `found` is judgement.json's content."""
    sets = html.escape(", ".join(found["sets"]))
    heading = (
        f"<h1>{sets}: generated ECGs beside real ones</h1>"
        '<p class="note">Research use only. Square brackets: 95% intervals over patients.</p>'
    )
    path.write_text(page(f"{sets}, judged", [heading, *sections(found)]))


def sections(found: dict[str, Any]) -> list[str]:
    return [
        _sizes(found),
        _distances(found["distances"]),
        _physiology(found["physiology"]),
        _diversity(found["diversity"]),
        _blind(found["blind_test"], found["held_out"]),
        _copies(found["copies"]),
        _membership(found["membership"]),
    ]


def _sizes(found: dict[str, Any]) -> str:
    folds = ", ".join(map(str, found["held_out"]))
    return (
        f"<h2>Beside real ECGs</h2><p>{found['n_made']} generated ECGs, each with the labels of a "
        f"real one, and {found['n_real']} real ones. Those with labels of fold {folds} are held "
        "out: no network that judges them saw these labels. Largest departure from the limb-lead "
        f"laws: {found['limb_lead_error_mv']:.1e} mV.</p>"
    )


def _distances(found: list[dict[str, Any]]) -> str:
    fig, axes = plt.subplots(1, len(found), figsize=(3.3 * len(found), 2.8), squeeze=False)
    names = [row["what"] for row in found[0]["rows"]]
    for axis, of in zip(axes[0], found, strict=True):
        for y, row in enumerate(of["rows"]):
            colour = GENERATED if row["what"].startswith("generated") else REAL
            low, high = row["frechet"]["interval"]
            axis.plot([low, high], [-y, -y], color=colour, lw=1.5)
            axis.plot(row["frechet"]["value"], -y, "o", color=colour)
        axis.axvline(0, color=GREY, lw=0.8)
        axis.set(title=of["name"], yticks=[-y for y in range(len(names))])
        axis.set_yticklabels(names if axis is axes[0][0] else [])
        axis.set_xlabel("Fréchet distance")
    parts = [
        "<h2>How far from real</h2><p>Distances to fold 10, of as many ECGs each, and between two "
        "halves of the training patients. Features are standardised and projected on the axes "
        "along which training ECGs differ most, whose total variance is 1. Fréchet: what the "
        "distance would be of infinitely many ECGs; 0 is equal, and chance can make it "
        "negative. Precision and density: generated ECGs among real ones; recall and coverage: "
        "real ones among generated.</p>",
        svg(fig),
    ]
    for of in found:
        rows = [
            [html.escape(row["what"]), figure(row["frechet"]), f"{row['frechet']['of_n']:.3f}"]
            + [figure(row[name]) for name in SHARES]
            for row in of["rows"]
        ]
        caption = f"{of['name']}: {of['about']}; {of['dimensions']} dimensions, {of['n']} ECGs each"
        parts.append(table(caption, ["ECGs", "Fréchet", f"of {of['n']}", *SHARES], rows))
    return "".join(parts)


def _physiology(found: dict[str, Any]) -> str:
    signs = [
        [
            f"{s['code']} against {s['against']}: {'more' if s['sign'] > 0 else 'less'} "
            f"{NAMES[s['measure']]}",
            str(s["real"]["n"]), figure(s["real"]), str(s["generated"]["n"]),
            figure(s["generated"]), "yes" if s["shown"] else "short of it",
        ]
        for s in found["signs"]
    ]  # fmt: skip
    parts = [
        "<h2>Physiology</h2><p>Measured of the median beat of all leads. What a statement is "
        "known by: the AUROC with which it tells it from another, in real and in generated ECGs "
        "with the same labels; as real where the interval is above chance and reaches the real "
        "figure.</p>",
        table(
            "What statements are known by",
            ["sign", "n real", "real", "n generated", "generated", "as real"],
            signs,
        ),
        _sign_plots(found),
    ]
    missing = [
        [NAMES[name], f"{share['real']:.1%}", f"{share['generated']:.1%}"]
        for name, share in found["missing"].items()
        if max(share.values()) > 0
    ]
    if missing:
        parts.append(table("Could not be measured", ["measure", "real", "generated"], missing))
    parts.append(_band_plots(found["labels"][ALL]))
    for code, measures in found["labels"].items():
        rows = [
            [NAMES.get(name, _named(name)), str(m["real"]["n"]), _middle(m["real"]),
             _middle(m["generated"]), figure(m["effect"]), f"{m['ks']:.2f}", _p(m)]
            for name, m in measures.items()
        ]  # fmt: skip
        head = ["measure", "n", "real", "generated", "Cliff's delta", "KS", "adjusted p"]
        caption = f"{code}: median (quartiles); delta above 0: generated ECGs have more"
        body = table(caption, head, rows)
        opened = " open" if code in ("AFIB", "SR") else ""
        parts.append(f"<details{opened}><summary>{code}</summary>{body}</details>")
    return "".join(parts)


def _p(m: dict[str, Any]) -> str:
    return f"{m['p_adjusted']:.1g}"


def _named(name: str) -> str:
    kind, *rest = name.split("_")
    if kind == "power":
        return f"power {rest[0]}-{rest[1]} Hz, dB"
    return f"{kind} in {rest[0]}, mV"


def _middle(m: dict[str, Any]) -> str:
    low, high = m["quartiles"]
    return f"{m['median']:.3g} ({low:.3g}, {high:.3g})"


def _sign_plots(found: dict[str, Any]) -> str:
    """Distribution functions of each sign: the statement and what it is told from."""
    if not found["signs"]:
        return ""
    n_rows = -(-len(found["signs"]) // 4)
    fig, axes = plt.subplots(n_rows, 4, figsize=(13, 2.7 * n_rows), squeeze=False)
    for axis in axes.flat[len(found["signs"]) :]:
        axis.axis("off")
    for axis, s in zip(axes.flat, found["signs"], strict=False):
        for code, style in ((s["code"], "-"), (s["against"], ":")):
            for kind, colour in (("real", REAL), ("generated", GENERATED)):
                m = found["labels"].get(code, {}).get(s["measure"])
                if m is not None:
                    _ecdf(axis, m[kind]["quantiles"], colour, f"{code}, {kind}", style)
        axis.set(title=f"{s['code']} / {s['against']}", xlabel=NAMES[s["measure"]])
        axis.legend(fontsize=6, frameon=False)
    return svg(fig)


def _ecdf(axis: Any, quantiles: list[float], colour: str, name: str, style: str = "-") -> None:
    """Without the outermost fortieths, which stretch the axis."""
    share = np.linspace(0, 1, N_QUANTILES)
    axis.plot(quantiles[1:-1], share[1:-1], style, color=colour, lw=1.3, label=name)


def _band_plots(measures: dict[str, Any]) -> str:
    """The powers by band of all ECGs, as violins: real left, generated right."""
    bands = [name for name in measures if name.startswith("power")]
    fig, axis = plt.subplots(figsize=(9, 3.2))
    for x, name in enumerate(bands):
        for kind, colour, side in (("real", REAL, "low"), ("generated", GENERATED, "high")):
            values = np.array(measures[name][kind]["quantiles"][1:-1])
            if np.ptp(values) == 0:
                continue
            violin = axis.violinplot(values, [x], widths=0.8, side=side, showextrema=False)
            violin["bodies"][0].set(facecolor=colour, alpha=0.6)
            axis.plot(x, measures[name][kind]["median"], "_", color=colour, ms=14)
    axis.set_xticks(range(len(bands)), [_named(name).removesuffix(", dB") for name in bands])
    axis.set(ylabel="dB of 1 mV²", title="Power by band: real left, generated right")
    return svg(fig)


def _diversity(found: list[dict[str, Any]]) -> str:
    spaces = [k for k in (found[0] if found else {}) if k not in ("code", "n_real", "n_made")]
    fig, axis = plt.subplots(figsize=(12, 3.2))
    for i, (name, marker) in enumerate(zip(spaces, "osD^", strict=False)):
        x = np.arange(len(found)) + 0.18 * (i - (len(spaces) - 1) / 2)
        values = np.array([row[name]["value"] for row in found])
        low, high = np.array([row[name]["interval"] for row in found]).reshape(-1, 2).T
        axis.errorbar(
            x, values, (values - low, high - values), fmt=marker, ms=3, lw=0.8, label=name
        )
    axis.axhline(1, color=REAL, lw=1)
    axis.set_xticks(range(len(found)), [row["code"] for row in found], rotation=60, ha="right")
    axis.set(title="Mean distance between two ECGs of a label, generated to real")
    axis.legend(fontsize=7, ncols=4, frameon=False)
    rows = [
        [row["code"], str(row["n_real"])]
        + [
            f"{figure(row[k])}; {row[k]['vendi']['generated']:.0f} to {row[k]['vendi']['real']:.0f}"
            for k in spaces
        ]
        for row in found
    ]
    caption = (
        "Of labels with enough real ECGs: mean distance, generated to real; Vendi scores, the "
        "number of different ECGs that the set is worth, generated to real"
    )
    return (
        "<h2>Diversity within a label</h2>" + svg(fig)
        + f"<details><summary>Each label</summary>{table(caption, ['label', 'n', *spaces], rows)}"
        "</details>"
    )  # fmt: skip


def _blind(found: dict[str, Any], held_out: list[int]) -> str:
    folds = ", ".join(map(str, held_out))
    rows = [
        [what, figure(found[kind]), " and ".join(map(str, found[kind]["n"]))]
        for what, kind in (
            ("generated or real", "generated"),
            ("real or real, two halves of patients", "real"),
        )
    ]
    caption = (
        f"AUROC of a network that learned for {found['steps']} steps to tell them apart, read on "
        f"real ECGs of fold 10 and on those generated with labels of fold {folds}"
    )
    return (
        "<h2>A blind test</h2>"
        + table(caption, ["told apart", "AUROC", "ECGs"], rows)
        + '<p class="note">0.5 would be perfect. 1: generated ECGs give themselves away to '
        "a network, by whatever it may be; a spectrum suffices.</p>"
    )


def _copies(found: dict[str, Any]) -> str:
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.2))
    colours = {"real": REAL, "held-out labels": GENERATED, "training labels": "#c77800"}
    names = {"whole": "whole ECG, at any shift", "beat": "median beat"}
    rows = []
    for axis, (kind, of) in zip(axes, found.items(), strict=True):
        for name, near in of["of"].items():
            title = "real, folds 9 and 10" if name == "real" else f"generated, {name}"
            _ecdf(axis, near["quantiles"], colours[name], title)
            share = figure({"value": near["above"], "interval": near["interval"]})
            rows.append([names[kind], title, str(near["n"]), share])
        axis.axvline(of["real_q99"], color=GREY, ls="--", lw=1)
        axis.set(xlabel="correlation with the nearest training ECG", title=names[kind])
        axis.legend(fontsize=7, frameon=False)
    caption = (
        "Share that is nearer to a training ECG than 99% of real ECGs that were not trained on"
    )
    return (
        "<h2>Copies of training ECGs</h2>"
        + svg(fig)
        + table(caption, ["compared", "ECGs", "n", "share"], rows)
    )


def _membership(found: dict[str, Any]) -> str:
    rows = [
        [html.escape(a["on"]), html.escape(a["name"]), figure(a["auroc"]), figure(a["tpr"]),
         "yes" if a["holds"] else "<b>no</b>"]
        for a in found["attacks"]
    ]  # fmt: skip
    caption = (
        f"{found['n_members']} training ECGs among as many of folds 9 and 10 with like labels: "
        "told apart by an attack"
    )
    head = [
        "on", "attack", "AUROC", f"TPR at {found['fpr']:.0%} FPR",
        f"upper bound within {found['limit']:.2f}",
    ]  # fmt: skip
    return "<h2>Membership inference</h2>" + table(caption, head, rows)
