"""Whether time tells what a rater is shown: times are set against what is true."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from loadtest.rating import auroc, one_study
from service.database import connect, upgrade
from service.rating import studies
from tests.service.rating.made import real_npz, shown_to
from tests.service.rating.serving import serving


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    engine = connect(f"sqlite:///{tmp_path}/state.sqlite")
    upgrade(engine)
    return engine


def test_times_are_set_against_what_was_shown(engine: sa.Engine) -> None:
    with serving(str(engine.url)) as url, httpx.Client(base_url=url, timeout=60) as client:
        found = one_study(client, real_npz(60), n=20, seed=1, times=2)
    (study,) = studies.all_of(engine)
    (rater,) = studies.raters_of(engine, study.id)
    shown = shown_to(engine, rater)
    assert rater.simulated and study.closed is not None
    assert found.ms.shape == (2, 22) and (found.ms > 0).all()
    assert found.generated.tolist() == [row["source"] != "real" for row in shown]
    assert found.repeat.tolist() == [row["repeat_of"] is not None for row in shown]


def test_auroc_is_half_where_nothing_is_told() -> None:
    truth = np.arange(400) % 2 == 0
    assert auroc(np.zeros(400), truth)[0] == 0.5
    assert auroc(truth + 0.0, truth)[0] == 1.0
    drawn = np.random.default_rng(0).normal(size=(300, 400))
    found, (half, *_) = zip(*(auroc(score, truth) for score in drawn), strict=True)
    assert np.mean(np.abs(np.array(found) - 0.5) <= half) == pytest.approx(0.95, abs=0.03)
