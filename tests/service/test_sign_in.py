"""A person's way in, in a real browser: the form, the pages behind it, and out again."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.conftest import running_service
from tests.ecg import fake_generator
from tests.service.browser import DESK, PHONE, fits
from tests.service.guarded import Keys, without_generator

VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[tuple[str, Keys]]:
    """A service that listens everywhere, with a generator that takes no time, and its keys."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = Keys(folder)
    settings = without_generator(folder)
    fake_generator.store(folder / "store" / "ldm")
    with running_service(
        folder, host="0.0.0.0", ECG_WORKERS="1", ECG_DATABASE_URL=keys.url, **settings
    ) as service:
        yield service.url, keys


@pytest.fixture
def page(browser):
    """Afterwards: nothing that the policy forbids was tried, and no script failed."""
    context = browser.new_context(viewport={"width": DESK[0], "height": DESK[1]})
    context.set_default_timeout(60_000)
    context.add_init_script(VIOLATIONS)
    page = context.new_page()
    complaints = []
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    yield page
    context.close()
    assert [c for c in complaints if not c.startswith("Failed to load resource")] == []


def sign_in(page, url, key):
    answer = page.goto(url)
    assert answer.status == 401
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_the_form_is_all_that_is_shown_without_a_key(page, guarded):
    url, _ = guarded
    asked = []
    page.on("request", lambda r: asked.append(urlsplit(r.url).path))
    for path in ("/", "/docs", "/models", "/nothing"):
        assert page.goto(url + path).status == 401
        assert page.locator("input, button, a, script").count() == 2
    assert set(asked) <= {"/", "/docs", "/models", "/nothing", ""}
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert fits(page)


def test_a_wrong_key_is_said_to_be_wrong_and_shown_nowhere(page, guarded):
    url, _ = guarded
    wrong = "ecg_0123456789ab_" + "x" * 43
    sign_in(page, url, wrong)
    page.get_by_role("alert").wait_for()
    assert "not valid" in page.get_by_role("alert").inner_text()
    assert wrong not in page.content() and "x" * 43 not in page.url


def test_behind_the_form_every_view_works_and_breaks_no_policy(page, guarded):
    url, keys = guarded
    sign_in(page, url, keys.make())
    page.locator("#examples button").first.click()
    page.locator("#paper img").wait_for()
    page.locator("#explain").click()
    page.locator("#paper.explained img").wait_for()
    page.get_by_role("tab", name="Synthesize").click()
    page.get_by_role("button", name="Generate").click()
    page.locator("#synthetic-paper img").wait_for()
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""


def test_a_day_is_drawn_behind_the_form(page, guarded):
    url, keys = guarded
    sign_in(page, url, keys.make())
    page.locator("#examples button").first.wait_for()
    seconds, fs = 700, 100
    rows = "\n".join(str(0.5 * (i % fs < 5)) for i in range(seconds * fs))
    file = {"name": "long.csv", "mimeType": "text/csv", "buffer": f"II\n{rows}\n".encode()}
    page.set_input_files("#files", [file])
    page.get_by_label("Sampling frequency").fill(str(fs))
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator("#answer .strip img, #answer svg, #answer .day img").first.wait_for()


def test_the_endpoints_page_works_behind_the_form(page, guarded):
    url, keys = guarded
    sign_in(page, f"{url}/docs", keys.make())
    page.locator("#examples button").first.wait_for()
    page.goto(f"{url}/docs")
    page.locator("#operations-default-post_classify_classify_post").click()
    page.get_by_text("Try it out").first.wait_for()
    assert page.locator(".authorize").first.is_visible()


def test_signing_out_ends_it(page, guarded):
    url, keys = guarded
    sign_in(page, url, keys.make())
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Key").wait_for()
    assert page.context.cookies() == []
    assert page.goto(url).status == 401


def test_a_revoked_key_ends_its_sessions(page, guarded):
    url, keys = guarded
    key = keys.make()
    sign_in(page, url, key)
    page.locator("#examples button").first.wait_for()
    keys.revoke(key)
    page.wait_for_timeout(6_000)  # longer than keys are remembered
    assert page.goto(url).status == 401


def test_another_site_cannot_post_for_who_is_signed_in(page, guarded):
    url, keys = guarded
    sign_in(page, url, keys.make())
    page.locator("#examples button").first.wait_for()
    (cookie,) = page.context.cookies()
    told = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    for headers in ({"Origin": "http://evil.example"}, {}, {"Sec-Fetch-Site": "same-site"}):
        answer = page.request.post(f"{url}/classify", data=b"x", headers={**told, **headers})
        assert answer.status == 403
        assert json.loads(answer.body())["type"] == "/problems/cross-site"
    answer = page.request.post(f"{url}/classify", data=b"x", headers={**told, "Origin": url})
    assert answer.status == 415
