"""Migration levels: which one the code needs, without importing Alembic (0.4 s that a serving process needn't pay)."""

from functools import cache
from pathlib import Path

MODULES = ("auth", "events")


def scripts_folder() -> Path:
    """Alembic's folder: packed into the wheel, else the checkout's."""
    packed = Path(__file__).parent / "_alembic"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "alembic"


@cache
def needed(module: str) -> str:
    """The newest revision: files are named by their revision, in order (0001_….py); a test holds Alembic to it."""
    return max(path.name.split("_")[0] for path in (scripts_folder() / "versions" / module).glob("[0-9]*_*.py"))
