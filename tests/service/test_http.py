"""What two servers could understand in two ways, what is far too large or slow, and paths that try
to be others: on the wire, byte by byte."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from service import examples
from tests.conftest import running_service

BODY = json.dumps(examples.RECORD).encode()
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HIDDEN = b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n"  # of which no answer may be seen
HEAD_S = 1.5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[running_service]:
    folder = tmp_path_factory.mktemp("http")
    settings = {"ECG_TIMEOUT_HEAD_S": str(HEAD_S), "ECG_MAX_HEAD_KIB": "32", "ECG_WORKERS": "1"}
    with running_service(folder, **settings) as service:
        yield service


def post(*fields: bytes, body: bytes = BODY, target: bytes = b"/classify") -> bytes:
    head = b"".join(field + b"\r\n" for field in (b"Host: x", *fields))
    return b"POST " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + body


def get(target: bytes, *fields: bytes) -> bytes:
    head = b"".join(field + b"\r\n" for field in (b"Host: x", *fields))
    return b"GET " + target + b" HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n"


def answers(service: running_service, sent: bytes, until: int = 1) -> tuple[list[int], bytes]:
    """The statuses that come until the connection is closed, or `until` of them are whole."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as s:
        s.sendall(sent)
        got = b""
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:  # of what it did not want to read
                piece = b""
            got += piece
            statuses = [int(n) for n in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]
            if not piece or (len(statuses) >= until and _whole(got)):
                return statuses, got


def _whole(got: bytes) -> bool:
    head, _, body = got.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.I)
    return length is not None and len(body) >= int(length[1])


AMBIGUOUS = {
    "a length and chunks": post(LENGTH, b"Transfer-Encoding: chunked", body=CHUNKED),
    "chunks and a length": post(
        b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN
    ),
    "chunks, spelled oddly, and a length": post(
        b"Transfer-Encoding:\x0bchunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN
    ),
    "two lengths": post(LENGTH, b"Content-Length: 5", body=BODY + HIDDEN),
    "the same length twice": post(LENGTH, LENGTH),
    "a list of lengths": post(LENGTH + b", %d" % len(BODY)),
    "a length with a sign": post(b"Content-Length: +5"),
    "a negative length": post(b"Content-Length: -1"),
    "a length in hex": post(b"Content-Length: 0x5"),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999"),
    "a space before the colon": post(LENGTH.replace(b":", b" :")),
    "chunked is not the last coding": post(b"Transfer-Encoding: chunked, identity", body=CHUNKED),
    "another coding before chunked": post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=CHUNKED),
    "identity": post(b"Transfer-Encoding: identity"),
    "two codings in two fields": post(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKED
    ),
    "chunks in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=CHUNKED).replace(
        b"HTTP/1.1", b"HTTP/1.0", 1
    ),
    "a chunk of a size beyond 64 bits": post(
        b"Transfer-Encoding: chunked", body=b"ffffffffffffffffff\r\n" + BODY
    ),
    "a chunk with a size in other hex": post(
        b"Transfer-Encoding: chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n"
    ),
    "chunks ended by bare line feeds": post(
        b"Transfer-Encoding: chunked", body=CHUNKED.replace(b"\r\n", b"\n")
    ),
    "a folded field": post(b"X: a\r\n b", LENGTH),
    "bare line feeds": get(b"/livez").replace(b"\r\n", b"\n"),
    "bare carriage returns": get(b"/livez").replace(b"\r\n", b"\r"),
    "a NUL in a field": get(b"/livez", b"X: a\0b"),
    "no Host": get(b"/livez").replace(b"Host: x\r\n", b""),
    "two Hosts": get(b"/livez", b"Host: y"),
    "no HTTP at all": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(40),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is none": b"BREW /classify HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_is_ambiguous_is_refused_once_and_the_connection_closed(
    service: running_service, kind: str
) -> None:
    statuses, got = answers(service, AMBIGUOUS[kind], until=99)
    assert statuses == [400]
    head, _, body = got.partition(b"\r\n\r\n")
    assert (
        b"content-type: application/problem+json" in head and b"connection: close" in head.lower()
    )
    problem = json.loads(body)
    assert problem["type"] == "/problems/malformed" and problem["status"] == 400


def test_what_is_unusual_and_clear_is_answered(service: running_service) -> None:
    for sent in (
        post(LENGTH),
        post(b"Transfer-Encoding: Chunked", body=CHUNKED),
        post(b"Transfer-Encoding: chunked", body=CHUNKED[:-2] + b"X: y\r\n\r\n"),
        post(b"Transfer-Encoding: chunked", body=CHUNKED.replace(b"\r\n", b";a=b\r\n", 1)),
        post(LENGTH, b"X-Request-ID: mine"),
        post(LENGTH, target=b"http://elsewhere.example/classify"),
    ):
        statuses, got = answers(service, sent)
        assert statuses == [200] and b'"results"' in got and b"mine" not in got
    assert answers(service, b"GET /livez HTTP/1.0\r\n\r\n")[0] == [200]
    expected = answers(service, post(LENGTH, b"Expect: 100-continue"), until=2)[0]
    assert expected == [100, 200]


def test_requests_in_one_go_are_answered_in_order(service: running_service) -> None:
    statuses, got = answers(service, post(LENGTH) + post(LENGTH, body=BODY[::-1]) + HIDDEN, 3)
    assert statuses == [200, 415, 200]
    assert got.index(b'"results"') < got.index(b"unknown-format") < got.index(b'"models"')


def test_an_upgrade_is_not_offered(service: running_service) -> None:
    """Of these the second is a request like any other."""
    fields = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    asked = b"GET /classify HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(fields) + b"\r\n\r\n"
    assert answers(service, asked)[0] == [405]
    h2c = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert answers(service, h2c)[0] == [200]


@pytest.mark.parametrize(
    "sent",
    [
        get(b"/livez", b"X: " + b"a" * 40_000),
        get(b"/livez", *(b"X%d: a" % i for i in range(5_000))),
        get(b"/" + b"a" * 40_000),
        get(b"/livez?" + b"a" * 40_000),
        get(b"/livez", b"X: " + b"a" * 8_000_000),
        b"\r\n" * 40_000,
    ],
    ids=["a field", "many fields", "a path", "a query", "megabytes", "nothing but line ends"],
)
def test_a_head_of_any_size_is_refused(service: running_service, sent: bytes) -> None:
    """As soon as it is too large, not when it is complete."""
    try:
        statuses, got = answers(service, sent)
    except (ConnectionResetError, BrokenPipeError):  # while it was being sent
        return
    assert statuses in ([431], []) and (not statuses or b"32 KiB" in got)


def test_a_head_below_the_limit_is_read(service: running_service) -> None:
    assert answers(service, get(b"/livez", b"X: " + b"a" * 30_000))[0] == [200]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(b"", []), (b"GET /livez HTTP/1.1\r\nHost:", [408]), (b"GET", [408])],
    ids=["nothing", "half a head", "a word"],
)
def test_a_head_that_does_not_come_is_not_waited_for(
    service: running_service, sent: bytes, expected: list[int]
) -> None:
    begun = time.monotonic()
    assert answers(service, sent, until=99)[0] == expected
    assert time.monotonic() - begun >= HEAD_S * 0.9


def test_a_head_that_trickles_in_is_not_waited_for_either(service: running_service) -> None:
    """Neither the first of a connection nor one that follows an answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as s:
        s.sendall(HIDDEN)
        got = s.recv(65536)
        while not _whole(got):
            got += s.recv(65536)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100):
                s.sendall(b"G")
                time.sleep(0.2)


def test_a_body_that_goes_on_after_its_answer_is_not_read_for_ever(
    service: running_service,
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as s:
        s.sendall(post(b"Content-Length: %d" % 2**62, body=b""))
        got = s.recv(65536)
        assert b" 413 " in got
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100):
                s.sendall(b"more")
                time.sleep(0.2)


ELSEWHERE = (
    *(b"//classify", b"/classify/", b"/./classify", b"/x/../classify", b"/CLASSIFY"),
    *(b"/classify%2f", b"/classify%00", b"/classify;x", b"/%2e%2e/", b"/..%5c", b"/%ff", b"*"),
    *(b"/static/../edge.py", b"/static/%2e%2e/edge.py", b"/static/..%2fedge.py"),
    *(b"/static/%252e%252e/edge.py", b"/static//etc/passwd", b"/static/..\\edge.py"),
    *(b"/static", b"/static/", b"/static/vendor", b"/static/__init__.py%00.css", b"/metrics/"),
    *(b"/livez/x", b"/schema.json", b"/docs.json", b"/livez%0d%0aX:%20y", b"/livez%20"),
)


@pytest.mark.parametrize("target", ELSEWHERE, ids=lambda target: target.decode())
def test_a_path_is_itself_or_nothing(service: running_service, target: bytes) -> None:
    for sent in (get(target), post(LENGTH, b"Connection: close", target=target)):
        statuses, got = answers(service, sent)
        assert statuses == [404]
        assert b"application/problem+json" in got and b"import" not in got


def test_an_escaped_letter_is_that_letter(service: running_service) -> None:
    """RFC 3986 has both as one path: a proxy that tells them apart must not let one through."""
    assert answers(service, post(LENGTH, target=b"/%63lassify"))[0] == [200]


def test_the_host_is_not_believed(service: running_service) -> None:
    headers = {"Host": "elsewhere.example", "X-Forwarded-Host": "elsewhere.example"}
    for path in ("/", "/docs", "/openapi.json", "/nothing", "/static"):
        answer = httpx.get(f"{service.url}{path}", headers=headers)
        assert "elsewhere" not in answer.text + str(answer.headers)


def test_what_was_refused_left_nothing_behind(service: running_service) -> None:
    """The last test here: the same process has answered all the others."""
    assert len(service.worker_pids()) == 1
    answer = httpx.post(f"{service.url}/classify", content=BODY)
    assert answer.status_code == 200
    log = service.log.read_text()
    assert "Traceback" not in log and '"event":"failure"' not in log
