"""A few of the damaged files of which `python -m tests.ecg.formats.fuzz` makes 100,000."""

import numpy as np
import pytest

from ecg.record import Record
from tests.ecg.formats.fuzz import NONSENSE, judge, mutated, run, still
from tests.ecg.formats.samples import samples


@pytest.fixture(scope="module")
def seeds():
    return samples()


def test_good_files_pass(seeds):
    warm = seeds["csv"]
    judge(warm.packed(warm.files), warm.record)  # what is imported at the first is not the files'
    for kind, sample in seeds.items():
        judge(sample.packed(sample.files), sample.record)  # what is imported or computed once
        outcome = judge(sample.packed(sample.files), sample.record)
        assert (outcome.kind in ("acceptable", "poor"), outcome.wrong) == (True, ""), kind


def test_another_recording_is_told_from_this_one(records):
    first, second, *_ = records.values()
    noise = np.random.default_rng(0).standard_normal(first.sig.shape).astype(np.float32)
    assert still(first, first)
    assert still(Record(first.sig[::-1, 100:] * 2, 100.0, first.leads), first)
    assert not still(Record(noise, 100.0, first.leads), first)


def test_files_are_changed_and_the_same_again(seeds):
    import random

    content = seeds["csv"].files[0].content
    one, again, other = (mutated(content, random.Random(seed)) for seed in (1, 1, 2))
    assert one == again != other != content


@pytest.mark.slow
def test_damaged_files_of_every_kind(seeds):
    counts, wrong = run(seeds, 4000, seed=1, processes=2)
    assert sum(counts.values()) == 4000
    partly = [one for one in wrong if one["wrong"] == NONSENSE]  # an ECG with a damaged stretch
    assert partly == wrong and len(partly) <= 4
