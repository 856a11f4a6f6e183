"""python -m training.evaluate_served: post folds 9 and 10 to a running service, judge its answers.

Nothing of the training side but the labels is used: what is judged is what a client gets.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from tqdm import tqdm

from ecg.leads import LEADS
from training.batches import LEAD_SETS
from training.metrics import auroc, bootstrap, common_columns, ece, macro_auroc
from training.sources import cinc2017, ptbxl
from training.sources.labelled import UNKNOWN, Labelled

AT_ONCE = 32


@dataclass(frozen=True)
class Answers:
    """label, probability: [record, 1 + statements]; NaN probabilities where it abstained."""

    label: np.ndarray
    probability: np.ndarray
    patient: np.ndarray
    statements: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate_served", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--ptb-xl", type=Path)
    parser.add_argument("--cinc2017", type=Path)
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    args = parser.parse_args()
    figures = []
    sources = {}
    if args.ptb_xl:
        sources[ptbxl.NAME] = (list(ptbxl.load(args.ptb_xl)), tuple(LEAD_SETS))
    if args.cinc2017:
        sources[cinc2017.NAME] = (list(cinc2017.load(args.cinc2017)), ("lead I",))
    with httpx.Client(base_url=args.url, timeout=60) as client:
        for name, (items, lead_sets) in sources.items():
            for fold in (9, 10):
                part = [item for item in items if item.strat_fold == fold]
                for lead_set in lead_sets:
                    answers = ask(client, part, lead_set)
                    figures += judge(answers, f"{name} fold {fold}", lead_set)
    for f in figures:
        low, high = f["interval"]
        print(
            f"{f['data']:<17} {f['leads']:<11} {f['name']:<32} {f['value']:.3f} "
            f"[{low:.3f}, {high:.3f}]  n {f['n']}"
        )
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1))


def ask(client: httpx.Client, items: list[Labelled], lead_set: str) -> Answers:
    """Post the records, with the set's leads only, as NPZ of several where they are alike."""
    rows, labels = [], []
    statements: tuple[str, ...] = ()
    for group in _alike(tqdm(items, desc=lead_set, mininterval=5)):
        for item, result in zip(group, _post(client, group, lead_set), strict=True):
            statements = tuple(s["code"] for s in result["statements"])
            given = [result["atrial_substrate"], *result["statements"]]
            rows.append([np.nan if g["probability"] is None else g["probability"] for g in given])
            labels.append([item.atrial, *(item.statements.get(c, UNKNOWN) for c in statements)])
    patient = np.array([item.patient for item in items])
    return Answers(np.array(labels), np.array(rows), patient, statements)


def _alike(items: Iterator[Labelled]) -> Iterator[list[Labelled]]:
    """Runs of records of one shape, fs and lead order."""
    group: list[Labelled] = []
    for item in items:
        r = item.record
        if group:
            last = group[0].record
            alike = (r.sig.shape, r.fs, r.leads) == (last.sig.shape, last.fs, last.leads)
            if not alike or len(group) == AT_ONCE:
                yield group
                group = []
        group.append(item)
    if group:
        yield group


def _post(client: httpx.Client, group: list[Labelled], lead_set: str) -> list[dict]:
    record = group[0].record
    wanted = LEADS if lead_set == "12 leads" else LEAD_SETS[lead_set]
    rows = [i for i, lead in enumerate(record.leads) if lead in wanted]
    body = io.BytesIO()
    np.savez(
        body,
        sig=np.stack([item.record.sig[rows] for item in group]),
        fs=record.fs,
        leads=np.array([record.leads[i] for i in rows]),
        units="mV",
    )
    answer = client.post("/classify", content=body.getvalue())
    answer.raise_for_status()
    return answer.json()["results"]


def judge(answers: Answers, data: str, leads: str) -> list[dict]:
    """AUROC, ECE and the answered share; what it abstained from is left out of the others."""
    answered = ~np.isnan(answers.probability[:, 0])
    y, p = answers.label[answered], answers.probability[answered]
    patient = answers.patient[answered]
    figures = []

    def add(name: str, figure, who: np.ndarray = patient) -> None:
        value = figure(np.arange(len(who)))
        if not np.isnan(value):
            interval = bootstrap(figure, who)
            figures.append(
                {"name": name, "value": value, "interval": interval,
                 "n": len(who), "data": data, "leads": leads}
            )  # fmt: skip

    add("answered", lambda rows: answered[rows].mean(), answers.patient)
    add("atrial substrate AUROC", lambda rows: auroc(y[rows, 0], p[rows, 0]))
    if (y[:, 0] == 0).any():
        add("atrial substrate ECE", lambda rows: ece(y[rows, 0], p[rows, 0]))
    afib = 1 + answers.statements.index("AFIB")
    add("AFIB AUROC", lambda rows: auroc(y[rows, afib], p[rows, afib]))
    add("AFIB ECE", lambda rows: ece(y[rows, afib], p[rows, afib]))
    common = 1 + common_columns(y[:, 1:])
    if len(common) > 1:
        name = f"macro AUROC, {len(common)} statements"
        add(name, lambda rows: macro_auroc(y[rows], p[rows], common))
    return figures


if __name__ == "__main__":
    main()
