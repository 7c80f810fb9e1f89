"""The OpenAPI document: what Litestar infers, completed by msgspec's schemas and by the descriptions of this package.

Litestar infers paths, operation ids and path parameters. Its schemas of structs have no descriptions, and it repeats
common headers and responses in each operation, so both are added to the finished document.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Any, get_args

import msgspec
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Tag
from msgspec import Struct

from eventboard.core import request_context
from eventboard.core.errors import HTTP, Code, KeyStatus, ServiceError
from eventboard.core.problems import MEDIA_TYPE, Problem, problem
from eventboard.core.text import PUBLISHED
from eventboard.gateway.openapi import accounts, events, health, members
from eventboard.gateway.openapi.examples import CORRELATION_ID
from eventboard.gateway.openapi.operation import Answer, Operation
from eventboard.gateway.request import JSON, PATCH_MEDIA_TYPES
from eventboard.gateway.schemas import JsonWebKeySet

JsonObject = dict[str, Any]

DESCRIPTION = """\
Organizations draft, submit and approve events: a member drafts an event and submits it, a moderator approves or rejects
it, and what is approved is on everybody's list.

Start with **Log in**: the `accessToken` of its answer is sent as `Authorization: Bearer …` with every other call.
Without an account, **Sign up** founds an organization with you as its ADMIN.

Every error is a problem of RFC 9457, whose `type` leads to [a page](/problems) that explains it. An operation names the
problems of its own. Besides these, a call may meet `invalid-token` (it needs an access token), `invalid-request` (its
`errors` name each wrong field), `too-many-requests` and `unavailable` (wait for `Retry-After` seconds), and the 5xx.

Times are RFC 3339, and come back in UTC; one without an offset is local time in the event's `timeZone`.

Every request may have an `X-Correlation-ID` of its own, 1 to 128 of `A-Z a-z 0-9 . _ : -`, which names it in answers,
logs and history.
"""

TAGS = {
    "Accounts": "Who is calling: sign-up, log-in, sessions, and the keys that verify access tokens.",
    "Members": "What an ADMIN does: members, invitations, the organization itself.",
    "Events": "An organization's events.",
    "Approval": "The life of an event. A command in the wrong state is a 409, and its `detail` names the state.",
    "Health": "Whether the service works.",
}

OPERATIONS: dict[str, Operation] = {
    **accounts.OPERATIONS,
    **members.OPERATIONS,
    **events.OPERATIONS,
    **health.OPERATIONS,
}

_BEARER = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="The `accessToken` that sign-up and log-in answer with.",
)

_TEXT: JsonObject = {"type": "string"}
_TAG = r'((W/)?"[!#-~\x80-\xff]*")?'  # an element of a list may be empty
_ENTITY_TAGS = {**_TEXT, "pattern": rf"^[ \t]*(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)[ \t]*$"}
PARAMETERS: dict[str, tuple[str, JsonObject]] = {
    "If-Match": ("Go ahead only if the event still has this `ETag`, otherwise 412.", _ENTITY_TAGS),
    "If-None-Match": ("The `ETag` of what you have; 304 if it hasn't changed.", _ENTITY_TAGS),
    "Idempotency-Key": (
        "Makes this write happen once, however often it is sent with the same key. Use a new UUID for each write.",
        {**_TEXT, "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
    ),
}
_QUOTAS = '^"[a-z-]+";{0}(, "[a-z-]+";{0})*$'
HEADERS: dict[str, tuple[str, JsonObject]] = {
    "X-Correlation-ID": (
        "The request's own correlation id, or the one it was given.",
        {**_TEXT, "pattern": f"^{request_context.CORRELATION_ID.pattern}$"},
    ),
    "ETag": ("Names this version of the event, for `If-Match`.", {**_TEXT, "pattern": '^"[0-9]+"$'}),
    "Location": ("The new event's address.", {**_TEXT, "format": "uri-reference"}),
    "Idempotency-Status": (
        "Whether this outcome, stored under your key, is new, or that of the first request.",
        {**_TEXT, "enum": [status.value for status in KeyStatus]},
    ),
    "RateLimit": (
        "What is left of each limit that this request counted against, and for how many seconds.",
        {**_TEXT, "pattern": _QUOTAS.format("r=[0-9]+;t=[0-9]+")},
    ),
    "RateLimit-Policy": (
        "Those limits: how many, in how many seconds.",
        {**_TEXT, "pattern": _QUOTAS.format("q=[0-9]+;w=[0-9]+")},
    ),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("With 401: the Bearer challenge of RFC 6750.", {**_TEXT, "pattern": "^Bearer "}),
}
# Every response has them; the others depend on the request and the settings.
_ALWAYS = {"X-Correlation-ID", "ETag", "Location"}
_LIMITS = ("RateLimit", "RateLimit-Policy")
# True of every operation.
_PROBLEMS = (
    ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=1),
    ServiceError(Code.INTERNAL, "The error was logged under this correlation id."),
)


def openapi_config(version: str, explorers: Sequence[OpenAPIRenderPlugin], **more: Any) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="EventBoard",
        version=version,
        description=DESCRIPTION,
        contact=Contact(name="EventBoard contributors"),
        license=License(name="MIT", identifier="MIT"),
        tags=[Tag(name=name, description=description) for name, description in TAGS.items()],
        components=Components(security_schemes={"bearer": _BEARER}),
        security=[{"bearer": []}],
        render_plugins=explorers,
        **more,
    )


def completed(inferred: Mapping[str, Any]) -> JsonObject:
    """The whole document, from the one that Litestar infers."""
    # Litestar's has an object of its own for some parts.
    document: JsonObject = msgspec.to_builtins(inferred)
    inferred_operations = {
        operation["operationId"]: (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    paths: dict[str, JsonObject] = {}
    for name, operation in OPERATIONS.items():
        path, method, of_litestar = inferred_operations.pop(name)
        parameters = of_litestar.get("parameters", [])
        paths.setdefault(path, {})[method] = _operation(name, operation, method, parameters)
    if inferred_operations:
        raise LookupError(f"no description of {', '.join(inferred_operations)}")
    components = {
        "schemas": dict(_schemas()),
        "parameters": {name: _parameter(name, "header", *about) for name, about in PARAMETERS.items()},
        "headers": {
            name: {"description": description, "schema": schema, "required": name in _ALWAYS}
            for name, (description, schema) in HEADERS.items()
        },
        "responses": {"Problem": _problem_response()},
        "securitySchemes": document["components"]["securitySchemes"],
    }
    head = {name: document.pop(name) for name in ("openapi", "info")}
    return {**head, **document, "paths": paths, "components": components}


def _operation(name: str, operation: Operation, method: str, inferred: Iterable[JsonObject]) -> JsonObject:
    answers = {str(status): _response(answer, operation) for status, answer in operation.answers.items()}
    headers = (*operation.headers, *(["Idempotency-Key"] if operation.takes_key else []))
    parameters = [
        *(_path_parameter(parameter["name"], *operation.path) for parameter in inferred if operation.path),
        *_query_parameters(operation.query),
        *({"$ref": f"#/components/parameters/{header}"} for header in headers),
    ]
    described: JsonObject = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description + _own_problems(operation.problems),
        "operationId": name,
        **({"parameters": parameters} if parameters else {}),
    }
    if operation.body is not None:
        content = _content(operation.body)
        described["requestBody"] = {
            "required": operation.body_required,
            "content": dict.fromkeys(PATCH_MEDIA_TYPES if method == "patch" else [JSON], content),
        }
    described["responses"] = {**answers, "default": {"$ref": "#/components/responses/Problem"}}
    if operation.public:
        described["security"] = []
    return described


def _own_problems(codes: Sequence[Code]) -> str:
    links = ", ".join(f"[`{code}`](/problems/{code}) ({HTTP[code][0]})" for code in codes)
    return f"\n\nProblems: {links}." if links else ""


def _path_parameter(name: str, description: str, example: str) -> JsonObject:
    schema = {**_TEXT, "format": "uuid"} if name == "id" else PARAMETERS["Idempotency-Key"][1]
    return {**_parameter(name, "path", description, schema), "example": example}


def _parameter(name: str, place: str, description: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": place, "description": description, "required": place == "path", "schema": schema}


def _query_parameters(query: type[Struct] | None) -> Iterator[JsonObject]:
    """Each field of the struct is a parameter. None of them is null, which a query string can't hold."""
    if query is None:
        return
    _, schemas = msgspec.json.schema_components([query], ref_template="#/components/schemas/{name}")
    for name, schema in schemas[query.__name__]["properties"].items():
        default = {} if schema.get("default") is None else {"default": schema["default"]}
        published = _without_null(_published(schema))
        yield _parameter(name, "query", published.pop("description"), {**published, **default})


def _response(answer: Answer, operation: Operation) -> JsonObject:
    names = ("X-Correlation-ID", *answer.headers)
    names += ("Idempotency-Status",) if operation.takes_key else ()
    names += _LIMITS if operation.limited else ()
    links = {name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in answer.links}
    return {
        "description": answer.description,
        "headers": _headers(names),
        **({"content": {_media_type(answer.example): _content(answer.example)}} if answer.example else {}),
        **({"links": links} if links else {}),
    }


def _headers(names: Sequence[str]) -> JsonObject:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _media_type(example: Struct) -> str:
    return "application/jwk-set+json" if isinstance(example, JsonWebKeySet) else JSON


def _content(example: Struct) -> JsonObject:
    return {
        "schema": {"$ref": f"#/components/schemas/{type(example).__name__}"},
        "example": msgspec.json.decode(msgspec.json.encode(example)),
    }


def _problem_response() -> JsonObject:
    examples = {}
    for error in _PROBLEMS:
        context = request_context.current()
        # The prefix of a path is put in with each request.
        base = "" if context.problem_base == context.prefix else context.problem_base
        with request_context.use(request_context.Context(CORRELATION_ID, problem_base=base)):
            _, _, body = problem(error, safe=False)
        examples[error.code.value] = {"summary": HTTP[error.code][1], "value": msgspec.json.decode(body)}
    return {
        "description": "Every error is [a problem](/problems); its `code` says which.",
        "headers": _headers(("X-Correlation-ID", "Retry-After", "WWW-Authenticate")),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


def _schemas() -> Iterator[tuple[str, JsonObject]]:
    """Of every body and answer, and what they refer to."""
    bodies = {type(operation.body) for operation in OPERATIONS.values() if operation.body is not None}
    answers = {
        type(answer.example)
        for operation in OPERATIONS.values()
        for answer in operation.answers.values()
        if answer.example
    }
    queries = {operation.query for operation in OPERATIONS.values() if operation.query}
    types = [Problem, *bodies, *answers, *queries]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    structs = {type_.__name__: type_ for type_ in _structs(types)}
    for name in sorted(schemas.keys() - {query.__name__ for query in queries}):
        schema = _published(schemas[name])
        # Fields have their JSON names.
        schema["description"] = re.sub(r"_([a-z])", lambda match: match[1].upper(), cleandoc(schema["description"]))
        struct = structs.get(name)
        if struct in bodies:
            schema["additionalProperties"] = False
        elif struct is not None and not struct.__struct_config__.omit_defaults:
            # Every field is sent.
            schema["required"] = list(schema["properties"])
        elif struct is not None:
            # A field is left out where others would have null.
            schema["properties"] = {
                field: each if field in schema["required"] else _without_null(each)
                for field, each in schema["properties"].items()
            }
        yield name, schema


def _structs(types: Iterable[Any]) -> Iterator[type[Struct]]:
    for type_ in types:
        if isinstance(type_, type) and issubclass(type_, Struct):
            yield type_
            yield from _structs(field.type for field in msgspec.structs.fields(type_))
        else:
            yield from _structs(get_args(type_))


def _published(schema: Any) -> Any:
    """A schema of msgspec, as others can use it.

    Without defaults: generators of clients take a field that has one for a field that is always there. With the type of
    enumerations. With patterns that RE2 has, too: those of texts have a simpler one, a type may give its own as
    `x-pattern`, and outside of Python `$` needs no look-ahead to match at the end alone.
    """
    if isinstance(schema, list):
        return [_published(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    published = {name: _published(value) for name, value in schema.items() if name != "default"}
    if isinstance(schema.get("enum"), list):
        published["type"] = "string"
    if isinstance(pattern := schema.get("pattern"), str):
        published["pattern"] = published.pop("x-pattern", PUBLISHED.get(pattern, pattern.removesuffix(r"(?!\n)")))
    return published


def _without_null(schema: JsonObject) -> JsonObject:
    if "anyOf" not in schema:
        return schema
    (one,) = [part for part in schema["anyOf"] if part != {"type": "null"}]
    return {**one, **{name: value for name, value in schema.items() if name != "anyOf"}}
