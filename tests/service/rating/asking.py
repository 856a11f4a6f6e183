"""The rating's endpoints in this process, whose models are not loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx

from service.edge import create_app
from service.settings import Settings
from service.wire.door import Door, known_paths
from tests.service.rating.made import generator


def door(url: str, **settings: Any) -> Door:
    """Of an edge that has a generator of kilobytes, and nothing else."""
    given = {"access": "off", "audit": "off", "database_url": url, "workers": 1, **settings}
    edge = create_app(Settings(**given))
    served = SimpleNamespace(model=generator())
    edge.state.engine = SimpleNamespace(generations={"ldm": served})
    return Door(edge, known_paths([edge]), edge)


class Asking:
    """One loop's client, as a worker's is one loop; `token` goes with each request."""

    opened: ClassVar[list[Asking]] = []  # to be closed after the test

    def __init__(self, door: Door, token: str = "") -> None:
        Asking.opened.append(self)
        self._door = door
        self._runner = asyncio.Runner()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(door)
        self._client = httpx.AsyncClient(
            transport=transport, base_url="http://ecg.example", headers=headers, timeout=60
        )

    def close(self) -> None:
        self.run(self._client.aclose())
        self._door.edge.state.rating.close()
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.run(self._client.get(path, **more))

    def post(self, path: str, value: Any = None, **more: Any) -> httpx.Response:
        given = more if value is None else {"json": value, **more}
        return self.run(self._client.post(path, **given))
