"""The door: what is wrong with a record is named, and nothing wrong gets in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.errors import UnservableError
from ecg.leads import LEADS
from ecg.record import Meta, make_record


def at_the_door(**changes):
    given = {"sig": np.zeros((2, 1000)), "fs": 100, "leads": ["I", "II"], "units": "mV"}
    return make_record(**{**given, **changes})


def test_a_good_record_is_float32_millivolts_with_canonical_leads(rng):
    sig = rng.standard_normal((2, 1000))
    record = at_the_door(sig=sig, fs=200, leads=["avf", "LEAD v3"], meta=Meta("a", ("RESP",)))
    assert record.leads == ("aVF", "V3")
    assert record.sig.dtype == np.float32
    np.testing.assert_array_equal(record.sig, sig.astype(np.float32))
    assert (record.fs, record.n_samples, record.duration_s) == (200.0, 1000, 5.0)
    assert record.meta == Meta("a", ("RESP",))


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"fs": None}, "fs", "is missing"),
        ({"fs": "fast"}, "fs", "is not a number"),
        ({"fs": [100]}, "fs", "is not a number"),
        ({"fs": 10**400}, "fs", "is not a number"),
        ({"fs": True}, "fs", "between 50 and 4000"),
        ({"fs": float("nan")}, "fs", "between 50 and 4000"),
        ({"fs": float("inf")}, "fs", "between 50 and 4000"),
        ({"fs": 0}, "fs", "between 50 and 4000"),
        ({"fs": -100}, "fs", "between 50 and 4000"),
        ({"fs": 49.9}, "fs", "between 50 and 4000"),
        ({"fs": 4000.1, "sig": np.zeros((2, 30_000))}, "fs", "between 50 and 4000"),
        ({"leads": None}, "leads", "is missing"),
        ({"leads": []}, "leads", "is empty"),
        ({"leads": [], "sig": np.zeros((0, 1000))}, "leads", "is empty"),
        ({"leads": ["I"]}, "leads", "names 1 leads, but sig has 2 rows"),
        ({"leads": ["I", "V7"]}, "leads[1]", "is not one of I, II, III"),
        ({"leads": ["I", 2]}, "leads[1]", "is not one of"),
        ({"leads": ["I", None]}, "leads[1]", "is not one of"),
        ({"leads": ["II", "ii"]}, "leads[1]", "repeats lead II"),
        ({"leads": ["I"] * 10_000, "sig": np.zeros((10_000, 1))}, "leads", "there are 12"),
        ({"units": None}, "units", "is missing"),
        ({"units": "V"}, "units", "must be mV or uV"),
        ({"units": 1}, "units", "must be mV or uV"),
        ({"sig": np.zeros(1000)}, "sig", "1 dimension(s)"),
        ({"sig": np.zeros((1, 2, 1000))}, "sig", "3 dimension(s)"),
        ({"sig": np.zeros((2, 499))}, "sig", "499 samples at 100 Hz last 4.99 s"),
        ({"sig": np.zeros((2, 0))}, "sig", "at least 5 s"),
        ({"sig": np.full((2, 1000), np.nan)}, "sig", "no finite sample"),
        ({"sig": np.full((2, 1000), np.inf)}, "sig", "no finite sample"),
    ],
)
def test_what_is_wrong_is_named(changes, where, says):
    with pytest.raises(UnservableError) as refusal:
        at_the_door(**changes)
    assert refusal.value.where == where
    assert says in refusal.value.problem


def test_more_than_a_day_is_too_long():
    day = np.broadcast_to(np.float32(0), (1, 24 * 3600 * 50 + 1))
    with pytest.raises(UnservableError, match="at most 24 h"):
        at_the_door(sig=day, fs=50, leads=["I"])


@pytest.mark.parametrize("fs", [50, 4000, "500", np.float32(250), 360.5])
def test_fs_may_be_any_number_within_the_limits(fs):
    assert at_the_door(sig=np.zeros((2, 20_000)), fs=fs).fs == float(fs)


def test_exactly_five_seconds_are_enough():
    assert at_the_door(sig=np.zeros((2, 500))).duration_s == 5.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_a_float32_number_is_a_missing_sample(bad):
    sig = np.zeros((2, 1000))
    sig[1, 7] = bad
    missing = np.isnan(at_the_door(sig=sig).sig)
    assert np.argwhere(missing).tolist() == [[1, 7]]


def test_the_senders_array_is_left_as_it_was():
    sig = np.zeros((2, 1000), dtype=np.float32)
    sig[0, 0] = np.inf
    record = at_the_door(sig=sig)
    record.sig[:] = 5
    assert np.isinf(sig[0, 0]) and not sig[0, 1:].any()


@given(st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=50))
def test_millivolts_and_microvolts_of_one_recording_are_the_same_float32(microvolts):
    counts = np.resize(np.array(microvolts, dtype=np.int16), (2, 1000))
    in_uv = at_the_door(sig=counts, units="uV").sig
    in_mv = at_the_door(sig=counts / 1000).sig
    np.testing.assert_array_equal(in_uv, in_mv)


@pytest.mark.parametrize("units", ["uV", "UV", " uv ", "µV", "μV"])
def test_every_spelling_of_microvolts_is_a_thousandth(units):
    record = at_the_door(sig=np.full((2, 1000), 1500), units=units)
    assert (record.sig == np.float32(1.5)).all()


def test_all_twelve_leads_are_accepted_at_once():
    assert at_the_door(sig=np.zeros((12, 1000)), leads=list(LEADS)).leads == LEADS


@pytest.mark.parametrize("value", [1e8, -1e30, np.inf])
@pytest.mark.parametrize("seconds", [10, 700])
def test_what_no_amplifier_gives_is_missing(value, seconds):
    """Such values overflow in whatever is computed of them."""
    sig = np.zeros((1, 100 * seconds))
    sig[0, 5] = value
    record = make_record(sig, 100, ["I"], "mV")
    assert np.flatnonzero(np.isnan(record.sig[0])).tolist() == [5]
