"""python -m service.studies, from making a study to its report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from service import studies as command
from service.rating import studies
from service.settings import Settings
from tests.ecg import fake_generator
from tests.service.rating.made import rate, real_npz, simulated


@pytest.fixture
def here(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    store = fake_generator.store(tmp_path / "store" / "ldm").parent
    fake_generator.store(store / "newer", version="2.0")
    (tmp_path / "real.npz").write_bytes(real_npz(40))
    monkeypatch.setenv("ECG_DATABASE_URL", url)
    monkeypatch.setenv("ECG_MODELS_STORE", str(store))
    monkeypatch.delenv("ECG_AUDIT_KEY_FILE", raising=False)
    assert Settings().database_url == url
    return tmp_path


def run(*words: object) -> int:
    return command.main([str(word) for word in words])


def test_a_study_from_its_making_to_its_report(
    here: Path, engine: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ("--generated", "ldm:6,newer:6", "--real", f"{here}/real.npz:6", "--seed", 9)
    assert run("create", "--name", "Pilot", "--labels", "NORM,AFIB", *made) == 0
    id = capsys.readouterr().out.strip()  # noqa: A001
    url = "https://ecg.example.org/"
    assert run("invite", id, "--name", "Program", "--simulated", "--url", url) == 0
    link = capsys.readouterr().out.strip()
    assert re.fullmatch(r"https://ecg\.example\.org/rate#rater_[0-9a-f]{12}_[\w-]{43}", link)
    rater = studies.rater_of(engine, link.partition("#")[2])
    assert rater is not None and rater.simulated
    assert run("export", id, "--out", here / "early") == 1
    assert "still open" in capsys.readouterr().err and not (here / "early").exists()
    rate(engine, rater, simulated)
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert "6 real, 6 fake-ldm 0.0.7, 6 fake-ldm 2.0" in listed
    assert "20 of 20  Program, simulated" in listed
    assert run("close", id) == 0 and run("close", id) == 1
    assert run("export", id, "--out", here / "export") == 0
    assert run("report", id, "--out", here / "one") == 0
    assert run("report", here / "export", "--out", here / "other") == 0
    for name in ("report.json", "report.csv", "report.html"):
        assert (here / "one" / name).read_text() == (here / "other" / name).read_text()
    found = json.loads((here / "one" / "report.json").read_text())
    assert set(found["detection"]["by_generator"]) == {"fake-ldm 0.0.7", "fake-ldm 2.0"}
    assert "simulated raters only" in capsys.readouterr().err
    assert run("revoke", rater.id) == 0 and run("revoke", rater.id) == 1
    with engine.connect() as connection:
        actions = connection.exec_driver_sql("SELECT action FROM audit ORDER BY seq").scalars()
        assert {"study created", "rater invited", "study closed"} <= set(actions)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", "--name", "P", "--labels", "NOPE", "--generated", "ldm:4"), "NOPE"),
        (("create", "--name", "P", "--labels", "NORM", "--generated", "none:4"), "no card"),
        (("create", "--name", "P", "--labels", "NORM", "--generated", "ldm"), "2 to 2000"),
        (("create", "--name", "P", "--labels", "NORM", "--real", "x.npz"), "SET.npz:NUMBER"),
        (("create", "--name", "P", "--labels", "LVOLT", "--real", "real.npz:4"), "lacks 4"),
        (("close", "0123456789ab"), "there is no study 0123456789ab"),
        (("report", "nowhere", "--out", "x"), "there is no study nowhere"),
        (("revoke", "0123456789ab"), "no link"),
    ],
)
def test_what_cannot_be_done_is_said(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(here)
    assert run(*words) == 1
    assert says in capsys.readouterr().err
