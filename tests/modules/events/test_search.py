"""What the function that finds text finds, by its index, is what ILIKE finds without one."""

from collections.abc import Iterator
from random import Random
from uuid import UUID

import asyncpg
import pytest

from eventboard.db import migrations
from eventboard.modules.events.listing_statements import like_pattern
from tests.support import cluster as clusters

# Letters of one and of more bytes, with and without another case; what is no letter; and the two that the function
# itself puts beside a text. Few, so that much is found, also across words.
LETTERS = "qzQZaAbe1äÄßİıΣσςé漢字 \u0301  __%\\.-'🎉"  # noqa: RUF001 - they are to be
# Where a letter in lower case is one that PostgreSQL knows, or two, and not in upper case.
KNOWN = {"ÄİÄ": "ÄI", "aß%qİz": "qi\u0307z"}
# The first two share a number, by which the index tells organizations apart; the third doesn't.
ORGANIZATIONS = [UUID(f"00000000-0000-7000-8000-00000000{last}") for last in ("01aa", "02aa", "01bb")]
PUT = """
    INSERT INTO events.events (organization_id, id, title, description, start_date, end_date, time_zone, status,
        created_by_id, created_by_name, version)
    SELECT o, gen_random_uuid(), title, description, now(), now() + interval '1 hour', 'UTC', 'APPROVED', o, 'Bob', 1
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS given (o, title, description)
"""
# Both as a superuser, who passes by all policies, so that each has to keep to the organization itself.
DIFFERENT = r"""
    SELECT pattern, by_function, by_reading FROM unnest($2::text[]) AS pattern,
    LATERAL (SELECT array_agg(id ORDER BY id) AS by_function FROM events.search_rows(pattern)) AS one,
    LATERAL (
        SELECT array_agg(id ORDER BY id) AS by_reading FROM events.events
        WHERE organization_id = $1 AND (title || E'\x1f' || description) ILIKE pattern
    ) AS other
    WHERE by_function IS DISTINCT FROM by_reading
"""
LOCALES = {
    "the cluster's": "",
    "libc": "LOCALE_PROVIDER libc LC_CTYPE 'C.UTF-8'",
    "icu": "LOCALE_PROVIDER icu ICU_LOCALE 'und'",
}


@pytest.fixture
def databases(cluster_url: str) -> Iterator[dict[str, str]]:
    """An empty one for each way in which this PostgreSQL may know letters and their cases."""
    with clusters.empty_databases(cluster_url, LOCALES) as urls:
        yield urls


async def test_same_as_without_the_index(databases: dict[str, str]) -> None:
    """Whatever the texts are made of, with statistics and without."""
    assert len(databases) >= 2
    for locale, url in databases.items():
        await migrations.migrate(url)
        raw = await asyncpg.connect(url)
        # Each piece of a text may be asked for, and things that no text has.
        random = Random(locale)
        texts = [text(random, 40) for _ in range(300)] + [*KNOWN] * 9
        await raw.execute(PUT, [random.choice(ORGANIZATIONS) for _ in texts], [t[:15] for t in texts], texts)
        asked = [piece(random, random.choice(texts)) for _ in range(150)] + [text(random, 5) for _ in range(50)]
        patterns = [like_pattern(piece) for piece in (*asked, *KNOWN.values())]
        for statement in ("SELECT", "ANALYZE events.events"):
            await raw.execute(statement)
            for organization in ORGANIZATIONS:
                await raw.execute(f"SET eventboard.organization_id = '{organization}'")
                assert [dict(row) for row in await raw.fetch(DIFFERENT, organization, patterns)] == [], locale
                found = await raw.fetchval("SELECT count(*) FROM events.search_rows('%qz%')")
                assert found > 0
        await raw.close()


def text(random: Random, most: int) -> str:
    return "".join(random.choice(LETTERS) for _ in range(random.randint(1, most)))


def piece(random: Random, whole: str) -> str:
    begin = random.randrange(len(whole))
    part = whole[begin : begin + random.randint(1, 12)]
    return random.choice((part, part, part.upper(), part.lower()))
