"""The metrics of a process, by prometheus-client. This is the complete list; docs/operations/watch.md explains each."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# Seconds. The buckets that OpenTelemetry recommends for HTTP, and two below: a read by key takes a millisecond.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

# A `_created` series for each series would double their number.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped


class Metrics:
    """The metrics in a registry of their own.

    Label values come from small closed sets, never from ids or requests. Those that are known in advance are created
    at start (`.labels(…)`) with the value 0, so that `increase()` sees the first increment.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

        def histogram(name: str, documentation: str, *labels: str) -> Histogram:
            return Histogram(name, documentation, labels, registry=registry, buckets=BUCKETS)

        self.info = Info("eventboard", "Version and target of this process.", registry=registry)
        self.event_loop_lag = histogram(
            "eventboard_event_loop_lag_seconds",
            "Delay of a timer that is set every second, in seconds. Above 0.1, the process needs more replicas.",
        )
        self.log_lines_dropped = counter(
            "eventboard_log_lines_dropped_total",
            "Log lines dropped because standard error was not read in time. Check the log collector.",
        )

        self.request_duration = histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests, in seconds. The status is empty if the client disconnected.",
            "http_request_method",
            "http_route",
            "http_response_status_code",
        )
        self.active_requests = gauge(
            "http_server_active_requests", "HTTP requests in progress, except health checks and metrics."
        )
        self.rejected = counter(
            "eventboard_rejected_total",
            "Requests rejected by a limit. If it is one of the process, such as requests or passwords, add replicas.",
            "limit",
        )
        self.unlimited = counter(
            "eventboard_unlimited_total",
            "Requests served without their limit, because it could not be checked. Check auth and its limit store.",
            "limit",
        )

        self.call_duration = histogram(
            "rpc_client_call_duration_seconds",
            "Duration of calls to a module with their retries, in seconds. error_type is empty after a success.",
            "rpc_method",
            "error_type",
        )
        self.idempotency = counter(
            "eventboard_idempotency_total",
            "Writes with an idempotency key of the client, by outcome.",
            "rpc_method",
            "outcome",
        )
        self.rpc_retries = counter(
            "eventboard_rpc_retries_total",
            "Retries of calls between processes, by the reason that the previous attempt failed. Check the service.",
            "rpc_method",
            "reason",
        )
        self.breaker_state = gauge(
            "eventboard_breaker_state", "1 for the current state of a module's circuit breaker.", "module", "state"
        )
        self.breaker_opened = counter(
            "eventboard_breaker_opened_total",
            "Times that a module's circuit breaker opened. Check that module's service and the network.",
            "module",
        )
        self.breaker_rejected = counter(
            "eventboard_breaker_rejected_total", "Calls rejected by an open circuit breaker.", "module"
        )
        self.session_check_unanswered = counter(
            "eventboard_session_checks_unanswered_total",
            "Requests whose session was not checked in time, by what was used instead. Check auth's load.",
            "by",
        )

        pool = "db_client_connection_pool_name"
        self.pool_connections = gauge(
            "db_client_connection_count", "Open connections to PostgreSQL.", pool, "db_client_connection_state"
        )
        self.pool_size_limit = gauge("db_client_connection_max", "Most connections that a pool opens.", pool)
        self.pool_pending_requests = gauge(
            "db_client_connection_pending_requests",
            "Calls that wait for a connection. Look for slow statements, or raise database.pool_size.",
            pool,
        )
        self.pool_timeouts = counter(
            "db_client_connection_timeouts_total",
            "Calls without a connection until their deadline. Look for slow statements, or raise database.pool_size.",
            pool,
        )
        self.sweep_failures = counter(
            "eventboard_sweep_failures_total",
            "Failed rounds of deleting expired rows. The log has the reason; until it is fixed, tables grow.",
            "sweep",
        )

    def backlog(self, name: str, what: str) -> Gauge:
        """The gauge of one sweeper, which deletes `what`."""
        documentation = f"Expired rows that are not deleted yet: {what}. If it grows, sweep more often."
        return Gauge(f"eventboard_{name}_backlog", documentation, registry=self.registry)
