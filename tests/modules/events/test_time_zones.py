"""Which time zones there are, and what the first event waits for."""

import subprocess
import sys

import pytest

from tests.support.board import EVENT, Organization
from tests.support.problems import assert_problem

# What the first request of a process does about its time zone, in a process of its own.
FIRST = """
import asyncio, time
import msgspec
from eventboard.modules.events.contract import CreateEvent, EventDraft
from eventboard.modules.events.service import EventsService
from eventboard.core.errors import ServiceError

async def verify(token): ...

service = EventsService(None, verify, None, None)
draft = msgspec.convert(DRAFT, EventDraft)
begun = time.process_time()
try:
    asyncio.run(service.create(CreateEvent(actor="", draft=draft)))
except ServiceError as error:
    print(time.process_time() - begun, error.errors[0].pointer)
"""


def test_first_event() -> None:
    """Zones are known before the first request: it reads none of the machine's hundreds of files while others wait."""
    draft = {**EVENT, "timeZone": "Mars/Phobos"}
    program = FIRST.replace("DRAFT", repr(draft))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, pointer = done.stdout.split()
    assert pointer == "/timeZone"
    assert float(seconds) < 0.02


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "Etc/GMT+12", "America/Argentina/Buenos_Aires", "EST5EDT"])
def test_zone(organization: Organization, name: str) -> None:
    """Names of the IANA database, its older ones too."""
    assert organization.user.create(timeZone=name)["timeZone"] == name


@pytest.mark.parametrize(
    "name", ["Factory", "localtime", "posixrules", "posix/UTC", "right/UTC", "europe/berlin", "zones"]
)
def test_no_zone(shared_organization: Organization, name: str) -> None:
    """Files of the database that are no zones, and names in another case."""
    answer = shared_organization.user.http.post("/events", json={**EVENT, "timeZone": name})
    assert_problem(answer, "invalid-request", "/timeZone")
