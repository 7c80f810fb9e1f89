"""The port for operators: what it tells, that it tells of all workers, and that production tells nobody else."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from eventboard.modules.auth.keys import KeyRing
from eventboard.platform.admin import Admin, Answer, Page, Query
from eventboard.platform.group import Place
from eventboard.platform.health import Checks, health_pages
from eventboard.trace import PATIENCE
from tests.support.processes import admin_of, serving
from tests.support.rpc import listening


def test_health_in_production(database_url: str, tmp_path: Path) -> None:
    """Clients hear up or down, operators which part."""
    KeyRing(tmp_path / "signing-key.pem", create=True)
    strong = {"PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
    with serving(database_url, tmp_path, ENVIRONMENT="production", SERVER_HOST="127.0.0.1", **strong) as process:
        admin = admin_of(process)
        assert httpx.get(f"{process.url}/health").json() == {"status": "up"}
        for path, parts in (("/health", {"auth", "events", "keys", "serving"}), ("/health/live", set())):
            told = httpx.get(f"{admin}{path}").json()
            assert told["status"] == "up"
            assert set(told.get("parts", {})) == parts
        refused = httpx.post(f"{admin}/health")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        # What there is instead.
        nothing = httpx.get(f"{admin}/events")
        assert nothing.status_code == 404
        assert "/health" in nothing.text


async def test_workers_are_asked() -> None:
    """Whoever answers has asked the others, for the same; one that isn't there, or refuses, is left out."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(listening(Admin(_counting(number)))) for number in range(3)]
        ports = tuple(urlsplit(url).port or 0 for url in urls)
        place = Place(number=0, memory=0, listener=0, ports=(*ports, 1))
        url = await stack.enter_async_context(listening(Admin(_counting(0), place.ask)))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        assert (await http.get("/numbers?times=10")).text == "0 10 20"
        assert (await http.get("/numbers?times=10&but=2")).text == "0 10"
        assert (await http.get("/alone?times=10")).text == "0"


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_health_of_a_worker_in_trouble(path: str) -> None:
    """Whichever is asked tells of the worker whose database hangs, and of the one that doesn't answer."""

    async def well() -> None:
        pass

    async def hangs() -> None:
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        pages = [health_pages(Checks({"events": check}, {}, [])) for check in (well, hangs)]
        urls = [await stack.enter_async_context(listening(Admin(page))) for page in pages]
        ports = [urlsplit(url).port or 0 for url in urls]
        place = Place(number=0, memory=0, listener=0, ports=(*ports, 1))
        url = await stack.enter_async_context(listening(Admin(pages[0], place.ask)))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        told = await http.get(path)
        assert told.status_code == 503
        assert told.json()["parts"] == {
            "events": {"status": "down", "detail": "It did not answer within 2 s."},
            "worker": {"status": "down", "detail": "A worker did not answer."},
        }
        assert told.elapsed.total_seconds() < PATIENCE
        assert (await http.get("/health/live")).json() == {"status": "up"}


def _counting(number: int) -> dict[str, Page]:
    async def answer(query: Query) -> Answer:
        refused = query.get("but") == str(number)
        return Answer(str(number * int(query["times"])).encode(), status=500 if refused else 200)

    def merge(bodies: Sequence[bytes]) -> Answer:
        return Answer(b" ".join(bodies))

    return {"/numbers": Page(answer, merge), "/alone": Page(answer)}
