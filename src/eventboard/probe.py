"""`eventboard health`: asks the process that serves on this machine. A container asks often, so little is imported."""

import http.client
import ssl

from eventboard.settings import PORTS, Server

# Seconds: longer than the server's own checks may take (platform/health.py), so that its answer is what is told.
PATIENCE = 3.0


class ProbeError(Exception):
    """One line for the user."""


def probe(server: Server, *, ready: bool) -> None:
    """Raises ProbeError. Without a port in the settings the known ones are tried: a container serves on one of them."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - compared, not bound
    path = "/health/ready" if ready else "/health/live"
    ports = [server.port] if server.port else list(PORTS.values())
    for port in ports:
        connection = _connection(server, host, port)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException) as error:
            raise ProbeError(f"{host}:{port}: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise ProbeError(f"{host}:{port}: {answer.status} {body}")
        return
    raise ProbeError(f"nothing listens on {host}, port {', '.join(map(str, ports))}")


def _connection(server: Server, host: str, port: int) -> http.client.HTTPConnection:
    if not server.tls_certificate:
        return http.client.HTTPConnection(host, port, timeout=PATIENCE)
    # Its certificate is for the name that clients use, and may just have been renewed: this asks its own machine.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
