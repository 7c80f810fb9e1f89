"""A Redis of a test's own, where the machine has one."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NotThereError

from tests.support.ports import free_port
from tests.support.processes import PATIENCE

needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server is installed")


@dataclass
class RedisServer:
    url: str
    client: Redis
    popen: subprocess.Popen[bytes]

    def age(self) -> None:
        """As if each window had ended."""
        self.client.flushdb()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
    with Redis(port=port) as client:
        try:
            _until_there(client, popen)
            yield RedisServer(f"redis://127.0.0.1:{port}", client, popen)
        finally:
            popen.terminate()
            popen.wait(PATIENCE)


def _until_there(client: Redis, popen: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not _there(client):
        assert popen.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)  # between two looks at another process, which can't call back


def _there(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NotThereError:
        return False
