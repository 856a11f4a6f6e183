"""A stored generator's networks as torch has them, so that what is served can learn on.

The exporter keeps the names of all weights but those of normalisations, which it takes apart into a
multiplication and an addition: these are found by their order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ecg.card import GeneratorCard
from ecg.store import DECODER, DENOISER
from training.ldm.autoencoder import Autoencoder, AutoencoderConfig
from training.ldm.denoiser import Denoiser, DenoiserConfig
from training.prednet import N_LEADS

ENCODER = ("encoder.", "linear_in.")  # parts of the autoencoder that are not shipped
HALF = "_half"  # what is stored in half precision, and cast where the model is loaded


def denoiser_of(folder: Path, card: GeneratorCard) -> tuple[Denoiser, DenoiserConfig]:
    """Errors: SystemExit where the file holds another network."""
    stored = _Stored(folder / DENOISER)
    stem, given = stored["net.stem.weight"], stored["net.embed_labels.weight"]
    downs = [w.shape[0] for name, w in stored.items("net.down.", ".conv.weight")]
    n_blocks = len(stored.items("net.down.", ".block.conv1.weight"))
    config = DenoiserConfig(
        widths=(stem.shape[0], *downs),
        blocks=n_blocks // (1 + len(downs)),
        kernel=stem.shape[2],
        n_embedding=given.shape[0],
        sigma_data=card.diffusion.sigma_data,
    )
    model = Denoiser(stem.shape[1], given.shape[1], config)
    example = (torch.zeros(1, *card.latents), torch.ones(1), torch.zeros(1, given.shape[1]))
    stored.fill(model, model, example)
    return model.eval(), config


def decoder_of(
    folder: Path, card: GeneratorCard
) -> tuple[Autoencoder, AutoencoderConfig, np.ndarray, np.ndarray]:
    """An autoencoder whose decoder is the stored one and whose encoder has learned nothing; offset
    and scale of the normalised latents. Errors: SystemExit where the file holds another network."""
    stored = _Stored(folder / DECODER, prefix="autoencoder.")
    first, last = stored["decoder.0.weight"], stored.items("decoder.", ".weight")[-1][1]
    ups = [w.shape[0] for name, w in stored.items("decoder.", ".conv.weight")]
    n_blocks = len(stored.items("decoder.", ".conv1.weight"))
    config = replace(
        AutoencoderConfig(),
        patch=last.shape[0] // N_LEADS,
        widths=(*reversed(ups), first.shape[0]),
        blocks=n_blocks // (1 + len(ups)),
        n_latents=first.shape[1],
        kernel=first.shape[2],
    )
    model = Autoencoder(config)
    offset, scale = stored["offset"], stored["scale"]
    stored.fill(model, _Decoding(model), (torch.zeros(1, *card.latents),), but=ENCODER)
    return model.eval(), config, offset, scale


class _Decoding(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents)


class _Stored:
    """A graph's weights by their names in torch, less `prefix`; float32."""

    def __init__(self, file: Path, prefix: str = "") -> None:
        self.file = file
        graph = onnx.load(file).graph
        self.weights = {
            tensor.name.removesuffix(HALF).removeprefix(prefix): numpy_helper.to_array(tensor)
            for tensor in graph.initializer
        }
        self.nodes = list(graph.node)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.weights:
            raise SystemExit(f"{self.file} is no network of ECG-LDM: it has no {name}")
        return self.weights[name].astype(np.float32)

    def items(self, start: str, end: str) -> list[tuple[str, np.ndarray]]:
        """In the order of the layers' numbers."""
        found = [n for n in self.weights if n.startswith(start) and n.endswith(end)]
        found.sort(key=lambda name: int(name.removeprefix(start).split(".")[0]))
        return [(name, self[name]) for name in found]

    def fill(
        self,
        model: nn.Module,
        runs: nn.Module,
        example: tuple[Tensor, ...],
        but: tuple[str, ...] = (),
    ) -> None:
        """Every weight of `model` but of the parts so named; `runs` runs it as the graph does."""
        norms = _in_order(runs, example)
        pairs = self._multiplied_and_added()
        if len(norms) != len(pairs):
            raise SystemExit(
                f"{self.file} has {len(pairs)} normalisations where {len(norms)} are expected"
            )
        with torch.no_grad():
            for module, (weight, bias) in zip(norms, pairs, strict=True):
                module.weight.copy_(torch.from_numpy(weight.ravel()))
                module.bias.copy_(torch.from_numpy(bias.ravel()))
            done = {id(p) for module in norms for p in (module.weight, module.bias)}
            for name, parameter in model.named_parameters():
                if id(parameter) not in done and not name.startswith(but):
                    parameter.copy_(torch.from_numpy(self[name]))

    def _multiplied_and_added(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The constants [width, 1] of each multiplication that an addition of one follows, in the
        order of the graph."""
        constants = {
            name: values.astype(np.float32)
            for name, values in self.weights.items()
            if name not in ("offset", "scale") and values.ndim == 2 and values.shape[1] == 1
        }
        multiplied, found = {}, []
        for node in self.nodes:
            weight = next((constants[n] for n in node.input if n in constants), None)
            if weight is None:
                continue
            if node.op_type == "Mul":
                multiplied[node.output[0]] = weight
            elif node.op_type == "Add":
                before = next((n for n in node.input if n in multiplied), None)
                if before is not None:
                    found.append((multiplied[before], weight))
        return found


def _in_order(model: nn.Module, example: tuple[Tensor, ...]) -> list[nn.GroupNorm]:
    """The normalisations in the order in which they are run."""
    ran: list[nn.GroupNorm] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for module in model.modules()
        if isinstance(module, nn.GroupNorm)
    ]
    with torch.inference_mode():
        model(*example)
    for hook in hooks:
        hook.remove()
    return ran
