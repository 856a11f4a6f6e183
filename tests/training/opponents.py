"""An adversarial training as one of several processes.

    python -m tests.training.opponents FOLDER

Leaves the networks that this process ends with in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from training import adversarial, loop, processes
from training.generators.gans import Critic, GanConfig, GanGenerator
from training.generators.objectives import D2gan

CONFIG = loop.LoopConfig(steps=3, batch_size=4, warmup=1, eval_every=3, precision="no", lr=1e-2)
SIZES = GanConfig(patch=64, widths=(16, 16), attention=0, n_noise=8, n_embedding=16)


def main() -> None:
    folder = Path(sys.argv[1])
    state = processes.state()
    torch.manual_seed(0)
    generator = GanGenerator(3, 1000, SIZES)
    critics = nn.ModuleList(Critic(3, SIZES) for _ in range(2))

    def batches(step: int, process: int, n: int) -> dict[str, torch.Tensor]:
        chance = torch.Generator().manual_seed(10 * step + process)
        sig = torch.randn(4 // n, 8, 1000, generator=chance)
        return {"latents": sig, "labels": torch.ones(4 // n, 3)}

    adversarial.train(
        generator, critics, D2gan(), batches, lambda ema: {"score": 0.0}, CONFIG, folder / "run"
    )
    ended = {"generator": generator.state_dict(), "critics": critics.state_dict()}
    torch.save(ended, folder / f"ended-{state.process_index}.pt")


if __name__ == "__main__":
    main()
