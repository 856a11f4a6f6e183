"""python -m training.import_generator: a stored generator as runs, to be trained on or refined.

    python -m training.import_generator --stored models_store/ldm

Its denoiser and decoder are read back from what is served. An encoder is not: it is not shipped,
since more can be told by it of who was trained on, so one is trained here for the decoder as it is.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ecg.errors import StoreError
from ecg.store import Generator, load_generator
from training import config as configs
from training import processes
from training.ldm.stored import ENCODER, decoder_of, denoiser_of
from training.train_autoencoder import AutoencoderRun, load_whole, train_on


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
    train_on(load_whole(args.data), autoencoder, replace(config, model=model), args.autoencoder,
             args.minutes)  # fmt: skip


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
