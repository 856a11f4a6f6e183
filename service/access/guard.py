"""Who may ask what: decided before anything of a request is read, for every path there is."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from starlette.datastructures import Headers, State
from starlette.responses import Response
from starlette.types import Receive, Scope

from service import logs, problems
from service.access import keyring, sessions
from service.access.caller import UNKNOWN, Caller, caller_of
from service.access.fetched import Fetched, Unreachable
from service.access.keyring import Key
from service.access.rates import Rates
from service.access.scopes import EVERYONE, HEALTH, METERED, RATER, SESSION, SIGN_OUT, scope_of
from service.access.sessions import Sessions
from service.access.tokens import BadToken, Tokens
from service.answering import refused
from service.audit.trail import Audit, Recorded
from service.problems import Problem
from service.rating.endpoints import NO_RATER
from service.rating.studies import PREFIX
from service.settings import Settings

_NEEDED = (
    "send `Authorization: Bearer` with a key of this service; in a browser, open / and sign in"
)
_NO_KEY = "the key is not valid: it is unknown, or was revoked"
_EXPIRED = "the key has expired; ask those who run this service for a new one"
_DATABASE_S = 10.0  # that a request waits for it


class Guard:
    """One worker's: keys and tokens, the sessions of browsers, and everybody's limits.

    What it learns of a caller stands in `scope["state"]["caller"]`.
    """

    def __init__(self, settings: Settings, rates: Rates, worker: State) -> None:
        """`worker`: the edge's, whose `audit` is there once it has started."""
        self._settings, self._rates, self._worker = settings, rates, worker
        self._keys = Fetched(
            "key database",
            keyring.Reader(settings),
            keep_s=settings.keys_cache_s,
            again_s=min(1.0, settings.keys_cache_s / 4),
            late_s=_DATABASE_S,
        )
        self._tokens = Tokens(settings) if settings.oidc_issuer else None
        secret = (settings.session_secret or "").encode() or rates.secret
        self._sessions = Sessions(secret, 60 * settings.session_minutes)
        self._open = {scope for scope in ("metrics", "docs") if getattr(settings, scope) == "open"}

    def prepare(self) -> None:
        """Ask for the keys before anybody comes with one; in the loop that will serve."""
        self._keys.now()

    async def refusal(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer to who may not, or has another way to go; None: let in, and to be `left`."""
        path, wanted = scope["path"], scope_of(scope["path"])
        for_all = path in HEALTH or wanted == EVERYONE
        if wanted in self._open or (for_all and scope.get("method") in ("GET", "HEAD")):
            return None
        scope.setdefault("state", {})["caller"] = UNKNOWN
        try:
            if path == SESSION and scope.get("method") == "POST":
                return self._recorded("signed in", await self._signed_in(scope, receive))
            caller = await self._caller(scope)
            scope["state"]["caller"] = caller
            if path == SIGN_OUT and scope.get("method") == "POST":
                return self._recorded("signed out", self._sessions.end(scope))
            if wanted is not None and wanted not in caller.scopes:
                raise problems.forbidden(wanted)
            if wanted in METERED and (caller.per_minute or caller.at_once):
                wait_s = self._rates.enter(caller.id, caller.per_minute, caller.at_once)
                if wait_s > 0:
                    raise problems.too_often(wait_s, "this is more than the key may ask at a time")
        except Problem as problem:
            return self._refused(scope, problem)
        except Exception as error:  # whatever it was: nobody is let in by it
            logs.failure("", error)
            return self._refused(scope, problems.internal())
        return None

    def left(self, scope: Scope) -> None:
        """One that was let in has its answer."""
        caller = caller_of(scope)
        if caller.at_once and scope_of(scope["path"]) in METERED:
            self._rates.leave(caller.id)

    async def _caller(self, scope: Scope) -> Caller:
        """Whose credential the request carries. Errors: Problem."""
        authorization, cookies = _credentials(scope["headers"])
        if authorization is None:
            key_id = self._sessions.key_id(scope, cookies) if cookies else None
            if key_id is None:
                raise problems.unauthorized(_NEEDED)
            if scope.get("method") not in ("GET", "HEAD") and sessions.from_elsewhere(
                Headers(scope=scope)
            ):
                raise problems.cross_site()
            key, caller = await self._found(scope, key_id)
            return self._unexpired(scope, key, caller)
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise problems.unauthorized(_NEEDED, "invalid_request")
        if text.startswith(PREFIX) or scope_of(scope["path"]) == RATER:
            return await self._of_rater(scope, text)
        if self._tokens is None or text.startswith(keyring.PREFIX):
            return await self._of_key(scope, text)
        return self._tokens.known(text) or await self._of_token(scope, text)

    async def _of_key(self, scope: Scope, text: str) -> Caller:
        """Errors: Problem."""
        parsed = keyring.parse(text)
        if parsed is None:
            raise self._failed(scope, _NO_KEY)
        key, caller = await self._found(scope, parsed[0])
        if not key.opened_by(parsed[1]):
            raise self._failed(scope, _NO_KEY)
        return self._unexpired(scope, key, caller)

    async def _found(self, scope: Scope, key_id: str) -> tuple[Key, Caller]:
        """The key of this id, which may be some seconds old. Errors: Problem."""
        try:
            keys = self._keys.now()
            if keys is None:
                keys = await self._keys.current()
            if key_id not in keys:
                self._not_too_often(scope)
                keys = await self._keys.newer(patient=True)  # it may have been made just now
        except Unreachable:
            raise problems.keys_unreachable("the database of the keys") from None
        if key_id not in keys:
            raise self._failed(scope, _NO_KEY)
        return keys[key_id]

    def _unexpired(self, scope: Scope, key: Key, caller: Caller) -> Caller:
        if key.expires is not None and key.expires <= datetime.now(UTC):
            raise self._failed(scope, _EXPIRED)
        return caller

    async def _of_token(self, scope: Scope, text: str) -> Caller:
        """Errors: Problem."""
        assert self._tokens is not None
        self._not_too_often(scope)  # before anything is spent on its signature
        try:
            return await self._tokens.caller(text)
        except BadToken as bad:
            raise self._failed(scope, f"the token {bad}") from None
        except Unreachable:
            raise problems.keys_unreachable("the tokens' issuer") from None

    async def _of_rater(self, scope: Scope, text: str) -> Caller:
        """Errors: Problem."""
        self._not_too_often(scope)  # before the database is asked
        found = await asyncio.to_thread(self._worker.rating.caller, text)
        if found is None:
            raise self._failed(scope, NO_RATER)
        return found[1]

    async def _signed_in(self, scope: Scope, receive: Receive) -> Response:
        """Errors: Problem."""
        if sessions.from_elsewhere(Headers(scope=scope)):
            raise problems.cross_site()
        caller = await self._of_key(scope, await sessions.posted_key(scope, receive))
        scope["state"]["caller"] = caller
        if "page" not in caller.scopes:
            raise problems.forbidden("page")
        return self._sessions.begin(scope, caller.id.partition(":")[2])

    def _failed(self, scope: Scope, detail: str) -> Problem:
        """What to answer to a credential that is no good; too many of an address get less."""
        wait_s = self._rates.failed(_address(scope), self._settings.failures_per_minute)
        return _too_many_failures(wait_s) or problems.unauthorized(detail, "invalid_token")

    def _not_too_often(self, scope: Scope) -> None:
        """Errors: Problem."""
        wait_s = self._rates.failing(_address(scope), self._settings.failures_per_minute)
        if problem := _too_many_failures(wait_s):
            raise problem

    def _refused(self, scope: Scope, problem: Problem) -> Response:
        """Every refusal's answer comes from here; of whom, if that is known, is in the scope."""
        path, page = scope["path"], Problem.response
        if scope["type"] == "http":
            if path == SESSION:
                page = partial(sessions.sign_in_page, said=problem.detail)
            elif problem.status == 401 and sessions.wants_page(scope, Headers(scope=scope)):
                page = sessions.sign_in_page
        audit: Audit | None = self._worker.audit
        return refused(scope_of(path) or "other", problem, self._settings, audit, page)

    def _recorded(self, outcome: str, answer: Response) -> Response:
        audit: Audit | None = self._worker.audit
        return Recorded(audit, "session", outcome, answer) if audit else answer


def _credentials(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str | None, str]:
    """The Authorization header, `""` where there are several, and the cookies."""
    authorization, cookies = None, ""
    for name, value in headers:
        if name == b"authorization":
            authorization = value.decode("latin-1") if authorization is None else ""
        elif name == b"cookie":
            cookies = value.decode("latin-1")
    return authorization, cookies


def _too_many_failures(wait_s: float) -> Problem | None:
    said = "too many keys, tokens or links that are not valid came from this address"
    return problems.too_often(wait_s, said) if wait_s > 0 else None


def _address(scope: Scope) -> str:
    """The client's; of IPv6 the network that it may choose its addresses from."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
