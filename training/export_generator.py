"""python -m training.export_generator: an autoencoder's and a denoiser's run -> models_store/."""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ecg.card import Diffusion, FlowMap, GeneratorCard, Metric
from ecg.leads import INDEPENDENT_LEADS
from ecg.store import CARD, DECODER, DENOISER
from training.export import training_data, without_traces, write_table
from training.ldm.autoencoder import Autoencoder
from training.ldm.denoiser import Denoiser, DenoiserConfig, told
from training.shards import preparation_from
from training.train_autoencoder import load_autoencoder

MAX_DIFFERENCE = 1e-3
SIGMAS = (0.002, 0.05, 0.5, 5.0, 80.0)


class Decoder(nn.Module):
    """Normalised latents -> mV: the normalisation undone, then the autoencoder's decoder."""

    def __init__(self, autoencoder: Autoencoder, offset: list[float], scale: list[float]) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.offset = nn.Buffer(torch.tensor(offset)[:, None])
        self.scale = nn.Buffer(torch.tensor(scale)[:, None])

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents * self.scale + self.offset)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.export_generator", description=__doc__
    )
    parser.add_argument("--run", type=Path, default=Path("runs/denoiser"))
    parser.add_argument("--version", required=True)
    parser.add_argument("--name", default="ldm")
    parser.add_argument("--store", type=Path, default=Path("models_store"))
    parser.add_argument(
        "--evaluation", type=Path, help="an evaluation.json, for the card's metrics"
    )
    add_diffusion(parser)
    args = parser.parse_args()
    export_run(args.run, args.version, args.name, args.store, diffusion_from(args), args.evaluation)


def export_run(
    run: Path,
    version: str,
    name: str,
    store: Path,
    diffusion: Diffusion | None = None,
    evaluation: Path | None = None,
) -> None:
    """The run's best weights into the store, with a card. diffusion: a denoiser's sampler, the one
    that is served where it is None. Errors: SystemExit where ONNX Runtime answers otherwise."""
    known = json.loads((run / "run.json").read_text())
    denoiser, decoder = load(run, known)
    folder = store / name
    folder.mkdir(parents=True, exist_ok=True)
    n_latents = len(known["offset"])
    x, labels = torch.randn(2, n_latents, 128), torch.zeros(2, len(told(known)))
    hashes = {}
    for file, model, inputs, names, output in (
        (DENOISER, denoiser, (x, torch.ones(2), labels), ["x", "sigma", "labels"], "denoised"),
        (DECODER, decoder, (x,), ["latents"], "sig"),
    ):
        weights = export_onnx(model, inputs, names, output)
        difference = parity(model, weights, inputs, names)
        if difference > MAX_DIFFERENCE:
            raise SystemExit(f"refused: {file} differs from torch by {difference:.2g}")
        (folder / file).write_bytes(weights)
        hashes[file] = hashlib.sha256(weights).hexdigest()
        print(f"{folder / file}: {len(weights) / 2**20:.2f} MiB, parity {difference:.1e}")
    preparation = preparation_from(known["preparation"])
    card = GeneratorCard(
        name=name,
        version=version,
        created=date.today().isoformat(),
        architecture=f"ECG-LDM, latent diffusion, widths {known['config']['model']['widths']}",
        n_parameters=sum(p.numel() for m in (denoiser, decoder) for p in m.parameters()),
        fs=preparation.fs,
        n_samples=preparation.n_samples,
        leads=INDEPENDENT_LEADS,
        statements=tuple(known["statements"]),
        preparation=preparation,
        chosen_on="fold 9 (weights, sampler)",
        metrics=metrics(evaluation, hashes[DENOISER]),
        training_data=training_data(known["sources"]),
        licence="Apache-2.0",
        intended_use="Research: training and testing of ECG models.",
        not_for="Anything that presents a generated ECG as a patient's.",
        limitations=(
            "Baseline wander is not generated: it was trained on signals high-passed at 0.5 Hz.",
            "Statements with few training examples are generated poorly.",
            trained_as(known),
        ),
        sha256=hashes[DENOISER],
        decoder_sha256=hashes[DECODER],
        latents=(n_latents, 128),
        diffusion=mapped(known) if "flow_map" in known else diffusion or default_diffusion(),
    )
    (folder / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    write_table(store)


def add_diffusion(parser: argparse.ArgumentParser) -> None:
    """The sampler's options: by default what is served, as `training.choose_sampler` found it."""
    parser.add_argument("--num-steps", type=int, default=5)
    parser.add_argument("--guidance-scale", type=float, default=2.5)
    parser.add_argument(
        "--guidance-interval", type=float, nargs=2, default=(0.15, 3.0), metavar=("LOW", "HIGH"),
        help="noise levels at which guidance is applied",
    )  # fmt: skip
    parser.add_argument("--sigma-min", type=float, default=0.08)
    parser.add_argument("--sigma-max", type=float, default=10.0)
    parser.add_argument("--rho", type=float, default=5.0)


def diffusion_from(args: argparse.Namespace) -> Diffusion:
    """What `add_diffusion`'s options say."""
    return Diffusion(
        sigma_data=DenoiserConfig.sigma_data,
        sigma_min=args.sigma_min,
        sigma_max=args.sigma_max,
        rho=args.rho,
        num_steps=args.num_steps,
        guidance_scale=args.guidance_scale,
        guidance_interval=tuple(args.guidance_interval),
    )


def default_diffusion(sigma_data: float = DenoiserConfig.sigma_data) -> Diffusion:
    """What an export without options writes on the card."""
    parser = argparse.ArgumentParser()
    add_diffusion(parser)
    said = diffusion_from(parser.parse_args([]))
    return said.model_copy(update={"sigma_data": sigma_data})


def mapped(known: dict) -> Diffusion:
    """A flow map's noise levels are those of its trajectories, and two steps its default."""
    learned = known["flow_map"]
    teacher = Diffusion(**learned["diffusion"])
    flow_map = FlowMap(n_levels=teacher.num_steps, guidance=tuple(learned["guidance"]))
    return teacher.model_copy(update={"num_steps": 2, "flow_map": flow_map})


def metrics(evaluation: Path | None, sha256: str) -> tuple[Metric, ...]:
    """The card's figures, of fold 10 and of this denoiser: SystemExit where they are another's."""
    if evaluation is None:
        return ()
    found = json.loads(evaluation.read_text())
    if found["generator"]["sha256"] != sha256:
        raise SystemExit(f"refused: {evaluation} judges another denoiser")
    tstr, data = found["tstr"], f"{found['source']} fold 10"
    figures = [
        (f"{name} AUROC of a classifier trained on {kind}", tstr[name][kind], tstr["n_test"])
        for name in ("macro", "atrial")
        if name in tstr
        for kind in ("real", "generated", "both")
    ]
    figures += [
        (f"{name} AUROC, ratio of generated to real", tstr[name]["generated_to_real"],
         tstr["n_test"])
        for name in ("macro", "atrial")
        if name in tstr
    ]  # fmt: skip
    if afib := found.get("afib"):
        figures.append(("AFIB AUROC by the classifier, AFIB and SR asked for", afib, afib["n"]))
    rate = found["heart_rate"]
    figures += [
        ("heart rate, median error in beats a minute", {**rate, "value": rate["median_error"]},
         len(rate["asked"])),
    ]  # fmt: skip
    return tuple(
        Metric(
            name=name,
            value=round(f["value"], 4),
            interval=tuple(round(x, 4) for x in f["interval"]),
            n=n,
            data=data,
            leads="12 leads",
        )
        for name, f, n in figures
    )


def trained_as(known: dict) -> str:
    """With what effort it was trained."""
    if steps := known.get("refined"):
        before = trained_as({k: v for k, v in known.items() if k != "refined"})
        said = (f"{one['ratings']:,} ratings by {one['who']}" for one in steps)
        return f"{before} Refined by {'; then by '.join(said)}."
    if damage := known.get("damage"):
        before = trained_as({k: v for k, v in known.items() if k != "damage"})
        return f"{before} Damaged on purpose ({damage}): not to be served."
    if imported := known.get("imported"):
        return f"{imported['name']} {imported['version']}, imported: {imported['trained_as']}"
    loop, initial = known["config"]["loop"], known.get("initial")
    begun = f", begun from the weights of {Path(initial).name}" if initial else ""
    if learned := known.get("flow_map"):
        taught = learned["config"]["loop"]
        matched = ""
        if tuned := learned.get("matched"):
            then = tuned["config"]["loop"]
            matched = f", then {then['steps']:,} steps of {then['batch_size']} to match its ECGs"
        return (
            f"A flow map, preset {learned['preset']!r}: {taught['steps']:,} steps of "
            f"{taught['batch_size']} jumps along {learned['trajectories']:,} trajectories of a "
            f"denoiser of the preset {known['preset']!r}{matched}."
        )
    return (
        f"Trained with the preset {known['preset']!r}: {loop['steps']:,} steps of "
        f"{loop['batch_size']} segments{begun}."
    )


def load(run: Path, known: dict) -> tuple[Denoiser, Decoder]:
    """The best weights of a run, and the decoder that it was trained with."""
    autoencoder = load_autoencoder(Path(known["autoencoder"]))
    decoder = Decoder(autoencoder, known["offset"], known["scale"]).eval()
    config = DenoiserConfig(**known["config"]["model"])
    denoiser = Denoiser(len(known["offset"]), len(told(known)), config)
    denoiser.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    return denoiser.eval(), decoder


def export_onnx(
    model: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str
) -> bytes:
    """The network with a free batch size, its weights stored in half precision."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model,
        inputs,
        input_names=names,
        output_names=[output],
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        dynamo=True,
        verbose=False,
    )
    return halve(without_traces(program.model_proto)).SerializeToString()


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Large weights as float16, cast back when the model is loaded: half the megabytes, and the
    arithmetic stays float32."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < 256:
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half")
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(half)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def parity(model: nn.Module, weights: bytes, inputs: tuple[Tensor, ...], names: list[str]) -> float:
    """The largest difference between torch and ONNX Runtime, both with the stored weights, over
    noise levels."""
    with torch.no_grad():
        for p in model.parameters():
            if p.numel() >= 256:
                p.copy_(p.half().float())
    session = ort.InferenceSession(weights, providers=["CPUExecutionProvider"])
    worst = 0.0
    for sigma in SIGMAS if len(inputs) == 3 else (1.0,):
        given = list(inputs)
        if len(given) == 3:
            given[0], given[1] = inputs[0] * (sigma**2 + 0.25) ** 0.5, torch.full((2,), sigma)
        with torch.inference_mode():
            expected = model(*given).numpy()
        got = session.run(None, {n: v.numpy() for n, v in zip(names, given, strict=True)})[0]
        worst = max(worst, float(np.abs(got - expected).max()))
    return worst


if __name__ == "__main__":
    main()
