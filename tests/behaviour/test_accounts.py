"""Accounts: who may sign up, who gets in, and what an access token is worth."""

import base64
import hmac
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support import raw
from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.holding import holding
from tests.support.problems import assert_problem

USER_FIELDS = {"id", "email", "firstName", "lastName", "role", "organizationId", "createdAt"}


def person(**fields: Any) -> dict[str, Any]:
    """A sign-up without an organization, unlike every other."""
    return {
        "email": f"{uuid4().hex}@example.com",
        "password": PASSWORD,
        "firstName": "Nia",
        "lastName": "New",
        **fields,
    }


def founder(**fields: Any) -> dict[str, Any]:
    return person(organizationName=f"Founded {uuid4().hex}", **fields)


def signed_up(board: Board, body: dict[str, Any]) -> dict[str, Any]:
    answer = board.client().post("/auth/signup", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def log_in(board: Board, member: Member, **fields: Any) -> httpx.Response:
    return board.client().post("/auth/login", json={"email": member.email, "password": PASSWORD, **fields})


def join(board: Board, member: Member, organization: Organization, role: str = "USER") -> None:
    """A second membership, for which there is no call yet."""
    board.sql(
        "INSERT INTO auth.memberships (organization_id, user_id, role) VALUES ($1, $2, $3)",
        organization.id,
        member.id,
        role,
    )


def switch_off(board: Board, member: Member, organization_id: UUID) -> None:
    board.sql(
        "UPDATE auth.memberships SET active = false WHERE user_id = $1 AND organization_id = $2",
        member.id,
        organization_id,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Sign-up


def test_founding_an_organization(board: Board) -> None:
    """Its founder is its ADMIN, and is logged in."""
    body = founder(firstName="  Nia ", lastName=" de la New ")
    answer = board.client().post("/auth/signup", json=body)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    session = answer.json()
    assert session.keys() == {"user", "accessToken", "refreshToken", "tokenType", "expiresIn"}
    assert (session["tokenType"], session["expiresIn"]) == ("Bearer", 3600)
    user = session["user"]
    assert user.keys() == USER_FIELDS
    assert (user["email"], user["firstName"], user["lastName"]) == (body["email"], "Nia", "de la New")
    assert user["role"] == "ADMIN"
    assert UUID(user["id"]).version == UUID(user["organizationId"]).version == 7
    assert abs((datetime.now(UTC) - datetime.fromisoformat(user["createdAt"])).total_seconds()) < 60
    me = board.client(session["accessToken"]).get("/auth/me").json()
    assert me.keys() == USER_FIELDS | {"updatedAt", "organization"}
    assert {name: me[name] for name in USER_FIELDS} == user
    organization = me["organization"]
    assert organization == {
        "id": user["organizationId"],
        "name": body["organizationName"],
        "slug": body["organizationName"].lower().replace(" ", "-"),
    }


def test_joining_where_sign_up_is_open(board: Board) -> None:
    """Whoever joins by the organization's id is a USER there."""
    open_one = board.organization(open_signup=True)
    session = signed_up(board, person(organizationId=str(open_one.id)))
    assert (session["user"]["role"], session["user"]["organizationId"]) == ("USER", str(open_one.id))
    assert board.client(session["accessToken"]).get("/auth/me").json()["organization"]["name"] == open_one.name


def test_joining_where_sign_up_is_closed(board: Board, organization: Organization) -> None:
    """A closed organization and one that doesn't exist are the same answer, and leave no account."""
    body = person(organizationId=str(organization.id))
    closed = assert_problem(board.client().post("/auth/signup", json=body), "forbidden")
    unknown = assert_problem(
        board.client().post("/auth/signup", json={**body, "organizationId": str(uuid4())}), "forbidden"
    )
    assert closed | {"correlationId": ""} == unknown | {"correlationId": ""}
    assert not board.sql("SELECT 1 FROM auth.users WHERE email = $1", body["email"])


@pytest.mark.parametrize("path", ["/auth/signup", "/auth/join"])
def test_sign_up_that_is_closed_meanwhile(board: Board, organization: Organization, path: str) -> None:
    """What counts is how it is when the membership is made, not what was read before the password was hashed."""
    open_one = board.organization(open_signup=True)
    choice = {"organizationId": str(open_one.id)}
    body = person(**choice) if path == "/auth/signup" else choice
    close = "UPDATE auth.organizations SET open_signup = false WHERE id = $1"
    with ThreadPoolExecutor(1) as thread, holding(board.database_url, close, open_one.id) as closing:
        joining = thread.submit(organization.user.http.post, path, json=body)
        closing.until_waited_for()
        closing.commit()
        assert_problem(joining.result(), "forbidden")
    assert board.sql("SELECT count(*) FROM auth.memberships WHERE organization_id = $1", open_one.id)[0][0] == 4
    assert not board.sql("SELECT 1 FROM auth.users WHERE email = $1", body.get("email"))


@pytest.mark.parametrize("given", [(), ("organizationName", "organizationId")], ids=["neither", "both"])
def test_exactly_one_organization(board: Board, given: tuple[str, ...]) -> None:
    """An account begins in one organization, founded or joined."""
    choices = {"organizationName": "Twice Inc", "organizationId": str(uuid4())}
    body = person(**{name: choices[name] for name in given})
    assert_problem(board.client().post("/auth/signup", json=body), "invalid-request", "/organizationName")
    body = person(**{name: choices[name] if name in given else None for name in choices})
    assert_problem(board.client().post("/auth/signup", json=body), "invalid-request", "/organizationName")


# With other parameters than the server's.
OLD_HASHER = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
OLD_HASH = OLD_HASHER.hash(PASSWORD)
SET_HASH = "UPDATE auth.users SET password_hash = $2 WHERE id = $1"


def hash_of(board: Board, member: Member) -> str:
    return str(board.sql("SELECT password_hash FROM auth.users WHERE id = $1", member.id)[0][0])


def test_hash_with_old_parameters(board: Board, organization: Organization) -> None:
    """It is made anew by the next log-in, once."""
    user = organization.user
    board.sql(SET_HASH, user.id, OLD_HASH)
    assert log_in(board, user).status_code == 200
    renewed = hash_of(board, user)
    assert renewed.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert log_in(board, user).status_code == 200
    assert hash_of(board, user) == renewed


def test_hash_that_changes_while_logging_in(board: Board, organization: Organization) -> None:
    """The password is tried again: a new one stands, and isn't undone by a hash of the old one."""
    user = organization.user
    for password, status in (("another password", 401), (PASSWORD, 200)):
        board.sql(SET_HASH, user.id, OLD_HASH)
        other = OLD_HASHER.hash(password)
        with ThreadPoolExecutor(1) as thread, holding(board.database_url, SET_HASH, user.id, other) as change:
            logging_in = thread.submit(log_in, board, user)
            change.until_waited_for()
            change.commit()
            assert logging_in.result().status_code == status
        assert (hash_of(board, user) == other) == (status == 401)


def test_same_email(board: Board) -> None:
    """E-mail addresses are trimmed and lower-cased, and then unique."""
    name = uuid4().hex
    session = signed_up(board, founder(email=f" \t{name.upper()}@Example.COM\n"))
    assert session["user"]["email"] == f"{name}@example.com"
    for same in (f"{name}@example.com", f"{name}@EXAMPLE.com", f"\u00a0{name}@example.com "):
        assert_problem(board.client().post("/auth/signup", json=founder(email=same)), "already-exists", "/email")
        answer = board.client().post("/auth/login", json={"email": same, "password": PASSWORD})
        assert answer.json()["user"]["id"] == session["user"]["id"]


def test_same_organization_name(board: Board) -> None:
    """Names are compared by their letters and digits alone, NFKC case-folded."""
    unique = uuid4().hex
    signed_up(board, founder() | {"organizationName": f"Straße ﬁne №1 {unique}"})
    for same in (
        f"STRASSE FINE NO1 {unique}",
        f"  straße-ﬁne.no1 ({unique.upper()})",
        f"\uff33tra\uff33\uff33e Fine No 1 {unique}",
    ):
        answer = board.client().post("/auth/signup", json=founder() | {"organizationName": same})
        assert_problem(answer, "already-exists", "/organizationName")
    signed_up(board, founder() | {"organizationName": f"Straße ﬁne №2 {unique}"})


@pytest.mark.parametrize("name", ["!?", "—", "🎉🎉", "( )", "\u0301"])
def test_name_without_letters(board: Board, name: str) -> None:
    """Nothing would be left to compare it by."""
    body = founder() | {"organizationName": name}
    assert_problem(board.client().post("/auth/signup", json=body), "invalid-request", "/organizationName")


def test_names_that_make_one_slug(board: Board) -> None:
    """Each organization has a slug of its own, however alike the names are once they are plain ASCII."""
    unique = uuid4().hex

    def slug_of(name: str) -> str:
        session = signed_up(board, founder() | {"organizationName": name})
        return str(board.client(session["accessToken"]).get("/auth/me").json()["organization"]["slug"])

    first = slug_of(f"Café {unique}")
    assert first == f"cafe-{unique}"
    others = {slug_of(f"Cafe {unique}"), slug_of(f"Cafè {unique}")}
    assert len({first} | others) == 3
    assert all(other.startswith(f"{first}-") for other in others)
    foreign = {slug_of(f"東京{'東' * number}") for number in range(2)} | {slug_of(f"大阪 {unique}")}
    assert len(foreign) == 3


def test_two_sign_ups_with_one_email_at_once(board: Board) -> None:
    """One is made; of the other nothing is left, no organization either."""
    for _ in range(5):
        bodies = [founder(email=f"{uuid4().hex}@example.com") for _ in range(4)]
        for body in bodies:
            body["email"] = bodies[0]["email"]
        assert_one_made(board, bodies)
        made = board.sql(
            "SELECT name FROM auth.organizations WHERE name = ANY($1)", [body["organizationName"] for body in bodies]
        )
        assert len(made) == 1


def test_two_sign_ups_with_one_organization_at_once(board: Board) -> None:
    """One founds it; the other has no account."""
    for _ in range(5):
        name = f"Founded {uuid4().hex}"
        bodies = [founder() | {"organizationName": name} for _ in range(4)]
        assert_one_made(board, bodies)
        made = board.sql("SELECT 1 FROM auth.users WHERE email = ANY($1)", [body["email"] for body in bodies])
        assert len(made) == 1


def test_sign_ups_with_one_slug_at_once(board: Board) -> None:
    """All are made."""
    for _ in range(3):
        unique = uuid4().hex
        bodies = [founder() | {"organizationName": f"Caf{letter} {unique}"} for letter in "eéèê"]
        assert [answer.status_code for answer in at_once(board, bodies)] == [201] * 4


def at_once(board: Board, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    clients = [board.client() for _ in bodies]
    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(
            threads.map(lambda pair: pair[0].post("/auth/signup", json=pair[1]), zip(clients, bodies, strict=True))
        )


def assert_one_made(board: Board, bodies: list[dict[str, Any]]) -> None:
    answers = at_once(board, bodies)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * (len(bodies) - 1)
    for answer in answers:
        if answer.status_code == 409:
            assert_problem(answer, "already-exists")


@pytest.mark.parametrize(
    "password", ["x" * 7 + "y", "x" * 128, "🔑" * 8, "pass word", "\u0000" * 8, " leading and trailing "]
)
def test_password(board: Board, password: str) -> None:
    """8 to 128 characters of any kind, taken as they are."""
    body = founder(password=password)
    signed_up(board, body)
    http = board.client()
    credentials = {"email": body["email"], "password": password}
    assert http.post("/auth/login", json=credentials).status_code == 200
    for other in (password[:-1], password + "x", password.swapcase() + " ", password.strip("\u0000 ") + "y"):
        assert_problem(http.post("/auth/login", json={**credentials, "password": other}), "invalid-credentials")


@pytest.mark.parametrize("password", ["x" * 7, "🔑" * 7, "x" * 129, "🔑" * 129, ""])
def test_password_too_short_or_too_long(board: Board, password: str) -> None:
    """Its length is counted in characters."""
    assert_problem(board.client().post("/auth/signup", json=founder(password=password)), "invalid-request", "/password")


def test_password_that_anybody_would_try(board: Board) -> None:
    """Neither the e-mail address nor the organization's name, in whichever case, founded or joined."""
    open_one = board.organization(open_signup=True)
    email, name = f"{uuid4().hex}@example.com", f"Founded {uuid4().hex}"
    for password in (email, email.upper(), name, name.lower()):
        body = person(email=f" {email.title()}", organizationName=f" {name} ", password=password)
        assert_problem(board.client().post("/auth/signup", json=body), "invalid-request", "/password")
    body = person(organizationId=str(open_one.id), password=open_one.name.upper())
    assert_problem(board.client().post("/auth/signup", json=body), "invalid-request", "/password")
    body = person(organizationId=str(uuid4()), email=email, password=email)
    assert_problem(board.client().post("/auth/signup", json=body), "invalid-request", "/password")


# ---------------------------------------------------------------------------------------------------------------------
# Log-in


def test_log_in(board: Board, organization: Organization) -> None:
    """The same body as a sign-up's, for the same person."""
    answer = log_in(board, organization.moderator, email=f" {organization.moderator.email.upper()} ")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    session = answer.json()
    assert session.keys() == {"user", "accessToken", "refreshToken", "tokenType", "expiresIn"}
    assert session["user"].keys() == USER_FIELDS
    assert session["user"]["id"] == str(organization.moderator.id)
    assert session["user"]["role"] == "MODERATOR"


def test_unknown_email_and_wrong_password(board: Board, organization: Organization) -> None:
    """Which of the two it was shows in nothing but the correlation id."""
    headers = {"x-correlation-id": "same"}
    wrong = {"email": organization.user.email, "password": "not the password"}
    unknown = {"email": f"{uuid4().hex}@example.com", "password": "not the password"}
    answers = [board.client().post("/auth/login", json=body, headers=headers) for body in (wrong, unknown)]
    for answer in answers:
        assert_problem(answer, "invalid-credentials")
        assert answer.headers["www-authenticate"] == 'Bearer realm="eventboard"'
        # What the address and the two together have left; of the account alone nothing is told.
        assert re.fullmatch(
            r'"login-by-address";r=\d+;t=\d+, "login-failures";r=2999;t=\d+', answer.headers["ratelimit"]
        )
        for name in ("date", "ratelimit", "server-timing"):
            del answer.headers[name]
    assert answers[0].content == answers[1].content
    assert answers[0].headers == answers[1].headers


def test_log_in_with_several_organizations(board: Board, organization: Organization) -> None:
    """Into the one asked for, else the one last used; the role is that of the organization."""
    member, second = organization.user, board.organization()
    join(board, member, second, "ADMIN")
    assert log_in(board, member).json()["user"]["organizationId"] == str(organization.id)
    chosen = log_in(board, member, organizationId=str(second.id)).json()["user"]
    assert (chosen["organizationId"], chosen["role"]) == (str(second.id), "ADMIN")
    assert log_in(board, member).json()["user"]["organizationId"] == str(second.id)
    back = log_in(board, member, organizationId=str(organization.id)).json()["user"]
    assert (back["organizationId"], back["role"]) == (str(organization.id), "USER")
    assert log_in(board, member).json()["user"]["organizationId"] == str(organization.id)


def test_log_in_after_the_last_used_membership_ended(board: Board, organization: Organization) -> None:
    """Another active one will do; the ended one asked for will not."""
    member, second = organization.user, board.organization()
    join(board, member, second)
    switch_off(board, member, organization.id)
    assert log_in(board, member).json()["user"]["organizationId"] == str(second.id)
    assert_problem(log_in(board, member, organizationId=str(organization.id)), "forbidden")


def test_log_in_without_an_active_membership(board: Board, organization: Organization) -> None:
    """403, told only to who knows the password."""
    member = organization.user
    switch_off(board, member, organization.id)
    assert_problem(log_in(board, member), "forbidden")
    assert_problem(log_in(board, member, password="not the password"), "invalid-credentials")


@pytest.mark.parametrize("there_is", [True, False], ids=["another's", "nobody's"])
def test_log_in_to_a_foreign_organization(board: Board, organization: Organization, there_is: bool) -> None:
    """The answer doesn't tell whether there is such an organization, nor to a stranger whether the account is."""
    wanted = str(board.organization().id if there_is else uuid4())
    assert_problem(log_in(board, organization.user, organizationId=wanted), "forbidden")
    refused = log_in(board, organization.user, organizationId=wanted, password="not the password")
    assert_problem(refused, "invalid-credentials")


def test_me_after_the_membership_ended(board: Board, organization: Organization) -> None:
    """The token outlives the membership and is worth nothing to it."""
    member = organization.user
    assert member.http.get("/auth/me").status_code == 200
    switch_off(board, member, organization.id)
    answer = member.http.get("/auth/me")
    assert_problem(answer, "invalid-token")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_me_is_of_the_tokens_organization(board: Board, organization: Organization) -> None:
    """A token carries one membership, whichever is used last."""
    member, second = organization.user, board.organization()
    join(board, member, second, "MODERATOR")
    other = board.client(log_in(board, member, organizationId=str(second.id)).json()["accessToken"])
    assert other.get("/auth/me").json()["role"] == "MODERATOR"
    assert member.http.get("/auth/me").json()["organization"]["id"] == str(organization.id)


# ---------------------------------------------------------------------------------------------------------------------
# Access tokens


def test_access_token(board: Board, organization: Organization) -> None:
    """RFC 9068's header and claims, signed with a key that is published, for as long as was said."""
    member = organization.moderator
    answer = board.client().get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert "public" in answer.headers["cache-control"]
    keys = jwt.PyJWKSet.from_dict(answer.json())
    header = jwt.get_unverified_header(member.token)
    assert header.keys() == {"alg", "typ", "kid"}
    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    claims = jwt.decode(member.token, keys[header["kid"]], ["ES256"], audience="eventboard", issuer="eventboard")
    assert claims.keys() == {"iss", "aud", "sub", "org", "role", "name", "sid", "iat", "exp", "jti"}
    assert (claims["sub"], claims["org"], claims["role"]) == (str(member.id), str(organization.id), "MODERATOR")
    me = member.http.get("/auth/me").json()
    assert claims["name"] == f"{me['firstName']} {me['lastName']}"
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 60
    again = jwt.decode(log_in(board, member).json()["accessToken"], options={"verify_signature": False})
    assert again["jti"] != claims["jti"]
    assert again["sid"] != claims["sid"]


def test_published_keys_are_public(board: Board) -> None:
    """Nothing of a private key is in them."""
    keys = board.client().get("/.well-known/jwks.json").json()
    assert keys.keys() == {"keys"}
    for key in keys["keys"]:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


STRANGER = ec.generate_private_key(ec.SECP256R1())
STRANGERS_KEY = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(STRANGER.public_key()))


@dataclass
class Token:
    """A good one, taken apart."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signature: str
    key: ec.EllipticCurvePublicKey

    def text(self, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Changed, with the old signature."""
        return f"{part(self.header | (header or {}))}.{part(self.claims | claims)}.{self.signature}"

    def signed(self, **header: Any) -> str:
        """By somebody else."""
        return jwt.encode(self.claims, STRANGER, "ES256", headers=self.header | header)

    def signed_with_secret(self, secret: bytes) -> str:
        """The attack on libraries that let the token choose the algorithm."""
        signed = f"{part(self.header | {'alg': 'HS256'})}.{part(self.claims)}"
        signature = hmac.digest(secret, signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


FORGERIES: dict[str, Callable[[Token], str]] = {
    "unsigned": lambda token: token.text(header={"alg": "none"}).rpartition(".")[0] + ".",
    "none, with a signature": lambda token: token.text(header={"alg": "none"}),
    "HS256 with the public key": lambda token: token.signed_with_secret(
        token.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with nothing": lambda token: token.signed_with_secret(b""),
    "a stranger's": lambda token: token.signed(),
    "a stranger's, who brings the key": lambda token: token.signed(jwk=STRANGERS_KEY, jku="http://127.0.0.1/keys"),
    "a stranger's, who says where the key is": lambda token: token.signed(
        jku="http://127.0.0.1/keys", x5u="http://127.0.0.1/chain"
    ),
    "of an unknown key": lambda token: token.signed(kid="unknown"),
    "of a key that is a path": lambda token: token.signed(kid="../../../../dev/null"),
    "of a key that is SQL": lambda token: token.signed(kid="' UNION SELECT 'x"),
    "of another curve": lambda token: token.text(header={"alg": "ES384"}),
    "of a curve in small letters": lambda token: token.text(header={"alg": "es256"}),
    "of no algorithm": lambda token: token.text(header={"alg": None}),
    "an ID token": lambda token: token.text(header={"typ": "id_token+jwt"}),
    "signed with zeros": lambda token: token.text().rpartition(".")[0] + "." + "A" * 86,
    "of no key": lambda token: jwt.encode(token.claims, STRANGER, "ES256", headers={"typ": "at+jwt"}),
    "of a key that is no text": lambda token: token.text(header={"kid": ["a"]}),
    "of another type": lambda token: token.text(header={"typ": "JWT"}),
    "with another role": lambda token: token.text(role="ADMIN"),
    "half a signature": lambda token: token.text()[:-20],
    "no signature": lambda token: token.text().rpartition(".")[0],
    "white space inside": lambda token: token.text().replace(".", ". ", 1),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forged_token(shared_organization: Organization, forge: Callable[[Token], str]) -> None:
    """Only what the auth module signed is a token."""
    member = shared_organization.user
    keys = jwt.PyJWKSet.from_dict(member.http.get("/.well-known/jwks.json").json())
    header = jwt.get_unverified_header(member.token)
    claims = jwt.decode(member.token, options={"verify_signature": False})
    forged = forge(Token(header, claims, member.token.rpartition(".")[2], keys[header["kid"]].key))
    for path in ("/auth/me", "/events"):
        answer = member.http.get(path, headers={"authorization": f"Bearer {forged}"})
        assert_problem(answer, "invalid-token")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_refresh_token_as_access_token(board: Board, organization: Organization) -> None:
    """It is good for a refresh, and for nothing else; nor does an access token refresh anything."""
    session = log_in(board, organization.user).json()
    assert_problem(board.client(session["refreshToken"]).get("/auth/me"), "invalid-token")
    assert_problem(board.client(session["refreshToken"]).get("/events"), "invalid-token")
    answer = board.client().post("/auth/refresh", json={"refreshToken": session["accessToken"]})
    assert_problem(answer, "invalid-request", "/refreshToken")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("x", id="a letter"),
        pytest.param("..", id="two dots"),
        pytest.param("null.null.null", id="nulls"),
        pytest.param(f"{part([])}.{part([])}.x", id="arrays"),
        pytest.param(f"{part({'alg': 'ES256', 'typ': 'at+jwt', 'kid': 'x', 'crit': ['exp']})}.e30.x", id="critical"),
        pytest.param(f"{part({'alg': 'ES256', 'typ': 'at+jwt', 'kid': chr(0)})}.e30.x", id="NUL"),
        pytest.param("\xff\xfe.\xff.\xff", id="no ASCII"),
        pytest.param("a" * 30_000, id="30,000 letters"),
        pytest.param("a." * 15_000, id="15,000 dots"),
        pytest.param(part({"a": "b" * 3000}) + ".x.y", id="a long header"),
    ],
)
def test_garbage_for_a_token(board: Board, token: str) -> None:
    """It is refused, however large or strange it is."""
    for path in ("/auth/me", "/events"):
        answer = raw.request(board.url, "GET", path, headers=(f"Authorization: Bearer {token}",))
        assert_problem(answer, "invalid-token")


def test_token_of_1_mib(board: Board) -> None:
    """It is too large for a token, and nobody reads it as one."""
    answer = raw.request(board.url, "GET", "/auth/me", headers=(f"Authorization: Bearer {'a.' * (1 << 19)}",))
    assert_problem(answer, "invalid-token")
    assert raw.request(board.url, "GET", "/health/live").status_code == 200
