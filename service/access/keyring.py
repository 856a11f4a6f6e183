"""The API keys as the database has them.

A key is `ecg_ID_SECRET`. The database keeps the SHA-256 of the secret, which is 256 random bits: a
slow hash protects what can be guessed, and this cannot be.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Engine

from service.access.caller import Caller
from service.audit.trail import record_now
from service.database import TABLES, connect, upgrade
from service.settings import Settings

KEYS = sa.Table(
    "keys",
    TABLES,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("scopes", sa.String(500), nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires", sa.DateTime(timezone=True)),
    sa.Column("revoked", sa.DateTime(timezone=True)),
    sa.Column("per_minute", sa.Integer),
    sa.Column("at_once", sa.Integer),
)
PREFIX = "ecg_"
_KEY = re.compile(r"ecg_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Key:
    """A row. `per_minute` and `at_once` are None where the settings' hold; times are UTC."""

    id: str
    name: str
    sha256: bytes
    scopes: frozenset[str]
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    per_minute: int | None = None
    at_once: int | None = None

    def state(self, now: datetime) -> str:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    def opened_by(self, secret: str) -> bool:
        return hmac.compare_digest(_hash(secret), self.sha256)


def parse(text: str) -> tuple[str, str] | None:
    """A key's id and secret, if it has the form of one."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def create(
    engine: Engine,
    name: str,
    scopes: Iterable[str],
    expires: datetime | None = None,
    per_minute: int | None = None,
    at_once: int | None = None,
) -> tuple[Key, str]:
    """A new row, and the key itself, which nobody can tell a second time."""
    secret = secrets.token_urlsafe(32)
    key = Key(
        id=secrets.token_hex(6),
        name=name,
        sha256=_hash(secret),
        scopes=frozenset(scopes),
        created=datetime.now(UTC),
        expires=expires,
        per_minute=per_minute,
        at_once=at_once,
    )
    row = {**vars(key), "scopes": ",".join(sorted(key.scopes))}
    record_now(engine, "key created", about=f"key:{key.id} {row['scopes']}")
    with engine.begin() as connection:
        connection.execute(sa.insert(KEYS).values(row))
    return key, f"{PREFIX}{key.id}_{secret}"


def all_of(engine: Engine) -> list[Key]:
    """Oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(KEYS).order_by(KEYS.c.created)).mappings()
        return [_key(row) for row in rows]


def unrevoked(engine: Engine) -> dict[str, Key]:
    """By id; those that have expired too, for their holders are told so."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(KEYS).where(KEYS.c.revoked.is_(None))).mappings()
        return {key.id: key for key in map(_key, rows)}


def revoke(engine: Engine, id: str) -> bool:  # noqa: A002
    """Whether there was such a key to revoke."""
    if id not in unrevoked(engine):
        return False
    record_now(engine, "key revoked", about=f"key:{id}")
    return _set(engine, id, revoked=datetime.now(UTC))


def rotate(engine: Engine, old: Key, grace: timedelta, lifetime: timedelta | None) -> str:
    """A key that may what `old` may, which itself ends after the grace."""
    now = datetime.now(UTC)
    expires = now + lifetime if lifetime else None
    _, text = create(engine, old.name, old.scopes, expires, old.per_minute, old.at_once)
    ends = now + grace
    record_now(engine, "key to end", about=f"key:{old.id} {ends:%Y-%m-%dT%H:%MZ}")
    _set(engine, old.id, expires=min(ends, old.expires or ends))
    return text


class Reader:
    """`unrevoked` for a service that asks again and again, as callers: the schema is made once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None

    def __call__(self) -> dict[str, tuple[Key, Caller]]:
        """Errors: of the database."""
        if self._engine is None:
            engine = connect(self._settings.database_url)
            upgrade(engine)
            self._engine = engine
        keys = unrevoked(self._engine).values()
        return {key.id: (key, self._caller(key)) for key in keys}

    def _caller(self, key: Key) -> Caller:
        per_minute = key.per_minute or self._settings.per_minute
        at_once = key.at_once or self._settings.at_once
        return Caller(f"key:{key.id}", key.scopes, per_minute, at_once)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _set(engine: Engine, id: str, **values: datetime) -> bool:  # noqa: A002
    change = sa.update(KEYS).where(KEYS.c.id == id, KEYS.c.revoked.is_(None)).values(**values)
    with engine.begin() as connection:
        return connection.execute(change).rowcount == 1


def _key(row: sa.RowMapping) -> Key:
    times = {name: _utc(row[name]) for name in ("created", "expires", "revoked")}
    return Key(**{**row, **times, "scopes": frozenset(row["scopes"].split(","))})


def _utc(time: datetime | None) -> datetime | None:
    """SQLite keeps times without their zone."""
    return time and (time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
