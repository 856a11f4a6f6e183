"""The database of the keys and the audit: SQLite by default, PostgreSQL by its URL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import ConnectionPoolEntry

TABLES = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}
)
BUSY_S = 10  # that a writer waits for another's transaction
# A server that does not answer counts as away.
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}


def connect(url: str) -> Engine:
    """An engine for the URL, `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`; nothing is
    opened yet. Errors: ValueError for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(parsed, pool_pre_ping=True, connect_args=_PATIENCE)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ValueError("the database's URL must begin with sqlite:/// or postgresql://")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _durable)
    return engine


def upgrade(engine: Engine) -> None:
    """Bring the schema to this version's; safe where several replicas start at once. Where it is
    that already, the right to read it is enough."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    newest = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == newest:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


_UPGRADE_LOCK = 0x45434744  # any number, the same everywhere


def _durable(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> Any:
    """Transactions begin where we say so, readers do not wait for writers, and what is committed
    survives the machine."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
