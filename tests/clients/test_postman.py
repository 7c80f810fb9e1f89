"""A Postman collection, made of the OpenAPI document as it is, and run by newman from start to end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.clients.test_clients import NODE, needs_node, run
from tests.support.board import Board
from tests.support.openapi import Json, demo_account, operations
from tests.support.shapes import ALL, deployed

# In an order in which each succeeds: what the examples tell, and then the end of the sessions.
ORDER = [
    "signup",
    "getMe",
    "joinOrganization",
    "switchOrganization",
    "changePassword",
    "changeOrganization",
    "listMembers",
    "changeMember",
    "invite",
    "listInvitations",
    "revokeInvitation",
    "createEvent",
    "listEvents",
    "getEvent",
    "updateEvent",
    "submitEvent",
    "withdrawEvent",
    "submitEvent",
    "rejectEvent",
    "submitEvent",
    "approveEvent",
    "cancelEvent",
    "getEventHistory",
    "deleteEvent",
    "getIdempotencyKey",
    "getKeys",
    "getHealth",
    "getReadiness",
    "getLiveness",
    "listSessions",
    "endSession",
    "login",
    "refresh",
    "logoutEverywhere",
    "logout",
]

# Each answer's tokens and ids are kept under the values that they have in the example of the answer.
KEEP = """
const kept = %s[pm.info.requestName] || [];
if (kept.length) {
  const body = pm.response.json();
  for (const [name, path] of kept) {
    pm.collectionVariables.set(name, path.reduce((part, step) => part[step], body));
  }
}
pm.test(pm.info.requestName, () => pm.expect(pm.response.code).to.be.within(200, 299));
"""


@needs_node
def test_newman(database_url: str, tmp_path: Path) -> None:
    """Every operation succeeds, by its example. What one answers is what the next is sent."""
    with deployed(ALL, database_url, tmp_path) as deployment:
        board = Board(deployment.public.url, database_url)
        demo_account(board)
        document = httpx.get(f"{board.url}/schema/openapi.json").raise_for_status()
        board.close()
        (tmp_path / "openapi.json").write_bytes(document.content)
        run(
            NODE / "openapi2postmanv2",
            *("-s", "openapi.json", "-o", "collection.json"),
            # As in Postman's import: values of examples, and none for what is optional.
            *("-O", "parametersResolution=Example,enableOptionalParameters=false"),
            folder=tmp_path,
        )
        collection = json.loads((tmp_path / "collection.json").read_text())
        (tmp_path / "run.json").write_text(json.dumps(_story(collection, document.json())))
        output = run(
            NODE / "newman",
            *(
                "run",
                "run.json",
                "--env-var",
                f"baseUrl={deployment.public.url}",
                "--reporter-json-export",
                "report.json",
            ),
            *("--reporters", "cli,json", "--color", "off"),
            folder=tmp_path,
        )
    report = json.loads((tmp_path / "report.json").read_text())["run"]
    assert report["stats"]["assertions"] == {"total": len(ORDER), "pending": 0, "failed": 0}, output


def _story(collection: Json, document: Json) -> Json:
    """The collection's requests in ORDER, with variables in the place of values that an earlier answer has."""
    by_id = {operation["operationId"]: operation for _, _, operation in operations(document)}
    assert by_id.keys() == set(ORDER)
    requests = {item["name"]: item for item in _requests(collection)}
    needed = json.dumps([item["request"] for item in requests.values()])
    variables: dict[str, str] = {}
    kept: dict[str, list[tuple[str, list[str | int]]]] = {}
    for operation in by_id.values():
        for answer in operation["responses"].values():
            for media_type in answer.get("content", {}).values():
                for path, value in _texts(media_type["example"]):
                    if path == ["accessToken"] and operation["operationId"] in ("signup", "login"):
                        kept.setdefault(operation["summary"], []).append(("bearerToken", path))
                    elif path[-1] in ("id", "organizationId", "refreshToken") and value in needed:
                        name = variables.setdefault(value, f"value{len(variables)}")
                        kept.setdefault(operation["summary"], []).append((name, path))
    text = json.dumps([requests[by_id[name]["summary"]] for name in ORDER])
    for value, name in variables.items():
        text = text.replace(value, f"{{{{{name}}}}}")
    script = {"type": "text/javascript", "exec": (KEEP % json.dumps(kept)).splitlines()}
    return {**collection, "item": json.loads(text), "event": [{"listen": "test", "script": script}]}


def _requests(folder: Json) -> Iterator[Json]:
    for item in folder["item"]:
        if "item" in item:
            yield from _requests(item)
        else:
            yield {"name": item["name"], "request": item["request"]}


def _texts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[list[str | int], str]]:
    if isinstance(value, str):
        yield list(path), value
    elif isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, (*path, step))
