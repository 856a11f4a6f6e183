"""python -m training.evaluate_explanations: does the model's probability rest on what we name?

Deletion curves (Samek et al. 2017): windows are taken out in the order that an explanation gives
them, and as many at random; the more the probability falls between the two, the better. Fold 9
compares ways to explain; the one that the service uses is reported on fold 10. What is taken out
also gives way to other things than the straight lines that explained it: a network may mind a
line's kinks rather than what is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import wilcoxon
from tqdm import tqdm

from ecg.decision import calibrate
from ecg.explain import WINDOW_S, Remove, explain, log_odds, straight_line, window_of, without
from ecg.prepare import cut_all
from ecg.store import Classifier, load_classifier
from training.deletion_report import write_report
from training.metrics import bootstrap
from training.sources import ptbxl
from training.sources.labelled import PRESENT, Labelled

CHOOSE, REPORT = 9, 10
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # of the windows, taken out together
AREA_TO = 0.2
BLUR_S = 0.2
AT_ONCE = 32
MASKS, MASKED = 400, 0.1  # of the random masks: how many, and how much each takes out
N_NORMAL = 60
Score = Callable[[np.ndarray], np.ndarray]
Explain = Callable[[Score, np.ndarray, np.ndarray], np.ndarray]  # score, sig, windows


@dataclass(frozen=True)
class Part:
    """A fold's records of eight known leads that are answered, a segment each; `probability` and
    `threshold` are the atrial substrate's."""

    sig: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    probability: np.ndarray
    threshold: np.ndarray

    def only(self, rows: np.ndarray) -> Part:
        return Part(**{name: value[rows] for name, value in vars(self).items()})

    @property
    def said(self) -> np.ndarray:
        """Answered abnormal."""
        return self.probability >= self.threshold


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate_explanations",
        description=(__doc__ or "").partition(": ")[2],
    )
    parser.add_argument("--ptb-xl", type=Path, required=True, help="its folder, or its zip")
    parser.add_argument("--store", type=Path, default=Path("models_store"))
    parser.add_argument("--name", default="prednet")
    parser.add_argument("--out", type=Path, default=Path("training/reports/explanations"))
    parser.add_argument("--draws", type=int, default=3, help="random orders a record")
    parser.add_argument("--no-comparison", action="store_true", help="leave fold 9 out")
    args = parser.parse_args()
    classifier = load_classifier(args.store / args.name, "cpu")
    items = list(ptbxl.load(args.ptb_xl))
    parts = {fold: answered(classifier, items, fold) for fold in (CHOOSE, REPORT)}
    score = partial(atrial_log_odds, classifier)
    args.out.mkdir(parents=True, exist_ok=True)
    found = {
        "classifier": {"name": args.name, "sha256": classifier.card.sha256},
        "data": "PTB-XL, a segment of 10 s and 12 leads a record; fold 9 chose, fold 10 reports",
        "made": time.strftime("%Y-%m-%d"),
        "window_s": WINDOW_S,
        "shares": SHARES,
        "draws": args.draws,
    }
    if not args.no_comparison:
        found["compared"] = compare(score, abnormal(parts[CHOOSE]), args.draws)
    found["reported"] = report(score, parts[REPORT], args.draws)
    (args.out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    write_report(args.out, found)
    print(args.out / "report.json")


def answered(classifier: Classifier, items: Sequence[Labelled], fold: int) -> Part:
    """What of a fold can be judged. Errors: SystemExit where that is nothing."""
    items = [item for item in items if item.strat_fold == fold]
    card = classifier.card
    segments = cut_all([item.record for item in items], card.preparation)
    whole = [
        i for i, s in enumerate(segments) if s.lead_mask[0].all() and s.n_valid[0] == card.n_samples
    ]
    if not any(items[i].atrial == PRESENT for i in whole):
        raise SystemExit(f"fold {fold} has no abnormal record of 12 leads that is answered")
    sig = np.stack([segments[i].sig[0] for i in whole])
    probability, threshold = _atrial(classifier, sig)
    return Part(
        sig=sig,
        label=np.array([items[i].atrial for i in whole]),
        patient=np.array([items[i].patient for i in whole]),
        probability=probability,
        threshold=threshold,
    )


def abnormal(part: Part) -> Part:
    return part.only(part.label == PRESENT)


def atrial_log_odds(classifier: Classifier, sig: np.ndarray) -> np.ndarray:
    """Of the atrial probability as served, [copy] of mV [copy, 8, n_samples]."""
    return log_odds(_atrial(classifier, sig)[0])


def _atrial(classifier: Classifier, sig: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    card = classifier.card
    logits = np.concatenate(
        [
            classifier.logits(
                some.astype(np.float32),
                np.ones(some.shape[:2], np.float32),
                np.full(len(some), card.n_samples),
            )
            for some in np.split(sig, range(AT_ONCE, len(sig), AT_ONCE))
        ]
    )
    n_leads = np.full(len(sig), sig.shape[1])
    p, threshold = calibrate(logits, n_leads, card.calibration, card.implying)
    return p[:, 0], threshold[:, 0]


# Ways to take out: mV [lead, time] and gone [copy, lead, time] -> mV [copy, lead, time]


def level(sig: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The lead's median."""
    return np.where(gone, np.median(sig, axis=1)[:, None], sig)


def blur(sig: np.ndarray, gone: np.ndarray, fs: float = 100.0) -> np.ndarray:
    """What a Gaussian low-pass leaves: the wander, and no wave."""
    return np.where(gone, gaussian_filter1d(sig, BLUR_S * fs, axis=1), sig)


def elsewhere(sig: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The lead's own signal from another time, 2 to 8 s away: nothing that is no ECG."""
    rng = np.random.default_rng(0)
    by = rng.integers(len(sig[0]) // 5, len(sig[0]) * 4 // 5, len(sig))
    moved = np.stack([np.roll(lead, n) for lead, n in zip(sig, by, strict=True)])
    return np.where(gone, moved, sig)


REMOVALS: dict[str, Remove] = {"line": straight_line, "blur": blur, "elsewhere": elsewhere}


# Ways to explain


def occlusion(remove: Remove, score: Score, sig: np.ndarray, windows: np.ndarray) -> np.ndarray:
    return explain(score, sig, np.ones(len(sig)), windows, remove)


def random_masks(score: Score, sig: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Many windows out at once, at random; what each is worth by ridge regression (as LIME)."""
    shape = (MASKS, len(sig), int(windows[-1]) + 1)
    gone = np.random.default_rng(0).random(shape) < MASKED
    lost = -score(without(sig, gone, windows))
    x = gone.reshape(MASKS, -1) - gone.reshape(MASKS, -1).mean(axis=0)
    ridge = MASKS * MASKED * (1 - MASKED) * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + ridge, x.T @ (lost - lost.mean())).reshape(shape[1:])


def steepest(score: Score, sig: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Without a look at the model: how far the trace travels in the window."""
    travelled = np.abs(np.diff(sig, axis=1, prepend=sig[:, :1]))
    return np.stack([np.bincount(windows, lead) for lead in travelled])


SERVED = "occlusion, line, 0.2 s"
WAYS: dict[str, tuple[float, Explain]] = {
    SERVED: (0.2, partial(occlusion, straight_line)),
    "occlusion, line, 0.25 s": (0.25, partial(occlusion, straight_line)),
    "occlusion, line, 0.5 s": (0.5, partial(occlusion, straight_line)),
    "occlusion, level, 0.2 s": (0.2, partial(occlusion, level)),
    "occlusion, blur, 0.2 s": (0.2, partial(occlusion, blur)),
    "occlusion, blur, 0.25 s": (0.25, partial(occlusion, blur)),
    f"{MASKS} random masks, line, 0.2 s": (0.2, random_masks),
    "steepest first, 0.2 s": (0.2, steepest),
}


# Deletion


def deletion(
    score: Score, sig: np.ndarray, windows: np.ndarray, order: np.ndarray, remove: Remove
) -> np.ndarray:
    """The probability [share] without the SHARES that come first; order: [lead, window], the
    highest first."""
    rank = np.argsort(np.argsort(-order, axis=None, kind="stable")).reshape(order.shape)
    gone = np.stack([rank < round(share * rank.size) for share in SHARES])
    return 1 / (1 + np.exp(-score(without(sig, gone, windows, remove))))


def at_random(
    score: Score, sig: np.ndarray, windows: np.ndarray, draws: int, remove: Remove
) -> np.ndarray:
    """The same in a random order, the mean of several."""
    rng = np.random.default_rng(0)
    shape = (len(sig), int(windows[-1]) + 1)
    each = [deletion(score, sig, windows, rng.random(shape), remove) for _ in range(draws)]
    return np.mean(each, axis=0)


def area(curve: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By how much `curve` lies below `other` on average from nothing to AREA_TO taken out.

    Both: probabilities [..., share], the same where nothing is taken out.
    """
    shares = np.array([0.0, *(s for s in SHARES if s <= AREA_TO)])
    below = (other - curve)[..., : len(shares) - 1]
    below = np.concatenate([np.zeros((*below.shape[:-1], 1)), below], axis=-1)
    return np.trapezoid(below, shares, axis=-1) / AREA_TO


def compare(score: Score, part: Part, draws: int) -> list[dict]:
    """Each way's mean area on fold 9, by what takes the place of what is taken out; and by how much
    the mean of these is more than the service's way has, with its interval over patients."""
    rows: list[dict] = []
    of_record: dict[str, np.ndarray] = {}
    drawn: dict[tuple[float, str], np.ndarray] = {}
    for name, (window_s, way) in tqdm(WAYS.items(), desc="fold 9"):
        windows = window_of(part.sig.shape[2], 100.0, window_s)
        found = [way(score, sig, windows) for sig in part.sig]
        areas: dict[str, np.ndarray] = {}
        for by, remove in REMOVALS.items():
            if (window_s, by) not in drawn:
                of_each = [at_random(score, sig, windows, draws, remove) for sig in part.sig]
                drawn[window_s, by] = np.array(of_each)
            curves = [
                deletion(score, sig, windows, order, remove)
                for sig, order in zip(part.sig, found, strict=True)
            ]
            areas[by] = area(np.array(curves), drawn[window_s, by])
        of_record[name] = np.mean(list(areas.values()), axis=0)
        more = of_record[name] - of_record[SERVED]
        rows.append(
            {
                "way": name,
                **{by: float(of_each.mean()) for by, of_each in areas.items()},
                "mean": float(of_record[name].mean()),
                "more": float(more.mean()),
                "more_interval": bootstrap(_mean_of(more), part.patient),
            }
        )
        tqdm.write(f"{name:<32} {rows[-1]['mean']:.3f}")
    return rows


def report(score: Score, part: Part, draws: int) -> list[dict]:
    """The service's way on fold 10: of abnormal records, of those answered abnormal, and of normal
    ones answered normal, whose explanations name what lowers the probability."""
    normal = np.flatnonzero((part.label != PRESENT) & ~part.said)
    some = np.sort(np.random.default_rng(0).permutation(normal)[:N_NORMAL])
    figures = []
    for group, which, sign in (("abnormal", abnormal(part), 1), ("normal", part.only(some), -1)):
        if not len(which.sig):
            continue
        windows = window_of(which.sig.shape[2], 100.0)
        found = [
            sign * occlusion(straight_line, score, sig, windows)
            for sig in tqdm(which.sig, desc=f"fold 10, {group}")
        ]
        steep = [steepest(score, sig, windows) for sig in which.sig]
        for by, remove in REMOVALS.items():
            curves = {
                "named": curves_of(score, which, windows, found, remove),
                "random": np.array(
                    [at_random(score, sig, windows, draws, remove) for sig in which.sig]
                ),
                "steepest": curves_of(score, which, windows, steep, remove),
            }
            figures.append(judge(group, by, which, curves, sign))
            on = which.said
            if sign > 0 and on.any():
                said = {name: curve[on] for name, curve in curves.items()}
                figures.append(judge("answered abnormal", by, which.only(on), said, sign))
    return figures


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())


def curves_of(
    score: Score, part: Part, windows: np.ndarray, orders: Sequence[np.ndarray], remove: Remove
) -> np.ndarray:
    """[record, share]: `deletion` of each record in its own order."""
    both = zip(part.sig, orders, strict=True)
    return np.array([deletion(score, sig, windows, order, remove) for sig, order in both])


def judge(group: str, by: str, part: Part, curves: dict[str, np.ndarray], sign: int) -> dict:
    """curves: probabilities [record, share]. `change` is the mean fall, or for normal answers rise,
    of the probability by what is taken out."""
    gain = sign * area(curves["named"], curves["random"])

    def change(curve: np.ndarray, share: float) -> float:
        return float(sign * (part.probability - curve[:, SHARES.index(share)]).mean())

    return {
        "group": group,
        "in_place": by,
        "n": len(gain),
        "probability": float(part.probability.mean()),
        "curves": {name: curve.mean(axis=0).round(4).tolist() for name, curve in curves.items()},
        "change": {
            name: {f"{share:g}": change(curve, share) for share in (0.05, 0.1, 0.2)}
            for name, curve in curves.items()
        },
        "area": float(gain.mean()),
        "area_interval": bootstrap(_mean_of(gain), part.patient),
        "area_of_steepest": float((sign * area(curves["steepest"], curves["random"])).mean()),
        "records_above_zero": int((gain > 0).sum()),
        "wilcoxon_p": float(wilcoxon(gain, alternative="greater").pvalue),
    }


if __name__ == "__main__":
    main()
