"""Prepared shards: plain arrays, so that training itself needs no format reader.

A shard holds segments that went through `ecg.prepare`, and what is known about their records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ecg.leads import INDEPENDENT_LEADS
from ecg.limits import LIMITS
from ecg.prepare import Denoising, Preparation, condition, cut
from ecg.statements import STATEMENTS
from training.sources import own
from training.sources.labelled import UNKNOWN, Labelled

CODES = tuple(STATEMENTS)
SEXES = ("male", "female")


@dataclass(frozen=True)
class Shard:
    """Segments, and the records they belong to.

    sig: float16 [segment, 8, n_samples], prepared; lead_mask: uint8 [segment, 8];
    n_valid: int32 [segment]; record: int32 [segment], the row of the arrays below.
    label: int8 [record, 1 + 71], the atrial substrate and then each statement of CODES, -1 unknown;
    strat_fold: int8; patient: str; age: float32 years, NaN unknown; sex: int8 (0 male, 1 female,
    -1 unknown), each [record].
    """

    source: str
    preparation: Preparation
    sig: np.ndarray
    lead_mask: np.ndarray
    n_valid: np.ndarray
    record: np.ndarray
    label: np.ndarray
    strat_fold: np.ndarray
    patient: np.ndarray
    age: np.ndarray
    sex: np.ndarray

    def folds(self, folds: Iterable[int]) -> Shard:
        """The part of the shard that lies in the given folds."""
        return self.records(np.isin(self.strat_fold, list(folds)))

    def records(self, keep: np.ndarray) -> Shard:
        """The records to keep, bool [record], and their segments."""
        segments = keep[self.record]
        row = np.cumsum(keep) - 1
        return Shard(
            self.source,
            self.preparation,
            self.sig[segments],
            self.lead_mask[segments],
            self.n_valid[segments],
            row[self.record[segments]].astype(np.int32),
            *(a[keep] for a in (self.label, self.strat_fold, self.patient, self.age, self.sex)),
        )


def build(source: str, records: Iterable[Labelled], preparation: Preparation) -> Shard:
    """Cut and condition every record; segments too short or without a usable lead are left out."""
    sig, lead_mask, n_valid, row = [], [], [], []
    label, fold, patient, age, sex = [], [], [], [], []
    for item in records:
        segments = cut(item.record, preparation)
        keep = segments.usable & (segments.n_valid >= LIMITS.min_duration_s * preparation.fs)
        if not keep.any():
            continue
        ready = condition(segments.sig[keep], segments.n_valid[keep], preparation)
        sig.append(ready.astype(np.float16))
        lead_mask.append(segments.lead_mask[keep].astype(np.uint8))
        n_valid.append(segments.n_valid[keep])
        row.append(np.full(keep.sum(), len(label)))
        known = [item.atrial, *(item.statements.get(code, UNKNOWN) for code in CODES)]
        label.append(known)
        fold.append(item.strat_fold)
        patient.append(item.patient)
        age.append(np.nan if item.age is None else item.age)
        sex.append(SEXES.index(item.sex) if item.sex else UNKNOWN)
    if not label:
        raise SystemExit(f"{source}: no record could be used")
    return Shard(
        source=source,
        preparation=preparation,
        sig=np.concatenate(sig),
        lead_mask=np.concatenate(lead_mask),
        n_valid=np.concatenate(n_valid).astype(np.int32),
        record=np.concatenate(row).astype(np.int32),
        label=np.array(label, dtype=np.int8),
        strat_fold=np.array(fold, dtype=np.int8),
        patient=np.array(patient, dtype=np.str_),
        age=np.array(age, dtype=np.float32),
        sex=np.array(sex, dtype=np.int8),
    )


def save(shard: Shard, path: Path) -> None:
    arrays = {k: v for k, v in vars(shard).items() if isinstance(v, np.ndarray)}
    np.savez_compressed(
        path,
        source=shard.source,
        preparation=json.dumps(asdict(shard.preparation)),
        leads=np.array(INDEPENDENT_LEADS),
        codes=np.array(CODES),
        **arrays,
    )


def load(path: Path) -> Shard:
    """A saved shard, or SystemExit where it was made with other leads or statements."""
    with np.load(path, allow_pickle=False) as f:
        arrays = {name: f[name] for name in f.files}
    if tuple(arrays.pop("leads")) != INDEPENDENT_LEADS or tuple(arrays.pop("codes")) != CODES:
        raise SystemExit(f"{path} was prepared by another version: run training.prepare again")
    source = str(arrays.pop("source"))
    preparation = preparation_from(json.loads(str(arrays.pop("preparation"))))
    return Shard(source=source, preparation=preparation, **arrays)


def fingerprint(shard: Shard) -> str:
    """SHA-256 of all that a shard says; of the same records prepared again it is the same, which
    that of a zip, with its times, is not."""
    found = hashlib.sha256(f"{shard.source} {json.dumps(asdict(shard.preparation))}".encode())
    for name, value in sorted(vars(shard).items()):
        if isinstance(value, np.ndarray):
            found.update(f"{name} {value.dtype} {value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def load_all(folder: Path) -> Iterator[Shard]:
    """Every shard in `folder`, all of one preparation. Beside a user's own shard, what others say
    of the atrial substrate is unknown: the user's label, not the open proxy, is what is learned.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise SystemExit(f"no shards in {folder}: run python -m training.prepare first")
    first = None
    for path in paths:
        shard = load(path)
        first = first or shard.preparation
        if shard.preparation != first:
            raise SystemExit(f"{path} was prepared unlike the others in {folder}")
        if shard.source != own.NAME and folder / f"{own.NAME}.npz" in paths:
            shard.label[:, 0] = UNKNOWN
        yield shard


def preparation_from(values: dict) -> Preparation:
    """A Preparation from its JSON."""
    denoising = values.get("denoising")
    return Preparation(**{**values, "denoising": Denoising(**denoising) if denoising else None})
