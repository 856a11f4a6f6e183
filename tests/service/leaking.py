"""The service with doors to leak by: a request's headers say which, and what. Served by the tests
alone."""

from __future__ import annotations

import os
import urllib.parse
from typing import Any

from starlette.requests import Request

from service import edge
from service.bento import EcgDirenet
from tests.service.leaks import HUSHED, KIND, LEAKS, SECRET

__all__ = ["EcgDirenet"]

_read, _models = edge._read, edge._described


async def leaking_read(request: Request, *given: Any) -> Any:
    kind = request.headers.get(KIND, "")
    secret = urllib.parse.unquote(request.headers.get(SECRET, ""))
    if kind in LEAKS:
        LEAKS[kind](secret)
    elif kind in HUSHED:
        HUSHED[kind][0](secret)
    return await _read(request, *given)


def leaking_models(model: Any) -> Any:
    """Errors in an endpoint that handles none."""
    if secret := os.environ.get("LEAK_IN_MODELS"):
        raise RuntimeError(secret)
    return _models(model)


edge._read = leaking_read
edge._described = leaking_models
