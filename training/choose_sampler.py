"""python -m training.choose_sampler: a stored generator's samplers beside each other, on fold 9.

    python -m training.choose_sampler --num-steps 4 5 6 --guided-above 0.05 0.15
    python -m training.choose_sampler --take 3 --version 1.2.0

Each combination makes an ECG for each label of fold 9, from the same noise. How far these are from
the real ones, how large they are and how well the stored classifier finds their labels stands
beside the network calls that an ECG costs. `--take` writes the sampler of a row on the card; the
weights stay what they are. Once `training.evaluate_generator` has judged it, take it again with
`--evaluation`, for the card's figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ecg.card import Diffusion, GeneratorCard
from ecg.errors import StoreError
from ecg.generation import generate_many
from ecg.labels import encode
from ecg.sampler import course
from ecg.store import CARD, Classifier, Generator, load_classifier, load_generator
from training.export import write_table
from training.export_generator import metrics
from training.generators.features import Distance
from training.judging.fidelity import label_fidelity
from training.ldm.latents import labels_of
from training.shards import Shard, load
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE

NAMES = ("num_steps", "sigma_max", "sigma_min", "rho", "guidance_scale", "guided_above")


@dataclass(frozen=True)
class Beside:
    """What samplers are compared by: real segments of fold 9, and who reads labels."""

    generator: Generator
    classifier: Classifier
    part: Shard
    seed: int
    workers: int

    def judged(self, samplers: list[Diffusion]) -> Iterator[dict]:
        """A row a sampler: what it differs in, `network_calls`, the Frechet `distance` to the real
        ECGs, the `size` (rms, of the real ones') and the macro AUROC of the labels asked for."""
        statements = self.generator.card.statements
        labels = [labels_of(self.part, i, statements) for i in range(len(self.part.sig))]
        real = torch.from_numpy(self.part.sig.astype(np.float32))
        scale = real.std(dim=(0, 2), keepdim=True)
        encoded = np.stack([encode(one, statements) for one in labels])
        apart = Distance(real / scale, torch.from_numpy(encoded))
        label, patient = (of[self.part.record] for of in (self.part.label, self.part.patient))
        for d in samplers:
            batches = generate_many(
                self.generator, labels, range(len(labels)), self.seed, d, workers=self.workers
            )
            made = torch.from_numpy(np.concatenate(list(batches)))
            found = label_fidelity(self.classifier, label, patient, made.numpy())
            yield {
                "diffusion": d.model_dump(mode="json"),
                "network_calls": course(d, d.num_steps, d.guidance_scale).network_calls,
                "distance": apart.of(made / scale),
                "size": float(made.square().mean().sqrt() / real.square().mean().sqrt()),
                "labels": found.get("macro", found["atrial"])["value"],
            }


def main() -> None:
    args = parser().parse_args()
    folder = args.store / args.name
    try:
        generator = load_generator(folder, args.device)
    except StoreError as error:
        raise SystemExit(str(error)) from None
    if generator.card.diffusion.flow_map is not None:
        raise SystemExit(f"{folder} is a flow map: its noise levels are those it learned")
    kept = args.out / f"samplers-{generator.card.sha256[:8]}.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    if args.take is not None:
        take(folder, generator.card, rows, args)
        return
    known = [row["diffusion"] for row in rows]
    samplers = [d for d in asked(generator.card.diffusion, args)
                if d.model_dump(mode="json") not in known]  # fmt: skip
    real = whole_segments(load(args.data / f"{args.source}.npz")).folds(CHOOSE)
    classifier = load_classifier(args.store / args.classifier, args.device)
    beside = Beside(generator, classifier, real, args.seed, args.workers)
    for row in tqdm(beside.judged(samplers), total=len(samplers), unit=" samplers"):
        rows.append(row)
        args.out.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(rows, indent=1) + "\n")
    for line in table(rows, generator.card.diffusion):
        print(line)


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.choose_sampler", description=described.partition(": ")[2],
        epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--store", type=Path, default=Path("models_store"))
    p.add_argument("--name", default="ldm")
    p.add_argument("--classifier", default="prednet", help="that reads the labels")
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--source", default="ptb-xl", help="the shard that the generator learned from")
    p.add_argument("--out", type=Path, default=Path("runs"), help="where rows are kept")
    p.add_argument("--seed", type=int, default=5, help="of the noise")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="1 where there is a GPU")
    of = p.add_argument_group("samplers", "every combination; the card's own where none is given")
    for name in NAMES:
        kind = int if name == "num_steps" else float
        of.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", metavar="X")
    p.add_argument("--take", type=int, metavar="ROW", help="write this row's sampler on the card")
    p.add_argument("--version", help="of the card that is written")
    p.add_argument("--evaluation", type=Path, help="an evaluation.json of this sampler")
    return p


def asked(default: Diffusion, args: argparse.Namespace) -> list[Diffusion]:
    """Every combination, the card's default first. Errors: SystemExit where one is none."""
    given = {name: getattr(args, name) for name in NAMES if getattr(args, name)}
    found = {default.model_dump_json(): default}
    for values in itertools.product(*given.values()):
        changes = dict(zip(given, values, strict=True))
        low = changes.pop("guided_above", default.guidance_interval[0])
        changes["guidance_interval"] = (low, default.guidance_interval[1])
        d = default.model_copy(update=changes)
        if not (d.num_steps >= 1 and d.rho > 0 and 0 < d.sigma_min < d.sigma_max):
            raise SystemExit(
                f"no sampler: {changes}; at least a step, rho above 0, sigma_min below sigma_max"
            )
        found[d.model_dump_json()] = d
    return list(found.values())


def take(folder: Path, card: GeneratorCard, rows: list[dict], args: argparse.Namespace) -> None:
    """The card with that row's sampler and without figures that are another's.

    Errors: SystemExit where there is no such row, no version, or the evaluation is of another.
    """
    if not 1 <= args.take <= len(rows):
        raise SystemExit(f"--take {args.take}: there are rows 1 to {len(rows)}; compare some first")
    if not args.version:
        raise SystemExit("--version: a card with another sampler is another version")
    d = rows[args.take - 1]["diffusion"]
    if args.evaluation and json.loads(args.evaluation.read_text())["diffusion"] != d:
        raise SystemExit(f"refused: {args.evaluation} judges another sampler")
    changed = {
        "version": args.version,
        "created": date.today().isoformat(),
        "diffusion": d,
        "metrics": [m.model_dump() for m in metrics(args.evaluation, card.sha256)],
    }
    written = GeneratorCard.model_validate({**card.model_dump(), **changed})
    (folder / CARD).write_text(written.model_dump_json(indent=1) + "\n")
    write_table(args.store)
    print(f"{folder / CARD}: {args.version}, {rows[args.take - 1]['network_calls']} network calls")


def table(rows: list[dict], default: Diffusion) -> Iterator[str]:
    """The rows, the fewest calls first; `*` marks the card's own."""
    yield "row  calls  steps  sigma_max  sigma_min  rho  guided  above  distance  size  labels"
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["network_calls"], rows[i]["distance"]))
    for i in order:
        row, d = rows[i], rows[i]["diffusion"]
        own = "*" if d == default.model_dump(mode="json") else " "
        yield (
            f"{i + 1:3}{own} {row['network_calls']:6} {d['num_steps']:6} {d['sigma_max']:10g} "
            f"{d['sigma_min']:10g} {d['rho']:4g} {d['guidance_scale']:7g} "
            f"{d['guidance_interval'][0]:6g} {row['distance']:9.1f} {row['size']:5.2f} "
            f"{row['labels']:7.3f}"
        )


if __name__ == "__main__":
    main()
