"""What the quality gate does on records that it was not tuned on: figures, plots and their page.

All figures are of the gate as served: `ecg.prepare.cut_all`.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from ecg.decision import calibrate
from ecg.leads import INDEPENDENT_LEADS, LEADS, LIMB_FROM_I_II
from ecg.prepare import Preparation, Segments, cut, cut_all
from ecg.record import Record
from ecg.scores import gate
from ecg.store import Classifier, load_classifier
from ecg.waveform import highpass
from training import gate as fitting
from training.metrics import auroc, bootstrap
from training.quality import page as gate_page
from training.quality.not_ecg import KINDS, LAYOUTS, as_record
from training.sources import cinc2011, cinc2017, ptbxl
from training.sources.labelled import Archive, Labelled, hashed_fold

REPORT = 10
SEED = 2  # not the one that the gate was fitted with
A_KIND = 100
NOISES = ("bw", "em", "ma")
SNRS_DB = (0.0, 6.0)
REJECTED = 0.1
COVERAGES = np.round(np.arange(1.0, 0.49, -0.025), 3)
BEST_2011 = 0.93  # accuracy on the challenge's hidden set B
INDEPENDENT = [LEADS.index(name) for name in INDEPENDENT_LEADS]
AT_ONCE = 64


Measure = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
NSTDB_SNR = "as NSTDB's own records"


@dataclass(frozen=True)
class Copies:
    """Noisy copies: `probability` of an abnormal substrate with all leads used, `score` the gate's;
    arrays [copy]."""

    kind: np.ndarray
    patient: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    score: np.ndarray
    answered: np.ndarray


def write(args: argparse.Namespace, folder: Path) -> None:
    """figures.json, plots and README.md in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = [item for item in ptbxl.load(args.ptb_xl) if item.strat_fold == REPORT]
    classifier = load_classifier(args.model, device="cpu")
    experts, roc_2011 = on_cinc2011(args.cinc2011)
    hand_held, roc_2017 = on_cinc2017(args.cinc2017)
    threshold = classifier.card.calibration[0].threshold[0]
    coverage = {
        name: on_copies(noisy_copies(clean, args.nstdb, classifier, measure), threshold)
        for name, measure in MEASURES.items()
    }
    found = {
        "made": datetime.date.today().isoformat(),
        "model": f"{classifier.card.name} {classifier.card.version}",
        "cinc2011": experts,
        "cinc2017": hand_held,
        "ptb-xl": on_ptbxl(clean),
        "not_ecg": on_others(),
        "swaps": on_swaps(clean),
        "coverage": coverage,
    }
    (folder / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    gate_page.plot_roc(folder / "roc.png", roc_2011, roc_2017)
    gate_page.plot_coverage(folder / "coverage.png", coverage[NSTDB_SNR]["curve"])
    (folder / "README.md").write_text(gate_page.page(found))


def _interval(figure: Callable[[np.ndarray], float], group: np.ndarray) -> dict[str, Any]:
    value = figure(np.arange(len(group)))
    return {"value": round(value, 4), "interval": [round(x, 4) for x in bootstrap(figure, group)],
            "n": len(group)}  # fmt: skip


def _gated(records: Iterable[Record]) -> list[Segments]:
    """Cut one by one where they are long, so that little is held."""
    return [cut(record, Preparation()) for record in records]


def _scores(gated: Sequence[Segments]) -> np.ndarray:
    return np.array([s.quality.score for s in gated], dtype=float)


def _counts(gated: Sequence[Segments]) -> dict[str, Any]:
    reasons = Counter(r.code for s in gated for r in s.quality.reasons)
    return {
        "n": len(gated),
        "answered": round(float(np.mean([s.usable.any() for s in gated])), 4),
        **Counter(s.quality.status for s in gated),
        "reasons": dict(reasons.most_common()),
    }


def on_cinc2011(path: Path) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """The half of set A that the gate was not tuned on."""
    judged = [j for j in cinc2011.load(path) if not j.tuning]
    accepted = np.array([j.acceptable for j in judged])
    gated = _gated(j.record for j in judged)
    score = _scores(gated)
    said = np.array([s.quality.status == "acceptable" for s in gated])
    by_score = score >= 1 / (1 + np.exp(-gate().record.threshold))
    each = np.arange(len(judged))
    figures = {
        "AUROC": _interval(lambda rows: auroc(accepted[rows].astype(int), score[rows]), each),
        "accuracy of the status": _interval(
            lambda rows: float((said == accepted)[rows].mean()), each
        ),
        "accuracy of the score": _interval(
            lambda rows: float((by_score == accepted)[rows].mean()), each
        ),
        "best accuracy of the challenge": BEST_2011,
        "acceptable": _counts([s for s, ok in zip(gated, accepted, strict=True) if ok]),
        "unacceptable": _counts([s for s, ok in zip(gated, accepted, strict=True) if not ok]),
    }
    return figures, (accepted, score)


def on_cinc2017(path: Path) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Fold 10; a record's score is the mean over its segments."""
    held = [
        (record, label)
        for record, name, label in cinc2017.load_all(path)
        if hashed_fold(name) == REPORT
    ]
    labels = np.array([label for _, label in held])
    gated = _gated(record for record, _ in held)
    score, clean = _scores(gated), labels != "~"
    figures = {
        "AUROC": _interval(
            lambda rows: auroc(clean[rows].astype(int), score[rows]), np.arange(len(held))
        )
    }
    for label in "NAO~":
        figures[label] = _counts([s for s, own in zip(gated, labels, strict=True) if own == label])
    return figures, (clean, score)


def on_ptbxl(items: Sequence[Labelled]) -> dict[str, Any]:
    return {
        name: _counts(_gated(fitting.restrict(item.record, leads) for item in items))
        for name, leads in fitting.LEAD_SETS.items()
    }


def on_others() -> dict[str, Any]:
    """Of each kind A_KIND signals, the layouts in turn: how many abstain, and in which layout."""
    found = {}
    for i, kind in enumerate(KINDS):
        refused = np.array(
            [
                not cut(
                    as_record(kind, LAYOUTS[k % 4], np.random.default_rng([SEED, i, k])),
                    Preparation(),
                ).usable.any()
                for k in range(A_KIND)
            ]
        )
        found[kind] = {
            "abstained": int(refused.sum()),
            **{layout: round(float(refused[j::4].mean()), 2) for j, layout in enumerate(LAYOUTS)},
        }
    return found


def on_swaps(items: Sequence[Labelled]) -> dict[str, Any]:
    """How many are said to be swapped: as they are, and with electrodes exchanged."""

    def share(records: Iterable[Record]) -> float:
        said = [
            any(r.code == "limb_leads_swapped" for r in s.quality.reasons) for s in _gated(records)
        ]
        return round(float(np.mean(said)), 4)

    found = {"as recorded": share(item.record for item in items)}
    for name in fitting.SWAPS:
        found[name] = share(fitting.swap(item.record, name) for item in items)
    return found


def noises(path: Path, fs: float) -> dict[str, np.ndarray]:
    """NSTDB's noise at fs Hz, [channel, time], in any unit."""
    archive = Archive(path)
    root = archive.root("bw.hea")
    found = {}
    for name in NOISES:
        first, *channels = archive.read(f"{root}{name}.hea").decode().splitlines()[:3]
        data = archive.read(f"{root}{name}.dat")
        if first.split()[1:3] != ["2", "360"]:
            raise SystemExit(f"{name}.hea is not of NSTDB's noise: 2 channels at 360 Hz")
        if channels[0].split()[1] == "212":
            samples = format_212(np.frombuffer(data, dtype=np.uint8))
        else:
            samples = np.frombuffer(data, dtype="<i2").reshape(-1, 2).T.astype(float)
        if [int(line.split()[5]) for line in channels] != samples[:, 0].tolist():
            raise SystemExit(f"{name}.dat does not begin as {name}.hea says")
        found[name] = resample_poly(samples, round(fs), 360, axis=-1)
    return found


def noisy_copies(
    items: Sequence[Labelled], path: Path, classifier: Classifier, measure: Measure
) -> Copies:
    """Each record with each noise at each signal-to-noise ratio.

    Every independent lead gets a stretch of its own, scaled by `measure` to the lead with its
    baseline removed; the other limb leads follow, so that they obey their laws.
    """
    noise = noises(path, 100.0)
    rng = np.random.default_rng(SEED)
    rows: dict[str, list[Any]] = {name: [] for name in ("kind", "score", "answered", "probability")}
    for name in NOISES:
        for snr in SNRS_DB:
            copies = [_with_noise(item.record, noise[name], snr, measure, rng) for item in items]
            for first in range(0, len(copies), AT_ONCE):
                some = copies[first : first + AT_ONCE]
                gated = cut_all(some, classifier.card.preparation)
                sig = np.stack([record.sig[INDEPENDENT] for record in some])
                logits = classifier.logits(
                    sig, np.ones(sig.shape[:2], dtype=np.float32), np.full(len(sig), sig.shape[-1])
                )
                card = classifier.card
                probability, _ = calibrate(
                    logits, np.full(len(sig), 8), card.calibration, card.implying
                )
                rows["probability"] += probability[:, 0].tolist()
                rows["score"] += _scores(gated).tolist()
                rows["answered"] += [bool(s.usable.any()) for s in gated]
                rows["kind"] += [f"{name}, {snr:g} dB"] * len(some)
    n = len(NOISES) * len(SNRS_DB)
    return Copies(
        patient=np.tile([item.patient for item in items], n),
        label=np.tile([item.atrial for item in items], n),
        **{name: np.array(values) for name, values in rows.items()},
    )


def _with_noise(
    record: Record, noise: np.ndarray, snr_db: float, measure: Measure, rng: np.random.Generator
) -> Record:
    sig = record.sig[INDEPENDENT].astype(float)
    n = sig.shape[-1]
    starts = rng.integers(noise.shape[-1] - n, size=len(sig))
    channels = rng.integers(len(noise), size=len(sig))
    added = np.stack([noise[c, s : s + n] for c, s in zip(channels, starts, strict=True)])
    added -= added.mean(axis=-1, keepdims=True)
    of_sig, of_noise = measure(highpass(sig, record.fs, 0.5), added, round(record.fs))
    gain = np.sqrt(of_sig / of_noise / 10 ** (snr_db / 10))
    noisy = sig + gain[:, None] * added
    full = np.concatenate([LIMB_FROM_I_II @ noisy[:2], noisy[2:]])
    return Record(full.astype(np.float32), record.fs, LEADS)


def as_in_nstdb(sig: np.ndarray, noise: np.ndarray, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of signal and noise [lead] as NSTDB's own records were made (`nst` of the WFDB
    software): an eighth of the square of the QRS complexes' height, and the squares about each
    second's mean. The typical second's swing stands for the height."""

    def seconds(x: np.ndarray) -> np.ndarray:
        return x[..., : x.shape[-1] // second * second].reshape(len(x), -1, second)

    height = np.median(np.ptp(seconds(sig), axis=-1), axis=-1)
    return height**2 / 8, seconds(noise).var(axis=-1).mean(axis=-1)


def mean_powers(sig: np.ndarray, noise: np.ndarray, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances over the whole record [lead]."""
    return sig.var(axis=-1), noise.var(axis=-1)


def format_212(data: np.ndarray) -> np.ndarray:
    """[2, time] of WFDB's format 212: two 12-bit samples in three bytes."""
    a, b, c = data[: len(data) // 3 * 3].reshape(-1, 3).astype(np.int32).T
    pair = np.stack([a | (b & 0x0F) << 8, c | (b & 0xF0) << 4])
    return np.where(pair > 2047, pair - 4096, pair).astype(float)


def on_copies(copies: Copies, threshold: float) -> dict[str, Any]:
    """AUROC of the atrial substrate over all copies and over those that the score keeps, and the
    difference on the same resamples of patients."""

    def kept(rows: np.ndarray, coverage: float) -> np.ndarray:
        order = np.argsort(-copies.score[rows], kind="stable")
        return rows[order[: round(coverage * len(rows))]]

    def of(rows: np.ndarray) -> float:
        return auroc(copies.label[rows], copies.probability[rows])

    def right(rows: np.ndarray) -> float:
        said = copies.probability[rows] >= threshold
        return float((said == (copies.label[rows] == 1)).mean())

    def gains(where: np.ndarray) -> dict[str, Any]:
        def figure(score: Callable[[np.ndarray], float], coverage: float):
            return lambda rows: score(kept(where[rows], coverage))

        group = copies.patient[where]
        return {
            "all": _interval(figure(of, 1.0), group),
            "kept": _interval(figure(of, 1 - REJECTED), group),
            "gain": _interval(
                lambda rows: of(kept(where[rows], 1 - REJECTED)) - of(where[rows]), group
            ),
            "answered by the gate": round(float(copies.answered[where].mean()), 4),
        }

    each = np.arange(len(copies.label))
    curve = [
        {
            "coverage": float(c),
            "AUROC": _interval(lambda rows, c=c: of(kept(rows, c)), copies.patient),
            "accuracy": _interval(lambda rows, c=c: right(kept(rows, c)), copies.patient),
        }
        for c in COVERAGES
    ]
    kinds = dict.fromkeys(copies.kind.tolist())
    by_kind = {kind: gains(np.flatnonzero(copies.kind == kind)) for kind in kinds}
    return {"pooled": gains(each), "by noise": by_kind, "curve": curve}


MEASURES: dict[str, Measure] = {NSTDB_SNR: as_in_nstdb, "by mean power": mean_powers}
