"""Physiology of sets: what a label is known by must be there, and its absence must be seen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.heartbeats import FS, ecgs
from training.beats import measure_all
from training.judging.physiology import Measured, compare
from training.shards import CODES

N = 24
COLUMN = {code: 1 + CODES.index(code) for code in ("AFIB", "SR", "NORM", "1AVB")}


def a_set(rng: np.random.Generator, afib: dict, avb: dict) -> Measured:
    """N ECGs each in AFIB, with a long PR and normal, made as the arguments say."""
    sig = np.concatenate([ecgs(rng, N, **afib), ecgs(rng, N, **avb), ecgs(rng, N)])
    label = np.zeros((3 * N, 1 + len(CODES)), dtype=np.int8)
    label[:N, COLUMN["AFIB"]] = 1
    label[N:, COLUMN["SR"]] = 1
    label[N : 2 * N, COLUMN["1AVB"]] = 1
    label[2 * N :, COLUMN["NORM"]] = 1
    return Measured(measure_all(sig, FS), label, np.arange(3 * N).astype(str))


AFIB, AVB = {"irregular": 0.2, "p": 0.0}, {"pr": 0.06}


@pytest.fixture(scope="module")
def real() -> Measured:
    return a_set(np.random.default_rng(0), AFIB, AVB)


def signs(found: dict) -> dict[tuple[str, str], dict]:
    return {(s["code"], s["measure"]): s for s in found["signs"]}


def test_a_set_of_the_same_physiology_shows_every_sign(real: Measured) -> None:
    found = compare(real, a_set(np.random.default_rng(1), AFIB, AVB))
    of = signs(found)
    assert set(of) == {("AFIB", "rr_irregularity"), ("AFIB", "p_wave_uv"), ("1AVB", "pr_ms")}
    assert all(s["shown"] and s["real"]["value"] > 0.9 for s in of.values())
    rows = found["labels"]["AFIB"]
    assert min(row["p_adjusted"] for row in rows.values()) > 0.01
    low, high = rows["qrs_ms"]["effect"]["interval"]
    assert low < 0 < high


def test_afib_with_a_regular_rhythm_and_a_p_wave_is_caught(real: Measured) -> None:
    found = compare(real, a_set(np.random.default_rng(1), {}, AVB))
    of = signs(found)
    assert not of["AFIB", "rr_irregularity"]["shown"] and not of["AFIB", "p_wave_uv"]["shown"]
    assert of["1AVB", "pr_ms"]["shown"]
    rows = found["labels"]["AFIB"]
    assert (
        rows["p_wave_uv"]["effect"]["value"]
        > 0.9
        > -0.9
        > rows["rr_irregularity"]["effect"]["value"]
    )
    assert rows["p_wave_uv"]["p_adjusted"] < 1e-4 and rows["p_wave_uv"]["ks"] > 0.9
    assert found["missing"]["pr_ms"]["real"] > found["missing"]["pr_ms"]["generated"]


def test_a_measure_of_too_few_is_left_out(real: Measured) -> None:
    few = Measured(real.values[:3], real.label[:3], real.patient[:3])
    assert compare(real, few) == {
        "labels": {}, "signs": [], "missing": compare(real, few)["missing"]
    }  # fmt: skip
