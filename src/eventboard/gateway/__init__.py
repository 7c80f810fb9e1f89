"""The public HTTP API. It knows the modules by their contracts only."""
