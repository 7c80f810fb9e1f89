"""Limits for tests: none, or those that a test names."""

from msgspec.structs import fields

from eventboard.modules.auth.limits import Limit, Rules


def rules(*, known_for: int = 3600, **limits: tuple[int, int]) -> Rules:
    """Each limit as (most, window); those that aren't named are none."""
    names = [field.name for field in fields(Rules) if field.type is Limit]
    named = {name: Limit(name.replace("_", "-"), *limits.pop(name, (0, 60))) for name in names}
    assert not limits
    return Rules(known_for=known_for, network_factor=16, **named)


def no_rules() -> Rules:
    return rules()
