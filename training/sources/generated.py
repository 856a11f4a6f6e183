"""ECGs that `training.generate` made, as unlabelled training data: for a teacher to judge.

What was asked for is not what they are held to be, so every label is unknown; all lie in a training
fold, since what made them was trained there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ecg.record import make_record
from training.sources import ptbxl
from training.sources.labelled import Labelled

NAME = "generated"
LICENCE = ptbxl.LICENCE
CITATION = f"made by ECG-LDM, which was trained on {ptbxl.CITATION}"
FOLD = 1


def load(path: Path) -> Iterator[Labelled]:
    """A set as `training.generate --out set.npz` writes it. Errors: SystemExit."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            data, fs, leads = arrays["data"], float(arrays["fs"]), arrays["leads"].tolist()
            units, synthetic = str(arrays["units"]), bool(arrays["synthetic"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{path} is no set of training.generate: {error}") from None
    if not synthetic:
        raise SystemExit(f"{path} does not say that it is synthetic: prepare it with --own")
    for i, one in enumerate(data):
        yield Labelled(
            record=make_record(one.T, fs, leads, units),
            name=f"{path.stem}-{i}",
            patient=f"{NAME}-{i}",
            strat_fold=FOLD,
        )
