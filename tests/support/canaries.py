"""Secrets that no process may print: those that tests give it, and those that it gives out."""

import re
from collections.abc import Iterable

import httpx

# Of the database's account. The tests' PostgreSQL asks nobody for one; processes are given it all the same.
DATABASE_PASSWORD = "canary-of-the-database"
# Its members' passwords contain it.
PASSWORD = "correct horse battery"

# What is secret by its look: access tokens, hashes, private keys, and the database's password in an address.
_LOOKS = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*|\$argon2\w*\$|PRIVATE KEY|://[^/\s:@'\"]+:[^/\s:@'\"]+@")
# Refresh and invitation tokens look like nothing else that is printed, and are known one by one.
_WORD = re.compile(r"[\w-]{40,}=*")
# In development a mail is printed, an invitation's token with it: that is what it is for.
_MAIL = re.compile(r"(?s)mail to .{0,1000}?invitation token:(?:\n|\\n)+[\w=-]+")

_given_out: set[str] = set()


def remember(*tokens: str) -> None:
    _given_out.update(tokens)


def remember_answer(answer: httpx.Response) -> None:
    """A hook for clients: keeps the tokens of an answer in mind."""
    if answer.request.method == "POST" and answer.request.url.path.startswith(("/auth/", "/invitations")):
        answer.read()
        if answer.is_success and answer.content:
            told = answer.json()
            remember(*(told[name] for name in ("accessToken", "refreshToken", "token") if name in told))


def leaks(output: str, known: Iterable[str] = ()) -> list[str]:
    """The lines that hold a secret, one of `known` among them."""
    plain = _MAIL.sub("", output)
    texts = (PASSWORD, DATABASE_PASSWORD, *known)
    found = [line for line in plain.splitlines() if _LOOKS.search(line) or any(text in line for text in texts)]
    words = _given_out.intersection(_WORD.findall(plain))
    return found + [line for line in plain.splitlines() if words and any(word in line for word in words)]
