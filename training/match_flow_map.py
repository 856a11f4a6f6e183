"""python -m training.match_flow_map: a flow map tuned so that its ECGs are as likely as the
denoiser's."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import nn

from training import config as configs
from training import processes, trajectories
from training.export_generator import load
from training.generators.features import Distance
from training.ldm.denoiser import Denoiser, DenoiserConfig, told
from training.ldm.flow_map import errors, made
from training.ldm.matching import Critics, MatchingBatches, MatchingConfig, matched
from training.loop import LoopConfig, begin, drive
from training.trajectories import Trajectories


@dataclass(frozen=True)
class MatchingRun:
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.match_flow_map", description=__doc__)
    configs.add_arguments(parser, "matching")
    parser.add_argument("--flow-map", type=Path, default=Path("runs/flow_map"), help="its run")
    parser.add_argument("--teacher", type=Path, default=Path("runs/denoiser"), help="its run")
    parser.add_argument("--trajectories", type=Path, default=Path("runs/trajectories"))
    parser.add_argument("--run", type=Path, default=Path("runs/matched"), help="resumed if begun")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    args = parser.parse_args()
    config = configs.load(MatchingRun, "matching", args.preset, args.overrides)
    known = json.loads((args.flow_map / "run.json").read_text())
    d = known["flow_map"]["diffusion"]
    set_seed(config.loop.seed)
    student, decoder = load(args.flow_map, known)
    critics = Critics(network_of(args.teacher), config.matching)
    if args.dry_run:
        processes.say(configs.dump(config))
        return
    of = {
        name: at_scale(trajectories.read(args.trajectories, name), d["guidance_scale"])
        for name in ("training", "held-out")
    }
    processes.agree(configs.dump(config), [], [*student.parameters(), *critics.parameters()])
    if processes.is_first():
        args.run.mkdir(parents=True, exist_ok=True)
        known["flow_map"] |= {
            "guidance": [d["guidance_scale"]] * 2,
            "matched": {"preset": args.preset, "config": json.loads(configs.dump(config))},
        }
        (args.run / "run.json").write_text(json.dumps(known, indent=1))
    held_out = of["held-out"]
    real = decoded(decoder, torch.from_numpy(held_out.x[:, -1]).float())
    size = real.std(dim=(0, 2), keepdim=True)
    apart = Distance(real / size, torch.from_numpy(held_out.labels))
    calls = config.matching.calls
    # From other noise: ends of the same noise as the denoiser's are near them by that alone.
    x = held_out.x.copy()
    drawn = np.random.default_rng(9).standard_normal(x[:, 0].shape)
    x[:, 0] = held_out.sigmas[0] * drawn
    others = replace(held_out, x=x)

    def evaluate(ema: nn.Module) -> dict[str, float]:
        sig = decoded(decoder, made(ema, others, calls))
        distance = apart.of(sig / size)
        return {
            **errors(ema, held_out, (calls,)),
            "size": float(sig.square().mean().sqrt() / real.square().mean().sqrt()),
            "distance": distance,
            "score": -distance,
        }

    with processes.none_lost():
        accelerator = begin(config.loop)
        trainee = matched(
            accelerator, student, critics, d["guidance_scale"], held_out.sigmas,
            DenoiserConfig(**known["config"]["model"]).sigma_data, config.matching, config.loop,
        )  # fmt: skip
        batches = MatchingBatches(of["training"], config.loop.batch_size, config.loop.seed)
        drive(accelerator, trainee, batches, evaluate, config.loop, args.run, args.minutes)


def network_of(run: Path) -> Denoiser:
    """A run's best weights, to be trained on."""
    known = json.loads((run / "run.json").read_text())
    model = Denoiser(
        len(known["offset"]), len(told(known)), DenoiserConfig(**known["config"]["model"])
    )
    model.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    return model


def at_scale(t: Trajectories, guidance_scale: float) -> Trajectories:
    """Those that were solved at this guidance. Errors: SystemExit where there is none."""
    rows = t.guidance_scale == guidance_scale
    if not rows.any():
        raise SystemExit(f"no trajectory has the guidance {guidance_scale:g}")
    return replace(t, x=t.x[rows], labels=t.labels[rows], guidance_scale=t.guidance_scale[rows])


@torch.inference_mode()
def decoded(decoder: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """mV."""
    return torch.cat([decoder(part) for part in latents.split(64)])


if __name__ == "__main__":
    main()
