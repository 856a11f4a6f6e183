"""The page's two views: the tabs, links and keys between them, and what is said where the second
cannot be."""

import pytest

from tests.service.browser import DESK, EXAMPLES, PHONE, fits, focused, visiting


@pytest.fixture
def visit(browser, fake_generator_url):
    with visiting(browser, f"{fake_generator_url}/#synthesize") as visit:
        visit.page.locator("#labels").wait_for()
        yield visit


def test_the_tabs_work_by_keyboard_and_by_link(visit, fake_generator_url):
    page = visit.page
    assert visit.shown_tab() == "Synthesize"
    assert not page.locator("#classify-view").is_visible()
    tabs = page.get_by_role("tablist").get_by_role("tab")
    assert tabs.evaluate_all("tabs => tabs.map(tab => tab.tabIndex)") == [-1, 0]
    page.keyboard.press("Tab")  # the skip link
    assert page.locator(".skip").get_attribute("href") == "#synthetic"
    page.keyboard.press("Tab")
    assert focused(tabs.nth(1))
    outline = "e => getComputedStyle(e).outlineStyle"
    assert tabs.nth(1).evaluate(outline) == "solid"
    for key, name in (("ArrowRight", "Classify"), ("ArrowLeft", "Synthesize"),
                      ("Home", "Classify"), ("End", "Synthesize")):  # fmt: skip
        page.keyboard.press(key)
        assert visit.shown_tab() == name
        assert focused(tabs.filter(has_text=name))
        assert page.url == f"{fake_generator_url}/#{name.lower()}"
        view = page.get_by_role("tabpanel")
        assert view.get_attribute("id") == f"{name.lower()}-view"
        assert view.get_attribute("aria-labelledby") == f"{name.lower()}-tab"
    page.goto(f"{fake_generator_url}/")
    page.reload()
    assert visit.shown_tab() == "Classify"
    page.get_by_role("tab", name="Synthesize").click()
    assert visit.shown_tab() == "Synthesize"
    page.go_back()
    page.locator("#classify-view").wait_for()
    assert visit.shown_tab() == "Classify"


def test_the_skip_link_stays_in_its_view(visit):
    page = visit.page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert visit.shown_tab() == "Synthesize"
    page.reload()
    page.locator("#labels").wait_for()
    assert visit.shown_tab() == "Synthesize"


def test_a_dropped_file_goes_to_be_classified(visit):
    page = visit.page
    transfer = visit.carried("dropped.csv", (EXAMPLES / "afib-lead-ii.csv").read_text())
    page.dispatch_event("footer", "dragenter", {"dataTransfer": transfer})
    page.dispatch_event("footer", "drop", {"dataTransfer": transfer})
    assert visit.shown_tab() == "Classify"
    visit.say(100)
    visit.printed()
    assert "dropped.csv" in visit.text("#answer .source")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["1280", "390"])
def test_a_service_without_a_generator_says_so(browser, url_without_generator, size):
    with visiting(browser, f"{url_without_generator}/#synthesize", size) as visit:
        visit.page.get_by_text("This service has no generator").wait_for()
        assert not visit.page.locator("#labels").is_visible()
        assert not visit.page.get_by_role("button", name="Generate").is_visible()
        assert fits(visit.page)


def test_models_that_cannot_be_asked_for_are_said(browser, fake_generator_url):
    with visiting(browser, fake_generator_url) as visit:
        visit.refusals = 1
        visit.page.route("**/models", lambda route: route.abort())
        visit.page.reload()
        visit.page.get_by_role("tab", name="Synthesize").click()
        visit.page.get_by_text("could not be asked for").wait_for()
        assert not visit.page.locator("#labels").is_visible()
