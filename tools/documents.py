"""The parts of documents that are made from other files: `make docs` writes them.

The table of settings comes from config/*.toml: a key's text is its comment in base.toml, where a key without a default
is a comment itself. The list of decisions comes from their titles.
"""

import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
DOCS = ROOT / "docs"
WIDTH = 120

_SECTION = re.compile(r"\[(\w+)\]")
_KEY = re.compile(r"(?:# )?(?P<key>\w+) =(?P<value>[^#]*)# (?P<text>.+)")


class Setting(NamedTuple):
    section: str
    key: str
    text: str

    @property
    def variable(self) -> str:
        return f"EVENTBOARD_{self.section}_{self.key}".upper()


def settings() -> list[Setting]:
    """In the order of config/base.toml."""
    found, section = [], ""
    for line in (CONFIG / "base.toml").read_text().splitlines():
        if begins := _SECTION.match(line):
            section = begins[1]
        elif section and (row := _KEY.match(line)):
            found.append(Setting(section, row["key"], row["text"]))
    return found


def settings_table() -> str:
    """A table for each section; a long text goes on in further rows, so that no line is too long."""
    values = {
        name: tomllib.loads((CONFIG / f"{name}.toml").read_text()) for name in ("base", "development", "production")
    }
    lines, section = [], ""
    for setting in settings():
        if setting.section != section:
            section = setting.section
            lines += ["", f"### `[{section}]` settings", "", "| variable | default | |", "| --- | --- | --- |"]
        given = {name: values[name].get(section, {}).get(setting.key) for name in values}
        default = "; ".join(
            f"{name} `{value}`" if name != "base" else f"`{value}`"
            for name, value in given.items()
            if value not in (None, "")
        )
        start = f"| `{setting.variable}` | {default}{' ' if default else ''}| "
        first, *more = textwrap.wrap(setting.text, WIDTH - len(start) - len(" |"), break_long_words=False)
        lines += [f"{start}{first} |", *(f"| | | {text} |" for text in more)]
    return "\n".join([*lines[1:], ""])


def list_of_decisions() -> str:
    lines = []
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        text = path.read_text()
        number, _, title = text.partition("\n")[0].removeprefix("# ").partition(". ")
        later = re.search(r"^Superseded by (\[\d+\]\([\w.-]+\))", text, re.MULTILINE)
        lines.append(f"- [{int(number):04}]({path.name}) {title}" + (f" (superseded by {later[1]})" if later else ""))
    return "\n".join([*lines, ""])


# Where each is written, between a mark that names it and the next "<!-- end -->".
PARTS: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (DOCS / "operations" / "configure.md", settings_table),
    "decisions": (DOCS / "decisions" / "README.md", list_of_decisions),
}


def written(part: str) -> str:
    """The document with that part as it should be."""
    path, made = PARTS[part]
    begin, end = f"<!-- {part}: written by `make docs` -->\n", "<!-- end -->\n"
    before, _, rest = path.read_text().partition(begin)
    return before + begin + "\n" + made() + "\n" + end + rest.partition(end)[2]


if __name__ == "__main__":
    for name, (path, _) in PARTS.items():
        path.write_text(written(name))
