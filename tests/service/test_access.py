"""The door that asks for keys: who is let in, who is not, and what those are told."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.caller import Caller
from service.access.scopes import SCOPES
from service.wire.door import Door
from tests.service.guarded import Keys, bearer, client, door
from tests.service.issuer import AUDIENCE, Issuer, issuing

UNKNOWN = f"ecg_0123456789ab_{'x' * 43}"


@pytest.fixture(autouse=True)
def one_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A door serves in one loop, as a worker does."""
    with asyncio.Runner() as runner:
        monkeypatch.setattr(asyncio, "run", runner.run)
        yield


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def issuer():
    with issuing() as issuer:
        yield issuer


def gets(door: Door, path: str, *headers: dict[str, str], **more: Any) -> list[httpx.Response]:
    async def one_after_another() -> list[httpx.Response]:
        async with client(door, **more) as asking:
            return [await asking.get(path, headers=given) for given in headers]

    return asyncio.run(one_after_another())


def problem(answer: httpx.Response, status: int) -> str:
    """The problem's detail, its form checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    return answer.json()["detail"]


def test_a_key_opens_what_it_is_scoped_for_and_no_more(keys: Keys) -> None:
    asked = {
        "/openapi.json": "docs",
        "/docs": "docs",
        "/static/vendor/swagger-ui/swagger-ui.css": "docs",
        "/": "page",
        "/static/page.js": "page",
    }
    made = {s: (keys.make({s}), keys.make(SCOPES - {s})) for s in set(asked.values())}
    one = door(keys)
    for path, scope in asked.items():
        opened, shut = gets(one, path, *map(bearer, made[scope]))
        assert opened.status_code == 200
        assert scope in problem(shut, 403)
        assert f'scope="{scope}"' in shut.headers["www-authenticate"]


def test_without_a_credential_every_path_looks_the_same(keys: Keys) -> None:
    one = door(keys)
    answers = [
        gets(one, path, {})[0]
        for path in ("/classify", "/nothing", "/static/page.js", "/static/../x", "/docs", "//")
    ]
    code = door(keys, access="off"), "/static/__init__.py"
    assert gets(*code, {})[0].status_code == 404, "the pages' folder holds code too"
    for answer in answers:
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="ecg-direnet"'
    told = [{**a.json(), "request_id": ""} for a in answers]
    assert all(one == told[0] for one in told)


BAD = {
    "unknown": (bearer(UNKNOWN), "unknown, or was revoked"),
    "not a key": (bearer("ecg_1"), "unknown, or was revoked"),
    "a token where none are taken": (bearer("a.b.c"), "unknown, or was revoked"),
    "nothing": ({"Authorization": "Bearer"}, "send `Authorization: Bearer`"),
    "another scheme": ({"Authorization": "Basic YTpi"}, "send `Authorization: Bearer`"),
    "bytes": ({"Authorization": "Bearer \xff\xfe"}, "unknown, or was revoked"),
    "a forged session": ({"Cookie": "ecg-session=0123456789ab.9999999999.x"}, "send `Auth"),
    "a session of nonsense": ({"Cookie": "ecg-session=....; ecg-session"}, "send `Auth"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_credential_is_401_and_is_not_repeated(keys: Keys, kind: str) -> None:
    keys.make()
    headers, says = BAD[kind]
    raw = [(name, value.encode("latin-1")) for name, value in headers.items()]
    (answer,) = gets(door(keys), "/docs", raw)  # type: ignore[arg-type]
    assert says in problem(answer, 401)
    assert UNKNOWN not in answer.text


def test_the_secret_of_another_key_does_not_open(keys: Keys) -> None:
    one, other = keys.make(), keys.make()
    (answer,) = gets(door(keys), "/docs", bearer(one[:17] + other[17:]))
    problem(answer, 401)


def test_two_authorization_headers_are_none(keys: Keys) -> None:
    key = keys.make().encode()
    twice = [("Authorization", b"Bearer " + key), ("Authorization", b"Bearer " + key)]
    (answer,) = gets(door(keys), "/docs", twice)  # type: ignore[arg-type]
    problem(answer, 401)


def test_an_expired_key_says_so_only_to_who_holds_it(keys: Keys) -> None:
    expired = keys.make(lasts=timedelta(seconds=-1))
    mine, guessed = gets(door(keys), "/docs", bearer(expired), bearer(expired[:17] + "x" * 43))
    assert "has expired" in problem(mine, 401)
    assert "expired" not in problem(guessed, 401)


def test_a_key_is_good_at_once_and_bad_soon_after_it_is_revoked(keys: Keys) -> None:
    async def over_time() -> None:
        async with client(door(keys)) as asking:
            old = keys.make()
            assert (await asking.get("/docs", headers=bearer(old))).status_code == 200
            await asyncio.sleep(0.2)
            new = keys.make()  # the database was asked just before
            assert (await asking.get("/docs", headers=bearer(new))).status_code == 200
            keys.revoke(old)
            until = time.monotonic() + 5
            while (await asking.get("/docs", headers=bearer(old))).status_code == 200:
                assert time.monotonic() < until
                await asyncio.sleep(0.05)
            assert (await asking.get("/docs", headers=bearer(old))).status_code == 401
            assert (await asking.get("/docs", headers=bearer(new))).status_code == 200

    asyncio.run(over_time())


def test_where_the_database_is_away_nobody_is_let_in(keys: Keys, tmp_path: Path) -> None:
    async def away() -> None:
        key = keys.make()
        one = door(keys)
        async with client(one) as asking:
            assert (await asking.get("/docs", headers=bearer(key))).status_code == 200
            keys.engine.dispose()
            with sqlite3.connect(tmp_path / "keys.sqlite") as database:
                database.execute("ALTER TABLE keys RENAME TO gone")
            assert (await asking.get("/docs", headers=bearer(key))).status_code == 200, "cached"
            await asyncio.sleep(0.6)
            answer = await asking.get("/docs", headers=bearer(key))
            problem(answer, 503)
            assert answer.headers["retry-after"]
            assert (await asking.get("/docs")).status_code == 401

    asyncio.run(away())
    (answer,) = gets(door(keys, database_url="postgresql://a:b@127.0.0.1:1/x"), "/docs",
                     bearer(UNKNOWN))  # fmt: skip
    problem(answer, 503)


def test_requests_above_a_keys_limit_wait(keys: Keys) -> None:
    limited, other = keys.make(per_minute=60), keys.make(per_minute=60)

    async def hammer() -> list[httpx.Response]:
        async with client(door(keys)) as asking:
            # not there, so nothing is computed; counted all the same
            answers = [await asking.put("/classify", headers=bearer(limited)) for _ in range(14)]
            page = await asking.get("/static/page.js", headers=bearer(limited))
            return [*answers, page, await asking.put("/classify", headers=bearer(other))]

    began = time.monotonic()
    *answers, page, others = asyncio.run(hammer())
    elapsed_s = time.monotonic() - began
    served = [a for a in answers if a.status_code == 405]
    assert 10 <= len(served) <= 10 + elapsed_s + 1
    assert page.status_code == 200, "the page's files are not counted"
    assert others.status_code == 405, "nor is one for another"
    for refused in answers:
        if refused not in served:
            problem(refused, 429)
            assert int(refused.headers["retry-after"]) >= 1


def test_what_runs_at_once_is_limited_and_given_back(keys: Keys) -> None:
    one = door(keys)
    key = keys.make(at_once=2)

    async def crowd() -> None:
        release = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await release.wait()
            if scope["path"] == "/print":
                raise RuntimeError("it broke")
            await httpx_style_answer(send)

        one.app = slow
        async with client(one, timeout=30) as asking:
            first = asyncio.create_task(asking.post("/synthesize", headers=bearer(key)))
            second = asyncio.create_task(asking.post("/print", headers=bearer(key)))
            await asyncio.sleep(0.5)
            problem(await asking.post("/synthesize", headers=bearer(key)), 429)
            release.set()
            assert (await first).status_code == 200
            with pytest.raises(RuntimeError, match="it broke"):
                await second
            assert (await asking.post("/synthesize", headers=bearer(key))).status_code == 200

    asyncio.run(crowd())


async def httpx_style_answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_an_address_that_fails_too_often_waits_but_good_keys_from_it_do_not(keys: Keys) -> None:
    async def guess(one: Door, host: str, times: int) -> list[int]:
        async with client(one, client=(host, 5)) as asking:
            return [
                (await asking.get("/docs", headers=bearer(UNKNOWN))).status_code
                for _ in range(times)
            ]

    async def guessing() -> None:
        one = door(keys, failures_per_minute=60)
        key = keys.make()
        statuses = await guess(one, "192.0.2.1", 25)
        assert statuses[:10] == [401] * 10 and 429 in statuses[10:]
        assert await guess(one, "192.0.2.2", 1) == [401], "others' guesses are their own"
        async with client(one, client=("192.0.2.1", 5)) as asking:
            assert (await asking.get("/docs", headers=bearer(key))).status_code == 200
            assert (await asking.get("/docs")).status_code == 401, "nothing was guessed"
        await guess(one, "2001:db8::1", 25)
        assert await guess(one, "2001:db8::ffff", 1) == [429], "of one network"

    asyncio.run(guessing())


def test_oidc_tokens_open_too_and_keys_beside_them(keys: Keys, issuer: Issuer) -> None:
    one = door(keys, oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
    token = issuer.token(scope="docs")
    opened, again, key, shut, bad = gets(
        one,
        "/docs",
        *map(bearer, (token, token, keys.make({"docs"}), issuer.token(scope="page"), token + "x")),
    )
    assert [a.status_code for a in (opened, again, key)] == [200] * 3
    assert "docs" in problem(shut, 403)
    detail = problem(bad, 401)
    assert "token" in detail and token[:20] not in bad.text
    assert 'error="invalid_token"' in bad.headers["www-authenticate"]


def test_an_issuer_that_is_away_is_503(keys: Keys) -> None:
    with issuing() as gone:
        token = gone.token()
    one = door(keys, oidc_issuer=gone.url, oidc_audience=AUDIENCE)
    (answer,) = gets(one, "/docs", bearer(token))
    problem(answer, 503)


def test_the_caller_stands_in_the_scope(keys: Keys, issuer: Issuer) -> None:
    one = door(keys, oidc_issuer=issuer.url, oidc_audience=AUDIENCE, per_minute=9, at_once=3)
    seen: list[Caller] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["caller"])
        await httpx_style_answer(send)

    one.app = look
    key = keys.make({"docs"}, per_minute=5)
    gets(one, "/docs", bearer(key), bearer(issuer.token(scope="docs")))
    assert seen == [
        Caller(f"key:{key[4:16]}", frozenset({"docs"}), 5, 3),
        Caller(f"oidc:machine-7@{issuer.url}", frozenset({"docs"}), 9, 3),
    ]


def sign_in(one: Door, key: str, **headers: str) -> httpx.Response:
    async def post() -> httpx.Response:
        async with client(one) as asking:
            given = {"Sec-Fetch-Site": "same-origin", **headers}
            return await asking.post("/session", data={"key": key}, headers=given)

    return asyncio.run(post())


def test_a_session_lasts_as_said_and_is_bound_to_its_key(keys: Keys) -> None:
    one = door(keys, session_minutes=0.02)
    key = keys.make({"page", "docs"})
    answer = sign_in(one, key)
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    said = answer.headers["set-cookie"]
    assert "HttpOnly" in said and "SameSite=strict" in said and "Secure" not in said
    assert key[17:] not in said
    cookie = said.split(";")[0]
    name, _, value = cookie.partition("=")
    key_id, ends, mac = value.split(".")
    other = keys.make()[4:16]
    later = f"{name}={key_id}.{int(ends) + 60}.{mac}"
    given = [{"Cookie": c} for c in (cookie, f"{name}={other}.{ends}.{mac}", later)]
    assert [a.status_code for a in gets(one, "/docs", *given)] == [200, 401, 401]
    elsewhere = door(keys)
    assert gets(elsewhere, "/docs", {"Cookie": cookie})[0].status_code == 401, "its own secret"
    time.sleep(1.5)
    assert gets(one, "/docs", {"Cookie": cookie})[0].status_code == 401


def test_replicas_that_share_a_secret_share_sessions(keys: Keys) -> None:
    secret = {"session_secret": "s" * 32}
    cookie = sign_in(door(keys, **secret), keys.make()).headers["set-cookie"].split(";")[0]
    assert gets(door(keys, **secret), "/docs", {"Cookie": cookie})[0].status_code == 200
    assert gets(door(keys), "/docs", {"Cookie": cookie})[0].status_code == 401


def test_signing_in_needs_a_good_key_for_the_page_and_this_page(keys: Keys) -> None:
    one = door(keys)
    for key, status in ((UNKNOWN, 401), ("", 401), (keys.make({"classify"}), 403)):
        answer = sign_in(one, key)
        assert answer.status_code == status
        assert 'role="alert"' in answer.text and "<form" in answer.text
        assert not key or key not in answer.text
        assert "set-cookie" not in answer.headers
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        assert sign_in(one, keys.make(), **headers).status_code == 403


def test_a_form_without_end_is_not_read(keys: Keys) -> None:
    read = 0

    async def post() -> list[dict[str, Any]]:
        async def receive() -> dict[str, Any]:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": b"key=" + b"x" * 1000, "more_body": True}

        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"sec-fetch-site", b"same-origin")]
        scope = {"type": "http", "method": "POST", "path": "/session", "headers": headers,
                 "client": ("192.0.2.1", 5)}  # fmt: skip
        await door(keys)(scope, receive, send)
        return sent

    assert asyncio.run(post())[0]["status"] == 401
    assert read <= 5


def test_what_is_open_or_closed_by_setting_is(keys: Keys) -> None:
    key = bearer(keys.make())
    assert gets(door(keys, docs="open"), "/docs", {})[0].status_code == 200
    assert gets(door(keys, docs="open"), "/openapi.json", {})[0].status_code == 200
    closed = door(keys, docs="closed", metrics="closed")
    for path in ("/docs", "/openapi.json", "/metrics", "/static/docs.js"):
        without, with_key = gets(closed, path, {}, key)
        problem(without, 401)
        problem(with_key, 404)
    assert gets(closed, "/", key)[0].status_code == 200
    shut_though_off = door(keys, access="off", docs="closed")
    problem(gets(shut_though_off, "/docs", {})[0], 404)
    assert gets(shut_though_off, "/", {})[0].status_code == 200


def test_a_failure_inside_lets_nobody_in(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = door(keys)
    key = keys.make()

    def broken(*_: Any) -> Any:
        raise ValueError(f"it quotes {key}")

    monkeypatch.setattr("service.access.keyring.parse", broken)
    with caplog.at_level("INFO"):
        (answer,) = gets(one, "/docs", bearer(key))
    problem(answer, 500)
    assert key not in answer.text and key not in caplog.text
    assert '"event":"failure"' in caplog.text


def test_websockets_are_refused(keys: Keys) -> None:
    async def connect(one: Door, headers: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/classify", "scheme": "ws", "headers": headers,
                 "extensions": {"websocket.http.response": {}}}  # fmt: skip
        await one(scope, receive, send)
        return sent

    def run(what: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return asyncio.run(what)

    first, *rest = run(connect(door(keys), []))
    assert (first["type"], first["status"]) == ("websocket.http.response.start", 401)
    assert json.loads(rest[0]["body"])["status"] == 401
    key = f"Bearer {keys.make()}".encode()
    for one, headers in ((door(keys), [(b"authorization", key)]), (door(keys, access="off"), [])):
        (closed,) = run(connect(one, headers))
        assert closed["type"] == "websocket.close"
