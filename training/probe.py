"""python -m training.probe: which of ECG-LDM's layers, at which noise, knows what an ECG has.

A linear map of each layer's pooled answers is fitted on folds 1-8 (ridge regression) and read on
fold 9; nothing else learns.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from training.networks.masks import mean_and_peak
from training.networks.unet import UNet, UNetConfig, activations
from training.shards import Shard, load
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, TRAIN, covered_statements
from training.tstr import scores, segment_labels

AT_ONCE = 64
PENALTIES = (1e2, 1e3, 1e4)


def main() -> None:
    args = parser().parse_args()
    path = args.data / f"{args.source}.npz"
    if not path.exists():
        raise SystemExit(f"no shard {path}: run python -m training.prepare first")
    whole = subset(whole_segments(load(path)), args.fraction, 0)
    parts = {name: whole.folds(folds) for name, folds in (("learn", TRAIN), ("read", CHOOSE))}
    statements = covered_statements([parts["learn"]])
    label = {name: segment_labels(part, statements) for name, part in parts.items()}
    model = UNet(1, UNetConfig(str(args.autoencoder), str(args.denoiser), layer="")).eval()
    found = []
    for sigma in args.sigmas:
        for is_noisy in (False, True):
            pooled = {name: answers(model, part, sigma, is_noisy) for name, part in parts.items()}
            for i, layer in enumerate(model.net.layers):
                x = {name: of[i] for name, of in pooled.items()}
                figures = best(x["learn"], label["learn"], x["read"], label["read"])
                found.append({"layer": layer, "sigma": sigma, "noise": is_noisy, **figures})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m training.probe", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--source", default="ptb-xl")
    p.add_argument("--autoencoder", type=Path, default=Path("runs/autoencoder"), help="its run")
    p.add_argument("--denoiser", type=Path, default=Path("runs/denoiser"), help="its run")
    p.add_argument("--sigmas", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4, 0.8])
    p.add_argument("--fraction", type=float, default=1.0, help="of the training records")
    p.add_argument("--out", type=Path, default=Path("runs/probe.json"))
    return p


@torch.inference_mode()
def answers(model: UNet, part: Shard, sigma: float, is_noisy: bool) -> list[np.ndarray]:
    """Of each layer float32 [segment, 2 * width]: the mean and the peak over time."""
    torch.manual_seed(0)
    rows = []
    for start in tqdm(range(0, len(part.sig), AT_ONCE), desc=f"sigma {sigma:g}", unit=" batches"):
        sig = torch.from_numpy(part.sig[start : start + AT_ONCE].astype(np.float32))
        latents = model.latents(sig)
        if is_noisy:
            latents = latents + sigma * torch.randn_like(latents)
        made = activations(model.net, latents, sigma, model.sigma_data)
        rows.append([mean_and_peak(x, torch.ones_like(x[:, :1])).numpy() for x in made])
    return [np.concatenate(layer) for layer in zip(*rows, strict=True)]


def best(
    x: np.ndarray, label: np.ndarray, read: np.ndarray, read_label: np.ndarray
) -> dict[str, float]:
    """AUROCs on fold 9 of the penalty that is best there. What is unknown (-1) is taken as the
    mean of what is known."""
    known = label >= 0
    mean = np.where(known, label, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    target = np.where(known, label, mean)
    tried = []
    for penalty in PENALTIES:
        fitted = make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(x, target)
        tried.append(scores(read_label, fitted.predict(read)))
    return max(tried, key=lambda figures: sum(figures.values()))


def table(found: list[dict]) -> str:
    """Markdown, the best first."""
    lines = ["| layer | sigma | noise | atrial | macro |", "|---|---|---|---|---|"]
    for one in sorted(found, key=lambda one: -(one["atrial"] + one["macro"])):
        noise = "added" if one["noise"] else "none"
        lines.append(
            f"| {one['layer']} | {one['sigma']:g} | {noise} | {one['atrial']:.3f} | "
            f"{one['macro']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
