"""The classifiers by name, and a network from its name or from a run's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from training import config as configs


@dataclass(frozen=True)
class Entry:
    """A network `class_name` of `module`, which has the settings `class_name` + "Config" beside it;
    `said` is how a card names it, `small` what makes it one of seconds on a CPU.

    The module is imported when its network is built: MONAI alone takes seconds.
    """

    module: str
    class_name: str
    said: str
    small: Mapping[str, Any]


NETWORKS = {
    "prednet": Entry(
        "training.prednet",
        "PredNet",
        "ECG-PredNet, residual 1-D CNN",
        {"widths": (8, 8, 16), "dropout": 0.0},
    ),
    "cnn": Entry(
        "training.networks.cnn",
        "CNN",
        "plain 1-D CNN",
        {"widths": (8, 8, 16), "dropout": 0.0},
    ),
    "cnn-lstm": Entry(
        "training.networks.cnn_lstm",
        "CNNLSTM",
        "1-D CNN and LSTM in both directions",
        {"widths": (8, 8, 16), "hidden": 16, "dropout": 0.0},
    ),
    "resnet50": Entry(
        "training.networks.resnet50",
        "ResNet50",
        "1-D ResNet-50 (MONAI)",
        {"widen": 0.0625},
    ),
    "xresnet1d101": Entry(
        "training.networks.xresnet1d",
        "XResNet1d",
        "xresnet1d101",
        {"stem": (8, 8, 8), "blocks": (1, 1), "width": 4, "hidden": 16, "dropout": 0.0},
    ),
    "inception": Entry(
        "training.networks.inception",
        "Inception",
        "InceptionTime",
        {"depth": 3, "filters": 4, "kernels": (20, 10, 5), "bottleneck": 4},
    ),
    "s4": Entry(
        "training.networks.s4",
        "S4",
        "S4D, diagonal state spaces in both directions",
        {"width": 8, "layers": 2, "states": 8, "dropout": 0.0},
    ),
    "unet": Entry(
        "training.networks.unet",
        "UNet",
        "ECG-LDM's U-Net with a head",
        {
            "autoencoder_widths": (8, 16),
            "autoencoder_blocks": 1,
            "widths": (32, 32, 64),
            "blocks": 1,
            "n_embedding": 32,
            "dropout": 0.0,
        },
    ),
}
SIZES = ("full", "small")


@dataclass(frozen=True)
class NetworkConfig:
    """`name` in NETWORKS; `size` "small" is for trying that all parts run; `settings` change single
    entries of the network's own. PredNet's settings are the table [model] instead."""

    name: str = "prednet"
    size: str = "full"
    settings: dict[str, Any] = field(default_factory=dict)


def build(
    name: str, n_outputs: int, settings: Mapping[str, Any] | None = None, size: str = "full"
) -> nn.Module:
    """The network, untrained. Errors: SystemExit for a name, size or setting that is not there."""
    if name not in NETWORKS:
        raise SystemExit(f"there is no network {name!r}; there are {', '.join(NETWORKS)}")
    if size not in SIZES:
        raise SystemExit(f"there is no network.size {size!r}; there are {', '.join(SIZES)}")
    entry = NETWORKS[name]
    module = import_module(entry.module)
    values = {**(entry.small if size == "small" else {}), **(settings or {})}
    config = configs.fill(
        getattr(module, f"{entry.class_name}Config"), f"{name}'s settings", values
    )
    return getattr(module, entry.class_name)(n_outputs, config)


def of_config(config: Mapping[str, Any], n_outputs: int) -> nn.Module:
    """The network of a classifier's configuration, as a run wrote it down; one from before there
    was a choice is a PredNet."""
    chosen = NetworkConfig(**config.get("network", {}))
    if chosen.name == NetworkConfig.name:
        return build(chosen.name, n_outputs, config["model"])
    return build(chosen.name, n_outputs, chosen.settings, chosen.size)
