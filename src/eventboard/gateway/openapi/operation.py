"""How an operation is described besides what Litestar infers from its handler: a path and its parameters."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from eventboard.core.errors import Code


class Answer(Struct, frozen=True, kw_only=True):
    """A response that is no problem. `headers` are names of `HEADERS` that it has besides the common ones.

    `links` are operations that take the `id` of its body as a path parameter.
    """

    description: str
    example: Struct | None = None
    headers: Sequence[str] = ()
    links: Sequence[str] = ()


class Operation(Struct, frozen=True, kw_only=True):
    """`body` is an example of the request's body, and `query` the struct of its query parameters.

    `path` describes the path parameter, and has an example of it. `headers` are names of `PARAMETERS`. `problems` are
    those of its own; those of every operation, of tokens, of bodies and of idempotency keys aren't named.
    """

    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    path: tuple[str, str] | None = None
    query: type[Struct] | None = None
    headers: Sequence[str] = ()
    body: Struct | None = None
    body_required: bool = True
    problems: Sequence[Code] = ()
    public: bool = False
    limited: bool = True
    takes_key: bool = False
