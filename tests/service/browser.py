"""A real browser on the page: what the tests of its views share."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
EXAMPLES = Path(__file__).parents[2] / "service" / "pages" / "examples"
INDEX = json.loads((EXAMPLES / "index.json").read_text())
DESK, PHONE = (1280, 860), (390, 844)


def unavailable(reason):
    """Skips where a browser can't be had, but never in CI."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed")
    if not CHROMIUM.exists():
        unavailable(f"{CHROMIUM} is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page and what it did: requests as (method, url, body), and complaints on its console."""

    page: object
    requests: list = field(default_factory=list)
    complaints: list = field(default_factory=list)
    refusals: int = 0  # HTTP errors that the test provokes; the console reports each

    def example(self, title):
        self.page.locator("#examples button").filter(has_text=re.compile(f"^{title}PTB")).click()
        self.printed()

    def choose(self, *files, fs=None, units=None):
        """`files`: (name, content); a CSV's fs and units are typed in and sent."""
        self.page.set_input_files("#files", [upload(*file) for file in files])
        if fs is not None:
            self.say(fs, units)

    def say(self, fs, units=None):
        self.page.get_by_label("Sampling frequency").fill(str(fs))
        if units:
            self.page.get_by_label("Units").select_option(units)
        self.page.get_by_role("button", name="Classify", exact=True).click()

    def carried(self, name, text):
        """A file of text as the mouse carries it: the dataTransfer of a drag's events."""
        return self.page.evaluate_handle(
            """([name, text]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([text], name, { type: "text/csv" }));
                return transfer;
            }""",
            [name, text],
        )

    def shown_tab(self):
        return self.page.locator("[role=tab][aria-selected=true]").inner_text()

    def printed(self):
        """Waits until the print is there and is a picture."""
        picture = self.page.locator("#paper img")
        picture.wait_for()
        picture.evaluate("e => e.decode()")

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def posts(self, path):
        return [r for r in self.requests if r[0] == "POST" and urlsplit(r[1]).path == path]


@contextmanager
def visiting(browser, url, size=DESK) -> Iterator[Visit]:
    """The page, opened; afterwards: no complaint, nothing stored, and nobody else was asked."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(60_000)
    page = context.new_page()
    visit = Visit(page)
    page.on("request", lambda r: visit.requests.append((r.method, r.url, r.post_data_buffer)))
    page.on("pageerror", lambda e: visit.complaints.append(str(e)))
    page.on(
        "console",
        lambda m: visit.complaints.append(m.text) if m.type in ("error", "warning") else None,
    )
    page.goto(url)
    page.locator("#examples button").first.wait_for(state="attached")
    yield visit
    kept = "[localStorage.length, sessionStorage.length, document.cookie.length]"
    assert page.evaluate(kept) == [0, 0, 0]
    context.close()
    home = urlsplit(url).netloc
    for _, asked, _ in visit.requests:
        assert asked.startswith(("blob:", "data:")) or urlsplit(asked).netloc == home, asked
    refused = [c for c in visit.complaints if c.startswith("Failed to load resource")]
    assert len(refused) == visit.refusals
    assert [c for c in visit.complaints if c not in refused] == []


def upload(name, content):
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def focused(locator):
    return locator.evaluate("e => e === document.activeElement")


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")
