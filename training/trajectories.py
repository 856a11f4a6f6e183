"""python -m training.trajectories: a denoiser's ways from noise to ECG, for fewer calls to learn.

Each is solved once, in eight steps, and kept at each of its noise levels, so that what learns from
them is told where the way leads from each, and pays for none of the calls.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ecg.card import Diffusion
from ecg.sampling import Network, dpm_solver_pp_2m_step, guided, noise_levels
from training import processes
from training.export_generator import add_diffusion, diffusion_from, load
from training.ldm.latents import LabelConfig, LatentBatches, encode_all
from training.loop import LoopConfig
from training.train_autoencoder import load_autoencoder, load_whole
from training.train_classifier import CHOOSE, TRAIN

SHARD = 512
FOLDS = {"training": TRAIN, "held-out": CHOOSE}


@dataclass(frozen=True)
class Trajectories:
    """x float16 [n, levels + 1, latents, time], from `sigmas[0]` to 0; labels float32 [n, features]
    and guidance_scale float32 [n], by which each was solved."""

    sigmas: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    guidance_scale: np.ndarray


def main() -> None:
    args = parser().parse_args()
    known = json.loads((args.run / "run.json").read_text())
    known["autoencoder"] = str(args.autoencoder or known["autoencoder"])
    statements, diffusion = tuple(known["statements"]), diffusion_from(args)
    denoiser, _ = load(args.run, known)
    plan = {
        "teacher": known,
        "diffusion": diffusion.model_dump(mode="json"),
        "guidance": args.guidance,
        "share": args.share,
        "seed": args.seed,
    }
    state = processes.state()
    if state.is_main_process:
        begin(args.out, plan)
    state.wait_for_everyone()
    autoencoder = load_autoencoder(Path(known["autoencoder"]))
    offset, scale = (np.array(known[k], dtype=np.float32)[:, None] for k in ("offset", "scale"))
    network = on_torch(denoiser, args.precision)
    for name, n in (("held-out", args.held_out), ("training", args.n)):
        parts = [part.folds(FOLDS[name]) for part in load_whole(args.data)]
        batches = LatentBatches(
            encode_all(autoencoder, parts, statements), statements, offset, scale,
            LabelConfig(), LoopConfig(batch_size=SHARD, seed=args.seed),
        )  # fmt: skip
        shards = range(-(-n // SHARD))
        for i in tqdm(shards, desc=name, unit=" shards", disable=not processes.is_first()):
            path = args.out / f"{name}-{i:05d}.npz"
            if path.exists() or i % state.num_processes != state.process_index:
                continue
            rng = np.random.default_rng((args.seed, list(FOLDS).index(name), i))
            labels = batches(i, 0, 1)["labels"].numpy()[: n - i * SHARD]
            scales = guidance_scales(rng, len(labels), diffusion.guidance_scale, args)
            x = solved(network, rng, labels, scales, diffusion, (len(offset), 128))
            beside = path.with_suffix(".part")
            with beside.open("wb") as f:
                np.savez(f, x=x, labels=labels, guidance_scale=scales)
            beside.replace(path)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m training.trajectories", description=__doc__)
    p.add_argument("--run", type=Path, default=Path("runs/denoiser"), help="the denoiser's")
    p.add_argument("--autoencoder", type=Path, help="the denoiser's own where not given")
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--out", type=Path, default=Path("runs/trajectories"), help="resumed if begun")
    p.add_argument("-n", type=int, default=16384, help=f"how many; {SHARD} a file")
    p.add_argument("--held-out", type=int, default=SHARD, help="with fold 9's labels")
    p.add_argument("--guidance", type=float, nargs=2, default=(1.0, 4.0), metavar=("LOW", "HIGH"))
    p.add_argument("--share", type=float, default=0.5, help="of ways with the default's guidance")
    p.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    p.add_argument("--seed", type=int, default=0)
    add_diffusion(p)
    # Levels that 1, 2, 4 and 8 jumps divide, finer than what is served.
    p.set_defaults(num_steps=8, sigma_min=0.02, rho=4.0, guidance_interval=(0.05, 3.0))
    return p


def begin(out: Path, plan: dict) -> None:
    """Errors: SystemExit where `out` was begun otherwise."""
    out.mkdir(parents=True, exist_ok=True)
    kept, described = out / "plan.json", json.loads(json.dumps(plan))
    if kept.exists() and (before := json.loads(kept.read_text())) != described:
        differing = ", ".join(k for k in described if before.get(k) != described[k])
        raise SystemExit(f"{out} was begun with another {differing}: remove it to begin anew")
    kept.write_text(json.dumps(described, indent=1))


def guidance_scales(
    rng: np.random.Generator, n: int, default: float, args: argparse.Namespace
) -> np.ndarray:
    """The default's for a share of them, the others from all of the range."""
    scales = rng.uniform(*args.guidance, n)
    scales[rng.random(n) < args.share] = default
    return scales.astype(np.float32)


def on_torch(denoiser: torch.nn.Module, precision: str) -> Network:
    """The denoiser as `ecg.sampling` calls it."""
    device = processes.state().device
    denoiser = denoiser.to(device)

    def network(x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        given = (torch.from_numpy(a).to(device) for a in (x, sigma, labels))
        cast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with torch.inference_mode(), cast:
            return denoiser(*given).float().cpu().numpy()

    return network


def solved(
    network: Network,
    rng: np.random.Generator,
    labels: np.ndarray,
    guidance_scale: np.ndarray,
    d: Diffusion,
    shape: tuple[int, int],
    batch_size: int = 64,
) -> np.ndarray:
    """float16 [n, num_steps + 1, *shape]: the sampler's states at its noise levels."""
    sigmas = noise_levels(d.num_steps, d.sigma_min, d.sigma_max, d.rho)
    out = np.empty((len(labels), len(sigmas), *shape), dtype=np.float16)
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        n = len(labels[rows])
        x = rng.standard_normal((n, *shape), dtype=np.float32) * np.float32(sigmas[0])
        states, previous = [x], None
        for i, sigma in enumerate(sigmas[:-1]):
            denoised = guided(
                network, x, np.full(n, sigma, dtype=np.float32), labels[rows],
                guidance_scale[rows], d.guidance_interval,
            )  # fmt: skip
            x = dpm_solver_pp_2m_step(x, denoised, previous, sigmas, i)
            previous = denoised
            states.append(x)
        out[rows] = np.stack(states, axis=1)
    return out


def read(folder: Path, name: str) -> Trajectories:
    """All shards of `name`. Errors: SystemExit where there is none."""
    plan = json.loads((folder / "plan.json").read_text())
    d = Diffusion(**plan["diffusion"])
    shards = list(_shards(folder, name))
    if not shards:
        raise SystemExit(f"{folder} holds no {name} trajectories: run training.trajectories first")
    arrays = {k: np.concatenate([shard[k] for shard in shards]) for k in shards[0]}
    return Trajectories(noise_levels(d.num_steps, d.sigma_min, d.sigma_max, d.rho), **arrays)


def _shards(folder: Path, name: str) -> Iterator[dict[str, np.ndarray]]:
    for path in sorted(folder.glob(f"{name}-*.npz")):
        with np.load(path) as f:
            yield {k: f[k] for k in ("x", "labels", "guidance_scale")}


if __name__ == "__main__":
    main()
