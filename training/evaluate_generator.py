"""python -m training.evaluate_generator: what the stored generator's ECGs are worth.

Settings of the sampler are compared on fold 9; the card's default is reported on fold 10.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from ecg.generated import twelve_leads
from ecg.store import load_classifier, load_generator
from training import judge
from training.judging import judgement
from training.judging.beside_real import Case
from training.judging.beside_real import judge as judge_set
from training.judging.evaluation_page import write_report
from training.judging.judgement import Bench, calls_of, digest
from training.judging.page import sections
from training.ldm.latents import labels_of
from training.shards import CODES, load
from training.train_autoencoder import whole_segments
from training.train_classifier import REPORT, TRAIN

SEEDS = (0, 1, 2)


def main() -> None:
    args = parser().parse_args()
    generator = load_generator(args.store / args.name, args.device)
    sha = generator.card.sha256
    work = args.work / f"{sha[:8]}-{digest(generator.card.diffusion)}"
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        generator=generator,
        classifier=load_classifier(args.store / args.classifier, args.device),
        real=whole_segments(load(args.data / f"{args.source}.npz")),
        data=args.data / f"{args.source}.npz",
        work=work,
        workers=args.workers,
        batch_size=args.batch_size,
        seeds=SEEDS[: args.seeds],
        preset=args.preset,
        classifier_steps=args.classifier_steps,
    )
    found: dict[str, object] = {
        "generator": {"name": args.name, "version": generator.card.version, "sha256": sha},
        "classifier": {"name": args.classifier, "sha256": bench.classifier.card.sha256},
        "diffusion": generator.card.diffusion.model_dump(),
        "network_calls": calls_of(generator.card.diffusion),
        "source": args.source,
        "data": f"{args.source}: generator trained on folds 1-8; fold 9 chose, fold 10 reports",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {generator.device}",
        "made": time.strftime("%Y-%m-%d"),
    }
    if (args.autoencoder / "best.pt").exists():
        found["autoencoder"] = judgement.judge_autoencoder(bench, args.autoencoder)
    found |= judgement.quick_checks(bench)
    if not args.no_settings:
        found["settings"] = judgement.compare_settings(bench)
    found["tstr"] = judgement.judge_tstr(bench)
    found["judged"] = judge_set(case_of(bench, args))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "evaluation.json").write_text(json.dumps(found, indent=1, default=_plain) + "\n")
    write_report(args.out, found, examples(bench), sections(found["judged"]))
    print(f"{args.out / 'index.html'}")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m training.evaluate_generator", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--source", default="ptb-xl", help="the shard that the generator learned from")
    p.add_argument("--store", type=Path, default=Path("models_store"))
    p.add_argument("--name", default="ldm")
    p.add_argument("--classifier", default="prednet", help="judges the labels")
    p.add_argument("--autoencoder", type=Path, default=Path("runs/autoencoder"))
    p.add_argument("--work", type=Path, default=Path("runs/evaluation"), help="resumed if begun")
    p.add_argument("--out", type=Path, default=Path("training/reports/ldm"))
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="1 where there is a GPU")
    p.add_argument("--batch-size", type=int, default=16, help="16 for a CPU, 256 for a GPU")
    p.add_argument("--seeds", type=int, choices=range(1, len(SEEDS) + 1), default=len(SEEDS))
    p.add_argument("--preset", default="cpu", help="prednet's, of the classifiers trained for TSTR")
    p.add_argument("--classifier-steps", type=int, default=800)
    judge.add_judges(p)
    p.add_argument("--no-settings", action="store_true", help="leave the settings' comparison out")
    return p


def case_of(bench: Bench, args: argparse.Namespace) -> Case:
    """The sets with labels of the training folds and of fold 10, to be judged beside real ECGs."""
    real = bench.real
    made = (
        bench.generated_like("training-0", real.folds(TRAIN), 100),
        bench.generated_like("fold-10", real.folds(REPORT), 10),
    )
    has_autoencoder = (args.autoencoder / "best.pt").exists()
    return Case(
        real=real,
        made=judge.joined([load(path) for path in made]),
        embeddings=judge.chosen(args, real.preparation.fs),
        work=bench.work / "judged",
        steps=args.blind_steps,
        runs=tuple(args.denoisers),
        autoencoder=args.autoencoder if has_autoencoder else None,
        noises=args.noises,
    )


def examples(bench: Bench) -> list[dict]:
    """Real ECGs of fold 10 and generated ones with the same labels, twelve leads, for prints."""
    part = bench.real.folds(REPORT)
    made = load(bench.generated_like("fold-10", part, seed=10)).sig
    label, statements = part.label[part.record], bench.generator.card.statements
    shown, rng = [], np.random.default_rng(1)
    for code in ("NORM", "AFIB", "LAO/LAE", "CLBBB", "LVH", "PVC"):
        rows = np.flatnonzero(label[:, 1 + CODES.index(code)] == 1)
        if not len(rows):
            continue
        row = int(rng.choice(rows))
        for kind, sig in (("real", part.sig[row]), ("generated", made[row])):
            whole = twelve_leads(sig[None].astype(np.float32))[0]
            labels = labels_of(part, row, statements)
            shown.append({"code": code, "kind": kind, "sig": whole, "labels": labels})
    return shown


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value))


if __name__ == "__main__":
    main()
