"""What a closed study found, computed from its export alone.

Only what was shown for the first time counts; repeats say how far raters agree with themselves.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ecg.leads import LEADS
from service.rating import agreement
from service.rating.answers import DEFECTS, Revision, standing
from service.rating.detection import Said, detection, resample, share, with_interval
from service.rating.export import EcgRow, Export, PresentationRow, cell
from service.rating.plan import REAL

SECONDS = 10  # a print's, each a column of the defect map
# question -> its answers in order, and how far apart they are
SCALES: dict[str, tuple[tuple[Any, ...], agreement.Scale]] = {
    "source": (("real", "generated"), "nominal"),
    "label": (("no", "unsure", "yes"), "ordinal"),
    "plausibility": ((1, 2, 3, 4, 5), "ordinal"),
    "better": (("first", "neither", "second"), "ordinal"),
}


class Rating(NamedTuple):
    """An answer that stands, with what it is about; `other` of a pair."""

    rater: str
    presentation: str
    repeat_of: str
    ecg: EcgRow
    other: EcgRow | None
    answer: dict[str, Any]


def figures(found: Export) -> dict[str, Any]:
    """Everything that the report says, as JSON can hold it."""
    every = ratings(found)
    first = [one for one in every if not one.repeat_of]
    pairs = found.study["mode"] == "pairs"
    questions = ("better",) if pairs else ("source", "label", "plausibility")
    told = {
        "study": {k: v for k, v in found.study.items() if k != "plan"},
        "plan": found.study["plan"],
        "raters": _raters(found, every),
        "who": _who(found),
        "n": {"ecgs": len(found.ecgs), "answers": len(every), "first": len(first)},
        "intra_rater": _intra(every, questions),
        "inter_rater": _inter(first, questions),
    }
    return told | (_of_pairs(first) if pairs else _of_single(first))


def ratings(found: Export) -> list[Rating]:
    """The answers that stand, in the order of raters and positions."""
    said: dict[str, list[Revision]] = defaultdict(list)
    for row in found.answers:
        answer = None if row.undone else json.loads(row.given)
        said[row.presentation].append(Revision(row.revision, row.based_on, answer))
    ecgs = {ecg.id: ecg for ecg in found.ecgs}
    number = {rater.id: rater.number for rater in found.raters}

    def order(one: PresentationRow) -> tuple[int, int]:
        return number[one.rater], one.position

    out = []
    for one in sorted(found.presentations, key=order):
        answer = standing(said[one.id]).answer
        if answer is not None:
            other = ecgs.get(one.other)
            out.append(Rating(one.rater, one.id, one.repeat_of, ecgs[one.ecg], other, answer))
    return out


def _who(found: Export) -> str:
    """Said wherever the report is: what a program answered is no cardiologist's opinion."""
    n = sum(rater.simulated for rater in found.raters)
    if not found.raters:
        return "nobody"
    if n == len(found.raters):
        return "simulated raters only: no person rated"
    if n:
        return f"{len(found.raters) - n} invited people and {n} simulated raters together"
    return f"{len(found.raters)} invited people"


def _raters(found: Export, every: Sequence[Rating]) -> list[dict[str, Any]]:
    shown = defaultdict(int)
    for one in found.presentations:
        shown[one.rater] += 1
    out = []
    for rater in found.raters:
        seconds = [r.answer.get("seconds") for r in every if r.rater == rater.id]
        known = [s for s in seconds if s is not None]
        out.append(
            {
                "rater": rater.id,
                "simulated": rater.simulated,
                "shown": shown[rater.id],
                "answered": len(seconds),
                "median_s": float(np.median(known)) if known else None,
            }
        )
    return out


# One ECG at a time.


def _of_single(first: Sequence[Rating]) -> dict[str, Any]:
    sources = _sources(one.ecg.source for one in first)
    generators = [source for source in sources if source != REAL]
    raters = list(dict.fromkeys(one.rater for one in first))
    by_source = {s: [one for one in first if one.ecg.source == s] for s in sources}
    return {
        "detection": {
            "all": detection(_said(first)),
            "by_generator": {
                g: detection(_said(o for o in first if o.ecg.source in (REAL, g)))
                for g in generators
            },
            "by_rater": {r: detection(_said(o for o in first if o.rater == r)) for r in raters},
        },
        "label": {s: _label(some) for s, some in by_source.items()},
        "by_label": _by_label(first, sources),
        "plausibility": {s: _plausibility(some) for s, some in by_source.items()},
        "defects": {s: _defects(some) for s, some in by_source.items()},
        "comments": [
            {"rater": o.rater, "source": o.ecg.source, "label": o.ecg.label, "text": text}
            for o in first
            if (text := o.answer["comment"].strip())
        ],
    }


def _sources(found: Iterable[str]) -> list[str]:
    """Real first."""
    return sorted(set(found), key=lambda source: (source != REAL, source))


def _said(some: Iterable[Rating]) -> list[Said]:
    return [
        Said(
            one.ecg.id,
            one.ecg.source != REAL,
            one.answer["source"] == "generated",
            one.answer["confidence"],
        )
        for one in some
    ]


def _label(some: Sequence[Rating]) -> dict[str, Any]:
    """counts: of no, unsure, yes; agreement: the share of yes, with its interval over ECGs."""
    yes = _mean_of(some, lambda a: a["label"] == "yes")
    return {**_counted(some, "label"), "agreement": yes}


def _by_label(first: Sequence[Rating], sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for label in sorted({one.ecg.label for one in first}):
        for source in sources:
            some = [o for o in first if (o.ecg.label, o.ecg.source) == (label, source)]
            if some:
                out.setdefault(label, {})[source] = {
                    "n": len(some),
                    "agreement": _mean_of(some, lambda a: a["label"] == "yes"),
                    "plausibility": _mean_of(some, lambda a: a["plausibility"]),
                    "called_generated": _mean_of(some, lambda a: a["source"] == "generated"),
                }
    return out


def _plausibility(some: Sequence[Rating]) -> dict[str, Any]:
    return {**_counted(some, "plausibility"), "mean": _mean_of(some, lambda a: a["plausibility"])}


def _counted(some: Sequence[Rating], question: str) -> dict[str, Any]:
    values, _ = SCALES[question]
    given = [one.answer[question] for one in some]
    return {"n": len(given), "counts": [given.count(value) for value in values]}


def _mean_of(some: Sequence[Rating], value: Any) -> dict[str, Any] | None:
    """Over answers, with its interval over ECGs."""
    sums: dict[str, np.ndarray] = {}
    for one in some:
        cell = sums.setdefault(one.ecg.id, np.zeros(2))
        cell += (float(value(one.answer)), 1.0)
    if not sums:
        return None
    found = np.array(list(sums.values()))
    drawn = resample(found, np.zeros(len(found)))
    return with_interval(lambda n: share(n[:, 0], n[:, 1]), found.sum(axis=0)[None], drawn)


def _defects(some: Sequence[Rating]) -> dict[str, Any]:
    """kinds: the share of answers that name each; map: marks an answer by lead and second, of each
    kind; unplaced: marks without a place."""
    n = max(1, len(some))
    named = {kind: 0 for kind in DEFECTS}
    placed = {kind: np.zeros((len(LEADS), SECONDS), dtype=int) for kind in DEFECTS}
    unplaced = {kind: 0 for kind in DEFECTS}
    for one in some:
        marks = one.answer["defects"]
        for kind in {mark["kind"] for mark in marks}:
            named[kind] += 1
        for mark in marks:
            if mark["lead"] is None or mark["time_s"] is None:
                unplaced[mark["kind"]] += 1
            else:
                second = min(int(mark["time_s"]), SECONDS - 1)
                placed[mark["kind"]][LEADS.index(mark["lead"]), second] += 1
    return {
        "n": len(some),
        "kinds": {kind: {"n": k, "share": k / n} for kind, k in named.items()},
        "unplaced": unplaced,
        "map": {kind: table.tolist() for kind, table in placed.items()},
    }


# Two at a time.


def _of_pairs(first: Sequence[Rating]) -> dict[str, Any]:
    """For each two sources how often the one was the better; `neither` counts half."""
    met: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for one in first:
        assert one.other is not None
        a, b = one.ecg, one.other
        score = {"first": 1.0, "neither": 0.5, "second": 0.0}[one.answer["better"]]
        if _sources((a.source, b.source))[0] != a.source:
            a, b, score = b, a, 1.0 - score
        if a.source != b.source:
            met[a.source, b.source].append((min(a.id, b.id), score))
    sides = [one.answer["better"] for one in first]
    return {
        "preferred": [
            {"source": a, "over": b, "n": len(some), "share": _share_of_pairs(some)}
            for (a, b), some in sorted(met.items())
        ],
        "sides": {side: sides.count(side) for side in SCALES["better"][0]},
        "within_a_source": sum(
            one.other is not None and one.ecg.source == one.other.source for one in first
        ),
    }


def _share_of_pairs(some: Sequence[tuple[str, float]]) -> dict[str, Any]:
    sums: dict[str, np.ndarray] = {}
    for pair, score in some:
        cell = sums.setdefault(pair, np.zeros(2))
        cell += (score, 1.0)
    found = np.array(list(sums.values()))
    drawn = resample(found, np.zeros(len(found)))
    return with_interval(lambda n: share(n[:, 0], n[:, 1]), found.sum(axis=0)[None], drawn)


# Agreement.


def _value(one: Rating, question: str, turned: bool = False) -> int:
    """The answer's place on its scale; turned: of a pair whose sides are the other way round."""
    values, _ = SCALES[question]
    i = values.index(one.answer[question])
    return len(values) - 1 - i if turned else i


def _intra(every: Sequence[Rating], questions: Sequence[str]) -> dict[str, Any]:
    """kappa of first showings and their repeats: of all raters' together, and of each."""
    at = {one.presentation: one for one in every}
    twice = [(at[one.repeat_of], one) for one in every if one.repeat_of in at]
    raters = dict.fromkeys(one.rater for one in every)

    def of(some: list[tuple[Rating, Rating]], question: str) -> dict[str, Any]:
        values, scale = SCALES[question]
        before = [_value(a, question) for a, _ in some]
        after = [_value(b, question, a.ecg != b.ecg) for a, b in some]
        same = sum(x == y for x, y in zip(before, after, strict=True))
        found = agreement.kappa(before, after, len(values), scale)
        return {"n": len(some), "same": same, "kappa": found}

    return {
        question: {
            "all": of(twice, question),
            "by_rater": {r: of([t for t in twice if t[0].rater == r], question) for r in raters},
        }
        for question in questions
    }


def _inter(first: Sequence[Rating], questions: Sequence[str]) -> dict[str, Any]:
    """Krippendorff's alpha of all raters, and Cohen's kappa of each two, on what both answered."""
    raters = list(dict.fromkeys(one.rater for one in first))
    things = list(dict.fromkeys(_thing(one) for one in first))
    row, column = ({x: i for i, x in enumerate(some)} for some in (raters, things))
    out = {}
    for question in questions:
        values, scale = SCALES[question]
        table = np.full((len(raters), len(things)), np.nan)
        for one in first:
            turned = one.other is not None and one.ecg.id > one.other.id
            table[row[one.rater], column[_thing(one)]] = _value(one, question, turned)
        pairs = []
        for a, b in itertools.combinations(range(len(raters)), 2):
            both = ~np.isnan(table[a]) & ~np.isnan(table[b])
            left, right = (table[i, both].astype(int).tolist() for i in (a, b))
            found = agreement.kappa(left, right, len(values), scale)
            pairs.append({"raters": [raters[a], raters[b]], "n": len(left), "kappa": found})
        out[question] = {"alpha": agreement.alpha(table, len(values), scale), "pairs": pairs}
    return out


def _thing(one: Rating) -> str:
    return "+".join(sorted({one.ecg.id, *([one.other.id] if one.other else [])}))


def as_csv(found: dict[str, Any]) -> str:
    """Every figure as a line: where it stands in the JSON, and its value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", "value"])
    writer.writerows(_lines("", {k: v for k, v in found.items() if k != "comments"}))
    return out.getvalue()


def _lines(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _lines(f"{path}/{name}" if path else str(name), one)
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _lines(f"{path}/{i}", one)
    else:
        yield cell(path), "" if value is None else cell(value)
