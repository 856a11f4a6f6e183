"""Who is asking, as the door found it out."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope


@dataclass(frozen=True)
class Caller:
    """`id` as it stands in logs and the audit, `key:ID` or `oidc:SUBJECT@ISSUER` or as below;
    `scopes` are the endpoints that it may ask."""

    id: str
    scopes: frozenset[str] = frozenset()
    per_minute: int | None = None
    at_once: int | None = None


OPEN = Caller("open")  # nobody is asked who they are
UNKNOWN = Caller("unknown")  # who was asked, and is not known yet


def caller_of(scope: Scope) -> Caller:
    return scope.get("state", {}).get("caller", OPEN)
