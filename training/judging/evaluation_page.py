"""The evaluation of a generator as a page: plots, tables, and real beside generated ECGs."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image

from ecg.draw import print_png
from ecg.generated import asked_for
from ecg.leads import LEADS
from ecg.record import Meta, Record

REAL, GENERATED = "#1b1f24", "#b3261e"
SCALE_COLOURS = ("#7a8b99", "#0b4f6c", "#c77800", "#5b2a86")
STYLE = """
body { font: 16px/1.5 system-ui, "Liberation Sans", Arial, sans-serif; color: #1b1f24;
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: right; padding: .3rem 1.1rem .3rem 0; border-bottom: 1px solid #d5dbe0; }
th:first-child, td:first-child { text-align: left; }
svg, img { max-width: 100%; height: auto; } .note { color: #4c5863; font-size: .9rem; }
"""


def write_report(
    folder: Path,
    found: dict[str, Any],
    examples: Sequence[dict[str, Any]],
    judged: Sequence[str] = (),
) -> None:
    """index.html and grid.png in `folder`; `found` is evaluation.json's content, `judged` are the
    sections of `training.judging.page`.

    examples: `code`, `kind` (real or generated), `sig` mV [12, time], `labels`; real, generated in
    turn.
    """
    write_grid(folder / "grid.png", examples)
    parts = [_heading(found), _tstr(found["tstr"])]
    if "settings" in found:
        parts.append(_settings(found))
    parts += [_fidelity(found), _heart_rate(found["heart_rate"]), _nearest(found["nearest"])]
    if "autoencoder" in found:
        parts.append(_autoencoder(found["autoencoder"]))
    parts += [*judged, _grid(examples)]
    title = f"{found['generator']['name']} {found['generator']['version']}: generated ECGs, judged"
    (folder / "index.html").write_text(page(title, parts))


def page(title: str, parts: Sequence[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def write_grid(path: Path, examples: Sequence[dict[str, Any]]) -> None:
    """Prints in two columns, real and generated, a row a statement."""
    prints = []
    for e in examples:
        synthetic = e["kind"] == "generated"
        record = Record(e["sig"], 100.0, LEADS, Meta(synthetic=synthetic))
        what = f"{e['code']}: {'generated' if synthetic else 'real, PTB-XL fold 10'}"
        prints.append(Image.open(io.BytesIO(print_png(record, what, px_per_mm=4.0))).convert("RGB"))
    width, height = prints[0].size
    grid = Image.new("RGB", (2 * width, height * (len(prints) // 2)), "white")
    for i, image in enumerate(prints):
        grid.paste(image, ((i % 2) * width, (i // 2) * height))
    grid.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def _heading(found: dict[str, Any]) -> str:
    g, d = found["generator"], found["diffusion"]
    return (
        f"<h1>{g['name']} {g['version']}: what its ECGs are worth</h1>"
        f"<p>{html.escape(found['data'])}. Default sampler: {d['num_steps']} steps of "
        f"DPM-Solver++(2M), guidance {d['guidance_scale']:g} at noise levels "
        f"{d['guidance_interval'][0]:g} to {d['guidance_interval'][1]:g}: "
        f"{found['network_calls']} network calls an ECG. Made {found['made']} on "
        f"{html.escape(found['machine'])}. Square brackets: bootstrap 95% intervals over patients."
        '</p><p class="note">Research use only. The atrial substrate is an open proxy: any of AFIB,'
        " AFLT, LAO/LAE, RAO/RAE. Real ECGs: PTB-XL, CC BY 4.0, Wagner et al. 2020, "
        "doi 10.1038/s41597-020-0495-6.</p>"
    )


def figure(f: dict[str, Any] | None) -> str:
    if f is None:
        return "–"
    low, high = f["interval"]
    return f"{f['value']:.3f} [{low:.3f}, {high:.3f}]"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{html.escape(x)}</th>" for x in head)
    body = "".join("<tr>" + "".join(f"<td>{x}</td>" for x in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><tr>{cells}</tr>{body}</table>"


def _tstr(tstr: dict[str, Any]) -> str:
    rows, names = [], [name for name in ("macro", "atrial") if name in tstr]
    for kind in ("real", "generated", "both"):
        row = [kind]
        for name in names:
            seeds = ", ".join(f"{x:.3f}" for x in tstr[name][kind]["seeds"])
            ratio = tstr[name].get(f"{kind}_to_real")
            row += [figure(tstr[name][kind]), seeds, figure(ratio) if ratio else "1"]
        rows.append(row)
    caption = (
        f"AUROC on {tstr['n_test']} real ECGs of fold 10 of the same classifier trained on "
        f"{tstr['n_real']} real ECGs, on as many generated ones, and on both; "
        f"{tstr['classifier_steps']} steps each, mean of {len(tstr['seeds'])} seeds; macro over "
        f"{tstr['n_statements']} statements"
    )
    head = ["trained on", *(cell for name in names for cell in (name, "seeds", "to real"))]
    return "<h2>Train on generated, test on real</h2>" + table(caption, head, rows)


def _settings(found: dict[str, Any]) -> str:
    real, rows = found["settings"][0], found["settings"][1:]
    scales = sorted({r["guidance_scale"] for r in rows})
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for axis, (key, title) in zip(
        axes,
        (("macro", "macro AUROC, fold 9"), ("atrial", "atrial AUROC, fold 9"), ("fidelity", "")),
        strict=True,
    ):
        for scale, colour in zip(scales, SCALE_COLOURS, strict=False):
            chosen = [r for r in rows if r["guidance_scale"] == scale]
            calls = [r["network_calls"] for r in chosen]
            values = [
                r["fidelity"]["value"] if key == "fidelity" else r["fold_9"][key] for r in chosen
            ]
            axis.plot(calls, values, "o-", color=colour, label=f"guidance {scale:g}")
        if key != "fidelity":
            axis.axhline(real["fold_9"][key], color=REAL, ls="--", lw=1, label="real")
        axis.set(title=title or "PredNet's AUROC of labels asked for", xlabel="network calls")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes[0].legend(fontsize=8)
    head = ["steps", "guidance", "calls", "macro, fold 9", "atrial, fold 9", "macro, fold 10",
            "atrial, fold 10", "label fidelity"]  # fmt: skip
    cells = [["real", "", "", *_folds(real), ""]]
    cells += [
        [
            str(r["num_steps"]), f"{r['guidance_scale']:g}", str(r["network_calls"]), *_folds(r),
            f"{r['fidelity']['value']:.3f}",
        ]
        for r in rows
    ]  # fmt: skip
    caption = (
        "Classifiers of one seed, trained on 600 ECGs each, a third as long: to compare settings"
    )
    return "<h2>Quality against network calls</h2>" + svg(fig) + table(caption, head, cells)


def _folds(row: dict[str, Any]) -> list[str]:
    return [
        f"{row[fold][name]:.3f}" for fold in ("fold_9", "fold_10") for name in ("macro", "atrial")
    ]


def _fidelity(found: dict[str, Any]) -> str:
    made, real = (found["fidelity"][k] for k in ("generated", "real"))
    codes = sorted(made["statements"], key=lambda c: made["statements"][c]["value"])
    fig, axis = plt.subplots(figsize=(12, 3.6))
    for of, colour, name in ((real, REAL, "real"), (made, GENERATED, "generated")):
        values = [of["statements"][c]["value"] for c in codes]
        axis.plot(range(len(codes)), values, "o", color=colour, label=name)
    axis.set_xticks(range(len(codes)), codes, rotation=60, ha="right", fontsize=8)
    axis.set(title="Served PredNet's AUROC by statement, labels of fold 10", ylim=(0.4, 1.02))
    axis.legend(loc="lower right")
    rows = [[k, figure(found["fidelity"][k].get("macro")),
             figure(found["fidelity"][k]["atrial"])]
            for k in ("generated", "real")]  # fmt: skip
    caption = "The served PredNet against the labels asked for, and against real ECGs' labels"
    afib = found.get("afib")
    asked_afib = (
        ""
        if afib is None
        else (
            "AFIB asked for against SR asked for, nothing else given: PredNet's AFIB AUROC "
            f"{figure(afib)}, {afib['n']} ECGs. "
        )
    )
    return (
        "<h2>Are they what was asked for?</h2>"
        + table(caption, ["ECGs", "macro AUROC", "atrial AUROC"], rows)
        + f"<p>{asked_afib}Largest departure from the limb-lead laws: "
        f"{found['limb_lead_error_mv']:.1e} mV.</p>" + svg(fig)
    )


def _heart_rate(rate: dict[str, Any]) -> str:
    fig, axis = plt.subplots(figsize=(4.6, 4.2))
    axis.plot([45, 125], [45, 125], color=REAL, lw=1)
    axis.plot(rate["asked"], rate["measured"], ".", color=GENERATED)
    axis.set(xlabel="asked for, beats a minute", ylabel="measured")
    return (
        f"<h2>Heart rate</h2><p>{len(rate['asked'])} ECGs, atrial substrate normal: median error "
        f"{figure({**rate, 'value': rate['median_error']})} beats a minute, "
        f"{rate['within_5']:.0%} within 5.</p>" + svg(fig)
    )


def _nearest(near: dict[str, Any]) -> str:
    fig, axis = plt.subplots(figsize=(6.5, 3.2))
    for kind, colour in (("real", REAL), ("generated", GENERATED)):
        axis.hist(near[kind], bins=40, range=(0, 1), histtype="step", color=colour, label=kind)
    axis.axvline(near["real_q99"], color=REAL, ls="--", lw=1)
    axis.set(xlabel="correlation with the nearest training ECG", ylabel="ECGs")
    axis.legend(loc="upper left")
    return (
        "<h2>Are they copies?</h2><p>The highest correlation with any training ECG, at any shift"
        " that leaves half of both in common, all leads together. "
        f"{near['generated_above_real_q99']:.1%} of generated ECGs are nearer to one than 99% of "
        f"real test ECGs are ({near['real_q99']:.3f}).</p>" + svg(fig)
    )


def _autoencoder(found: dict[str, Any]) -> str:
    rows = [
        [kind, figure(of.get("macro")), figure(of["atrial"])] for kind, of in found["auroc"].items()
    ]
    caption = f"Fold {found['fold']}; error of reconstructions {found['rmse_mv']:.4f} mV rms"
    return "<h2>Autoencoder</h2>" + table(caption, ["ECGs", "macro", "atrial"], rows)


def _grid(examples: Sequence[dict[str, Any]]) -> str:
    asked = "".join(
        f"<li>{e['code']}: {html.escape(asked_for(e['labels']))}</li>"
        for e in examples
        if e["kind"] == "generated"
    )
    return (
        "<h2>Real beside generated</h2><p>Left a real ECG of fold 10, right a generated one with "
        f"the same labels; drawn by lot, none left out.</p><ul>{asked}</ul>"
        '<img src="grid.png" alt="Twelve-lead prints: real ECGs left, generated ones right">'
    )


def svg(fig: Any) -> str:
    fig.tight_layout()
    out = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "ecg", "svg.fonttype": "none"}):
        fig.savefig(out, format="svg", metadata={"Date": None})
    plt.close(fig)
    return out.getvalue()[out.getvalue().index("<svg") :]
