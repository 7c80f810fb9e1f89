"""OpenAPI 3.1 from the routes: each states its operation beside its path, and `document` puts them together."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import Method
from msgspec import Struct
from msgspec.structs import replace

from eventboard.platform import context
from eventboard.platform.errors import HTTP, Code, KeyStatus, ServiceError, too_many
from eventboard.platform.problems import MEDIA_TYPE, Problem, is_safe, problem
from eventboard.platform.quotas import Quota

JsonObject = dict[str, Any]

# Stands in every example of a problem.
CORRELATION_ID = "5e0c7b1a-6f0d-4a3e-9a58-2d9f3c1b7e46"

# In this order in the document; Litestar keeps none.
_METHODS: tuple[Method, ...] = ("GET", "POST", "PATCH", "DELETE")
_SCHEMA = "#/components/schemas/{name}"


class Parameter(Struct, frozen=True):
    """Something in a path, or a header of a request or an answer. `always`: each such answer has it."""

    name: str
    description: str
    schema: JsonObject
    always: bool = True


class Query(Struct, frozen=True):
    """What a query string may hold: a struct, and a description of each of its fields."""

    type: type[Struct]
    descriptions: Mapping[str, str]


class Body(Struct, frozen=True, kw_only=True):
    """`example` is a whole body: its type is the schema. `rules` are JSON Schema's words for what a type can't say."""

    example: Struct
    required: bool = True
    media_types: Sequence[str] = ("application/json",)
    rules: JsonObject = {}


class Answer(Struct, frozen=True, kw_only=True):
    """An answer that is no problem. `links` are operations that take the path parameter `id` from its body."""

    description: str
    example: Struct | None = None
    media_type: str = "application/json"
    headers: Sequence[Parameter] = ()
    links: Sequence[str] = ()


class Operation(Struct, frozen=True, kw_only=True):
    """What a route says of itself, as `@get(..., operation=Operation(...))`.

    `problems` are examples of its own refusals; those that come with a token (unless `open`), with a body and with
    every operation are added.
    """

    id: str
    summary: str
    description: str
    tag: str
    answers: Mapping[int, Answer]
    problems: Sequence[ServiceError] = ()
    path: Sequence[Parameter] = ()
    query: Query | None = None
    headers: Sequence[Parameter] = ()
    body: Body | None = None
    open: bool = False
    # It takes idempotency keys: the header, what its answers say of it, and its problems are added.
    keyed: bool = False
    # What its callers are limited by, for its example; those with a token are limited by user.
    limit: Quota | None = None


# Of every caller with a token.
BY_USER = Quota("user", 1200, 60, 0, 30)

TOKEN_PROBLEMS = (ServiceError(Code.INVALID_TOKEN, "The access token is refused: it has expired."),)
BODY_PROBLEMS = (
    ServiceError(Code.TOO_LARGE, "The body is too large."),
    ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json."),
)
KEY_PROBLEMS = (
    ServiceError(Code.INVALID_IDEMPOTENCY_KEY, "A key is 1 to 255 visible ASCII characters, bare or quoted."),
    ServiceError(
        Code.REQUEST_IN_PROGRESS, "The first request with this idempotency key is still running.", retry_after=1
    ),
    ServiceError(Code.IDEMPOTENCY_KEY_REUSED, "This idempotency key was used for a request with another payload."),
)
ALWAYS = (ServiceError(Code.INTERNAL, "The error was logged under this correlation id."),)

_ASKED_CORRELATION = Parameter(
    "X-Correlation-ID",
    "Names this request in answers, logs and history. 1 to 128 of `A-Z a-z 0-9 . _ : -`; anything else is replaced.",
    {"type": "string"},
)
_GIVEN_CORRELATION = Parameter(
    "X-Correlation-ID",
    "The request's own correlation id, or the one it was given.",
    {"type": "string", "pattern": f"^{context.CORRELATION_ID.pattern}$"},
)
_KEY = Parameter(
    "Idempotency-Key",
    "Makes this write happen once, however often it is sent with the same key: 1 to 255 visible ASCII characters.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r'^(?!""$)[\x21-\x7e]+$'},
)
_QUOTAS = '^"[a-z-]+";{0}(, "[a-z-]+";{0})*$'
_KEY_STATUS = Parameter(
    "Idempotency-Status",
    "Whether this outcome, stored under your key, was led to now or is that of the first request.",
    {"type": "string", "enum": [status.value for status in KeyStatus]},
    always=False,
)
_RATE_LIMIT = (
    Parameter(
        "RateLimit",
        "What is left of each limit that this request was counted against, and for how many seconds.",
        {"type": "string", "pattern": _QUOTAS.format("r=[0-9]+;t=[0-9]+")},
    ),
    Parameter(
        "RateLimit-Policy",
        "Those limits: how many, in how many seconds.",
        {"type": "string", "pattern": _QUOTAS.format("q=[0-9]+;w=[0-9]+")},
    ),
)
# A limit may be turned off.
_RATE_LIMIT_SOMETIMES = tuple(replace(parameter, always=False) for parameter in _RATE_LIMIT)
# Statuses of refusals that are stored under a key, too.
_KEPT = (404, 409, 412)
_RETRY_AFTER = Parameter("Retry-After", "Seconds to wait.", {"type": "integer", "minimum": 1})
_CHALLENGE = Parameter(
    "WWW-Authenticate", "The Bearer challenge of RFC 6750.", {"type": "string", "pattern": "^Bearer "}
)


def document(routes: Iterable[BaseRoute], **about: Any) -> JsonObject:
    """`about` is what no route says: info, servers, tags. A route that says nothing of itself is a TypeError."""
    stated = [
        (route.path_format, method, _operation(handler.opt, route.path_format))
        for route in routes
        if isinstance(route, HTTPRoute)
        for method in _METHODS
        for handler, _ in [route.route_handler_map.get(method, (None, None))]
        if handler and handler.resolve_include_in_schema()
    ]
    parts = _Parts([operation for _, _, operation in stated])
    paths: dict[str, JsonObject] = {}
    for path, method, operation in stated:
        paths.setdefault(path, {})[method.lower()] = _described(parts, method, operation)
    return {
        "openapi": "3.1.0",
        **about,
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            **parts.components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The `accessToken` that sign-up and log-in answer with.",
                }
            },
        },
    }


class _Parts:
    """The document's components: made when an operation first refers to them."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        bodies = {type(operation.body.example): operation.body.rules for operation in operations if operation.body}
        queries = [operation.query.type for operation in operations if operation.query]
        answers = [type(answer.example) for operation in operations for answer in operation.answers.values()]
        types = dict.fromkeys([*bodies, *queries, *answers, Problem])
        types.pop(type(None), None)
        _, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMA)
        for schema in schemas.values():
            _mend(schema)
        for type_, rules in bodies.items():
            schemas[type_.__name__] |= {"additionalProperties": False, **rules}
        # A query string is no object: each of its fields is a parameter.
        self._queries = {type_: schemas.pop(type_.__name__) for type_ in dict.fromkeys(queries)}
        self.components: dict[str, dict[str, Any]] = {
            "schemas": dict(sorted(schemas.items())),
            "responses": {},
            "headers": {},
        }

    def schema(self, example: Struct) -> JsonObject:
        return {"$ref": _SCHEMA.format(name=type(example).__name__)}

    def fields(self, type_: type[Struct]) -> JsonObject:
        """The fields' schemas. In a query string there is no null, only a parameter that isn't there."""
        return {name: _without_null(schema) for name, schema in self._queries[type_]["properties"].items()}

    def headers(self, parameters: Sequence[Parameter]) -> JsonObject:
        headers = {}
        for parameter in parameters:
            name = parameter.name if parameter.always else f"{parameter.name}.sometimes"
            self.components["headers"][name] = {
                "description": parameter.description,
                "required": parameter.always,
                "schema": parameter.schema,
            }
            headers[parameter.name] = {"$ref": f"#/components/headers/{name}"}
        return headers

    def problem(self, method: str, errors: Sequence[ServiceError], more: Sequence[Parameter]) -> JsonObject:
        """A response of one status, with an example of each error; many operations share one."""
        safe = is_safe(method)
        examples: JsonObject = {}
        headers, waits = [_GIVEN_CORRELATION, *more], []
        for error in errors:
            with context.use(context.Context(CORRELATION_ID)):
                status, given, body = problem(error, safe=safe)
            examples[error.code.value] = {"value": msgspec.json.decode(body)}
            waits.append("retry-after" in given)
            headers += [_CHALLENGE] if status == 401 else []
        headers += [replace(_RETRY_AFTER, always=all(waits))] if any(waits) else []
        response = {
            "description": " ".join(f"[`{code}`](/problems/{code}): {HTTP[Code(code)][1]}." for code in examples),
            "headers": self.headers(headers),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _SCHEMA.format(name="Problem")}, "examples": examples}},
        }
        name = f"{'-or-'.join(examples)}.{'read' if safe else 'write'}"
        if self.components["responses"].setdefault(name, response) != response:
            return response  # of this operation alone
        return {"$ref": f"#/components/responses/{name}"}


def _operation(opt: Mapping[str, Any], path: str) -> Operation:
    operation = opt.get("operation")
    if not isinstance(operation, Operation):
        raise TypeError(f"a route at {path} states no operation")
    if [parameter.name for parameter in operation.path] != re.findall(r"{(\w+)}", path):
        raise TypeError(f"{operation.id} describes other parameters than those of {path}")
    return operation


def _described(parts: _Parts, method: str, operation: Operation) -> JsonObject:
    described: JsonObject = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "parameters": list(_parameters(parts, operation)),
        "responses": dict(sorted(_responses(parts, method, operation).items())),
    }
    if operation.body:
        content = {"schema": parts.schema(operation.body.example), "example": _json(operation.body.example)}
        described["requestBody"] = {
            "required": operation.body.required,
            "content": dict.fromkeys(operation.body.media_types, content),
        }
    if operation.open:
        described["security"] = []
    return described


def _parameters(parts: _Parts, operation: Operation) -> Iterator[JsonObject]:
    for parameter in operation.path:
        yield {"in": "path", "required": True, **_stated(parameter)}
    if operation.query:
        for name, schema in parts.fields(operation.query.type).items():
            yield {"in": "query", **_stated(Parameter(name, operation.query.descriptions[name], schema))}
    for parameter in (*operation.headers, *((_KEY,) if operation.keyed else ()), _ASKED_CORRELATION):
        yield {"in": "header", **_stated(parameter)}


def _stated(parameter: Parameter) -> JsonObject:
    return {"name": parameter.name, "description": parameter.description, "schema": parameter.schema}


def _responses(parts: _Parts, method: str, operation: Operation) -> JsonObject:
    responses: JsonObject = {}
    limit = operation.limit or (None if operation.open else BY_USER)
    more = (*((_KEY_STATUS,) if operation.keyed else ()), *(_RATE_LIMIT_SOMETIMES if limit else ()))
    for status, answer in operation.answers.items():
        response: JsonObject = {
            "description": answer.description,
            "headers": parts.headers((*answer.headers, *more, _GIVEN_CORRELATION)),
        }
        if answer.example is not None:
            content = {"schema": parts.schema(answer.example), "example": _json(answer.example)}
            response["content"] = {answer.media_type: content}
        if answer.links:
            response["links"] = {
                name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in answer.links
            }
        responses[str(status)] = response
    problems = (
        *operation.problems,
        *(() if operation.open else TOKEN_PROBLEMS),
        *(BODY_PROBLEMS if operation.body else ()),
        *(KEY_PROBLEMS if operation.keyed else ()),
        *([too_many((limit,))] if limit else ()),
        *ALWAYS,
    )
    by_status: dict[int, list[ServiceError]] = {}
    for error in problems:
        by_status.setdefault(HTTP[error.code][0], []).append(error)
    for status, errors in by_status.items():
        kept = operation.keyed and status in _KEPT
        told = (_KEY_STATUS,) if kept else _RATE_LIMIT if status == 429 else ()
        responses[str(status)] = parts.problem(method, errors, told)
    return responses


def _json(example: Struct) -> Any:
    """As it is on the wire."""
    return msgspec.json.decode(msgspec.json.encode(example))


def _mend(schema: Any) -> None:
    """What msgspec leaves out, or says in Python's names, at any depth."""
    if isinstance(schema, dict):
        if "enum" in schema:
            schema["type"] = "string"
        if isinstance(description := schema.get("description"), str):
            schema["description"] = re.sub(r"_([a-z])", lambda match: match[1].upper(), description)
        for part in schema.values():
            _mend(part)
    elif isinstance(schema, list):
        for part in schema:
            _mend(part)


def _without_null(schema: JsonObject) -> JsonObject:
    (one,) = [part for part in schema.get("anyOf", [schema]) if part != {"type": "null"}]
    return {name: value for name, value in one.items() if (name, value) != ("default", None)}
