"""One step of a refinement: a reward from ratings, an update by it, and guards that may refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg.labels import encode
from training.export_generator import load as load_run
from training.judging.embeddings import stored_features
from training.ldm.denoiser import DenoiserConfig, DenoisingLoss
from training.ldm.latents import LabelConfig, LatentBatches, encode_all
from training.loop import LoopConfig, train
from training.networks.unet import UNet, UNetConfig, activations
from training.refine import reward
from training.refine.guards import Bounds, guards
from training.refine.look import Look, LookConfig, labels_told
from training.refine.reward import Reward, RewardConfig
from training.refine.study import Ratings
from training.refine.update import (
    PreferenceBatches,
    PreferenceLoss,
    Rewarded,
    UpdateConfig,
    WeightedBatches,
)
from training.refine.versions import Versions
from training.train_autoencoder import load_autoencoder

LAYERS, SIGMA = ("middle", "up.5"), 0.4  # what `training.probe` found to know most
AT_ONCE = 64


@dataclass(frozen=True)
class RefineConfig:
    """See the parts; `loop` is the update's."""

    look: LookConfig = field(default_factory=LookConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    bounds: Bounds = field(default_factory=Bounds)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class Step:
    """What became of one: the new version's number, whether it was accepted, and why not."""

    version: int
    accepted: bool
    reasons: list[str]
    report: dict[str, Any]


def refine(
    versions: Versions, look: Callable[[int], Look], ratings: Ratings, config: RefineConfig,
    guarded: bool = True,
) -> Step:  # fmt: skip
    """A new version from the current one, which stays the current one where a guard refuses the
    new one. Unguarded, it is taken as it comes, to show what the guards are for.

    Errors: SystemExit where the ratings teach nothing (`reward.learn`).
    """
    number = versions.current
    before = look(number)
    known = json.loads((versions.run(0) / "run.json").read_text())
    encoder = Encoder(versions.run(0), known)
    seed = config.loop.seed
    first = reward.learn(encoder.of_rated(ratings), ratings, config.reward, seed)
    second, second_quality = _second(before, ratings, config, seed)
    told = before.encoded
    scores = first.of(encoder.of(before.pool.sig, told))
    rewarded = Rewarded(before.latents, told, scores)
    weights = update(versions.run(number), before, rewarded, config, versions.folder / "update")
    described = json.loads((versions.run(number) / "run.json").read_text())
    described["refined"] = [
        *described.get("refined", []),
        {"ratings": len(ratings.of), "who": ratings.who(), "config": asdict(config.update)},
    ]
    said = {"parent": number, "reward": first.quality, "second_reward": second_quality,
            "guarded": guarded}  # fmt: skip
    new = versions.add(described, weights, said)
    after = look(new)
    said["mean_reward"] = {
        "before": float(scores.mean()),
        "after": float(first.of(encoder.of(after.pool.sig, after.encoded)).mean()),
    }
    found, reasons = guards(before, after, config.bounds, second)
    if said["mean_reward"]["after"] <= said["mean_reward"]["before"]:
        reasons.append("the reward did not rise")
    accepted = not reasons or not guarded
    said |= {"guards": [one.described() for one in found], "reasons": reasons, "accepted": accepted}
    versions.judged(new, said)
    return Step(new, accepted, reasons, said)


def update(
    run: Path, look: Look, rewarded: Rewarded, config: RefineConfig, folder: Path
) -> dict[str, torch.Tensor]:
    """The weights of the denoiser in `run` once it has learned from what was rewarded and, as the
    safe base, from real segments."""
    known = json.loads((run / "run.json").read_text())
    model, _ = load_run(run, known)
    model.train()
    statements, sizes = tuple(known["statements"]), DenoiserConfig(**known["config"]["model"])
    latents = encode_all(load_autoencoder(Path(known["autoencoder"])), [look.bench.training],
                         statements)  # fmt: skip
    offset, scale = (np.array(known[k], np.float32)[:, None] for k in ("offset", "scale"))
    c = config.loop
    real = LatentBatches(latents, statements, offset, scale, LabelConfig(), c)
    if config.update.way == "weighted":
        batches = WeightedBatches(real, rewarded, config.update, c.batch_size, c.seed)
        loss = DenoisingLoss(sizes)
    else:
        batches = PreferenceBatches(real, rewarded, config.update, c.batch_size, c.seed)
        loss = PreferenceLoss(copy.deepcopy(model), sizes, config.update.beta)
    for stale in ("checkpoint.pt", "best.pt"):
        (folder / stale).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Looked at once, at the end: the guards, not a loss, say what may stay.
    train(model, loss, batches, lambda _: {"score": 0.0}, c, folder)
    return torch.load(folder / "best.pt", map_location="cpu", weights_only=True)


class Encoder:
    """What a frozen denoiser makes of ECGs that it is told have a little noise: the same for every
    version, so that rewards of different versions are of one kind."""

    def __init__(self, run: Path, known: dict[str, Any]) -> None:
        self.model = UNet(1, UNetConfig(known["autoencoder"], str(run), layer="")).eval()
        self.statements = tuple(known["statements"])
        self.rows = [self.model.net.layers.index(name) for name in LAYERS]

    def of_rated(self, ratings: Ratings) -> np.ndarray:
        told = np.stack([encode(one, self.statements) for one in ratings.labels])
        return self.of(ratings.sig, told)

    @torch.inference_mode()
    def of(self, sig: np.ndarray, told: np.ndarray) -> np.ndarray:
        """float32 [ecg, feature]: of each layer, with the labels told, the mean over time, the
        spread and the peak; then the labels."""
        out = []
        for start in range(0, len(sig), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            latents = self.model.latents(torch.from_numpy(sig[rows].astype(np.float32)))
            labels = torch.from_numpy(told[rows].astype(np.float32))
            made = activations(self.model.net, latents, SIGMA, self.model.sigma_data, labels)
            kept = [made[i] for i in self.rows]
            pooled = [x for y in kept for x in (y.mean(dim=2), y.std(dim=2), y.amax(dim=2))]
            out.append(torch.cat([*pooled, labels], dim=1).numpy())
        return np.concatenate(out)


def _second(
    look: Look, ratings: Ratings, config: RefineConfig, seed: int
) -> tuple[Callable[[Look], np.ndarray] | None, dict[str, Any]]:
    """A reward from the same ratings by other eyes, the stored classifier's, which the update never
    sees: what pleases one reward by its errors does not please both. None where it is no better
    than chance."""
    features = stored_features(look.bench.classifier_folder)
    statements = look.generator.card.statements

    def of(sig: np.ndarray, labels: list) -> np.ndarray:
        told = np.stack([encode(one, statements) for one in labels])
        return np.concatenate([features(sig), told], axis=1)

    try:
        learned: Reward = reward.learn(
            of(ratings.sig, ratings.labels), ratings, config.reward, seed
        )
    except SystemExit as refused:
        return None, {"refused": str(refused)}
    told = labels_told(look.bench.held, statements)
    return lambda one: learned.of(of(one.held.sig, told)), learned.quality
