"""A critic by rules, raters who err, and what a denoiser learns from rewards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg.prepare import Preparation
from tests.training.heartbeats import ecg
from training.ldm.denoiser import Denoiser, DenoiserConfig, noisy_errors
from training.refine import critic
from training.refine.critic import Rule, fit
from training.refine.raters import SimulatedRater, panel
from training.refine.update import (
    PreferenceBatches,
    PreferenceLoss,
    Rewarded,
    UpdateConfig,
    WeightedBatches,
    pairs,
    weights,
)
from training.shards import CODES, Shard


def labels(n: int, *codes: str) -> np.ndarray:
    label = np.zeros((n, 1 + len(CODES)), np.int8)
    label[:, [1 + CODES.index(code) for code in codes]] = 1
    return label


def part(sig: np.ndarray, label: np.ndarray) -> Shard:
    n = len(sig)
    return Shard(
        source="ptb-xl", preparation=Preparation(), sig=sig.astype(np.float16),
        lead_mask=np.ones((n, 8), np.uint8), n_valid=np.full(n, sig.shape[2], np.int32),
        record=np.arange(n, dtype=np.int32), label=label, strat_fold=np.ones(n, np.int8),
        patient=np.arange(n).astype(str), age=np.full(n, 60, np.float32),
        sex=np.zeros(n, np.int8),
    )  # fmt: skip


SINUS = (
    Rule("P wave", "p_wave_uv", -1, having=("SR",)),
    Rule("QRS", "qrs_ms", +1, lacking=("CLBBB",)),
    Rule("RR regularity", "rr_irregularity", +1, having=("SR",)),
)


@pytest.fixture
def sinus(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> critic.Critic:
    """A critic that knows 40 regular ECGs with P waves."""
    measure, names, _ = critic.KINDS["beats"]
    monkeypatch.setattr(critic, "KINDS", {"beats": (measure, names, SINUS)})
    real = np.stack([ecg(rng, rate=r) for r in rng.uniform(55, 90, 40)])
    return fit("beats", part(real, labels(40, "SR")))


def test_planted_defects_are_named_and_nothing_else_is(
    sinus: critic.Critic, rng: np.random.Generator
) -> None:
    sound, no_p, wide, uneven = (
        ecg(rng, rate=70), ecg(rng, rate=70, p=0), ecg(rng, rate=70, wide=2.5),
        ecg(rng, rate=70, irregular=0.2),
    )  # fmt: skip
    seen = part(np.stack([sound, no_p, wide, uneven]), labels(4, "SR"))
    found = sinus.defects(seen)
    assert found[0] == ()
    assert "P wave" in found[1] and "QRS" in found[2] and "RR regularity" in found[3]
    assert sinus.passes(seen).tolist() == [True, False, False, False]


def test_what_a_label_explains_is_no_defect(sinus: critic.Critic, rng: np.random.Generator) -> None:
    sig = np.stack([ecg(rng, rate=70, wide=2.5), ecg(rng, rate=70, p=0, irregular=0.2)])
    label = np.concatenate([labels(1, "CLBBB"), labels(1, "AFIB")])
    assert sinus.defects(part(sig, label)) == [(), ()]


def test_nearly_all_real_ecgs_keep_each_rule(
    sinus: critic.Critic, rng: np.random.Generator
) -> None:
    real = np.stack([ecg(rng, rate=r) for r in rng.uniform(55, 90, 60)])
    assert sinus.broken(part(real, labels(60, "SR"))).mean(axis=0).max() < 0.2


def test_a_rule_of_no_real_ecg_is_refused(rng: np.random.Generator) -> None:
    real = part(np.stack([ecg(rng, rate=70)] * 4), labels(4, "SR"))
    with pytest.raises(SystemExit, match="no real ECG to read the limit of"):
        fit("beats", real)


def test_raters_err_as_often_as_is_said_and_are_called_simulated() -> None:
    raters = panel(3, error=0.15, seed=1)
    assert all(rater.name.startswith("simulated") for rater in raters)
    rng = np.random.default_rng(0)
    for defects in ((), ("QRS",)):
        verdicts = [raters[0].rate(defects, rng) for _ in range(2000)]
        wrong = np.mean([v.passes != (not defects) for v in verdicts])
        assert wrong == pytest.approx(0.15, abs=0.03)
    sure = SimulatedRater("simulated", error=0)
    good, bad = (
        [sure.rate(d, rng).plausibility for _ in range(300)] for d in ((), ("QRS", "noise"))
    )
    assert np.mean(good) > np.mean(bad) + 2
    assert set(good) | set(bad) <= {1, 2, 3, 4, 5}


def rewarded(n: int = 12) -> Rewarded:
    told = np.eye(3)[np.arange(n) % 3]
    latents = np.random.default_rng(0).standard_normal((n, 2, 8))
    return Rewarded(latents, told, np.arange(n, dtype=float))


def real_batches(step: int, process: int, processes: int) -> dict[str, torch.Tensor]:
    return {"latents": torch.full((8, 2, 8), 99.0), "labels": torch.zeros(8, 3)}


def test_what_is_rewarded_more_is_learned_more_and_half_stays_real() -> None:
    w = weights(rewarded(), 0.5)
    assert w.sum() == pytest.approx(1) and (np.diff(w) >= 0).all() and w[-1] > 5 * w[0]
    batches = WeightedBatches(real_batches, rewarded(), UpdateConfig(), 8, seed=0)
    drawn = [batches(step, 0, 1)["latents"] for step in range(50)]
    assert all((x[:4] == 99).all() and (x[4:] != 99).all() for x in drawn)
    with pytest.raises(SystemExit, match="real_share 0.3: from 0.5"):
        UpdateConfig(real_share=0.3)
    with pytest.raises(SystemExit, match="way 'hope': weighted or preference"):
        UpdateConfig(way="hope")


def test_only_ecgs_that_were_told_the_same_are_compared() -> None:
    of = rewarded()
    both = pairs(of, 0.5)
    assert len(both)
    assert (of.labels[both[:, 0]] == of.labels[both[:, 1]]).all()
    assert (of.scaled()[both[:, 0]] - of.scaled()[both[:, 1]] >= 0.5).all()
    same = Rewarded(of.latents, of.labels, np.ones(12))
    with pytest.raises(SystemExit, match="no two generated ECGs"):
        pairs(same, 0.5)


def test_the_better_of_two_becomes_the_easier_one() -> None:
    """A few steps of a tiny denoiser, from where `before` stays."""
    sizes = DenoiserConfig(widths=(32, 32, 64), blocks=1, n_embedding=32)
    torch.manual_seed(0)
    model, before = (Denoiser(2, 3, sizes) for _ in range(2))
    before.load_state_dict(model.state_dict())
    x = np.stack([np.full((2, 128), 0.8), np.full((2, 128), -0.8)])
    of = Rewarded(x, np.zeros((2, 3)), np.array([1.0, 0.0]))

    def real(step: int, process: int, processes: int) -> dict[str, torch.Tensor]:
        return {"latents": 0.5 * torch.randn(8, 2, 128), "labels": torch.zeros(8, 3)}

    batches = PreferenceBatches(real, of, UpdateConfig("preference", beta=2.0), 16, seed=0)
    loss = PreferenceLoss(before, sizes, beta=2.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(40):
        optimizer.zero_grad()
        loss(model, batches(step, 0, 1)).backward()
        optimizer.step()
    assert all(p.grad is None for p in before.parameters())
    sigma, noise = torch.full((2,), 0.8), torch.randn(1, 2, 128).expand(2, -1, -1)
    given = (torch.from_numpy(x).float(), torch.zeros(2, 3), sizes, sigma, noise)
    with torch.inference_mode():
        fell = noisy_errors(before, *given) - noisy_errors(model, *given)
    assert fell[0] > fell[1]
