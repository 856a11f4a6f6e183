"""Two classifiers on fold 9, as they are served, and what a segment costs with each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ecg.decision import calibrate
from ecg.store import Classifier
from training.batches import LEAD_SETS, lead_set_mask
from training.evaluate import Outputs, by_record
from training.metrics import auroc, bootstrap, common_columns, ece, macro_auroc
from training.promotion.verdict import Cost, Figure
from training.shards import Shard, load_all
from training.train_classifier import CHOOSE, columns

BATCH = 32  # segments a run, as the service's largest
ROUNDS = 15
N_RESAMPLES = 1000


def compare_classifiers(
    candidate: Classifier,
    served: Classifier | None,
    data: Path,
    served_data: Path | None = None,
) -> tuple[list[Figure], Cost, list[str]]:
    """Figures, cost, and what else speaks against the candidate. `served_data`: the same records,
    where the served model was prepared otherwise. Errors: SystemExit."""
    parts = held_out(data, candidate)
    others = parts if served is None else held_out(served_data or data, served)
    check_same(parts, others)
    lost = sorted(set(served.card.statements) - set(candidate.card.statements)) if served else []
    reasons = [f"it no longer answers {', '.join(lost)}"] if lost else []
    both = [c for c in candidate.card.statements if not served or c in served.card.statements]
    figures = [
        figure
        for part, other in zip(parts, others, strict=True)
        for lead_set in lead_sets(part)
        for figure in figures_of(candidate, served, part, other, lead_set, both)
    ]
    return figures, cost_of(candidate, served, parts, others), reasons


def held_out(folder: Path, model: Classifier) -> list[Shard]:
    """Fold 9 of each shard, which the model's preparation made. Errors: SystemExit."""
    parts = [held for part in load_all(folder) if len((held := part.folds(CHOOSE)).label)]
    if not parts:
        raise SystemExit(f"{folder}: no shard has a fold 9")
    if parts[0].preparation != model.card.preparation:
        raise SystemExit(
            f"{model.card.name} {model.card.version} takes ECGs prepared otherwise than those in "
            f"{folder}: prepare them as its card says, and name both with --data, --served-data"
        )
    return parts


def check_same(parts: Sequence[Shard], others: Sequence[Shard]) -> None:
    """Errors: SystemExit where the two are not of the same records."""
    alike = [p.source for p in parts] == [o.source for o in others] and all(
        np.array_equal(p.patient, o.patient) and np.array_equal(p.label, o.label)
        for p, o in zip(parts, others, strict=True)
    )
    if not alike:
        raise SystemExit("--data and --served-data hold different records: nothing can be paired")


def lead_sets(part: Shard) -> list[str]:
    """Those that the part's records have."""
    has = part.lead_mask.any(axis=0)
    return [s for s in LEAD_SETS if has[lead_set_mask(s) > 0].all()]


def outputs_of(model: Classifier, part: Shard, lead_set: str) -> Outputs:
    """Logits of a part with the lead set's leads alone, run as the service runs them."""
    mask = (part.lead_mask * lead_set_mask(lead_set)).astype(np.float32)
    logits = np.concatenate(
        [
            model.of_conditioned(part.sig[r].astype(np.float32), mask[r], part.n_valid[r])
            for r in batches(len(part.sig))
        ]
    )
    label = part.label[:, columns(model.card.statements)]
    return Outputs(part, lead_set, logits, mask.sum(axis=1), label)


def probabilities(
    model: Classifier, part: Shard, lead_set: str, codes: Sequence[str]
) -> np.ndarray:
    """[record, 1 + codes], calibrated and decided by the card's rule."""
    card, outputs = model.card, outputs_of(model, part, lead_set)
    by_segment = calibrate(outputs.logits, outputs.n_leads, list(card.calibration), card.implying)
    found = by_record(outputs, *by_segment, card.record_rule)[0]
    return found[:, [0, *(1 + card.statements.index(code) for code in codes)]]


def batches(n: int) -> list[slice]:
    return [slice(i, i + BATCH) for i in range(0, n, BATCH)]


def figures_of(
    candidate: Classifier,
    served: Classifier | None,
    part: Shard,
    other: Shard,
    lead_set: str,
    codes: Sequence[str],
) -> list[Figure]:
    """Of one part and lead set: what can be told apart in it."""
    label = part.label[:, columns(tuple(codes))]
    p = probabilities(candidate, part, lead_set, codes)
    q = probabilities(served, other, lead_set, codes) if served else None
    where, found = f"{part.source}, {lead_set}", []

    def add(name: str, kind: str, of: Callable[[np.ndarray, np.ndarray], float]) -> None:
        """of(label, probability), of which an ECE is the better the smaller."""
        sign = -1.0 if kind == "ECE" else 1.0
        value = of(label, p)
        if np.isnan(value):
            return
        if q is None:
            own = bootstrap(lambda r: of(label[r], p[r]), part.patient, N_RESAMPLES)
            found.append(Figure(name, kind, where, len(label), value, interval=own))
            return
        interval = bootstrap(
            lambda r: sign * (of(label[r], p[r]) - of(label[r], q[r])), part.patient, N_RESAMPLES
        )
        before = of(label, q)
        gain = sign * (value - before)
        found.append(Figure(name, kind, where, len(label), value, before, gain, interval))

    def of_output(name: str, j: int) -> None:
        if len(np.intersect1d(label[:, j], (0, 1))) == 2:
            add(f"{name} AUROC", "AUROC", lambda y, x: auroc(y[:, j], x[:, j]))
            add(f"{name} ECE", "ECE", lambda y, x: ece(y[:, j], x[:, j]))

    of_output("atrial substrate", 0)
    if "AFIB" in codes:
        of_output("AFIB", 1 + list(codes).index("AFIB"))
    common = 1 + common_columns(label[:, 1:])
    if len(common) > 1:
        name = f"macro AUROC of {len(common)} statements"
        add(name, "AUROC", lambda y, x: macro_auroc(y, x, common))
    return found


def cost_of(
    candidate: Classifier,
    served: Classifier | None,
    parts: Sequence[Shard],
    others: Sequence[Shard],
) -> Cost:
    """Of one thread, in batches as the service makes them; the two take turns, so that what else
    the machine does befalls both."""
    runs = [one_run(candidate, parts[0])] + ([one_run(served, others[0])] if served else [])
    for run in runs:
        run()  # the first allocates
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, taken in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    n = min(BATCH, len(parts[0].sig))
    ms = [1000 * float(np.median(taken)) / n for taken in seconds]
    unit = f"ms a segment, {n} a run, one thread"
    if served is None:
        return Cost(unit, ms[0])
    ratio = float(np.median(np.divide(*seconds)))
    return Cost(unit, ms[0], ms[1], ratio)


def one_run(model: Classifier, part: Shard) -> Callable[[], np.ndarray]:
    """A run of one batch, conditioning included, which a preparation may make dear."""
    sig = part.sig[:BATCH].astype(np.float32)
    mask, n_valid = part.lead_mask[:BATCH].astype(np.float32), part.n_valid[:BATCH]
    return lambda: model.logits(sig, mask, n_valid)
