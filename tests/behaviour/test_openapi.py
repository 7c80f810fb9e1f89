"""The OpenAPI document: valid, whole, and true."""

import re
from collections import defaultdict
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31  # the OpenAPI Initiative's own schema of a document

from tests.support.board import Board, Organization
from tests.support.openapi import Json, demo_account, document_of, examples, operations, resolved, validator

# Every public operation, with the problems it can answer with; 500 is on each.
CALL = {501, 503, 504}
LIMITED = {429} | CALL
KEYED = {400, 409, 422}
COMMAND = {400, 401, 403, 404, 409, 412, 413, 415} | KEYED | LIMITED
OPERATIONS: dict[str, tuple[str, set[int], set[int]]] = {
    "signup": ("POST /auth/signup", {201}, {400, 403, 409, 413, 415} | LIMITED),
    "login": ("POST /auth/login", {200}, {400, 401, 403, 413, 415} | LIMITED),
    "getMe": ("GET /auth/me", {200}, {400, 401} | LIMITED),
    "getKeys": ("GET /.well-known/jwks.json", {200}, CALL),
    "createEvent": ("POST /events", {201}, {401, 413, 415} | KEYED | LIMITED),
    "listEvents": ("GET /events", {200}, {400, 401} | LIMITED),
    "getEvent": ("GET /events/{id}", {200, 304}, {400, 401, 404} | LIMITED),
    "updateEvent": ("PATCH /events/{id}", {200}, {401, 403, 404, 412, 413, 415} | KEYED | LIMITED),
    "deleteEvent": ("DELETE /events/{id}", {204}, {401, 403, 404, 412} | KEYED | LIMITED),
    "submitEvent": ("POST /events/{id}/submit", {200}, COMMAND),
    "approveEvent": ("POST /events/{id}/approve", {200}, COMMAND),
    "rejectEvent": ("POST /events/{id}/reject", {200}, COMMAND),
    "withdrawEvent": ("POST /events/{id}/withdraw", {200}, COMMAND),
    "cancelEvent": ("POST /events/{id}/cancel", {200}, COMMAND),
    "getEventHistory": ("GET /events/{id}/history", {200}, {400, 401, 403, 404} | LIMITED),
    "getIdempotencyKey": ("GET /idempotency-keys/{key}", {200}, {400, 401} | LIMITED),
    "refresh": ("POST /auth/refresh", {200}, {400, 401, 403, 413, 415} | LIMITED),
    "logout": ("POST /auth/logout", {204}, {400, 413, 415} | CALL),
    "switchOrganization": ("POST /auth/switch", {200}, {400, 401, 403, 413, 415} | LIMITED),
    "joinOrganization": ("POST /auth/join", {200}, {400, 401, 403, 409, 413, 415} | LIMITED),
    "changePassword": ("POST /auth/password", {204}, {400, 401, 403, 413, 415} | LIMITED),
    "listSessions": ("GET /auth/sessions", {200}, {400, 401} | LIMITED),
    "endSession": ("DELETE /auth/sessions/{id}", {204}, {400, 401, 404} | LIMITED),
    "logoutEverywhere": ("POST /auth/logout-all", {204}, {400, 401} | LIMITED),
    "listMembers": ("GET /members", {200}, {400, 401, 403} | LIMITED),
    "changeMember": ("PATCH /members/{id}", {200}, {400, 401, 403, 404, 409, 413, 415} | LIMITED),
    "invite": ("POST /invitations", {201}, {400, 401, 403, 409, 413, 415} | LIMITED),
    "listInvitations": ("GET /invitations", {200}, {400, 401, 403} | LIMITED),
    "revokeInvitation": ("DELETE /invitations/{id}", {204}, {400, 401, 403, 404} | LIMITED),
    "changeOrganization": ("PATCH /organization", {200}, {400, 401, 403, 409, 413, 415} | LIMITED),
    "getHealth": ("GET /health", {200, 503}, set()),
    "getReadiness": ("GET /health/ready", {200, 503}, set()),
    "getLiveness": ("GET /health/live", {200}, set()),
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
    """Every operation is there, by its id, with a summary, and with each answer it can give and no other."""
    found = {}
    for method, path, operation in operations(document_of(board)):
        assert operation["summary"]
        assert operation["description"]
        found[operation["operationId"]] = (f"{method} {path}", set(map(int, operation["responses"])))
    assert found == {name: (call, answers | problems | {500}) for name, (call, answers, problems) in OPERATIONS.items()}


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
    """Every refusal is a problem of that status, by every code it can have, whose type leads to a page."""
    document = document_of(board)
    codes = set()
    for _, _, operation in operations(document):
        for status in OPERATIONS[operation["operationId"]][2] | {500}:
            content = resolved(document, operation["responses"][str(status)])["content"]
            assert content.keys() == {PROBLEM}
            for code, example in content[PROBLEM]["examples"].items():
                assert (example["value"]["status"], example["value"]["code"]) == (status, code)
                codes.add(code)
    assert {"invalid-request", "invalid-cursor", "wrong-state", "already-exists"} <= codes
    for code in codes:
        assert board.client().get(f"/problems/{code}").status_code == 200


def test_headers_of_answers(board: Board) -> None:
    """An answer names its correlation id, what a limit has left, a challenge, a wait, an event's tag, a stored key."""
    document = document_of(board)
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            answer = resolved(document, answer)
            expected = {"X-Correlation-ID"}
            keyed = operation["operationId"] in CHANGES | {"createEvent"}
            problem = PROBLEM in answer.get("content", {})
            expected |= {"WWW-Authenticate"} if status == "401" else set()
            expected |= (
                {"Retry-After"} if (problem and status in ("429", "503")) or (keyed and status == "409") else set()
            )
            stored = keyed and (status[0] == "2" or status in ("404", "409", "412"))
            expected |= {"Idempotency-Status"} if stored else set()
            limited = "429" in operation["responses"] and (status[0] in "23" or status == "429")
            expected |= {"RateLimit", "RateLimit-Policy"} if limited else set()
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            expected |= {"ETag"} if status == "304" or schema.get("$ref", "").endswith("/Event") else set()
            expected |= {"Location"} if operation["operationId"] == "createEvent" and status == "201" else set()
            assert answer["headers"].keys() == expected, (operation["operationId"], status)


def test_conditions(board: Board) -> None:
    """Every write can be given a key, every change of an event a condition, reading one too, all a correlation id."""
    found = {}
    for _, _, operation in operations(document_of(board)):
        found[operation["operationId"]] = {part["name"] for part in operation["parameters"] if part["in"] == "header"}
    for name, headers in found.items():
        expected = {"X-Correlation-ID"}
        expected |= {"If-Match", "Idempotency-Key"} if name in CHANGES else set()
        expected |= {"Idempotency-Key"} if name == "createEvent" else set()
        expected |= {"If-None-Match"} if name == "getEvent" else set()
        assert headers == expected


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
def test_example_of_an_event_works(organization: Organization, board: Board, operation_id: str, state: str) -> None:
    """The example of a body, sent as it stands, is accepted, and answered in the shape of the example answer."""
    document = document_of(board)
    (found,) = [entry for entry in operations(document) if entry[2]["operationId"] == operation_id]
    method, path, operation = found
    for media_type, content in operation["requestBody"]["content"].items():
        event = organization.event_in(state, author=organization.admin)
        answer = organization.admin.http.request(
            method,
            path.replace("{id}", event["id"]),
            json=content["example"],
            headers={"content-type": media_type, "if-match": "*"},
        )
        assert answer.is_success, answer.text
        _assert_like_example(document, operation, answer.status_code, answer.json())


def test_example_of_an_account_works(board: Board) -> None:
    """The examples of log-in and sign-up, sent as they stand, are accepted."""
    document = document_of(board)
    demo_account(board)
    for path, accepted in (("/auth/login", {200}), ("/auth/signup", {201})):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = board.client().post(path, json=example)
        assert answer.status_code in accepted, answer.text
        _assert_like_example(document, operation, answer.status_code, answer.json())


def _assert_like_example(document: Json, operation: Json, status: int, body: Json) -> None:
    content = operation["responses"][str(status)]["content"]["application/json"]
    validator(document, content["schema"]).validate(body)
    assert body.keys() == content["example"].keys()


def test_wrong_example_is_refused_by_both(organization: Organization, board: Board) -> None:
    """What the schema of a body refuses, the server refuses: an unknown field, a short text, a time without offset."""
    document = document_of(board)
    content = document["paths"]["/events"]["post"]["requestBody"]["content"]["application/json"]
    for wrong in ({"colour": "red"}, {"title": "ab"}, {"startDate": "2027-03-01T18:00:00"}, {"title": " \n "}):
        body = {**content["example"], **wrong}
        assert not validator(document, content["schema"]).is_valid(body)
        assert organization.user.http.post("/events", json=body).status_code == 400


def test_ways_to_the_explorers(board: Board) -> None:
    """`/`, `/docs`, `/api` and `/schema` lead to Swagger UI; pages that would need a CDN aren't there."""
    http = board.client()
    for path in ("/", "/docs", "/api", "/schema", "/schema/"):
        answer = http.get(path)
        assert answer.status_code == 307
        assert answer.headers["location"] == "/schema/swagger"
    for path in ("/schema/elements", "/schema/rapidoc", "/schema/openapi.yaml", "/schema/oauth2-redirect.html"):
        assert http.get(path).status_code == 404


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
