"""What the OpenAPI document says besides what Litestar infers from the handlers: descriptions, examples, problems."""
