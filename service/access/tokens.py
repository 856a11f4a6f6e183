"""OIDC bearer tokens: an issuer's, made for us, unexpired, and signed with a key it publishes."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import time
import urllib.request
from collections import OrderedDict
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import jwt

from service.access.caller import Caller
from service.access.fetched import Fetched
from service.access.scopes import SCOPES
from service.settings import Settings

# A symmetric one would make the published key the secret; `none` asks for no key at all.
ALGORITHMS = {
    "RSA": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "EC": {"ES256", "ES384", "ES512"},
    "OKP": {"EdDSA"},
}
REMEMBERED = 4096  # verified tokens a worker; a signature costs more than all the rest
KEYS_KEPT_S = 300.0
KEYS_AGAIN_S = 10.0  # between two fetches, however many tokens name unknown keys
_TIMEOUT_S = 5.0
_MAX_ANSWER = 2**20
_MAX_SUBJECT = 120
_MAX_TOKEN = 16_384

_SAYS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "has expired; ask its issuer for a new one",
    jwt.ImmatureSignatureError: "is not valid yet; are the clocks right?",
    jwt.InvalidAudienceError: "was made for another audience",
    jwt.InvalidIssuerError: "is another issuer's",
    jwt.InvalidSignatureError: "has a signature that is not its issuer's",
}

Keys = dict[str, jwt.PyJWK]  # by kid


class BadToken(Exception):
    """What is wrong with it, in words that quote nothing of it."""


class Tokens:
    """Who the tokens of one issuer say that their bearers are."""

    def __init__(
        self, settings: Settings, kept_s: float = KEYS_KEPT_S, again_s: float = KEYS_AGAIN_S
    ) -> None:
        assert settings.oidc_issuer and settings.oidc_audience
        self._settings = settings
        self._issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        self._keys = Fetched("oidc keys", self._fetch, kept_s, again_s, late_s=2 * _TIMEOUT_S)
        # each with when it ends, and the keys that it was verified by
        self._verified: OrderedDict[bytes, tuple[Caller, float, Keys]] = OrderedDict()

    def known(self, token: str) -> Caller | None:
        """Whose it is, if it was verified before and that still holds."""
        digest = hashlib.sha256(token.encode()).digest()
        caller, ends, keys = self._verified.get(digest, (None, 0.0, None))
        if caller is None or time.time() >= ends or keys is not self._keys.now():
            return None
        self._verified.move_to_end(digest)
        return caller

    async def caller(self, token: str) -> Caller:
        """Whose it is. Errors: BadToken; Unreachable where the issuer's keys cannot be had."""
        if len(token) > _MAX_TOKEN:
            raise BadToken(f"is longer than {_MAX_TOKEN} characters")
        kid = _kid(token)
        keys = await self._keys.current()
        if kid not in keys:
            keys = await self._keys.newer()
        if kid not in keys:
            raise BadToken("names a key that its issuer does not publish")
        claims = self._claims(token, keys[kid])
        caller = self._caller(claims)
        ends = int(claims["exp"]) + self._settings.oidc_leeway_s
        self._verified[hashlib.sha256(token.encode()).digest()] = caller, ends, keys
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
        return caller

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        """Errors: BadToken."""
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._settings.oidc_leeway_s,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            raise BadToken(f"lacks the claim `{error.claim}`") from None
        except jwt.PyJWTError as error:
            raise BadToken(_SAYS.get(type(error), "could not be verified")) from None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        """Errors: BadToken."""
        subject: str = claims["sub"]
        if not 1 <= len(subject) <= _MAX_SUBJECT or not subject.isprintable():
            raise BadToken(f"has a subject that is not 1 to {_MAX_SUBJECT} printable characters")
        given = _at(claims, self._settings.oidc_scopes_claim)
        told = self._settings.oidc_scopes
        scopes = frozenset().union(*(told.get(one, ()) for one in given)) if told else given
        limits = self._settings.per_minute, self._settings.at_once
        return Caller(f"oidc:{subject}@{self._issuer}", scopes & SCOPES, *limits)

    def _fetch(self) -> Keys:
        """Errors: OSError, ValueError, Unreachable."""
        url = self._settings.oidc_jwks_url
        if url is None:
            about = _get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            url = about["jwks_uri"]
        keys = {}
        for one in _get(url)["keys"]:
            if key := _usable(one):
                keys[key.key_id] = key
        return keys


def _kid(token: str) -> str:
    """Errors: BadToken."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError):
        raise BadToken("is neither a key of this service nor a token") from None
    if header.get("alg") not in set().union(*ALGORITHMS.values()):
        raise BadToken("is not signed in a way that is taken here (RS256, ES256, …)")
    if not isinstance(header.get("kid"), str):
        raise BadToken("does not name its key (`kid`)")
    return header["kid"]


def _usable(key: Any) -> jwt.PyJWK | None:
    """A published key, if tokens may be signed with it."""
    try:
        made = jwt.PyJWK(key)
    except (jwt.PyJWTError, AttributeError, TypeError):
        return None
    fits = made.algorithm_name in ALGORITHMS.get(made.key_type or "", ())
    return made if fits and made.key_id and made.public_key_use in (None, "sig") else None


def _at(claims: dict[str, Any], path: str) -> frozenset[str]:
    """The claim's values: of a list, or of a string with spaces between."""
    value: Any = claims
    for name in [path] if path in claims else path.split("."):  # a name may be a URL
        value = value.get(name) if isinstance(value, dict) else None
    words = value.split() if isinstance(value, str) else value
    return frozenset(w for w in words if isinstance(w, str)) if isinstance(words, list) else _NONE


_NONE: frozenset[str] = frozenset()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Where the keys are is said once, by the settings or the issuer."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _get(url: str) -> dict[str, Any]:
    """What is there, as JSON. Errors: OSError; ValueError where it is no JSON object, too large, or
    neither https nor on this machine."""
    if not safe(url):
        raise ValueError("only https is asked for keys, but for this machine's own addresses")
    until = time.monotonic() + _TIMEOUT_S
    content = b""
    try:
        with _opener.open(url, timeout=_TIMEOUT_S) as answer:
            while chunk := answer.read1(2**16):
                content += chunk
                if len(content) > _MAX_ANSWER or time.monotonic() > until:
                    raise ValueError("the answer is too large or too slow")
    except HTTPError as error:
        error.close()
        raise
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("the answer is no JSON object")
    return value


def safe(url: str) -> bool:
    """Whether keys may be asked for there: nobody between can change what is answered."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return parts.scheme in ("http", "https") and bool(host)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
