"""The parts of a generated set's judgement: each compares it with real ECGs in one respect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.generated import twelve_leads
from training import membership
from training.beats import MEASURES
from training.judging import distances, fidelity, physiology
from training.judging.blind_test import blind_test
from training.judging.embeddings import Embedding, digest, kept
from training.judging.judgement import first
from training.judging.novelty import likeness
from training.shards import CODES, Shard
from training.train_classifier import CHOOSE, REPORT, TRAIN

SPARE = (8,)  # whose labels are held back where the set has none of fold 10
MIN_REAL = 20  # ECGs of a label whose diversity is measured
MOST = 250  # of a label's ECGs whose distances are measured
MOST_COPIES = 800  # ECGs made with training labels that are compared with all training ECGs


@dataclass(frozen=True)
class Case:
    """real: every whole segment of the source; made: the set; work: what is made once."""

    real: Shard
    made: Shard
    embeddings: list[Embedding]
    work: Path
    steps: int
    runs: tuple[Path, ...] = ()
    autoencoder: Path | None = None
    noises: int = membership.N_NOISES

    @property
    def held_out(self) -> tuple[int, ...]:
        """The fold whose labels the generated ECGs have that no part learns from."""
        return REPORT if np.isin(REPORT[0], self.made.strat_fold) else SPARE

    @property
    def training(self) -> tuple[int, ...]:
        return tuple(fold for fold in TRAIN if fold not in self.held_out)


def judge(case: Case) -> dict:
    """Every part's figures."""
    features = {
        e.name: (e.cached(case.real.sig, case.work), e.cached(case.made.sig, case.work))
        for e in case.embeddings
    }
    found = {
        "n_real": len(case.real.sig), "n_made": len(case.made.sig),
        "training": list(case.training), "held_out": list(case.held_out),
        "limb_lead_error_mv": fidelity.limb_lead_error(
            twelve_leads(case.made.sig.astype(np.float32))
        ),
        "distances": judge_distances(case, features),
        "diversity": judge_diversity(case, features),
        "physiology": judge_physiology(case, features["measures"]),
        "copies": judge_copies(case),
        "blind_test": judge_blind(case),
    }  # fmt: skip
    return found | {"membership": judge_membership(case)}


def fold_of(part: Shard) -> np.ndarray:
    return part.strat_fold[part.record]


def patient_of(part: Shard) -> np.ndarray:
    return part.patient[part.record]


def judge_distances(case: Case, features: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict]:
    """For each embedding: generated ECGs against real ones of fold 10, and real against real."""
    real, made = case.real, case.made
    at = {
        "reference": np.isin(fold_of(real), REPORT),
        "training": np.isin(fold_of(real), TRAIN),
        "fold 9": np.isin(fold_of(real), CHOOSE),
        "held_out": np.isin(fold_of(made), case.held_out),
        "generated": np.isin(fold_of(made), case.training),
    }
    sizes = [at[name].sum() for name in ("reference", "fold 9", "held_out")]
    n = int(min(size for size in sizes if size))
    one = np.isin(patient_of(real), halved(patient_of(real)[at["training"]]))
    out = []
    for e in case.embeddings:
        of_real, of_made = features[e.name]
        space = distances.fit_space(of_real[at["training"]], n)

        def row(what: str, x: tuple, y: tuple, space=space) -> dict:
            (a, of_a), (b, of_b) = ((space(f[keep]), p[keep]) for f, p, keep in (x, y))
            return {"what": what, **distances.compare(a, b, of_a, of_b, n)}

        of, of_generated = (of_real, patient_of(real)), (of_made, patient_of(made))
        reference = (*of, at["reference"])
        rows = [
            row("generated, held-out labels", reference, (*of_generated, at["held_out"])),
            row("generated, training labels", reference, (*of_generated, at["generated"])),
            row("real, training folds", reference, (*of, at["training"])),
            row("real, two halves of training", (*of, at["training"] & one),
                (*of, at["training"] & ~one)),
        ]  # fmt: skip
        if at["fold 9"].any():
            rows.insert(3, row("real, fold 9", reference, (*of, at["fold 9"])))
        about = {"name": e.name, "about": e.about, "dimensions": space.axes.shape[1], "n": n}
        out.append({**about, "rows": rows})
    return out


def halved(patient: np.ndarray, seed: int = 0) -> np.ndarray:
    """Half of the patients, by lot."""
    names = np.unique(patient)
    return np.random.default_rng(seed).permutation(names)[: len(names) // 2]


def judge_diversity(case: Case, features: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict]:
    """For each label with enough real ECGs: the mean distance between two of its ECGs, generated
    and real, and how many different ones the set is worth, in each embedding."""
    parts = [(case.real, 0), (case.made, 1)]
    keep = [np.isin(fold_of(part), case.training) for part, _ in parts]
    label = [part.label[part.record][k] for (part, _), k in zip(parts, keep, strict=True)]
    patient = [patient_of(part)[k] for (part, _), k in zip(parts, keep, strict=True)]
    out = []
    n = int(keep[0].sum())
    spaces = {e: distances.fit_space(f[0][keep[0]], n) for e, f in features.items()}
    placed = {e: [spaces[e](f[i][keep[i]]) for i in range(2)] for e, f in features.items()}
    for code in CODES:
        rows = [np.flatnonzero(x[:, 1 + CODES.index(code)] == 1) for x in label]
        if len(rows[0]) < MIN_REAL or len(rows[1]) < MIN_REAL:
            continue
        size = min(MOST, len(rows[0]), len(rows[1]))
        one, other = [
            r[distances.by_patient(p[r], size)] for r, p in zip(rows, patient, strict=True)
        ]
        spread = {
            e: _spread(x[0][one], x[1][other], patient[0][one], patient[1][other])
            for e, x in placed.items()
        }
        out.append({"code": code, "n_real": len(rows[0]), "n_made": len(rows[1]), **spread})
    return out


def _spread(
    real: np.ndarray, made: np.ndarray, patient_real: np.ndarray, patient_made: np.ndarray
) -> dict:
    of_real, drawn_real = distances.pairwise(real, patient_real)
    of_made, drawn_made = distances.pairwise(made, patient_made, seed=1)
    low, high = np.nanpercentile(drawn_made / drawn_real, (2.5, 97.5))
    worth = {k: distances.vendi(x, of_real) for k, x in (("real", real), ("generated", made))}
    return {
        "value": of_made / of_real,
        "interval": (float(low), float(high)),
        "vendi": worth,
    }


def judge_physiology(case: Case, measured: tuple[np.ndarray, np.ndarray]) -> dict:
    """The set beside the real ECGs of the folds whose labels it has."""
    same = np.isin(fold_of(case.real), np.unique(fold_of(case.made)))
    sides = []
    for part, values, keep in (
        (case.real, measured[0], same),
        (case.made, measured[1], np.ones(len(case.made.sig), bool)),
    ):
        of = values[keep][:, : len(MEASURES)], part.label[part.record][keep], patient_of(part)[keep]
        sides.append(physiology.Measured(*of))
    return physiology.compare(*sides)


def judge_copies(case: Case) -> dict:
    """How near generated ECGs come to training ECGs, beside real ECGs that were not trained on."""
    training = case.real.folds(TRAIN).sig
    generated = case.made.folds(case.training)
    some = np.sort(np.random.default_rng(0).permutation(len(generated.sig))[:MOST_COPIES])
    parts = {
        "real": case.real.folds((*CHOOSE, *REPORT)),
        "held-out labels": case.made.folds(case.held_out),
        "training labels": first(generated, some),
    }
    out = {}
    fs = case.real.preparation.fs
    for name, measure in (
        ("whole", lambda a, b: likeness(a, b, fs)),
        ("beat", lambda a, b: fidelity.nearest_beat(a, b, fs)),
    ):
        near = {
            k: kept(case.work, f"{name}-{digest(part.sig, training)}",
                    lambda part=part, measure=measure: measure(part.sig, training))
            for k, part in parts.items()
        }  # fmt: skip
        limit = float(np.nanquantile(near["real"], 0.99))
        out[name] = {"real_q99": limit, "of": {}}
        for k, part in parts.items():
            known = ~np.isnan(near[k])
            above, whose = (near[k][known] > limit).astype(float), patient_of(part)[known]
            out[name]["of"][k] = {
                "n": int(known.sum()),
                "above": float(above.mean()),
                "interval": distances.interval_of_mean(above, whose),
                "quantiles": np.quantile(near[k][known], np.linspace(0, 1, 41)).round(4).tolist(),
            }
    return out


def judge_blind(case: Case) -> dict:
    """The blind test, and the same with real ECGs in the place of generated ones."""
    real, made = case.real, case.made
    training = real.folds(case.training), made.folds(case.training)
    held = real.folds(REPORT), made.folds(case.held_out)
    of = digest(*(part.sig for part in (*training, *held)))
    whole = halved(real.patient)
    one, other = (_of_patients(real, whole, inside) for inside in (True, False))
    null = [tuple(p.folds(folds) for p in (one, other)) for folds in (case.training, REPORT)]
    return {
        "steps": case.steps,
        "generated": blind_test(training, held, case.work / f"blind-{of}", case.steps),
        "real": blind_test(*null, case.work / f"blind-null-{of}", case.steps),
    }


def _of_patients(part: Shard, patients: np.ndarray, inside: bool) -> Shard:
    keep = np.isin(patient_of(part), patients) == inside
    return first(part, np.flatnonzero(keep))


def judge_membership(case: Case) -> dict:
    """Attacks on the ECGs made with training labels, and on the runs where they are given."""
    suspects = membership.suspects_of(case.real)
    sets = {"generated, training labels": case.made.folds(case.training).sig}
    return membership.attack_all(
        suspects, case.runs, case.autoencoder, sets, case.work, case.noises
    )
