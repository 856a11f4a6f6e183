"""The parts of a generator's evaluation: each judges one thing, beside real ECGs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecg.card import Diffusion
from ecg.generated import twelve_leads
from ecg.generation import generate_many
from ecg.labels import Labels
from ecg.sampler import course
from ecg.store import Classifier, Generator
from training.judging import fidelity
from training.judging.novelty import likeness
from training.ldm.latents import labels_of
from training.metrics import bootstrap, common_columns
from training.shards import Shard, load, save
from training.train_autoencoder import load_autoencoder, reconstruct
from training.train_classifier import CHOOSE, REPORT, TRAIN
from training.tstr import Outcome, Trial, mean_score, run_all, scores, segment_labels

STEPS, SCALES = (4, 8, 16, 32), (1.0, 1.5, 2.0)
KINDS = ("real", "generated", "both")
SMALL_SET = 600  # ECGs that a setting is judged by
N_RESAMPLES = 500
N_ASKED = 200  # ECGs of a label or a range of heart rates


@dataclass(frozen=True)
class Bench:
    """What every part of the evaluation needs."""

    generator: Generator
    classifier: Classifier
    real: Shard
    data: Path
    work: Path
    workers: int
    batch_size: int
    seeds: tuple[int, ...]
    preset: str
    classifier_steps: int

    def generate(
        self, labels: Sequence[Labels], seed: int, diffusion: Diffusion | None = None
    ) -> np.ndarray:
        batches = generate_many(
            self.generator, labels, range(len(labels)), seed, diffusion,
            workers=self.workers, batch_size=self.batch_size,
        )  # fmt: skip
        return np.concatenate(list(batches))

    def generated_like(
        self, name: str, part: Shard, seed: int, diffusion: Diffusion | None = None
    ) -> Path:
        """A shard of generated ECGs with the labels of the part's, made once."""
        d = diffusion or self.generator.card.diffusion
        name = f"{name}-{d.num_steps}-{d.guidance_scale:g}"
        path = self.work / f"{name}.npz"
        if not path.exists():
            statements = self.generator.card.statements
            labels = [labels_of(part, i, statements) for i in range(len(part.sig))]
            sig = self.generate(labels, seed, d)
            beside = path.with_name(f"part-{path.name}")
            save(fidelity.with_signals(part, sig, "generated"), beside)
            beside.replace(path)
        return path


def digest(d: Diffusion) -> str:
    """Of the noise levels and the guidance interval: what a set's name does not say."""
    said = d.model_dump_json(exclude={"num_steps", "guidance_scale"})
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def calls_of(d: Diffusion) -> int:
    return course(d, d.num_steps, d.guidance_scale).network_calls


def judge_autoencoder(bench: Bench, run: Path) -> dict:
    """Fold 9: the error of reconstructions, and the classifier's AUROC on them and on originals."""
    model, part = load_autoencoder(run), bench.real.folds(CHOOSE)
    out = []
    with torch.inference_mode():
        error = reconstruct(model, part.sig)["rmse_mv"]
        for start in range(0, len(part.sig), 64):
            sig = torch.from_numpy(part.sig[start : start + 64].astype(np.float32))
            out.append(model.decode(model.encode(sig)[0]).numpy())
    label, patient = part.label[part.record], part.patient[part.record]
    on = {"originals": part.sig, "reconstructions": np.concatenate(out)}
    judged = {
        k: fidelity.label_fidelity(bench.classifier, label, patient, s) for k, s in on.items()
    }
    return {"fold": 9, "rmse_mv": error, "auroc": _without_statements(judged)}


def quick_checks(bench: Bench) -> dict:
    """What needs no training, on fold 10's labels: fidelity, heart rate, laws, novelty."""
    part, training = bench.real.folds(REPORT), bench.real.folds(TRAIN)
    label, patient = part.label[part.record], part.patient[part.record]
    made = load(bench.generated_like("fold-10", part, seed=10)).sig
    rates = np.linspace(50, 120, N_ASKED)
    asked = [Labels(atrial_substrate="normal", heart_rate=float(r)) for r in rates]
    afib = [Labels(atrial_substrate="abnormal", statements=("AFIB",))] * N_ASKED
    sinus = [Labels(statements=("SR",))] * N_ASKED
    near = {
        "generated": likeness(made, training.sig, part.preparation.fs),
        "real": likeness(part.sig, training.sig, part.preparation.fs),
    }
    limit = float(np.quantile(near["real"], 0.99))
    found: dict = {}
    if all("AFIB" in m.card.statements for m in (bench.generator, bench.classifier)):
        two = bench.generate(afib, seed=11), bench.generate(sinus, seed=12)
        found["afib"] = fidelity.afib_fidelity(bench.classifier, *two)
    return found | {
        "fidelity": {
            "generated": fidelity.label_fidelity(bench.classifier, label, patient, made),
            "real": fidelity.label_fidelity(bench.classifier, label, patient, part.sig),
        },
        "heart_rate": fidelity.heart_rates(
            bench.generate(asked, seed=13), bench.generator.card.fs, rates.tolist()
        ),
        "limb_lead_error_mv": fidelity.limb_lead_error(twelve_leads(made.astype(np.float32))),
        "nearest": {
            **{k: v.round(4).tolist() for k, v in near.items()},
            "real_q99": limit,
            "generated_above_real_q99": float((near["generated"] > limit).mean()),
        },
    }


def compare_settings(bench: Bench) -> list[dict]:
    """A row for each number of steps and guidance scale, and for the card's default: the cost, and
    how much a classifier learns from as many ECGs, read on fold 9."""
    training = bench.real.folds(TRAIN)
    part = first(training, np.random.default_rng(0).permutation(len(training.sig))[:SMALL_SET])
    real = bench.work / "real-small.npz"
    if not real.exists():
        save(part, real)
    label, patient = part.label[part.record], part.patient[part.record]
    rows, trials = [{"real": True}], [trial(bench, "small-real", (real,), 0)]
    default = bench.generator.card.diffusion
    steps = default.flow_map.num_steps if default.flow_map else STEPS
    settings = dict.fromkeys(itertools.product(steps, SCALES))
    settings |= {(default.num_steps, default.guidance_scale): None}
    for num_steps, scale in settings:
        changes = {"num_steps": num_steps, "guidance_scale": scale}
        d = default.model_copy(update=changes)
        path = bench.generated_like("small", part, 20, d)
        print(f"{path.stem}: {len(part.sig)} ECGs", flush=True)
        judged = fidelity.label_fidelity(bench.classifier, label, patient, load(path).sig)
        figure = judged.get("macro", judged["atrial"])
        rows.append({**changes, "network_calls": calls_of(d), "fidelity": figure})
        trials.append(trial(bench, path.stem, (path,), 0))
    outcomes = run_all(trials, bench.work / "trials", bench.workers)
    for row, outcome in zip(rows, outcomes, strict=True):
        row |= {f"fold_{fold}": read(bench, outcome, fold) for fold in (*CHOOSE, *REPORT)}
    return rows


def judge_tstr(bench: Bench) -> dict:
    """Classifiers trained on real, on as many generated and on both, read on fold 10."""
    training = bench.real.folds(TRAIN)
    trials = []
    for seed in bench.seeds:
        made = bench.generated_like(f"training-{seed}", training, 100 + seed)
        shards = {"real": (bench.data,), "generated": (made,), "both": (bench.data, made)}
        names = {"real": f"real-{seed}", "generated": made.stem, "both": f"both-{made.stem}"}
        trials += [trial(bench, names[kind], shards[kind], seed) for kind in KINDS]
    outcomes = run_all(trials, bench.work / "trials", bench.workers)
    logits = {k: [o.logits[REPORT[0]] for o in outcomes[i::3]] for i, k in enumerate(KINDS)}
    part = bench.real.folds(REPORT)
    label, patient = segment_labels(part, outcomes[0].statements), part.patient[part.record]
    common = 1 + common_columns(label[:, 1:])
    found: dict = {
        "n_real": len(training.sig), "n_test": len(part.sig), "n_statements": len(common),
        "seeds": list(bench.seeds), "classifier_steps": bench.classifier_steps,
    }  # fmt: skip
    every = np.arange(len(label))
    for name in ("macro", "atrial") if len(common) else ("atrial",):

        def auroc_of(kind: str, rows: np.ndarray, name: str = name) -> float:
            return mean_score(name, label[rows], [x[rows] for x in logits[kind]], common)

        def ratio(kind: str, rows: np.ndarray, of=auroc_of) -> float:
            return of(kind, rows) / of("real", rows)

        def with_interval(figure, kind: str) -> dict:
            drawn = bootstrap(lambda rows: figure(kind, rows), patient, N_RESAMPLES)
            return {"value": figure(kind, every), "interval": drawn}

        found[name] = {
            **{kind: with_interval(auroc_of, kind) for kind in KINDS},
            **{f"{kind}_to_real": with_interval(ratio, kind) for kind in KINDS[1:]},
        }
        for kind in KINDS:
            each = [mean_score(name, label, [x], common) for x in logits[kind]]
            found[name][kind]["seeds"] = each
    return found


def trial(bench: Bench, name: str, paths: Iterable[Path], seed: int) -> Trial:
    steps = bench.classifier_steps // 3 if name.startswith("small") else bench.classifier_steps
    return Trial(name, tuple(map(str, paths)), str(bench.data), seed, steps, bench.preset)


def read(bench: Bench, outcome: Outcome, fold: int) -> dict[str, float]:
    part = bench.real.folds((fold,))
    return scores(segment_labels(part, outcome.statements), outcome.logits[fold])


def first(part: Shard, rows: np.ndarray) -> Shard:
    """The segments `rows` of the part."""
    arrays = ("sig", "lead_mask", "n_valid", "record")
    return Shard(**{**vars(part), **{name: getattr(part, name)[rows] for name in arrays}})


def _without_statements(judged: dict[str, dict]) -> dict[str, dict]:
    return {k: {n: f for n, f in v.items() if n != "statements"} for k, v in judged.items()}
