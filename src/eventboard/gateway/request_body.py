"""JSON bodies, decoded strictly: `dto=StrictDTO[EventDraft]` and `data: JSONBody[EventDraft]` in a handler."""

from collections.abc import Generator
from typing import Any, TypeVar

from litestar.dto import AbstractDTO, DTOConfig
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.openapi.spec import Schema
from litestar.typing import FieldDefinition

from eventboard.gateway.strict_decoding import decode

Body = TypeVar("Body")


class StrictDTO(AbstractDTO[Body]):
    """Decodes into the struct itself: there is no transfer model, and no conversion of types."""

    config = DTOConfig()

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:  # noqa: ARG003 - Litestar's signature
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:  # noqa: ARG003 - Litestar's signature
        return False

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """There is nothing to prepare."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,  # noqa: ARG003 - Litestar's signature
        handler_id: str,  # noqa: ARG003 - likewise
        schema_creator: Any,  # noqa: ARG003 - likewise
    ) -> Schema:
        """None of Litestar's: the document has msgspec's."""
        return Schema()

    def decode_bytes(self, value: bytes) -> Any:
        return decode(value, self.model_type)  # type: ignore[type-var]  # every body is a struct
