"""One step of a refinement: a reward from ratings, an update by it, and guards that may refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg.labels import Labels, encode
from training.export_generator import load as load_run
from training.judging.embeddings import stored_features
from training.ldm.denoiser import DenoiserConfig, DenoisingLoss
from training.ldm.latents import LabelConfig, LatentBatches, encode_all
from training.loop import Batches, LoopConfig, train
from training.networks.unet import UNet, UNetConfig, activations
from training.refine import reward
from training.refine.guards import Bounds, guards
from training.refine.look import Look, LookConfig, labels_told
from training.refine.reward import Features, Reward, RewardConfig
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
    seed, statements = config.loop.seed, tuple(known["statements"])
    eyes = classifiers_eyes(before.bench.classifier_folder)
    seen = eyes(ratings.sig, told_of(ratings.labels, statements))
    first = reward.learn(seen, ratings, config.reward, seed)
    second, second_quality = _second(versions.run(0), known, before, ratings, config)
    scores = first.of(eyes(before.pool.sig, before.encoded))
    rewarded = Rewarded(before.latents, before.encoded, scores)
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
        "after": float(first.of(eyes(after.pool.sig, after.encoded)).mean()),
    }
    found, reasons = guards(before, after, config.bounds, second)
    if said["mean_reward"]["after"] <= said["mean_reward"]["before"]:
        reasons.append("the reward did not rise")
    accepted = not reasons or not guarded
    said |= {"guards": [one.described() for one in found], "reasons": reasons, "accepted": accepted}
    versions.judged(new, said)
    return Step(new, accepted, reasons)


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
    c = replace(config.loop, eval_every=config.loop.steps)
    real: Batches = LatentBatches(latents, statements, offset, scale, LabelConfig(), c)
    batches, loss = real, DenoisingLoss(sizes)
    if config.update.way == "weighted":
        batches = WeightedBatches(real, rewarded, config.update, c.batch_size, c.seed)
    elif config.update.way == "preference":
        batches = PreferenceBatches(real, rewarded, config.update, c.batch_size, c.seed)
        loss = PreferenceLoss(copy.deepcopy(model), sizes, config.update.beta)
    for stale in ("checkpoint.pt", "best.pt"):
        (folder / stale).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Looked at once, at the end: the guards, not a loss, say what may stay.
    train(model, loss, batches, lambda _: {"score": 0.0}, c, folder)
    return torch.load(folder / "best.pt", map_location="cpu", weights_only=True)


def told_of(labels: Sequence[Labels], statements: Sequence[str]) -> np.ndarray:
    """float32 [ecg, features]."""
    return np.stack([encode(one, statements) for one in labels])


def classifiers_eyes(folder: Path) -> Features:
    """What the stored classifier pools before its last layer, and the labels told: float
    [ecg, feature]."""
    pooled = stored_features(folder)
    return lambda sig, told: np.concatenate([pooled(sig), told], axis=1)


def denoisers_eyes(run: Path, known: dict[str, Any]) -> Features:
    """What a frozen denoiser makes of ECGs that it is told have a little noise and these labels:
    of each layer the mean over time, the spread and the peak; then the labels."""
    model = UNet(1, UNetConfig(known["autoencoder"], str(run), layer="")).eval()
    rows = [model.net.layers.index(name) for name in LAYERS]

    @torch.inference_mode()
    def of(sig: np.ndarray, told: np.ndarray) -> np.ndarray:
        out = []
        for start in range(0, len(sig), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            latents = model.latents(torch.from_numpy(sig[some].astype(np.float32)))
            labels = torch.from_numpy(told[some].astype(np.float32))
            made = activations(model.net, latents, SIGMA, model.sigma_data, labels)
            kept = [made[i] for i in rows]
            pooled = [x for y in kept for x in (y.mean(dim=2), y.std(dim=2), y.amax(dim=2))]
            out.append(torch.cat([*pooled, labels], dim=1).numpy())
        return np.concatenate(out)

    return of


def _second(
    run: Path, known: dict[str, Any], look: Look, ratings: Ratings, config: RefineConfig
) -> tuple[Callable[[Look], np.ndarray] | None, dict[str, Any]]:
    """A reward from the same ratings by other eyes, those of the denoiser that all began with,
    which the update never sees: what pleases one reward by its errors does not please both. None
    where it is no better than chance."""
    eyes, statements = denoisers_eyes(run, known), tuple(known["statements"])
    seen = eyes(ratings.sig, told_of(ratings.labels, statements))
    try:
        learned: Reward = reward.learn(seen, ratings, config.reward, config.loop.seed)
    except SystemExit as refused:
        return None, {"refused": str(refused)}
    told = told_of(labels_told(look.bench.held, statements), statements)
    return lambda one: learned.of(eyes(one.held.sig, told)), learned.quality
