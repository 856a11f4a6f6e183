"""A researcher's own ECGs with atrial-substrate labels, as NPZ or CSV."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ecg.errors import EcgError
from ecg.record import make_record
from training.sources.labelled import Labelled, hashed_fold

NAME = "own"
LICENCE = "the owner's"
CITATION = "the user's own data"


def load(path: Path, fs: float, leads: list[str], units: str) -> Iterator[Labelled]:
    """NPZ: `data` [N, time, lead], `label` [N] (0 normal, 1 abnormal), optionally `patient_id` [N].
    CSV: no header, a row an ECG, time x lead columns and then the label.

    The split is 80/10/10 by a hash of the patient's id, of the row's number where there is none.
    """
    try:
        data, label, patients = _npz(path) if path.suffix == ".npz" else _csv(path, len(leads))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from None
    if data.ndim != 3 or data.shape[2] != len(leads):
        raise SystemExit(
            f"{path}: data has shape {data.shape}, expected [N, time, {len(leads)}] "
            f"for the leads {', '.join(leads)}"
        )
    if label.shape != (len(data),) or not np.isin(label, (0, 1)).all():
        raise SystemExit(f"{path}: label must be [N], of 0 (normal) and 1 (abnormal)")
    if patients.shape != label.shape:
        raise SystemExit(f"{path}: patient_id must be [N], an entry a record")
    for i, patient in enumerate(patients):
        try:
            record = make_record(data[i].T, fs, leads, units)
        except EcgError as error:
            raise SystemExit(f"{path}: record {i}: {error}") from None
        yield Labelled(
            record=record,
            name=f"{path.stem}-{i}",
            patient=str(patient),
            strat_fold=hashed_fold(str(patient)),
            atrial=int(label[i]),
        )


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for name in ("data", "label"):
            if name not in arrays:
                raise SystemExit(f"{path} holds no array `{name}`")
        label = np.atleast_1d(arrays["label"])
        patients = arrays["patient_id"] if "patient_id" in arrays else np.arange(len(label))
        return arrays["data"], label, patients


def _csv(path: Path, n_leads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.loadtxt(path, delimiter=",", ndmin=2)
    n_values = table.shape[1] - 1
    if n_values < n_leads or n_values % n_leads:
        raise SystemExit(
            f"{path}: {table.shape[1]} columns are not time x {n_leads} lead(s) and a label"
        )
    data = table[:, :-1].reshape(len(table), -1, n_leads)
    return data, table[:, -1], np.arange(len(table))
