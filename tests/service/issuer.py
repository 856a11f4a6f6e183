"""An OIDC issuer on this machine: real keys, published over HTTP, that can be rotated."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "ecg-direnet"
JWKS, DISCOVERY = "/keys", "/.well-known/openid-configuration"


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer:
    """`url` is its name; `keys` its private keys by kid, each with the algorithm it signs by."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, tuple[Any, str]] = {"rsa-1": (rsa_key(), "RS256")}
        self.asked: list[str] = []
        self.extra_keys: list[dict[str, Any]] = []
        self.replies: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}

    def jwks(self) -> dict[str, Any]:
        keys = []
        for kid, (private, algorithm) in self.keys.items():
            kind = {"R": RSAAlgorithm, "P": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}
            made = kind.get(algorithm[0]) or kind[algorithm[:2]]
            public = made.to_jwk(private.public_key(), as_dict=True)
            keys.append({**public, "kid": kid, "alg": algorithm, "use": "sig"})
        return {"keys": keys + self.extra_keys}

    def token(self, kid: str = "rsa-1", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good one, but for what is said; a claim that is `...` is left out."""
        private, algorithm = self.keys[kid]
        return jwt.encode(self.claims(**claims), private, algorithm, {"kid": kid, **(header or {})})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        given = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "machine-7",
            "iat": now,
            "exp": now + 600,
            "scope": "openid classify models",
            **changes,
        }
        return {name: value for name, value in given.items() if value is not ...}


def make_key(kind: str) -> tuple[Any, str]:
    match kind:
        case "EC":
            return ec.generate_private_key(ec.SECP256R1()), "ES256"
        case "OKP":
            return ed25519.Ed25519PrivateKey.generate(), "EdDSA"
        case _:
            return rsa_key(), kind


@contextmanager
def issuing() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            if reply := issuer.replies.get(self.path):
                reply(self)
                return
            known = {
                JWKS: issuer.jwks,
                DISCOVERY: lambda: {"issuer": issuer.url, "jwks_uri": f"{issuer.url}{JWKS}"},
            }
            self.send_response(200 if self.path in known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(known[self.path]() if self.path in known else {}).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
