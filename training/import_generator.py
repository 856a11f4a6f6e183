"""python -m training.import_generator: a stored generator as runs, to be trained on or refined.

    python -m training.import_generator --stored models_store/ldm

Its denoiser and decoder are read back from what is served. An encoder is not: it is not shipped,
since more can be told by it of who was trained on, so one is trained here for the decoder as it is.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ecg.errors import StoreError
from ecg.generation import generate_latents
from ecg.store import Generator, load_generator
from training import config as configs
from training import processes
from training.judging.embeddings import kept
from training.ldm.autoencoder import Autoencoder, ReconstructionLoss
from training.ldm.latents import labels_of
from training.ldm.stored import ENCODER, decoder_of, denoiser_of
from training.loop import train
from training.make_set import repeated
from training.shards import Shard
from training.train_autoencoder import AutoencoderRun, load_whole, reconstruct
from training.train_classifier import CHOOSE, TRAIN


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = configs.load(AutoencoderRun, "autoencoder", args.preset, args.overrides)
    try:
        generator = load_generator(args.stored, "cpu")
    except StoreError as error:
        raise SystemExit(str(error)) from None
    if generator.card.diffusion.flow_map:
        raise SystemExit(f"{args.stored} is a flow map: import the denoiser that it was made from")
    denoiser, sizes = denoiser_of(args.stored, generator.card)
    autoencoder, model, offset, scale = decoder_of(args.stored, generator.card)
    for name, parameter in autoencoder.named_parameters():
        parameter.requires_grad_(name.startswith(ENCODER))
    described = {
        **description(generator, args.stored),
        "config": {"model": asdict(sizes)},
        "autoencoder": str(args.autoencoder),
        "offset": offset.ravel().tolist(),
        "scale": scale.ravel().tolist(),
    }
    if args.dry_run:
        processes.say(configs.dump(replace(config, model=model)))
        return
    if processes.is_first():
        args.run.mkdir(parents=True, exist_ok=True)
        (args.run / "run.json").write_text(json.dumps(described, indent=1))
        torch.save(denoiser.state_dict(), args.run / "best.pt")
    parts = load_whole(args.data)
    latents = own_latents(generator, parts, args.n, config.loop.seed, args.autoencoder)
    train_encoder(parts, autoencoder, latents * scale + offset, scale, replace(config, model=model),
                  args.autoencoder, args.minutes)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.import_generator", description=described.partition(": ")[2],
        epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    configs.add_arguments(p, "autoencoder")
    p.add_argument("--stored", type=Path, default=Path("models_store/ldm"))
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--run", type=Path, default=Path("runs/denoiser"), help="the denoiser's")
    p.add_argument("--autoencoder", type=Path, default=Path("runs/autoencoder"), help="its run")
    p.add_argument(
        "-n", type=int, default=1024, help="ECGs of its own that the encoder learns from"
    )
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    return p


def own_latents(
    generator: Generator, parts: list[Shard], n: int, seed: int, run: Path
) -> np.ndarray:
    """float32 [n, latents, time], normalised: of ECGs that the generator makes with the labels of
    training records. Kept in the run."""
    statements = generator.card.statements

    def make() -> np.ndarray:
        known = [
            labels_of(part, i, statements)
            for part in (whole.folds(TRAIN) for whole in parts)
            for i in range(len(part.sig))
        ]
        rows = repeated(len(known), n / len(known), seed)
        made = [
            generate_latents(generator, [known[i] for i in rows[start : start + 16]],
                             range(start, min(start + 16, n)), seed)
            for start in tqdm(range(0, n, 16), desc="ECGs of its own", unit=" batches")
        ]  # fmt: skip
        return np.concatenate(made)

    return kept(run, f"latents-{generator.card.sha256[:12]}-{seed}-{n}", make)


def train_encoder(
    parts: list[Shard],
    model: Autoencoder,
    latents: np.ndarray,
    scale: np.ndarray,
    config: AutoencoderRun,
    run: Path,
    minutes: float,
) -> None:
    """So that the decoder's own ECGs are encoded as what they were decoded from, and that of real
    ones as much as possible comes back. From real ones alone it goes astray: the decoder knows what
    to make of latents like its own only."""
    training, held_out = (
        np.concatenate([part.folds(folds).sig for part in parts]) for folds in (TRAIN, CHOOSE)
    )
    with torch.no_grad():  # how sure an encoder is of its latents nobody can tell afterwards
        model.encoder[-1].weight[config.model.n_latents :] = 0
    if processes.is_first():
        run.mkdir(parents=True, exist_ok=True)
        (run / "run.json").write_text(configs.dump(config))
    seed, size = config.loop.seed, config.loop.batch_size
    per_scale = 1 / torch.from_numpy(scale)

    def batches(step: int, process: int, processes: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step, process))
        n = max(1, size // processes // 2)
        real, made = rng.integers(len(training), size=n), rng.integers(len(latents), size=n)
        shifted = np.roll(latents[made], rng.integers(latents.shape[2]), axis=2)
        return {
            "sig": torch.from_numpy(training[real].astype(np.float32)),
            "latents": torch.from_numpy(shifted),
        }

    reconstruction = ReconstructionLoss(replace(config.model, kl_weight=0.0))

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        latents = batch["latents"]
        with torch.no_grad():
            made = getattr(model, "module", model).decode(latents).float()
        sig = torch.cat([batch["sig"], made])
        answer = model(sig)
        missed = (answer[1][-len(made) :].float() - latents) * per_scale.to(latents.device)
        return reconstruction(lambda _: answer, {"sig": sig}) + missed.square().mean()

    def evaluate(ema: nn.Module) -> dict[str, float]:
        return reconstruct(ema, held_out)

    train(model, loss, batches, evaluate, config.loop, run, minutes)


def description(generator: Generator, folder: Path) -> dict[str, object]:
    """What a denoiser's run says of itself, as far as the card knows it."""
    card = generator.card
    return {
        "preset": "imported",
        "imported": {
            "name": card.name,
            "version": card.version,
            "sha256": card.sha256,
            "trained_as": card.limitations[-1],
        },
        "initial": str(folder),
        "statements": list(card.statements),
        "preparation": json.loads(configs.dump(card.preparation)),
        "sources": {data.name: data.records for data in card.training_data},
    }


if __name__ == "__main__":
    main()
