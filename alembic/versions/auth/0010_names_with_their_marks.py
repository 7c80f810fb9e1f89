"""Organizations' names are compared with their combining marks: vowel signs tell words apart in many scripts."""

import re
import unicodedata
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# As in names.py at this revision, for what is left of letters and marks once a name is folded.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def upgrade() -> None:
    _compare_by(with_marks)


def downgrade() -> None:
    _compare_by(letters_and_digits)


def with_marks(name: str) -> str:
    kept = [
        character
        for character in INVISIBLE.sub("", _folded(name))
        if character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")
    ]
    return "".join(kept)


def letters_and_digits(name: str) -> str:
    return "".join(character for character in _folded(name) if character.isalnum())


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _compare_by(key_of: Callable[[str], str]) -> None:
    """Where two names would be one, the second keeps the key it has."""
    connection = op.get_bind()
    rows = connection.execute(
        sa.text(
            "SELECT id, name, name_key FROM auth.organizations WHERE octet_length(name) <> length(name) ORDER BY id"
        )
    ).all()
    change = sa.text(
        "UPDATE auth.organizations SET name_key = :key WHERE id = :id"
        " AND NOT EXISTS (SELECT FROM auth.organizations WHERE name_key = :key)"
    )
    for id_, name, before in rows:
        if (key := key_of(name)) and key != before:
            connection.execute(change, {"id": id_, "key": key})
