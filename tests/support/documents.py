"""What README and docs/ contain: headings, links, code and blocks of commands; and a shell that runs those."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from eventboard.dev.postgres_programs import find_binaries
from eventboard.modules.auth.keys import KeyRing
from tests.support.cluster import database
from tests.support.commands import ran
from tests.support.processes import admin_of, environment, serving

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "operations").glob("*.md")),
]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
# Seconds for all commands of one document: ten times what the longest takes on two busy cores.
PATIENCE = 120.0


class Block(NamedTuple):
    """A fenced block. `marks` are the words after its language, `why` what follows a mark with a colon."""

    line: int
    language: str
    marks: frozenset[str]
    why: str
    text: str


class Command(NamedTuple):
    """`expected` is what it prints, with `…` for anything, or None; `fails` whether it has to."""

    line: int
    script: str
    expected: str | None
    fails: bool


@cache
def tokens(path: Path) -> list[Token]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(path.read_text())


def inline(path: Path) -> Iterator[Token]:
    for token in tokens(path):
        yield from token.children or ()


def headings(path: Path) -> list[tuple[int, str, str]]:
    """Level, text and anchor, as GitHub makes it."""
    found: list[tuple[int, str, str]] = []
    for before, token in zip(tokens(path), tokens(path)[1:], strict=False):
        if before.type == "heading_open":
            text = "".join(child.content for child in token.children or ())
            anchor = re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
            again = sum(re.sub(r"-\d+$", "", other) == anchor for _, _, other in found)
            found.append((int(before.tag[1]), text, f"{anchor}-{again}" if again else anchor))
    return found


def links(path: Path) -> list[str]:
    """Of links and images."""
    return [str(token.attrs.get("href") or token.attrs.get("src")) for token in inline(path) if token.attrs]


def code(path: Path) -> list[str]:
    """All that is set as code: spans, and the lines of blocks."""
    spans = [token.content for token in inline(path) if token.type == "code_inline"]
    return spans + [line for block in blocks(path) for line in block.text.splitlines()]


def blocks(path: Path) -> list[Block]:
    found = []
    for token in tokens(path):
        if token.type == "fence" and token.map:
            info, _, why = token.info.partition(":")
            language, *marks = info.split() or [""]
            found.append(Block(token.map[0] + 1, language, frozenset(marks), why.strip(), token.content))
    return found


def commands(path: Path, *, slow: bool = False) -> list[Command]:
    """In their order. A block `output` is what the block before it prints."""
    found: list[Command] = []
    runs = False
    for block in blocks(path):
        if "output" in block.marks:
            if runs:
                found[-1] = found[-1]._replace(expected=block.text)
            continue
        runs = "not-run" not in block.marks and (slow or "slow" not in block.marks)
        if runs and block.language == "sh":
            found.append(Command(block.line, block.text, None, fails=False))
        elif runs and block.language == "console":
            for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                script, _, expected = shown.partition("\n")
                found.append(Command(block.line, script, expected, fails=expected.startswith("eventboard: ")))
    return found


@contextmanager
def board(cluster_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """A running board with demo data; yields the variables of a shell whose commands meet it."""
    with database(cluster_url) as url:
        code, output = ran("demo", DATABASE_URL=url)
        assert code == 0, output
        KeyRing(folder / "keys", create=True)
        with serving(url, folder) as process:
            admin = admin_of(process)
            yield {
                **environment({"EVENTBOARD_DATABASE_URL": url}),
                "EVENTBOARD_SERVER_PORT": process.url.rpartition(":")[2],
                "EVENTBOARD_SERVER_ADMIN_PORT": admin.rpartition(":")[2],
                "EVENTBOARD_TOKENS_KEY_FILE": str(folder / "keys"),
                "http://localhost:3000": process.url,
                "http://localhost:3900": admin,
            }


def run(path: Path, folder: Path, variables: Mapping[str, str], *, slow: bool = False) -> None:
    """Runs a document's commands in one shell, as a reader does, in a folder that looks like the repository.

    Those of `variables` that are addresses replace what the document has in their place.
    """
    wanted = commands(path, slow=slow)
    between = "\N{RECORD SEPARATOR}"
    script = ["set -e -o pipefail"]
    for command in wanted:
        script.append(f"printf '{between}'")
        script.append(f"if {command.script}; then exit 99; fi" if command.fails else command.script)
    text = "\n".join(script)
    for name, value in variables.items():
        if name.startswith("http:"):
            text = text.replace(name, value)
    paths = [_tools(folder), str(Path(sys.executable).parent), str(programs()), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=_checkout(folder),
        env={**{name: value for name, value in variables.items() if ":" not in name}, "PATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    _, *printed = done.stdout.split(between)
    last = wanted[len(printed) - 1]
    assert done.returncode == 0, f"{path.name}:{last.line}: {last.script}\n{printed[-1]}"
    for command, output in zip(wanted, printed, strict=True):
        if command.expected is not None:
            assert matches(command.expected, output), f"{path.name}:{command.line}: {command.script}\n{output}"


def matches(expected: str, output: str) -> bool:
    """`…` is anything; lines may be broken anywhere."""
    parts = re.sub(r"\s+", "", expected).split("…")
    return re.fullmatch(".*".join(map(re.escape, parts)), re.sub(r"\s+", "", output), re.DOTALL) is not None


def programs() -> Path:
    """Of the PostgreSQL that the tests run on."""
    chosen = os.environ.get("EVENTBOARD_POSTGRES_BIN")
    return find_binaries(Path(chosen) if chosen else None)


def _checkout(folder: Path) -> Path:
    checkout = folder / "checkout"
    if not checkout.exists():
        checkout.mkdir()
        for entry in ROOT.iterdir():
            if entry.name not in ("var", "build", "dist", "secrets", ".env"):
                (checkout / entry.name).symlink_to(entry)
    return checkout


def _tools(folder: Path) -> str:
    """A `make` that shows that a target exists, and does nothing: other tests and CI run the targets."""
    make = folder / "tools" / "make"
    if not make.exists():
        make.parent.mkdir()
        make.write_text(f'#!/bin/sh\nexec {shutil.which("make")} -n -C "{ROOT}" "$@" >/dev/null\n')
        make.chmod(0o755)
    return str(make.parent)
