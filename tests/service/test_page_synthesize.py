"""The page's second view, in a real browser against a running service with a generator of a few
kilobytes: what is tested is the page, not the ECGs."""

import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from ecg.draw import SYNTHETIC, print_svg
from ecg.formats import File, Hints, read
from tests.service.browser import DESK, EXAMPLES, INDEX, PHONE, fits, focused, visiting

WIDE = (1720, 950)
# the page's policy lets nobody fetch a picture's URL
KEEP_BLOBS = """() => {
    const make = URL.createObjectURL.bind(URL);
    window.blobs = {};
    URL.createObjectURL = (blob) => {
        const url = make(blob);
        window.blobs[url] = blob;
        return url;
    };
}"""


@pytest.fixture
def visit(browser, fake_generator_url, request):
    size = getattr(request, "param", DESK)
    with visiting(browser, f"{fake_generator_url}/#synthesize", size) as visit:
        visit.page.locator("#labels").wait_for()
        visit.page.evaluate(KEEP_BLOBS)
        yield visit


both_widths = pytest.mark.parametrize("visit", [DESK, PHONE], indirect=True, ids=["1280", "390"])


def generate(visit, *statements, **fields):
    """Fills the form anew with what is named, and waits for the print."""
    fill(visit, *statements, **fields)
    with visit.page.expect_response("**/synthesize") as answered:
        visit.page.get_by_role("button", name="Generate").click()
    answer = answered.value.json()
    drawn(visit, "#synthetic-paper")
    return answer


def fill(visit, *statements, **fields):
    page = visit.page
    page.locator("#labels").evaluate("form => form.reset()")
    for box in page.locator("#statement-list input").all():
        box.set_checked(box.get_attribute("value") in statements)
    for name, value in fields.items():
        field = page.locator(f"#labels [name={name}]")
        if name in ("guidance_scale", "num_steps"):
            page.locator("#labels details").evaluate("e => e.open = true")
        if isinstance(value, bool):
            field.set_checked(value)
        elif field.evaluate("e => e.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(str(value))


def drawn(visit, paper):
    picture = visit.page.locator(f"{paper}:not(.stale) img")
    picture.wait_for()
    picture.evaluate("e => e.decode()")
    return picture


def svg_of(visit, paper):
    """The print that is on the paper, as text."""
    drawn(visit, paper)
    return visit.page.locator(f"{paper} img").evaluate("e => window.blobs[e.src].text()")


def download(visit, name):
    with visit.page.expect_download() as saved:
        visit.page.locator("#synthesize-view").get_by_role("button", name=name, exact=True).click()
    return saved.value.suggested_filename, Path(saved.value.path()).read_bytes()


def request_of(visit, which=-1):
    return json.loads(visit.posts("/synthesize")[which][2])


@both_widths
def test_an_ecg_is_asked_for_and_shown_as_synthetic_beside_a_real_one(visit):
    answer = generate(visit, "AFIB", age=63, sex="female", heart_rate=80, seed=7)
    sent = request_of(visit)
    assert sent == {
        **{"statements": ["AFIB"], "atrial_substrate": None, "sex": "female"},
        **{"n": 1, "age": 63, "heart_rate": 80, "seed": 7},
    }
    assert answer["seed"] == 7
    assert SYNTHETIC in svg_of(visit, "#synthetic-paper")
    picture = visit.page.locator("#synthetic-paper img").get_attribute("alt")
    assert "Synthetic" in picture
    assert "25 mm/s 10 mm/mV" in picture
    text = visit.text("#synthetic")
    for words in (
        *("atrial fibrillation (AFIB)", "abnormal, as the statements imply", "age 63", "female"),
        *("80 beats a minute", "Seed 7", answer["model"]["version"], answer["request_id"]),
        *("Synthetic", "Research use only"),
    ):
        assert words in text
    assert visit.text(".tag.synthetic") == "Synthetic"
    drawn(visit, "#real-paper")
    assert fits(visit.page)


def test_that_there_are_no_other_statements_can_be_ticked(visit):
    page = visit.page
    assert page.get_by_label("No other statement").is_disabled()
    answer = generate(visit, "AFIB", complete=True, seed=7)
    assert request_of(visit)["complete"] is True
    assert answer["labels"]["complete"] is True
    assert "(AFIB); no other statement" in visit.text("#synthetic .source")
    page.get_by_role("button", name="Remove AFIB").click()
    with page.expect_response("**/synthesize"):
        page.get_by_role("button", name="Generate").click()
    assert "complete" not in request_of(visit)


@pytest.mark.parametrize(
    ("asked", "record", "alike"),
    [
        ({"statements": ["NORM"]}, "PTB-XL 129", "Labelled NORM too."),
        ({"statements": ["AFIB"]}, "PTB-XL 1624", "Labelled AFIB too."),
        ({"statements": ["LVH"]}, "PTB-XL 16045", "Labelled LVH too."),
        ({"statements": ["SR", "LVH"]}, "PTB-XL 16045", "Labelled LVH, SR too."),
        ({"statements": ["AFIB", "LVOLT"]}, "PTB-XL 1624", "AFIB too, but not LVOLT."),
        ({"atrial_substrate": "normal"}, "PTB-XL 129", "Its atrial substrate is normal too."),
        ({"atrial_substrate": "abnormal"}, "PTB-XL", "Its atrial substrate is abnormal too."),
    ],
)
def test_the_real_example_bears_the_label(visit, asked, record, alike):
    statements = asked.get("statements", [])
    generate(visit, *statements, **{k: v for k, v in asked.items() if k != "statements"})
    beside = visit.text(".beside")
    assert record in beside
    assert alike in beside
    for words in ("Real", "not matched", "as PTB-XL labels it", "CC BY 4.0", "Wagner"):
        assert words in beside
    shown = next(e for e in INDEX["examples"] if f"{e['record']}: {e['title']}" in beside)
    csv = File((EXAMPLES / shown["file"]).read_bytes(), shown["file"])
    (real,) = read([csv], Hints(str(shown["fs"]), None, shown["units"]))
    assert svg_of(visit, "#real-paper") == print_svg(real)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"statements": ["LVOLT"]}, "is LVOLT, so none"),
        ({"statements": ["LVH"], "atrial_substrate": "abnormal"}, "LVH and abnormal"),
        ({}, "No label was asked for"),
    ],
)
def test_without_an_example_of_the_label_none_is_shown(visit, asked, says):
    statements = asked.get("statements", [])
    generate(visit, *statements, **{k: v for k, v in asked.items() if k != "statements"})
    assert says in visit.text(".beside")
    assert visit.page.locator("#real-paper").count() == 0


@both_widths
def test_several_are_stepped_through(visit):
    page = visit.page
    answer = generate(visit, "NORM", n=3, seed=11)
    assert [len(answer["sig"]), request_of(visit)["n"]] == [3, 3]
    pictures = [svg_of(visit, "#synthetic-paper")]
    for press, says in (("Next", "2 of 3"), ("Next", "3 of 3"), ("Next", "1 of 3")):
        page.get_by_role("button", name=press).click()
        page.get_by_role("heading", name=f"Generated {says}").wait_for()
        pictures.append(svg_of(visit, "#synthetic-paper"))
    assert pictures[0] == pictures[3]
    assert len(set(pictures)) == 3
    assert all(SYNTHETIC in picture for picture in pictures)
    page.get_by_label("Which ECG is shown").select_option("2")
    page.get_by_role("heading", name="Generated 3 of 3").wait_for()
    assert svg_of(visit, "#synthetic-paper") == pictures[2]
    assert len(visit.posts("/synthesize")) == 1
    assert "seed-11-3-of-3" in download(visit, "Save SVG")[0]
    assert fits(page)


def test_the_downloads_are_the_ecgs_of_the_same_seed(visit, fake_generator_url):
    answer = generate(visit, "LAO/LAE", n=2, num_steps=4, guidance_scale=2.5)
    expected = np.array(answer["sig"])
    asked = {"n": 2, "statements": ["LAO/LAE"], "num_steps": 4, "guidance_scale": 2.5}
    again = httpx.post(f"{fake_generator_url}/synthesize", json={**asked, "seed": answer["seed"]})
    assert np.abs(expected - again.json()["sig"]).max() < 1e-4
    stem = f"synthetic-LAO-LAE-seed-{answer['seed']}"

    name, content = download(visit, "JSON")
    assert (name, json.loads(content)) == (f"{stem}.json", answer)
    name, content = download(visit, "NPZ")
    assert name == f"{stem}.npz"
    with np.load(io.BytesIO(content)) as arrays:
        assert np.abs(arrays["data"].transpose(0, 2, 1) - expected).max() < 1e-4
        assert (arrays["seed"], arrays["synthetic"]) == (answer["seed"], True)
    name, content = download(visit, "CSV")
    assert name == f"{stem}.csv"
    table = np.loadtxt(io.BytesIO(content), delimiter=",")
    assert np.abs(table[:, :-1] - expected.transpose(0, 2, 1).reshape(2, -1)).max() < 1e-4
    name, content = download(visit, "WFDB")
    assert name == f"{stem}.zip"
    sigs = [record.sig for record in read([File(content)], Hints())]
    assert np.abs(np.stack(sigs) - expected).max() < 6e-4

    name, content = download(visit, "Save SVG")
    assert name == f"{stem}-1-of-2.svg"
    assert content.decode() == svg_of(visit, "#synthetic-paper")
    name, content = download(visit, "Save PNG")
    assert name == f"{stem}-1-of-2.png"
    assert content.startswith(b"\x89PNG")


def test_a_seed_can_be_used_again(visit):
    first = generate(visit, "SR")
    assert "seed" not in request_of(visit)
    visit.page.get_by_role("button", name="Use this seed again").click()
    with visit.page.expect_response("**/synthesize") as answered:
        visit.page.keyboard.press("Enter")
    again = answered.value.json()
    assert again["seed"] == first["seed"]
    assert np.abs(np.array(again["sig"]) - first["sig"]).max() < 1e-4


def test_the_form_is_filled_from_the_card(visit, fake_generator_url):
    models = httpx.get(f"{fake_generator_url}/models").json()["models"]
    card = next(model for model in models if model["task"] == "generation")
    page = visit.page
    boxes = page.locator("#statement-list input")
    codes = boxes.evaluate_all("boxes => boxes.map(box => box.value)")
    assert codes == sorted(card["statements"])
    assert "atrial fibrillation" in visit.text("#statement-list")
    for name in ("num_steps", "guidance_scale"):
        field = page.locator(f"[name={name}]")
        assert field.get_attribute("placeholder") == str(card["diffusion"][name])


@both_widths
def test_contradictory_labels_show_the_problem(visit):
    visit.refusals = 1
    generate(visit, "AFIB")
    fill(visit, "AFIB", atrial_substrate="normal")
    with visit.page.expect_response("**/synthesize") as refused:
        visit.page.get_by_role("button", name="Generate").click()
    told = refused.value.json()
    shown = visit.page.locator("#synthetic .problems .problem")
    shown.wait_for()
    assert told["detail"] in shown.inner_text()
    assert told["request_id"] in shown.inner_text()
    assert visit.page.locator("#synthetic .problems").get_attribute("role") == "alert"
    assert visit.page.locator("#synthetic-paper").count() == 0
    assert fits(visit.page)
    generate(visit, "NORM")
    assert visit.text("#synthetic .problems") == ""


def test_what_cannot_be_sent_is_said_even_where_it_is_folded_away(visit):
    page = visit.page
    fill(visit, num_steps=65)
    page.locator("#labels details").evaluate("e => e.open = false")
    page.get_by_role("button", name="Generate").click()
    assert focused(page.locator("[name=num_steps]"))
    assert visit.posts("/synthesize") == []


def test_a_service_that_cannot_be_reached_is_said(visit):
    visit.refusals = 1
    visit.page.route("**/synthesize", lambda route: route.abort())
    visit.page.get_by_role("button", name="Generate").click()
    visit.page.get_by_text("could not be reached").wait_for()


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(visit):
    page = visit.page
    held = []
    page.route("**/synthesize", lambda route: held.append(route), times=1)
    fill(visit, "NORM")
    with page.expect_request("**/synthesize"):
        page.get_by_role("button", name="Generate").click()
    assert page.locator("#synthetic").get_attribute("aria-busy") == "true"
    assert visit.text("#synthetic .status") == "Generating an ECG"
    generate(visit, "AFIB")
    held[0].abort()
    page.wait_for_timeout(200)
    assert "AFIB" in visit.text("#synthetic .source")
    assert visit.text("#synthetic .problems") == ""
    assert page.locator("#synthetic").get_attribute("aria-busy") == "false"


def test_a_generated_ecg_opens_in_the_first_view_and_stays_synthetic(visit):
    page = visit.page
    generate(visit, "AFIB", n=2, seed=5)
    page.get_by_role("button", name="Next").click()
    page.get_by_role("heading", name="Generated 2 of 2").wait_for()
    picture = svg_of(visit, "#synthetic-paper")
    with page.expect_response("**/classify") as classified:
        page.get_by_role("button", name="Open in Classify").click()
    assert classified.value.json()["results"][0]["record_id"] == "synthetic-5-1"
    assert visit.shown_tab() == "Classify"
    assert page.url.endswith("#classify")
    visit.printed()
    assert visit.text("#answer .source") == "Synthetic ECG: AFIB, 2 of 2, seed 5"
    assert SYNTHETIC in picture
    assert svg_of(visit, "#paper") == picture
    page.go_back()
    page.locator("#synthetic-paper img").wait_for()  # what was made is still there


def test_the_keyboard_is_enough_to_generate(visit):
    page = visit.page
    find = page.locator("#find")
    find.focus()
    page.keyboard.type("fibrill")
    assert page.locator("#statement-list label:visible").count() == 1
    page.keyboard.press("Enter")
    assert visit.posts("/synthesize") == []
    assert visit.text("#chosen") == "AFIB ×"
    assert find.input_value() == ""
    page.keyboard.press("Tab")  # the list is one stop
    boxes = page.locator("#statement-list input")
    assert focused(boxes.nth(0))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    chosen = boxes.nth(2).get_attribute("value")
    assert page.locator("#chosen button").count() == 2
    page.keyboard.press("Tab")
    assert focused(page.get_by_label("No other statement"))
    page.keyboard.press("Tab")
    assert focused(page.locator("[name=age]"))
    page.get_by_role("button", name=f"Remove {chosen}").focus()
    page.keyboard.press("Enter")
    assert visit.text("#chosen") == "AFIB ×"
    assert focused(find)
    page.keyboard.type("no such thing")
    assert "No such statement" in visit.text("#statement-list")
    page.locator("[name=age]").focus()
    page.keyboard.press("Enter")
    drawn(visit, "#synthetic-paper")
    assert request_of(visit)["statements"] == ["AFIB"]
    assert visit.text("#synthetic .status") == "Generated: Synthetic ECG: AFIB"


@pytest.mark.parametrize("visit", [DESK, WIDE, PHONE], indirect=True, ids=["1280", "1720", "390"])
def test_the_two_prints_stand_side_by_side_where_there_is_room(visit):
    generate(visit, "NORM")
    drawn(visit, "#real-paper")
    made, real = (
        visit.page.locator(paper).bounding_box() for paper in ("#synthetic-paper", "#real-paper")
    )
    assert made["width"] == pytest.approx(real["width"], abs=1)
    if visit.page.viewport_size["width"] == WIDE[0]:
        assert made["y"] == pytest.approx(real["y"], abs=1)
    else:
        assert made["x"] == real["x"]
        assert real["y"] > made["y"] + made["height"]
    assert fits(visit.page)


def test_the_shipped_generator_is_asked_from_the_page(browser, server_url):
    with visiting(browser, f"{server_url}/#synthesize") as visit:
        visit.page.locator("#labels").wait_for()
        answer = generate(visit, "AFIB", n=2, age=63, sex="female", heart_rate=95, seed=7)
        assert answer["labels"]["atrial_substrate"] == "abnormal"
        assert "asked for: atrial fibrillation" in visit.text("#synthetic").lower()
        sig = np.array(answer["sig"])
        assert sig.shape == (2, 12, 1000) and 0.3 < np.ptp(sig[0, 1]) < 5  # mV of lead II
