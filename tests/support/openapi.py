"""A board's own OpenAPI document, and what stands in it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from tests.support.board import Board

Json = dict[str, Any]


def document_of(board: Board) -> Json:
    return dict(board.client().get("/schema/openapi.json").raise_for_status().json())


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """(method, path, operation) of each."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def resolved(document: Json, part: Json) -> Json:
    """What a reference refers to; anything else as it is."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return dict(document["components"][kind][name])


def examples(media_type: Json) -> list[Any]:
    if "example" in media_type:
        return [media_type["example"]]
    return [example["value"] for example in media_type.get("examples", {}).values()]


def validator(document: Json, schema: Json) -> jsonschema_rs.Draft202012Validator:
    """Judges formats, too."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]}, validate_formats=True)


def demo_account(board: Board) -> Json:
    """The log-in that the document shows, of an account that is there now."""
    body = document_of(board)["paths"]["/auth/login"]["post"]["requestBody"]
    login: Json = body["content"]["application/json"]["example"]
    names = {"firstName": "Uma", "lastName": "User", "organizationName": "Acme Corporation"}
    assert board.client().post("/auth/signup", json={**login, **names}).status_code in (201, 409)
    return login
