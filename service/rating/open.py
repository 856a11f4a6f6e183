"""What a worker holds of the rating: its database, opened when it is first asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from service import logs, problems
from service.access.caller import Caller
from service.access.scopes import RATER
from service.database import connect, upgrade
from service.rating import studies
from service.settings import Settings

T = TypeVar("T")


class Rating:
    """One worker's; `make` is held while a study's ECGs are made, which takes all of a core."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: sa.Engine | None = None
        self._opening = threading.Lock()
        self.make = asyncio.Lock()

    def __call__(self, work: Callable[[sa.Engine], T]) -> T:
        """`work` with the database; blocks. Errors: Problem 503 where it cannot be asked."""
        try:
            return work(self._open())
        except SQLAlchemyError as error:  # its message may quote what was written
            kind = type(getattr(error, "orig", None) or error).__name__
            logs.event("studies unreachable", error=kind)
            raise problems.studies_unreachable() from None

    def caller(self, token: str) -> tuple[studies.Rater, Caller] | None:
        """Whose token it is, and as what they count; blocks. Errors: as above."""
        rater = self(lambda engine: studies.rater_of(engine, token))
        if rater is None:
            return None
        limits = self._settings.per_minute, self._settings.at_once
        return rater, Caller(f"rater:{rater.id}", frozenset({RATER}), *limits)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _open(self) -> sa.Engine:
        with self._opening:
            if self._engine is None:
                engine = connect(self._settings.database_url)
                upgrade(engine)
                self._engine = engine
        return self._engine
