"""Clients that others' generators make of the OpenAPI document, used against a real process; and linters of it."""
