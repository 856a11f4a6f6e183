"""python -m training.evaluate: calibrate on fold 9, report on folds 9 and 10."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ecg.decision import Calibration, RecordRule, calibrate, decide
from ecg.statements import ATRIAL_STATEMENTS
from training import calibrate as calibration
from training.batches import LEAD_SETS, lead_set_mask
from training.metrics import auroc, bootstrap, common_columns, ece, macro_auroc, share
from training.prednet import load_model, run_description
from training.shards import Shard, load_all
from training.sources import own
from training.train_classifier import CHOOSE, REPORT, columns, logits_of

# A calibration serves every segment with at least so many known leads; fitted on these lead sets.
FITTED = (
    ("at least 4 independent leads", 4, ("12 leads",)),
    ("2 or 3 independent leads", 2, ("limb leads",)),
    ("1 lead", 1, ("lead II", "lead I")),
)
RUNS = "several are averaged as one network; what is found is left in the first"
TOP_K = (1, 2, 3)
MAX_LOSS = 0.005  # of AUROC, for the rule under which no paroxysm can vanish


@dataclass(frozen=True)
class Outputs:
    """A part's logits under one lead set: logits [segment, output], n_leads [segment]."""

    part: Shard
    lead_set: str
    logits: np.ndarray
    n_leads: np.ndarray
    label: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--run", type=Path, nargs="+", default=[Path("runs/prednet")], help=RUNS)
    args = parser.parse_args()
    known = run_description(args.run[0])
    model = load_model(*args.run)
    statements = tuple(known["statements"])
    parts = list(load_all(args.data))
    folds = {
        fold: [o for p in parts for o in outputs_of(model, p.folds((fold,)), statements)]
        for fold in (*CHOOSE, *REPORT)
    }
    result = judged(folds, statements, [p.source for p in parts])
    (args.run[0] / "evaluation.json").write_text(json.dumps(result, indent=2))
    for told in headlines(result["metrics"]):
        print(told)


def judged(
    folds: dict[int, list[Outputs]], statements: tuple[str, ...], sources: list[str]
) -> dict[str, Any]:
    """What fold 9 chooses, and the figures of all folds given. `sources`: of the shards."""
    chosen = folds[CHOOSE[0]]
    rule, rules = choose_rule(chosen)
    implying = implying_statements(statements, sources)
    implying_columns = [1 + statements.index(code) for code in implying]
    calibrations = fit_calibrations(chosen, implying_columns)
    figures = [
        figure
        for fold, outputs in folds.items()
        for o in outputs
        for figure in report(o, fold, calibrations, implying_columns, rule, statements)
    ]
    return {
        "implying_statements": implying,
        "record_rule": asdict(rule),
        "record_rules_compared": rules,
        "calibration": [asdict(c) for c in calibrations],
        "metrics": figures,
    }


def headlines(figures: list[dict]) -> list[str]:
    """A line a figure, without single statements and decisions."""
    return [
        line(f)
        for f in figures
        if f["name"].count("AUROC") and not f["name"].startswith("AUROC ") or "ECE" in f["name"]
    ]


def outputs_of(model: nn.Module, part: Shard, statements: tuple[str, ...]) -> list[Outputs]:
    """Logits under each lead set that the part's records have."""
    if not len(part.label):
        return []
    label = part.label[:, columns(statements)]
    has = part.lead_mask.any(axis=0)
    sets = [s for s in LEAD_SETS if has[lead_set_mask(s) > 0].all()]
    return [Outputs(part, s, *logits_of(model, part, s), label) for s in sets or ["12 leads"]]


def implying_statements(statements: tuple[str, ...], sources: list[str]) -> list[str]:
    """Those that make the substrate abnormal by the open proxy's definition. A user's own labels
    may mean something else by it: then none."""
    if own.NAME in sources:
        return []
    return [code for code in ATRIAL_STATEMENTS if code in statements]


def choose_rule(outputs: list[Outputs]) -> tuple[RecordRule, dict[str, float]]:
    """The maximum over segments, unless averaging the highest few gains more than MAX_LOSS of AFIB
    AUROC on records of several segments."""
    long = [o for o in outputs if np.bincount(o.part.record).max() > 1]
    if not long:
        return RecordRule(top_k=1), {}
    figures = {
        str(k): float(np.nanmean([_best_known_auroc(o, RecordRule(top_k=k)) for o in long]))
        for k in TOP_K
    }
    best = max(TOP_K, key=lambda k: figures[str(k)])
    return RecordRule(top_k=best if figures[str(best)] - figures["1"] > MAX_LOSS else 1), figures


def _best_known_auroc(o: Outputs, rule: RecordRule) -> float:
    """AUROC, averaged over the outputs of which both classes are known."""
    score = by_record(o, o.logits, np.zeros_like(o.logits), rule)[0]
    return float(np.nanmean([auroc(o.label[:, j], score[:, j]) for j in range(score.shape[1])]))


def by_record(
    o: Outputs, values: np.ndarray, thresholds: np.ndarray, rule: RecordRule
) -> tuple[np.ndarray, np.ndarray]:
    """Values and thresholds [record, output] of segments', by the rule that the service uses."""
    signal_s = o.part.n_valid / o.part.preparation.fs
    decided = []
    for i in range(len(o.part.label)):
        rows = o.part.record == i
        decided.append(decide(values[rows], thresholds[rows], signal_s[rows], rule))
    value, threshold = zip(*decided, strict=True)
    return np.array(value), np.array(threshold)


def fit_calibrations(outputs: list[Outputs], implying: list[int]) -> list[Calibration]:
    """One calibration for each size of lead set, on records: a record's highest logit is what its
    answer rests on. Where only positives of an output are known, that source is left out of it."""
    calibrations = []
    for name, min_leads, lead_sets in FITTED:
        logits, label = [], []
        for o in outputs:
            if o.lead_set not in lead_sets:
                continue
            logits.append(by_record(o, o.logits, np.zeros_like(o.logits), RecordRule())[0])
            one_sided = (o.label == 1).any(axis=0) & ~(o.label == 0).any(axis=0)
            label.append(np.where(one_sided, -1, o.label))
        if logits:
            calibrations.append(
                calibration.fit(
                    name, min_leads, np.concatenate(logits), np.concatenate(label), implying
                )
            )
    return calibrations


def report(
    o: Outputs,
    fold: int,
    calibrations: list[Calibration],
    implying: list[int],
    rule: RecordRule,
    statements: tuple[str, ...],
) -> list[dict]:
    """Figures of one part, fold and lead set, with bootstrap intervals over patients."""
    raw = 1 / (1 + np.exp(-o.logits.astype(float)))
    before = by_record(o, raw, np.zeros_like(raw), rule)[0]
    after, threshold = by_record(o, *calibrate(o.logits, o.n_leads, calibrations, implying), rule)
    where = {"data": f"{o.part.source} fold {fold}", "leads": o.lead_set}
    figures: list[dict] = []

    def add(name: str, figure, positives: int | None) -> None:
        value = figure(np.arange(len(o.label)))
        if not np.isnan(value):
            interval = bootstrap(figure, o.part.patient)
            figures.append(
                {"name": name, "value": value, "interval": interval,
                 "n": len(o.label), "n_positive": positives, **where}
            )  # fmt: skip

    def output(name: str, j: int) -> None:
        y, n = o.label[:, j], int((o.label[:, j] == 1).sum())
        add(f"{name} AUROC", lambda rows: auroc(y[rows], after[rows, j]), n)
        if not (y == 0).any():
            return
        add(f"{name} ECE before calibration", lambda rows: ece(y[rows], before[rows, j]), n)
        add(f"{name} ECE", lambda rows: ece(y[rows], after[rows, j]), n)
        said = after[:, j] >= threshold[:, j]
        add(f"{name} sensitivity", lambda rows: share(said[rows][y[rows] == 1]), n)
        add(f"{name} specificity", lambda rows: share(~said[rows][y[rows] == 0]), n)

    output("atrial substrate", 0)
    if "AFIB" in statements:
        output("AFIB", 1 + statements.index("AFIB"))
    common = 1 + common_columns(o.label[:, 1:])
    if len(common) > 1:
        name = f"macro AUROC over {len(common)} statements"
        add(name, lambda rows: macro_auroc(o.label[rows], after[rows], common), None)
        for j in common:
            value = auroc(o.label[:, j], after[:, j])
            figures.append(
                {"name": f"AUROC {statements[j - 1]}", "value": value, "interval": None,
                 "n": len(o.label), "n_positive": int((o.label[:, j] == 1).sum()), **where}
            )  # fmt: skip
    return figures


def line(f: dict) -> str:
    low, high = f["interval"] or (np.nan, np.nan)
    return (
        f"{f['data']:<18}{f['leads']:<12}{f['name']:<36}{f['value']:.3f}  [{low:.3f}, {high:.3f}]"
    )


if __name__ == "__main__":
    main()
