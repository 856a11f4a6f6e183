"""Some of the damaged requests of which `python -m tests.service.fuzz` makes 100,000."""

from __future__ import annotations

import asyncio
import collections

import pytest

from tests.service import fuzz
from tests.service.fuzz import Case


def test_cases_are_the_same_again_and_of_every_kind() -> None:
    cases = [fuzz.case_of(1, number) for number in range(200)]
    assert (
        cases
        == [fuzz.case_of(1, number) for number in range(200)]
        != [fuzz.case_of(2, number) for number in range(200)]
    )
    assert {case.kind for case in cases} == set(fuzz.KINDS)


@pytest.mark.parametrize(
    ("got", "complete", "wrong"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True, ""),
        (b"", False, ""),
        (b"", True, "does not answer"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", True, "answers 500"),
        (
            b"HTTP/1.1 503 Busy\r\ncontent-type: application/problem+json\r\n"
            b"content-length: 27\r\n\r\n" + b'{"type":"/problems/hurried"}'[:27],
            True,
            "",
        ),
        (
            b"HTTP/1.1 400 No\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n",
            True,
            "no problem document",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nTraceback",
            True,
            "traceback",
        ),
        (b"SSH-2.0", True, "not HTTP"),
    ],
)
def test_what_a_service_must_not_say_is_told(got: bytes, complete: bool, wrong: str) -> None:
    _, found = fuzz.judge(got, Case("x", (b"",), complete))
    assert (wrong in found) and bool(found) == bool(wrong)


def test_a_service_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent() -> tuple[str, str]:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await fuzz.send(port, Case("x", (b"GET / HTTP/1.1\r\n\r\n",), complete=True))

    monkeypatch.setattr(fuzz, "HANGS_S", 0.5)
    assert asyncio.run(silent()) == ("none", "hangs")


def go(url: str, seed: int, n: int) -> collections.Counter[str]:
    watch = fuzz.Watch(url)
    assert watch.pids
    counts, wrong = asyncio.run(fuzz.run(watch.port, seed, n))
    assert not wrong and not watch.wrong()
    assert sum(counts.values()) == n
    return counts


def test_damaged_requests_are_answered_and_the_service_lives(fake_generator_url: str) -> None:
    counts = go(fake_generator_url, seed=1, n=250)
    for status in ("200", "400", "422"):
        assert any(status in kind for kind in counts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_requests(server_url: str) -> None:
    go(server_url, seed=2, n=5000)
