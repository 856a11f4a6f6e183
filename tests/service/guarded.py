"""A door that asks for keys, in this process, and the keys that open it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from service.access import keyring
from service.access.scopes import SCOPES
from service.database import connect, upgrade
from service.edge import create_app
from service.settings import Settings
from service.wire.door import Door, known_paths
from tests.conftest import ROOT


class Keys:
    """A database of keys in a folder."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/keys.sqlite"
        self.engine = connect(self.url)
        upgrade(self.engine)

    def make(
        self,
        scopes: Iterable[str] = SCOPES,
        lasts: timedelta | None = None,
        **limits: int,
    ) -> str:
        expires = datetime.now(UTC) + lasts if lasts is not None else None
        return keyring.create(self.engine, "a test's", scopes, expires, **limits)[1]

    def revoke(self, key: str) -> None:
        parsed = keyring.parse(key)
        assert parsed and keyring.revoke(self.engine, parsed[0])


def door(keys: Keys, **settings: Any) -> Door:
    """Of an edge whose models are not loaded."""
    given = {"access": "on", "database_url": keys.url, "keys_cache_s": 0.4, "workers": 1}
    edge = create_app(Settings(**{**given, **settings}))
    return Door(edge, known_paths([edge]), edge)


def client(door: Door, **more: Any) -> httpx.AsyncClient:
    """Its client; `client` in `more` is the address that it comes from."""
    transport = httpx.ASGITransport(door, client=more.pop("client", ("127.0.0.1", 5)))
    return httpx.AsyncClient(transport=transport, base_url="http://ecg.example", **more)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def without_generator(folder: Path) -> dict[str, str]:
    """Settings of a service that starts soon."""
    store = folder / "store"
    store.mkdir()
    (store / "prednet").symlink_to(ROOT / "models_store" / "prednet")
    return {"ECG_MODELS_STORE": str(store)}
