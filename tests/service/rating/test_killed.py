"""kill -9 in the middle of rating: no acknowledged answer is lost and none is doubled, on SQLite
and on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from service.audit import commands
from service.database import connect, upgrade
from service.rating import studies
from service.rating.answers import keep
from service.rating.tables import ANSWERS
from service.settings import Settings
from tests.conftest import running_service
from tests.service.postgres import DATABASES, Postgres, needs_postgres
from tests.service.rating.made import given, shown_to, single, study
from tests.service.test_audit_killed import kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
N_RATERS, N_ECGS, KILLS = 6, 200, 2


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rating.sqlite"
    return request.getfixturevalue("postgres").url


class Raters:
    """Programs that answer one ECG after the other, each with a second tab that answers the same
    ones, and send again what was not confirmed."""

    def __init__(self, plans: list[tuple[str, list[dict[str, Any]]]]) -> None:
        self._plans = plans
        self.url = ""
        self.sent: dict[str, dict[str, Any]] = {}  # by id, whatever became of it
        self.acknowledged: dict[str, int] = {}  # the revisions
        self.over = False

    async def _tab(self, token: str, answers: list[dict[str, Any]]) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(headers=headers, timeout=20) as client:
            for one in answers:
                self.sent[one["id"]] = one
                while not self.over:
                    try:
                        answer = await client.post(f"{self.url}/rate/answer", json=one)
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
                        continue
                    if answer.status_code == 200:
                        known = self.acknowledged.setdefault(one["id"], answer.json()["revision"])
                        assert known == answer.json()["revision"]
                        break
                    assert answer.status_code in (429, 503), answer.text
                    await asyncio.sleep(0.1)

    def during(self, what: Callable[[], None]) -> None:
        async def all_of_it() -> None:
            tabs = [asyncio.create_task(self._tab(*plan)) for plan in self._plans]
            await asyncio.to_thread(what)
            await asyncio.gather(*tabs)

        asyncio.run(all_of_it())

    def until(self, n: int) -> None:
        deadline = time.monotonic() + 240
        while len(self.acknowledged) < n:
            assert time.monotonic() < deadline, len(self.acknowledged)
            time.sleep(0.02)


@pytest.mark.parametrize("database", DATABASES, indirect=True)
def test_killed_in_the_middle_of_rating_nothing_confirmed_is_lost_or_doubled(
    tmp_path: Path, database: str
) -> None:
    engine = connect(database)
    upgrade(engine)
    made = study(engine, real=0, generated={"ldm": N_ECGS}, repeats=0.0)
    plans = []
    for i in range(N_RATERS):
        rater, token = studies.invite(engine, made, f"Program {i}", True)
        for _ in range(2):
            shown = shown_to(engine, rater)
            plans.append((token, [given(s["id"], single()).model_dump() for s in shown]))
    raters = Raters(plans)
    store = tmp_path / "store"
    store.mkdir()
    (store / "prednet").symlink_to(Settings().models_store / "prednet")
    settings = {
        "ECG_MODELS_STORE": str(store),
        "ECG_WORKERS": "2",
        "ECG_AUDIT": "on",
        "ECG_DATABASE_URL": database,
        "ECG_ACCESS_LOG": "false",
    }

    def killed_and_started_again() -> None:
        for i in range(KILLS + 1):
            with running_service(tmp_path, **settings) as service:
                raters.url = service.url
                last = i == KILLS
                n = N_RATERS * 2 * N_ECGS
                raters.until(n if last else len(raters.acknowledged) + 150)
                if not last:
                    kill(service)

    raters.during(killed_and_started_again)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(ANSWERS)).all()
    kept = {row.id: row for row in rows}
    assert len(kept) == len(rows) == N_RATERS * 2 * N_ECGS == len(raters.acknowledged)
    for id, revision in raters.acknowledged.items():  # noqa: A001
        sent, row = raters.sent[id], kept[id]
        assert (row.presentation, row.revision) == (sent["presentation"], revision)
        assert json.loads(row.given)["plausibility"] == sent["answer"]["plausibility"]
    by_presentation: dict[str, list[int]] = {}
    for row in rows:
        by_presentation.setdefault(row.presentation, []).append(row.revision)
    assert all(sorted(some) == [1, 2] for some in by_presentation.values())
    for rater in studies.raters_of(engine, made.id):
        assert len(studies.progress(engine, rater.id).answered) == N_ECGS
    engine.dispose()


@needs_postgres
def test_the_service_needs_few_rights_in_postgresql(postgres: Postgres) -> None:
    """A role that may not change what was said can do all that raters and owners ask."""
    owner = connect(postgres.url)
    upgrade(owner)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE ecg LOGIN")
    commands.grant(owner, "ecg")
    engine = connect(postgres.url_of("ecg"))
    made = study(engine, real=0, generated={"ldm": 4})
    rater, token = studies.invite(engine, made, "A program", True)
    for one in shown_to(engine, rater):
        assert keep(engine, rater.id, given(one["id"], single())).stands
    assert studies.rater_of(engine, token) == rater
    assert studies.revoke(engine, rater.id) and studies.close(engine, made.id)
    for statement in ("UPDATE answers SET given = ''", "DELETE FROM answers", "TRUNCATE answers"):
        with psycopg.connect(postgres.url_of("ecg")) as role:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(statement)
        with psycopg.connect(postgres.url) as role:
            with pytest.raises(psycopg.errors.RaiseException, match="only appended"):
                role.execute(statement)
    engine.dispose()
    owner.dispose()
