"""The rating page and the owner's in a real browser: by keyboard, interrupted, offline, twice
open."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page

from ecg.leads import LEADS
from service.rating import export, report, studies
from service.rating.studies import Rater
from service.rating.tables import ANSWERS
from service.settings import Settings
from tests.conftest import running_service
from tests.ecg import fake_generator
from tests.service.browser import chromium, fits
from tests.service.rating.made import real_npz, shown_to, study
from tests.service.rating.serving import serving

TABLET, UPRIGHT = (1024, 768), (768, 1024)
SCREENS = ((1440, 900), (1280, 720), (1180, 820), (820, 1180))
# of the drawing itself, px: its box may be wider
WIDTH = "e => e.viewBox.baseVal.width * e.getScreenCTM().a"
KEYS = {"source": "asdjkl", "label": "ynu", "plausibility": "12345"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def home(url: str) -> Iterator[str]:
    with serving(url) as home:
        yield home


@contextmanager
def opened(browser: Browser, size=(1280, 800), refusals: bool = False, **more: Any):
    """A context whose pages complain of nothing, but for refusals where these are provoked."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **more)
    context.set_default_timeout(60_000)

    def complain(message: Any) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context.on("page", lambda page: page.on("console", complain))
    context.on("page", lambda page: page.on("pageerror", lambda e: complaints.append(str(e))))
    yield context
    for page in context.pages:
        becomes(page, "sessionStorage.length === 0")  # until all is sent
        kept = "[localStorage.length, sessionStorage.length, document.cookie.length]"
        assert page.evaluate(kept) == [0, 0, 0]
    context.close()
    if refusals:
        complaints = [c for c in complaints if not c.startswith("Failed to load resource")]
    assert complaints == []


def rater_of(engine: sa.Engine, **changes: Any) -> tuple[Rater, str]:
    return studies.invite(engine, study(engine, **changes), "A program", True)


def go(context: BrowserContext, home: str, token: str) -> Page:
    page = context.new_page()
    page.goto(f"{home}/rate#{token}")
    page.locator(".paper").first.wait_for()
    return page


def answer(page: Page, rng: random.Random) -> None:
    """One ECG by keyboard: a key a question, and Enter."""
    before = page.locator("#progress").inner_text()
    for keys in KEYS.values():
        page.keyboard.press(rng.choice(keys))
    page.keyboard.press("Enter")
    becomes(page, "t => document.getElementById('progress').innerText !== t", before)
    # the next one is there, or there is none
    becomes(
        page, "!document.getElementById('form').inert || document.getElementById('main').hidden"
    )


def becomes(page: Page, true: str, given: Any = None) -> None:
    """Asked from outside: the page's policy lets nobody evaluate a text inside again and again."""
    for _ in range(400):
        if page.evaluate(true, given):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {true}")


def answers_of(engine: sa.Engine) -> list[sa.Row]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(ANSWERS).order_by(ANSWERS.c.created)))


def until(engine: sa.Engine, page: Page, n: int) -> list[sa.Row]:
    for _ in range(200):
        if len(found := answers_of(engine)) >= n:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(found)} answers, not {n}")


def at(page: Page, x_mm: float, y_mm: float) -> tuple[float, float]:
    """Where a point of the print is on the screen."""
    box = page.locator(".over").first.bounding_box()
    wide, high = (
        float(v) for v in page.locator(".over").first.get_attribute("viewBox").split()[2:]
    )
    return box["x"] + x_mm / wide * box["width"], box["y"] + y_mm / high * box["height"]


# Everything together: a study from its making to its report.


def make(page: Page, home: str, n: int) -> None:
    page.goto(f"{home}/studies")
    page.get_by_label("Name, which raters see").fill("Pilot")
    page.get_by_label("Labels, each with its weight").fill("NORM, AFIB")
    page.locator("#generators input").fill(str(n // 2))
    page.get_by_label("How many").fill(str(n - n // 2))
    content = real_npz(2 * n)
    page.set_input_files("#set", {"name": "r.npz", "mimeType": "x", "buffer": content})
    page.get_by_label("Seed").fill("5")
    page.get_by_role("button", name="Create").click()
    page.locator(".study").wait_for()


def invite(page: Page, name: str) -> str:
    page.get_by_label("Rater's name").fill(name)
    page.get_by_label("a program answers").check()
    page.get_by_role("button", name="Invite").click()
    link = page.locator(".link", has_text=name).locator("code")
    return link.inner_text()


def a_rater(link: str, seed: int, interrupted_at: int | None, failures: list) -> None:
    """In a browser of its own, by keyboard until all is done; once closed and opened anew."""
    try:
        rng = random.Random(seed)
        with chromium() as browser:
            stops = [interrupted_at, None] if interrupted_at else [None]
            for stop in stops:
                with opened(browser) as context:
                    page = context.new_page()
                    page.goto(link)
                    page.locator(".paper, #notice h1").first.wait_for()
                    n = 0
                    while "All done" not in page.locator("#notice").inner_text():
                        if n == stop:
                            page.keyboard.press("1")  # what is half answered is not given
                            break
                        answer(page, rng)
                        n += 1
                        page.locator(".paper:visible, #notice h1:visible").first.wait_for()
    except BaseException as error:  # raised where the test is
        failures.append(error)


def from_making_to_report(browser: Browser, home: str, n: int, tmp_path: Path) -> dict[str, Any]:
    """The report, which is that of its export, computed again."""
    with opened(browser) as context:
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        make(page, home, n)
        links = [invite(page, name) for name in ("Program 1", "Program 2")]
        failures: list[BaseException] = []
        raters = [
            threading.Thread(target=a_rater, args=(link, i, (None, n // 2)[i], failures))
            for i, link in enumerate(links)
        ]
        for rater in raters:
            rater.start()
        for rater in raters:
            rater.join()
        assert not failures, failures
        page.reload()
        total = n + round(0.1 * n)
        page.get_by_text(f"{total} of {total}").first.wait_for()
        assert page.get_by_text(f"{total} of {total}").count() == 2
        page.get_by_role("button", name="Close the study").click()
        page.locator(".state.closed").wait_for()
        with page.expect_download() as downloaded:
            page.get_by_role("link", name="Export").click()
        with page.expect_download() as told:
            page.get_by_role("link", name="JSON").click()
        with context.expect_page() as shown:
            page.get_by_role("link", name="Report", exact=True).click()
        shown.value.get_by_text("Answered by simulated raters only").wait_for()
        assert shown.value.locator("svg").count() >= 5
        archive = zipfile.ZipFile(downloaded.value.path())
        archive.extractall(tmp_path / "export")
        found = json.loads(Path(told.value.path()).read_text())
    again = report.figures(export.read(tmp_path / "export"))
    assert found == json.loads(json.dumps(again))
    rows = list(csv.DictReader(io.StringIO(archive.read("answers.csv").decode())))
    assert len(rows) == 2 * total
    assert len({row["presentation"] for row in rows}) == 2 * total
    return found


def test_a_study_is_made_rated_by_two_at_once_closed_and_reported(
    browser: Browser, home: str, tmp_path: Path
) -> None:
    found = from_making_to_report(browser, home, 6, tmp_path)
    assert found["n"] == {"ecgs": 6, "answers": 14, "first": 12}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_raters_answer_forty_ecgs_each_of_a_real_service(
    browser: Browser, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "prednet").symlink_to(Settings().models_store / "prednet")
    fake_generator.store(store / "ldm")
    settings = {
        "ECG_MODELS_STORE": str(store),
        "ECG_WORKERS": "2",
        "ECG_AUDIT": "on",
        "ECG_DATABASE_URL": f"sqlite:///{tmp_path}/state.sqlite",
    }
    with running_service(tmp_path, **settings) as service:
        found = from_making_to_report(browser, service.url, 40, tmp_path)
    assert found["n"] == {"ecgs": 40, "answers": 88, "first": 80}


# What a rater can do.


def test_an_answer_is_kept_as_it_was_given(browser: Browser, home: str, engine: sa.Engine) -> None:
    _, token = rater_of(engine)
    with opened(browser) as context:
        page = go(context, home, token)
        assert page.locator("#label").inner_text().startswith("Label: ")
        page.keyboard.press("k")
        page.keyboard.press("n")
        page.keyboard.press("2")
        page.keyboard.press("q")  # QRS, twice, then noise without a place
        page.mouse.click(*at(page, 20 + 62.5 + 25, 30))  # aVR, 1 s into its strip
        page.mouse.click(*at(page, 20 + 250 * 0.72, 150))  # the long strip
        assert page.locator(".mark").count() == 2
        page.keyboard.press("o")
        page.keyboard.press("x")
        page.keyboard.press("x")  # and back
        page.keyboard.press("/")
        page.keyboard.type("wide, yes?")
        page.keyboard.press("Escape")
        page.keyboard.press("Enter")
        (row,) = until(engine, page, 1)
    given = json.loads(row.given)
    first, second, third = given["defects"]
    assert (first["kind"], first["lead"]) == ("qrs", "aVR")
    assert first["time_s"] == pytest.approx(3.5, abs=0.03)
    assert (second["lead"], second["time_s"]) == ("II", pytest.approx(7.2, abs=0.03))
    assert third == {"kind": "noise", "lead": None, "time_s": None}
    assert {k: given[k] for k in ("source", "confidence", "label", "plausibility", "comment")} == {
        "source": "generated", "confidence": 2, "label": "no", "plausibility": 2,
        "comment": "wide, yes?",
    }  # fmt: skip
    assert 0 < given["seconds"] < 60


def test_undo_brings_back_what_was_said(browser: Browser, home: str, engine: sa.Engine) -> None:
    rater, token = rater_of(engine)
    with opened(browser) as context:
        page = go(context, home, token)
        for key in ("a", "y", "5", "p", "Enter"):
            page.keyboard.press(key)
        page.get_by_text("1 of 22").wait_for()
        until(engine, page, 1)
        page.keyboard.press("Backspace")
        page.get_by_text("0 of 22").wait_for()
        pressed = page.locator(".choice[aria-pressed=true] kbd").all_inner_texts()
        assert pressed == ["A", "Y", "5", "P"]
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.get_by_text("1 of 22").wait_for()
        rows = until(engine, page, 3)
    assert [row.undone for row in rows] == [False, True, False]
    assert len({row.presentation for row in rows}) == 1
    stands = studies.presentation(engine, rater.id, 0).stands.answer
    assert stands["plausibility"] == 1 and stands["source"] == "real"


def test_nothing_goes_on_before_all_is_answered(
    browser: Browser, home: str, engine: sa.Engine
) -> None:
    _, token = rater_of(engine)
    with opened(browser) as context:
        page = go(context, home, token)
        page.keyboard.press("a")
        page.keyboard.press("Enter")
        assert "Still to answer: Does it show the label?" in page.locator("#measured").inner_text()
        assert page.locator("#progress").inner_text() == "0 of 22"
        assert answers_of(engine) == []


def test_what_is_typed_before_the_next_ecg_is_there_is_of_neither(
    browser: Browser, home: str, engine: sa.Engine
) -> None:
    _, token = rater_of(engine)
    with opened(browser) as context:
        page = go(context, home, token)
        # the second is asked for already; now its answer does not come
        page.route("**/rate/ecg?position=*", lambda route: None)
        for _ in range(2):  # the first at once, and perhaps the second, which had come
            for key in ("a", "y", "5", "Enter"):
                page.keyboard.press(key)
        page.locator("#form[inert]").wait_for(state="attached")
        n = len(until(engine, page, 1))
        for key in ("l", "n", "1", "Enter", "Enter"):
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        rows = answers_of(engine)
        assert len(rows) in (n, n + 1) and all(row.revision == 1 for row in rows)
        page.unroute("**/rate/ecg?position=*")


def test_answers_that_cannot_be_sent_wait_visibly_and_come_once(
    browser: Browser, home: str, engine: sa.Engine
) -> None:
    _, token = rater_of(engine)
    rng = random.Random(1)
    with opened(browser, refusals=True) as context:
        page = go(context, home, token)
        lost = []

        def lose(route: Any) -> None:
            """It arrives, but its answer does not."""
            lost.append(route.request.post_data_json["id"])
            route.fetch()
            route.abort()

        page.route("**/rate/answer", lose)
        answer(page, rng)
        page.get_by_text("1 answer waits to be sent: no connection").wait_for()
        answer(page, rng)
        page.get_by_text("2 answers wait to be sent").wait_for()
        assert len(answers_of(engine)) == 1
        page.unroute("**/rate/answer")
        page.locator("#waiting").wait_for(state="hidden")
        rows = until(engine, page, 2)
    assert len(rows) == 2 and rows[0].id == lost[0]
    assert len({row.presentation for row in rows}) == 2


def test_two_tabs_mix_nothing(browser: Browser, home: str, engine: sa.Engine) -> None:
    rater, token = rater_of(engine)
    with opened(browser) as context:
        one, other = go(context, home, token), go(context, home, token)
        for key in ("a", "y", "5", "Enter"):
            one.keyboard.press(key)
        until(engine, one, 1)
        for key in ("l", "n", "1", "Enter"):  # of the same ECG, which this tab still shows
            other.keyboard.press(key)
        other.get_by_text("answered twice").wait_for()
        until(engine, one, 2)
        for key in ("l", "n", "1", "Enter"):
            other.keyboard.press(key)
        rows = until(engine, one, 3)
    assert studies.presentation(engine, rater.id, 0).stands.answer["plausibility"] == 5
    assert studies.progress(engine, rater.id).answered == [0, 1]
    assert len({row.presentation for row in rows}) == 2


def test_calipers_measure_on_any_size(browser: Browser, home: str, engine: sa.Engine) -> None:
    _, token = rater_of(engine)
    with opened(browser) as context:
        page = go(context, home, token)
        for zooms in range(2):
            page.mouse.move(*at(page, 40, 30))
            page.mouse.down()
            page.mouse.move(*at(page, 50, 25), steps=4)
            page.mouse.move(*at(page, 60, 20), steps=4)
            page.mouse.up()
            said = page.locator("#measured").inner_text()
            found = re.fullmatch(r"(\d+) ms, (\d+)/min; (\d\.\d\d) mV", said)
            assert found, said
            assert abs(int(found[1]) - 800) <= 15 and abs(int(found[2]) - 75) <= 2
            assert abs(float(found[3]) - 1.0) <= 0.04
            if not zooms:
                wide = page.locator(".sheet").bounding_box()["width"]
                page.keyboard.press("Escape")
                assert page.locator("#measured").inner_text() == ""
                page.keyboard.press("+")
                page.locator(".paper").evaluate("e => { e.scrollLeft = 0; }")
                assert page.locator(".sheet").bounding_box()["width"] > 1.4 * wide


@pytest.mark.parametrize("mode", ["single", "pairs"])
@pytest.mark.parametrize("size", SCREENS, ids=[f"{w}x{h}" for w, h in SCREENS])
def test_all_of_it_is_on_the_screen_without_scrolling(
    browser: Browser, home: str, engine: sa.Engine, mode: str, size: tuple[int, int]
) -> None:
    """Prints and questions; the prints as large as then fits, whole, and none behind another."""
    _, token = rater_of(engine, mode=mode)
    with opened(browser, size) as context:
        page = go(context, home, token)
        assert fits(page)
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        boxes = [one.bounding_box() for one in page.locator(".paper").all()]
        assert len(boxes) == (2 if mode == "pairs" else 1)
        for paper in page.locator(".paper").all():
            assert paper.evaluate("e => e.scrollHeight <= e.clientHeight + 1")
            across = paper.locator(".sheet > svg").first.evaluate(WIDTH)
            assert across >= 560, "large enough to read"
        if mode == "pairs" and size[0] < size[1]:
            assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"], "one above the other"
        save = page.get_by_role("button", name="Save and next").bounding_box()
        assert save["y"] + save["height"] <= size[1]


@pytest.mark.parametrize("size", [TABLET, UPRIGHT], ids=["1024x768", "768x1024"])
def test_a_tablet_answers_by_touch(
    browser: Browser, home: str, engine: sa.Engine, size: tuple[int, int]
) -> None:
    _, token = rater_of(engine)
    with opened(browser, size, has_touch=True) as context:
        page = go(context, home, token)
        assert fits(page)
        for name in (re.compile("^Real.*certain"), re.compile("^Unsure"), re.compile("^4"),
                     re.compile("^ST.T")):  # fmt: skip
            page.get_by_role("button", name=name).tap()
        page.touchscreen.tap(*at(page, 100, 30))
        assert page.locator(".mark").count() == 1
        page.get_by_role("button", name="Save and next").tap()
        (row,) = until(engine, page, 1)
        assert page.locator(".choice").evaluate_all("all => all.every(e => e.offsetHeight >= 32)")
        inside = "all => all.every(e => e.scrollWidth <= e.clientWidth)"
        assert page.locator(".choice").evaluate_all(inside)
        ends = page.get_by_role("button", name="Save and next").bounding_box()
        assert ends["y"] + ends["height"] <= size[1], "without scrolling"
    (mark,) = json.loads(row.given)["defects"]
    assert mark["kind"] == "st_t" and mark["lead"] in LEADS


def test_pairs_are_compared_by_keyboard(browser: Browser, home: str, engine: sa.Engine) -> None:
    rater, token = rater_of(engine, mode="pairs")
    with opened(browser) as context:
        page = go(context, home, token)
        assert page.locator(".paper").count() == 2
        for key in ("k", "Enter"):
            page.keyboard.press(key)
        (row,) = until(engine, page, 1)
        page.keyboard.press("?")
        assert "no difference" in page.locator("#help").inner_text()
    given = json.loads(row.given)
    assert (given["better"], given["confidence"]) == ("second", 2)
    assert shown_to(engine, rater)[0]["id"] == row.presentation


def test_a_bad_link_and_a_closed_study_are_said(
    browser: Browser, home: str, engine: sa.Engine
) -> None:
    rater, token = rater_of(engine)
    with opened(browser, refusals=True) as context:
        page = context.new_page()
        page.goto(f"{home}/rate")
        page.get_by_text("Open your personal link").wait_for()
        page.goto(f"{home}/rate#{token[:-4]}abcd")
        page.get_by_text("does not open a study").wait_for()
        page = go(context, home, token)
        studies.close(engine, rater.study)
        for key in ("a", "y", "5", "Enter"):
            page.keyboard.press(key)
        page.get_by_text("This study is closed").wait_for()
    assert answers_of(engine) == []
