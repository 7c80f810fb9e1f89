"""Access tokens, as every module verifies them."""

import asyncio
import time
from math import inf
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from eventboard.core.errors import Code, ServiceError
from eventboard.identity import access_tokens
from eventboard.identity.access_tokens import REFETCH_INTERVAL, SKEW, Principal, PublicKeys, Role, TokenVerifier
from eventboard.modules.auth.tokens import TokenIssuer
from eventboard.settings import A_DAY, SettingsError, load
from tests.support.keys import OneKey

KEY = ec.generate_private_key(ec.SECP256R1())
USER, ORGANIZATION, SESSION = uuid4(), uuid4(), uuid4()


def issuer(key: ec.EllipticCurvePrivateKey = KEY, lifetime: int = 3600) -> TokenIssuer:
    return TokenIssuer(OneKey(key), issuer="eventboard", audience="eventboard", lifetime=lifetime)


def issue(by: TokenIssuer) -> str:
    return by.issue(user_id=USER, organization_id=ORGANIZATION, role=Role.USER, name="Nia New", session_id=SESSION)


class Publisher:
    """Where keys are fetched: counts how often, and may have none, or be away."""

    def __init__(self, *issuers: TokenIssuer) -> None:
        self.issuers = issuers
        self.fetched = 0
        self.away = False

    async def __call__(self) -> PublicKeys:
        self.fetched += 1
        if self.away:
            raise ServiceError(Code.UNAVAILABLE, "Auth is away.")
        published = [one.public_keys for one in self.issuers]
        longest = max((keys.longest or 0 for keys in published), default=None)
        return PublicKeys([key for keys in published for key in keys.keys], longest)


def verifier(publisher: Publisher) -> TokenVerifier:
    return TokenVerifier(publisher, issuer="eventboard", audience="eventboard")


async def refusal(verify: TokenVerifier, token: str) -> Code:
    with pytest.raises(ServiceError) as refused:
        await verify(token)
    return refused.value.code


def signed(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """By the right key, whatever it says; None leaves something out."""
    good = issue(issuer())
    return jwt.encode(
        {
            name: value
            for name, value in (jwt.decode(good, options={"verify_signature": False}) | claims).items()
            if value is not None
        },
        KEY,
        "ES256",
        headers=jwt.get_unverified_header(good) | header,
    )


async def test_principal() -> None:
    """What a good token says of its bearer."""
    token = issue(issuer())
    principal = await verifier(Publisher(issuer()))(token)
    expires_at = jwt.decode(token, options={"verify_signature": False})["exp"]
    assert principal == Principal(USER, ORGANIZATION, Role.USER, "Nia New", SESSION, expires_at)


# As long as settings let issuer and audience be, and an account its two names. In JSON a control character is six bytes
# long; a name has none, and so four at most.
LONGEST_CLAIM, LONGEST_NAME = "\x01" * 100, "\N{SLIGHTLY SMILING FACE}" * 100


async def test_longest_token() -> None:
    """Whatever is issued is accepted."""
    by = TokenIssuer(OneKey(KEY), issuer=LONGEST_CLAIM, audience=LONGEST_CLAIM, lifetime=A_DAY)
    verify = TokenVerifier(Publisher(by), issuer=LONGEST_CLAIM, audience=LONGEST_CLAIM)
    name = f"{LONGEST_NAME} {LONGEST_NAME}"
    token = by.issue(user_id=USER, organization_id=ORGANIZATION, role=Role.MODERATOR, name=name, session_id=SESSION)
    assert (await verify(token)).name == name
    for key in ("ISSUER", "AUDIENCE"):
        load({f"EVENTBOARD_TOKENS_{key}": LONGEST_CLAIM})
        with pytest.raises(SettingsError, match="must have at most 100 characters"):
            load({f"EVENTBOARD_TOKENS_{key}": LONGEST_CLAIM + "x"})


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        pytest.param({"typ": "JWT"}, {}, id="another type"),
        pytest.param({"typ": None}, {}, id="no type"),
        pytest.param({"kid": "other"}, {}, id="another key id"),
        pytest.param({}, {"aud": "other"}, id="for another audience"),
        pytest.param({}, {"aud": None}, id="for nobody"),
        pytest.param({}, {"iss": "other"}, id="of another issuer"),
        pytest.param({}, {"iss": None}, id="of nobody"),
        pytest.param({}, {"exp": int(time.time()) - 1}, id="expired"),
        pytest.param({}, {"exp": None}, id="never expiring"),
        pytest.param({}, {"exp": "tomorrow"}, id="an expiry that is no time"),
        pytest.param({}, {"iat": int(time.time()) + 3600}, id="issued in the future"),
        pytest.param({}, {"iat": "now"}, id="issued at no time"),
        pytest.param({}, {"nbf": int(time.time()) + 3600}, id="not yet"),
        pytest.param({"crit": ["b64"]}, {}, id="with an extension that must be understood"),
        pytest.param({}, {"sub": "admin"}, id="a subject that is no id"),
        pytest.param({}, {"sub": 5}, id="a subject that is a number"),
        pytest.param({}, {"org": None}, id="no organization"),
        pytest.param({}, {"org": ["x"]}, id="an array for an organization"),
        pytest.param({}, {"role": "ROOT"}, id="no role of ours"),
        pytest.param({}, {"role": None}, id="no role"),
        pytest.param({}, {"sid": ""}, id="no session"),
        pytest.param({}, {"jti": None}, id="no token id"),
    ],
)
async def test_signed_but_wrong(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """A good signature isn't enough."""
    verify = verifier(Publisher(issuer()))
    assert (await verify(signed({}, {}))).user_id == USER
    assert await refusal(verify, signed(header, claims)) == Code.INVALID_TOKEN


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_issuer_whose_clock_is_ahead(claim: str) -> None:
    """Clocks of two machines differ a little: a new token is good on both. By more, and it is refused."""
    verify = verifier(Publisher(issuer()))
    assert (await verify(signed({}, {claim: int(time.time()) + SKEW - 1}))).user_id == USER
    assert await refusal(verify, signed({}, {claim: int(time.time()) + 2 * SKEW})) == Code.INVALID_TOKEN


async def test_token_expires_after_it_was_verified() -> None:
    """A verified token is remembered, and not for longer than it lives."""
    verify, token = verifier(Publisher(issuer())), issue(issuer(lifetime=3))
    expires_at = (await verify(token)).expires_at
    await verify(token)
    await asyncio.sleep(expires_at - time.time() + 0.05)  # the wall clock and the loop's may differ a little
    assert await refusal(verify, token) == Code.INVALID_TOKEN


async def test_unknown_keys() -> None:
    """A stranger's tokens cause no storm of requests for keys."""
    publisher = Publisher(issuer())
    verify = verifier(publisher)
    await verify(issue(issuer()))
    for _ in range(20):
        stranger = issuer(ec.generate_private_key(ec.SECP256R1()))
        assert await refusal(verify, issue(stranger)) == Code.INVALID_TOKEN
    assert publisher.fetched == 1
    await verify(issue(issuer()))


async def test_unknown_keys_while_auth_is_away() -> None:
    """It is asked no more often then, and what can't be found out is no refusal; those known are good still."""
    now, publisher = 1000.0, Publisher(issuer())
    verify = TokenVerifier(publisher, issuer="eventboard", audience="eventboard", clock=lambda: now)
    await verify.load_keys()
    newer = issuer(ec.generate_private_key(ec.SECP256R1()))
    publisher.away = True
    for fetched in (2, 3):
        now += REFETCH_INTERVAL
        codes = [await refusal(verify, issue(newer)) for _ in range(20)]
        assert (set(codes), publisher.fetched) == ({Code.UNAVAILABLE}, fetched)
    await verify(issue(issuer()))
    now += REFETCH_INTERVAL
    publisher.away, publisher.issuers = False, (issuer(), newer)
    await verify(issue(newer))
    assert publisher.fetched == 4


async def test_no_keys_yet() -> None:
    """Nobody's token is called wrong while there is nothing to verify it with; the first to come asks for all."""
    publisher = Publisher(issuer())
    publisher.away = True
    verify = verifier(publisher)
    assert await refusal(verify, issue(issuer())) == Code.UNAVAILABLE
    with pytest.raises(ServiceError):
        await verify.load_keys()
    publisher.away, publisher.fetched = False, 0
    token = issue(issuer())
    assert len(set(await asyncio.gather(*(verify(token) for _ in range(20))))) == 1
    await verify.load_keys()
    assert publisher.fetched == 1


async def test_keys_that_are_none() -> None:
    """An empty set of keys is no keys yet."""
    assert await refusal(verifier(Publisher()), issue(issuer())) == Code.UNAVAILABLE


async def test_removed_key() -> None:
    """Once its absence is known its tokens end, those too that were verified before; others go on."""
    removed = issuer(ec.generate_private_key(ec.SECP256R1()))
    publisher = Publisher(issuer(), removed)
    verify = verifier(publisher)
    token, other = issue(removed), issue(issuer())
    await verify(token)
    await verify(other)
    publisher.away, publisher.issuers = True, (issuer(),)
    with pytest.raises(ServiceError):
        await verify.refresh()
    # Nobody knows yet.
    assert verify.known(token)
    publisher.away = False
    await verify.refresh()
    assert verify.known(token) is None
    assert await refusal(verify, token) == Code.INVALID_TOKEN
    assert (await verify(other)).user_id == USER


async def test_key_that_was_replaced_under_its_name() -> None:
    """A key is its numbers, not its id: what the one before it has signed ends."""
    old, new = (PublicKeys([{**by.public_keys.keys[0], "kid": "same"}]) for by in (issuer(), issuer(OTHER)))
    published = old

    async def fetch() -> PublicKeys:
        return published

    verify = TokenVerifier(fetch, issuer="eventboard", audience="eventboard")
    token = signed({"kid": "same"}, {})
    await verify(token)
    published = new
    await verify.refresh()
    assert await refusal(verify, token) == Code.INVALID_TOKEN


OTHER = ec.generate_private_key(ec.SECP256R1())


async def test_token_that_lives_too_long() -> None:
    """Longer than auth lets any live, or without an end that is a time; an older auth doesn't say how long that is."""
    now = int(time.time())
    verify = verifier(Publisher(issuer()))
    for claims in ({"exp": now + 3601}, {"iat": now - 1}, {"exp": now + 10**9}, {"exp": 10**400}, {"exp": inf}):
        assert await refusal(verify, signed({}, {"iat": now, "exp": now + 3600, **claims})) == Code.INVALID_TOKEN
    await verify(signed({}, {"iat": now, "exp": now + 3600}))

    async def without() -> PublicKeys:
        return PublicKeys(issuer().public_keys.keys)

    older = TokenVerifier(without, issuer="eventboard", audience="eventboard")
    await older(signed({}, {"iat": now, "exp": now + 10**6}))


async def test_tokens_live_longer_from_now_on() -> None:
    """The first of them leads to the question how long they may: none is refused, and the older ones go on."""
    publisher = Publisher(issuer(lifetime=60))
    verify = verifier(publisher)
    old = issue(issuer(lifetime=60))
    await verify(old)
    publisher.issuers = (issuer(lifetime=3600),)
    await verify(issue(issuer(lifetime=3600)))
    await verify(old)
    assert publisher.fetched == 2


async def test_more_tokens_than_are_remembered() -> None:
    """What is presented regularly stays verified."""
    verify = verifier(Publisher(issuer()))
    token = issue(issuer())
    principal = await verify(token)
    others = [f"{token}{number}" for number in range(access_tokens.CACHE_SIZE + 10)]
    for number, other in enumerate(others):
        verify._verified[other] = principal  # noqa: SLF001 - to sign so many takes a second
        if number % 1000 == 0:
            assert verify.known(token)
    assert verify.known(others[0]) is None


async def test_several_keys() -> None:
    """Each token is verified with the key that it names."""
    other = issuer(ec.generate_private_key(ec.SECP256R1()))
    verify = verifier(Publisher(issuer(), other))
    assert (await verify(issue(other))).user_id == (await verify(issue(issuer()))).user_id
