"""AF burden: what counts as an episode, what as analysed, and what as neither."""

import numpy as np
import pytest

from ecg.burden import Episode, af_burden


def burden(picture, length_s=10.0):
    """`A` is AF, `.` is not, `x` could not be analysed; a segment each."""
    start = np.arange(len(picture)) * length_s
    marks = np.array(list(picture))
    return af_burden(start, start + length_s, marks == "A", marks != "x")


@pytest.mark.parametrize(
    ("picture", "episodes", "af_s", "analysed_s", "brief_s"),
    [
        ("......", [], 0, 60, 0),
        ("AAAAAA", [(0, 60)], 60, 60, 0),
        ("..AAA.", [(20, 50)], 30, 60, 0),
        ("..AA..", [], 0, 60, 20),
        (".AxA..", [(10, 40)], 20, 50, 0),
        (".AxxA.", [], 0, 40, 20),
        ("xAAAx.", [(10, 40)], 30, 40, 0),
        ("AAAxxAAA", [(0, 30), (50, 80)], 60, 60, 0),
        ("AAA.AAA", [(0, 30), (40, 70)], 60, 70, 0),
        ("xxxxxx", [], 0, 0, 0),
        ("Ax", [], 0, 10, 10),
    ],
)
def test_a_picture_of_segments(picture, episodes, af_s, analysed_s, brief_s):
    found = burden(picture)
    assert [(e.start_s, e.end_s) for e in found.episodes] == episodes
    assert (found.af_s, found.analysed_s, found.brief_s) == (af_s, analysed_s, brief_s)
    assert found.share == (pytest.approx(af_s / analysed_s, abs=1e-6) if analysed_s else None)
    assert found.longest_s == max((end - start for start, end in episodes), default=0)


def test_the_length_of_an_episode_is_in_seconds_not_in_segments():
    assert burden("..A..", length_s=30.0).episodes == (Episode(60.0, 90.0),)
    assert burden("AAAA", length_s=5.0).episodes == ()


def test_a_segment_that_was_not_analysed_is_not_fibrillation_whatever_is_said_of_it():
    start = np.arange(4) * 10.0
    found = af_burden(start, start + 10, np.ones(4, bool), np.array([True, True, False, False]))
    assert (found.af_s, found.brief_s, found.analysed_s) == (0, 20, 20)
