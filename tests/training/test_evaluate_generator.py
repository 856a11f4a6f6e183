"""The evaluation command, whole but small, with the shipped generator and classifier."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecg.prepare import Preparation
from ecg.record import Record
from tests.conftest import ROOT
from training import evaluate_generator, export_generator
from training.judging import judgement
from training.judging.novelty import likeness
from training.shards import CODES, Shard, load, save


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, records: dict[str, Record]) -> Path:
    """A shard of 160 disturbed copies of a normal record and one in atrial fibrillation."""
    rng, n = np.random.default_rng(0), 160
    two = np.stack([records[k].sig[[0, 1, *range(6, 12)]] for k in ("00009_lr", "01275_lr")])
    sig = two[np.arange(n) % 2] * rng.uniform(0.8, 1.2, (n, 1, 1))
    label = np.zeros((n, 1 + len(CODES)), dtype=np.int8)
    label[:, [0, 1 + CODES.index("AFIB")]] = (np.arange(n) % 2)[:, None]
    label[:, 1 + CODES.index("NORM")] = 1 - np.arange(n) % 2
    shard = Shard(
        source="ptb-xl", preparation=Preparation(), sig=sig.astype(np.float16),
        lead_mask=np.ones((n, 8), np.uint8), n_valid=np.full(n, 1000, np.int32),
        record=np.arange(n, dtype=np.int32), label=label,
        strat_fold=(1 + np.arange(n) // 2 % 10).astype(np.int8),
        patient=np.arange(n).astype(str), age=np.full(n, 60, np.float32),
        sex=np.zeros(n, np.int8),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("data")
    save(shard, folder / "ptb-xl.npz")
    return folder


@pytest.fixture(scope="module")
def evaluated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    arguments = (
        *("--data", data, "--work", folder / "work", "--out", folder / "report"),
        *("--store", ROOT / "models_store", "--autoencoder", folder / "none", "--seeds", 2),
        *("--preset", "smoke", "--classifier-steps", 12, "--workers", 1),
        *("--blind-steps", 2, "--independent", folder / "none"),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("STEPS", (1, 2)), ("SCALES", (1.0,)), ("SMALL_SET", 8)):
            patch.setattr(judgement, name, value)
        patch.setattr(judgement, "N_ASKED", 8)
        patch.setattr("sys.argv", ["evaluate_generator", *map(str, arguments)])
        evaluate_generator.main()
    return folder


def test_every_figure_stands_beside_what_it_is_compared_with(evaluated: Path) -> None:
    found = json.loads((evaluated / "report" / "evaluation.json").read_text())
    for name in ("macro", "atrial"):
        of = found["tstr"][name]
        assert set(of) == {"real", "generated", "both", "generated_to_real", "both_to_real"}
        for kind in ("real", "generated", "both"):
            assert len(of[kind]["seeds"]) == 2
            low, high = of[kind]["interval"]
            assert low <= of[kind]["value"] <= high
        ratio = of["generated"]["value"] / of["real"]["value"]
        assert of["generated_to_real"]["value"] == pytest.approx(ratio)
    assert [r.get("network_calls") for r in found["settings"]] == [
        None,
        1,
        2,
        7,
    ]  # with the default
    assert {"fold_9", "fold_10"} <= set(found["settings"][0])
    assert set(found["fidelity"]) == {"generated", "real"}
    assert found["limb_lead_error_mv"] < 1e-6
    assert found["judged"]["held_out"] == [10] and found["judged"]["n_made"] == 144
    assert len(found["nearest"]["generated"]) == len(found["nearest"]["real"]) == 16
    assert len(found["heart_rate"]["asked"]) <= 8


def test_the_page_shows_the_figures_and_the_grid(evaluated: Path) -> None:
    page = (evaluated / "report" / "index.html").read_text()
    found = json.loads((evaluated / "report" / "evaluation.json").read_text())
    assert f"{found['tstr']['macro']['generated']['value']:.3f}" in page
    assert page.count("<svg") >= 8
    assert page.count("<h2>") == 13
    assert not re.search(r"(src|href)=.(https?:)?//", page), "nothing is fetched from elsewhere"
    with Image.open(evaluated / "report" / "grid.png") as grid:
        width, height = grid.size
    assert width > 2000 and height > 1200  # NORM and AFIB, real and generated


def test_generated_ecgs_have_the_real_ones_labels_and_none_of_their_signals(
    evaluated: Path, data: Path
) -> None:
    (work,) = (evaluated / "work").iterdir()
    (path,) = work.glob("training-0-*.npz")
    made, real = load(path), load(data / "ptb-xl.npz").folds(range(1, 9))
    np.testing.assert_array_equal(made.label, real.label)
    assert set(made.strat_fold) == set(range(1, 9)), "folds 9 and 10 are never trained on"
    assert likeness(made.sig[:4], real.sig, real.preparation.fs).max() < 0.95


def test_the_card_takes_figures_only_of_the_denoiser_that_was_judged(evaluated: Path) -> None:
    path = evaluated / "report" / "evaluation.json"
    sha256 = json.loads(path.read_text())["generator"]["sha256"]
    names = [m.name for m in export_generator.metrics(path, sha256)]
    assert "macro AUROC, ratio of generated to real" in names
    assert all(m.interval for m in export_generator.metrics(path, sha256))
    with pytest.raises(SystemExit, match="judges another denoiser"):
        export_generator.metrics(path, "0" * 64)
