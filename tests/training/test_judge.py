"""The judgement of a set, whole but small, and what it says of sets with something wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg.prepare import Preparation
from tests.conftest import ROOT
from tests.training.heartbeats import ecgs
from training import judge
from training.judging import beside_real
from training.judging.blind_test import blind_test
from training.shards import CODES, Shard, save

N = 120


def a_set(rng: np.random.Generator, folds: tuple[int, ...], n: int, **changes: float) -> Shard:
    """n ECGs in sinus rhythm and n // 3 in fibrillation, in the given folds."""
    n_afib = n // 3
    sig = np.concatenate([ecgs(rng, n, **changes), ecgs(rng, n_afib, irregular=0.2, p=0)])
    label = np.zeros((len(sig), 1 + len(CODES)), np.int8)
    label[:n, 1 + CODES.index("SR")] = 1
    label[n:, 1 + CODES.index("AFIB")] = 1
    return Shard(
        "ptb-xl", Preparation(), sig.astype(np.float16), np.ones((len(sig), 8), np.uint8),
        np.full(len(sig), 1000, np.int32), np.arange(len(sig), dtype=np.int32), label,
        np.array(folds, np.int8)[np.arange(len(sig)) % len(folds)],
        np.array([f"{folds[0]}-{i}" for i in range(len(sig))]),
        np.full(len(sig), 60, np.float32), np.zeros(len(sig), np.int8),
    )  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a set of as good ECGs as the real ones, but for 8 that are shifted training ECGs."""
    folder = tmp_path_factory.mktemp("judged")
    rng = np.random.default_rng(0)
    real = a_set(rng, tuple(range(1, 11)), N)
    made = replace(a_set(np.random.default_rng(1), tuple(range(1, 11)), N), source="generated")
    training = np.flatnonzero(real.strat_fold <= 8)
    rows = np.flatnonzero(made.strat_fold == 10)[:8]
    made.sig[rows] = np.roll(1.1 * real.sig[training[:8]], 130, axis=2)
    (folder / "data").mkdir()
    save(real, folder / "data" / "ptb-xl.npz")
    save(made.folds(range(1, 9)), folder / "training.npz")
    save(made.folds((10,)), folder / "fold-10.npz")
    arguments = ("--set", folder / "training.npz", folder / "fold-10.npz", "--data",
                 folder / "data", "--store", ROOT / "models_store", "--features", "prednet",
                 "--independent", folder / "none", "--work", folder / "work", "--out",
                 folder / "report", "--blind-steps", 2)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["judge", *map(str, arguments)])
        judge.main()
    return folder


@pytest.fixture(scope="module")
def found(judged: Path) -> dict:
    return json.loads((judged / "report" / "judgement.json").read_text())


def test_every_distance_stands_beside_that_between_real_ecgs(found: dict) -> None:
    assert [of["name"] for of in found["distances"]] == ["prednet", "measures", "random"]
    for of in found["distances"]:
        rows = {row["what"]: row for row in of["rows"]}
        assert {"real, fold 9", "real, training folds", "real, two halves of training"} < set(rows)
        floor = rows["real, fold 9"]["frechet"]
        assert floor["interval"][0] < 0.1
        assert rows["generated, training labels"]["precision"]["value"] > 0.7


def test_copies_are_found_among_what_is_new(found: dict) -> None:
    of = found["copies"]["whole"]["of"]
    n = of["held-out labels"]["n"]
    assert of["held-out labels"]["above"] == pytest.approx(8 / n, abs=0.05)
    assert of["training labels"]["above"] < 0.08
    assert of["real"]["above"] < 0.05


def test_the_labels_physiology_is_in_the_set(found: dict) -> None:
    signs = {(s["code"], s["measure"]) for s in found["physiology"]["signs"] if s["shown"]}
    assert {("AFIB", "rr_irregularity"), ("AFIB", "p_wave_uv")} <= signs
    assert {row["code"] for row in found["diversity"]} == {"SR", "AFIB"}
    assert all(0.8 < row["random"]["value"] < 1.25 for row in found["diversity"])


def test_the_page_has_all_of_it_and_fetches_nothing(judged: Path, found: dict) -> None:
    page = (judged / "report" / "index.html").read_text()
    assert page.count("<svg") == 5 and page.count("<h2>") == 7
    assert not re.search(r"(src|href)=.(https?:)?//", page)
    auroc = found["membership"]["attacks"][0]["auroc"]["value"]
    assert f"{auroc:.3f}" in page


def test_a_blind_network_tells_damage_and_not_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = a_set(rng, tuple(range(1, 11)), 240)
    same = a_set(rng, tuple(range(1, 11)), 240)
    damaged = a_set(rng, tuple(range(1, 11)), 240, noise_mv=0.1)
    train, held = range(1, 9), (9, 10)
    aurocs = {}
    for name, made in (("same", same), ("damaged", damaged)):
        parts = [tuple(p.folds(f) for p in (real, made)) for f in (train, held)]
        aurocs[name] = blind_test(*parts, tmp_path / name, 40)
    low, high = aurocs["same"]["interval"]
    assert low < 0.5 < high or 0.35 < aurocs["same"]["value"] < 0.65
    assert aurocs["damaged"]["value"] > 0.8
    with pytest.raises(SystemExit, match="begun with other settings"):
        blind_test(*parts, tmp_path / "same", 41)


def test_without_labels_of_fold_10_those_of_fold_8_are_held_back(
    a_shard: Callable[..., Shard],
) -> None:
    made = a_shard(n=80).folds(range(1, 9))
    case = beside_real.Case(a_shard(n=80), made, [], Path(), 1)
    assert case.held_out == (8,) and case.training == tuple(range(1, 8))
    assert beside_real.Case(a_shard(n=80), a_shard(n=80), [], Path(), 1).held_out == (10,)


def test_what_cannot_be_judged_is_said(
    tmp_path: Path, run_command: Callable[..., None], a_shard: Callable[..., Shard]
) -> None:
    (tmp_path / "data").mkdir()
    arguments = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--store",
                 ROOT / "models_store", "--independent", tmp_path / "none", "--set",
                 tmp_path / "set.npz")  # fmt: skip
    with pytest.raises(SystemExit, match="run python -m training.prepare first"):
        run_command(judge, *arguments)
    save(a_shard(n=40), tmp_path / "data" / "ptb-xl.npz")
    bad = a_shard(n=40)
    bad.sig[3, 2, 1] = np.nan
    for made, match in (
        (a_shard(n=40, strat_fold=np.full(40, 9, np.int8)), "labels of folds 1-8"),
        (bad, "values that are no numbers"),
        (a_shard(n=40, sig=np.zeros((40, 8, 500), np.float16)), "the set has segments"),
    ):
        save(made, tmp_path / "set.npz")
        with pytest.raises(SystemExit, match=match):
            run_command(judge, *arguments)
