"""python -m training.train_flow_map: ECG-LDM in one to eight calls, taught by its denoiser."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.utils import set_seed
from torch import nn

from training import config as configs
from training import processes, trajectories
from training.ldm.denoiser import Denoiser, DenoiserConfig, told
from training.ldm.flow_map import FlowMapBatches, FlowMapConfig, FlowMapLoss, errors
from training.loop import LoopConfig, train
from training.train_denoiser import begin_from


@dataclass(frozen=True)
class FlowMapRun:
    flow_map: FlowMapConfig = field(default_factory=FlowMapConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.train_flow_map", description=__doc__)
    configs.add_arguments(parser, "flow_map")
    parser.add_argument("--trajectories", type=Path, default=Path("runs/trajectories"))
    parser.add_argument("--teacher", type=Path, default=Path("runs/denoiser"), help="its run")
    parser.add_argument("--run", type=Path, default=Path("runs/flow_map"), help="resumed if begun")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    args = parser.parse_args()
    config = configs.load(FlowMapRun, "flow_map", args.preset, args.overrides)
    plan = json.loads((args.trajectories / "plan.json").read_text())
    known = plan["teacher"]
    described = {**known, "flow_map": {
        "preset": args.preset, "config": json.loads(configs.dump(config)),
        "diffusion": plan["diffusion"], "guidance": plan["guidance"],
    }}  # fmt: skip
    set_seed(config.loop.seed)
    sizes = DenoiserConfig(**known["config"]["model"])
    model = Denoiser(len(known["offset"]), len(told(described)), sizes)
    begin_from(args.teacher, model, told(described))
    processes.say(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    if args.dry_run:
        processes.say(configs.dump(config))
        return
    training = trajectories.read(args.trajectories, "training")
    held_out = trajectories.read(args.trajectories, "held-out")
    processes.agree(configs.dump(config), [], [*model.parameters()])
    if processes.is_first():
        args.run.mkdir(parents=True, exist_ok=True)
        described["flow_map"]["trajectories"] = len(training.x)
        (args.run / "run.json").write_text(json.dumps(described, indent=1))

    def evaluate(ema: nn.Module) -> dict[str, float]:
        figures = errors(ema, held_out, config.flow_map.calls)
        return {**figures, "score": -figures["rms_2"]}

    train(
        model,
        FlowMapLoss(config.flow_map, sizes.sigma_data),
        FlowMapBatches(training, config.flow_map, config.loop.batch_size, config.loop.seed),
        evaluate,
        config.loop,
        args.run,
        args.minutes,
    )


if __name__ == "__main__":
    main()
