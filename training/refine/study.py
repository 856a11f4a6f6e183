"""A closed study as a generator learns from it: what raters said of generated ECGs.

The export is that of `service.rating` (`python -m service.studies export`), whose `study.npz` alone
is read. Its real ECGs are of fold 10, from which nothing may learn: they are passed over.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg.labels import Labels

FORMAT = 1
NPZ = "study.npz"
REAL = "real"
AGREES = {"yes": 1.0, "unsure": 0.5, "no": 0.0}
WINS = {"first": (1.0, 0.0), "second": (0.0, 1.0), "neither": (0.5, 0.5)}


@dataclass(frozen=True)
class Ratings:
    """Generated ECGs, sig float16 mV [ecg, 8, n_samples], the labels told of each and the generator
    that made it; what was said: of which ECG, by which rater, how good from 0 to 1, each [rating].
    `simulated` [rating]: by a program."""

    sig: np.ndarray
    labels: list[Labels]
    source: np.ndarray
    of: np.ndarray
    rater: np.ndarray
    good: np.ndarray
    simulated: np.ndarray

    def who(self) -> str:
        """Said wherever something that was learned from them is."""
        n, n_simulated = (len(np.unique(self.rater[is_])) for is_ in (slice(None), self.simulated))
        if n == n_simulated:
            return f"{n} simulated raters, no person"
        return f"{n - n_simulated} people" + (
            f" and {n_simulated} simulated" if n_simulated else ""
        )


def read_all(paths: Sequence[Path]) -> Ratings:
    """Of all the exports together. Errors: SystemExit that says which is none, or holds nothing."""
    return together([read(path) for path in paths])


def read(path: Path) -> Ratings:
    file = path / NPZ if path.is_dir() else path
    try:
        with np.load(file, allow_pickle=False) as f:
            arrays = {name: f[name] for name in f.files if name != "data"}
        study = json.loads(str(arrays["study"]))
        if study["format"] != FORMAT:
            raise SystemExit(f"{file} is of format {study['format']}; {FORMAT} is read here")
        return _ratings(arrays, file)
    except (KeyError, OSError, ValueError, TypeError) as error:
        raise SystemExit(
            f"{file} is no export of a study ({type(error).__name__}): python -m service.studies "
            "export writes one"
        ) from None


def together(parts: Sequence[Ratings]) -> Ratings:
    """Raters are told apart by their ids, ECGs by where they stand."""
    starts = np.cumsum([0, *(len(part.sig) for part in parts)])
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("sig", "source", "rater", "good", "simulated")
    }
    of = [part.of + start for part, start in zip(parts, starts, strict=False)]
    return Ratings(
        **columns, of=np.concatenate(of), labels=[one for part in parts for one in part.labels]
    )


def _ratings(arrays: Mapping[str, np.ndarray], file: Path) -> Ratings:
    generated = [i for i, source in enumerate(arrays["ecgs.source"].tolist()) if source != REAL]
    row_of = {str(arrays["ecgs.id"][i]): row for row, i in enumerate(generated)}
    number = arrays["ecgs.number"][generated]
    origins = [json.loads(str(arrays["ecgs.origin"][i])) for i in generated]
    simulated = dict(
        zip(arrays["raters.id"].tolist(), arrays["raters.simulated"].tolist(), strict=True)
    )
    answers = standing_answers(arrays)
    said: list[tuple[int, str, float]] = []
    for id_, rater, ecg, other in zip(
        *(arrays[f"presentations.{name}"].tolist() for name in ("id", "rater", "ecg", "other")),
        strict=True,
    ):
        if (answer := answers.get(id_)) is not None:
            shown = (ecg, other) if other else (ecg,)
            values = zip(shown, how_good(answer), strict=True)
            said += [(row_of[one], rater, value) for one, value in values if one in row_of]
    if not said:
        raise SystemExit(f"{file}: nobody has said anything of a generated ECG")
    of, rater, good = (np.array(column) for column in zip(*said, strict=True))
    return Ratings(
        sig=arrays["sig"][number],
        labels=[told(origin["labels"]) for origin in origins],
        source=arrays["ecgs.source"][generated],
        of=of,
        rater=rater,
        good=good,
        simulated=np.array([simulated[one] for one in rater.tolist()]),
    )


def standing_answers(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """By presentation: of its revisions, oldest first, each that was based on the one that stood
    takes its place, and one that undoes leaves none."""
    names = ("presentation", "revision", "based_on", "undone", "given")
    rows = zip(*(arrays[f"answers.{name}"].tolist() for name in names), strict=True)
    stands: dict[str, int] = defaultdict(int)
    found: dict[str, dict[str, Any]] = {}
    for presentation, revision, based_on, undone, given in sorted(rows):
        if based_on == stands[presentation]:
            stands[presentation] = revision
            found.pop(presentation, None)
            if not undone:
                found[presentation] = json.loads(given)
    return found


def how_good(answer: Mapping[str, Any]) -> tuple[float, ...]:
    """From 0 to 1, of each ECG that was shown. Of one: the mean of whether it was taken for real,
    whether it shows its label, its plausibility, and whether it is free of defects."""
    if "better" in answer:
        return WINS[answer["better"]]
    votes = (
        float(answer["source"] == REAL),
        AGREES[answer["label"]],
        (answer["plausibility"] - 1) / 4,
        float(not answer["defects"]),
    )
    return (sum(votes) / len(votes),)


def told(labels: Mapping[str, Any]) -> Labels:
    """Labels as an export's origin has them."""
    return Labels(**{**labels, "statements": tuple(labels["statements"])})
