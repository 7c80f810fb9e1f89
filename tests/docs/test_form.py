"""The form of documents: short enough, with a table of contents, and in the parts that their readers expect."""

import re
from pathlib import Path

import pytest
from tools import documents as made

from tests.support import documents
from tests.support.documents import DECISIONS, PAGES, ROOT

DOCS = ROOT / "docs"
LONGEST_LINE = 120
PARTS = ["Context", "Decision", "Consequences", "Alternatives"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PAGES, *DECISIONS], ids=name)
def test_lines(path: Path) -> None:
    """Lines can be read in an editor. Tables of evaluators and of decisions, which are wide, are an exception."""
    wide = path.parent != DOCS / "operations"
    lines = path.read_text().splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE and not (wide and line.startswith("|"))] == []


def test_readme() -> None:
    """It is read before anything is decided: short, with a small picture."""
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 120
    pictures = [ROOT / link for link in documents.links(readme) if link.endswith(".png")]
    assert pictures
    assert [picture for picture in pictures if picture.stat().st_size > 200_000] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.is_relative_to(DOCS)], ids=name)
def test_contents(path: Path) -> None:
    """A page with several sections begins with links to all of them."""
    sections = [anchor for level, _, anchor in documents.headings(path) if level == 2]
    if len(sections) < 3:
        return
    begin = path.read_text().partition("\n## ")[0]
    assert re.findall(r"^- \[.+\]\(#([^)]+)\)$", begin, re.MULTILINE) == sections


@pytest.mark.parametrize("part", made.PARTS)
def test_part_made_from_other_files(part: str) -> None:
    """`make docs` has been run: the table says what config/*.toml say, the list what decisions there are."""
    path, _ = made.PARTS[part]
    assert path.read_text() == made.written(part), "run `make docs`"


@pytest.mark.parametrize("path", DECISIONS, ids=name)
def test_decision(path: Path) -> None:
    """Context, decision, consequences, alternatives. The title has the file's number."""
    (level, title, _), *rest = documents.headings(path)
    assert level == 1
    assert title.startswith(f"{int(path.name[:4])}. ")
    assert [text for level, text, _ in rest if level == 2] == PARTS


def test_decisions_that_supersede_others() -> None:
    """Each of two says so."""
    texts = {path.name: path.read_text() for path in DECISIONS}
    replaced = {(other, name) for name, text in texts.items() for other in _linked(text, "Supersedes")}
    assert replaced
    assert replaced == {(name, other) for name, text in texts.items() for other in _linked(text, "Superseded by")}


def _linked(text: str, word: str) -> list[str]:
    """The decision that the first link after the word leads to, in each line that begins with it."""
    return re.findall(rf"^{re.escape(word)} \[[^]]*\]\((\d{{4}}-[\w-]+\.md)\)", text, re.MULTILINE)
