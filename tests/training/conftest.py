"""Databases in their official layouts, made of the few records under tests/data."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg.prepare import Preparation
from ecg.record import Record
from tests.conftest import DATA
from training.shards import CODES, Shard

torch.set_num_threads(1)  # networks this small are not worth two

PTB_XL_ROWS = {
    "00009_lr": {
        "patient_id": "15709.0",
        "age": "55.0",
        "sex": "1",
        "scp_codes": "{'NORM': 100.0, 'SR': 0.0}",
        "strat_fold": "10",
    },
    "00274_lr": {
        "patient_id": "2.0",
        "age": "",
        "sex": "0",
        "scp_codes": "{'LAO/LAE': 50.0}",
        "strat_fold": "9",
    },
    "01275_lr": {
        "patient_id": "2.0",
        "age": "300.0",
        "sex": "0",
        "scp_codes": "{'AFIB': 0.0}",
        "strat_fold": "3",
    },
}
CINC_LABELS = {"A00004": "A", "A00005": "N", "A00006": "O", "A00007": "~"}


def zipped(folder: Path) -> Path:
    """The folder as its own download: a zip with the folder inside."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


@pytest.fixture
def ptb_xl(tmp_path: Path) -> Path:
    folder = tmp_path / "ptb-xl"
    records = folder / "records100" / "00000"
    records.mkdir(parents=True)
    rows = []
    for i, (name, row) in enumerate(PTB_XL_ROWS.items()):
        for ending in (".hea", ".dat"):
            (records / f"{name}{ending}").write_bytes((DATA / f"{name}{ending}").read_bytes())
        rows.append({"ecg_id": i, **row, "filename_lr": f"records100/00000/{name}"})
    with (folder / "ptbxl_database.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def cinc2017(tmp_path: Path) -> Path:
    folder = tmp_path / "training2017"
    folder.mkdir()
    for name in CINC_LABELS:
        for ending in (".hea", ".mat"):
            content = (DATA / f"A00004{ending}").read_bytes()
            (folder / f"{name}{ending}").write_bytes(content.replace(b"A00004", name.encode()))
    lines = [f"{name},{label}\n" for name, label in CINC_LABELS.items()]
    (folder / "REFERENCE.csv").write_text("".join(lines))
    (folder / "REFERENCE-v3.csv").write_text("not this one")
    return folder


@pytest.fixture(scope="session")
def own_arrays(records: dict[str, Record]) -> dict[str, np.ndarray]:
    """60 ECGs of lead II, of 30 patients: two normal recordings and two abnormal, disturbed."""
    rng = np.random.default_rng(0)
    sig = [r.sig[1] for r in records.values()]
    data = np.stack([sig[i % 4] * rng.uniform(0.8, 1.2) for i in range(60)])
    data += 0.01 * rng.standard_normal(data.shape)
    return {
        "data": data[:, :, None].astype(np.float32),
        "label": np.array([i % 4 >= 2 for i in range(60)], dtype=int),
        "patient_id": np.array([f"p{i // 2}" for i in range(60)]),
    }


@pytest.fixture
def own_npz(tmp_path: Path, own_arrays: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, **own_arrays)
    return path


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`python -m training.<verb>` with arguments, in this process."""

    def run(module, *arguments: object) -> None:
        monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
        module.main()

    return run


@pytest.fixture
def a_shard() -> Callable[..., Shard]:
    """A shard of noise: a segment a record, everything known, all leads, unless changed."""

    def make(n: int = 40, source: str = "a", **changes: object) -> Shard:
        rng = np.random.default_rng(n)
        given: dict[str, object] = {
            "sig": rng.standard_normal((n, 8, 1000)).astype(np.float16),
            "lead_mask": np.ones((n, 8), dtype=np.uint8),
            "n_valid": np.full(n, 1000, dtype=np.int32),
            "record": np.arange(n, dtype=np.int32),
            "label": rng.integers(0, 2, (n, 1 + len(CODES))).astype(np.int8),
            "strat_fold": (1 + np.arange(n) % 10).astype(np.int8),
            "patient": np.array([f"p{i}" for i in range(n)]),
            "age": np.full(n, 50, dtype=np.float32),
            "sex": np.zeros(n, dtype=np.int8),
        }
        return Shard(source=source, preparation=Preparation(), **{**given, **changes})  # type: ignore[arg-type]

    return make
