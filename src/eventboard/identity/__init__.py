"""The identity of a caller: access tokens, and session checks."""
