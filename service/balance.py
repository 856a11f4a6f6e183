"""Connections among workers: a busy worker lets one go now and then.

Workers take connections from one socket, whoever comes first, and a client that keeps its
connections keeps its workers: sixteen connections may all be one worker's while another idles. So
an answer sometimes closes its connection, and the client's next one is for whoever has time; the
more a worker has to do at once, the more often. A single client in a row is never sent away.
"""

from __future__ import annotations

import random
from typing import Self

SHARE = 0.0025  # of the answers, at eight requests at once, and as their square
MOST = 0.02


class Balance:
    """Counts a worker's requests: `with balance:` around each."""

    def __init__(self, workers: int) -> None:
        self._alone = workers == 1
        self._at_once = 0

    @property
    def at_once(self) -> int:
        return self._at_once

    def __enter__(self) -> Self:
        self._at_once += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._at_once -= 1

    def headers(self) -> dict[str, str]:
        """To add to an answer."""
        share = min(MOST, SHARE * (self._at_once / 8) ** 2)
        if self._alone or self._at_once == 1 or random.random() >= share:
            return {}
        return {"Connection": "close"}
