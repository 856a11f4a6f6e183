"""Built recordings: what is known about them is true of them, and errors are counted as such."""

import numpy as np
import pytest

from ecg.record import Record
from training.evaluate_holter import Built, build, judge
from training.sources import cinc2017
from training.sources.labelled import ABSENT, PRESENT, Labelled


@pytest.fixture
def items():
    """Two persons of 13 s: one of ones who fibrillates, one of zeros who does not."""
    return [
        Labelled(Record(np.full((1, 3900), v, np.float32), 300.0, ("I",)), str(v), str(v), 9,
                 statements={"AFIB": label})
        for v, label in ((1.0, PRESENT), (0.0, ABSENT))
    ]  # fmt: skip


def test_a_recording_fibrillates_when_it_is_said_to(items):
    rng = np.random.default_rng(0)
    for _ in range(5):
        built = build(items, cinc2017.NAME, 1800.0, True, rng)
        assert built.duration_s == 1800 and built.episodes
        known = np.zeros(built.sig.shape[1])
        for start, end in built.episodes:
            known[round(start * 300) : round(end * 300)] = 1
        np.testing.assert_array_equal(built.sig[0], known)
    assert build(items, cinc2017.NAME, 1800.0, False, rng).episodes == ()


def answered(share, *episodes, analysed_s=1000.0):
    found = [{"start_s": start, "end_s": end} for start, end in episodes]
    return {"share": share, "analysed_s": analysed_s, "episodes": found}


def test_errors_are_in_points_and_episodes_are_found_by_half():
    built = Built(np.zeros((1, 100_000)), 100.0, ("I",), ((100.0, 140.0), (300.0, 500.0)))
    found = judge([built], [answered(0.2, (90.0, 118.0), (350.0, 460.0), (700.0, 730.0))])
    assert found["mean_share"] == 0.24
    assert found["burden_error_points"] == -4.0
    assert found["burden_absolute_error_points"] == 4.0
    assert (found["episodes"], found["episodes_found"]) == (2, 0.5)
    assert (found["found_from_0_s"], found["found_from_60_s"]) == (0.0, 1.0)
    assert found["found_from_300_s"] is None
    assert found["false_episodes_per_24_h"] == pytest.approx(24 * 3.6)


def test_without_fibrillation_there_is_nothing_to_find():
    built = Built(np.zeros((1, 100_000)), 100.0, ("I",), ())
    found = judge([built, built], [answered(None, analysed_s=0.0), answered(0.1, (0.0, 100.0))])
    assert "episodes_found" not in found
    assert found["burden_error_points"] == 5.0 and found["analysed"] == 0.5
