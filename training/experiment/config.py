"""What the experiment asks: its preset's tables, one a study beside what all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainingConfig:
    """What all studies share: the shard, the classifier that generated ECGs are to help and its
    preset, steps and seeds, and the stored generator."""

    source: str = "ptb-xl"
    network: str = "prednet"
    preset: str = "cpu"
    steps: int = 600
    seeds: tuple[int, ...] = (0, 1, 2)
    stored: str = "models_store/ldm"


@dataclass(frozen=True)
class NetworksConfig:
    """Classifiers to compare: all at one seed, then the best on fold 9, and the network of the
    other studies, at every seed; `screened` are not taken further. `steps`, by network, of those
    for which the others' number would take hours."""

    names: tuple[str, ...] = ()
    finalists: int = 3
    screened: tuple[str, ...] = ()
    steps: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneratorsConfig:
    """Generators to compare, each trained on all training records; `stored` is the one that is
    served. `beside`: those whose ECGs are also tried beside the real ones. `overrides` of a preset,
    by generator."""

    names: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    preset: str = "cpu"
    overrides: dict[str, list] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentationConfig:
    """Shares of the training records; generated ECGs for each real one; shares of each batch that
    is generated; `pretrained`: the share of steps on generated ECGs alone that come first. `own`:
    shares at which a generator that learned from them alone stands beside the stored one. No arm
    has more than `most` generated ECGs."""

    fractions: tuple[float, ...] = ()
    times: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = ()
    pretrained: tuple[float, ...] = ()
    own: tuple[float, ...] = ()
    most: int = 10000


@dataclass(frozen=True)
class RareConfig:
    """Statements with so few training records, `n` generated ECGs of each; `singly` of them are
    also tried one at a time. `controls`: generators that stand beside the stored one."""

    fewest: int = 15
    most: int = 50
    n: int = 150
    singly: int = 0
    controls: tuple[str, ...] = ()
    shares: tuple[float, ...] = (0.25,)


@dataclass(frozen=True)
class CallsConfig:
    """Samplers of few network calls: the stored generator's own with other settings, each a table
    of what differs from its card's, and a stored flow map's in so many `steps`."""

    samplers: tuple[dict[str, Any], ...] = ()
    flow_map: str = ""
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeaturesConfig:
    """What a denoiser has learned, as a classifier's: runs of the `autoencoder` and the `denoiser`,
    the `layer` and the noise level that `training.probe` found, shares of the training records, and
    the preset and steps of those whose U-Net learns too."""

    autoencoder: str = "runs/autoencoder"
    denoiser: str = "runs/denoiser"
    layer: str = "middle"
    sigma: float = 0.2
    fractions: tuple[float, ...] = ()
    preset: str = "tuned"
    steps: int = 300


@dataclass(frozen=True)
class ExperimentConfig:
    training: TrainingConfig = field(default_factory=TrainingConfig)
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    generators: GeneratorsConfig = field(default_factory=GeneratorsConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    rare: RareConfig = field(default_factory=RareConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    calls: CallsConfig = field(default_factory=CallsConfig)
