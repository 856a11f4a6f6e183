"""A long record on the page: the strip over all of it, the episodes on it, and a click for each."""

import numpy as np
import pytest

from tests.service.bodies import npz
from tests.service.browser import DESK, EXAMPLES, PHONE, fits, visiting

AF, NOTHING = (60, 90), (120, 126)  # of the 180 pieces of ten seconds


@pytest.fixture
def visit(browser, server_url, request):
    with visiting(browser, server_url, getattr(request, "param", DESK)) as visit:
        yield visit


both_widths = pytest.mark.parametrize("visit", [DESK, PHONE], indirect=True, ids=["1280", "390"])


def half_an_hour(af=AF, nothing=NOTHING):
    """Lead II: sinus rhythm, with five minutes of atrial fibrillation and one of nothing."""
    pieces = []
    for name in ("normal-1.csv", "afib.csv"):
        lines = (EXAMPLES / name).read_text().splitlines()
        row = lines[0].split(",").index("II")
        pieces.append(np.loadtxt(lines[1:], delimiter=",", ndmin=2)[:, row])
    normal, fibrillating = pieces
    chosen = [normal] * 180
    chosen[slice(*af)] = [fibrillating] * (af[1] - af[0])
    chosen[slice(*nothing)] = [0 * normal] * (nothing[1] - nothing[0])
    sig = np.rint(1000 * np.concatenate(chosen))[None].astype("<i2")
    return npz(sig=sig, fs=100, leads=np.array(["II"]), units="uV")


# Of the marks of AF, as shares of the sheet's height and width; at once, for the page may move.
MIDDLES_AND_WIDTHS = """sheet => {
  const all = sheet.getBoundingClientRect();
  return [...sheet.querySelectorAll(".day-af rect")].map(mark => {
    const box = mark.getBoundingClientRect();
    return [(box.top + box.height / 2 - all.top) / all.height, box.width / all.width];
  });
}"""


def shown(visit, body):
    visit.choose(("day.npz", body))
    visit.page.locator("#day-strip img").evaluate("e => e.decode()")
    visit.printed()


@both_widths
def test_the_burden_is_said_and_the_episode_lies_where_it_is(visit):
    page = visit.page
    shown(visit, half_an_hour())
    assert "AF 17% of 29 min analysed, 1 episode of 5 min." in visit.text("#burden")
    assert "1 min not analysed" in visit.text("#day")
    assert "Lead II, 0:30:00 in rows of 5 min" in page.locator("#day-strip img").get_attribute(
        "alt"
    )
    # Ten to fifteen minutes are the third row of five minutes, whole.
    marked = page.locator(".day-marks").evaluate(MIDDLES_AND_WIDTHS)
    (middle,) = [middle for middle, width in marked if width > 0.5]
    assert middle == pytest.approx((24 + 2 * 26 + 11) / 202, rel=0.03)
    assert page.locator(".day-none rect").count() == 1
    fill = page.locator(".day-none rect").evaluate("e => getComputedStyle(e).fill")
    assert "hatching" in fill
    assert fits(page)


@both_widths
def test_a_click_shows_the_print_of_that_time(visit):
    page = visit.page
    shown(visit, half_an_hour())
    sheet = page.locator(".day-marks")
    box = sheet.bounding_box()
    x = (52 + 900 * 0.515) / 960 * box["width"]
    y = (24 + 4 * 26 + 11) / 202 * box["height"]
    with page.expect_response("**/print?*start_s=1350*"):
        sheet.click(position={"x": x, "y": y})
    page.get_by_text("Print, 22:30 to 22:40 of 30:00").wait_for()
    mark = page.locator(".day-shown rect").bounding_box()
    now = sheet.bounding_box()
    assert 0 <= x - (mark["x"] - now["x"]) <= 30
    with page.expect_response("**/print?*start_s=600*"):
        page.locator(".episode-list").get_by_role("button").click()
    page.get_by_text("Print, 10:00 to 10:10 of 30:00").wait_for()


def test_a_record_without_fibrillation_says_so(visit):
    shown(visit, half_an_hour(af=(0, 0), nothing=(0, 0)))
    assert visit.text("#burden") == "No AF episode of 30 s or more in 30 min analysed."
    assert visit.page.locator(".episode-list").count() == 0
    assert visit.page.locator(".day-af rect").count() == 0


def test_a_short_record_has_no_strip(visit):
    visit.example("Atrial fibrillation")
    assert visit.page.locator("#day").count() == 0
    assert visit.posts("/strip") == []
