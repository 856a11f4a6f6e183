"""Deletion curves of a network whose probability rests on one stretch of one lead."""

import json

import numpy as np
import pytest

from ecg.explain import log_odds, straight_line, window_of
from tests.conftest import ROOT
from training import evaluate_explanations as evaluation
from training.evaluate_explanations import SHARES, Part, area, at_random, deletion

WINDOWS = window_of(1000, 100.0)


def score(copies):
    """Log odds 2 with a unit pulse in each of 20 windows of lead 4, down to -2 without them."""
    return 0.2 * copies[:, 4, 10:400:20].sum(axis=1) - 2


def a_segment():
    sig = np.zeros((8, 1000))
    sig[4, 10:400:20] = 1.0
    return sig


def test_what_a_perfect_explanation_names_takes_the_probability_down_first():
    sig = a_segment()
    order = evaluation.occlusion(straight_line, score, sig, WINDOWS)
    assert order[4, :20] == pytest.approx(np.full(20, 0.2)) and order.sum() == pytest.approx(4.0)
    curve = deletion(score, sig, WINDOWS, order, straight_line)
    gone = np.minimum(np.round(np.array(SHARES) * 400), 20)
    assert log_odds(curve) == pytest.approx(2 - 0.2 * gone, abs=1e-9)
    against = at_random(score, sig, WINDOWS, 5, straight_line)
    assert (against > curve).all()
    assert area(curve, against) > 0.3
    assert area(against, against) == 0


def test_the_area_is_a_mean_over_the_shares_up_to_a_fifth():
    below = np.zeros(len(SHARES))
    below[SHARES.index(0.2) + 1 :] = -1.0
    assert area(below, np.zeros(len(SHARES))) == 0
    assert area(np.full(len(SHARES), -0.5), np.zeros(len(SHARES))) == pytest.approx(0.5 * 0.95)


def test_random_masks_find_the_stretch_too():
    found = evaluation.random_masks(score, a_segment(), WINDOWS)
    assert np.unravel_index(np.argmax(found), found.shape)[0] == 4
    assert found[4, :20].mean() > 5 * np.abs(np.delete(found, 4, axis=0)).mean()


@pytest.mark.parametrize("by", evaluation.REMOVALS)
def test_what_is_not_taken_out_stays(by, rng):
    sig = rng.normal(size=(8, 1000))
    gone = np.zeros((1, 8, 1000), dtype=bool)
    gone[0, 2, 300:340] = True
    (out,) = evaluation.REMOVALS[by](sig, gone)
    assert np.array_equal(out[~gone[0]], sig[~gone[0]])
    assert not np.array_equal(out[gone[0]], sig[gone[0]])


def test_a_group_is_judged_against_chance():
    n = 12
    part = Part(
        sig=np.zeros((n, 8, 1000)),
        label=np.ones(n),
        patient=np.arange(n).astype(str),
        probability=np.full(n, 0.9),
        threshold=np.full(n, 0.5),
    )
    shares = np.array(SHARES)
    curves = {
        "named": np.tile(0.9 - 2 * shares, (n, 1)),
        "random": np.tile(0.9 - shares, (n, 1)),
        "steepest": np.tile(0.9 - shares, (n, 1)),
    }
    found = evaluation.judge("abnormal", "line", part, curves, 1)
    assert found["n"] == found["records_above_zero"] == n
    assert found["wilcoxon_p"] == pytest.approx(2.0**-n)
    assert found["area"] == pytest.approx(0.1) and found["area_of_steepest"] == 0
    assert found["change"]["named"]["0.2"] == pytest.approx(0.4)
    assert found["change"]["random"]["0.1"] == pytest.approx(0.1)
    turned = evaluation.judge("normal", "line", part, curves, -1)
    assert turned["area"] == pytest.approx(-0.1) and turned["wilcoxon_p"] > 0.99


@pytest.fixture
def two_folds(ptb_xl):
    """The database of three, its abnormal records in folds 9 and 10."""
    table = ptb_xl / "ptbxl_database.csv"
    lines = table.read_text().splitlines()
    assert lines[3].count(",3,") == 1
    lines[3] = lines[3].replace(",3,", ",10,")
    table.write_text("\n".join(lines) + "\n")
    return ptb_xl


def test_the_command_writes_what_it_found(two_folds, run_command, tmp_path):
    out = tmp_path / "report"
    run_command(
        *(evaluation, "--ptb-xl", two_folds, "--store", ROOT / "models_store", "--out", out),
        *("--draws", 2, "--no-comparison"),
    )
    found = json.loads((out / "report.json").read_text())
    groups = [(f["group"], f["in_place"]) for f in found["reported"]]
    assert groups.count(("abnormal", "line")) == 1 and ("normal", "blur") in groups
    afib = next(f for f in found["reported"] if f["group"] == "abnormal")
    assert afib["n"] == 1 and afib["area"] > 0
    assert (out / "deletion.png").read_bytes().startswith(b"\x89PNG")


def test_a_fold_without_an_abnormal_record_is_said(ptb_xl, run_command, tmp_path):
    with pytest.raises(SystemExit, match="fold 10 has no abnormal record"):
        run_command(
            *(evaluation, "--ptb-xl", ptb_xl, "--store", ROOT / "models_store"),
            *("--out", tmp_path / "report"),
        )
