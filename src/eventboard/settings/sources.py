"""Where settings come from: files, and variables whose names begin with EVENTBOARD_."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from eventboard.settings.service_links import is_service_link

PREFIX = "EVENTBOARD_"
FROM_FILE = "_FILE"
# They say which files to read.
CHOOSERS = {"EVENTBOARD_ENVIRONMENT", "EVENTBOARD_CONFIG"}

# msgspec's messages speak of Python's types.
_EXPECTED = re.compile(r"Expected `(int|float|str)(?: \| null)?`(?:( of length)? (>=|<=|>) ([0-9.]+))?")
_KINDS = {"int": "a whole number", "float": "a number", "str": "text"}
_LIMITS = {">=": "at least {}", "<=": "at most {}", ">": "more than {}"}


class SettingsError(Exception):
    """One line that names the key and where its value came from."""


class Sources:
    """Values for a struct of sections; those added later replace earlier ones.

    `values` are by section and key, `names` say where each came from.
    """

    def __init__(self, settings: type[Struct]) -> None:
        self._sections = fields(settings)
        self.values: dict[str, dict[str, Any]] = {}
        self.names: dict[tuple[str, str], str] = {}

    def add_file(self, path: Path) -> None:
        for section, key, value, name in self._from_file(path):
            self._add(section, key, value, name, strict=True)

    def add_environment(self, environ: Mapping[str, str]) -> None:
        for section, key, value, name in self._from_environment(environ):
            # A variable is text, and is converted; values in a file have types.
            self._add(section, key, value, name, strict=False)

    def _from_file(self, path: Path) -> Iterator[tuple[str, str, Any, str]]:
        try:
            content = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError:
            raise SettingsError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from None
        for section, values in content.items():
            if not isinstance(values, dict) or not self._keys(section):
                raise SettingsError(f"{path}: unknown key {section!r}{did_you_mean(section, self._sections)}")
            for key, value in values.items():
                yield section, key, value, f"{path}: {section}.{key}"

    def _from_environment(self, environ: Mapping[str, str]) -> Iterator[tuple[str, str, Any, str]]:
        """`<name>_FILE` names a file with the value, such as a mounted secret, unless it is itself a key."""
        for name in sorted(environ):
            if not name.startswith(PREFIX) or name in CHOOSERS or is_service_link(name, environ):
                continue
            section, key = section_and_key(name)
            known, of_file = self._keys(section), key.removesuffix(FROM_FILE.lower())
            if key not in known and of_file not in known:
                raise SettingsError(f"{name}: unknown key{self._similar_variable(name)}")
            if key in known:
                yield section, key, environ[name], name
                continue
            if (other := name.removesuffix(FROM_FILE)) in environ:
                raise SettingsError(f"{name}: {other} is set too; remove one of them")
            yield section, of_file, _content(name, Path(environ[name])), name

    def _add(self, section: str, key: str, value: Any, name: str, *, strict: bool) -> None:
        field = self._keys(section).get(key)
        if field is None:
            raise SettingsError(f"{name}: unknown key{did_you_mean(key, self._keys(section))}")
        try:
            self.values.setdefault(section, {})[key] = msgspec.convert(value, field, strict=strict)
        except msgspec.ValidationError as error:
            # A file's content may be secret, even where it was named by mistake.
            shown = "" if name.endswith(FROM_FILE) else f", not {value!r}"
            raise SettingsError(f"{name}: {_expected(field, error)}{shown}") from None
        self.names[section, key] = name

    def _keys(self, section: str) -> dict[str, Any]:
        return fields(self._sections.get(section))

    def _similar_variable(self, name: str) -> str:
        word = name.removeprefix(PREFIX)
        known = [(section, key) for section in self._sections for key in self._keys(section)]
        # EVENTBOARD_PORT is EVENTBOARD_SERVER_PORT without its section.
        without = [f"{section}_{key}".upper() for section, key in known if key.upper() == word]
        names = [f"{section}_{key}".upper() for section, key in known]
        names += [chooser.removeprefix(PREFIX) for chooser in CHOOSERS]
        return did_you_mean(word, names, PREFIX) if not without else f"; did you mean {PREFIX}{without[0]}?"


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The similar one, as the end of a message, or ""."""
    similar = get_close_matches(word, known, n=1, cutoff=0.75)
    return f"; did you mean {prefix}{similar[0]}?" if similar else ""


def section_and_key(variable: str) -> tuple[str, str]:
    section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
    return section, key


def fields(struct: Any) -> dict[str, Any]:
    """Names and types; empty if it isn't a struct."""
    if not (isinstance(struct, type) and issubclass(struct, Struct)):
        return {}
    return {field.encode_name: field.type for field in msgspec.structs.fields(struct)}


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: {path} can't be read: {getattr(error, 'strerror', None) or error}") from None


def _expected(field: Any, error: msgspec.ValidationError) -> str:
    if get_origin(field) is Literal:
        return f"must be {' or '.join(get_args(field))}"
    found = _EXPECTED.match(str(error))
    if found is None:
        return str(error)
    kind, of_length, comparison, bound = found.groups()
    if not bound:
        return f"must be {_KINDS[kind]}"
    if of_length and (comparison, bound) == (">=", "1"):
        return "must be text that isn't empty"
    limit = _LIMITS[comparison].format(bound.removesuffix(".0"))
    return f"must have {limit} characters" if of_length else f"must be {limit}"
