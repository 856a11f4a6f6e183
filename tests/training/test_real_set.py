"""Real ECGs of fold 10 as a set that studies take: labelled, of one patient each, and of no other
fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg.leads import LEADS
from ecg.prepare import Preparation
from service.rating.material import read_real
from training import real_set
from training.shards import CODES, Shard, save

N = 12


def shard() -> Shard:
    rng = np.random.default_rng(0)
    label = np.zeros((N, 1 + len(CODES)), dtype=np.int8)
    label[:, 0] = np.arange(N) % 2
    label[np.arange(N) % 2 == 1, 1 + CODES.index("AFIB")] = 1
    label[:, 1 + CODES.index("LVH")] = -1
    return Shard(
        source="ptb-xl",
        preparation=Preparation(),
        sig=rng.normal(0, 0.2, (N, 8, 1000)).astype(np.float16),
        lead_mask=np.ones((N, 8), np.uint8),
        n_valid=np.full(N, 1000, np.int32),
        record=np.arange(N, dtype=np.int32),
        label=label,
        strat_fold=np.array([10] * 8 + [9] * 2 + [1] * 2, np.int8),
        patient=np.array([f"p{i if i != 5 else 4}" for i in range(N)]),
        age=np.full(N, np.nan, np.float32),
        sex=np.full(N, -1, np.int8),
    )


def test_fold_10_alone_a_patient_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = shard()
    save(part, tmp_path / "ptb-xl.npz")
    words = ["real_set", "--data", f"{tmp_path}/ptb-xl.npz", "--out", f"{tmp_path}/real.npz"]
    monkeypatch.setattr("sys.argv", words)
    real_set.main()
    found = read_real((tmp_path / "real.npz").read_bytes())
    assert found.sig.shape == (7, len(LEADS), 1000)
    assert len(set(found.patient)) == 7 and not any("p" == one[:1] for one in found.patient)
    assert found.present[1] == ("AFIB",) and found.substrate[:2] == ["normal", "abnormal"]
    kept = part.sig[[0, 1, 2, 3, 4, 6, 7]].astype(np.float32)
    assert np.array_equal(found.sig[:, [0, 1, 6, 7, 8, 9, 10, 11]], kept)
    monkeypatch.setattr("sys.argv", [*words, "-n", "3"])
    real_set.main()
    assert len(read_real((tmp_path / "real.npz").read_bytes()).sig) == 3


def test_a_shard_without_fold_10_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(shard().folds([1, 9]), tmp_path / "x.npz")
    words = ["real_set", "--data", f"{tmp_path}/x.npz", "--out", f"{tmp_path}/real.npz"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="fold 10"):
        real_set.main()
