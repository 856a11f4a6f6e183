"""python -m training.membership: can it be told whose ECGs a generator was trained on?

    python -m training.membership --run runs/denoiser-1.0.0 runs/denoiser --autoencoder \\
        runs/autoencoder --set runs/evaluation/.../training-0.npz --out membership.json

Members are training records; non-members are the records of folds 9 and 10, each beside the member
that is most like it in what is known of it. An attack gives each record a score, higher where it
takes the record for a member (Shokri et al. 2017, doi 10.1109/SP.2017.41).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import nn
from tqdm import tqdm

from ecg.card import Diffusion
from ecg.labels import encode
from ecg.sampling import flow_map_features, jumps, noise_levels
from training.judging.embeddings import digest, kept
from training.judging.judgement import first
from training.judging.novelty import likeness
from training.ldm.autoencoder import Autoencoder
from training.ldm.denoiser import Denoiser, DenoiserConfig, told
from training.ldm.latents import encode_all
from training.metrics import auroc, bootstrap
from training.shards import Shard, load
from training.train_autoencoder import load_autoencoder, whole_segments
from training.train_classifier import CHOOSE, REPORT, TRAIN

SIGMAS = (0.2, 0.4, 0.8)  # around sigma_data, 0.5: much below and above, nothing is learned
N_NOISES = 4
FPR, LIMIT = 0.05, 0.10
N_RESAMPLES = 1000
HIGH_HZ = 40


@dataclass(frozen=True)
class Suspects:
    """Segments, as many members as non-members: `part` of both, `member` bool [segment]."""

    part: Shard
    member: np.ndarray

    @property
    def patient(self) -> np.ndarray:
        return self.part.patient[self.part.record]


def main() -> None:
    args = parser().parse_args()
    suspects = suspects_of(whole_segments(load(args.data / f"{args.source}.npz")))
    sets = {path.stem: load(path).sig for path in args.set}
    found = attack_all(suspects, args.run, args.autoencoder, sets, args.work, args.noises)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    for attack in (found["control"], *found["attacks"]):
        print(f"{attack['on']}, {attack['name']}: {said(attack)}")


def said(attack: dict) -> str:
    tpr, area = attack["tpr"], attack["auroc"]
    return (
        f"TPR {tpr['value']:.3f} [{tpr['interval'][0]:.3f}, {tpr['interval'][1]:.3f}] at "
        f"{FPR:.0%} FPR, AUROC {area['value']:.3f} [{area['interval'][0]:.3f}, "
        f"{area['interval'][1]:.3f}]: {'holds' if attack['holds'] else 'LEAKS'}"
    )


def parser() -> argparse.ArgumentParser:
    described, _, example = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.membership", description=described, epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--source", default="ptb-xl", help="the shard that the generator learned from")
    p.add_argument(
        "--run", type=Path, nargs="*", default=[],
        help="of the denoiser, the earliest first: it calibrates the attacks on the others",
    )  # fmt: skip
    p.add_argument("--autoencoder", type=Path, help="a run; default: the one the denoisers name")
    p.add_argument("--noises", type=int, default=N_NOISES, help="of each loss")
    p.add_argument("--set", type=Path, nargs="*", default=[], help="shards of generated ECGs")
    p.add_argument("--work", type=Path, default=Path("runs/judge"), help="resumed if begun")
    p.add_argument("--out", type=Path, default=Path("membership.json"))
    return p


def suspects_of(real: Shard) -> Suspects:
    """Every non-member, each with the member most like it: assigned so that statements, age and sex
    differ least over all pairs, lest an attack tell labels apart instead of members."""
    row_fold = real.strat_fold[real.record]
    members = np.flatnonzero(np.isin(row_fold, TRAIN))
    strangers = np.flatnonzero(np.isin(row_fold, (*CHOOSE, *REPORT)))
    if len(members) < len(strangers) or not len(strangers):
        raise SystemExit(
            f"{len(members)} training segments and {len(strangers)} of folds 9 and 10: membership "
            "is told among as many of each, so folds 1-8 must have at least as many"
        )
    known = _described(real)
    _, chosen = linear_sum_assignment(cdist(known[strangers], known[members], "cityblock"))
    rows = np.concatenate([members[chosen], strangers])
    return Suspects(first(real, rows), np.repeat([True, False], len(strangers)))


def _described(part: Shard) -> np.ndarray:
    """[segment, features]: labels, age in units of 20 years, sex; unknown ages are 60."""
    age = np.nan_to_num(np.minimum(part.age, 90.0), nan=60.0) / 20
    known = np.column_stack([part.label, age, part.sex])
    return known[part.record].astype(float)


def attack_all(
    suspects: Suspects,
    runs: Sequence[Path],
    autoencoder: Path | None,
    sets: Mapping[str, np.ndarray],
    work: Path,
    n_noises: int = N_NOISES,
) -> dict:
    """Every attack's figures on the runs and on sets of generated ECGs by name, beside those of a
    guess without any model; `holds` where all the attacks' upper bounds are within LIMIT."""
    control = {
        "on": "no model",
        "name": f"power above {HIGH_HZ} Hz",
        **judged(suspects, high(suspects.part)),
    }
    folds = sorted({int(f) for f in suspects.part.strat_fold[suspects.part.record]})
    if not (runs or autoencoder or sets):
        raise SystemExit("nothing to attack: give --run, --autoencoder or --set")
    attacks = []
    if autoencoder is None and runs:
        autoencoder = Path(_known(runs[0])["autoencoder"])
    if autoencoder is not None:
        model = load_autoencoder(autoencoder)
        loss = reconstruction_losses(model, suspects.part.sig)
        attacks.append(
            {"on": autoencoder.name, "name": "reconstruction", **judged(suspects, -np.log(loss))}
        )
        attacks += _attack_runs(suspects, runs, model, work, n_noises)
    for name, made in sets.items():
        near = kept(
            work, f"near-{digest(suspects.part.sig, made)}",
            lambda made=made: likeness(suspects.part.sig, made, suspects.part.preparation.fs),
        )  # fmt: skip
        attacks.append({"on": name, "name": "nearest sample", **judged(suspects, near)})
    return {
        "n_members": int(suspects.member.sum()),
        "n_non_members": int((~suspects.member).sum()),
        "folds": folds,
        "sigmas": {run.name: sigmas_of(_known(run)) for run in runs},
        "noises": n_noises,
        "fpr": FPR,
        "limit": LIMIT,
        "control": control,
        "attacks": attacks,
        "holds": all(attack["holds"] for attack in attacks),
    }


def high(part: Shard) -> np.ndarray:
    """[segment]: the logarithm of the share of its power above HIGH_HZ. It knows nothing of any
    generator: what it tells, the folds differ by of themselves."""
    power = np.abs(np.fft.rfft(part.sig.astype(np.float32), axis=2)) ** 2
    above = np.fft.rfftfreq(part.sig.shape[2], 1 / part.preparation.fs) > HIGH_HZ
    shares = power[:, :, above].sum(axis=(1, 2)) / power.sum(axis=(1, 2)).clip(1e-12)
    return np.log(shares.clip(1e-12))


def _attack_runs(
    suspects: Suspects, runs: Sequence[Path], autoencoder: Autoencoder, work: Path, n_noises: int
) -> list[dict]:
    """By the loss, and against what the first run makes of the same record (Watson et al. 2022,
    doi 10.48550/arXiv.2111.08440): a hard record has a high loss in both."""
    attacks, first = [], None
    for run in runs:
        loss = np.log(losses_of_run(run, autoencoder, suspects.part, work, n_noises))
        sigmas = sigmas_of(_known(run))
        by_sigma = {f"{sigma:g}": judged(suspects, -loss[:, i]) for i, sigma in enumerate(sigmas)}
        score = -loss.mean(axis=1)
        attacks.append(
            {"on": run.name, "name": "loss", **judged(suspects, score), "by_sigma": by_sigma}
        )
        if first is not None and sigmas == sigmas_of(_known(runs[0])):
            change = (first - loss).mean(axis=1)
            name = f"loss, calibrated by {runs[0].name}"
            attacks.append({"on": run.name, "name": name, **judged(suspects, change)})
        if first is None:
            first = loss
    return attacks


def losses_of_run(
    run: Path, autoencoder: Autoencoder, part: Shard, work: Path, n_noises: int = N_NOISES
) -> np.ndarray:
    """[segment, sigma]: the squared error of denoising, all labels given; of a flow map, of the
    last jump of its samplers."""
    known = _known(run)
    latents = encode_all(autoencoder, [part], known["statements"])
    offset, scale = (np.array(known[k], np.float32)[:, None] for k in ("offset", "scale"))
    x = (latents.mean - offset) / scale
    labels = np.stack([encode(one, known["statements"]) for one in latents.labels])
    if "flow_map" in known:
        learned = known["flow_map"]["diffusion"]
        n, n_levels = len(labels), learned["num_steps"]
        scale = np.full(n, learned["guidance_scale"], np.float32)
        labels = flow_map_features(labels, scale, np.full(n, n_levels), n_levels)
    denoiser = load_denoiser(run)
    weights = [p.detach().numpy() for p in denoiser.parameters()]
    of = digest(x, labels, *weights)
    columns = [
        kept(work, f"loss-{of}-{n_noises}-{sigma:g}",
             lambda sigma=sigma: denoising_loss(denoiser, x, labels, sigma, n_noises))
        for sigma in tqdm(sigmas_of(known), desc=run.name, unit=" sigmas")
    ]  # fmt: skip
    return np.stack(columns, axis=1)


def sigmas_of(known: Mapping) -> tuple[float, ...]:
    """The noise levels at which a run is attacked: for a flow map, those that its samplers of two
    and four calls jump from to an ECG."""
    if "flow_map" not in known:
        return SIGMAS
    d = Diffusion(**known["flow_map"]["diffusion"])
    levels = noise_levels(d.num_steps, d.sigma_min, d.sigma_max, d.rho)
    return tuple(float(levels[jumps(k, d.num_steps)[-1][0]]) for k in (2, 4))


def _known(run: Path) -> dict:
    if not (run / "run.json").exists() or not (run / "best.pt").exists():
        raise SystemExit(f"{run} is no run of training.train_denoiser: run.json, best.pt expected")
    return json.loads((run / "run.json").read_text())


def load_denoiser(run: Path) -> Denoiser:
    """The best weights of a run; settings of the network that are no longer any are left out."""
    known = _known(run)
    names = {f.name for f in dataclasses.fields(DenoiserConfig)}
    config = {k: v for k, v in known["config"]["model"].items() if k in names}
    model = Denoiser(len(known["offset"]), len(told(known)), DenoiserConfig(**config))
    model.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    return model.eval()


def denoising_loss(
    denoiser: nn.Module,
    latents: np.ndarray,
    labels: np.ndarray,
    sigma: float,
    n_noises: int = N_NOISES,
    seed: int = 0,
) -> np.ndarray:
    """[n]: the mean squared error at this sigma over the noises, the same for every record, so
    that records differ by themselves alone."""
    rng = np.random.default_rng(seed)
    noises = rng.standard_normal((n_noises, *latents.shape[1:]), dtype=np.float32)
    out = np.zeros(len(latents))
    with torch.inference_mode():
        for start in range(0, len(latents), 64):
            x = torch.from_numpy(latents[start : start + 64])
            y = torch.from_numpy(labels[start : start + 64])
            for noise in torch.from_numpy(noises):
                denoised = denoiser(x + sigma * noise, torch.full((len(x),), sigma), y)
                error = ((denoised.float() - x) ** 2).mean(dim=(1, 2))
                out[start : start + 64] += error.numpy() / n_noises
    return out


def reconstruction_losses(autoencoder: Autoencoder, sig: np.ndarray) -> np.ndarray:
    """[n]: the squared error, mV^2, of what the mean latents decode to, in units of the signal's
    own power: a large ECG has a large error whoever's it is."""
    out = []
    with torch.inference_mode():
        for start in range(0, len(sig), 64):
            x = torch.from_numpy(sig[start : start + 64].astype(np.float32))
            error = ((autoencoder.decode(autoencoder.encode(x)[0]) - x) ** 2).mean(dim=(1, 2))
            out.append((error / x.var(dim=(1, 2)).clamp(min=1e-8)).numpy())
    return np.concatenate(out)


def judged(suspects: Suspects, score: np.ndarray) -> dict:
    """AUROC and TPR at FPR with intervals over patients; `holds` where the TPR's upper bound is
    within LIMIT."""
    member = suspects.member
    every = np.arange(len(member))
    figures = {
        "auroc": lambda rows: auroc(member[rows].astype(int), score[rows]),
        "tpr": lambda rows: tpr_at(member[rows], score[rows]),
    }
    found: dict = {
        name: {
            "value": float(figure(every)),
            "interval": bootstrap(figure, suspects.patient, N_RESAMPLES),
        }
        for name, figure in figures.items()
    }
    found["holds"] = bool(found["tpr"]["interval"][1] <= LIMIT)
    return found


def tpr_at(member: np.ndarray, score: np.ndarray, fpr: float = FPR) -> float:
    """The share of members above what `fpr` of the non-members are above at most; NaN where there
    are none of either."""
    if member.all() or not member.any():
        return float("nan")
    limit = np.quantile(score[~member], 1 - fpr, method="higher")
    return float((score[member] > limit).mean())


if __name__ == "__main__":
    main()
