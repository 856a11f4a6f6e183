"""Attacks on networks that have, or have not, learned their training ECGs by heart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg.labels import n_features
from tests.training.heartbeats import ecgs
from training import membership
from training.ldm.autoencoder import Autoencoder, AutoencoderConfig
from training.ldm.denoiser import Denoiser, DenoiserConfig, DenoisingLoss
from training.membership import Suspects, denoising_loss, judged, suspects_of, tpr_at
from training.shards import CODES, Shard, save

N = 32
SMALL = DenoiserConfig(widths=(32, 64), blocks=1, n_embedding=32)
N_LATENTS, TIME = 4, 16


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    """N members and N others of one distribution, [2 N, latents, time]."""
    rng = np.random.default_rng(0)
    return 0.5 * rng.standard_normal((2 * N, N_LATENTS, TIME)).astype(np.float32)


@pytest.fixture(scope="module")
def suspects() -> Suspects:
    patient = np.arange(2 * N).astype(str)
    shard = Shard("a", None, *[np.zeros(0)] * 3, np.arange(2 * N), *[np.zeros(0)] * 2, patient,
                  *[np.zeros(0)] * 2)  # type: ignore[arg-type]  # fmt: skip
    return Suspects(shard, np.arange(2 * N) < N)


def attack(model: Denoiser, latents: np.ndarray) -> np.ndarray:
    labels = np.zeros((len(latents), 1), np.float32)
    loss = [np.log(denoising_loss(model, latents, labels, s)) for s in membership.SIGMAS]
    return -np.mean(loss, axis=0)


def test_a_network_that_knows_its_ecgs_by_heart_is_caught_and_an_untrained_one_is_not(
    latents: np.ndarray, suspects: Suspects
) -> None:
    torch.manual_seed(0)
    model = Denoiser(N_LATENTS, 1, SMALL)
    untrained = judged(suspects, attack(model.eval(), latents))
    assert untrained["auroc"]["interval"][0] < 0.5 < untrained["auroc"]["interval"][1]
    assert untrained["tpr"]["value"] < 0.25
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    x, y = torch.from_numpy(latents[:N]), torch.zeros(N, 1)
    loss = DenoisingLoss(SMALL)
    model.train()
    for _ in range(150):
        optimizer.zero_grad()
        loss(model, {"latents": x, "labels": y}).backward()
        optimizer.step()
    overfitted = judged(suspects, attack(model.eval(), latents))
    assert overfitted["tpr"]["value"] > 0.9 and overfitted["auroc"]["value"] > 0.95
    assert not overfitted["holds"]


def test_the_rate_at_few_false_alarms_is_of_the_highest_scores() -> None:
    member = np.repeat([True, False], 100)
    score = np.concatenate([np.repeat([9.0, 0.0], 50), np.linspace(1, 2, 100)])
    assert tpr_at(member, score) == 0.5
    assert tpr_at(member, np.zeros(200)) == 0, "what tells nothing alarms nobody"
    assert np.isnan(tpr_at(np.ones(3, bool), np.zeros(3)))


def test_chance_holds_among_enough_and_an_advantage_does_not(a_shard) -> None:
    rng = np.random.default_rng(0)
    n = 700
    part = Suspects(a_shard(n=2 * n), np.arange(2 * n) < n)
    score = rng.standard_normal(2 * n)
    chance = judged(part, score)
    assert chance["holds"] and 0.02 < chance["tpr"]["value"] < 0.09
    score[:n] += 0.5
    assert not judged(part, score)["holds"]


def test_members_are_like_those_they_are_compared_with(a_shard: Callable[..., Shard]) -> None:
    """Half of the training records are normal and young; all others are not."""
    label = np.zeros((60, 1 + len(CODES)), np.int8)
    fold = np.repeat([1, 9, 10], [40, 10, 10]).astype(np.int8)
    label[:20, 1 + CODES.index("NORM")] = 1
    age = np.where(np.arange(60) < 20, 20, 70).astype(np.float32)
    found = suspects_of(a_shard(n=60, label=label, strat_fold=fold, age=age))
    assert found.member.sum() == 20 == (~found.member).sum()
    rows = found.part.record[found.member]
    assert len(set(rows)) == 20 and rows.min() >= 20
    assert set(fold[found.part.record[~found.member]]) == {9, 10}
    with pytest.raises(SystemExit, match="folds 1-8 must have at least as many"):
        suspects_of(a_shard(n=60, strat_fold=np.full(60, 9, np.int8)))


@pytest.fixture
def runs(tmp_path: Path, a_shard: Callable[..., Shard]) -> Path:
    """A shard, an autoencoder and two denoisers, none of them trained; 1.0.0's run names settings
    that there are no longer."""
    rng = np.random.default_rng(0)
    fold = np.repeat([1, 9, 10], [24, 10, 10]).astype(np.int8)
    (tmp_path / "data").mkdir()
    save(a_shard(n=44, sig=ecgs(rng, 44).astype(np.float16), strat_fold=fold),
         tmp_path / "data" / "ptb-xl.npz")  # fmt: skip
    config = AutoencoderConfig(widths=(16, 16), blocks=1)
    (tmp_path / "autoencoder").mkdir()
    torch.save(Autoencoder(config).state_dict(), tmp_path / "autoencoder" / "best.pt")
    (tmp_path / "autoencoder" / "run.json").write_text(json.dumps({"model": vars(config)}))
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        statements = ["AFIB", "NORM"]
        model = Denoiser(config.n_latents, n_features(statements), SMALL)
        torch.nn.init.normal_(model.net.out[-1].weight, std=0.1)
        torch.save(model.state_dict(), folder / "best.pt")
        known = {
            "config": {"model": {**vars(SMALL), "drop_all": 0.1}}, "statements": statements,
            "autoencoder": str(tmp_path / "autoencoder"),
            "offset": [0.0] * config.n_latents, "scale": [1.0] * config.n_latents,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(known))
    return tmp_path


def test_the_command_attacks_runs_autoencoder_and_sets(
    runs: Path, run_command: Callable[..., None], capsys: pytest.CaptureFixture[str], a_shard
) -> None:
    """A set of copies of the members gives them away."""
    shard = membership.load(runs / "data" / "ptb-xl.npz")
    save(shard.folds((1,)), runs / "copies.npz")
    arguments = ("--data", runs / "data", "--work", runs / "work", "--out", runs / "out.json")
    attacked = ("--run", runs / "first", runs / "second", "--set", runs / "copies.npz")
    run_command(membership, *arguments, *attacked)
    found = json.loads((runs / "out.json").read_text())
    assert found["n_members"] == found["n_non_members"] == 20
    assert [(a["on"], a["name"]) for a in found["attacks"]] == [
        ("autoencoder", "reconstruction"), ("first", "loss"), ("second", "loss"),
        ("second", "loss, calibrated by first"), ("copies", "nearest sample"),
    ]  # fmt: skip
    assert set(found["attacks"][1]["by_sigma"]) == {f"{s:g}" for s in membership.SIGMAS}
    assert found["control"]["on"] == "no model"
    copies = found["attacks"][-1]
    assert copies["tpr"]["value"] == 1 and not copies["holds"] and not found["holds"]
    assert "copies, nearest sample: TPR 1.000" in capsys.readouterr().out
    before = sorted(p.name for p in (runs / "work").iterdir())
    run_command(membership, *arguments, *attacked)
    assert sorted(p.name for p in (runs / "work").iterdir()) == before, "read, not made again"


def test_without_a_model_noise_alone_is_seen(runs: Path) -> None:
    part = membership.load(runs / "data" / "ptb-xl.npz")
    hum = np.sin(2 * np.pi * 45 / part.preparation.fs * np.arange(part.sig.shape[2]))
    noisy = dataclasses.replace(part, sig=part.sig + 0.5 * hum)
    assert (membership.high(noisy) > membership.high(part)).all()


def test_what_cannot_be_attacked_is_said(runs: Path, run_command: Callable[..., None]) -> None:
    data = ("--data", runs / "data", "--work", runs / "work", "--out", runs / "out.json")
    with pytest.raises(SystemExit, match="nothing to attack"):
        run_command(membership, *data)
    with pytest.raises(SystemExit, match="is no run of training.train_denoiser"):
        run_command(membership, *data, "--run", runs / "none")
