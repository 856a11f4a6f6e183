"""A database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.database import connect, upgrade
from tests.service.rating.asking import Asking


@pytest.fixture(scope="package")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with its schema and nothing in it."""
    file = tmp_path_factory.mktemp("empty") / "state.sqlite"
    engine = connect(f"sqlite:///{file}")
    upgrade(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return file.read_bytes()


@pytest.fixture
def url(tmp_path: Path, empty: bytes) -> str:
    (tmp_path / "state.sqlite").write_bytes(empty)
    return f"sqlite:///{tmp_path}/state.sqlite"


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = connect(url)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whoever asked hangs up."""
    yield
    while Asking.opened:
        Asking.opened.pop().close()
