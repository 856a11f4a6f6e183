"""Shards keep segments, records and labels together, and refuse to mix preparations."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.prepare import Denoising, Preparation, condition, cut
from ecg.record import Record
from training import shards
from training.shards import CODES, build, load, load_all, preparation_from, save
from training.sources.labelled import ABSENT, PRESENT, UNKNOWN, Labelled


def labelled(record, **changes):
    given = {"record": record, "name": "n", "patient": "p", "strat_fold": 1}
    return Labelled(**{**given, **changes})


@pytest.fixture
def shard(records, record):
    long = Record(np.tile(record.sig, 3)[:, :2600], 100.0, record.leads)
    flat = Record(np.zeros((1, 1000), np.float32), 100.0, ("I",))
    items = [
        labelled(long, patient="a", atrial=ABSENT, statements={"NORM": PRESENT, "AFIB": ABSENT}),
        labelled(flat, patient="b"),
        labelled(
            records["01275_lr"], patient="c", strat_fold=9, atrial=PRESENT, age=70.0, sex="female"
        ),
    ]
    return build("test", items, Preparation())


def test_segments_know_their_record_and_unusable_records_are_left_out(shard, record):
    assert shard.patient.tolist() == ["a", "c"]
    assert shard.record.tolist() == [0, 0, 0, 1]
    assert shard.n_valid.tolist() == [1000, 1000, 600, 1000]
    assert shard.strat_fold.tolist() == [1, 9]
    assert shard.sex.tolist() == [UNKNOWN, 1]
    assert np.isnan(shard.age[0]) and shard.age[1] == 70


def test_what_is_not_said_is_unknown(shard):
    label = dict(zip(("atrial", *CODES), shard.label[0].tolist(), strict=True))
    assert {k: v for k, v in label.items() if v != UNKNOWN} == {
        "atrial": ABSENT,
        "NORM": PRESENT,
        "AFIB": ABSENT,
    }


def test_segments_are_what_the_service_would_feed_the_model(shard, record):
    segments = cut(record, Preparation())
    expected = condition(segments.sig, segments.n_valid, Preparation())[0]
    assert shard.sig.dtype == np.float16
    np.testing.assert_allclose(shard.sig[0], expected, atol=0.002)  # float16 of 2 mV
    np.testing.assert_array_equal(shard.lead_mask[0], segments.lead_mask[0])


def test_a_remainder_under_five_seconds_trains_nothing(record):
    long = Record(np.tile(record.sig, 2)[:, :1499], 100.0, record.leads)
    assert len(build("test", [labelled(long)], Preparation()).sig) == 1


def test_nothing_usable_is_said(record):
    flat = Record(np.zeros_like(record.sig), 100.0, record.leads)
    with pytest.raises(SystemExit, match="no record could be used"):
        build("test", [labelled(flat)], Preparation())


def test_folds_keep_segments_and_records_together(shard):
    nine = shard.folds((9,))
    assert nine.patient.tolist() == ["c"] and nine.record.tolist() == [0]
    np.testing.assert_array_equal(nine.sig[0], shard.sig[3])
    np.testing.assert_array_equal(nine.label[0], shard.label[1])
    one = shard.folds(range(1, 9))
    assert one.record.tolist() == [0, 0, 0]
    assert len(shard.folds((10,)).label) == len(shard.folds((10,)).sig) == 0


@pytest.mark.parametrize(
    "preparation",
    [Preparation(), Preparation(highpass_hz=None, denoising=Denoising("sym4", 3, 0.2))],
)
def test_a_saved_shard_is_the_same(shard, preparation, tmp_path):
    shard = replace(shard, preparation=preparation)
    save(shard, tmp_path / "test.npz")
    back = load(tmp_path / "test.npz")
    assert (back.source, back.preparation) == ("test", preparation)
    for name, value in vars(shard).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(back, name), value)
            assert getattr(back, name).dtype == value.dtype


def test_a_shard_is_plain_arrays(shard, tmp_path):
    save(shard, tmp_path / "test.npz")
    with np.load(tmp_path / "test.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_beside_ones_own_labels_the_proxy_is_unknown(a_shard, tmp_path):
    for name in ("own", "ptb-xl"):
        shard = a_shard(source=name)
        save(replace(shard, label=np.ones_like(shard.label)), tmp_path / f"{name}.npz")
    label = {part.source: part.label for part in load_all(tmp_path)}
    assert (label["own"] == 1).all()
    assert (label["ptb-xl"][:, 0] == -1).all()
    assert (label["ptb-xl"][:, 1:] == 1).all()
    (tmp_path / "own.npz").unlink()
    (alone,) = load_all(tmp_path)
    assert (alone.label == 1).all()


def test_shards_of_different_preparations_are_not_mixed(a_shard, tmp_path):
    save(a_shard(source="a"), tmp_path / "a.npz")
    save(replace(a_shard(source="b"), preparation=Preparation(scale_mv=2.0)), tmp_path / "b.npz")
    with pytest.raises(SystemExit, match="b.npz was prepared unlike the others"):
        list(load_all(tmp_path))


@pytest.mark.parametrize("what", ["CODES", "INDEPENDENT_LEADS"])
def test_a_shard_of_other_leads_or_statements_is_refused(what, a_shard, tmp_path, monkeypatch):
    save(a_shard(), tmp_path / "a.npz")
    monkeypatch.setattr(shards, what, getattr(shards, what)[::-1])
    with pytest.raises(SystemExit, match="run training.prepare again"):
        load(tmp_path / "a.npz")


def test_an_empty_folder_says_what_to_run_first(tmp_path):
    with pytest.raises(SystemExit, match=r"run python -m training\.prepare first"):
        list(load_all(tmp_path))


def test_a_preparation_survives_json():
    values = {"fs": 100.0, "n_samples": 1000, "highpass_hz": 0.5, "scale_mv": 1.0}
    denoising = {"wavelet": "sym4", "level": 4, "strength": 0.5}
    assert preparation_from({**values, "denoising": None}) == Preparation()
    assert preparation_from({**values, "denoising": denoising}).denoising == Denoising(
        "sym4", 4, 0.5
    )


def test_the_same_records_saved_twice_are_known_by_what_they_say(a_shard, tmp_path):
    part = a_shard(12)
    save(part, tmp_path / "a.npz")
    assert shards.fingerprint(load(tmp_path / "a.npz")) == shards.fingerprint(part)
    other = a_shard(12, age=np.full(12, 51, np.float32))
    assert shards.fingerprint(other) != shards.fingerprint(part)
