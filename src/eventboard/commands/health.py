"""`eventboard health`: asks the server on this machine. Containers run it often, so it imports little."""

import http.client
import ssl

from msgspec.structs import replace

from eventboard.core.errors import CommandError
from eventboard.settings import ADMIN_ABOVE, PORTS, Server

# Seconds: longer than the server's own checks may take (web/health.py), so that its answer is reported.
PATIENCE = 3.0


def probe(server: Server, *, ready: bool) -> str:
    """What it found. Raises CommandError. Without a port in the settings, tries those of every target."""
    host, ports = server.host, [server.port] if server.port else list(PORTS.values())
    if server.tls_client_ca:
        # The main port needs a client certificate.
        host = server.admin_host
        ports = [server.admin_port] if server.admin_port else [port + ADMIN_ABOVE for port in ports]
        server = replace(server, tls_certificate="")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    path = "/health/ready" if ready else "/health/live"
    for port in ports:
        connection = _connection(server, host, port)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"{host}:{port}: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise CommandError(f"{host}:{port}: {answer.status} {body}")
        scheme = "https" if server.tls_certificate else "http"
        return f"{scheme}://{host}:{port} is {'ready' if ready else 'alive'}"
    raise CommandError(f"nothing listens on {host}, port {', '.join(map(str, ports))}")


def _connection(server: Server, host: str, port: int) -> http.client.HTTPConnection:
    if not server.tls_certificate:
        return http.client.HTTPConnection(host, port, timeout=PATIENCE)
    # The certificate is for the name that clients use; this connects to the same machine.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
