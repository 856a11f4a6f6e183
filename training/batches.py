"""Batches of segments: drawn by source, leads dropped whole, and mildly disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ecg.leads import INDEPENDENT_LEADS
from training.shards import Shard

# What devices send: all leads, the limb leads, or one of them.
LEAD_SETS = {
    "12 leads": INDEPENDENT_LEADS,
    "limb leads": ("I", "II"),
    "lead II": ("II",),
    "lead I": ("I",),
}


@dataclass(frozen=True)
class BatchConfig:
    """`source_share`: of a batch, by source; one that it does not name gets as much as the
    largest named (evenly by segment where none is named).
    `lead_set_share`: how often only the leads of a set are left; the rest keeps all, or with
    `random_leads` a random subset. `shorter`: how often a segment is cut to 5-10 s. `gain`: spread
    of a random amplification. `noise_mv`: the largest white noise added. `mixed`: how often a
    segment is blended with another of its source, by a share drawn from Beta(0.4, 0.4)
    (Zhang et al. 2018, doi 10.48550/arXiv.1710.09412). `spread`: how often a segment of one lead is
    repeated on others, each at a gain of its own: what its rhythm teaches should hold in any lead.
    """

    source_share: dict[str, float] = field(default_factory=dict)
    lead_set_share: dict[str, float] = field(
        default_factory=lambda: {"limb leads": 0.12, "lead II": 0.14, "lead I": 0.10}
    )
    random_leads: float = 0.14
    shorter: float = 0.15
    gain: float = 0.1
    noise_mv: float = 0.03
    mixed: float = 0.0
    spread: float = 0.5


def lead_set_mask(name: str) -> np.ndarray:
    """[8], 1 for the leads of the set."""
    return np.array([lead in LEAD_SETS[name] for lead in INDEPENDENT_LEADS], dtype=np.float32)


class TrainingBatches:
    """Draws batch `step` from the seed and the step alone. Labels are those of `outputs`, columns
    of the shard's label array."""

    def __init__(
        self,
        parts: Sequence[Shard],
        outputs: Sequence[int],
        size: int,
        seed: int,
        config: BatchConfig,
    ) -> None:
        self.parts, self.outputs = parts, list(outputs)
        self.size, self.seed, self.config = size, seed, config
        named = config.source_share
        largest = max((named[p.source] for p in parts if p.source in named), default=0.0)
        weights = [named.get(p.source, largest) for p in parts]
        if not any(weights):
            weights = [len(p.sig) for p in parts]
        self.share = np.array(weights, dtype=float) / sum(weights)

    def __call__(self, step: int, process: int, processes: int) -> dict[str, torch.Tensor]:
        """This process's share of the batch: sig, lead_mask, sample_mask, label (-1 unknown)."""
        rng = np.random.default_rng((self.seed, step, process))
        size = self.size // processes
        source = rng.choice(len(self.parts), size, p=self.share)
        sig, mask, n_valid, label = [], [], [], []
        for i, part in enumerate(self.parts):
            drawn = self._draw(rng, part, int((source == i).sum()))
            for store, array in zip((sig, mask, n_valid, label), drawn, strict=True):
                store.append(array)
        batch = [np.concatenate(a) for a in (sig, mask, n_valid, label)]
        return self._disturb(rng, *batch)

    def _draw(self, rng: np.random.Generator, part: Shard, n: int) -> tuple[np.ndarray, ...]:
        """n segments, some blended: leads and labels are those that both have."""
        rows, others = rng.integers(len(part.sig), size=(2, n))
        share = np.where(rng.random(n) < self.config.mixed, rng.beta(0.4, 0.4, n), 1.0)
        share[~(part.lead_mask[rows] & part.lead_mask[others]).any(axis=1)] = 1.0
        blended = share < 1
        share = share.astype(np.float32)[:, None]
        sig = part.sig[rows].astype(np.float32)
        mask, n_valid = part.lead_mask[rows].astype(np.float32), part.n_valid[rows]
        label = part.label[part.record[rows]][:, self.outputs].astype(np.float32)
        other = part.label[part.record[others]][:, self.outputs]
        sig[blended] *= share[blended, :, None]
        sig[blended] += (1 - share[blended, :, None]) * part.sig[others[blended]]
        mask[blended] *= part.lead_mask[others[blended]]
        n_valid = np.where(blended, np.minimum(n_valid, part.n_valid[others]), n_valid)
        both = share * label + (1 - share) * other
        unknown = (label < 0) | (other < 0)
        label = np.where(blended[:, None], np.where(unknown, -1, both), label)
        return sig, mask, n_valid, label

    def _disturb(
        self,
        rng: np.random.Generator,
        sig: np.ndarray,
        mask: np.ndarray,
        n_valid: np.ndarray,
        label: np.ndarray,
    ) -> dict[str, torch.Tensor]:
        c, n = self.config, len(sig)
        self._spread(rng, sig, mask)
        mask = self._drop_leads(rng, mask)
        width = sig.shape[2]
        for i in np.flatnonzero(rng.random(n) < c.shorter):
            keep = int(rng.integers(width // 2, width + 1))
            keep = min(keep, int(n_valid[i]))
            start = int(rng.integers(n_valid[i] - keep + 1))
            sig[i, :, :keep] = sig[i, :, start : start + keep].copy()
            n_valid[i] = keep
        sig *= np.exp(c.gain * rng.standard_normal((n, 1, 1), dtype=np.float32))
        level = c.noise_mv * rng.random((n, 1, 1), dtype=np.float32) ** 2
        sig += level * rng.standard_normal(sig.shape, dtype=np.float32)
        sample_mask = (np.arange(width) < n_valid[:, None]).astype(np.float32)
        sig *= mask[:, :, None] * sample_mask[:, None, :]
        arrays = {"sig": sig, "lead_mask": mask, "sample_mask": sample_mask, "label": label}
        return {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items()}

    def _spread(self, rng: np.random.Generator, sig: np.ndarray, mask: np.ndarray) -> None:
        """In place, on segments of which one lead is known."""
        chosen = (mask.sum(axis=1) == 1) & (rng.random(len(mask)) < self.config.spread)
        for i in np.flatnonzero(chosen):
            only = sig[i, mask[i].argmax()].copy()
            gain = rng.standard_normal((sig.shape[1], 1), dtype=np.float32)
            sig[i] = only * gain
            mask[i] = 1.0

    def _drop_leads(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        """Whole leads taken away, never the last one."""
        names = list(self.config.lead_set_share)
        edges = np.cumsum([*self.config.lead_set_share.values(), self.config.random_leads])
        pick = np.searchsorted(edges, rng.random(len(mask)), side="right")
        out = mask.copy()
        for i, name in enumerate(names):
            out[pick == i] *= lead_set_mask(name)
        random = pick == len(names)
        out[random] *= rng.random((int(random.sum()), mask.shape[1])) < 0.5
        lost = out.sum(axis=1) == 0
        out[lost] = mask[lost]
        return out
