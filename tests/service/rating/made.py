"""Studies made in a moment: a generator of kilobytes, real ECGs multiplied, programs that rate."""

from __future__ import annotations

import io
import random
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sqlalchemy as sa

from ecg.formats import Hints, read
from ecg.generated import twelve_leads, write_npz
from ecg.labels import Labels
from ecg.leads import INDEPENDENT_LEADS, LEADS
from ecg.store import Generator, load_generator
from service.rating import answers, material, studies
from service.rating.answers import Given, Kept
from service.rating.material import RealSet, read_real
from service.rating.plan import Plan
from service.rating.studies import Rater, Study
from service.rating.tables import ITEMS, PRESENTATIONS
from tests.conftest import PTB_XL, wfdb_files
from tests.ecg import fake_generator

MIX = {"NORM": 1, "AFIB": 1}
N_SAMPLES = 1000


@cache
def generator(version: str = "0.0.7") -> Generator:
    with TemporaryDirectory() as folder:
        stored = fake_generator.store(Path(folder) / "ldm", version=version)
        return load_generator(stored, "cpu")


@cache
def recorded() -> np.ndarray:
    """mV [4, 8, 1000] of the records in tests/data."""
    names = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]
    return np.stack([read(wfdb_files(name), Hints())[0].sig[names, :1000] for name in PTB_XL])


def beats(rng: np.random.Generator) -> np.ndarray:
    """mV [8, 1000]: one of them, turned and scaled, so that no two are the same."""
    one = recorded()[rng.integers(len(PTB_XL))]
    turned = np.roll(one, int(rng.integers(N_SAMPLES)), axis=1) * rng.uniform(0.8, 1.2)
    return (turned + rng.normal(0, 0.004, one.shape)).astype(np.float32)


def real_npz(n: int, synthetic: bool = False) -> bytes:
    """A set as `training.real_set` writes it: NORM and AFIB in turn, a patient each."""
    rng = np.random.default_rng(n)
    sig = twelve_leads(np.stack([beats(rng) for _ in range(n)]))
    codes = [("NORM", "SR") if i % 2 else ("AFIB",) for i in range(n)]
    labels = [Labels("normal" if i % 2 else "abnormal", one) for i, one in enumerate(codes)]
    more = {
        "synthetic": np.array(synthetic),
        "present": np.array([" ".join(one) for one in codes]),
        "patient": np.array([f"{i:016x}" for i in range(n)]),
    }
    out = io.BytesIO()
    write_npz(out, [sig], labels, 100.0, 0, more)
    return out.getvalue()


@cache
def real_set(n: int = 60) -> RealSet:
    return read_real(real_npz(n))


def plan(**changes: Any) -> Plan:
    given = dict(name="A study", labels=MIX, generated={"ldm": 10}, real=10, seed=7)
    return Plan.model_validate({**given, **changes})


def study(engine: sa.Engine, **changes: Any) -> Study:
    asked = plan(**changes)
    generators = {name: generator() for name in asked.generated}
    real = real_set() if asked.real else None
    ecgs = material.gather(asked, generators, real)
    preparation = material.common_preparation(generators)
    made_with = material.described(list(generators.values()), real, preparation)
    return studies.create(engine, asked, ecgs, made_with)


def single(**changes: Any) -> dict[str, Any]:
    """An answer about one ECG."""
    given = dict(source="real", confidence=2, label="yes", plausibility=4, defects=[], comment="")
    return {**given, "seconds": 8.5, **changes}


def pair(**changes: Any) -> dict[str, Any]:
    return {"better": "first", "confidence": 2, "comment": "", "seconds": 5.0, **changes}


def given(presentation: str, answer: dict[str, Any] | None, based_on: int = 0) -> Given:
    return Given(id=str(uuid.uuid4()), presentation=presentation, based_on=based_on, answer=answer)


Judge = Callable[[str, str, random.Random], dict[str, Any]]  # of a source, a label


def rate(
    engine: sa.Engine, rater: Rater, judge: Judge, seed: int = 0, positions: Sequence[int] = ()
) -> list[Kept]:
    """Let a program, which is told what it should not know, answer at all positions, or these."""
    rng = random.Random(seed)
    kept = []
    for position, one in enumerate(shown_to(engine, rater)):
        if positions and position not in positions:
            continue
        answer = judge(one["source"], one["label"], rng)
        kept.append(answers.keep(engine, rater.id, given(one["id"], answer)))
    return kept


def shown_to(engine: sa.Engine, rater: Rater) -> list[dict[str, Any]]:
    """All that a rater is shown, in order, and what it is."""
    asked = (
        sa.select(PRESENTATIONS, ITEMS.c.source, ITEMS.c.label, ITEMS.c.number)
        .join(ITEMS, ITEMS.c.id == PRESENTATIONS.c.item)
        .where(PRESENTATIONS.c.rater == rater.id)
        .order_by(PRESENTATIONS.c.position)
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(asked).mappings()]


def simulated(source: str, label: str, rng: random.Random) -> dict[str, Any]:
    """Right three times in four; of generated ECGs it likes fewer, and finds P waves in AFIB."""
    right = rng.random() < 0.75
    said = source if source == "real" else "generated"
    if not right:
        said = "generated" if said == "real" else "real"
    marks = []
    if source != "real" and rng.random() < 0.5:
        marks.append({"kind": "p_wave", "lead": "II", "time_s": round(rng.uniform(0, 10), 2)})
    if rng.random() < 0.2:
        marks.append({"kind": "noise", "lead": None, "time_s": None})
    return single(
        source=said,
        confidence=rng.randint(1, 3),
        label=rng.choice(("yes", "yes", "no", "unsure")),
        plausibility=rng.randint(3, 5) if source == "real" else rng.randint(1, 4),
        defects=marks,
        comment="a program's remark" if rng.random() < 0.1 else "",
    )
