"""The grid: cells are made once, in order; arms are compared by patient; the command is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg.leads import INDEPENDENT_LEADS
from ecg.prepare import Preparation
from tests.ecg import fake_generator
from tests.training.commands import command
from training.experiment.__main__ import possible
from training.experiment.cell import DONE, Cell, begin, cell, with_needs
from training.experiment.compare import Reader, compare, holm
from training.experiment.config import (
    CallsConfig,
    ExperimentConfig,
    FeaturesConfig,
    RareConfig,
)
from training.experiment.grid import Here, make
from training.shards import CODES, Shard, save

SOURCE, SHIFT = "ptb-xl", 0.6


def a_classifier(**changes: object) -> Cell:
    told = {"network": "prednet", "preset": "smoke", "steps": 4, "source": SOURCE, "seed": 0}
    return cell("classifier", **{**told, "real": True, "fraction": 1.0, **changes})


def test_a_cells_name_is_what_it_is_made_from() -> None:
    made = cell("part", a_classifier(), n=3)
    assert made.name == cell("part", a_classifier(), n=3).name
    others = [cell("part", a_classifier(), n=4), cell("part", a_classifier(seed=1), n=3)]
    assert len({made.name, *(other.name for other in others)}) == 3
    assert with_needs([made, made]) == [a_classifier(), made]


class Pretended:
    """Makes cells in this process, one at a time; `broken` ones fail."""

    def __init__(self, folder: Path, broken: tuple[Cell, ...] = ()) -> None:
        self.folder, self.broken, self.made = folder, broken, []
        self.running: list[Cell] = []

    def room(self) -> int:
        return 1

    def begin(self, one: Cell) -> None:
        assert all(need.is_done(self.folder) for need in one.needs)
        self.running.append(one)

    def ended(self) -> Iterator[tuple[Cell, str | None]]:
        while self.running:
            one = self.running.pop()
            self.made.append(one)
            if one in self.broken:
                yield one, "broke"
            else:
                (begin(one, self.folder) / DONE).write_text("{}")
                yield one, None


def test_what_a_cell_needs_is_made_first_and_nothing_twice(tmp_path: Path) -> None:
    base = cell("set", n=1)
    cells = [cell("part", base, n=n) for n in range(3)]
    maker = Pretended(tmp_path)
    make([*cells, base], tmp_path, maker)
    assert maker.made == [base, *cells]
    make(cells, tmp_path, again := Pretended(tmp_path))
    assert again.made == []


def test_what_failed_is_named_and_the_rest_is_made(tmp_path: Path) -> None:
    broken, other = cell("set", n=1), cell("set", n=2)
    above = cell("part", broken, n=1)
    maker = Pretended(tmp_path, (broken,))
    with pytest.raises(SystemExit, match=f"{broken.name}: broke") as said:
        make([above, other], tmp_path, maker)
    assert f"{above.name}: needs {broken.name}" in str(said.value)
    assert maker.made == [broken, other]


def test_a_process_that_fails_says_why(tmp_path: Path, shard: Path) -> None:
    maker = Here(tmp_path / "cells", shard.parent, workers=1)
    with pytest.raises(SystemExit, match="KeyError"):
        make([cell("classifier", source=SOURCE)], tmp_path / "cells", maker)


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    rng = np.random.default_rng(0)
    label = (rng.random((300, 4)) < 0.3).astype(np.int8)
    return Reader(("NORM", "AFIB", "LVH"), 10, label, np.arange(300).astype(str))


def planted(read: Reader, folder: Path, how_well: float, seed: int) -> Path:
    """A classifier's outcome: its logits rise by so much where a label is present."""
    folder.mkdir()
    noise = np.random.default_rng(seed).standard_normal(read.label.shape)
    np.save(folder / "logits-10.npy", noise + how_well * read.label)
    return folder


def test_a_planted_difference_is_found_and_none_is_not(read: Reader, tmp_path: Path) -> None:
    arms = {
        name: [planted(read, tmp_path / f"{name}{s}", how_well, 10 * i + s) for s in range(3)]
        for i, (name, how_well) in enumerate({"real": 1.0, "better": 1.8, "alike": 1.0}.items())
    }
    found = compare(read, arms, "real")
    for figure in ("atrial", "macro"):
        better, alike = found["better"], found["alike"]
        assert better.above[figure].interval[0] > 0
        assert better.p[figure] < 0.05
        assert alike.above[figure].interval[0] < 0 < alike.above[figure].interval[1]
        assert alike.p[figure] > 0.05
        low, high = better.figures[figure].interval
        assert low < better.figures[figure].value < high
        assert better.figures[figure].value == pytest.approx(np.mean(better.figures[figure].seeds))


def test_corrected_p_are_holms() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06}
    )


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """ECG-like segments in which every second person's amplitude tells the atrial substrate."""
    rng, n = np.random.default_rng(0), 240
    label = np.zeros((n, 1 + len(CODES)), np.int8)
    abnormal = np.arange(n) % 2
    label[:, 1 + CODES.index("AFIB")] = abnormal
    few = np.arange(n) < 80  # in four of each fold
    label[few, 1 + CODES.index("LVH")] = abnormal[few]
    label[:, 0], label[:, 1 + CODES.index("NORM")] = abnormal, 1 - abnormal
    beat = np.zeros(1000)
    beat[40::80] = 1.0
    sig = beat * (1 + SHIFT * abnormal)[:, None, None] + 0.02 * rng.standard_normal((n, 8, 1000))
    assert sig.shape[1] == len(INDEPENDENT_LEADS)
    path = tmp_path / "data" / f"{SOURCE}.npz"
    path.parent.mkdir()
    save(
        Shard(
            source=SOURCE, preparation=Preparation(), sig=sig.astype(np.float16),
            lead_mask=np.ones((n, 8), np.uint8), n_valid=np.full(n, 1000, np.int32),
            record=np.arange(n, dtype=np.int32), label=label,
            strat_fold=(1 + np.arange(n) // 2 % 10).astype(np.int8),
            patient=np.arange(n).astype(str), age=np.full(n, 60, np.float32),
            sex=np.zeros(n, np.int8),
        ),
        path,
    )  # fmt: skip
    return path


def run(shard: Path, folder: Path, *more: str) -> str:
    stored = folder / "stored"
    if not stored.exists():
        fake_generator.store(stored)
    where = ("--data", shard.parent, "--work", folder / "work", "--out", folder / "report")
    told = ("--workers", 0, "--set", f'training.stored="{stored}"')
    return command("experiment.__main__", *where, *told, *more)


@pytest.mark.timeout(600)
def test_the_smoke_preset_answers_every_question(shard: Path, tmp_path: Path) -> None:
    run(shard, tmp_path)
    report = tmp_path / "report"
    text = (report / "README.md").read_text()
    for title in (
        "Classifiers", "Generators", "How scarce the real ECGs are", "Rare statements",
        "Few network calls",
    ):  # fmt: skip
        assert f"## {title}" in text
    few = json.loads((report / "calls.json").read_text())["arms"]
    assert list(few) == ["10 calls: the default", "2 calls: num_steps 1", "real"]
    assert (report / "scarcity.png").stat().st_size > 5000
    scarce = json.loads((report / "augmentation.json").read_text())["0.5"]
    assert list(scarce["arms"]) == [
        "real", "generated alone", "real + 1 x generated", "real + generated, 50% of a batch",
        "generated for 50% of the steps, then real",
    ]  # fmt: skip
    for name, arm in scarce["arms"].items():
        assert len(arm["figures"]["atrial"]["seeds"]) == 1
        assert (name == "real") == (arm["p"] == {})
    again = run(shard, tmp_path)
    assert "cells to make" in again
    assert set(line.split(" of ")[0] for line in again.splitlines() if "cells" in line) == {"0"}


def test_a_study_without_what_it_needs_is_left_out_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = FeaturesConfig(denoiser=str(tmp_path / "none"), fractions=(1.0,))
    calls = CallsConfig(flow_map=str(tmp_path / "map"), steps=(2,))
    config = ExperimentConfig(features=features, calls=calls, rare=RareConfig(n=0))
    assert possible(config, None) == []
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["features is left out", "calls is left out"]
    assert "import_generator" in said[0] and "train_flow_map" in said[1]
    with pytest.raises(SystemExit, match="calls: calls.flow_map"):
        possible(config, ["calls"])
    assert possible(replace(config, calls=CallsConfig(samplers=({"rho": 7.0},))), ["calls"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_denoiser_learned_stands_beside_one_that_learned_nothing(
    shard: Path, tmp_path: Path
) -> None:
    runs = {name: tmp_path / name for name in ("autoencoder", "denoiser")}
    data = ("--data", shard.parent)
    command("train_autoencoder", *data, "--run", runs["autoencoder"])
    told = (*data, "--autoencoder", runs["autoencoder"])
    command("train_denoiser", *told, "--run", runs["denoiser"])
    asked = ("--denoiser", runs["denoiser"], "--sigmas", 0.2, "--out", tmp_path / "probe.json")
    best = command("probe", *told, *asked, preset=None)
    assert best.count("| up.") >= 4
    changes = {**runs, "preset": "smoke", "layer": "middle"}
    more = [x for k, v in changes.items() for x in ("--set", f'features.{k}="{v}"')]
    run(shard, tmp_path, "--only", "features", "--set", "features.fractions=[1.0]",
        "--set", "features.steps=4", *more)  # fmt: skip
    found = json.loads((tmp_path / "report" / "features.json").read_text())["1"]
    assert list(found["arms"]) == [
        "real", "U-Net, frozen", "U-Net, tuned", "U-Net, from the start",
    ]  # fmt: skip
    text = (tmp_path / "report" / "README.md").read_text()
    assert "## What the generator has learned" in text
