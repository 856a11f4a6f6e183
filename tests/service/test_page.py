"""The web page, driven in a real browser against the running service and its real model."""

import io
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from tests.service.browser import DESK, EXAMPLES, INDEX, PHONE, fits, visiting

NAME = "Doe-Jane-1970"  # stands for a file name that gives a patient away


@pytest.fixture
def visit(browser, server_url, request):
    with visiting(browser, server_url, getattr(request, "param", DESK)) as visit:
        yield visit


phone = pytest.mark.parametrize("visit", [PHONE], indirect=True)
both_widths = pytest.mark.parametrize("visit", [DESK, PHONE], indirect=True, ids=["1280", "390"])


def an_example(name):
    """mV [time, lead] and the lead names."""
    lines = (EXAMPLES / name).read_text().splitlines()
    return np.loadtxt(lines[1:], delimiter=",", ndmin=2), lines[0].split(",")


def csv(sig, leads):
    rows = [",".join(f"{v:.3f}" for v in row) for row in sig]
    return "\n".join([",".join(leads), *rows]).encode()


def a_long_csv():
    """70 s of lead II: sinus rhythm but for 10 s of atrial fibrillation and 10 s of nothing."""
    normal, leads = an_example("normal-1.csv")
    normal = normal[:, [leads.index("II")]]
    fibrillating, _ = an_example("afib-lead-ii.csv")
    parts = [normal, normal, fibrillating, normal, np.zeros_like(normal), normal, normal]
    return csv(np.concatenate(parts), ["II"])


def a_wfdb_record(name):
    """The header and the signal file of an example, format 16 at 1000/mV."""
    sig, leads = an_example("normal-1.csv")
    lines = [f"{name} {len(leads)} 100 {len(sig)}"]
    lines += [f"{name}.dat 16 1000/mV 16 0 0 0 0 {lead}" for lead in leads]
    samples = np.round(sig * 1000).astype("<i2").tobytes()
    return [(f"{name}.hea", "\n".join(lines).encode()), (f"{name}.dat", samples)]


@both_widths
def test_an_example_is_a_click_away(visit):
    page = visit.page
    with page.expect_response("**/classify?*") as answered:
        visit.example("Atrial fibrillation")
    answer = answered.value.json()
    (result,) = answer["results"]
    substrate = result["atrial_substrate"]
    assert visit.text("#verdict").lower() == substrate["status"]
    said = float(visit.text("#probability").strip("<>"))
    assert said == pytest.approx(substrate["probability"], abs=0.011)
    side = "at or above" if substrate["status"] == "abnormal" else "below"
    label = page.locator(".scale").get_attribute("aria-label")
    assert f"{side} the threshold {substrate['threshold']:.2f}" in label
    assert "25 mm/s" in page.locator("#paper img").get_attribute("alt")
    assert "atrial fibrillation (AFIB)" in visit.text(".source")
    assert "By these labels its atrial substrate is abnormal" in visit.text(".source")
    assert answer["model"]["version"] in visit.text(".model")
    assert answer["request_id"] in visit.text(".model")
    assert fits(page)


def test_the_model_finds_what_the_examples_are(visit):
    visit.example("Normal ECG")
    assert visit.text("#verdict") == "Normal"
    visit.example("Atrial fibrillation")
    assert visit.text("#verdict") == "Abnormal"
    assert "AFIB" in visit.text("#statements > table")
    visit.example("Atrial fibrillation, lead II alone")
    assert visit.text("#verdict") == "Abnormal"
    assert "Lead II;" in visit.text(".summary")


def test_every_statement_is_listed_and_those_present_first(visit):
    page = visit.page
    with page.expect_response("**/classify?*") as answered:
        visit.example("Left and right atrial enlargement")
    said = answered.value.json()["results"][0]["statements"]
    present = sorted((s for s in said if s["present"]), key=lambda s: -s["probability"])
    shown = page.locator("#statements > table tbody .code").all_inner_texts()
    assert shown == [s["code"] for s in present]
    rest = page.locator("#statements details")
    assert not rest.locator("table").is_visible()
    rest.locator("summary").click()
    assert rest.locator("tbody tr").count() == len(said) - len(present)


def test_the_examples_are_attributed(visit):
    text = visit.text("#attribution")
    for words in ("PTB-XL 1.0.3", "Wagner", "PhysioNet", "10.1038/s41597-020-0495-6", "CC BY 4.0"):
        assert words in text
    offered = [example for example in INDEX["examples"] if not example.get("comparison_only")]
    assert visit.page.locator("#examples button").count() == len(offered) == 5


def test_a_csv_is_asked_for_its_fs_and_its_name_stays_here(visit):
    page = visit.page
    sig, leads = an_example("normal-2.csv")
    visit.choose((f"{NAME}.csv", csv(sig * 1000, leads)))
    assert page.get_by_label("Sampling frequency").evaluate("e => e === document.activeElement")
    assert visit.posts("/classify") == []
    visit.say(100, "uV")
    visit.printed()
    assert NAME in visit.text(".source")
    ((_, url, _),) = visit.posts("/classify")
    assert parse_qs(urlsplit(url).query) == {"fs": ["100"], "units": ["uV"]}
    for _, url, body in visit.requests:
        assert NAME not in url
        assert NAME.encode() not in (body or b"")
    assert visit.text("#quality") == "Acceptable"


def test_the_same_samples_get_the_same_answer_from_every_layout(visit):
    visit.example("Normal ECG")
    expected = visit.text("#probability")
    visit.choose(*a_wfdb_record("record"))
    visit.printed()
    assert "2 files" in visit.text(".source")
    assert visit.text("#probability") == expected
    sig, leads = an_example("normal-1.csv")
    body = {"sig": sig.T.tolist(), "fs": 100, "leads": leads, "units": "mV", "record_id": "a-7"}
    visit.choose(("record.json", json.dumps(body).encode()))
    visit.printed()
    assert visit.text("#probability") == expected


def test_an_array_without_leads_is_asked_for_them(visit):
    visit.refusals = 1
    sig, leads = an_example("normal-1.csv")
    packed = io.BytesIO()
    np.savez(packed, data=np.stack([sig, sig, sig]).astype(np.float32))
    visit.choose(("set.npz", packed.getvalue()))
    visit.page.get_by_label("Leads, in").fill(",".join(leads))
    visit.say(100)
    visit.printed()
    assert visit.page.get_by_label("Record (of 3)").locator("option").count() == 3


def test_several_records_have_a_picker(visit):
    page = visit.page
    files = [(f"{i}.csv", (EXAMPLES / name).read_bytes()) for i, name in
             enumerate(["normal-1.csv", "afib.csv"])]  # fmt: skip
    visit.choose(*files, fs=100)
    visit.printed()
    assert visit.text("#verdict") == "Normal"
    picker = page.get_by_label("Record (of 2)")
    assert "abnormal" in picker.locator("option").nth(1).inner_text()
    with page.expect_response("**/print?*record=1*"):
        picker.select_option("1")
    assert visit.text("#verdict") == "Abnormal"
    assert page.get_by_label("Record (of 2)").evaluate("e => e === document.activeElement")


@both_widths
def test_a_long_record_shows_its_segments_and_prints_each(visit):
    page = visit.page
    visit.choose(("holter.csv", a_long_csv()), fs=100)
    visit.printed()
    assert visit.text("#verdict") == "Abnormal"
    assert re.search("of 7 segments", visit.text("#segments"))
    rows = page.locator(".segment-list tbody tr")
    assert rows.count() == 7
    assert "reached" in rows.nth(2).inner_text()
    assert "not answered" in rows.nth(4).inner_text()
    with page.expect_response("**/print?*start_s=20*"):
        rows.nth(2).get_by_role("button").click()
    page.get_by_text("Print, 0:20 to 0:30 of 1:10").wait_for()
    assert rows.nth(2).get_by_role("button").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Later").click()
    page.get_by_text("Print, 0:30 to 0:40 of 1:10").wait_for()
    box = page.locator(".timeline").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.99, box["y"] + box["height"] / 2)
    page.get_by_text("Print, 1:00 to 1:10 of 1:10").wait_for()
    assert page.get_by_role("button", name="Later").is_disabled()
    assert fits(page)


@both_widths
def test_what_moved_the_probability_is_a_click_away(visit):
    page = visit.page
    visit.example("Atrial fibrillation")
    plain = page.locator("#paper img").get_attribute("src")
    assert not page.locator("#explained").is_visible()
    button = page.get_by_role("button", name="Show what moved it")
    with page.expect_response(re.compile("/print.*explain=1")):
        button.click()
    page.locator("#explained").wait_for()
    words = visit.text("#explained")
    assert re.search(r"raised the atrial probability of 0 to 10 s lies in \w+ \(\d+%\)", words)
    assert "sensitive to, not what causes the finding" in words
    assert "darker" in page.locator("#paper img").get_attribute("alt")
    assert page.locator("#paper img").get_attribute("src") != plain
    assert button.get_attribute("aria-pressed") == "true"
    assert fits(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save SVG").click()
    assert b"data-shaded" in Path(saved.value.path()).read_bytes()
    with page.expect_response("**/print?*"):
        button.click()
    page.locator("#explained").wait_for(state="hidden")
    assert button.get_attribute("aria-pressed") == "false"


def test_of_a_long_record_what_moved_the_deciding_segment_is_shown(visit):
    page = visit.page
    visit.choose(("holter.csv", a_long_csv()), fs=100)
    visit.printed()
    page.get_by_role("button", name="Show what moved it").click()
    page.get_by_text("Print, 0:20 to 0:30 of 1:10").wait_for()
    page.get_by_text("probability of 20 to 30 s").wait_for()
    page.get_by_role("button", name="Later").click()
    page.get_by_text("What lowered the atrial probability of 30 to 40 s").wait_for()
    page.get_by_role("button", name="Later").click()
    page.get_by_text("The model gave no answer here").wait_for()


def test_an_unusable_record_is_not_answered_and_says_why(visit):
    visit.choose(("flat.csv", csv(np.full((1000, 1), 0.1), ["V1"])), fs=100)
    visit.printed()
    assert visit.text("#verdict") == "No answer"
    assert "Unusable" in visit.text("#quality")
    assert "V1" in visit.text(".reasons")
    assert "None of the" in visit.text("#statements")
    assert visit.page.locator(".scale").count() == 0
    assert visit.page.locator("#explain").count() == 0


@both_widths
def test_a_refusal_is_shown_and_takes_the_old_answer_away(visit):
    visit.refusals = 1
    visit.example("Normal ECG")
    with visit.page.expect_response("**/classify") as refused:
        visit.choose(("noise.bin", bytes(range(256))))
    problem = refused.value.json()
    shown = visit.text("#problem .problem")
    for key in ("title", "detail", "request_id"):
        assert problem[key] in shown
    assert visit.page.locator("#verdict").count() == 0
    assert visit.page.locator("#problem").get_attribute("role") == "alert"
    assert fits(visit.page)
    visit.example("Normal ECG")
    assert visit.text("#problem") == ""


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(visit):
    page = visit.page
    held = []
    page.route("**/classify?*", lambda route: held.append(route), times=1)
    first = page.locator("#examples button").first
    with page.expect_request("**/classify?*"):
        first.click()
    visit.example("Atrial fibrillation")
    held[0].abort()
    page.wait_for_timeout(200)
    assert visit.text("#verdict") == "Abnormal"
    assert visit.text("#problem") == ""


def test_a_service_that_cannot_be_reached_is_said(visit):
    visit.refusals = 1
    visit.page.route("**/classify?*", lambda route: route.abort())
    visit.page.locator("#examples button").first.click()
    visit.page.get_by_text("could not be reached").wait_for()


def test_files_can_be_dropped_anywhere(visit):
    page = visit.page
    transfer = visit.carried("dropped.csv", (EXAMPLES / "afib-lead-ii.csv").read_text())
    page.dispatch_event("footer", "dragenter", {"dataTransfer": transfer})
    assert page.locator("#overlay").is_visible()
    page.dispatch_event("footer", "drop", {"dataTransfer": transfer})
    assert not page.locator("#overlay").is_visible()
    visit.say(100)
    visit.printed()
    assert "dropped.csv" in visit.text(".source")
    assert "Lead II;" in visit.text(".summary")


def test_the_keyboard_is_enough(visit):
    page = visit.page

    def tab_to(selector, limit=40):
        for _ in range(limit):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement?.matches(s)", selector):
                shown = page.locator("#files:focus + label, :focus:not(#files)")
                outline = shown.evaluate("e => getComputedStyle(e).outlineStyle")
                assert outline == "solid", f"{selector} shows no focus"
                return
        raise AssertionError(f"{selector} cannot be reached")

    tab_to(".skip")
    tab_to("#files")
    tab_to("#examples li:nth-child(3) button")
    page.keyboard.press("Enter")
    visit.printed()
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert visit.text("#status").startswith("Atrial substrate abnormal")
    tab_to("#explain")
    tab_to("#save-svg")
    tab_to("#paper")
    tab_to("#statements summary")
    page.keyboard.press("Enter")
    assert page.locator("#statements details table").is_visible()


def test_the_print_can_be_saved(visit):
    visit.example("Normal ECG")
    for button, start in (("Save SVG", b"<svg"), ("Save PNG", b"\x89PNG")):
        with visit.page.expect_download() as saved:
            visit.page.get_by_role("button", name=button).click()
        assert Path(saved.value.path()).read_bytes().startswith(start)


@both_widths
def test_the_research_line_is_always_in_sight(visit):
    page = visit.page
    in_sight = """() => {
        const box = document.querySelector(".research").getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight && box.height > 0;
    }"""
    assert "Research use only" in visit.text(".research")
    assert page.evaluate(in_sight)
    visit.example("Atrial fibrillation")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate(in_sight)
    assert fits(page)


def test_the_model_card_can_be_read(visit):
    card = visit.page.request.get(f"{visit.page.url}models").json()["models"][0]
    visit.page.get_by_text("About the model").click()
    text = visit.text("#cards")
    assert card["not_for"] in text
    assert all(line in text for line in card["limitations"])


def test_the_page_works_under_the_strictest_content_policy(visit):
    """The fixture sees any violation on the console."""
    page = visit.page
    assert "default-src 'none'" in page.request.get(page.url).headers["content-security-policy"]
    strict = {"content-security-policy": "default-src 'self'; img-src 'self' data: blob:"}

    def stricter(route):
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, **strict})

    page.route(page.url, stricter)
    page.reload()
    visit.example("Normal ECG")
    visit.choose(("holter.csv", a_long_csv()), fs=100)
    visit.printed()


@phone
def test_the_print_scrolls_within_itself_on_a_phone(visit):
    visit.example("Normal ECG")
    wider = "e => e.scrollWidth > e.clientWidth && e.tabIndex === 0"
    assert visit.page.locator("#paper").evaluate(wider)
