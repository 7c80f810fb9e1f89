"""The revisions that this version of the code needs. It doesn't import Alembic, which takes 0.4 s."""

from functools import cache
from pathlib import Path

from msgspec import Struct

MODULES = ("auth", "events")


class Downgrade(Struct, frozen=True):
    """`moves` has the current and the target revision of each module that has to be downgraded."""

    database: str
    moves: dict[str, tuple[str, str]]


def scripts_folder() -> Path:
    """Alembic's folder: of the wheel, or of the checkout."""
    packed = Path(__file__).parents[1] / "_alembic"
    return packed if packed.is_dir() else Path(__file__).parents[3] / "alembic"


@cache
def needed(module: str) -> str:
    """The newest revision, by the names of the files (0001_….py); a test compares it with Alembic's."""
    return max(path.name.split("_")[0] for path in (scripts_folder() / "versions" / module).glob("[0-9]*_*.py"))
