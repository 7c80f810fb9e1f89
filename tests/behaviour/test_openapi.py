"""The OpenAPI document: valid, whole, and true."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
import re2
import yaml
from schemathesis.specs.openapi.definitions import OPENAPI_31  # the OpenAPI Initiative's own schema of a document

from tests.support.board import Board, Organization
from tests.support.openapi import Json, demo_account, document_of, examples, operations, resolved, validator

COMMAND = "not-found forbidden version-changed wrong-state"
# Every public operation: its call, the answers that are no problem, and the problems of its own.
OPERATIONS: dict[str, tuple[str, set[int], str]] = {
    "signup": ("POST /auth/signup", {201}, "forbidden already-exists"),
    "login": ("POST /auth/login", {200}, "invalid-credentials forbidden"),
    "refresh": ("POST /auth/refresh", {200}, "invalid-token forbidden"),
    "logout": ("POST /auth/logout", {204}, ""),
    "getMe": ("GET /auth/me", {200}, ""),
    "joinOrganization": ("POST /auth/join", {200}, "forbidden already-exists"),
    "switchOrganization": ("POST /auth/switch", {200}, "forbidden"),
    "changePassword": ("POST /auth/password", {204}, "forbidden"),
    "listSessions": ("GET /auth/sessions", {200}, "invalid-cursor"),
    "endSession": ("DELETE /auth/sessions/{id}", {204}, "not-found"),
    "logoutEverywhere": ("POST /auth/logout-all", {204}, ""),
    "getKeys": ("GET /.well-known/jwks.json", {200}, ""),
    "listMembers": ("GET /members", {200}, "forbidden invalid-cursor"),
    "changeMember": ("PATCH /members/{id}", {200}, "forbidden not-found last-admin"),
    "invite": ("POST /invitations", {201}, "forbidden already-exists"),
    "listInvitations": ("GET /invitations", {200}, "forbidden invalid-cursor"),
    "revokeInvitation": ("DELETE /invitations/{id}", {204}, "forbidden not-found"),
    "changeOrganization": ("PATCH /organization", {200}, "forbidden already-exists"),
    "createEvent": ("POST /events", {201}, "quota-exceeded"),
    "listEvents": ("GET /events", {200}, "invalid-cursor search-too-broad"),
    "getEvent": ("GET /events/{id}", {200, 304}, "not-found"),
    "updateEvent": ("PATCH /events/{id}", {200}, "not-found forbidden quota-exceeded version-changed"),
    "deleteEvent": ("DELETE /events/{id}", {204}, "not-found forbidden version-changed"),
    "getEventHistory": ("GET /events/{id}/history", {200}, "not-found forbidden invalid-cursor"),
    "getIdempotencyKey": ("GET /idempotency-keys/{key}", {200}, "invalid-idempotency-key"),
    "submitEvent": (
        "POST /events/{id}/submit",
        {200},
        f"{COMMAND} quota-exceeded",
    ),
    "approveEvent": ("POST /events/{id}/approve", {200}, COMMAND),
    "rejectEvent": ("POST /events/{id}/reject", {200}, COMMAND),
    "withdrawEvent": (
        "POST /events/{id}/withdraw",
        {200},
        f"{COMMAND} quota-exceeded",
    ),
    "cancelEvent": ("POST /events/{id}/cancel", {200}, COMMAND),
    "getHealth": ("GET /health", {200, 503}, ""),
    "getReadiness": ("GET /health/ready", {200, 503}, ""),
    "getLiveness": ("GET /health/live", {200}, ""),
}
OPEN = {"signup", "login", "refresh", "logout", "getKeys", "getHealth", "getReadiness", "getLiveness"}
CHANGES = {"updateEvent", "deleteEvent", "submitEvent", "approveEvent", "rejectEvent", "withdrawEvent", "cancelEvent"}
PROBLEM = "application/problem+json"


def test_valid(board: Board) -> None:
    """The document is OpenAPI 3.1, its schemas are JSON Schema 2020-12, and its parts are what it refers to."""
    document = document_of(board)
    assert document["openapi"].startswith("3.1.")
    jsonschema_rs.validator_for(OPENAPI_31).validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    parts = {f"#/components/{kind}/{name}" for kind, parts in document["components"].items() for name in parts}
    assert _references(document) == parts - {"#/components/securitySchemes/bearer"}


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(_references, part.values()))
    if isinstance(part, list):
        return set().union(*map(_references, part))
    return set()


def test_titles(board: Board) -> None:
    """No two schemas have one title, wherever they are: generators of clients make classes of them."""
    titles = Counter(_titles(document_of(board)))
    assert [title for title, count in titles.items() if count > 1] == []


def _titles(part: Any) -> Iterator[str]:
    """Of what is a schema: an example may have fields of any name, and a property may be called so."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str) and part.keys() & {"type", "enum", "properties", "oneOf", "required"}:
            yield part["title"]
        for name, inner in part.items():
            if name not in ("example", "examples"):
                yield from _titles(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _titles(inner)


def test_about(board: Board) -> None:
    """Title, version, licence and story stand in it; tags are described; requests go to where it came from."""
    document = document_of(board)
    assert document["info"]["title"] == "EventBoard"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", document["info"]["version"])
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert "draft, submit and approve" in document["info"]["description"]
    assert document["servers"] == [{"url": "/"}]
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert {tag["name"] for tag in document["tags"] if tag["description"]} == used


def test_every_operation(board: Board) -> None:
    """Every operation is there, by its id, with its answers, and one response for every problem it can meet."""
    document = document_of(board)
    found = {}
    for method, path, operation in operations(document):
        assert operation["summary"]
        assert operation["responses"].pop("default") == {"$ref": "#/components/responses/Problem"}
        named = re.findall(r"\[`([a-z-]+)`\]\(/problems/\1\)", operation["description"])
        found[operation["operationId"]] = (f"{method} {path}", set(map(int, operation["responses"])), set(named))
    assert found == {name: (call, answers, set(own.split())) for name, (call, answers, own) in OPERATIONS.items()}


def test_every_method_of_a_path(board: Board) -> None:
    """A path has the methods that are described and no others, but for HEAD, which is GET without its body."""
    methods: defaultdict[str, set[str]] = defaultdict(lambda: {"OPTIONS"})
    for method, path, _ in operations(document_of(board)):
        methods[path] |= {method, "HEAD"} if method == "GET" else {method}
    for path, expected in methods.items():
        answer = board.client().options(re.sub("{.+}", "1", path))
        assert answer.status_code == 204
        assert set(answer.headers["allow"].split(", ")) == expected


def test_security(board: Board) -> None:
    """A bearer token is asked for by every operation but those that are open, as without one each of them answers."""
    document = document_of(board)
    assert document["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for method, path, operation in operations(document):
        opened = operation.get("security") == []
        assert opened == (operation["operationId"] in OPEN)
        answer = board.client().request(method, re.sub("{.+}", "1", path))
        assert (answer.status_code == 401) == (not opened), operation["operationId"]


def test_examples_fit_their_schemas(board: Board) -> None:
    """Each body and each answer with a body has an example, which its schema accepts."""
    document = document_of(board)
    for _, _, operation in operations(document):
        answers = [resolved(document, answer) for answer in operation["responses"].values()]
        contents = [answer["content"] for answer in answers if "content" in answer]
        contents += [operation["requestBody"]["content"]] if "requestBody" in operation else []
        for media_type in (media_type for content in contents for media_type in content.values()):
            assert examples(media_type)
            for example in examples(media_type):
                validator(document, media_type["schema"]).validate(example)


def test_problems_in_it(board: Board) -> None:
    """What it says of problems is what the server answers; each code leads to a page."""
    document = document_of(board)
    problem = document["components"]["schemas"]["Problem"]
    answer = board.client().post("/auth/login", json={"email": 1}).json()
    validator(document, problem).validate(answer)
    assert answer.keys() == problem["properties"].keys()
    assert board.client().get("/nowhere").json().keys() == set(problem["required"])
    content = document["components"]["responses"]["Problem"]["content"][PROBLEM]
    for code, example in content["examples"].items():
        assert (example["value"]["code"], example["value"]["type"]) == (code, f"/problems/{code}")
    for code in document["components"]["schemas"]["Code"]["enum"]:
        assert board.client().get(f"/problems/{code}").status_code == 200


def test_headers_of_answers(board: Board) -> None:
    """An answer names its correlation id, what a limit has left, an event's tag, a stored key."""
    document = document_of(board)
    for _, _, operation in operations(document):
        name = operation["operationId"]
        del operation["responses"]["default"]
        for status, answer in operation["responses"].items():
            expected = {"X-Correlation-ID"}
            expected |= {"Idempotency-Status"} if name in CHANGES | {"createEvent"} else set()
            unlimited = {"logout", "getKeys", "getHealth", "getReadiness", "getLiveness"}
            expected |= {"RateLimit", "RateLimit-Policy"} if name not in unlimited else set()
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            expected |= {"ETag"} if status == "304" or schema.get("$ref", "").endswith("/Event") else set()
            expected |= {"Location"} if name == "createEvent" else set()
            assert answer["headers"].keys() == expected, (name, status)


def test_conditions(board: Board) -> None:
    """Every write can be given a key, every change of an event a condition, and reading one too; no example has one."""
    document = document_of(board)
    for _, _, operation in operations(document):
        parameters = [resolved(document, part) for part in operation.get("parameters", [])]
        headers = {part["name"]: part for part in parameters if part["in"] == "header"}
        name = operation["operationId"]
        expected = {"If-Match", "Idempotency-Key"} if name in CHANGES else set()
        expected |= {"Idempotency-Key"} if name == "createEvent" else set()
        expected |= {"If-None-Match"} if name == "getEvent" else set()
        assert headers.keys() == expected
        assert not any("example" in header or "examples" in header for header in headers.values())


def _schemas(document: Json) -> Iterator[Json]:
    """All of them, and what is in them."""

    def inside(part: Any) -> Iterator[Json]:
        if isinstance(part, dict):
            yield part
            for inner in part.values():
                yield from inside(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from inside(inner)

    yield from inside(document["components"]["schemas"])
    for kind in ("parameters", "headers"):
        for part in document["components"][kind].values():
            yield from inside(part["schema"])
    for _, _, operation in operations(document):
        for part in operation.get("parameters", []):
            yield from inside(resolved(document, part)["schema"])


def test_for_generators(board: Board) -> None:
    """Each property has a description, and none a default, which would make it one that is always there."""
    document = document_of(board)
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, described in schema.get("properties", {}).items():
            assert described["description"].endswith("."), (name, field)
            assert "default" not in described, (name, field)
            is_time = field.endswith(("At", "Date")) or field == "at"
            assert ("date-time" in str(described)) == is_time, (name, field)
    assert "oneOf" not in str(document)


def test_patterns(board: Board) -> None:
    """RE2, which Go's and other linear engines are like, compiles each of them."""
    patterns = {schema["pattern"] for schema in _schemas(document_of(board)) if isinstance(schema.get("pattern"), str)}
    assert len(patterns) > 5
    for pattern in patterns:
        assert re2.compile(pattern), pattern


def test_examples_lead_on(board: Board) -> None:
    """An id that an example needs is in the example of an answer; so is a refresh token. Each is of its own account."""
    document = document_of(board)
    given, needed = "", set()
    for _, _, operation in operations(document):
        needed |= {part["example"] for part in operation.get("parameters", []) if "example" in part}
        body = operation.get("requestBody", {"content": {}})["content"].get("application/json", {}).get("example", {})
        needed |= {value for name, value in body.items() if name in ("organizationId", "refreshToken")}
        given += json.dumps(operation["responses"])
    assert len(needed) >= 7
    assert [value for value in needed if value not in given] == []
    bodies = {
        operation["operationId"]: operation["requestBody"]["content"]["application/json"]["example"]
        for _, _, operation in operations(document)
        if "requestBody" in operation
    }
    assert bodies["changePassword"]["currentPassword"] == bodies["signup"]["password"] != bodies["login"]["password"]


def test_yaml(board: Board) -> None:
    """The same document, as YAML."""
    answer = board.client().get("/schema/openapi.yaml")
    assert answer.headers["content-type"].startswith("application/vnd.oai.openapi")
    assert yaml.safe_load(answer.text) == document_of(board)


@pytest.mark.parametrize(
    ("operation_id", "state"),
    [
        ("createEvent", "DRAFT"),
        ("updateEvent", "DRAFT"),
        ("submitEvent", "DRAFT"),
        ("approveEvent", "SUBMITTED"),
        ("rejectEvent", "SUBMITTED"),
        ("withdrawEvent", "SUBMITTED"),
        ("cancelEvent", "APPROVED"),
    ],
)
def test_example_of_an_event_works(
    shared_organization: Organization, board: Board, operation_id: str, state: str
) -> None:
    """The example of a body, sent as it stands, is accepted, and answered in the shape of the example answer."""
    document = document_of(board)
    (found,) = [entry for entry in operations(document) if entry[2]["operationId"] == operation_id]
    method, path, operation = found
    no_body: Json = {"content": {"application/json": {"example": {}}}}
    for media_type, content in operation.get("requestBody", no_body)["content"].items():
        event = shared_organization.event_in(state, author=shared_organization.admin)
        answer = shared_organization.admin.http.request(
            method,
            path.replace("{id}", event["id"]),
            json=content["example"],
            headers={"content-type": media_type, "if-match": "*"},
        )
        assert answer.is_success, answer.text
        _assert_like_example(document, operation, answer.status_code, answer.json())


def test_example_of_an_account_works(board: Board) -> None:
    """The examples of log-in and sign-up are accepted, the latter under names that nobody on this board has yet."""
    document = document_of(board)
    demo_account(board)
    name = str(uuid4())
    new = {"email": f"{name}@example.org", "organizationName": name}
    for path, status, changed in (("/auth/login", 200, {}), ("/auth/signup", 201, new)):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = board.client().post(path, json={**example, **changed})
        assert answer.status_code == status, answer.text
        _assert_like_example(document, operation, answer.status_code, answer.json())


def _assert_like_example(document: Json, operation: Json, status: int, body: Json) -> None:
    content = operation["responses"][str(status)]["content"]["application/json"]
    validator(document, content["schema"]).validate(body)
    assert body.keys() == content["example"].keys()


def test_wrong_example_is_refused_by_both(organization: Organization, board: Board) -> None:
    """What the schema of a body refuses, the server refuses: an unknown field, a short text, no text."""
    document = document_of(board)
    content = document["paths"]["/events"]["post"]["requestBody"]["content"]["application/json"]
    for wrong in ({"colour": "red"}, {"title": "ab"}, {"title": " \n "}):
        body = {**content["example"], **wrong}
        assert not validator(document, content["schema"]).is_valid(body)
        assert organization.user.http.post("/events", json=body).status_code == 400


def test_ways_to_the_explorers(board: Board) -> None:
    """`/`, `/docs` and `/api` lead to Swagger UI, `/schema` is it; pages that would need a CDN aren't there."""
    http = board.client()
    for path in ("/", "/docs", "/api"):
        answer = http.get(path)
        assert answer.status_code == 307
        assert answer.headers["location"] == "/schema/swagger"
    for path in ("/schema", "/schema/"):
        assert http.get(path).text == http.get("/schema/swagger").text
    for path in ("/schema/elements", "/schema/rapidoc", "/schema/oauth2-redirect.html"):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)


@pytest.mark.parametrize("page", ["swagger", "scalar", "redoc"])
def test_explorer_page(board: Board, page: str) -> None:
    """A page is framed by nobody, runs its own scripts only, and links to files that are there and may be kept."""
    http = board.client()
    answer = http.get(f"/schema/{page}")
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    links = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(links) >= 3
    for link in links:
        file = http.get(link)
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]
        assert file.headers["x-content-type-options"] == "nosniff"
