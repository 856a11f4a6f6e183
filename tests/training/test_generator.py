"""ECG-LDM's two stages, small: shapes, gradients, and the commands end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from ecg.labels import Labels, encode, features, n_features
from ecg.record import Record
from tests.training.commands import command
from training import shards
from training.ldm.autoencoder import Autoencoder, AutoencoderConfig, ReconstructionLoss
from training.ldm.denoiser import Denoiser, DenoiserConfig, DenoisingLoss
from training.ldm.heart_rate import heart_rate
from training.ldm.latents import (
    FEW,
    LabelConfig,
    LatentBatches,
    Latents,
    labels_of,
    rarest,
)
from training.loop import LoopConfig
from training.shards import Shard
from training.sources.labelled import ABSENT, PRESENT, Labelled
from training.train_denoiser import begin_from

SMALL = AutoencoderConfig(widths=(8, 16), blocks=1)
TINY = DenoiserConfig(widths=(32, 32, 64), blocks=1, n_embedding=32)


def test_the_autoencoder_maps_a_segment_to_16_by_128_and_back() -> None:
    model = Autoencoder(SMALL).eval()
    sig = torch.randn(2, 8, 1000)
    mean, logvar = model.encode(sig)
    assert mean.shape == logvar.shape == (2, 16, 128)
    assert model.decode(mean).shape == sig.shape


def test_an_autoencoder_is_the_same_in_bfloat16() -> None:
    """Its convolutions of few channels are in float32: with AMX they would be wrong."""
    torch.manual_seed(0)
    model = Autoencoder(SMALL).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    sig = torch.randn(4, 8, 1000)
    with torch.no_grad():
        exact = model.decode(model.encode(sig)[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model.decode(model.encode(sig)[0]).float()
    assert (rounded - exact).std() < 0.05 * exact.std()


def test_the_default_networks_are_as_large_as_planned() -> None:
    def size(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert size(Autoencoder(AutoencoderConfig())) <= 2_000_000
    assert 7_000_000 <= size(Denoiser(16, n_features(("A",) * 63), DenoiserConfig())) <= 11_000_000


STATEMENTS = ("NORM", "AFIB", "LVH")


def batches(labels: list[Labels], **changes: object) -> LatentBatches:
    """Latents of a number a segment, so that a batch's rows can be told."""
    zeros = np.zeros((len(labels), 16, 128), np.float32)
    mean = zeros + np.arange(len(labels), dtype=np.float32)[:, None, None]
    loop = LoopConfig(batch_size=4000)
    latents, one = Latents(mean, zeros, labels), np.ones((16, 1), np.float32)
    return LatentBatches(latents, STATEMENTS, 0 * one, one, LabelConfig(**changes), loop)


def test_a_rare_statement_is_drawn_more_often() -> None:
    labels = [Labels(statements=("NORM",))] * 75 + [Labels(statements=("NORM", "AFIB"))] * 25
    for balance, expected in ((0.0, 0.25), (0.5, 0.4), (1.0, 4 / 7)):
        drawn = batches(labels, balance=balance)(0, 0, 1)["latents"][:, 0, 0]
        assert (drawn >= 75).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_the_rarest_statements_are_not_drawn_without_end() -> None:
    present = np.zeros((100, 3))
    present[:, 0], present[:2, 1] = 1, 1
    assert rarest(present)[:3].tolist() == [FEW / 100, FEW / 100, 1.0]
    assert rarest(np.zeros((5, 3))).tolist() == [1.0] * 5


def test_labels_are_withheld_as_clients_withhold_them() -> None:
    whole = Labels("abnormal", ("AFIB", "LVH"), 60.0, "female", 75.0, complete=True)
    rows = batches([whole])(0, 0, 1)["labels"].numpy()
    value = dict(zip(features(STATEMENTS), rows.T, strict=True))
    listed = value["AFIB"] + value["LVH"]
    assert (listed[value["complete"] == 1] == 2).all()
    assert {0, 1, 2} == set(listed[value["complete"] == 0])
    assert value["complete"].mean() == pytest.approx(0.9 * 0.7, abs=0.03)
    assert (rows == 0).all(axis=1).mean() == pytest.approx(0.1, abs=0.03)
    some = rows.any(axis=1)
    for name in ("abnormal", "female", "age given", "heart rate given"):
        assert value[name][some].mean() == pytest.approx(0.9, abs=0.03), name
    assert not value["NORM"].any()


def test_a_list_is_complete_where_each_covered_statement_is_known(record: Record) -> None:
    known = Labelled(record, "1", "1", 1, PRESENT, {"AFIB": PRESENT, "SR": ABSENT}, 60.0, "male")
    part = shards.build("ptb-xl", [known], shards.Preparation())
    two, three = (labels_of(part, 0, codes) for codes in (("AFIB", "SR"), ("AFIB", "SR", "LVH")))
    assert (two.statements, two.complete) == (("AFIB",), True)
    assert (three.statements, three.complete) == (("AFIB",), False)


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


def test_a_run_can_begin_from_another_of_other_statements(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Denoiser(16, n_features(STATEMENTS), TINY).eval()
    for p in before.parameters():
        torch.nn.init.normal_(p, std=0.05)
    torch.save(before.state_dict(), tmp_path / "best.pt")
    (tmp_path / "run.json").write_text(json.dumps({"statements": STATEMENTS}))
    statements = ("PVC", "LVH", "AFIB")
    after = Denoiser(16, n_features(statements), TINY).eval()
    begin_from(tmp_path, after, features(statements))
    x, sigma = torch.randn(1, 16, 128), torch.ones(1)

    def denoised(model: Denoiser, known: tuple[str, ...], *present: str) -> torch.Tensor:
        labels = Labels("abnormal", present, 60.0, "male", 90.0, complete=True)
        with torch.inference_mode():
            return model(x, sigma, torch.from_numpy(encode(labels, known))[None])

    for present in ((), ("AFIB",), ("LVH", "AFIB")):
        old, new = denoised(before, STATEMENTS, *present), denoised(after, statements, *present)
        assert torch.allclose(old, new, atol=1e-5)
    unheard_of = denoised(after, statements, "PVC")
    assert torch.allclose(unheard_of, denoised(after, statements), atol=1e-5)
