"""A service that others can reach: each route of its process is shut but for the health answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from ecg.record import Record
from tests.conftest import ROOT, running_service
from tests.service.bodies import as_npz
from tests.service.guarded import Keys, bearer, without_generator
from tests.service.issuer import AUDIENCE, Issuer, issuing
from tests.service.test_tokens import BAD

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
HEALTH = ("/livez", "/readyz", "/healthz")
RATING = ("/rate", "/static/rate/")  # the same page for all; what it asks for needs a rater's link
# What a version of BentoML has had at some time, or may have again by configuration.
FRAMEWORK = (
    *("/docs.json", "/schema.json", "/openapi.json", "/static_content/index.js", "/assets/x.js"),
    *("/classify/submit", "/classify/status", "/classify/get", "/classify/retry", "/hello", "/ui"),
    *("/api/classify", "/debug", "/runner", "/favicon.ico", "//", "/./docs", "/livez/", "/LIVEZ"),
    *("/livez/../metrics", "/livez%2f..%2fmetrics", "/static/..%2f..%2fsettings.py", "/%00", "/*"),
)

WALK = """
import json
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from service.bento import EcgDirenet

def walk(routes, prefix=""):
    for route in routes:
        path = prefix + getattr(route, "path", "")
        inner = getattr(route, "app", None)
        if isinstance(inner, StaticFiles):
            yield path
            for folder in inner.all_directories:
                from pathlib import Path
                for file in Path(folder).rglob("*"):
                    yield f"{path}/{file.relative_to(folder).as_posix()}"
        elif isinstance(route, Mount):
            yield from walk(route.routes or [], path)
        else:
            yield path

door = EcgDirenet.to_asgi().app
print(json.dumps(sorted(set(walk(door.app.routes)))))
"""


@pytest.fixture(scope="module")
def routes() -> list[str]:
    """Every path in the tables of the process's apps, with something for each parameter."""
    done = subprocess.run(
        [sys.executable, "-c", WALK],
        cwd=ROOT,
        env={**os.environ, "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"/livez", "/readyz", "/healthz", "/metrics", "/schema.json", "/classify"} <= set(found)
    assert "/static/page.js" in found and "/{path:path}" in found
    return [path.replace("{path:path}", "any/thing") or "/" for path in found]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, issuer: Issuer
) -> Iterator[running_service]:
    folder = tmp_path_factory.mktemp("reachable")
    with running_service(
        folder,
        host="0.0.0.0",
        **without_generator(folder),
        ECG_WORKERS="2",
        ECG_DATABASE_URL=keys.url,
        ECG_KEYS_CACHE_S="1",
        ECG_OIDC_ISSUER=issuer.url,
        ECG_OIDC_AUDIENCE=AUDIENCE,
        ECG_OIDC_LEEWAY_S="0",
        ECG_FAILURES_PER_MINUTE="100000",
    ) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: running_service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def raw(service: running_service, method: str, target: str) -> tuple[int, bytes]:
    """The status and the whole answer to a request whose path nobody has tidied up."""
    with socket.create_connection(("127.0.0.1", service.port), 60) as asking:
        head = f"{method} {target} HTTP/1.1\r\nHost: ecg\r\nConnection: close\r\n\r\n"
        asking.sendall(head.encode("latin-1"))
        answer = b"".join(iter(lambda: asking.recv(2**16), b""))
    return int(answer.split()[1]), answer


def test_without_a_key_nothing_but_health_answers(
    service: running_service, routes: list[str]
) -> None:
    for path in [*routes, *FRAMEWORK]:
        for method in METHODS:
            status, answer = raw(service, method, path)
            if path in HEALTH and method in ("GET", "HEAD"):
                assert status == 200
                assert b"ECG" not in answer
                continue
            if method in ("GET", "HEAD") and (path == RATING[0] or path.startswith(RATING[1])):
                assert status == 200 and b"set-cookie" not in answer.lower()
                continue
            assert status == 401, (method, path)
            assert b"application/problem+json" in answer
            assert b"www-authenticate: Bearer" in answer


def test_every_answer_carries_the_headers(service: running_service, keys: Keys) -> None:
    key = keys.make()
    time.sleep(1.1)
    for path in ("/", "/docs", "/static/page.js", "/models", "/livez", "/metrics", "/nothing"):
        for headers in ({}, bearer(key), {"Accept": "text/html"}):
            answer = httpx.get(service.url + path, headers=headers, timeout=60)
            given = answer.headers
            assert given["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in given["content-security-policy"]
            assert "unsafe" not in given["content-security-policy"]
            assert "default-src 'none'" in given["content-security-policy"]
            assert given["referrer-policy"] in ("no-referrer", "same-origin")
            assert given["cross-origin-resource-policy"] == "same-origin"
            assert given["cross-origin-opener-policy"] == "same-origin"
            cache = "no-cache" if path.startswith("/static/") else "no-store"
            assert given["cache-control"] == cache
            assert "server" not in given
            assert "strict-transport-security" not in given, "there is no TLS here"
            assert all(len(given.get_list(name)) == 1 for name in given)


def test_a_websocket_is_refused(service: running_service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 60) as asking:
        asking.sendall(
            b"GET /classify HTTP/1.1\r\nHost: ecg\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert asking.recv(2**16).split()[1] == b"401"


@pytest.mark.parametrize("kind", BAD)
def test_bad_tokens_are_refused(client: httpx.Client, issuer: Issuer, kind: str) -> None:
    make, _ = BAD[kind]
    token = make(issuer)
    for path in ("/models", "/metrics"):
        answer = client.get(path, headers=bearer(token))
        assert answer.status_code == 401
        assert token not in answer.text


def test_keys_and_tokens_open_until_they_are_revoked(
    client: httpx.Client, keys: Keys, issuer: Issuer, record: Record
) -> None:
    key, short = keys.make({"classify"}), keys.make({"classify"}, lasts=timedelta(seconds=0))
    time.sleep(1.1)
    body = as_npz(record)
    for good in (key, issuer.token(scope="classify")):
        answer = client.post("/classify", content=body, headers=bearer(good))
        assert answer.status_code == 200
        assert client.get("/models", headers=bearer(good)).status_code == 403
    assert client.post("/classify", content=body, headers=bearer(short)).status_code == 401
    keys.revoke(key)
    time.sleep(2.5)  # every worker has asked again
    for _ in range(8):
        answer = httpx.post(
            client.base_url.join("/classify"), content=body, headers=bearer(key), timeout=60
        )
        assert answer.status_code == 401


def test_a_keys_limit_is_one_over_all_workers(service: running_service, keys: Keys) -> None:
    key = keys.make({"models"}, per_minute=60)
    time.sleep(1.1)
    began = time.monotonic()
    # a connection each, so that several workers are met
    answers = [
        httpx.get(f"{service.url}/models", headers=bearer(key), timeout=60) for _ in range(40)
    ]
    elapsed_s = time.monotonic() - began
    let_in = sum(a.status_code == 200 for a in answers)
    assert {a.status_code for a in answers} == {200, 429}
    assert 10 <= let_in <= 10 + elapsed_s + 1


def test_secrets_reach_neither_logs_nor_metrics_nor_answers(
    service: running_service, keys: Keys, issuer: Issuer, client: httpx.Client
) -> None:
    key, token = keys.make(), issuer.token(scope="classify models metrics page")
    forged = f"{key[:17]}{'forged' * 8}"[:60]
    time.sleep(1.1)
    secrets = [key[17:], token.split(".")[2], forged[17:]]
    told = []
    for text in (key, token, forged, token + "x"):
        for path in ("/models", "/classify", "/nothing", f"/{text}", f"/models?key={text}"):
            for method in ("GET", "POST"):
                answer = client.request(method, path, headers=bearer(text), content=text.encode())
                told.append(answer.text + str(answer.headers))
        for headers in ({"Cookie": f"ecg-session={text}"}, {"Authorization": text}):
            told.append(client.get("/", headers=headers).text)
        form = {"Sec-Fetch-Site": "same-origin"}
        answer = client.post("/session", data={"key": text}, headers=form)
        told.append(answer.text + str(answer.headers))
    client.cookies.clear()
    told.append(client.get("/metrics", headers=bearer(key)).text)
    assert "ecg_problems_total" in told[-1]
    log = service.log.read_text()
    assert '"status":401' in log
    for secret in secrets:
        assert secret not in log
        assert not any(secret in text for text in told)
    for path in service.log.parent.rglob("*"):
        assert not path.is_file() or not any(s.encode() in path.read_bytes() for s in secrets)


def test_on_this_machine_alone_no_key_is_asked_for(server_url: str) -> None:
    assert httpx.get(f"{server_url}/models").status_code == 200
    assert httpx.get(f"{server_url}/docs").status_code == 200
    answer = httpx.get(f"{server_url}/")
    assert 'id="sign-out" hidden' in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/schema.json", "/docs.json", "/session", "/sign-out"):
        assert httpx.get(server_url + path).status_code == 404
        assert httpx.post(server_url + path).status_code == 404


def test_access_can_be_asked_for_on_this_machine_too(tmp_path: Path, keys: Keys) -> None:
    more = {**without_generator(tmp_path), "ECG_WORKERS": "1", "ECG_DATABASE_URL": keys.url}
    key = keys.make()
    with running_service(tmp_path, ECG_ACCESS="on", **more) as service:
        assert httpx.get(f"{service.url}/models").status_code == 401
        answer = httpx.get(f"{service.url}/models", headers=bearer(key), timeout=60)
        assert answer.status_code == 200
