"""The commands of documents run as they stand, and print what the documents say."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import documents
from tests.support.documents import PAGES, ROOT

# The others, whose commands start the program again and again, are run by tests/shapes/test_documents.py.
QUICK = ("README.md", "CONTRIBUTING.md", "docs/guide.md", "docs/operations/watch.md")
# The page that is about one can't do without.
CLUSTER = "needs a cluster"
# Why a block may stay out.
REASONS = ("needs Docker", "needs a quiet machine", "downloads", CLUSTER)


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="no curl is installed; Debian: apt-get install curl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def variables(cluster_url: str, folder: Path) -> Iterator[dict[str, str]]:
    with documents.board(cluster_url, folder) as variables:
        yield variables


@needs_curl
@pytest.mark.parametrize("document", QUICK)
def test_commands(document: str, folder: Path, variables: dict[str, str]) -> None:
    """In one shell, from top to bottom; twice where a reader would copy the story again."""
    for _ in range(2 if document == "README.md" else 1):
        documents.run(ROOT / document, folder, variables)


def test_few_blocks_are_not_run() -> None:
    """Each says why. A language that runs nothing is no way out."""
    left_out = [(path.name, block) for path in PAGES for block in documents.blocks(path) if "not-run" in block.marks]
    assert [(name, block.line) for name, block in left_out if not block.why.startswith(REASONS)] == []
    assert {name for name, block in left_out if block.why == CLUSTER} == {"kubernetes.md"}
    assert len([block for _, block in left_out if block.why != CLUSTER]) < 10
    assert [
        (path.name, block.line)
        for path in PAGES
        for block in documents.blocks(path)
        if block.language in ("", "bash", "shell")
    ] == []
