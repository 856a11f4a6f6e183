"""A training command as one of several processes, so that they can be compared with one alone.

    python -m tests.training.together VERB FOLDER ARGUMENTS...

All that chance decides is in the batch here, and a process that is alone gets what two would have
shared. Leaves each step's batch and gradients in FOLDER, which the environment may tell to stop:
STOP_AT, a step; FAST_CLOCK, how much faster this process's time runs.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from training import loop, processes
from training.ldm.autoencoder import Autoencoder


def main() -> None:
    verb, folder, *arguments = sys.argv[1:]
    module = importlib.import_module(f"training.{verb}")
    state, here = processes.state(), Path(folder)
    take_chance_away()
    keep_gradients(here, state.process_index)
    if "FAST_CLOCK" in os.environ:
        fast, real = float(os.environ["FAST_CLOCK"]), time.monotonic
        loop.time.monotonic = lambda: fast * real()

    def train(model, loss, batches, *rest) -> None:
        def share(step: int, process: int) -> dict[str, torch.Tensor]:
            batch = batches(step, process, 2)
            if verb == "train_denoiser":
                generator = torch.Generator().manual_seed(2 * step + process)
                batch["noise"] = torch.randn(batch["latents"].shape, generator=generator)
                batch["sigma"] = torch.rand(len(batch["noise"]), generator=generator) + 0.1
            return batch

        def given(step: int, process: int, n: int) -> dict[str, torch.Tensor]:
            if step == int(os.environ.get("STOP_AT", -1)):
                sys.exit()
            batch = share(step, process)
            if n == 1:
                batch = {k: torch.cat([v, share(step, 1)[k]]) for k, v in batch.items()}
            torch.save(batch, here / f"batch-{step}-{process}.pt")
            return batch

        loop.train(model, loss, given, *rest)

    module.train = train
    sys.argv = [module.__name__, *arguments]
    module.main()


def take_chance_away() -> None:
    """Latents at their mean; batch normalisation, which each process does for its share, by what
    it has kept."""

    def forward(self, sig):
        mean, logvar = self.encode(sig)
        return self.decode(mean, sig.shape[2]), mean, logvar

    Autoencoder.forward = forward
    nn.BatchNorm1d.train = lambda self, mode=True: nn.Module.train(self, False)


def keep_gradients(folder: Path, process: int) -> None:
    real, done = torch.optim.AdamW.step, []

    def step(self, *args, **kwargs):
        gradients = [p.grad.clone() for group in self.param_groups for p in group["params"]]
        torch.save(gradients, folder / f"gradients-{len(done)}-{process}.pt")
        done.append(None)
        return real(self, *args, **kwargs)

    torch.optim.AdamW.step = step


if __name__ == "__main__":
    main()
