"""Einthoven and Goldberger in closed form, and the names that devices give the leads."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecg.leads import (
    CHEST_LEADS,
    INDEPENDENT_LEADS,
    LEADS,
    LIMB_LEADS,
    MDC_LEAD_IDS,
    MDC_POTENTIALS,
    canonical,
    complete_leads,
    independent_leads,
    lead_of_mdc,
)

MILLIVOLTS = st.integers(-20_000, 20_000).map(lambda uv: uv / 1000)
PAIRS = list(combinations(LIMB_LEADS, 2))


def six_limb_leads(i, ii):
    """The textbook's laws, written out."""
    return {
        "I": i,
        "II": ii,
        "III": ii - i,
        "aVR": -(i + ii) / 2,
        "aVL": i - ii / 2,
        "aVF": ii - i / 2,
    }


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(i_ii=arrays(np.float64, (2, 5), elements=MILLIVOLTS))
def test_any_two_limb_leads_give_the_other_four(pair, i_ii):
    limbs = six_limb_leads(*i_ii)
    full, known = complete_leads(np.array([limbs[name] for name in pair]), pair)
    np.testing.assert_allclose(full[:6], [limbs[name] for name in LIMB_LEADS], atol=1e-11)
    np.testing.assert_array_equal(known, [True] * 6 + [False] * 6)
    assert not full[6:].any()


def test_given_leads_are_never_replaced_by_derived_ones(rng):
    inconsistent = rng.standard_normal((3, 20)).astype(np.float32)
    full, known = complete_leads(inconsistent, ("aVF", "I", "II"))
    np.testing.assert_array_equal(full[[5, 0, 1]], inconsistent)
    assert known[:6].all() and full.dtype == np.float32


@pytest.mark.parametrize("lead", LEADS)
def test_one_lead_alone_gives_no_other(lead):
    full, known = complete_leads(np.ones((1, 4)), [lead])
    assert known.tolist() == [name == lead for name in LEADS]
    assert full.sum() == 4


@given(st.data())
def test_any_subset_in_any_order_keeps_its_leads(data):
    leads = data.draw(st.lists(st.sampled_from(LEADS), min_size=1, unique=True))
    sig = np.arange(1.0, len(leads) + 1)[:, None] * np.ones(3)
    full, known = complete_leads(sig, leads)
    for row, name in zip(sig, leads, strict=True):
        np.testing.assert_array_equal(full[LEADS.index(name)], row)
    n_limbs = len(set(leads) & set(LIMB_LEADS))
    assert known[:6].sum() == (6 if n_limbs >= 2 else n_limbs)
    assert [name for name in CHEST_LEADS if known[LEADS.index(name)]] == sorted(
        set(leads) - set(LIMB_LEADS)
    )


def test_what_is_not_usable_is_derived_anew_or_unknown(rng):
    i, ii = rng.standard_normal((2, 10))
    limbs = six_limb_leads(i, ii)
    leads = (*LIMB_LEADS, "V1")
    sig = np.array([*limbs.values(), i])
    usable = np.array([False, True, True, False, True, True, False])
    sig[~usable] = 99.0
    full, known = complete_leads(sig, leads, usable)
    np.testing.assert_allclose(full[:6], list(limbs.values()), atol=1e-12)
    assert known.tolist() == [True] * 6 + [False] * 6
    assert not full[6].any()


def test_a_second_limb_lead_that_is_not_usable_derives_nothing():
    _, known = complete_leads(np.ones((2, 4)), ("I", "II"), np.array([True, False]))
    assert known.tolist() == [True] + [False] * 11


def test_models_see_i_ii_and_the_chest_leads_in_this_order():
    assert INDEPENDENT_LEADS == ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    shuffled = LEADS[::-1]
    sig = np.array([[LEADS.index(name)] for name in shuffled], dtype=float)
    eight, known = independent_leads(np.stack([sig, -sig]), shuffled, np.ones((2, 12), bool))
    assert eight[:, :, 0].tolist() == [
        [0, 1, 6, 7, 8, 9, 10, 11],
        [0, -1, -6, -7, -8, -9, -10, -11],
    ]
    assert known.all()


def test_of_several_segments_each_has_leads_of_its_own(rng):
    sig = rng.standard_normal((3, 12, 5))
    usable = np.ones((3, 12), dtype=bool)
    usable[1, LEADS.index("II")] = False  # follows from the others
    usable[2, LEADS.index("V3")] = False
    for one in sig[:2]:
        one[:6] = list(six_limb_leads(one[0], one[1]).values())
    eight, known = independent_leads(sig, LEADS, usable)
    rows = [LEADS.index(name) for name in INDEPENDENT_LEADS]
    np.testing.assert_allclose(eight[:2], sig[:2][:, rows], atol=1e-12)
    assert known.tolist() == [[True] * 8] * 2 + [[name != "V3" for name in INDEPENDENT_LEADS]]
    assert not eight[2, INDEPENDENT_LEADS.index("V3")].any()


def test_i_and_ii_are_found_in_the_augmented_leads(rng):
    i, ii = rng.standard_normal((2, 10))
    limbs = six_limb_leads(i, ii)
    two = np.array([[limbs["aVL"], limbs["aVF"]]])
    eight, known = independent_leads(two, ("aVL", "aVF"), np.ones((1, 2), bool))
    np.testing.assert_allclose(eight[0, :2], [i, ii], atol=1e-12)
    assert known[0].tolist() == [True, True] + [False] * 6


@pytest.mark.parametrize("spell", [str, str.upper, str.lower, lambda name: f"  {name}\t"])
@pytest.mark.parametrize("prefix", ["", "MDC_ECG_LEAD_", "Lead ", "ECG Lead ", "ecg "])
@pytest.mark.parametrize("lead", LEADS)
def test_every_spelling_of_a_lead_is_known(lead, prefix, spell):
    assert canonical(spell(prefix + lead)) == lead


@pytest.mark.parametrize(
    "name", ["", "IV", "V7", "V1R", "ECG", "PLETH", "aV", "II II", "lead", "1"]
)
def test_other_channels_are_no_lead(name):
    assert canonical(name) is None


@pytest.mark.parametrize(
    ("code", "lead"),
    [
        ("131073", "I"),
        ("131074", "II"),
        ("131133", "III"),
        ("131134", "aVR"),
        ("131135", "aVL"),
        ("131136", "aVF"),
        ("131075", "V1"),
        ("131080", "V6"),
        ("131329", "I"),
        ("131330", "II"),
        ("131389", "III"),
        ("131390", "aVR"),
        ("131391", "aVL"),
        ("131392", "aVF"),
        ("131331", "V1"),
        ("131336", "V6"),
        ("2:1", "I"),
        ("2:64", "aVF"),
        ("2:257", "I"),
        (" 2:8 ", "V6"),
        ("131137", None),  # aVR turned round
        ("131328", None),  # a lead that is not named
        ("131072", None),
        ("2:0", None),
        ("3:1", None),
        (":1", None),
        ("1", None),
        ("", None),
        ("-131073", None),
        ("१३१०७३", None),
        ("9" * 5000, None),
    ],
)
def test_a_lead_goes_by_its_mdc_codes(code, lead):
    assert lead_of_mdc(code) == lead


def test_every_lead_has_one_code_of_each_family():
    assert tuple(MDC_LEAD_IDS) == tuple(MDC_POTENTIALS) == LEADS
    assert len({*MDC_LEAD_IDS.values(), *MDC_POTENTIALS.values()}) == 24
    for codes in (MDC_LEAD_IDS, MDC_POTENTIALS):
        assert [lead_of_mdc(str(code)) for code in codes.values()] == list(LEADS)


@pytest.mark.parametrize(
    ("name", "lead"),
    [("MDC_ECG_ELEC_POTL_AVF", "aVF"), ("EKG lead V2", "V2"), ("MDC_ECG_ELEC_POTL", None)],
)
def test_a_lead_goes_by_its_name_in_the_nomenclature(name, lead):
    assert canonical(name) == lead
