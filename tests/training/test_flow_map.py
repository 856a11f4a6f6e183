"""ECG-LDM in few calls: what it learns from, what it learns, and the commands end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg import sampling
from ecg.generation import generate
from ecg.labels import Labels
from ecg.sampler import SamplerError
from ecg.sampling import noise_levels
from ecg.store import load_generator
from tests.training.commands import command
from tests.training.test_generator import data  # noqa: F401
from training import matching
from training.denoiser import DenoiserConfig
from training.flow_map import FlowMapBatches, FlowMapConfig, FlowMapLoss, ends, errors
from training.loop import LoopConfig, begin
from training.matching import MatchingBatches, MatchingConfig, matched
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


def test_what_the_commands_make_is_served_in_two_calls(stored: Path) -> None:
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


class Sized(Exact):
    """The Gaussian's flow map, but of ends that are `size` times as wide."""

    def __init__(self, size: float) -> None:
        super().__init__()
        del self.wrong
        self.wrong, self.size = 0.0, torch.nn.Parameter(torch.tensor(size))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return MEAN + (super().forward(x, sigma, labels) - MEAN) * self.size


class GaussianDenoiser(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spread = torch.nn.Parameter(torch.tensor(SPREAD))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        share = self.spread**2 / (self.spread**2 + sigma[:, None, None] ** 2)
        return MEAN + share * (x - MEAN)


@pytest.mark.parametrize("size", [0.6, 1.5])
def test_matching_gives_ends_the_teachers_size(trajectories: Trajectories, size: float) -> None:
    """With no distance to any end: from the two scores alone."""
    student, loop = Sized(size), LoopConfig(batch_size=256, lr=0.02, precision="no")
    batch = MatchingBatches(trajectories, 256, seed=0)(0, 0, 1)
    trainee = matched(
        begin(loop), student, GaussianDenoiser(), GaussianDenoiser(),
        {"guidance_scale": 2.5, "guidance_interval": (0.05, 3.0)}, SIGMAS, DenoiserConfig(),
        MatchingConfig(calls=1, distance=0.0, alone=20), loop,
    )  # fmt: skip
    for step in range(20):
        trainee.update(step, batch)
    assert student.size.item() == pytest.approx(size), "the critic learns alone"
    for step in range(20, 150):
        trainee.update(step, batch)
    made = ends(student, batch["x"], batch["labels"].numpy(), np.full(256, 2.5), SIGMAS, 1)
    assert made.std().item() == pytest.approx(SPREAD, rel=0.1)


def test_guidance_is_that_of_the_sampler() -> None:
    def network(x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return x * sigma[:, None, None] + labels.sum(axis=1)[:, None, None]

    def on_torch(x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(network(x.numpy(), sigma.numpy(), labels.numpy()))

    rng, sigma = np.random.default_rng(0), np.array([0.02, 0.5, 3.0, 9.0], np.float32)
    x, labels = (rng.standard_normal(s).astype(np.float32) for s in ((4, 2, 8), (4, 3)))
    given = tuple(map(torch.from_numpy, (x, sigma, labels)))
    found = matching.guided(on_torch, *given, 2.5, (0.05, 3.0)).numpy()
    told = sampling.guided(network, x, sigma, labels, np.full(4, 2.5), (0.05, 3.0))
    np.testing.assert_allclose(found, told, rtol=1e-5)
