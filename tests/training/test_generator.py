"""ECG-LDM's two stages, small: shapes, gradients, and the commands end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from ecg.labels import n_features
from ecg.record import Record
from training import shards
from training.autoencoder import Autoencoder, AutoencoderConfig, ReconstructionLoss
from training.denoiser import Denoiser, DenoiserConfig, DenoisingLoss
from training.heart_rate import heart_rate
from training.shards import Shard
from training.sources.labelled import ABSENT, PRESENT, Labelled

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = AutoencoderConfig(widths=(8, 16), blocks=1)
TINY = DenoiserConfig(widths=(32, 32, 64), blocks=1, n_embedding=32)


def test_the_autoencoder_maps_a_segment_to_16_by_128_and_back() -> None:
    model = Autoencoder(SMALL).eval()
    sig = torch.randn(2, 8, 1000)
    mean, logvar = model.encode(sig)
    assert mean.shape == logvar.shape == (2, 16, 128)
    assert model.decode(mean).shape == sig.shape


def test_the_default_networks_are_as_large_as_planned() -> None:
    def size(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert size(Autoencoder(AutoencoderConfig())) <= 2_000_000
    assert 7_000_000 <= size(Denoiser(16, n_features(("A",) * 63), DenoiserConfig())) <= 11_000_000


def test_reconstruction_loss_is_the_latents_divergence_where_the_reconstruction_is_perfect() -> (
    None
):
    class Perfect(torch.nn.Module):
        def forward(self, sig: torch.Tensor) -> tuple[torch.Tensor, ...]:
            mean, logvar = torch.full((1, 16, 128), 2.0), torch.zeros(1, 16, 128)
            return sig, mean, logvar

    loss = ReconstructionLoss(SMALL)(Perfect(), {"sig": torch.randn(1, 8, 1000)})
    assert loss.item() == pytest.approx(SMALL.kl_weight * 2.0)  # mean^2 / 2


def test_an_untrained_denoiser_is_the_preconditioners_skip() -> None:
    """Its last layer starts at zero, so D = c_skip x: the best guess of a Gaussian prior."""
    model = Denoiser(16, 5, TINY).eval()
    torch.nn.init.zeros_(model.net.out[-1].bias)
    x, sigma = torch.randn(3, 16, 128), torch.tensor([0.01, 0.5, 80.0])
    with torch.inference_mode():
        denoised = model(x, sigma, torch.randn(3, 5))
    c_skip = 0.25 / (sigma**2 + 0.25)
    assert torch.allclose(denoised, c_skip[:, None, None] * x)


def test_labels_and_noise_level_reach_the_denoiser() -> None:
    torch.manual_seed(0)
    model = Denoiser(16, 5, TINY)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    x, one = torch.randn(1, 16, 128), torch.ones(1)
    base = model(x, one, torch.zeros(1, 5))
    assert not torch.allclose(model(x, one, torch.ones(1, 5)), base)
    assert not torch.allclose(
        model.net(x, one, torch.zeros(1, 5)), model.net(x, 2 * one, base[:, 0, :5])
    )


def test_denoising_loss_of_the_true_denoiser_is_the_expected_one() -> None:
    """For clean ~ N(0, sigma_data^2), EDM's weighted loss of the exact denoiser is 1."""

    def exact(x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return x * (0.25 / (sigma**2 + 0.25))[:, None, None]

    torch.manual_seed(0)
    batch = {"latents": 0.5 * torch.randn(500, 16, 128), "labels": torch.zeros(500, 5)}
    assert DenoisingLoss(TINY)(exact, batch).item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("beats_a_minute", [45, 75, 130])
def test_heart_rate_of_a_train_of_beats(beats_a_minute: int, rng: np.random.Generator) -> None:
    fs, n = 100, 1000
    beats = np.zeros(n)
    beats[(np.arange(20, n, 60 * fs / beats_a_minute)).astype(int)] = 1
    qrs = signal.windows.gaussian(13, 1.5) - 0.3 * signal.windows.gaussian(13, 3)
    sig = np.convolve(beats, qrs, mode="same") + 0.02 * rng.standard_normal((8, n))
    assert heart_rate(sig, fs) == pytest.approx(beats_a_minute, abs=2)


def test_heart_rate_of_nothing_is_not_a_number() -> None:
    assert np.isnan(heart_rate(np.zeros((8, 1000)), 100))


@pytest.fixture
def data(tmp_path: Path, records: dict[str, Record]) -> Path:
    """A shard of the test records, given to training folds and fold 9."""

    def labelled() -> list[Labelled]:
        out = []
        for i in range(8):
            name, record = list(records.items())[i % len(records)]
            statements = {"AFIB": PRESENT if i % 2 else ABSENT, "SR": ABSENT if i % 2 else PRESENT}
            fold = 9 if i >= 6 else 1 + i
            out.append(Labelled(record, name, str(i), fold, i % 2, statements, 60.0, "male"))
        return out

    shard: Shard = shards.build("ptb-xl", labelled(), shards.Preparation())
    (tmp_path / "data").mkdir()
    shards.save(shard, tmp_path / "data" / "ptb-xl.npz")
    return tmp_path


def command(verb: str, *arguments: object) -> str:
    command = [sys.executable, "-m", f"training.{verb}", "--preset", "smoke"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_stages_train_from_shards(data: Path) -> None:
    shard_folder, first, second = data / "data", data / "autoencoder", data / "denoiser"
    command("train_autoencoder", "--data", shard_folder, "--run", first)
    out = command("train_denoiser", "--data", shard_folder, "--autoencoder", first, "--run", second)
    assert "2 statements" in out
    known = json.loads((second / "run.json").read_text())
    assert known["statements"] == ["AFIB", "SR"] or known["statements"] == ["SR", "AFIB"]
    history = [json.loads(x) for x in (second / "history.jsonl").read_text().splitlines()]
    assert np.isfinite([h["loss"] for h in history]).all()
    assert (second / "best.pt").exists()
