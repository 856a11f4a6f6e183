"""Every generator by one command: labels reach what is made, and stopping changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg.labels import Labels
from ecg.record import Record
from tests.conftest import ROOT
from training import make_set, shards, train_generator
from training.generators import METHODS, Maker, load
from training.generators.controls import MAX_STRETCH, disturbed
from training.ldm.heart_rate import heart_rate
from training.ldm.latents import LatentBatches
from training.make_set import made_like, repeated
from training.shards import CODES, Shard
from training.subsets import subset

LEARNING = ("d2gan", "wgan-gp", "ddpm")
CONTROLS = ("copies", "augmented")
SMALL = Labels("normal", ("NORM",), 50.0, "male", complete=True)
LARGE = Labels("abnormal", ("AFIB",), 50.0, "male", complete=True)
AMPLITUDE = {"NORM": 0.1, "AFIB": 0.5}  # mV rms
N = 120


def planted_shard(a_shard) -> Shard:
    """A wave that is large in AFIB and small in NORM, and some noise; two records a patient."""
    is_large = np.arange(N) // 10 % 2 == 1
    label = np.zeros((N, 1 + len(CODES)), np.int8)
    label[:, 0] = is_large
    label[is_large, 1 + CODES.index("AFIB")] = 1
    label[~is_large, 1 + CODES.index("NORM")] = 1
    amplitude = np.where(is_large, AMPLITUDE["AFIB"], AMPLITUDE["NORM"])[:, None, None]
    sig = amplitude * 2**0.5 * np.sin(2 * np.pi * np.arange(1000) / 64)
    sig = sig + 0.02 * np.random.default_rng(0).standard_normal((N, 8, 1000))
    patient = np.array([f"p{i // 20}-{i % 10}" for i in range(N)])
    return a_shard(N, source="ptb-xl", sig=sig.astype(np.float16), label=label, patient=patient)


@pytest.fixture
def planted(a_shard, tmp_path: Path) -> Path:
    """A folder with the planted shard."""
    folder = tmp_path / "data"
    folder.mkdir()
    shards.save(planted_shard(a_shard), folder / "ptb-xl.npz")
    return folder


@pytest.fixture
def trained(run_command, planted: Path, tmp_path: Path) -> Callable[..., Path]:
    """A run of a method, of the smallest preset unless changed."""

    def run(name: str, *settings: str, run: str = "run", more: Sequence[object] = ()) -> Path:
        folder = tmp_path / run
        given: list[object] = ["--data", planted, "--run", folder, *more]
        if METHODS[name].presets:
            given += ["--preset", "smoke"]
        for setting in settings:
            given += ["--set", setting]
        run_command(train_generator, name, *given)
        return folder

    return run


def rms(sig: np.ndarray) -> float:
    return float(np.sqrt((sig.astype(float) ** 2).mean()))


ENOUGH = {
    "d2gan": ("loop.steps=500", "loop.lr=2e-3", "model.patch=64", "model.attention=0"),
    "wgan-gp": (
        *("loop.steps=120", "loop.lr=2e-3", "model.patch=64", "model.attention=0"),
        "objective.critic_steps=2",
    ),
    "ddpm": ("loop.steps=250", "loop.lr=3e-3", "sampling.num_steps=20"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_the_label_decides_the_amplitude_of_what_is_made(name: str, trained) -> None:
    more = (
        "loop.batch_size=24",
        "loop.eval_every=1000",
        "loop.ema=0.9",
        "loop.warmup=5",
        "loop.clip=10.0",
    )
    maker = load(name, trained(name, *ENOUGH[name], *more))
    small, large = (rms(maker.make([one] * 20, seed=0)) for one in (SMALL, LARGE))
    assert large > 2 * small
    mixed = maker.make([SMALL, LARGE] * 10, seed=1)
    assert rms(mixed[1::2]) > 2 * rms(mixed[::2])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", LEARNING)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    name: str, trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("loop.steps=6", "loop.save_every_s=0.0")
    if name == "wgan-gp":
        settings = (*settings, "objective.critic_steps=2")
    whole = trained(name, *settings, run="whole")
    drawn = LatentBatches.__call__
    with monkeypatch.context() as patch, pytest.raises(Interrupted):

        def until(self, step, process, processes):
            if step == 3:
                raise Interrupted
            return drawn(self, step, process, processes)

        patch.setattr(LatentBatches, "__call__", until)
        trained(name, *settings, run="parts")
    torch.manual_seed(5)
    parts = trained(name, *settings, run="parts")
    one, other = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (whole, parts))
    networks = {"model", "ema", "critics"} & set(one)
    assert len(networks) == (2 if name == "ddpm" else 3)
    for network in networks:
        for key, value in one[network].items():
            assert torch.equal(value, other[network][key]), (network, key)
    made = [load(name, run).make([SMALL, LARGE], seed=0) for run in (whole, parts)]
    assert np.array_equal(*made)


@pytest.mark.parametrize("name", [*LEARNING, *CONTROLS, "ldm"])
def test_what_is_made_is_of_the_seed_and_the_labels(name: str, trained) -> None:
    maker = load(name, trained(name))
    assert set(maker.statements) == {"NORM", "AFIB"}
    made = maker.make([SMALL, LARGE, SMALL], seed=3)
    assert made.shape == (3, 8, 1000) and made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.array_equal(made, maker.make([SMALL, LARGE, SMALL], seed=3))
    assert not np.array_equal(made, maker.make([SMALL, LARGE, SMALL], seed=4))
    assert not np.array_equal(made[0], made[2])


def test_the_stored_generator_is_asked_like_any_other() -> None:
    maker = load("ldm", ROOT / "models_store" / "ldm", num_steps=2)
    labels = [Labels(statements=("AFIB",)), Labels(statements=("NORM",))]
    assert maker.make(labels, seed=0).shape == (2, 8, 1000)


def test_ecg_ldm_learns_from_the_fraction_in_both_stages(trained) -> None:
    run = trained("ldm", "denoiser.loop.steps=2", more=("--fraction", 0.5))
    kept = shards.load(run / "data" / "ptb-xl.npz")
    assert 0 < len(kept.folds(range(1, 9)).label) <= 48
    known = json.loads((run / "denoiser" / "run.json").read_text())
    assert known["autoencoder"] == str(run / "autoencoder")
    assert known["config"]["loop"]["steps"] == 2


def test_ecg_ldms_denoiser_waits_for_its_autoencoder(trained, capsys) -> None:
    run = trained("ldm", more=("--minutes", 0))
    assert "The autoencoder is not finished" in capsys.readouterr().out
    assert not (run / "denoiser").exists()
    assert (trained("ldm") / "denoiser" / "best.pt").exists()


def rows_of(made: np.ndarray, part: Shard) -> list[int]:
    """The segment that each made ECG is, byte for byte; -1 where it is none."""
    place = {sig.tobytes(): i for i, sig in enumerate(part.sig.astype(np.float32))}
    return [place.get(sig.tobytes(), -1) for sig in made]


def test_a_copy_is_a_training_ecg_of_the_label_asked_for(trained, planted: Path) -> None:
    part = shards.load(planted / "ptb-xl.npz")
    made = load("copies", trained("copies")).make([LARGE] * 30 + [SMALL] * 30, seed=0)
    rows = rows_of(made, part)
    assert min(rows) >= 0
    assert (part.strat_fold[part.record[rows]] <= 8).all()
    afib = part.label[part.record[rows], 1 + CODES.index("AFIB")]
    assert afib.tolist() == [1] * 30 + [0] * 30
    assert len(set(rows)) > 20  # any of those that are equally near


def test_a_copy_is_the_nearest_in_age_sex_and_heart_rate(a_shard, run_command, tmp_path) -> None:
    age = np.linspace(20, 80, 40).astype(np.float32)
    sex = (np.arange(40) % 2).astype(np.int8)
    label = np.zeros((40, 1 + len(CODES)), np.int8)
    label[:20, 1 + CODES.index("LVH")] = 1
    shards.save(a_shard(40, age=age, sex=sex, label=label), tmp_path / "a.npz")
    run_command(
        train_generator, "copies", "--data", tmp_path, "--source", "a", "--run", tmp_path / "run"
    )
    maker = load("copies", tmp_path / "run")
    part = shards.load(tmp_path / "a.npz")

    def row(labels: Labels) -> int:
        return rows_of(maker.make([labels], seed=0), part)[0]

    assert row(Labels(statements=("LVH",), age=age[4], sex="male")) == 4
    assert row(Labels(statements=("LVH",), age=age[4], sex="female")) in (3, 5)
    assert row(Labels(statements=("LVH",), age=80.0)) == 17  # 18, 19 are of folds 9 and 10
    assert row(Labels(complete=True, age=20.0)) == 20


def test_an_augmented_copy_is_no_copy_but_near(trained, planted: Path) -> None:
    made = load("augmented", trained("augmented")).make([LARGE] * 20, seed=0)
    assert set(rows_of(made, shards.load(planted / "ptb-xl.npz"))) == {-1}
    assert 0.6 * AMPLITUDE["AFIB"] < rms(made) < 1.4 * AMPLITUDE["AFIB"]


def test_augmentation_keeps_the_heart_rate(records: dict[str, Record]) -> None:
    rng = np.random.default_rng(0)
    for record in records.values():
        whole = record.sig[:8].astype(np.float32)
        before = heart_rate(whole, record.fs)
        after = np.array(
            [heart_rate(disturbed(whole, record.fs, rng), record.fs) for _ in range(20)]
        )
        assert np.abs(after / before - 1).max() < MAX_STRETCH + 0.02  # and a sample's rounding
        assert len(set(after.tolist())) > 1


def test_a_set_has_the_labels_of_the_real_records(
    trained, planted: Path, run_command, tmp_path: Path
) -> None:
    out = tmp_path / "sets" / "set.npz"
    run_command(
        make_set, "copies", "--run", trained("copies"), "--like", planted / "ptb-xl.npz",
        "--fraction", 0.5, "-k", 3, "--out", out,
    )  # fmt: skip
    made = shards.load(out)
    like = subset(shards.load(planted / "ptb-xl.npz"), 0.5, seed=0).folds(range(1, 9))
    assert made.source == "generated" and len(made.sig) == 3 * len(like.sig)
    assert np.array_equal(made.record, np.arange(len(made.sig)))
    assert (made.strat_fold <= 8).all()
    afib = 1 + CODES.index("AFIB")
    assert (made.label[:, afib] == 1).sum() == 3 * (like.label[:, afib] == 1).sum()
    is_large = (made.sig.astype(float) ** 2).mean(axis=(1, 2)) > 0.3**2
    assert np.array_equal(is_large, made.label[:, afib] == 1)


def test_a_smaller_set_begins_a_larger_one(a_shard) -> None:
    part = planted_shard(a_shard)

    def make(labels: Sequence[Labels], seed: int) -> np.ndarray:
        level = [1.0 if "AFIB" in one.statements else 0.0 for one in labels]
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(len(labels)).round(2)
        return np.zeros((len(labels), 8, 1000), np.float32) + (level + noise)[:, None, None]

    half, one, three = (
        made_like(Maker(("AFIB", "NORM"), make), part, k, seed=0) for k in (0.5, 1, 3)
    )
    assert [len(x.sig) for x in (half, one, three)] == [60, 120, 360]
    assert np.array_equal(one.label, three.label[:120])
    assert np.array_equal(half.patient, one.patient[:60])
    assert sorted(repeated(7, 3, seed=1).tolist()) == sorted([*range(7)] * 3)
    with pytest.raises(SystemExit, match="above 0"):
        repeated(7, 0, seed=1)
    with pytest.raises(SystemExit, match="no ECG at all"):
        made_like(Maker((), make), part, 0.001, seed=0)


def test_a_run_is_not_gone_on_with_as_something_else(trained) -> None:
    trained("d2gan")
    with pytest.raises(SystemExit, match="begun with another generator"):
        trained("wgan-gp")
    with pytest.raises(SystemExit, match="begun with another fraction and n_training"):
        trained("d2gan", more=("--fraction", 0.5))


@pytest.mark.parametrize(
    ("name", "sampler", "says"),
    [
        ("stylegan", {}, "no generator 'stylegan'; there are d2gan, wgan-gp, ddpm"),
        ("ddpm", {}, "is a run of d2gan, not of ddpm"),
        ("d2gan", {"num_steps": 3}, "d2gan has no num_steps"),
        ("copies", {"guidance_scale": 2.0}, "copies has no guidance_scale"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, sampler, says: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"generator": "d2gan"}))
    with pytest.raises(SystemExit, match=says):
        load(name, tmp_path, **sampler)


def test_a_run_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="python -m training.train_generator ddpm --run"):
        load("ddpm", tmp_path)


@pytest.mark.parametrize("name", ["d2gan", "wgan-gp", "ddpm"])
@pytest.mark.parametrize("preset", ["cpu", "gpu", "smoke"])
def test_every_preset_is_valid(name: str, preset: str, run_command, planted, capsys) -> None:
    run_command(train_generator, name, "--data", planted, "--preset", preset, "--dry-run")
    assert json.loads(capsys.readouterr().out)["loop"]["seed"] == 0


def test_a_source_that_there_is_not_is_named(run_command, planted: Path) -> None:
    with pytest.raises(SystemExit, match="--source own: .* has ptb-xl"):
        run_command(train_generator, "ddpm", "--data", planted, "--source", "own")
