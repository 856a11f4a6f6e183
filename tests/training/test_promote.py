"""What is served gives way to a better one alone, and at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ecg.labels import features
from ecg.prepare import Preparation
from ecg.statements import STATEMENTS
from ecg.store import load_classifier, load_generator
from tests.ecg import fake_generator, fake_model
from training import promote
from training.promotion import classifiers as compare_classifiers
from training.promotion import generators as compare_generators
from training.promotion import install, verdict
from training.promotion.verdict import Cost, Figure, judge
from training.shards import Shard, save

N = 600  # records, a tenth of them in fold 9
GOOD = np.zeros((8, 3))
GOOD[:2] = 0.15  # all that the labels depend on


def model(folder: Path, noise: float, version: str, **changes: object) -> Path:
    """A classifier that is the worse the more leads without meaning it hears."""
    wrong = noise * np.random.default_rng(0).standard_normal((8, 3)) * (np.arange(8) > 1)[:, None]
    given = {"name": "a", "version": version, "implying_statements": (), **changes}
    return fake_model.store(folder, GOOD + wrong, **given)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_classifiers, "N_RESAMPLES", 100)
    monkeypatch.setattr(compare_generators, "N_RESAMPLES", 100)
    monkeypatch.setattr(verdict, "MAX_COST", 1e9)  # what a busy machine says of speed


@pytest.fixture
def data(tmp_path: Path, a_shard: Callable[..., Shard]) -> Path:
    """Every label is whether leads I and II, summed up, lie above 0."""
    shard = a_shard(N)
    shard.label[:] = (shard.sig[:, :2].astype(np.float32).sum(axis=(1, 2)) > 0)[:, None]
    (tmp_path / "data").mkdir()
    save(shard, tmp_path / "data" / "a.npz")
    return tmp_path / "data"


@pytest.fixture
def do(tmp_path: Path, data: Path, run_command):
    def run(candidate: Path, *more: object) -> None:
        places = ("--store", tmp_path / "store", "--data", data, "--report", tmp_path / "report")
        run_command(promote, candidate, "--as", "prednet", *places, *more)

    return run


def version_served(tmp_path: Path, name: str = "prednet") -> str:
    return load_classifier(tmp_path / "store" / name, "cpu").card.version


def decisions(tmp_path: Path) -> list[dict]:
    lines = (tmp_path / "report" / "decisions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_first_of_a_name_needs_to_be_better_than_chance(do, tmp_path: Path) -> None:
    deaf = fake_model.store(tmp_path / "deaf", np.eye(8, 3)[::-1], implying_statements=())
    with pytest.raises(SystemExit, match="may be chance"):
        do(deaf)
    assert not (tmp_path / "store").exists() and deaf.exists()
    do(model(tmp_path / "new", 0.01, "1"))
    card = load_classifier(tmp_path / "store" / "prednet", "cpu").card
    assert (card.name, card.version) == ("prednet", "1"), "it is called what it is served as"
    assert "| [prednet](prednet/card.json) | 1 |" in (tmp_path / "store/README.md").read_text()
    assert not (tmp_path / "new").exists(), "it was moved"
    assert [d["accepted"] for d in decisions(tmp_path)] == [False, True]


def test_a_better_one_takes_the_place_and_a_worse_one_does_not(do, tmp_path: Path) -> None:
    model(tmp_path / "store" / "prednet", 0.15, "1")
    worse = model(tmp_path / "worse", 0.9, "2")
    with pytest.raises(SystemExit, match="is worse, at best -"):
        do(worse)
    assert version_served(tmp_path) == "1" and worse.exists()
    do(model(tmp_path / "better", 0.0, "3"))
    assert version_served(tmp_path) == "3"
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == ["README.md", "prednet"]
    do(model(tmp_path / "as-good", 0.0003, "4"), "--keep")
    assert version_served(tmp_path) == "4" and version_served(tmp_path, "prednet@3") == "3"
    assert "[prednet@3](prednet@3/card.json)" in (tmp_path / "store/README.md").read_text()
    told = decisions(tmp_path)
    assert [(d["candidate"]["version"], d["accepted"]) for d in told] == [
        ("2", False), ("3", True), ("4", True),
    ]  # fmt: skip
    refused = (tmp_path / "report" / "prednet-2.md").read_text()
    assert "Refused: " in refused and "| atrial substrate AUROC, a, 12 leads | 60 |" in refused
    places = {(f["name"], f["where"]) for f in told[0]["figures"]}
    for lead_set in ("12 leads", "limb leads", "lead II", "lead I"):
        assert ("AFIB AUROC", f"a, {lead_set}") in places
        assert ("macro AUROC of 2 statements", f"a, {lead_set}") in places
        assert ("atrial substrate ECE", f"a, {lead_set}") in places
    assert not list(tmp_path.glob(".*")), "nothing is left lying about"


def test_the_paired_interval_is_of_the_same_patients(do, tmp_path: Path) -> None:
    """Two models that differ little: each alone is uncertain, their difference is not."""
    model(tmp_path / "store" / "prednet", 0.3, "1")
    do(model(tmp_path / "new", 0.2997, "2"))
    (first, *_) = decisions(tmp_path)[0]["figures"]
    low, high = first["interval"]
    assert low <= 0 <= high and high - low < 0.005
    assert first["gain"] == pytest.approx(first["candidate"] - first["served"])


def test_what_cannot_be_compared_is_refused_in_words(do, tmp_path: Path, data: Path) -> None:
    served = model(tmp_path / "store" / "prednet", 0.01, "1")
    same = model(tmp_path / "same", 0.01, "2")
    with pytest.raises(SystemExit, match="the weights that are served as prednet already"):
        do(same)
    again = model(tmp_path / "again", 0.0, "1")
    with pytest.raises(SystemExit, match="export the candidate under another"):
        do(again)
    other = model(tmp_path / "other", 0.0, "3", preparation=Preparation(highpass_hz=1.0))
    with pytest.raises(SystemExit, match="takes ECGs prepared otherwise"):
        do(other)
    with pytest.raises(SystemExit, match="is served for classification"):
        do(fake_generator.store(tmp_path / "generator"))
    with pytest.raises(SystemExit, match="holds no model that could be served"):
        do(tmp_path / "nothing")
    with pytest.raises(SystemExit, match="is served itself"):
        do(model(tmp_path / "store" / "sibling", 0.0, "4"))
    assert load_classifier(served, "cpu").card.version == "1"
    assert not (tmp_path / "report").exists(), "nothing was decided"


def test_each_model_is_given_ecgs_of_its_own_preparation(
    do, tmp_path: Path, data: Path, a_shard: Callable[..., Shard]
) -> None:
    model(tmp_path / "store" / "prednet", 0.15, "1", preparation=Preparation(highpass_hz=1.0))
    new = model(tmp_path / "new", 0.0, "2")
    shard = a_shard(N)
    shard.label[:] = (shard.sig[:, :2].astype(np.float32).sum(axis=(1, 2)) > 0)[:, None]
    otherwise = Shard(**{**vars(shard), "preparation": Preparation(highpass_hz=1.0)})
    (tmp_path / "otherwise").mkdir()
    shuffled = Shard(**{**vars(otherwise), "patient": otherwise.patient[::-1]})
    save(shuffled, tmp_path / "otherwise" / "a.npz")
    with pytest.raises(SystemExit, match="hold different records"):
        do(new, "--served-data", tmp_path / "otherwise")
    save(otherwise, tmp_path / "otherwise" / "a.npz")
    do(new, "--served-data", tmp_path / "otherwise")
    assert version_served(tmp_path) == "2"


def test_a_statement_that_is_served_may_not_vanish(do, tmp_path: Path) -> None:
    model(tmp_path / "store" / "prednet", 0.15, "1")
    codes = ("NORM", next(c for c in STATEMENTS if c not in fake_model.STATEMENTS))
    with pytest.raises(SystemExit, match="no longer answers AFIB"):
        do(model(tmp_path / "new", 0.0, "2", statements=codes))


def figure(gain: float, low: float, high: float, kind: str = "AUROC", **more) -> Figure:
    return Figure("some", kind, "12 leads", 100, 0.9 + gain, 0.9, gain, (low, high), **more)


CHEAP = Cost("ms", 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("figures", "cost", "reason"),
    [
        ([figure(0.01, -0.01, 0.03)], CHEAP, None),
        ([figure(0.0, 0.0, 0.0)], CHEAP, None),
        ([figure(-0.02, -0.04, -0.011), figure(0.1, 0.05, 0.2)], CHEAP, "at best -0.0110"),
        ([figure(-0.02, -0.04, -0.009), figure(0.1, 0.05, 0.2)], CHEAP, None),
        ([figure(-0.005, -0.02, 0.01)], CHEAP, "lower by 0.0050 on average"),
        ([figure(-0.05, -0.1, 0.01), figure(0.01, 0.001, 0.02)], CHEAP, None),
        ([figure(0.01, 0.0, 0.1), figure(-0.03, -0.04, -0.021, "ECE")], CHEAP, "more than 0.02"),
        ([figure(0.01, 0.0, 0.1), figure(-0.3, -0.4, -0.2, "TSTR", decides=False)], CHEAP, None),
        ([figure(0.1, 0.05, 0.2)], Cost("ms", 2.1, 1.0, 2.1), "2.10 times as much"),
        ([figure(0.1, 0.05, 0.2)], Cost("ms", 2.0, 1.0, 2.0), None),
        ([], CHEAP, "no figure to compare"),
    ],
)
def test_the_rule(
    figures: list[Figure], cost: Cost, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "MAX_COST", 2.0)
    found = judge(figures, cost).reasons
    assert len(found) == (reason is not None) and (reason or "") in "".join(found)


def test_whoever_opens_the_folder_finds_one_or_the_other_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file in ("model.onnx", "card.json"):
            (tmp_path / name / file).write_text(name)
    missing, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not (tmp_path / "a" / "card.json").exists():
                missing.append(1)

    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(301):
        install.exchange(tmp_path / "a", tmp_path / "b")
    stop.set()
    watching.join()
    assert not missing
    assert [(tmp_path / n / "card.json").read_text() for n in ("a", "b")] == ["b", "a"]


def test_without_the_one_step_the_folders_change_places_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.sys, "platform", "another")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of").write_text(name)
    install.exchange(tmp_path / "a", tmp_path / "b")
    assert [(tmp_path / n / "of").read_text() for n in ("a", "b")] == ["b", "a"]
    (tmp_path / "a").rename(tmp_path / "gone")
    with pytest.raises(OSError):
        install.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "of").read_text() == "a", "what was there is there"


def by_labels(abnormal: float) -> np.ndarray:
    """A shift of the ECGs that are asked to be abnormal."""
    names = features(fake_generator.STATEMENTS)
    found = np.zeros((len(names), fake_generator.LATENTS[0]))
    found[names.index("abnormal")] = abnormal
    return found


def test_a_generator_that_does_not_do_what_is_asked_is_refused(do, tmp_path: Path) -> None:
    store = tmp_path / "store"
    level = {"preparation": Preparation(highpass_hz=None), "implying_statements": ()}
    fake_model.store(store / "judge", np.full((8, 3), 0.01), **level)
    fake_generator.store(store / "prednet", by_labels(0.5), version="1")
    deaf = fake_generator.store(tmp_path / "deaf", by_labels(0.0), version="2")
    given = ("--classifier", "judge", "--source", "a")
    with pytest.raises(SystemExit, match="atrial substrate AUROC by the classifier .* is worse"):
        do(deaf, *given)
    do(fake_generator.store(tmp_path / "new", by_labels(0.6), version="3"), *given)
    assert load_generator(store / "prednet", "cpu").card.version == "3"


def test_a_generator_that_copies_is_refused(a_shard: Callable[..., Shard]) -> None:
    shard = a_shard(N)
    training, part = shard.folds(range(1, 9)), shard.folds((9,))
    rng = np.random.default_rng(1)
    strangers = rng.standard_normal((50, 8, 1000))
    assert compare_generators.copies(strangers, part, training) == []
    strangers[:10] = np.roll(training.sig[:10].astype(np.float32), 20, axis=2)
    (reason,) = compare_generators.copies(strangers, part, training)
    assert "of its ECGs are nearer to a training ECG than" in reason


def test_what_classifiers_learn_is_read_from_evaluations(tmp_path: Path) -> None:
    def evaluation(few: float, many: float) -> dict:
        interval = [many - 0.01, many + 0.01]
        figures = {"generated": {"value": many, "interval": interval}}
        settings = [
            {"num_steps": 8, "guidance_scale": 1.0, "fold_9": {"macro": 0.1}},
            {"num_steps": 8, "guidance_scale": 2.5, "fold_9": {"macro": few}},
        ]
        default = {"num_steps": 8, "guidance_scale": 2.5}
        return {"diffusion": default, "settings": settings, "tstr": {"macro": figures, "n_test": 9}}

    few, many = compare_generators.tstr(evaluation(0.7, 0.8), evaluation(0.75, 0.7))
    assert (few.decides, many.decides) == (True, False)
    assert few.gain == pytest.approx(-0.05) and many.gain == pytest.approx(0.1)
    assert many.interval == pytest.approx((0.08, 0.12))
    assert "worse" in judge([few, many, figure(0.1, 0.05, 0.2)], CHEAP).reasons[0]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"generator": {"sha256": "0" * 64}}))
    generator = load_generator(fake_generator.store(tmp_path / "g"), "cpu")
    with pytest.raises(SystemExit, match="is of other weights"):
        compare_generators.read(path, generator)
