"""Databases in their official layouts, and a researcher's own files."""

import pickle

import numpy as np
import pytest

from ecg.statements import STATEMENTS
from tests.training.conftest import PTB_XL_ROWS, zipped
from training.sources import cinc2017 as cinc2017_source
from training.sources import own, ptbxl
from training.sources.labelled import ABSENT, PRESENT, UNKNOWN, hashed_fold


def same(one, other):
    np.testing.assert_array_equal(one.record.sig, other.record.sig)
    assert (one.name, one.patient, one.strat_fold, one.atrial, one.age, one.sex) == (
        other.name, other.patient, other.strat_fold, other.atrial, other.age, other.sex
    )  # fmt: skip
    assert dict(one.statements) == dict(other.statements)
    assert (one.record.fs, one.record.leads) == (other.record.fs, other.record.leads)


@pytest.mark.parametrize("source", ["ptb_xl", "cinc2017"])
def test_a_folder_and_its_zip_are_the_same_database(source, request):
    folder = request.getfixturevalue(source)
    load = {"ptb_xl": ptbxl.load, "cinc2017": cinc2017_source.load}[source]
    unpacked, packed = list(load(folder)), list(load(zipped(folder)))
    assert len(unpacked) == 3
    for one, other in zip(unpacked, packed, strict=True):
        same(one, other)


def test_ptb_xl_labels_are_whole_and_its_folds_its_own(ptb_xl, records):
    items = {item.name.split("/")[-1]: item for item in ptbxl.load(ptb_xl)}
    assert list(items) == list(PTB_XL_ROWS)
    for name, item in items.items():
        np.testing.assert_array_equal(item.record.sig, records[name].sig)
        assert set(item.statements) == set(STATEMENTS), "what is not said is absent, not unknown"
    present = {
        name: [code for code, value in item.statements.items() if value == PRESENT]
        for name, item in items.items()
    }
    assert present == {"00009_lr": ["NORM", "SR"], "00274_lr": ["LAO/LAE"], "01275_lr": ["AFIB"]}
    assert [item.atrial for item in items.values()] == [ABSENT, PRESENT, PRESENT]
    assert [item.strat_fold for item in items.values()] == [10, 9, 3]
    assert [item.patient for item in items.values()] == ["15709.0", "2.0", "2.0"]
    assert [item.age for item in items.values()] == [55.0, None, 300.0]
    assert [item.sex for item in items.values()] == ["female", "male", "male"]


def test_cinc_2017_says_nothing_of_the_substrate_where_there_is_no_fibrillation(cinc2017):
    items = list(cinc2017_source.load(cinc2017))
    assert [item.name for item in items] == ["A00004", "A00005", "A00006"], "~ is left out"
    assert [dict(item.statements) for item in items] == [
        {"AFIB": PRESENT},
        {"AFIB": ABSENT},
        {"AFIB": ABSENT},
    ]
    assert [item.atrial for item in items] == [PRESENT, UNKNOWN, UNKNOWN]
    assert [item.strat_fold for item in items] == [hashed_fold(item.name) for item in items]
    assert all(item.record.leads == ("I",) and item.record.fs == 300 for item in items)


@pytest.mark.parametrize(
    ("load", "marker"), [(ptbxl.load, "ptbxl_database"), (cinc2017_source.load, "REF")]
)
def test_the_wrong_folder_is_said_to_be_wrong(load, marker, tmp_path):
    with pytest.raises(SystemExit, match=f"holds no {marker}"):
        list(load(tmp_path))
    with pytest.raises(SystemExit, match="does not exist"):
        list(load(tmp_path / "nowhere"))


def test_hashed_folds_are_even_and_stable():
    folds = np.array([hashed_fold(f"A{i:05d}") for i in range(10_000)])
    share = np.bincount(folds, minlength=11)[1:] / len(folds)
    np.testing.assert_allclose(share, 0.1, atol=0.01)
    assert [hashed_fold(name) for name in ("A00001", "A00002", "A00003", "p1")] == [3, 7, 2, 8]


# A researcher's own


def own_items(path, leads=("II",), fs=100, units="mV"):
    return list(own.load(path, fs, list(leads), units))


def test_own_npz_keeps_samples_labels_and_patients_together(own_npz, own_arrays):
    items = own_items(own_npz)
    for i, item in enumerate(items):
        np.testing.assert_array_equal(item.record.sig[0], own_arrays["data"][i, :, 0])
        assert item.record.leads == ("II",)
        assert item.atrial == own_arrays["label"][i]
        assert not item.statements, "statements are unknown"
        assert item.patient == own_arrays["patient_id"][i]
    assert len({item.name for item in items}) == 60


def test_no_patient_is_in_two_folds(own_npz):
    folds = {}
    for item in own_items(own_npz):
        folds.setdefault(item.patient, set()).add(item.strat_fold)
    assert len(folds) == 30
    assert all(len(there) == 1 for there in folds.values())


def test_own_csv_is_the_same_as_own_npz(tmp_path, records):
    data = np.stack([r.sig[:3].T for r in records.values()])
    label = np.array([0, 0, 1, 1])
    np.savez(tmp_path / "mine.npz", data=data, label=label)
    rows = np.hstack([data.reshape(4, -1), label[:, None]])
    np.savetxt(tmp_path / "mine.csv", rows, delimiter=",")
    leads = ("I", "II", "III")
    for one, other in zip(
        own_items(tmp_path / "mine.npz", leads),
        own_items(tmp_path / "mine.csv", leads),
        strict=True,
    ):
        same(one, other)


def test_own_microvolts_are_millivolts(tmp_path, own_arrays):
    np.savez(tmp_path / "mine.npz", **{**own_arrays, "data": 1000.0 * own_arrays["data"]})
    item = own_items(tmp_path / "mine.npz", units="uV")[3]
    np.testing.assert_allclose(item.record.sig[0], own_arrays["data"][3, :, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": None}, "holds no array `data`"),
        ({"label": None}, "holds no array `label`"),
        ({"data": np.zeros((60, 1000))}, "expected [N, time, 1] for the leads II"),
        ({"data": np.zeros((60, 1000, 2))}, "has shape (60, 1000, 2)"),
        ({"label": np.zeros(59)}, "label must be [N]"),
        ({"label": np.full(60, 2)}, "0 (normal) and 1 (abnormal)"),
        ({"label": np.full(60, 0.7)}, "0 (normal) and 1 (abnormal)"),
        ({"label": np.full(60, "abnormal")}, "0 (normal) and 1 (abnormal)"),
        ({"patient_id": np.arange(59)}, "patient_id must be [N]"),
        ({"patient_id": np.arange(61)}, "patient_id must be [N]"),
        ({"data": np.zeros((60, 400, 1))}, "record 0: sig: 400 samples"),
        ({"data": np.full((60, 1000, 1), np.nan)}, "record 0: sig: holds no finite sample"),
        ({"data": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_own_npz_that_does_not_fit_says_why(changes, says, tmp_path, own_arrays):
    arrays = {k: v for k, v in {**own_arrays, **changes}.items() if v is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(SystemExit) as end:
        own_items(tmp_path / "mine.npz")
    assert says in str(end.value) and "mine.npz" in str(end.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("mine.csv", "I,II,label\n1,2,0\n", "cannot be read"),
        ("mine.csv", "1,2,3,4\n", "4 columns are not time x 2 lead(s) and a label"),
        ("mine.csv", "1\n", "1 columns"),
        ("mine.csv", "1,2,0.5\n", "0 (normal) and 1 (abnormal)"),
        ("mine.csv", "1,2,nan\n", "0 (normal) and 1 (abnormal)"),
        ("mine.npz", "not a zip", "cannot be read"),
        ("mine.npz", pickle.dumps(1), "cannot be read"),
        ("mine.npz", b"PK\x03\x04", "cannot be read"),
        ("none.npz", None, "cannot be read"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_an_own_file_that_cannot_be_read_says_why(name, content, says, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as end:
        own_items(tmp_path / name, ("I", "II"))
    assert says in str(end.value)


@pytest.mark.parametrize(("wrong", "says"), [({"fs": 5000}, "fs"), ({"leads": ["X"]}, "leads[0]")])
def test_own_declarations_are_checked_like_a_clients(wrong, says, own_npz):
    with pytest.raises(SystemExit, match="record 0") as end:
        own_items(own_npz, **wrong)
    assert says in str(end.value)
