"""The story, told by the client that openapi-python-client generates as the package `eventboard_client`."""

import sys
from datetime import UTC, datetime
from uuid import uuid4

from eventboard_client import AuthenticatedClient, Client
from eventboard_client.api.accounts import login, signup
from eventboard_client.api.approval import approve_event, submit_event
from eventboard_client.api.events import create_event, list_events
from eventboard_client.models import Event, EventDraft, EventPage, Login, Problem, Session, Signup, Status

URL = sys.argv[1]
EMAIL, PASSWORD = f"{uuid4()}@example.org", "a long and quiet password"

anybody = Client(base_url=URL)
new = Signup(email=EMAIL, password=PASSWORD, first_name="Ada", last_name="Archer", organization_name=f"{uuid4()}")
signed_up = signup.sync(client=anybody, body=new)
assert isinstance(signed_up, Session), signed_up
assert signed_up.user.email == EMAIL

session = login.sync(client=anybody, body=Login(email=EMAIL, password=PASSWORD))
assert isinstance(session, Session), session
client = AuthenticatedClient(base_url=URL, token=session.access_token)

draft = EventDraft(
    title="Chess night",
    description="Bring a board and a friend.",
    start_date=datetime(2027, 3, 1, 18, tzinfo=UTC),
    end_date=datetime(2027, 3, 1, 21, tzinfo=UTC),
)
event = create_event.sync(client=client, body=draft, idempotency_key=str(uuid4()))
assert isinstance(event, Event), event
assert (event.status, event.location, event.start_date) == (Status.DRAFT, None, draft.start_date)

submitted = submit_event.sync_detailed(event.id, client=client)
assert isinstance(submitted.parsed, Event), submitted

late = approve_event.sync_detailed(event.id, client=client, if_match='"1"')
assert late.status_code == 412
assert isinstance(late.parsed, Problem)
assert (late.parsed.code, late.parsed.errors or None) == ("version-changed", None)

approved = approve_event.sync(event.id, client=client, if_match=submitted.headers["ETag"])
assert isinstance(approved, Event), approved
assert approved.status == Status.APPROVED

page = list_events.sync(client=client, status=Status.APPROVED, limit=5)
assert isinstance(page, EventPage), page
assert ([each.id for each in page.data], page.meta.next_cursor) == ([event.id], None)

draft.title, draft.description = "ab", "short"
wrong = create_event.sync(client=client, body=draft)
assert isinstance(wrong, Problem), wrong
assert wrong.errors
assert [error.pointer for error in wrong.errors] == ["/title", "/description"]
