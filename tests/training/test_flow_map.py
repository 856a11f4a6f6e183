"""ECG-LDM in few calls: what it learns from, what it learns, and the commands end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg.generation import generate
from ecg.labels import Labels
from ecg.sampler import SamplerError
from ecg.sampling import noise_levels
from ecg.store import load_generator
from tests.training.commands import command
from tests.training.test_generator import data  # noqa: F401
from training import membership
from training.ldm.denoiser import Denoiser, DenoiserConfig
from training.ldm.flow_map import FlowMapBatches, FlowMapConfig, FlowMapLoss, ends, errors
from training.ldm.matching import Critics, MatchingBatches, MatchingConfig, matched
from training.loop import LoopConfig, begin
from training.shards import load
from training.train_autoencoder import load_autoencoder
from training.trajectories import Trajectories

SPREAD, MEAN, N_LEVELS = 0.5, 0.3, 8
SIGMAS = noise_levels(N_LEVELS, 0.02, 10.0, 4.0)


@pytest.fixture
def trajectories() -> Trajectories:
    """Of a Gaussian, whose flow is known exactly."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((256, 1, 2, 16))
    x = MEAN + noise * np.sqrt(SPREAD**2 + SIGMAS**2)[None, :, None, None]
    scale = np.full(256, 2.5, np.float32)
    return Trajectories(SIGMAS, x.astype(np.float16), np.zeros((256, 3), np.float32), scale)


class Exact(torch.nn.Module):
    """The Gaussian's own flow map, off by `wrong`."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.wrong = torch.nn.Parameter(torch.tensor(wrong))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        levels = torch.tensor(SIGMAS, dtype=torch.float32)
        s = levels[1:][labels[:, -N_LEVELS:].argmax(dim=1)][:, None, None]
        sigma = sigma[:, None, None]
        end = MEAN + (x - MEAN) * ((SPREAD**2 + s**2) / (SPREAD**2 + sigma**2)).sqrt()
        return (end - s / sigma * x) / (1 - s / sigma) + self.wrong


def test_the_loss_is_least_where_the_jumps_are_the_flow(trajectories: Trajectories) -> None:
    batch = FlowMapBatches(trajectories, FlowMapConfig(), 512, seed=0)(0, 0, 1)
    loss = FlowMapLoss(FlowMapConfig(), SPREAD)
    values = [loss(Exact(wrong), batch).item() for wrong in (0.0, 0.01, 0.1)]
    assert values[0] < 1e-3
    assert values[0] < values[1] < values[2]


def test_errors_are_those_of_the_sampler_in_so_many_calls(trajectories: Trajectories) -> None:
    assert max(errors(Exact(), trajectories, (1, 2, 4, 8)).values()) < 0.01
    assert errors(Exact(0.1), trajectories, (1,))["rms_1"] == pytest.approx(0.1, abs=0.01)


def test_jumps_are_drawn_by_their_samplers_share(trajectories: Trajectories) -> None:
    config = FlowMapConfig(calls=(2, 8), share=(0.75, 0.25))
    batch = FlowMapBatches(trajectories, config, 4000, seed=0)(0, 0, 1)
    sigma, s = batch["sigma"].numpy(), batch["s"].numpy()
    half = SIGMAS[N_LEVELS // 2]
    first = np.isclose(sigma, SIGMAS[0]) & np.isclose(s, half)
    last = np.isclose(sigma, half) & (s == 0)
    assert first.mean() == pytest.approx(0.375, abs=0.03)
    assert last.mean() == pytest.approx(0.375, abs=0.03)
    short = np.isclose(sigma[:, None], SIGMAS[:-1]) & np.isclose(s[:, None], SIGMAS[1:])
    assert short.any(axis=1).mean() == pytest.approx(0.25, abs=0.03)
    again = FlowMapBatches(trajectories, config, 4000, seed=0)(0, 0, 1)
    assert all(torch.equal(batch[k], again[k]) for k in batch)


@pytest.fixture
def stored(tmp_path: Path, data: Path) -> Path:  # noqa: F811
    """A flow map made by the commands, in a store."""
    shard_folder = data / "data"
    runs = {
        name: tmp_path / name
        for name in ("autoencoder", "denoiser", "trajectories", "map", "matched")
    }
    command("train_autoencoder", "--data", shard_folder, "--run", runs["autoencoder"])
    command(
        "train_denoiser", "--data", shard_folder, "--autoencoder", runs["autoencoder"],
        "--run", runs["denoiser"],
    )  # fmt: skip
    made = (
        "--data", shard_folder, "--run", runs["denoiser"], "--out", runs["trajectories"],
        "-n", 8, "--held-out", 8, "--precision", "no",
    )  # fmt: skip
    command("trajectories", *made, preset=None)
    with pytest.raises(AssertionError, match="begun with another seed"):
        command("trajectories", *made, "--seed", 1, preset=None)
    command(
        "train_flow_map", "--trajectories", runs["trajectories"], "--teacher", runs["denoiser"],
        "--run", runs["map"],
    )  # fmt: skip
    history = [json.loads(x) for x in (runs["map"] / "history.jsonl").read_text().splitlines()]
    assert np.isfinite([h["rms_2"] for h in history]).all()
    command(
        "match_flow_map", "--trajectories", runs["trajectories"], "--teacher", runs["denoiser"],
        "--flow-map", runs["map"], "--run", runs["matched"],
    )  # fmt: skip
    store = tmp_path / "store"
    command(
        "export_generator", "--run", runs["matched"], "--store", store, "--version", "2.0.0",
        preset=None,
    )  # fmt: skip
    return store / "ldm"


def test_what_the_commands_make_is_served_in_two_calls(
    stored: Path,
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    generator = load_generator(stored, "cpu")
    d = generator.card.diffusion
    assert (d.num_steps, d.flow_map.n_levels, d.flow_map.guidance) == (2, 8, (2.5, 2.5))
    assert "A flow map" in generator.card.limitations[-1]
    assert "then 3 steps" in generator.card.limitations[-1]
    sig = generate(generator, [Labels()] * 2, range(2), seed=7)
    assert sig.shape == (2, 8, 1000)
    assert np.isfinite(sig).all()
    alone = generate(generator, [Labels()], [1], seed=7)
    assert np.abs(alone[0] - sig[1]).max() < 1e-5
    with pytest.raises(SamplerError):
        generate(generator, [Labels()], [0], 7, d.model_copy(update={"num_steps": 5}))
    part = load(data / "data" / "ptb-xl.npz")
    attacked = (tmp_path / "matched", load_autoencoder(tmp_path / "autoencoder"), part)
    losses = membership.losses_of_run(*attacked, tmp_path / "work", 1)
    assert losses.shape == (len(part.sig), 2) and np.isfinite(losses).all()


class Sized(Exact):
    """The Gaussian's flow map, but of ends that are `size` times as wide."""

    def __init__(self, size: float) -> None:
        super().__init__()
        del self.wrong
        self.wrong, self.size = 0.0, torch.nn.Parameter(torch.tensor(size))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return MEAN + (super().forward(x, sigma, labels) - MEAN) * self.size


class Looks(torch.nn.Module):
    """A critic of how wide the ends are: a score a segment, linear in the mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wide = (x - MEAN).square().mean(dim=(1, 2)) / SPREAD**2
        return (self.weights[0] + self.weights[1] * wide)[:, None]


@pytest.mark.parametrize("size", [0.6, 1.5])
def test_critics_give_ends_the_trajectories_size(trajectories: Trajectories, size: float) -> None:
    """With no distance to any end."""
    student, loop = Sized(size), LoopConfig(batch_size=256, lr=0.01, precision="no")
    batches = MatchingBatches(trajectories, 256, seed=0)
    config = MatchingConfig(calls=1, distance=0.0, alone=20, noise=(-4.0, 0.1))
    trainee = matched(begin(loop), student, Looks(), 2.5, SIGMAS, SPREAD, config, loop)
    for step in range(20):
        trainee.update(step, batches(step, 0, 1))
    assert student.size.item() == pytest.approx(size), "the critics learn alone"
    for step in range(20, 200):
        trainee.update(step, batches(step, 0, 1))
    batch = batches(0, 0, 1)
    made = ends(student, batch["x"], batch["labels"].numpy(), np.full(256, 2.5), SIGMAS, 1)
    assert made.std().item() == pytest.approx(SPREAD, rel=0.1)


def test_critics_see_the_denoisers_layers_and_leave_it_as_it_is() -> None:
    sizes = DenoiserConfig(widths=(32, 32, 64), blocks=1, n_embedding=32)
    config = MatchingConfig(layers=("down.0", "middle"), width=8)
    critics = Critics(Denoiser(2, 3, sizes), config)
    x, sigma, labels = torch.randn(4, 2, 128), torch.full((4,), 0.3), torch.randn(4, 3)
    assert critics(x, sigma, labels).shape == (4, 128 + 32)
    learning = {name for name, p in critics.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith("heads.") for name in learning)
    critics(x, sigma, labels).sum().backward()
    assert all(critics.get_parameter(name).grad is not None for name in learning)
    with pytest.raises(SystemExit, match="layer down.9: one of stem, down.0"):
        Critics(Denoiser(2, 3, sizes), MatchingConfig(layers=("down.9",)))
