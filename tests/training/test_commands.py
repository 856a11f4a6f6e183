"""From a user's file to a served model, by the commands that a user types; and fold 10 kept out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg import formats
from ecg.decision import calibrate
from ecg.errors import StoreError
from ecg.formats import File, Hints, read
from ecg.generated import write_npz
from ecg.labels import Labels
from ecg.prepare import Preparation, condition, cut
from ecg.store import load_classifier
from tests.conftest import PTB_XL, wfdb_files
from tests.service.bodies import npz
from training import evaluate, export, prednet, prepare, shards, train_classifier
from training.prednet import PredNet
from training.shards import CODES, load, save

pytestmark = [  # torch 2.13's exporter, of itself, and of the batch that three inputs share
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:# The axis name. batch will not be used"),
]

SMOKE = ("--preset", "smoke")


@pytest.fixture(scope="module")
def own_run(own_arrays, tmp_path_factory):
    """A folder in which a user's file was prepared, trained on and evaluated."""
    folder = tmp_path_factory.mktemp("own")
    np.savez(folder / "mine.npz", **own_arrays)
    own = ("--own", folder / "mine.npz", "--fs", 100, "--leads", "II", "--units", "mV")
    with pytest.MonkeyPatch.context() as patch:
        for module, arguments in (
            (prepare, (*own, "--out", folder / "data")),
            (train_classifier, (*SMOKE, "--data", folder / "data", "--run", folder / "run")),
            (evaluate, ("--data", folder / "data", "--run", folder / "run")),
        ):
            patch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
            module.main()
    return folder


def test_every_record_is_prepared_with_its_label_and_its_patients_fold(own_run, own_arrays):
    shard = load(own_run / "data" / "own.npz")
    assert shard.preparation == Preparation()
    np.testing.assert_array_equal(shard.label[:, 0], own_arrays["label"])
    assert (shard.label[:, 1:] == -1).all()
    assert (shard.lead_mask == [0, 1, 0, 0, 0, 0, 0, 0]).all()
    np.testing.assert_array_equal(shard.patient, own_arrays["patient_id"])


def test_the_run_says_how_it_was_made(own_run):
    known = json.loads((own_run / "run" / "run.json").read_text())
    assert known["statements"] == [] and known["config"]["loop"]["steps"] == 20
    assert list(known["sources"]) == ["own"]
    assert shards.preparation_from(known["preparation"]) == Preparation()
    history = [json.loads(x) for x in (own_run / "run" / "history.jsonl").read_text().splitlines()]
    assert [h["step"] for h in history] == [10, 20]
    assert list((own_run / "run" / "log").iterdir()), "a TensorBoard log"


def test_only_leads_that_the_records_have_are_reported(own_run):
    result = json.loads((own_run / "run" / "evaluation.json").read_text())
    assert {figure["leads"] for figure in result["metrics"]} == {"lead II"}
    assert {figure["data"] for figure in result["metrics"]} == {"own fold 9", "own fold 10"}
    assert [c["min_leads"] for c in result["calibration"]] == [1]
    assert result["implying_statements"] == [], "own labels need not follow the open proxy"
    names = {figure["name"] for figure in result["metrics"]}
    assert {"atrial substrate AUROC", "atrial substrate ECE"} <= names
    for figure in result["metrics"]:
        low, high = figure["interval"]
        assert low <= figure["value"] <= high


@pytest.fixture(scope="module")
def store(own_run, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        arguments = ("--run", own_run / "run", "--version", "0.0.1", "--store", store)
        patch.setattr("sys.argv", ["export", *map(str, arguments)])
        export.main()
    return store


def test_what_is_exported_answers_like_the_trained_network(store, own_run, record):
    classifier = load_classifier(store / "prednet", "cpu")
    model = prednet.load_model(own_run / "run")
    two = formats.read(
        [File(npz(sig=record.sig[1:2], fs=100, leads=np.array(["II"]), units="mV"))] * 2, Hints()
    )
    pieces = [cut(r, classifier.card.preparation) for r in two]
    sig, mask = (np.concatenate([getattr(p, n) for p in pieces]) for n in ("sig", "lead_mask"))
    n_valid = np.array([1000, 700])
    sample_mask = (np.arange(1000) < n_valid[:, None]).astype(np.float32)
    ready = condition(sig * sample_mask[:, None], n_valid, classifier.card.preparation)
    with torch.inference_mode():
        expected = model(*map(torch.from_numpy, (ready, mask, sample_mask))).numpy()
    logits = classifier.logits(sig * sample_mask[:, None], mask, n_valid)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    probability, _ = calibrate(logits, mask.sum(axis=1), classifier.card.calibration, ())
    assert ((probability > 0) & (probability < 1)).all()


def test_the_exported_file_names_none_of_the_exporters_files(store):
    weights = (store / "prednet" / "model.onnx").read_bytes()
    assert b"stack_trace" not in weights
    assert b"prednet.py" not in weights


def test_the_card_says_what_was_measured_on_what(store):
    card = load_classifier(store / "prednet", "cpu").card
    assert (card.name, card.version, card.statements) == ("prednet", "0.0.1", ())
    (source,) = card.training_data
    assert (source.name, source.licence) == ("own", "the owner's")
    assert any(m.data == "own fold 10" and m.interval for m in card.metrics)
    table = (store / "README.md").read_text()
    assert "| [prednet](prednet/card.json) | 0.0.1 | classification |" in table


def test_a_graph_that_answers_differently_is_refused_and_leaves_what_is_served(
    own_run, store, run_command, monkeypatch, tmp_path
):
    shutil.copytree(store, tmp_path / "store")
    monkeypatch.setattr(
        export, "export_onnx", lambda *_: (store / "prednet/model.onnx").read_bytes()
    )
    forward = PredNet.forward
    monkeypatch.setattr(PredNet, "forward", lambda *given: forward(*given) + 2e-4)
    with pytest.raises(SystemExit, match="refused: ONNX Runtime and torch differ by 0.0002"):
        run_command(
            export, "--run", own_run / "run", "--version", "9", "--store", tmp_path / "store"
        )
    assert load_classifier(tmp_path / "store" / "prednet", "cpu").card.version == "0.0.1"


def test_parity_finds_the_worst_output_of_any_batch(own_run, store):
    model = prednet.load_model(own_run / "run")
    weights = (store / "prednet" / "model.onnx").read_bytes()
    assert export.parity(model, weights, 1000) <= 1e-4
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if name.endswith("head.1.bias")).add_(0.5)
    assert export.parity(model, weights, 1000) == pytest.approx(0.5, abs=1e-3)


def test_weights_of_another_run_do_not_go_with_this_card(store, tmp_path):
    shutil.copytree(store / "prednet", tmp_path / "prednet")
    weights = tmp_path / "prednet" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(StoreError, match="sha256"):
        load_classifier(tmp_path / "prednet", "cpu")


def test_training_again_gives_the_same_weights(own_run, run_command, tmp_path):
    run_command(train_classifier, *SMOKE, "--data", own_run / "data", "--run", tmp_path / "again")
    first, again = (
        torch.load(folder / "best.pt", weights_only=True)
        for folder in (own_run / "run", tmp_path / "again")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_dry_run_prints_the_configuration_and_trains_nothing(
    own_run, run_command, tmp_path, capsys
):
    arguments = (*SMOKE, "--data", own_run / "data", "--run", tmp_path / "run", "--dry-run")
    run_command(train_classifier, *arguments, "--set", "loop.lr=0.5")
    first, printed = capsys.readouterr().out.split("\n", 1)
    assert "parameters; the atrial substrate and 0 statements" in first
    assert json.loads(printed)["loop"]["lr"] == 0.5
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to prepare: give --ptb-xl, --cinc2017, --generated or --own"),
        (("--own", "x.npz", "--fs", 100, "--units", "mV"), "--own needs --fs, --leads and --units"),
        (("--ptb-xl", "nowhere"), "nowhere does not exist"),
    ],
)
def test_preparation_says_what_is_missing(arguments, says, run_command, tmp_path):
    with pytest.raises(SystemExit, match=says):
        run_command(prepare, *arguments, "--out", tmp_path)


def test_databases_are_prepared_side_by_side(ptb_xl, cinc2017, run_command, tmp_path):
    out = tmp_path / "data"
    arguments = ("--ptb-xl", ptb_xl, "--cinc2017", cinc2017, "--steps", "denoised", "--out", out)
    run_command(prepare, *arguments)
    parts = {part.source: part for part in shards.load_all(out)}
    assert len(parts["ptb-xl"].label) == len(parts["cinc2017"].label) == 3
    assert parts["ptb-xl"].preparation == prepare.STEPS["denoised"]
    assert parts["ptb-xl"].label[:, 0].tolist() == [0, 1, 1]
    afib = 1 + CODES.index("AFIB")
    assert parts["cinc2017"].label[:, [0, afib]].tolist() == [[1, 1], [-1, 0], [-1, 0]]
    assert parts["cinc2017"].n_valid.tolist() == [1000] * 9, "three segments of 10 s each"


def a_generated_set(path, **changes):
    """As training.generate writes it; what the quality gate lets pass are real ECGs alone."""
    given = [Labels("abnormal", ("AFIB",))] * 6
    sig = np.stack([read(wfdb_files(name), Hints())[0].sig for name in (*PTB_XL, *PTB_XL[:2])])
    with path.open("wb") as f:
        write_npz(f, [sig], given, 100.0, 7)
    if changes:
        with np.load(path) as arrays:
            np.savez(path, **{**arrays, **changes})
    return path


def test_generated_ecgs_are_training_data_without_labels(run_command, tmp_path):
    made = a_generated_set(tmp_path / "made.npz")
    run_command(prepare, "--generated", made, "--out", tmp_path / "data")
    shard = load(tmp_path / "data" / "generated.npz")
    assert shard.source == "generated" and len(shard.sig) == 6
    assert (shard.label == -1).all(), "what was asked for is not what they are held to be"
    assert (shard.strat_fold < 9).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"synthetic": False}, "does not say that it is synthetic"), (None, "no set of")],
)
def test_only_what_says_that_it_is_generated_is_taken(changes, says, run_command, tmp_path):
    path = tmp_path / "made.npz"
    if changes is None:
        np.savez(path, data=np.zeros((1, 1000, 12)))
    else:
        a_generated_set(path, **changes)
    with pytest.raises(SystemExit, match=says):
        run_command(prepare, "--generated", path, "--out", tmp_path / "data")


def test_a_network_is_taught_by_another_on_real_and_generated_ecgs(own_run, run_command, tmp_path):
    shutil.copytree(own_run / "data", tmp_path / "data")
    made = a_generated_set(tmp_path / "made.npz")
    run_command(prepare, "--generated", made, "--out", tmp_path / "data")
    teacher = f'teacher.runs=["{own_run / "run"}"]'
    run_command(
        *(train_classifier, *SMOKE, "--data", tmp_path / "data", "--run", tmp_path / "taught"),
        *("--set", teacher, "--set", "model.stem_stride=4"),
    )
    run_command(evaluate, "--data", tmp_path / "data", "--run", tmp_path / "taught")
    run_command(
        *(export, "--run", tmp_path / "taught", "--version", "2", "--store", tmp_path / "store")
    )
    card = load_classifier(tmp_path / "store" / "prednet").card
    assert card.architecture.endswith("taught by the mean of 1")
    assert {d.name: d.records for d in card.training_data}["generated"] == 6
    with pytest.raises(SystemExit, match="the teacher knows other statements"):
        train_classifier.distillation_loss(
            train_classifier.TeacherConfig((str(own_run / "run"),)), ("AFIB",)
        )


# What is held out


@pytest.fixture
def poisoned(a_shard, tmp_path):
    """Shards in which folds 9 and 10 would spoil everything that touches them."""
    fold = (1 + np.arange(200) % 10).astype(np.int8)
    held_out = fold >= 9
    sig = a_shard(200).sig.copy()
    sig[held_out] = np.nan
    label = np.zeros((200, 1 + len(CODES)), dtype=np.int8)
    label[::3, 0] = 1
    label[held_out, 1 + CODES.index("WPW")] = 1  # 40 positives, none to learn from
    shard = replace(a_shard(200), sig=sig, label=label, strat_fold=fold)
    folder = tmp_path / "data"
    folder.mkdir()
    save(shard, folder / "a.npz")
    return folder


def test_no_held_out_signal_or_label_reaches_training(poisoned, run_command, tmp_path, monkeypatch):
    monkeypatch.setattr(train_classifier, "validate", lambda *_: {"score": 0.0})
    run = tmp_path / "run"
    run_command(
        train_classifier, *SMOKE, "--data", poisoned, "--run", run, "--set", "loop.batch_size=64"
    )
    weights = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert json.loads((run / "run.json").read_text())["statements"] == []


def test_the_report_fold_does_not_choose_the_weights(poisoned):
    """Validation looks at fold 9 alone: here it is whole, and fold 10 is not."""
    (shard,) = shards.load_all(poisoned)
    sig = np.nan_to_num(shard.sig)
    sig[shard.strat_fold == 10] = np.nan
    held_out = [replace(shard, sig=sig).folds(train_classifier.CHOOSE)]
    torch.manual_seed(0)
    config = train_classifier.PredNetConfig(widths=(8, 8))
    figures = train_classifier.validate(PredNet(1, config).eval(), held_out, ())
    assert all(np.isfinite(value) for value in figures.values())


def test_a_fold_9_that_cannot_choose_is_said_to(a_shard):
    label = np.zeros((20, 1 + len(CODES)), dtype=np.int8)
    held_out = [a_shard(20, label=label)]
    model = PredNet(1, train_classifier.PredNetConfig(widths=(8, 8))).eval()
    with pytest.raises(SystemExit, match="no output has both classes"):
        train_classifier.validate(model, held_out, ())


def test_calibration_and_rule_are_fitted_on_fold_9_alone(own_run, run_command, tmp_path):
    """With fold 10's labels turned round, all that is fitted stays the same."""
    shard = load(own_run / "data" / "own.npz")
    label = shard.label.copy()
    label[shard.strat_fold == 10, 0] ^= 1
    (tmp_path / "data").mkdir()
    save(replace(shard, label=label), tmp_path / "data" / "own.npz")
    shutil.copytree(own_run / "run", tmp_path / "run")
    run_command(evaluate, "--data", tmp_path / "data", "--run", tmp_path / "run")
    first, turned = (
        json.loads((folder / "run" / "evaluation.json").read_text())
        for folder in (own_run, tmp_path)
    )
    for fitted in ("calibration", "record_rule", "record_rules_compared"):
        assert first[fitted] == turned[fitted]
    assert first["metrics"] != turned["metrics"]
