"""The report as one HTML file without anything from elsewhere: figures, tables and plots."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ecg.leads import LEADS
from service.rating import plots
from service.rating.answers import DEFECTS
from service.rating.plan import REAL

_STYLE = """
body { max-width: 64rem; margin: 0 auto; padding: 1.5rem; color: #17212b; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; border-bottom: 2px solid #17212b; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { max-width: 48rem; margin: .4rem 0; }
.note { color: #4a5763; font-size: .9rem; }
.who { padding: .6rem .9rem; border: 2px solid #7a4d00; border-radius: 6px; font-weight: 600; }
svg { display: block; max-width: 100%; height: auto; margin: .5rem 0; }
.maps { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #c9d1d8; }
td { font-variant-numeric: tabular-nums; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
_COLOURS = (plots.REAL, plots.GENERATED, "#7a4d00", "#0b4f6c", "#542788")
_QUESTIONS = {
    "source": "real or generated",
    "label": "shows the label",
    "plausibility": "plausibility",
    "better": "which is better",
}


def page(found: dict[str, Any]) -> str:
    """Of `report.figures`."""
    study = found["study"]
    title = f"{study['name']}: report of a rating study"
    sections = _pairs(found) if study["mode"] == "pairs" else _single(found)
    parts = [_head(found), *sections, _agreement(found), _foot(found)]
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>'
        '\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n{''.join(parts)}\n</html>\n"
    )


def _head(found: dict[str, Any]) -> str:
    study, n, plan = found["study"], found["n"], found["plan"]
    sources = ", ".join(one["source"] for one in plan["generators"]) or "none"
    return (
        f"<h1>{escape(study['name'])}</h1>"
        f'<p class="who">Answered by {escape(found["who"])}.</p>'
        f"<p>Study {study['id']}, closed {study['closed'][:16].replace('T', ' ')} UTC: {n['ecgs']} "
        f"ECGs, {plan['real']} of them real; generators: {escape(sources)}; labels "
        f"{escape(', '.join(plan['labels']))}; seed {study['seed']}. {n['answers']} answers stand, "
        f"{n['first']} of them to first showings.</p>"
        '<p class="note">Research use only. Square brackets: 95% intervals, by a bootstrap over '
        "ECGs. Only first showings count; repeats tell how far raters agree with themselves.</p>"
        + _table(
            "Raters",
            ["rater", "", "shown", "answered", "median time"],
            [
                [
                    r["rater"],
                    "simulated" if r["simulated"] else "invited",
                    str(r["shown"]),
                    str(r["answered"]),
                    "" if r["median_s"] is None else f"{r['median_s']:.0f} s",
                ]
                for r in found["raters"]
            ],
        )
    )


def _single(found: dict[str, Any]) -> list[str]:
    return [_detection(found["detection"]), _labels(found), _plausibility(found), _defects(found)]


def _detection(found: dict[str, Any]) -> str:
    named = [("all raters", found["all"])]
    named += [(f"real against {name}", one) for name, one in found["by_generator"].items()]
    named += [(f"rater {name}", one) for name, one in found["by_rater"].items()]
    known = [(name, one) for name, one in named if "accuracy" in one]
    if not known:
        return (
            "<h2>Real or generated?</h2><p>There are not both real and generated ECGs among what "
            "was answered.</p>"
        )
    rows = [
        (name, one["accuracy"]["value"], tuple(one["accuracy"]["interval"])) for name, one in known
    ]
    table = [
        [
            escape(name),
            f"{one['n_real']} + {one['n_generated']}",
            *(_figure(one[k]) for k in ("accuracy", "sensitivity", "specificity", "d_prime")),
            f"{one['auroc']['value']:.2f}",
        ]
        for name, one in known
    ]
    heads = ["", "real + generated", "accuracy", "sensitivity", "specificity", "d′", "AUROC"]
    return (
        "<h2>Real or generated?</h2><p>Accuracy is the mean of sensitivity (of generated ECGs, "
        "those called generated) and specificity (of real ones, those called real): 0.5 is chance, "
        "and what a generator should come near. d′ is 0 at chance. AUROC takes the confidence "
        "in.</p>"
        + plots.intervals(rows, "Accuracy of real against generated, with 95% intervals")
        + _table("Telling generated from real", heads, table)
    )


def _labels(found: dict[str, Any]) -> str:
    rows = [(source, one["counts"]) for source, one in found["label"].items()]
    table = [
        [escape(label), escape(source), str(one["n"]), _figure(one["agreement"]),
         _figure(one["plausibility"]), _figure(one["called_generated"])]
        for label, by_source in found["by_label"].items()
        for source, one in by_source.items()
    ]  # fmt: skip
    heads = ["label", "source", "answers", "shows it", "plausibility", "called generated"]
    return (
        "<h2>Does it show its label?</h2>"
        + plots.stacked(rows, ("no", "unsure", "yes"), "Does the ECG show its label, by source")
        + _table("By label and source", heads, table)
    )


def _plausibility(found: dict[str, Any]) -> str:
    rows = [(source, one["counts"]) for source, one in found["plausibility"].items()]
    means = "; ".join(
        f"{escape(source)} {_figure(one['mean'])}" for source, one in found["plausibility"].items()
    )
    return (
        "<h2>Plausibility</h2>"
        + plots.stacked(rows, ("1", "2", "3", "4", "5"), "Plausibility from 1 to 5, by source")
        + f"<p>Means: {means}.</p>"
    )


def _defects(found: dict[str, Any]) -> str:
    defects = found["defects"]
    colours = {s: _COLOURS[i % len(_COLOURS)] for i, s in enumerate(defects)}
    if REAL not in defects:
        colours = {s: _COLOURS[1 + i % (len(_COLOURS) - 1)] for i, s in enumerate(defects)}
    series = [
        (source, [one["kinds"][kind]["share"] for kind in DEFECTS], colours[source])
        for source, one in defects.items()
    ]
    totals = {
        s: np.sum([one["map"][kind] for kind in DEFECTS], axis=0) for s, one in defects.items()
    }
    most = max((int(total.max()) for total in totals.values()), default=0)
    maps = "".join(plots.heat(LEADS, t.tolist(), s, most) for s, t in totals.items())
    kinds = []
    for source, one in defects.items():
        named = [kind for kind in DEFECTS if np.sum(one["map"][kind])]
        some = "".join(
            plots.heat(LEADS, one["map"][kind], DEFECTS[kind], int(np.max(one["map"][kind])))
            for kind in named
        )
        if some:
            kinds.append(f'<h3>{escape(source)}, by defect</h3><div class="maps">{some}</div>')
    return (
        "<h2>Defects</h2><p>The share of answers that name each defect:</p>"
        + plots.shares(
            list(DEFECTS.values()), series, "Share of answers with each defect, by source"
        )
        + "<p>Where they were marked, by lead and second of the print; darker is more.</p>"
        + f'<div class="maps">{maps}</div>'
        + "".join(kinds)
    )


def _pairs(found: dict[str, Any]) -> list[str]:
    rows = [
        (
            f"{one['source']} over {one['over']}",
            one["share"]["value"],
            tuple(one["share"]["interval"]),
        )
        for one in found["preferred"]
    ]
    table = [
        [escape(one["source"]), escape(one["over"]), str(one["n"]), _figure(one["share"])]
        for one in found["preferred"]
    ]
    sides = ", ".join(f"{side} {n}" for side, n in found["sides"].items())
    return [
        "<h2>Which is better?</h2><p>How often one source's ECG was preferred to the other's of "
        "the same label; `neither` counts half, 0.5 is a tie.</p>",
        plots.intervals(rows, "How often each source was preferred") if rows else "",
        _table("Preferred", ["source", "over", "pairs", "share"], table),
        f"<p>Sides: {escape(sides)}. Pairs of one source, which say nothing here: "
        f"{found['within_a_source']}.</p>",
    ]


def _agreement(found: dict[str, Any]) -> str:
    intra = [
        [_QUESTIONS[q], escape(who), str(one["n"]), str(one["same"]), _kappa(one["kappa"])]
        for q, by in found["intra_rater"].items()
        for who, one in [("all raters", by["all"]), *by["by_rater"].items()]
    ]
    inter = []
    for q, one in found["inter_rater"].items():
        inter.append([_QUESTIONS[q], "all raters", "", "Krippendorff α", _kappa(one["alpha"])])
        inter += [
            [_QUESTIONS[q], " and ".join(p["raters"]), str(p["n"]), "Cohen κ", _kappa(p["kappa"])]
            for p in one["pairs"]
        ]
    return (
        "<h2>Agreement</h2><p>Beyond chance: 1 is perfect, 0 is chance. Of ordered answers (label, "
        "plausibility, which is better) weighted by how far they are apart.</p>"
        + _table(
            "With themselves: hidden repeats",
            ["question", "rater", "repeats", "same answer", "Cohen κ"],
            intra,
        )
        + _table("With each other", ["question", "raters", "both answered", "", ""], inter)
    )


def _foot(found: dict[str, Any]) -> str:
    told = found.get("comments", [])
    comments = _table(
        "Comments",
        ["rater", "source", "label", ""],
        [[c["rater"], escape(c["source"]), escape(c["label"]), escape(c["text"])] for c in told],
    )
    return (
        (f"<h2>In their words</h2>{comments}" if told else "")
        + '<h2>How</h2><p class="note">Computed from the study\'s export alone: '
        "<code>python -m service.studies report EXPORT</code> gives the same. d′ with half an "
        "answer added to each cell (Hautus 1995, doi 10.3758/BF03203619); Krippendorff's α after "
        "Hayes and Krippendorff 2007, doi 10.1080/19312450709336664.</p>"
    )


def _figure(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{found['value']:.2f} [{low:.2f}, {high:.2f}]"


def _kappa(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
