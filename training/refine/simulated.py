"""A study that nobody rated: simulated raters' answers, in the layout of a study's export.

What learns from people's ratings learns from these in the same way; that no person had a part in
them is written in each rater, and is told wherever something was learned from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ecg.card import GeneratorCard
from ecg.generated import twelve_leads
from ecg.labels import Labels
from ecg.leads import LEADS
from training.refine.critic import Critic
from training.refine.raters import SimulatedRater, Verdict
from training.refine.study import FORMAT, NPZ
from training.shards import Shard

# A defect as the export names it.
KINDS = {
    "P wave": "p_wave", "PR": "pr", "QRS": "qrs", "ST/T": "st_t", "RR regularity": "rr",
    "lead coherence": "coherence", "noise": "noise", "artefact": "artefact",
}  # fmt: skip
REPEATS = 0.1  # of the ratings, of an ECG that the rater has seen
WHEN = "2000-01-01T00:00:00+00:00"  # answers of a program have no time


def rate(
    part: Shard,
    labels: Sequence[Labels],
    card: GeneratorCard,
    critic: Critic,
    raters: Sequence[SimulatedRater],
    n: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """The arrays of a `study.npz`: n ratings of the part's generated ECGs, told these labels, in
    turns by the raters, who see what the critic sees. Errors: SystemExit for too few ECGs."""
    n_repeats = round(REPEATS * n)
    n_first = n - n_repeats
    if n_first > len(part.sig):
        raise SystemExit(f"{n} ratings want {n_first} ECGs, and there are {len(part.sig)}")
    rng = np.random.default_rng((seed, 7))
    rows = rng.permutation(len(part.sig))[:n_first]
    turn = np.arange(n_first) % len(raters)
    again = rng.permutation(n_first)[:n_repeats]
    shown, by = np.concatenate([rows, rows[again]]), np.concatenate([turn, turn[again]])
    earlier = np.concatenate([np.full(n_first, -1), again])
    defects = critic.defects(part)
    verdicts = [raters[k].rate(defects[i], rng) for i, k in zip(shown, by, strict=True)]
    number = np.empty(len(part.sig), int)
    number[rows] = np.arange(n_first)
    source = f"{card.name} {card.version}"
    tables: dict[str, list[dict[str, Any]]] = {
        "ecgs": [
            {
                "id": f"ecg{k}", "number": k, "source": source, "label": _claimed(labels[i]),
                "origin": json.dumps({"sha256": card.sha256, "labels": asdict(labels[i])}),
            }
            for k, i in enumerate(rows)
        ],
        "raters": [
            {"id": one.name, "number": k, "simulated": True} for k, one in enumerate(raters)
        ],
        "presentations": [
            {
                "id": f"shown{k}", "rater": raters[who].name, "position": k,
                "ecg": f"ecg{number[i]}", "other": "",
                "repeat_of": f"shown{before}" if before >= 0 else "",
            }
            for k, (i, who, before) in enumerate(zip(shown, by, earlier, strict=True))
        ],
        "answers": [
            {
                "id": f"answer{k}", "presentation": f"shown{k}", "revision": 1, "based_on": 0,
                "undone": False, "given": json.dumps(_given(one)), "created": WHEN,
            }
            for k, one in enumerate(verdicts)
        ],
    }  # fmt: skip
    sig = part.sig[rows]
    study = {
        "format": FORMAT, "id": "simulated", "name": "simulated raters", "mode": "single",
        "seed": seed, "plan": {"repeats": REPEATS, "critic": critic.kind},
        "fs": part.preparation.fs, "created": WHEN, "closed": WHEN,
    }  # fmt: skip
    arrays = {
        "study": np.array(json.dumps(study)),
        "sig": sig,
        "data": twelve_leads(sig.astype(np.float32)).transpose(0, 2, 1),
        "fs": np.array(part.preparation.fs),
        "leads": np.array(LEADS),
        "units": np.array("mV"),
    }
    for name, table in tables.items():
        for column in table[0]:
            arrays[f"{name}.{column}"] = np.array([row[column] for row in table])
    return arrays


def write(arrays: dict[str, np.ndarray], folder: Path) -> Path:
    """The export as a folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"part-{NPZ}"
    np.savez_compressed(beside, **arrays)
    beside.replace(folder / NPZ)
    return folder


def _given(verdict: Verdict) -> dict[str, Any]:
    """A verdict as an answer of the rating page."""
    return {
        "source": "real" if verdict.passes else "generated",
        "confidence": 2,
        "label": "yes" if verdict.passes else "no",
        "plausibility": verdict.plausibility,
        "defects": [{"kind": KINDS[d], "lead": None, "time_s": None} for d in verdict.defects],
        "comment": "",
        "seconds": None,
    }


def _claimed(labels: Labels) -> str:
    return " ".join(labels.statements) or (labels.atrial_substrate or "none")
