"""Engines that this machine lacks."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.engines import fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    return tmp_path


def test_package_of_another_suite() -> None:
    """It runs from the cache's folder, and a second time nothing is fetched."""
    folder = fetch.debian("bullseye", "hello")
    assert subprocess.check_output([folder / "usr/bin/hello"], text=True) == "Hello, world!\n"
    made = (folder / ".complete").stat().st_mtime_ns
    assert (fetch.debian("bullseye", "hello") / ".complete").stat().st_mtime_ns == made


def test_package_that_is_not_there(cache: Path) -> None:
    """The skip names it; nothing counts as fetched."""
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match=r"^no-such-thing of Debian bullseye can't be fetched: .+"):
            fetch.debian("bullseye", "no-such-thing")
    assert not list(cache.glob("*/.complete"))
