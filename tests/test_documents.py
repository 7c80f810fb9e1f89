"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECURITY = (ROOT / "docs" / "security.md").read_text()


def defined() -> set[str]:
    """The names of all tests."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}


def test_tests_that_show_what_is_secured() -> None:
    """Each test that docs/security.md names exists, by name or by file."""
    named = set(re.findall(r"`(test_\w+)`", SECURITY))
    assert len(named) > 50
    assert named - defined() == set()
    assert [path for path in re.findall(r"`(tests/[\w/]+\.py)`", SECURITY) if not (ROOT / path).is_file()] == []


def test_each_item_once() -> None:
    """An item of the standard is met, or not met, or doesn't apply."""
    met, _, rest = SECURITY.partition("## What is not met")
    rows = [line.split("|")[1] for line in (met + rest.partition("## Keys and secrets")[0]).splitlines() if "|" in line]
    items = [item for row in rows for item in re.findall(r"\b\d+\.\d+\.\d+\b", row)]
    assert len(items) > 120
    assert sorted(items) == sorted(set(items))


@pytest.mark.parametrize("document", sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")))
def test_links_between_documents(document: str) -> None:
    """They lead to a file, and to a heading of it."""
    path = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?:", target):
            continue
        file, _, heading = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, target


def test_decisions_that_the_source_names() -> None:
    """They are there."""
    named = {
        name
        for folder in ("src", "tests", "bench")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"docs/(decisions/[\w-]+\.md)", path.read_text())
    }
    assert named
    assert [name for name in named if not (ROOT / "docs" / name).is_file()] == []
