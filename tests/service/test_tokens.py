"""OIDC tokens against a real issuer on this machine: which are taken, and which never."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from service.access.caller import Caller
from service.access.fetched import Unreachable
from service.access.tokens import BadToken, Tokens, safe
from service.settings import Settings
from tests.service.issuer import AUDIENCE, DISCOVERY, JWKS, Issuer, issuing, make_key, rsa_key


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


def settings(issuer: Issuer, **more: Any) -> Settings:
    return Settings(oidc_issuer=issuer.url, oidc_audience=AUDIENCE, oidc_leeway_s=0, **more)


def ask(issuer: Issuer, *tokens: str, **more: Any) -> list[Caller]:
    async def one_after_another() -> list[Caller]:
        checked = Tokens(settings(issuer, **more))
        return [await checked.caller(token) for token in tokens]

    return asyncio.run(one_after_another())


@pytest.mark.parametrize("kind", ["RS256", "RS512", "PS256", "EC", "OKP"])
def test_a_good_token_says_who_and_what_for(issuer: Issuer, kind: str) -> None:
    issuer.keys = {"k": make_key(kind)}
    (caller,) = ask(issuer, issuer.token("k"))
    assert caller.id == f"oidc:machine-7@{issuer.url}"
    assert caller.scopes == {"classify", "models"}


def test_the_issuer_says_where_its_keys_are_unless_the_settings_do(issuer: Issuer) -> None:
    ask(issuer, issuer.token())
    assert issuer.asked == [DISCOVERY, JWKS]
    issuer.asked.clear()
    ask(issuer, issuer.token(), oidc_jwks_url=f"{issuer.url}{JWKS}")
    assert issuer.asked == [JWKS]


def signed_with_the_public_key(issuer: Issuer) -> str:
    """HS256 by whoever takes the published key for a secret."""
    private, _ = issuer.keys["rsa-1"]
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signing = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "kid": "rsa-1", "typ": "JWT"}, issuer.claims())
    )
    mac = hmac.digest(pem, signing.encode(), hashlib.sha256)
    return f"{signing}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def unsigned(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), "", "none", {"kid": "rsa-1"})


def of_another_key(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), rsa_key(), "RS256", {"kid": "rsa-1"})


def with_another_payload(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    forged = issuer.token(sub="somebody-else").split(".")[1]
    return f"{header}.{forged}.{signature}"


NOW = int(time.time())
BAD = {
    "another audience": (lambda i: i.token(aud="another"), "another audience"),
    "no audience": (lambda i: i.token(aud=...), "lacks the claim `aud`"),
    "another issuer": (lambda i: i.token(iss="https://elsewhere.example"), "another issuer's"),
    "no issuer": (lambda i: i.token(iss=...), "lacks the claim `iss`"),
    "expired": (lambda i: i.token(exp=NOW - 60), "has expired"),
    "no expiry": (lambda i: i.token(exp=...), "lacks the claim `exp`"),
    "an expiry that is no time": (lambda i: i.token(exp="never"), "could not be verified"),
    "not valid yet": (lambda i: i.token(nbf=NOW + 3600), "not valid yet"),
    "issued tomorrow": (lambda i: i.token(iat=NOW + 86_400), "not valid yet"),
    "no subject": (lambda i: i.token(sub=...), "lacks the claim `sub`"),
    "a subject of control characters": (lambda i: i.token(sub="a\nb"), "has a subject"),
    "a subject without end": (lambda i: i.token(sub="a" * 121), "has a subject"),
    "alg none": (unsigned, "not signed in a way"),
    "HS256 with the public key": (signed_with_the_public_key, "not signed in a way"),
    "another key's signature": (of_another_key, "not its issuer's"),
    "another payload": (with_another_payload, "not its issuer's"),
    "an unknown kid": (lambda i: i.token(header={"kid": "nobody's"}), "does not publish"),
    "no kid": (lambda i: jwt.encode(i.claims(), i.keys["rsa-1"][0], "RS256"), "does not name"),
    "another algorithm than the key's": (
        lambda i: jwt.encode(i.claims(), i.keys["rsa-1"][0], "PS256", {"kid": "rsa-1"}),
        "could not be verified",
    ),
    "an unknown critical header": (
        lambda i: i.token(header={"crit": ["x"], "x": 1}),
        "neither a key of this service nor a token",
    ),
    "no token at all": (lambda i: "abc", "neither a key of this service nor a token"),
    "too long": (lambda i: i.token(more="x" * 20_000), "longer than"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused_in_words_that_quote_nothing(issuer: Issuer, kind: str) -> None:
    make, says = BAD[kind]
    token = make(issuer)
    with pytest.raises(BadToken) as bad:
        ask(issuer, issuer.token(), token)
    assert says in str(bad.value)
    assert not any(part and part in str(bad.value) for part in token.split(".") if len(part) > 9)


def test_keys_are_rotated_without_a_restart(issuer: Issuer) -> None:
    async def rotating() -> None:
        checked = Tokens(settings(issuer), kept_s=60, again_s=0.5)
        old = issuer.token()
        await checked.caller(old)
        issuer.keys = {"ec-2": make_key("EC")}
        await asyncio.sleep(0.6)
        await checked.caller(issuer.token("ec-2"))
        with pytest.raises(BadToken, match="does not publish"):
            await checked.caller(old)
        assert checked.known(old) is None

    asyncio.run(rotating())


def test_a_withdrawn_key_is_refused_once_the_keys_are_old(issuer: Issuer) -> None:
    async def withdrawing() -> None:
        checked = Tokens(settings(issuer), kept_s=1.0, again_s=0.1)
        token = issuer.token()
        await checked.caller(token)
        assert checked.known(token)
        issuer.keys = {"rsa-2": (rsa_key(), "RS256")}
        await asyncio.sleep(1.1)
        assert checked.known(token) is None
        with pytest.raises(BadToken):
            await checked.caller(token)

    asyncio.run(withdrawing())


def test_unknown_kids_do_not_make_us_ask_the_issuer_again_and_again(issuer: Issuer) -> None:
    async def hammering() -> None:
        checked = Tokens(settings(issuer))
        await checked.caller(issuer.token())
        for i in range(50):
            with pytest.raises(BadToken):
                await checked.caller(issuer.token(header={"kid": f"{i}"}))

    asyncio.run(hammering())
    assert issuer.asked.count(JWKS) == 1


def test_a_verified_token_is_known_until_it_expires(issuer: Issuer) -> None:
    async def remembering() -> None:
        checked = Tokens(settings(issuer))
        token = issuer.token(exp=int(time.time()) + 3)
        caller = await checked.caller(token)
        assert checked.known(token) is caller
        assert checked.known(token + "x") is None
        await asyncio.sleep(3.1)
        assert checked.known(token) is None

    asyncio.run(remembering())


def test_published_keys_of_other_kinds_open_nothing(issuer: Issuer) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
    encryption = {**issuer.jwks()["keys"][0], "kid": "enc", "use": "enc"}
    issuer.extra_keys = [
        {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"},
        encryption,
        {"kty": "RSA"},
        "nonsense",  # type: ignore[list-item]
    ]
    shared = jwt.encode(issuer.claims(), b"s" * 32, "HS256", {"kid": "shared"})
    for token in (shared, issuer.token(header={"kid": "enc"})):
        with pytest.raises(BadToken):
            ask(issuer, token)
    ask(issuer, issuer.token())


@pytest.mark.parametrize(
    ("claims", "more", "may"),
    [
        ({"scope": "classify page unknown"}, {}, {"classify", "page"}),
        ({"scope": ["models"]}, {}, {"models"}),
        ({"scope": 7}, {}, set()),
        ({"scope": ...}, {}, set()),
        ({"roles": ["print"]}, {"oidc_scopes_claim": "roles"}, {"print"}),
        (
            {"realm_access": {"roles": ["ecg-reader", "other"]}},
            {
                "oidc_scopes_claim": "realm_access.roles",
                "oidc_scopes": {"ecg-reader": {"classify", "print"}, "ecg-admin": {"metrics"}},
            },
            {"classify", "print"},
        ),
        (
            {"https://ecg.example/roles": ["classify"]},
            {"oidc_scopes_claim": "https://ecg.example/roles"},
            {"classify"},
        ),
        # where values are mapped, one that is not gives nothing, whatever it is called
        ({"scope": "classify"}, {"oidc_scopes": {"reader": {"print"}}}, set()),
    ],
)
def test_a_claim_says_what_a_token_may(
    issuer: Issuer, claims: dict[str, Any], more: dict[str, Any], may: set[str]
) -> None:
    (caller,) = ask(issuer, issuer.token(**claims), **more)
    assert caller.scopes == may


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/keys")
    handler.end_headers()


def too_large(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        handler.wfile.write(b'{"keys": [' + b" " * (2 * 2**20))
    except OSError:
        pass  # it hangs up


def of_somebody_else(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b'{"issuer": "https://elsewhere.example", "jwks_uri": "http://127.0.0.1"}')


def by_plain_http(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    told = {"issuer": f"http://{handler.headers['host']}", "jwks_uri": "http://192.0.2.1/keys"}
    handler.wfile.write(json.dumps(told).encode())


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        (DISCOVERY, redirect),
        (JWKS, redirect),
        (JWKS, too_large),
        (DISCOVERY, of_somebody_else),
        (DISCOVERY, by_plain_http),
    ],
)
def test_keys_are_taken_from_nowhere_else(issuer: Issuer, path: str, reply: Any) -> None:
    issuer.replies[path] = reply
    with pytest.raises(Unreachable):
        ask(issuer, issuer.token())


def test_only_https_and_this_machine_are_asked() -> None:
    assert safe("https://idp.example/keys") and safe("http://localhost:8/k")
    assert safe("http://127.0.0.1/k") and safe("http://[::1]:8/k")
    for url in ("http://idp.example/keys", "http://10.0.0.1/k", "ftp://127.0.0.1/k", "file:///k"):
        assert not safe(url)
