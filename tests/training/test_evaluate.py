"""What evaluation reports is what the service would have answered, and is chosen on fold 9."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg.decision import RecordRule, decide
from ecg.leads import INDEPENDENT_LEADS
from training import evaluate, train_classifier
from training.evaluate import (
    Outputs,
    by_record,
    choose_rule,
    fit_calibrations,
    implying_statements,
    outputs_of,
)
from training.prednet import PredNet, PredNetConfig
from training.shards import CODES, save
from training.sources import cinc2017, own, ptbxl


def outputs(shard, logits, label, lead_set="12 leads"):
    logits = np.asarray(logits, dtype=np.float32)
    n_leads = shard.lead_mask.sum(axis=1)
    return Outputs(shard, lead_set, logits, n_leads, np.asarray(label))


def segments_of(a_shard, per_record, n, **changes):
    """A shard of n records of `per_record` segments each."""
    record = np.repeat(np.arange(n, dtype=np.int32), per_record)
    whole = a_shard(n * per_record, record=record, **changes)
    return replace(
        whole,
        **{f: getattr(whole, f)[:n] for f in ("label", "strat_fold", "patient", "age", "sex")},
    )


def test_records_are_decided_like_the_services(a_shard, rng):
    shard = segments_of(a_shard, 3, 8, n_valid=np.tile([1000, 1000, 450], 8).astype(np.int32))
    values, thresholds = rng.random((24, 2)), rng.random((24, 2))
    rule = RecordRule(top_k=2, min_signal_s=5.0)
    o = outputs(shard, values, np.zeros((8, 2)))
    probability, threshold = by_record(o, values, thresholds, rule)
    for i in range(8):
        rows = slice(3 * i, 3 * i + 3)
        expected = decide(values[rows], thresholds[rows], np.array([10, 10, 4.5]), rule)
        np.testing.assert_array_equal(probability[i], expected[0])
        np.testing.assert_array_equal(threshold[i], expected[1])


def test_the_maximum_is_the_rule_where_records_have_one_segment(a_shard, rng):
    o = outputs(a_shard(10), rng.random((10, 1)), rng.integers(0, 2, (10, 1)))
    assert choose_rule([o]) == (RecordRule(top_k=1), {})


@pytest.mark.parametrize(("false_alarms", "top_k"), [(True, 2), (False, 1)])
def test_an_average_is_the_rule_only_where_it_clearly_helps(false_alarms, top_k, a_shard):
    """Sick records are high throughout; healthy ones may have one segment that is higher still."""
    label = np.arange(40) % 2
    logits = np.where(np.repeat(label, 3) == 1, 1.0, -1.0)
    if false_alarms:
        logits[::3] = np.where(label == 1, 1.0, 2.0)
    o = outputs(segments_of(a_shard, 3, 40), logits[:, None], label[:, None])
    rule, figures = choose_rule([o])
    assert rule.top_k == top_k
    assert set(figures) == {"1", "2", "3"} and figures["3"] == 1.0


def test_a_source_that_knows_only_positives_of_an_output_does_not_calibrate_it(a_shard, rng):
    label = rng.integers(0, 2, (200, 1))
    logits = 2 * label - 1 + rng.standard_normal((200, 1))
    honest = outputs(a_shard(200), logits, label, "lead II")
    positives = outputs(
        a_shard(100),
        np.full((100, 1), -4.0),
        np.where(np.arange(100) % 2, 1, -1)[:, None],
        "lead I",
    )
    (alone,) = fit_calibrations([honest], [])
    (together,) = fit_calibrations([honest, positives], [])
    assert together == alone


def test_calibrations_are_fitted_by_number_of_leads(a_shard, rng):
    given = [
        outputs(a_shard(50), rng.standard_normal((50, 1)), rng.integers(0, 2, (50, 1)), name)
        for name in ("12 leads", "limb leads", "lead II", "lead I")
    ]
    assert [c.min_leads for c in fit_calibrations(given, [])] == [4, 2, 1]
    assert [c.min_leads for c in fit_calibrations(given[2:], [])] == [1]


@pytest.mark.parametrize(
    ("leads", "sets"),
    [
        (INDEPENDENT_LEADS, ["12 leads", "limb leads", "lead II", "lead I"]),
        (("I", "II", "V1"), ["limb leads", "lead II", "lead I"]),
        (("I",), ["lead I"]),
        (("II", "V5"), ["lead II"]),
        (("V1",), ["12 leads"]),
    ],
)
def test_only_lead_sets_that_the_records_have_are_evaluated(leads, sets, a_shard):
    mask = np.tile([lead in leads for lead in INDEPENDENT_LEADS], (4, 1)).astype(np.uint8)
    model = PredNet(1, PredNetConfig(widths=(8, 8))).eval()
    found = outputs_of(model, a_shard(4, lead_mask=mask), ())
    assert [o.lead_set for o in found] == sets
    assert all(o.n_leads.min() >= 1 for o in found)


def test_an_empty_fold_gives_nothing(a_shard):
    model = PredNet(1, PredNetConfig(widths=(8, 8))).eval()
    assert outputs_of(model, a_shard(5).folds((10,)), ()) == []


def test_the_proxys_statements_imply_the_substrate_but_not_a_users_own():
    public = [ptbxl.NAME, cinc2017.NAME]
    assert implying_statements(("NORM", "RAO/RAE", "AFIB"), public) == ["AFIB", "RAO/RAE"]
    assert implying_statements(("NORM", "AFIB"), [*public, own.NAME]) == []


@pytest.fixture
def perfect_run(a_shard, tmp_path, monkeypatch):
    """A run over two sources, whose network knows the labels: they are written in the signal."""
    codes = ("NORM", "AFIB")
    n = 200
    rng = np.random.default_rng(0)
    label = np.full((n, 1 + len(CODES)), -1, dtype=np.int8)
    for column in (0, *(1 + CODES.index(code) for code in codes)):
        label[:, column] = rng.integers(0, 2, n)
    sig = np.zeros((n, 8, 1000), dtype=np.float16)
    label[:, 0] |= label[:, 1 + CODES.index("AFIB")]  # as the proxy is defined
    for j, column in enumerate((0, *(1 + CODES.index(code) for code in codes))):
        sig[:, :, j] = (2 * label[:, column] - 1)[:, None]
    shard = a_shard(n, source="ptb-xl", sig=sig, label=label)
    (tmp_path / "data").mkdir()
    save(shard, tmp_path / "data" / "ptb-xl.npz")
    monkeypatch.setattr(
        evaluate, "bootstrap", lambda figure, patient: (figure(np.arange(len(patient))),) * 2
    )

    class Reads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(4.0))

        def forward(self, sig, lead_mask, sample_mask):
            seen = (sig * lead_mask[:, :, None]).sum(dim=1) / lead_mask.sum(dim=1, keepdim=True)
            return self.scale * seen[:, :3]

    monkeypatch.setattr(evaluate, "load_model", lambda *runs: Reads())
    run = tmp_path / "run"
    run.mkdir()
    train_classifier.save_run(run, train_classifier.ClassifierConfig(), codes, [shard])
    return tmp_path


def test_a_perfect_network_gets_perfect_figures_with_every_lead_set(perfect_run, run_command):
    run_command(evaluate, "--data", perfect_run / "data", "--run", perfect_run / "run")
    result = json.loads((perfect_run / "run" / "evaluation.json").read_text())
    assert result["implying_statements"] == ["AFIB"]
    assert [c["min_leads"] for c in result["calibration"]] == [4, 2, 1]
    wheres = {(m["data"], m["leads"]) for m in result["metrics"]}
    assert wheres == {
        (f"ptb-xl fold {fold}", leads)
        for fold in (9, 10)
        for leads in ("12 leads", "limb leads", "lead II", "lead I")
    }
    for m in result["metrics"]:
        if m["name"] in ("AFIB AUROC", "AFIB sensitivity", "AFIB specificity", "AUROC NORM"):
            assert m["value"] == 1.0, m
    names = {m["name"] for m in result["metrics"]}
    assert "macro AUROC over 2 statements" in names
    for c in result["calibration"]:
        assert c["threshold"][2] >= c["threshold"][0], "no fibrillation in a normal substrate"
