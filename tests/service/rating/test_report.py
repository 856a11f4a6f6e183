"""The report: each figure against another's computation of it, from the export alone."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections import Counter
from pathlib import Path
from statistics import NormalDist
from xml.etree import ElementTree

import numpy as np
import pytest
import sqlalchemy as sa
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from service.rating import answers, detection, export, plots, report, report_page, studies
from service.rating.detection import Said
from service.rating.export import Export
from tests.service.rating.made import given, pair, rate, shown_to, simulated, single, study
from training.refine.study import read as read_study


def rated(engine: sa.Engine, n_raters: int = 2, judge=simulated, **changes) -> Export:
    """A closed study that programs answered."""
    made = study(engine, real=20, generated={"ldm": 20}, repeats=0.25, **changes)
    for seed in range(n_raters):
        rater, _ = studies.invite(engine, made, f"Program {seed}", True)
        rate(engine, rater, judge, seed)
    studies.close(engine, made.id)
    return export.of(engine, studies.find(engine, made.id))


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def test_an_export_is_read_as_it_was_written(engine: sa.Engine, tmp_path: Path) -> None:
    found = rated(engine)
    export.write(found, tmp_path / "out")
    again = export.read(tmp_path / "out")
    assert np.array_equal(again.sig, found.sig)
    for name in ("study", "ecgs", "raters", "presentations", "answers"):
        assert getattr(again, name) == getattr(found, name)
    assert report.figures(again) == report.figures(found)
    with np.load(tmp_path / "out" / "study.npz") as f:
        assert f["data"].shape == (40, 1000, 12)
    names = zipfile.ZipFile(io.BytesIO(export.zipped(found))).namelist()
    assert sorted(names) == sorted(path.name for path in (tmp_path / "out").iterdir())
    with pytest.raises(FileExistsError):
        export.write(found, tmp_path / "out")


@pytest.mark.parametrize("mode", ["single", "pairs"])
def test_what_a_generator_learns_from_an_export(
    engine: sa.Engine, tmp_path: Path, mode: str
) -> None:
    """`training.refine` reads what is written here: the same answers, of generated ECGs."""
    judge = simulated if mode == "single" else lambda *_: pair(better="second")
    found = rated(engine, judge=judge, mode=mode)
    export.write(found, tmp_path / "out")
    learned = read_study(tmp_path / "out")
    real = {ecg.id for ecg in found.ecgs if ecg.source == "real"}
    shown = [
        one.id
        for rating in report.ratings(found)
        for one in (rating.ecg, rating.other)
        if one is not None and one.id not in real
    ]
    assert len(learned.of) == len(shown) and len(learned.sig) == 20
    assert sorted(Counter(learned.of.tolist()).values()) == sorted(Counter(shown).values())
    assert learned.simulated.all() and "no person" in learned.who()
    assert ((learned.good >= 0) & (learned.good <= 1)).all()


def test_an_open_study_is_not_exported(engine: sa.Engine) -> None:
    with pytest.raises(ValueError, match="still open"):
        export.of(engine, study(engine))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 60, None],
    ids=["empty", "no zip", "a damaged zip", "other arrays"],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Whatever it is, in words that say what would be one."""
    file = tmp_path / "study.npz"
    if content is None:
        np.savez(file, other=np.zeros(1))
    else:
        file.write_bytes(content)
    for path in (file, tmp_path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="no export .*: name the folder of `python -m"):
            export.read(path)


def test_the_report_is_that_of_the_csv_files(engine: sa.Engine, tmp_path: Path) -> None:
    """Recomputed from the CSV with scikit-learn, by nothing of the report's own."""
    found = rated(engine)
    export.write(found, tmp_path / "out")
    told = report.figures(found)
    ecgs = {row["id"]: row for row in table(tmp_path / "out", "ecgs")}
    last = {
        row["presentation"]: json.loads(row["given"]) for row in table(tmp_path / "out", "answers")
    }
    shown = [row for row in table(tmp_path / "out", "presentations")]
    first = [row for row in shown if not row["repeat_of"]]
    truth = np.array([ecgs[row["ecg"]]["source"] != "real" for row in first])
    said = np.array([last[row["id"]]["source"] == "generated" for row in first])
    sure = np.array([last[row["id"]]["confidence"] for row in first])
    every = told["detection"]["all"]
    assert every["accuracy"]["value"] == pytest.approx(balanced_accuracy_score(truth, said))
    assert every["sensitivity"]["value"] == pytest.approx(said[truth].mean())
    assert every["specificity"]["value"] == pytest.approx(1 - said[~truth].mean())
    auroc = roc_auc_score(truth, np.where(said, sure, -sure))
    assert every["auroc"]["value"] == pytest.approx(auroc)
    z = NormalDist().inv_cdf
    hits, alarms = (said[kind].sum() + 0.5 for kind in (truth, ~truth))
    d = z(hits / (truth.sum() + 1)) - z(alarms / ((~truth).sum() + 1))
    assert every["d_prime"]["value"] == pytest.approx(d)
    for source in ("real", "fake-ldm 0.0.7"):
        of = [last[r["id"]] for r in first if ecgs[r["ecg"]]["source"] == source]
        counted = Counter(a["plausibility"] for a in of)
        assert told["plausibility"][source]["counts"] == [counted[k] for k in range(1, 6)]
        yes = np.mean([a["label"] == "yes" for a in of])
        assert told["label"][source]["agreement"]["value"] == pytest.approx(yes)
        named = np.mean([any(m["kind"] == "p_wave" for m in a["defects"]) for a in of])
        assert told["defects"][source]["kinds"]["p_wave"]["share"] == pytest.approx(named)
    by_id = {row["id"]: row for row in shown}
    twice = [(by_id[row["repeat_of"]], row) for row in shown if row["repeat_of"]]
    before, after = ([last[one[i]["id"]]["plausibility"] for one in twice] for i in (0, 1))
    kappa = cohen_kappa_score(before, after, labels=range(1, 6), weights="quadratic")
    assert told["intra_rater"]["plausibility"]["all"]["kappa"] == pytest.approx(kappa)
    raters = sorted({row["rater"] for row in first})
    sides = [
        {row["ecg"]: last[row["id"]]["source"] for row in first if row["rater"] == rater}
        for rater in raters
    ]
    both = sorted(sides[0])
    kappa = cohen_kappa_score(*([side[ecg] for ecg in both] for side in sides))
    (between,) = told["inter_rater"]["source"]["pairs"]
    assert between["kappa"] == pytest.approx(kappa)
    assert (between["n"], told["n"]["answers"]) == (40, 100)


def test_defects_are_mapped_by_lead_and_second(engine: sa.Engine) -> None:
    mark = {"kind": "qrs", "lead": "V2", "time_s": 9.99}

    def judge(source, label, rng):
        return single(defects=[mark, mark] if source != "real" else [])

    told = report.figures(rated(engine, 1, judge))["defects"]
    placed = np.array(told["fake-ldm 0.0.7"]["map"]["qrs"])
    assert placed[7, 9] == placed.sum() == 40
    assert told["fake-ldm 0.0.7"]["kinds"]["qrs"] == {"n": 20, "share": 1.0}
    assert np.sum([table for table in told["real"]["map"].values()]) == 0


def test_raters_who_guess_are_at_chance_and_those_who_know_are_not() -> None:
    def said(p: float, seed: int) -> list[Said]:
        rng = np.random.default_rng(seed)
        out = []
        for i in range(200):
            generated = i % 2 == 0
            out.append(Said(f"{i}", generated, bool(generated == (rng.random() < p)), 1))
        return out

    guess = detection.detection(said(0.5, 1))
    low, high = guess["accuracy"]["interval"]
    assert (
        low < 0.5 < high and guess["d_prime"]["interval"][0] < 0 < guess["d_prime"]["interval"][1]
    )
    know = detection.detection(said(0.9, 1))
    assert know["accuracy"]["interval"][0] > 0.8 and know["d_prime"]["interval"][0] > 1.5
    perfect = detection.detection(said(1.0, 1))
    assert perfect["accuracy"]["value"] == 1 and math.isfinite(perfect["d_prime"]["value"])


def test_an_interval_covers_what_it_should() -> None:
    """Of 60 studies of ECGs that are told apart in 70% of cases, most intervals hold 0.7."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        right = rng.random(80) < 0.7
        said = [Said(f"{i}", i < 40, bool((i < 40) == right[i]), 1) for i in range(80)]
        low, high = detection.detection(said)["accuracy"]["interval"]
        held += low <= 0.7 <= high
    assert held >= 51


def test_who_rated_is_said_and_a_program_is_no_person(engine: sa.Engine) -> None:
    found = report.figures(rated(engine, 1))
    assert found["who"] == "simulated raters only: no person rated"
    page = report_page.page(found)
    assert "Answered by simulated raters only: no person rated." in page
    assert ">simulated<" in page and ">invited<" not in page


def test_the_page_is_whole_and_brings_nothing_from_elsewhere(engine: sa.Engine) -> None:
    name = "<script>alert(1)</script> & more"
    page = report_page.page(report.figures(rated(engine, name=name)))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "style=" not in page and "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    drawn = page.split("<svg ")[1:]
    assert len(drawn) >= 6
    for one in drawn:
        ElementTree.fromstring(f"<svg {one.split('</svg>')[0]}</svg>")
    for words in ("d′", "Krippendorff", "Plausibility", "Defects", "hidden repeats"):
        assert words in page


def test_the_report_as_csv_holds_every_figure(engine: sa.Engine) -> None:
    found = report.figures(rated(engine, name="=1+1"))
    lines = dict(csv.reader(io.StringIO(report.as_csv(found))))
    assert (
        float(lines["detection/all/accuracy/value"])
        == found["detection"]["all"]["accuracy"]["value"]
    )
    assert lines["study/name"] == "'=1+1", "a spreadsheet would compute it"


def test_pairs_say_how_often_each_source_was_preferred(engine: sa.Engine) -> None:
    made = study(engine, mode="pairs", real=20, generated={"ldm": 20}, repeats=0.25)
    rater, _ = studies.invite(engine, made, "Program", True)
    with engine.connect() as connection:
        source = {row.id: row.source for row in connection.execute(sa.select(export.ITEMS))}
    n = Counter()
    for one in shown_to(engine, rater):
        kinds = source[one["item"]] == "real", source[one["other"]] == "real"
        better = "neither" if kinds[0] == kinds[1] else ("first" if kinds[0] else "second")
        n[better != "neither" and one["repeat_of"] is None] += 1
        answers.keep(engine, rater.id, given(one["id"], pair(better=better)))
    studies.close(engine, made.id)
    found = report.figures(export.of(engine, studies.find(engine, made.id)))
    (preferred,) = found["preferred"]
    assert (preferred["source"], preferred["n"]) == ("real", n[True])
    assert preferred["share"]["value"] == 1.0
    repeats = found["intra_rater"]["better"]["all"]
    assert repeats["n"] == repeats["same"] == 5, "with the sides the other way round"
    assert "Which is better?" in report_page.page(found)


def test_an_undone_answer_does_not_count(engine: sa.Engine) -> None:
    made = study(engine)
    rater, _ = studies.invite(engine, made, "Program", True)
    rate(engine, rater, simulated)
    first = shown_to(engine, rater)[0]["id"]
    answers.keep(engine, rater.id, given(first, None, based_on=1))
    studies.close(engine, made.id)
    found = export.of(engine, studies.find(engine, made.id))
    assert len(found.answers) == 23
    assert report.figures(found)["n"]["answers"] == 21


def test_a_report_of_nothing_is_a_page_too(engine: sa.Engine) -> None:
    made = study(engine)
    studies.close(engine, made.id)
    found = report.figures(export.of(engine, studies.find(engine, made.id)))
    assert "nobody" in report_page.page(found)


def test_a_heat_map_of_nothing_is_white() -> None:
    assert plots.SHADES[0] in plots.heat(["I"], [[0, 0]], "none", 0)
    assert plots.SHADES[-1] in plots.heat(["I"], [[0, 7]], "some", 7)
