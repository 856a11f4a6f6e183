"""Embeddings: the same ECG in the same place, and another one elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ecg.store import load_classifier
from tests.conftest import ROOT
from tests.training.heartbeats import FS, ecgs
from training.judging.distances import fit_space, frechet
from training.judging.embeddings import (
    embeddings,
    kept,
    lead_by_lead,
    random_convolutions,
    random_kernels,
    stored_features,
)  # fmt: skip
from training.prednet import PredNet, PredNetConfig

SMALL = {"widths": (8, 8, 16), "stem_stride": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two outputs that was never trained, as training.train_classifier leaves one."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    torch.save(PredNet(2, PredNetConfig(**SMALL)).state_dict(), folder / "best.pt")
    said = {"config": {"model": SMALL}, "statements": ["AFIB"], "preparation": {},
            "sources": {"cinc2017": 5}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="module")
def sig() -> np.ndarray:
    return ecgs(np.random.default_rng(0), 70).astype(np.float16)


def test_all_of_them_tell_damage_from_none(run: Path, sig: np.ndarray) -> None:
    """Frechet distance of a half to the other half, whole and damaged."""
    rng = np.random.default_rng(1)
    clipped = np.clip(sig[35:].astype(np.float32) * 1.5, -0.4, 0.4)
    damaged = clipped + 0.05 * rng.standard_normal(clipped.shape)
    found = embeddings(ROOT / "models_store" / "prednet-small", run, FS)
    assert [e.name for e in found] == ["prednet", "independent", "measures", "random"]
    assert "cinc2017" in found[1].about
    for e in found:
        of = e.of(sig)
        space = fit_space(of, 50)
        first = space(of[:35])
        good, bad = frechet(first, space(of[35:])), frechet(first, space(e.of(damaged)))
        assert bad > 2 * good, e.name


def test_what_the_stored_network_pools_gives_its_logits(sig: np.ndarray) -> None:
    """Its last layer's weights turn what is pooled into what the service would answer."""
    folder = ROOT / "models_store" / "prednet-small"
    graph = onnx.load(folder / "model.onnx").graph
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    part = sig[:4].astype(np.float32)
    given = {"sig": part, "lead_mask": np.ones((4, 8), np.float32)}
    given["sample_mask"] = np.ones((4, 1000), np.float32)
    logits = load_classifier(folder, "cpu").session.run(["logits"], given)[0]
    pooled = stored_features(folder)(part)
    expected = pooled @ weights["head.1.weight"].T + weights["head.1.bias"]
    np.testing.assert_allclose(expected, logits, atol=1e-3)


def test_leads_are_judged_one_by_one(run: Path, sig: np.ndarray) -> None:
    """One lead changed leaves what is said of the others."""
    of = lead_by_lead(run)
    changed = sig[:3].copy()
    changed[:, 5] = -changed[:, 5]
    a, b = (of(x).reshape(3, 8, -1) for x in (sig[:3], changed))
    others = [i for i in range(8) if i != 5]
    np.testing.assert_array_equal(a[:, others], b[:, others])
    assert np.abs(a[:, 5] - b[:, 5]).max() > 1e-3


def test_random_convolutions_are_always_the_same_and_of_no_level(sig: np.ndarray) -> None:
    a, b = random_convolutions(sig[:3]), random_convolutions(sig[:3])
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, random_convolutions(sig[:3], seed=1))
    weights = [w for w, _, _ in random_kernels(0, 8)]
    assert sum(len(w) for w in weights) == 512
    assert all(abs(float(w.sum(dim=2).abs().max())) < 1e-4 for w in weights)
    n_leads = np.concatenate([(w != 0).any(dim=2).sum(dim=1).numpy() for w in weights])
    assert set(n_leads) == {1, 2, 4, 8}


def test_features_are_made_once(tmp_path: Path) -> None:
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(3)

    for _ in range(2):
        np.testing.assert_array_equal(kept(tmp_path / "a", "x", make), np.arange(3))
    assert len(made) == 1
