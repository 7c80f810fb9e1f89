"""HTTP for every process: middleware, exception handlers, health checks, and the server."""
