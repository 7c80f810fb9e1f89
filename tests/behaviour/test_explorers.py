"""The API explorers in a real browser, as a person uses them, where no other host can be reached."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright

from tests.support.board import Board
from tests.support.openapi import demo_account, document_of, operations

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed; Debian: apt-get install chromium")

# No sandbox: that needs what root in a container lacks. Names resolve to nothing: what gets past the page's own
# requests (the browser's, a prefetch) reaches nobody either.
ARGUMENTS = [
    "--no-sandbox",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
]
# Milliseconds; some sixty times what the slowest step takes on two busy cores.
PATIENCE = 90_000

# Both are on the pages' list of what their policy keeps out: a probe for eval, and Redoc's logo.
EXPECTED_COMPLAINTS = re.compile(r"unsafe-eval|cdn\.redoc\.ly/redoc/logo")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, board: Board) -> Iterator[Page]:
    """A tab that fails its test when it asked another host for anything, or something in it went wrong."""
    elsewhere: list[str] = []
    complaints: list[str] = []

    def only_here(route: Route) -> None:
        if route.request.url.startswith(f"{board.url}/"):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not EXPECTED_COMPLAINTS.search(message.text):
            complaints.append(message.text)

    context = browser.new_context(viewport={"width": 1400, "height": 1000}, base_url=board.url)
    context.set_default_timeout(PATIENCE)
    context.route(re.compile("^(?!data:|blob:)"), only_here)
    page = context.new_page()
    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert elsewhere == []
    assert complaints == []


def test_swagger_ui_from_log_in_to_an_event(page: Page, board: Board) -> None:
    """Someone opens the address, logs in by the example as it stands, authorizes, and drafts an event: 201."""
    demo_account(board)
    page.goto("/")
    expect(page).to_have_url(re.compile("/schema/swagger"))
    expect(page.get_by_text("Try it here:")).to_be_visible(timeout=PATIENCE)

    answer = json.loads(_executed(page, "login", 200).inner_text())
    page.locator("button.btn.authorize").click()
    page.locator(".modal-ux input").fill(answer["accessToken"])
    page.locator(".modal-ux button[type=submit]").click()
    page.locator(".modal-ux .btn-done").click()
    assert json.loads(_executed(page, "createEvent", 201).inner_text())["createdByName"] == "Uma User"
    _keep(page, "swagger")

    # Those with the most parameters, fields and links.
    _measure(page, "listEvents", "updateEvent", "rejectEvent", "getEvent")
    page.reload()
    assert json.loads(_executed(page, "getMe", 200).inner_text())["email"] == answer["user"]["email"]


# Pixels of an opened operation, at 1,400 across: some three screens. Execute and the answer come on top of it.
MOST = 2_500


def _measure(page: Page, *operation_ids: str) -> None:
    for operation_id in operation_ids:
        block = page.locator(f".opblock[id$='-{operation_id}']")
        block.locator("button.opblock-summary-control").click()
        expect(block.locator(".responses-inner")).to_be_visible(timeout=PATIENCE)
        assert block.evaluate("element => element.offsetHeight") <= MOST, operation_id


def _executed(page: Page, operation_id: str, status: int) -> Locator:
    """Opens an operation, executes it as it stands, and finds the body of the answer."""
    block = page.locator(f".opblock[id$='-{operation_id}']")
    execute = block.get_by_role("button", name="Execute")
    expect(block).to_be_visible(timeout=PATIENCE)
    if not execute.count():
        block.locator("button.opblock-summary-control").click()
    execute.click()
    expect(block.locator(".live-responses-table .response-col_status").last).to_have_text(str(status), timeout=PATIENCE)
    return block.locator(".live-responses-table .highlight-code code").first


def test_scalar(page: Page, board: Board) -> None:
    """Every operation is in the list at the side, and leads to it."""
    document = document_of(board)
    page.goto("/schema/scalar")
    expect(page.get_by_text("Try it here:")).to_be_visible(timeout=PATIENCE)
    for tag in document["tags"]:
        group = page.get_by_role("button", name=f"Group - {tag['name']}")
        expect(group).to_be_visible(timeout=PATIENCE)
        if "Open" in (group.get_attribute("aria-label") or group.inner_text()):
            group.click()
    for _, _, operation in operations(document):
        expect(page.get_by_role("link", name=operation["summary"]).first).to_be_visible(timeout=PATIENCE)
    _keep(page, "scalar")


def test_redoc(page: Page, board: Board) -> None:
    """Every operation is in the list at the side, once its part is chosen there, and leads to it."""
    document = document_of(board)
    page.goto("/schema/redoc")
    expect(page.get_by_text("This page is for reading.")).to_be_visible(timeout=PATIENCE)
    for tag in document["tags"]:
        page.get_by_text(tag["name"], exact=True).first.click()
        for _, _, operation in operations(document):
            if tag["name"] in operation["tags"]:
                expect(page.get_by_text(operation["summary"], exact=True).first).to_be_visible(timeout=PATIENCE)
    # What is far from view is not made yet: only that of the last one.
    page.get_by_text(operation["summary"], exact=True).first.click()
    expect(page.get_by_role("heading", name=operation["summary"])).to_be_visible(timeout=PATIENCE)
    _keep(page, "redoc")


def _keep(page: Page, name: str) -> None:
    """A picture for whoever asks for pictures."""
    if folder := os.environ.get("EXPLORER_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
