"""Train on synthetic, test on real: trials are repeatable, and fold 10 changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import tstr
from training.shards import save
from training.tstr import Trial, run_all


@pytest.fixture
def real(a_shard, tmp_path: Path):
    """A shard in which the atrial substrate, and a statement, show as an amplitude."""

    def make(name: str = "real", report_gain: float = 1.0) -> Path:
        shard = a_shard(200)
        shard.label[:, 0] = np.arange(200) // 10 % 2
        shard.label[:, 1] = shard.label[:, 0]
        shard.sig[shard.label[:, 0] == 1] *= np.float16(3)
        shard.sig[shard.strat_fold == 10] *= np.float16(report_gain)
        path = tmp_path / f"{name}.npz"
        save(shard, path)
        return path

    return make


def trial(path: Path, **changes: object) -> Trial:
    given = {"name": "t", "training": (str(path),), "real": str(path), "seed": 0, "steps": 20}
    return Trial(**{**given, "preset": "smoke", **changes})  # type: ignore[arg-type]


def test_a_trial_learns_and_is_not_trained_twice(
    real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = real()
    (first,) = run_all([trial(path)], tmp_path / "trials", workers=1)
    assert first.logits[10].shape == (20, 1 + len(first.statements))
    label = tstr.segment_labels(tstr.load(path).folds((10,)), first.statements)
    assert tstr.scores(label, first.logits[10])["atrial"] > 0.9
    monkeypatch.setattr(tstr, "fit", lambda *_: pytest.fail("trained again"))
    (again,) = run_all([trial(path)], tmp_path / "trials", workers=1)
    np.testing.assert_array_equal(again.logits[9], first.logits[9])


def test_another_trial_of_the_same_name_is_trained_anew(real, tmp_path: Path) -> None:
    path = real()
    (first,) = run_all([trial(path)], tmp_path / "trials", workers=1)
    (other,) = run_all([trial(path, seed=1)], tmp_path / "trials", workers=1)
    assert not np.array_equal(first.logits[9], other.logits[9])


def test_fold_10_changes_nothing_that_is_learned_or_chosen(real, tmp_path: Path) -> None:
    plain, other = real("plain"), real("other", report_gain=5.0)
    outcomes = [
        run_all([trial(path)], tmp_path / path.stem, workers=1)[0] for path in (plain, other)
    ]
    np.testing.assert_array_equal(outcomes[0].logits[9], outcomes[1].logits[9])
    assert not np.array_equal(outcomes[0].logits[10], outcomes[1].logits[10])


def test_means_over_seeds(rng: np.random.Generator) -> None:
    label = np.array([[1, 1], [1, 1], [0, 0], [0, 0]])
    good, bad = (
        np.array([[4, 4], [3, 3], [2, 2], [1, 1.0]]),
        np.array([[1, 1], [2, 2], [3, 3], [4, 4.0]]),
    )
    for name in ("macro", "atrial"):
        found = tstr.mean_score(name, label, [good, bad, good, good], np.array([1]))
        assert found == pytest.approx(0.75)
