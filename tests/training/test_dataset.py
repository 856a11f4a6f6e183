"""Published sets: complete, true, the same again, and without a training ECG."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg.card import TrainingData
from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from ecg.record import Record
from tests.ecg import fake_generator
from training import dataset, generate
from training.judging.fidelity import with_signals
from training.shards import CODES, Shard, save
from training.sources import generated

N = 9
INDEPENDENT = [LEADS.index(lead) for lead in fake_generator.card().leads]
DATA = TrainingData(name="a", records=32, licence="CC BY 4.0", citation="A et al. 2020, doi 10/a")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fake_generator.store(tmp_path / "store" / "ldm", training_data=(DATA,))
    return tmp_path / "store"


@pytest.fixture
def shard(tmp_path: Path, a_shard: Callable[..., Shard], records: dict[str, Record]) -> Shard:
    """What the generator learned from: noise, and real ECGs at the first rows of folds 1 to 9."""
    given = a_shard(40)
    real = np.stack([r.sig[INDEPENDENT] for r in records.values()])
    given.sig[[0, 2, 4]] = real[:3]
    given.sig[8] = real[0] + 0.5 * np.random.default_rng(1).standard_normal(real[0].shape)
    (tmp_path / "data").mkdir()
    save(given, tmp_path / "data" / "a.npz")
    return given


@pytest.fixture
def a_set(tmp_path: Path, store: Path, run_command, monkeypatch) -> Path:
    monkeypatch.setattr(generate, "SHARD", 4)
    path = tmp_path / "set.npz"
    asked = ("--balance", "--sex", "female", "--seed", 5, "--workers", 1, "-n", N)
    run_command(generate, *asked, "--store", store, "--out", path)
    return path


@pytest.fixture
def export(tmp_path: Path, store: Path, shard: Shard, run_command):
    def run(path: Path, *more: object, out: str = "published") -> Path:
        places = ("--store", store, "--data", tmp_path / "data", "--out", tmp_path / out)
        run_command(dataset, "export", path, *places, *more)
        return tmp_path / out

    return run


def planted(path: Path, row: int, sig: np.ndarray) -> Path:
    """The set with another ECG, mV [12, time], at one row."""
    with np.load(path) as f:
        arrays = dict(f)
    arrays["data"][row] = sig.T
    out = path.with_name("planted.npz")
    np.savez(out, **arrays)
    return out


def test_every_form_holds_the_same_ecgs(export, a_set: Path) -> None:
    folder = export(a_set, "--png", 2)
    with np.load(a_set) as f:
        given, label = f["data"], f["label"]
    with np.load(folder / "ecgs.npz", allow_pickle=False) as f:
        assert f["data"].shape == (N, 1000, 12) and f["data"].dtype == np.float32
        np.testing.assert_array_equal(f["data"], given)
        np.testing.assert_array_equal(f["label"], label)
        assert (f["seed"], f["fs"], str(f["units"])) == (5, 100, "mV")
        assert tuple(f["leads"]) == LEADS and (f["sex"] == 1).all() and np.isnan(f["age"]).all()
        assert (f["asked"] == -1).all() and tuple(f["codes"]) == fake_generator.STATEMENTS
        assert f["row"].tolist() == list(range(N)) and f["synthetic"]
    rows = np.loadtxt(folder / "ecgs.csv", delimiter=",")
    np.testing.assert_allclose(rows[:, :-1].reshape(given.shape), given, atol=1e-5)
    np.testing.assert_array_equal(rows[:, -1], label)
    names = (folder / "RECORDS").read_text().split()
    assert len(names) == N
    record = wfdb.rdrecord(str(folder / names[7]))
    np.testing.assert_allclose(record.p_signal, given[7], atol=0.0006)
    assert tuple(record.sig_name) == LEADS and "synthetic" in record.comments[0]
    with (folder / "labels.csv").open() as f:
        told = list(csv.DictReader(f))
    assert [t["record"] for t in told] == names
    assert [t["atrial_substrate"] for t in told[:2]] == ["normal", "abnormal"]
    assert len(list((folder / "prints").glob("*.png"))) == 2
    ((_, *_),) = [read([File((folder / "ecgs.npz").read_bytes())], Hints())]
    assert len(list(generated.load(folder / "ecgs.npz"))) == N, "it can be trained on again"


def test_the_cards_say_what_it_is(export, a_set: Path, store: Path) -> None:
    folder = export(a_set)
    card = json.loads((store / "ldm" / "card.json").read_text())
    said = (folder / "DATA_CARD.md").read_text()
    for expected in (
        card["sha256"], card["decoder_sha256"], "fake-ldm 0.0.7", "5 steps", "scale 1.5",
        "| seed | 5",
        "100 Hz, mV", DATA.citation, "CC BY 4.0", card["intended_use"], card["not_for"],
        "| atrial substrate: abnormal | 4 | 44.4% |", "| sex: female | 9 | 100.0% |",
        "all 32 training records", "4 real records",
    ):  # fmt: skip
        assert expected in said, expected
    told = (folder / "README.md").read_text()
    assert DATA.citation in told and "not for the care of patients" in told
    for file in folder.iterdir():
        assert f"`{file.name}" in told or file.name in ("README.md", "DATA_CARD.md"), file.name


def test_the_sums_are_of_every_file(export, a_set: Path) -> None:
    folder = export(a_set)
    done = subprocess.run(["sha256sum", "--check", "--quiet", dataset.SUMS], cwd=folder)
    assert done.returncode == 0
    listed = {line.split("  ")[1] for line in (folder / dataset.SUMS).read_text().splitlines()}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert listed == there - {dataset.SUMS}


def test_the_same_set_gives_the_same_bytes(export, a_set: Path) -> None:
    first, second = export(a_set), export(a_set, out="again")
    assert (first / dataset.SUMS).read_bytes() == (second / dataset.SUMS).read_bytes()
    digests = [hashlib.sha256((f / "ecgs.npz").read_bytes()).digest() for f in (first, second)]
    assert digests[0] == digests[1]


def disguised(sig: np.ndarray, how: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    return {
        "as it is": lambda: sig,
        "scaled": lambda: 0.4 * sig,
        "shifted": lambda: np.concatenate([sig[:, 800:][:, ::-1], sig[:, :800]], axis=1),
        "noised": lambda: sig + 0.02 * rng.standard_normal(sig.shape),
        "all": lambda: 1.5 * np.roll(sig, 150, axis=1) + 0.02 * rng.standard_normal(sig.shape),
    }[how]()


@pytest.mark.parametrize("how", ["as it is", "scaled", "shifted", "noised", "all"])
def test_a_planted_training_ecg_is_refused_by_name(
    export, a_set: Path, records: dict[str, Record], tmp_path: Path, how: str
) -> None:
    sig = next(iter(records.values())).sig
    with pytest.raises(SystemExit, match=r"1 of 9 ECGs are nearer .*; rows 6 \("):
        export(planted(a_set, 6, disguised(sig, how)))
    assert not (tmp_path / "published").exists()


def test_it_is_left_out_where_that_is_asked(
    export, a_set: Path, records: dict[str, Record]
) -> None:
    sig = next(iter(records.values())).sig
    folder = export(planted(a_set, 6, disguised(sig, "all")), "--drop")
    with np.load(folder / "ecgs.npz") as f, np.load(a_set) as whole:
        assert f["row"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
        np.testing.assert_array_equal(f["data"], np.delete(whole["data"], 6, axis=0))
        np.testing.assert_array_equal(f["label"], np.delete(whole["label"], 6))
    assert "1 were nearer and are left out" in (folder / "DATA_CARD.md").read_text()
    assert "synthetic_5_000000006" not in (folder / "RECORDS").read_text()


def test_an_ecg_of_a_patient_never_seen_is_no_copy(
    export, a_set: Path, records: dict[str, Record]
) -> None:
    stranger = list(records.values())[3].sig
    export(planted(a_set, 6, stranger))


def test_a_generated_shard_is_published_too(export, shard: Shard, tmp_path: Path) -> None:
    sig = np.random.default_rng(3).standard_normal(shard.sig.shape)
    path = tmp_path / "generated.npz"
    save(with_signals(shard, sig, "generated"), path)
    with pytest.raises(SystemExit, match="give --seed, --guidance-scale"):
        export(path, "--num-steps", 4)
    folder = export(path, "--seed", 1, "--num-steps", 4, "--guidance-scale", 2)
    with np.load(folder / "ecgs.npz") as f:
        assert f["data"].shape == (40, 1000, 12)
        np.testing.assert_array_equal(f["asked"][:, 1], shard.label[:, 1 + CODES.index("LVH")])
        np.testing.assert_array_equal(f["label"], shard.label[:, 0])
    everything = b"".join(p.read_bytes() for p in folder.glob("*.*") if p.suffix in (".csv", ".md"))
    assert b"p17" not in everything, "no patient is named"
    save(shard, path)
    with pytest.raises(SystemExit, match="a patient's ECG is not for publishing"):
        export(path, "--seed", 1, "--num-steps", 4, "--guidance-scale", 2, out="patients")


def test_what_could_hide_a_copy_is_refused(
    export, a_set: Path, shard: Shard, tmp_path: Path
) -> None:
    (tmp_path / "data" / "a.npz").unlink()
    with pytest.raises(SystemExit, match="no shards in"):
        export(a_set)
    save(shard.folds((1, 2, 3, 9)), tmp_path / "data" / "a.npz")
    with pytest.raises(SystemExit, match="12 training records, and fake-ldm learned from 32"):
        export(a_set)
    save(shard.folds(range(1, 9)), tmp_path / "data" / "a.npz")
    with pytest.raises(SystemExit, match="fold 9 is empty"):
        export(a_set)


def test_another_generators_set_is_refused(export, a_set: Path, store: Path) -> None:
    card = json.loads((store / "ldm" / "card.json").read_text())
    (store / "ldm" / "card.json").write_text(json.dumps({**card, "sha256": "1" * 64}))
    with pytest.raises(SystemExit, match="another sha256"):
        export(a_set)
    card["training_data"][0]["licence"] = "the owner's"
    (store / "ldm" / "card.json").write_text(json.dumps(card))
    with pytest.raises(SystemExit, match="--licence"):
        export(a_set)
    export(a_set, "--licence", "CC BY 4.0")


def test_a_set_that_does_not_say_where_it_is_from_is_refused(export, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, data=np.zeros((1, 1000, 12)), label=[0], fs=100.0)
    with pytest.raises(SystemExit, match="does not say which generator made it"):
        export(path)
    path.write_text("not one")
    with pytest.raises(SystemExit, match="is no NPZ of training.generate"):
        export(path)
