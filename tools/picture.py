"""README's picture: Swagger UI, in which a moderator approves an event of the demo data.

Run it beside `make run`; it needs Debian's Chromium. Its argument is where the board listens, if not on port 3000.
"""

import shutil
import sys
from pathlib import Path
from uuid import uuid4

import httpx
from playwright.sync_api import Locator, Page, sync_playwright

from eventboard.dev.demo import PASSWORD

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "approve.png"
SHOWN = "localhost:3000"
EVENT = {
    "title": "Chess night",
    "description": "Bring a board and a friend.",
    "location": "Canteen",
    "startDate": "2027-03-01T18:00:00Z",
    "endDate": "2027-03-01T21:00:00Z",
}
# What isn't needed here, and a command with a token of a thousand characters.
LEFT_OUT = """
.curl-command, .request-url, .opblock-section-request-body, .download-contents,
tr[data-param-name=Idempotency-Key], tr[data-param-name=X-Correlation-ID] { display: none !important }
"""


def submitted_event(url: str) -> tuple[str, str]:
    """The id of a new one, and a moderator's token."""

    def client(name: str) -> httpx.Client:
        account = {"email": f"{name}@acme.com", "password": PASSWORD}
        token = httpx.post(f"{url}/auth/login", json=account).raise_for_status().json()["accessToken"]
        return httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"})

    user, moderator = client("user"), client("moderator")
    event = user.post("/events", json=EVENT, headers={"idempotency-key": str(uuid4())}).raise_for_status().json()
    user.post(f"/events/{event['id']}/submit").raise_for_status()
    return event["id"], moderator.headers["authorization"].removeprefix("Bearer ")


def approved(page: Page, event: str, token: str) -> Locator:
    """The operation, opened and executed."""
    page.goto(f"http://{SHOWN}/docs")
    page.locator("button.btn.authorize").click()
    page.locator(".modal-ux input").fill(token)
    page.locator(".modal-ux button.authorize").click()
    page.locator(".modal-ux button.btn-done").click()
    operation = page.locator("#operations-Approval-approveEvent")
    operation.locator(".opblock-summary-control").click()
    operation.locator("tr[data-param-name=id] input").fill(event)
    operation.locator("tr[data-param-name=If-Match] input").fill('"2"')
    operation.locator(".execute").click()
    operation.locator(".live-responses-table .response").wait_for()
    page.add_style_tag(content=LEFT_OUT)
    return operation


def main(address: str) -> None:
    event, token = submitted_event(f"http://{address}")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {SHOWN} {address}"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 820, "height": 4000})
        operation = approved(page, event, token)
        answer = operation.locator(".live-responses-table .highlight-code").first
        begin, end = operation.bounding_box(), answer.bounding_box()
        if begin is None or end is None:
            sys.exit("the operation isn't shown")
        height = end["y"] + end["height"] + 10 - begin["y"]
        page.screenshot(
            path=PICTURE, clip={"x": begin["x"], "y": begin["y"], "width": begin["width"], "height": height}
        )
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3000")
