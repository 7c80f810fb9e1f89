"""Links of documents lead somewhere."""

import re
from pathlib import Path

import httpx
import pytest

from tests.support import documents
from tests.support.board import Board
from tests.support.documents import DECISIONS, PAGES, ROOT
from tests.support.plain_http import NO_TLS

ALL = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "docs" / "decisions" / "README.md", *DECISIONS]
OURS = "http://localhost:3000"


def targets(path: Path) -> list[str]:
    return [target for target in documents.links(path) if not re.match(r"\w+:", target)]


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents(path: Path) -> None:
    """To a file that is there, and to a heading of it."""
    for target in targets(path):
        file, _, heading = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), target
        if heading:
            assert heading in {anchor for _, _, anchor in documents.headings(other)}, target


def test_every_document_is_linked() -> None:
    """From another one, so that readers find it."""
    linked = {(path.parent / target.partition("#")[0]).resolve() for path in ALL for target in targets(path)}
    pages = {*(ROOT / "docs").rglob("*.md")} - {ROOT / "docs" / "operations.md"}
    assert pages - linked == set()


def test_links_to_a_running_board(board: Board) -> None:
    """They are pages."""
    named = {
        address.removeprefix(OURS).rstrip(".,;)")
        for path in PAGES
        for address in re.findall(rf"{OURS}[^\s`)|\"']*", path.read_text())
    }
    assert named
    for path in named:
        answer = httpx.get(board.url + path, follow_redirects=True, timeout=30, verify=NO_TLS)
        assert answer.status_code in (200, 401), path


def test_documents_that_the_source_names() -> None:
    """They are there, with the decisions that it names by their number alone."""
    files = [
        path for folder in ("src", "tests", "bench", "config", "deploy", "tools") for path in (ROOT / folder).rglob("*")
    ]
    files += [ROOT / "compose.yaml", ROOT / "Makefile", ROOT / "pyproject.toml"]
    kinds = (".py", ".toml", ".yaml", ".cfg", ".sh", ".md", "")
    texts = [
        path.read_text() for path in files if path.is_file() and path.suffix in kinds and "static" not in path.parts
    ]
    named = {name for text in texts for name in re.findall(r"\bdocs/([\w/-]+\.md)", text)}
    assert [name for name in named if not (ROOT / "docs" / name).is_file()] == []
    numbers = {number for text in texts for number in re.findall(r"\bdocs/decisions/(\d{4})", text)}
    assert numbers
    assert numbers - {path.name[:4] for path in DECISIONS} == set()
