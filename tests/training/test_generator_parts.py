"""The generators' mathematics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.generators.ddpm import DdpmConfig, NoiseLoss, alpha_bars, guided, sample
from training.generators.features import Distance, frechet
from training.generators.gans import Critic, GanConfig, GanGenerator
from training.generators.objectives import D2gan, WganGp, log_softplus, slope_penalty
from training.generators.signals import from_patches, to_patches

TINY = GanConfig(patch=32, widths=(16, 32), attention=16, n_noise=16, n_embedding=32)


@pytest.mark.parametrize("patch", [1, 4, 8, 32])
def test_patches_hold_the_signal_and_give_it_back(patch: int) -> None:
    sig = torch.randn(2, 8, 1000)
    patches = to_patches(sig, patch)
    assert patches.shape == (2, 8 * patch, 1024 // patch)
    assert torch.equal(from_patches(patches, patch, 1000), sig)
    first = to_patches(torch.arange(1024.0).expand(1, 8, 1024), patch)
    assert first[0, :patch, 0].tolist() == list(range(patch))


def test_generator_and_critic_are_of_each_others_shapes() -> None:
    torch.manual_seed(0)
    generator, critic = GanGenerator(12, 1000, TINY), Critic(12, TINY)
    noise, labels = torch.randn(3, 16), torch.rand(3, 12)
    sig = generator(noise, labels)
    assert sig.shape == (3, 8, 1000)
    assert critic(sig, labels).shape == (3,)
    assert not torch.allclose(generator(noise, labels), generator(noise, 1 - labels))
    assert not torch.allclose(critic(sig, labels), critic(sig, 1 - labels))
    assert not torch.allclose(critic(sig, labels), critic(2 * sig, labels))


class Slope(nn.Module):
    """A critic whose gradient has this length everywhere."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, sig: Tensor, labels: Tensor) -> Tensor:
        return self.slope * sig[:, 0, 0]


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_the_penalty_is_of_the_slope(slope: float) -> None:
    real, made = torch.randn(5, 8, 10), torch.randn(5, 8, 10)
    critic = Slope(slope)
    found = slope_penalty(critic, real, made, torch.zeros(5, 1))
    assert found.item() == pytest.approx((slope - 1) ** 2, abs=1e-6)
    loss = WganGp(penalty=10.0).critics_loss([critic], real + 2, real, torch.zeros(5, 1))
    assert loss.item() == pytest.approx(10 * (slope - 1) ** 2 - 2 * slope, abs=1e-4)


class Table(nn.Module):
    """A critic of ECGs that are numbers: a score for 0 and one for 1."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, sig: Tensor, labels: Tensor) -> Tensor:
        return self.scores[sig[:, 0, 0].long()]


def test_the_best_discriminators_of_d2gan_are_the_papers() -> None:
    """D1 = alpha p / q and D2 = beta q / p (proposition 1), where both are known."""
    real = (torch.arange(100) < 20).float()[:, None, None]  # p(1) = 0.2
    made = (torch.arange(100) < 60).float()[:, None, None]  # q(1) = 0.6
    objective, none = D2gan(alpha=0.2, beta=0.1), torch.zeros(100, 1)
    critics = nn.ModuleList([Table(torch.zeros(2)), Table(torch.zeros(2))])
    optimizer = torch.optim.LBFGS(critics.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective.critics_loss(critics, real, made, none)
        loss.backward()
        return loss

    optimizer.step(closure)
    one, other = (nn.functional.softplus(critic.scores) for critic in critics)
    assert one.tolist() == pytest.approx([0.2 * 0.8 / 0.4, 0.2 * 0.2 / 0.6], rel=1e-2)
    assert other.tolist() == pytest.approx([0.1 * 0.4 / 0.8, 0.1 * 0.6 / 0.2], rel=1e-2)


def test_the_logarithm_of_d_and_its_slope_stay_finite() -> None:
    score = torch.tensor([-200.0, -15.5, -14.5, 0.0, 50.0], requires_grad=True)
    out = log_softplus(score)
    exact = nn.functional.softplus(score.double()).log()
    assert torch.allclose(out[1:].double(), exact[1:], atol=1e-5)
    assert out[0].item() == -200
    (slope,) = torch.autograd.grad(out.sum(), score)
    assert slope[0] == 1 and torch.isfinite(slope).all()


def test_the_signals_share_falls_from_one_to_almost_nothing() -> None:
    alpha_bar = alpha_bars(DdpmConfig())
    assert len(alpha_bar) == 1001 and alpha_bar[0] == 1
    assert (alpha_bar.diff() < 0).all() and alpha_bar[-1] < 1e-4
    assert alpha_bar[1].item() == pytest.approx(1 - 1e-4)


def exact(alpha_bar: Tensor, std: float):
    """The noise expected in x_t of a signal of N(0, std^2)."""

    def epsilon(x: Tensor, t: Tensor) -> Tensor:
        a = alpha_bar[t].float()[:, None, None]
        return (1 - a).sqrt() * x / (a * std**2 + 1 - a)

    return epsilon


@pytest.mark.parametrize(("num_steps", "within"), [(1000, 0.03), (50, 0.15)])
def test_ancestral_sampling_with_the_exact_noise_gives_the_signals(
    num_steps: int, within: float
) -> None:
    """The variance of a step is that of a signal which is one point: too small for others, by what
    the number of steps decides."""
    alpha_bar = alpha_bars(DdpmConfig())
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(50, 8, 100, generator=chance)
    made = sample(exact(alpha_bar, 0.5), x, alpha_bar, num_steps, 15.0, chance)
    assert made.std().item() == pytest.approx(0.5, rel=within)
    assert made.mean().item() == pytest.approx(0.0, abs=0.02)


def test_samples_keep_to_their_limit() -> None:
    alpha_bar, chance = alpha_bars(DdpmConfig()), torch.Generator().manual_seed(0)
    made = sample(lambda x, t: -9 * x, torch.randn(2, 8, 100), alpha_bar, 10, 3.0, chance)
    assert made.abs().max() <= 3.0


def test_the_loss_of_the_exact_noise_is_what_cannot_be_known() -> None:
    alpha_bar = alpha_bars(DdpmConfig())
    epsilon = exact(alpha_bar, 1.0)
    t = torch.full((200,), 300)
    torch.manual_seed(0)
    batch = {"latents": torch.randn(200, 8, 100), "labels": torch.zeros(200, 3), "t": t}
    loss = NoiseLoss(DdpmConfig())(lambda x, t, labels: epsilon(x, t), batch)
    assert loss.item() == pytest.approx(float(alpha_bar[300]), rel=0.02)


def test_guidance_goes_past_the_labels_answer_from_the_one_without() -> None:
    def model(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return labels.sum(dim=1)[:, None, None] + 0 * x

    x, t, labels = torch.zeros(2, 8, 10), torch.ones(2), torch.tensor([[1.0], [3.0]])
    for scale, expected in ((1.0, [1.0, 3.0]), (2.0, [2.0, 6.0])):
        assert guided(model, x, t, labels, scale)[:, 0, 0].tolist() == expected


def test_the_frechet_distance_of_gaussians_is_the_known_one() -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((20000, 3)) * [1.0, 2.0, 3.0]
    other = rng.standard_normal((20000, 3)) * [2.0, 2.0, 1.0] + [0.0, 4.0, 0.0]
    assert frechet(one, one) == pytest.approx(0.0, abs=1e-6)
    assert frechet(one, other) == pytest.approx(16 + 1 + 4, rel=0.02)


def test_the_distance_sees_other_signals_and_the_wrong_labels() -> None:
    chance = torch.Generator().manual_seed(0)
    labels = (torch.arange(300) % 2).float()[:, None]
    time = torch.arange(1000) / 100

    def ecgs(rate: Tensor) -> Tensor:
        phase = torch.rand(300, 8, 1, generator=chance)
        wave = torch.sin(2 * np.pi * (rate[:, None, None] * time + phase))
        return wave + 0.1 * torch.randn(300, 8, 1000, generator=chance)

    rate = 1 + labels[:, 0]
    distance = Distance(ecgs(rate), labels)
    same, swapped, other = (distance.of(ecgs(r)) for r in (rate, 3 - rate, 2 * rate))
    assert same < 0.2 * swapped
    assert same < 0.2 * other
