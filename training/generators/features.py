"""How far made ECGs are from real ones with the same labels: cheap, and of no trained network.

Features are the answers of fixed random convolutions, as in ROCKET (Dempster et al. 2020, doi
10.1007/s10618-020-00701-z); the labels stand beside them, so that ECGs of the wrong label are far
too (DeVries et al. 2019, doi 10.48550/arXiv.1907.08175). A generator's weights are chosen by them:
whatever judges it afterwards should be something else.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from training.prednet import N_LEADS

N_KERNELS = 16  # of each dilation
DILATIONS = (1, 2, 4, 8, 16, 32)  # 9 taps: 0.1 to 2.6 s at 100 Hz
LABEL_SHARE = 0.5  # of the labels' variance, of that of the features


class RandomFeatures(nn.Module):
    """Signals of about rms 1 [n, 8, time] -> [n, 192]: of each kernel the share of positive answers
    and the largest, squashed: one wild ECG is no mean. The same in each process and in each run."""

    def __init__(self) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(0)
        shape = (len(DILATIONS), N_KERNELS, N_LEADS, 9)
        weight = torch.randn(shape, generator=chance)
        chosen = torch.rand(shape[:3], generator=chance).argsort(dim=2) < 3  # three leads each
        weight = weight - weight.mean(dim=3, keepdim=True)
        weight = weight * chosen[..., None]
        self.weight = nn.Buffer(weight / weight.square().sum(dim=(2, 3), keepdim=True).sqrt())
        self.bias = nn.Buffer(torch.rand(shape[:2], generator=chance) - 0.5)

    def forward(self, sig: Tensor) -> Tensor:
        out = []
        for weight, bias, dilation in zip(self.weight, self.bias, DILATIONS, strict=True):
            answer = nn.functional.conv1d(sig, weight, bias, dilation=dilation)
            out += [(answer > 0).float().mean(dim=2), answer.amax(dim=2).clamp(min=0).log1p()]
        return torch.cat(out, dim=1)


class Distance:
    """To real segments, normalised [n, 8, time], with their labels [n, features]."""

    def __init__(self, real: Tensor, labels: Tensor) -> None:
        self.features, self.labels = RandomFeatures(), labels
        with torch.inference_mode():
            found = self.features(real).numpy()
        self.mean, self.std = found.mean(axis=0), found.std(axis=0) + 1e-6
        told = labels.numpy() - labels.numpy().mean(axis=0)
        variance = max(float(told.var(axis=0).sum()), 1e-6)
        self.told = told * np.sqrt(LABEL_SHARE * len(self.std) / variance)
        self.real = self._joined(found)

    def of(self, made: Tensor) -> float:
        """The Frechet distance of as many ECGs, made to the same labels in the same order."""
        with torch.inference_mode():
            found = self.features(made.float().cpu()).numpy()
        return frechet(self._joined(found), self.real)

    def _joined(self, found: np.ndarray) -> np.ndarray:
        return np.concatenate([(found - self.mean) / self.std, self.told], axis=1)


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Between Gaussians of the means and covariances of features [n, feature] (Dowson and Landau
    1982, doi 10.1016/0047-259X(82)90077-X)."""
    a, b = (np.cov(x, rowvar=False) for x in (one, other))
    shared = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()
    apart = one.mean(axis=0) - other.mean(axis=0)
    return float(apart @ apart + np.trace(a) + np.trace(b) - 2 * shared)
