"""What makes one adversarial generator differ from another; the networks are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WganGp:
    """The Wasserstein distance, its critic kept near slope 1 by a penalty on gradients (Gulrajani
    et al. 2017, doi 10.48550/arXiv.1704.00028, eq. 3)."""

    penalty: float = 10.0
    critic_steps: int = 5
    n_critics: ClassVar[int] = 1

    def critics_loss(
        self, critics: Sequence[nn.Module], real: Tensor, made: Tensor, labels: Tensor
    ) -> Tensor:
        (critic,) = critics
        distance = critic(real, labels).mean() - critic(made, labels).mean()
        return self.penalty * slope_penalty(critic, real, made, labels) - distance

    def generator_loss(self, critics: Sequence[nn.Module], made: Tensor, labels: Tensor) -> Tensor:
        return -critics[0](made, labels).mean()


def slope_penalty(critic: nn.Module, real: Tensor, made: Tensor, labels: Tensor) -> Tensor:
    """(|gradient| - 1)^2 at a random point between each real and each made one."""
    share = torch.rand(len(real), 1, 1, device=real.device)
    between = (share * real + (1 - share) * made).requires_grad_()
    total = critic(between, labels).sum()
    (gradient,) = torch.autograd.grad(total, between, create_graph=True)
    return ((gradient.float().flatten(1).norm(dim=1) - 1) ** 2).mean()


@dataclass(frozen=True)
class D2gan:
    """Two discriminators, one that rewards real ECGs and one that rewards made ones, so that the
    generator minimises both divergences between the two (Nguyen et al. 2017, doi
    10.48550/arXiv.1709.03831, eq. 1); D = softplus(score) > 0. The paper's alpha and beta."""

    alpha: float = 0.2
    beta: float = 0.1
    critic_steps: int = 1
    n_critics: ClassVar[int] = 2

    def critics_loss(
        self, critics: Sequence[nn.Module], real: Tensor, made: Tensor, labels: Tensor
    ) -> Tensor:
        (real_1, made_1), (real_2, made_2) = (
            (critic(real, labels), critic(made, labels)) for critic in critics
        )
        first = self.alpha * log_softplus(real_1).mean() - _softplus(made_1).mean()
        second = self.beta * log_softplus(made_2).mean() - _softplus(real_2).mean()
        return -(first + second)

    def generator_loss(self, critics: Sequence[nn.Module], made: Tensor, labels: Tensor) -> Tensor:
        one, other = (critic(made, labels) for critic in critics)
        return self.beta * log_softplus(other).mean() - _softplus(one).mean()


_softplus = nn.functional.softplus


def log_softplus(score: Tensor) -> Tensor:
    """log D; where D would vanish, its logarithm is the score itself."""
    return torch.where(score < -15, score, _softplus(score.clamp(min=-15)).log())
