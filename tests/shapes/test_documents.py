"""The commands of the documents that tests/docs leaves out, as they take long; and those marked `slow`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_commands import QUICK, needs_curl
from tests.support import documents
from tests.support.cluster import postgres
from tests.support.documents import PAGES, ROOT

NAMES = [str(path.relative_to(ROOT)) for path in PAGES if documents.commands(path, slow=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def variables(cluster_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """With superusers' URLs of the board's cluster, and of a new one."""
    with documents.board(cluster_url, folder) as variables, postgres() as other:
        yield {**variables, "OLD": variables["EVENTBOARD_DATABASE_URL"], "NEW": other.url()}


@needs_curl
@pytest.mark.parametrize("document", [name for name in NAMES if name not in QUICK])
def test_commands(document: str, folder: Path, variables: dict[str, str]) -> None:
    """In one shell, from top to bottom."""
    documents.run(ROOT / document, folder, variables, slow=True)
