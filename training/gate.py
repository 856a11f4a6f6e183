"""python -m training.gate: fit the quality gate's scores, or report on records it never saw.

`fit` writes ecg/gate.json, `report` training/reports/quality.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ecg.electrodes import SWAPS, swap_signs
from ecg.leads import LEADS, LIMB_FROM_I_II, LIMB_LEADS
from ecg.prepare import MAX_GAP_S, Preparation
from ecg.quality import Examined, examine
from ecg.record import Record
from ecg.scores import GATE, LIMIT, OF_ECG, OF_LEAD, OF_RECORD, ecg_signs, gate_from, record_signs
from ecg.waveform import fill_gaps, resample
from training.quality.not_ecg import KINDS, LAYOUTS, as_record
from training.sources import cinc2011, cinc2017, ptbxl
from training.sources.labelled import hashed_fold

TRAIN, CHOOSE = range(1, 9), 9
LEAD_SETS = {
    "12 leads": LEADS,
    "limb leads": LIMB_LEADS,
    "I": ("I",),
    "II": ("II",),
    "V1": ("V1",),
    "V5": ("V5",),
}
SHARES = {"12 leads": 3.0, "limb leads": 1.5, "cinc2017": 2.0}  # of the weight; 1 for the others
KIND_SHARES = {"cartoon": 2.0, "sketch": 3.0}  # the hardest
NOISE_KINDS = ("white_noise", "pink_noise", "random_walk", "emg")
NOISE_SHARE = 0.5  # of the weight of the recorded noise
A_KIND = 60  # signals of each kind and layout to fit
RIDGE = {"lead": 1e-2, "record": 1e-3, "ecg": 1e-4, "swap": 1e-3}
REFUSED_LEADS = 0.025  # of CinC 2017's records that are not of the noisy class
REFUSED_OF_MANY = 0.003  # of leads of PTB-XL
REFUSED_ECGS = 0.015  # of fold 9, at most, under any lead set
REFUSED_IN_MANY = 0.005
FALSE_SWAPS = 0.003
SEED = 1


@dataclass(frozen=True)
class Seen:
    """Signs of first segments, [record, ...]."""

    lead: np.ndarray
    usable: np.ndarray
    lost: np.ndarray
    disagreement: np.ndarray
    ecg: np.ndarray
    swap: np.ndarray
    examined: tuple[Examined, ...]

    def __len__(self) -> int:
        return len(self.lead)

    def of(self, rows: np.ndarray) -> Seen:
        kept = tuple(self.examined[i] for i in np.flatnonzero(rows)) if rows.dtype == bool else ()
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self)[:-1]}
        return replace(self, **arrays, examined=kept)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.gate", description=__doc__)
    parser.add_argument("verb", choices=("fit", "report"))
    parser.add_argument("--ptb-xl", type=Path, required=True)
    parser.add_argument("--cinc2017", type=Path, required=True)
    parser.add_argument("--cinc2011", type=Path, required=True, help="set-a, folder or zip")
    parser.add_argument("--nstdb", type=Path, help="for the report")
    parser.add_argument("--model", type=Path, default=Path("models_store/prednet"))
    parser.add_argument("--out", type=Path, help="gate.json, or the report's folder")
    args = parser.parse_args()
    if args.verb == "fit":
        found = fit_all(args)
        (args.out or GATE).write_text(_lines(found) + "\n")
        return
    from training import gate_report

    if not args.nstdb:
        parser.error("report needs --nstdb")
    gate_report.write(args, args.out or Path("training/reports/quality"))


def _lines(found: dict[str, Any]) -> str:
    """JSON with a list of numbers a line."""
    text = json.dumps(found, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)


def see(records: Iterable[Record]) -> Seen:
    """Of records with the same leads; of each its first segment, prepared as for the service."""
    found = []
    for record in records:
        p = Preparation()
        raw, missing = fill_gaps(record.sig[None], round(MAX_GAP_S * record.fs))
        sig = resample(raw, record.fs, p.fs)[..., : p.n_samples]
        end = round(p.n_samples * record.fs / p.fs)
        e = examine(raw[..., :end], missing[..., :end], sig, p.fs, record.leads)
        usable = e.usable[:, e.rows]
        swap = swap_signs(e.signs, p.fs) if len(e.rows) == 8 else np.zeros((1, 0))
        found.append(
            (e.signs.lead, usable, (~e.usable).sum(axis=-1), e.disagreement,
             ecg_signs(e.signs, usable), swap, e)
        )  # fmt: skip
    *arrays, examined = zip(*found, strict=True)
    slim = tuple(e._replace(swings=e.swings[..., :1].copy()) for e in examined)
    return Seen(*(np.concatenate(a) for a in arrays), slim)


def fit_logistic(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, ridge: float, pairs: bool
) -> dict[str, Any]:
    """A `Score` as gate.json holds it, both classes counting alike; threshold 0."""
    centre, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    clipped = np.clip((x - centre) / scale, -LIMIT, LIMIT)
    i, j = np.triu_indices(x.shape[1]) if pairs else np.zeros((2, 0), dtype=int)
    given = np.concatenate([clipped, clipped[:, i] * clipped[:, j]], axis=1)
    sign = np.where(y, 1.0, -1.0)
    share = weight / np.where(y, weight[y].sum(), weight[~y].sum()) / 2

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (given @ w[:-1] + w[-1])
        pull = -share * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        gradient = np.append(given.T @ pull + 2 * ridge * w[:-1], pull.sum())
        return (share * np.logaddexp(0, -margin)).sum() + ridge * (w[:-1] ** 2).sum(), gradient

    start = np.zeros(given.shape[1] + 1)
    w = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    n = x.shape[1]
    found = {"centre": centre, "scale": scale, "weight": w[:n]}
    found = {name: np.round(a.astype(float), 6).tolist() for name, a in found.items()}
    if pairs:
        products = np.zeros((n, n))
        products[i, j] = w[n:-1]
        found["pairs"] = np.round(products, 6).tolist()
    return {**found, "offset": round(float(w[-1]), 6), "threshold": 0.0}


def logit(found: dict[str, Any], x: np.ndarray) -> np.ndarray:
    whole = {"lead": found, "record": found, "ecg": found, "swaps": {}}
    return gate_from(whole).lead.logit(x)


def fit_all(args: argparse.Namespace) -> dict[str, Any]:
    """gate.json's content."""
    hand_held = list(cinc2017.load_all(args.cinc2017))
    fold = np.array([hashed_fold(name) for _, name, _ in hand_held])
    noisy = np.array([label == "~" for _, _, label in hand_held])
    one_lead = see(record for record, _, _ in hand_held)
    del hand_held
    train = np.isin(fold, TRAIN)
    clean = [item for item in ptbxl.load(args.ptb_xl) if item.strat_fold <= CHOOSE]
    folds = np.array([item.strat_fold for item in clean])
    sets = {
        name: see(restrict(item.record, leads) for item in clean)
        for name, leads in LEAD_SETS.items()
    }
    trained, chosen = folds != CHOOSE, folds == CHOOSE
    ecgs = {name: seen.of(trained) for name, seen in sets.items()}
    drawn = not_ecgs(SEED)
    lead = fit_lead(
        one_lead.of(train),
        noisy[train],
        [ecgs[name] for name, leads in LEAD_SETS.items() if len(leads) == 1],
        [drawn[kind, "one lead"] for kind in NOISE_KINDS],
    )
    judged = [j for j in cinc2011.load(args.cinc2011) if j.tuning]
    accepted = np.array([j.acceptable for j in judged])
    experts = see(j.record for j in judged)
    record = fit_record(experts, accepted, lead)
    ecgs |= {"cinc2017": one_lead.of(train & ~noisy), "cinc2011": experts.of(accepted)}
    others = {name: seen.of(chosen) for name, seen in sets.items()}
    others["cinc2017"] = one_lead.of((fold == CHOOSE) & ~noisy)
    return {
        "about": "Scores of the signal-quality gate, read by ecg/scores.py. Made by "
        "`python -m training.gate fit --ptb-xl ... --cinc2017 ... --cinc2011 ...`",
        "made": datetime.date.today().isoformat(),
        "seed": SEED,
        "data": {
            "lead": f"CinC 2017, folds 1-8: {int((train & ~noisy).sum())} of classes N, A and O, "
            f"{int((train & noisy).sum())} of the noisy class. {cinc2017.LICENCE}. At half their "
            "weight, single leads of PTB-XL folds 1-8 and simulated noise",
            "record": f"CinC 2011 set A, tuning half: {int(accepted.sum())} acceptable, "
            f"{int((~accepted).sum())} unacceptable. {cinc2011.LICENCE}",
            "ecg": f"PTB-XL folds 1-8 ({int(trained.sum())} records, {len(LEAD_SETS)} lead sets), "
            f"and the above, against {A_KIND} simulated signals of each of {len(KINDS)} kinds and "
            f"{len(LAYOUTS)} layouts (training/quality/not_ecg.py); threshold on fold 9. "
            f"{ptbxl.LICENCE}",
            "swaps": "PTB-XL folds 1-8, and the same with the electrodes exchanged",
        },
        "signs": {"lead": OF_LEAD, "record": OF_RECORD, "ecg": OF_ECG},
        "lead": lead,
        "record": record,
        "ecg": fit_ecg(ecgs, others, drawn),
        "swaps": fit_swaps([item for item in clean if item.strat_fold != CHOOSE]),
    }


def restrict(record: Record, leads: Sequence[str]) -> Record:
    rows = [record.leads.index(name) for name in leads]
    return Record(record.sig[rows], record.fs, tuple(leads))


def fit_lead(
    seen: Seen, noisy: np.ndarray, clean: Sequence[Seen], noise: Sequence[Seen]
) -> dict[str, Any]:
    """Clean or noisy, one lead, hand-held (`seen`) or not; the thresholds let most of the hand-held
    pass that are not noisy, and of many leads nearly all."""
    parts = [seen.of(~noisy), seen.of(noisy), *clean, *noise]
    good = [True, False] + [True] * len(clean) + [False] * len(noise)
    shares = [1.0, 1.0] + [NOISE_SHARE / len(clean)] * len(clean)
    shares += [NOISE_SHARE / len(noise)] * len(noise)
    x = [part.lead[part.usable[:, 0], 0, : len(OF_LEAD)] for part in parts]
    y = np.repeat(good, [len(some) for some in x])
    weight = np.concatenate(
        [np.full(len(some), share / len(some)) for some, share in zip(x, shares, strict=True)]
    )
    found = fit_logistic(np.concatenate(x), y, weight, RIDGE["lead"], pairs=False)
    one = np.quantile(logit(found, x[0]), REFUSED_LEADS)
    many = np.quantile(logit(found, np.concatenate(x[2 : 2 + len(clean)])), REFUSED_OF_MANY)
    return {
        **found,
        "threshold": round(float(one), 4),
        "threshold_in_many": round(float(many), 4),
    }


def of_record(seen: Seen, lead: dict[str, Any]) -> np.ndarray:
    """[record, OF_RECORD]"""
    rows = []
    for i, e in enumerate(seen.examined):
        clean = logit(lead, e.signs.lead[..., : len(OF_LEAD)])
        part = slice(i, i + 1)
        rows.append(
            record_signs(e.signs, clean, seen.usable[part], seen.lost[part], e.disagreement)
        )
    return np.concatenate(rows)


def fit_record(seen: Seen, accepted: np.ndarray, lead: dict[str, Any]) -> dict[str, Any]:
    """Acceptable to experts or not; the threshold has the best accuracy in cross-validation."""
    x = of_record(seen, lead)
    held_out = np.zeros(len(x))
    part = np.arange(len(x)) % 5
    for k in range(5):
        rest = part != k
        fitted = fit_logistic(x[rest], accepted[rest], np.ones(rest.sum()), RIDGE["record"], False)
        held_out[~rest] = logit(fitted, x[~rest])
    grid = np.quantile(held_out, np.linspace(0.02, 0.98, 193))
    accuracy = [((held_out >= t) == accepted).mean() for t in grid]
    best = np.flatnonzero(accuracy >= max(accuracy) - 1e-9)
    found = fit_logistic(x, accepted, np.ones(len(x)), RIDGE["record"], pairs=False)
    return {**found, "threshold": round(float(grid[best[len(best) // 2]]), 4)}


def not_ecgs(
    seed: int, n: int = A_KIND, kinds: Sequence[str] = tuple(KINDS)
) -> dict[tuple[str, str], Seen]:
    """Signs of drawn signals, by kind and layout; the seed of a kind is its own."""
    return {
        (kind, layout): see(
            as_record(kind, layout, np.random.default_rng([seed, i, j, k])) for k in range(n)
        )
        for i, kind in enumerate(KINDS)
        for j, layout in enumerate(LAYOUTS)
        if kind in kinds
    }


def fit_ecg(
    ecgs: dict[str, Seen], chosen: dict[str, Seen], others: dict[tuple[str, str], Seen]
) -> dict[str, Any]:
    """An ECG or not; the thresholds refuse at most REFUSED_ECGS of `chosen` with few leads, in any
    set, and REFUSED_IN_MANY of those with twelve."""
    x, weight = [], []
    for name, seen in ecgs.items():
        some = seen.ecg[seen.usable.any(axis=-1)]
        x.append(some)
        weight.append(np.full(len(some), SHARES.get(name, 1.0) / len(some)))
    n_ecgs = sum(map(len, x))
    for key, seen in others.items():
        some = seen.ecg[seen.usable.any(axis=-1)]
        x.append(some)
        weight.append(np.full(len(some), KIND_SHARES.get(key[0], 1.0) / max(1, len(some))))
    y = np.arange(sum(map(len, x))) < n_ecgs
    found = fit_logistic(np.concatenate(x), y, np.concatenate(weight), RIDGE["ecg"], pairs=True)

    def limit(name: str, refused: float) -> float:
        seen = chosen[name]
        return float(np.quantile(logit(found, seen.ecg[seen.usable.any(axis=-1)]), refused))

    few = min(limit(name, REFUSED_ECGS) for name in chosen if name != "12 leads")
    many = max(few, limit("12 leads", REFUSED_IN_MANY))
    return {**found, "threshold": round(few, 4), "threshold_in_many": round(many, 4)}


def swap(record: Record, name: str) -> Record:
    """The twelve leads as they are with two limb electrodes exchanged."""
    sig = record.sig.copy()
    sig[:6] = LIMB_FROM_I_II @ (SWAPS[name] @ record.sig[:2])
    return Record(sig.astype(np.float32), record.fs, record.leads)


def fit_swaps(items: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Exchanged or not, a score a pair of electrodes; few false alarms."""
    right = see(item.record for item in items).swap
    found = {}
    for name in SWAPS:
        wrong = see(swap(item.record, name) for item in items).swap
        x = np.concatenate([right, wrong])
        y = np.arange(len(x)) >= len(right)
        one = fit_logistic(x, y, np.ones(len(x)), RIDGE["swap"], pairs=False)
        threshold = np.quantile(logit(one, right), 1 - FALSE_SWAPS)
        found[name] = {**one, "threshold": round(float(threshold), 4)}
    return found


if __name__ == "__main__":
    main()
