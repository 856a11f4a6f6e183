"""What must not change an answer, whatever the recording: the order of leads and of segments, the
company in a batch, leads that follow from others; and what a decision may never say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.decision import Calibration, RecordRule, calibrate, decide
from ecg.labels import MAX_AGE, MAX_HEART_RATE, MIN_HEART_RATE, Labels, encode, features
from ecg.leads import LEADS, LIMB_FROM_I_II, LIMB_LEADS
from ecg.prepare import Preparation, condition, cut, cut_all
from ecg.record import Record
from ecg.statements import STATEMENTS

PREPARATION = Preparation()
SEEDS = st.integers(0, 2**32)
FEW = settings(max_examples=max(20, settings().max_examples // 5))  # each cuts real recordings


def drawn(data, record):
    """A stretch of the real record, some leads of it, in some order, some of them spoiled."""
    rng = np.random.default_rng(data.draw(SEEDS))
    leads = data.draw(st.lists(st.sampled_from(LEADS), min_size=1, max_size=12, unique=True))
    n_samples = data.draw(st.sampled_from((500, 733, 1000, 1399, 2100)))
    sig = np.tile(record.sig[[LEADS.index(lead) for lead in leads]], 3)[:, :n_samples].copy()
    for row in sig:
        match data.draw(st.sampled_from(("good", "good", "gap", "flat", "noise", "clipped"))):
            case "gap":
                row[100 : 100 + int(rng.integers(1, 400))] = np.nan
            case "flat":
                row[:] = 0.1
            case "noise":
                row[:] = rng.standard_normal(n_samples)
            case "clipped":
                row[:] = np.clip(20 * row, -1.5, 1.5)
    return Record(sig, data.draw(st.sampled_from((100.0, 90.5))), tuple(leads))


def same(one, other):
    for name in ("sig", "lead_mask", "n_valid", "start_s", "end_s"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@FEW
@given(st.data())
def test_the_order_of_leads_does_not_matter(record, data):
    sent = drawn(data, record)
    order = data.draw(st.permutations(range(len(sent.leads))))
    shuffled = Record(sent.sig[list(order)], sent.fs, tuple(sent.leads[i] for i in order))
    one, other = cut(sent, PREPARATION), cut(shuffled, PREPARATION)
    same(one, other)
    assert one.quality.status == other.quality.status
    reasons = [{(r.code, frozenset(r.leads)) for r in of.quality.reasons} for of in (one, other)]
    assert reasons[0] == reasons[1]


@FEW
@given(st.data())
def test_company_does_not_matter(record, data):
    many = [drawn(data, record) for _ in range(data.draw(st.integers(1, 5)))]
    together = cut_all(many, PREPARATION)
    alone = [cut(one, PREPARATION) for one in many]
    for one, other in zip(together, alone, strict=True):
        same(one, other)
        assert one.quality == other.quality
    batch = np.concatenate([one.sig for one in alone])
    n_valid = np.concatenate([one.n_valid for one in alone])
    expected = [condition(one.sig, one.n_valid, PREPARATION) for one in alone]
    got = condition(batch, n_valid, PREPARATION)
    np.testing.assert_allclose(got, np.concatenate(expected), atol=1e-6)


@FEW
@given(st.data())
def test_limb_leads_that_follow_from_others_need_not_be_sent(record, data):
    """Any two of the six give what all six would."""
    limbs = (LIMB_FROM_I_II @ record.sig[:2].astype(float)).astype(np.float32)
    sig = np.concatenate([limbs, record.sig[6:]])
    two = data.draw(st.lists(st.sampled_from(LIMB_LEADS), min_size=2, max_size=2, unique=True))
    rows = [i for i, lead in enumerate(LEADS) if lead in two or lead not in LIMB_LEADS]
    all_twelve = cut(Record(sig, 100.0, LEADS), PREPARATION)
    fewer = cut(Record(sig[rows], 100.0, tuple(LEADS[i] for i in rows)), PREPARATION)
    np.testing.assert_array_equal(fewer.lead_mask, all_twelve.lead_mask)
    np.testing.assert_allclose(fewer.sig, all_twelve.sig, atol=1e-4)


# Decisions

N_OUTPUTS = 4
LOGITS = st.floats(-40, 40)
SHARES = st.floats(0.01, 0.99)


@st.composite
def calibrations(draw):
    """As a card's: the thresholds of what implies an abnormal substrate are not below its own."""
    found = []
    for i, size in enumerate(draw(st.lists(st.integers(1, 8), min_size=1, unique=True))):
        at = sorted(draw(st.lists(SHARES, min_size=N_OUTPUTS, max_size=N_OUTPUTS)))
        slope = draw(st.lists(st.floats(0.1, 3), min_size=N_OUTPUTS, max_size=N_OUTPUTS))
        offset = draw(st.lists(st.floats(-2, 2), min_size=N_OUTPUTS, max_size=N_OUTPUTS))
        found.append(Calibration(f"{i}", size, tuple(slope), tuple(offset), tuple(at)))
    return tuple(found)


@st.composite
def judged(draw):
    """Logits, known leads and seconds of some segments."""
    n = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(SEEDS))
    logits = rng.normal(0, draw(st.sampled_from((0.1, 3, 30))), (n, N_OUTPUTS))
    return logits, rng.integers(1, 9, n), rng.choice((1.0, 4.9, 5.0, 10.0), n)


RULES = st.builds(RecordRule, st.integers(1, 5), st.sampled_from((0.0, 5.0, 20.0)))


@given(judged(), calibrations())
def test_probabilities_are_each_segment_s_own(given_, of):
    logits, n_leads, _ = given_
    together, thresholds = calibrate(logits, n_leads, of, (1, 2))
    assert ((together >= 0) & (together <= 1)).all()
    for i in range(len(logits)):
        alone, threshold = calibrate(logits[i : i + 1], n_leads[i : i + 1], of, (1, 2))
        np.testing.assert_array_equal(alone[0], together[i])
        np.testing.assert_array_equal(threshold[0], thresholds[i])
    backwards, _ = calibrate(logits, n_leads, of[::-1], (1, 2))
    np.testing.assert_array_equal(backwards, together)


@given(judged(), calibrations(), st.sampled_from((0.0, 5.0)))
def test_a_statement_is_never_present_in_a_substrate_that_it_contradicts(given_, of, least_s):
    """By the rule of the highest segment, which the shipped card has: with the mean of several, the
    threshold of an output may be another segment's than the substrate's."""
    logits, n_leads, signal_s = given_
    n_leads[:] = n_leads[0]
    by_segment, thresholds = calibrate(logits, n_leads, of, (1, 2))
    probability, at = decide(by_segment, thresholds, signal_s, RecordRule(1, least_s))
    present = probability >= at
    assert present[0] or not present[[1, 2]].any()


@given(judged(), calibrations(), RULES, st.randoms(use_true_random=False))
def test_the_order_of_segments_does_not_matter(given_, of, rule, random):
    logits, n_leads, signal_s = given_
    by_segment, thresholds = calibrate(logits, n_leads, of, (1,))
    order = list(range(len(logits)))
    random.shuffle(order)
    one, _ = decide(by_segment, thresholds, signal_s, rule)
    other, _ = decide(by_segment[order], thresholds[order], signal_s[order], rule)
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert (one <= by_segment.max(axis=0) + 1e-12).all() and (one >= by_segment.min(axis=0)).all()


@given(judged(), calibrations(), RULES, st.data())
def test_more_of_a_finding_never_makes_it_less_probable(given_, of, rule, data):
    logits, n_leads, signal_s = given_
    more = logits.copy()
    more[data.draw(st.integers(0, len(logits) - 1))] += data.draw(st.floats(0, 10))
    before, after = (
        decide(*calibrate(of_logits, n_leads, of, (1,)), signal_s, rule)[0]
        for of_logits in (logits, more)
    )
    assert (after >= before - 1e-12).all()


# Labels

CODES = st.lists(st.sampled_from(sorted(STATEMENTS)), max_size=8)
LABELS = st.builds(
    Labels,
    st.sampled_from((None, "normal", "abnormal")),
    CODES.map(tuple),
    st.none() | st.floats(0, MAX_AGE),
    st.sampled_from((None, "male", "female")),
    st.none() | st.floats(MIN_HEART_RATE, MAX_HEART_RATE),
    st.booleans(),
)


@given(LABELS, st.lists(st.sampled_from(sorted(STATEMENTS)), unique=True, max_size=12))
def test_every_part_of_a_label_can_be_read_back_from_its_vector(labels, covered):
    vector = encode(labels, covered)
    assert vector.dtype == np.float32 and np.isfinite(vector).all()
    said = dict(zip(features(covered), vector.tolist(), strict=True))
    assert {code for code in covered if said[code]} == set(labels.statements) & set(covered)
    assert (said["normal"], said["abnormal"]) == (
        labels.atrial_substrate == "normal",
        labels.atrial_substrate == "abnormal",
    )
    assert (said["male"], said["female"]) == (labels.sex == "male", labels.sex == "female")
    assert bool(said["complete"]) == labels.complete
    for name, value, centre, width in (
        ("age", labels.age, 60, 20),
        ("heart rate", labels.heart_rate, 75, 25),
    ):
        assert bool(said[f"{name} given"]) == (value is not None)
        if value is not None:
            assert said[name] * width + centre == pytest.approx(value, abs=1e-4)
    repeated = Labels(**{**vars(labels), "statements": labels.statements[::-1] * 2})
    np.testing.assert_array_equal(encode(repeated, covered), vector)
