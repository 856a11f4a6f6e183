"""Bodies: whole from any chunks, in one buffer, and no more than is allowed."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator

import pytest
from starlette.requests import Request

from ecg.errors import EcgError
from ecg.formats import File
from service.problems import Problem
from service.wire.body import read_files

MIB = 2**20


def request(chunks: Iterator[bytes], **headers: str) -> Request:
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }

    async def receive() -> dict:
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request(scope, receive)


def read(chunks: list[bytes] | Iterator[bytes], limit: int = MIB, **headers: str) -> list[File]:
    return asyncio.run(read_files(request(iter(chunks), **headers), limit))


def cut_up(body: bytes, width: int) -> list[bytes]:
    return [body[i : i + width] for i in range(0, len(body), width)]


@pytest.mark.parametrize("width", [1, 7, 100, 1000])
def test_a_body_is_the_same_from_any_chunks(width: int) -> None:
    body = bytes(range(250)) * 4
    (file,) = read(cut_up(body, width), content_type="Text/CSV")
    assert (file.content, type(file.content), file.media_type) == (body, bytes, "text/csv")


def test_one_chunk_is_handed_on_itself() -> None:
    body = bytes(5000)
    (file,) = read([body])
    assert file.content is body


def test_no_chunk_is_an_empty_body() -> None:
    assert read([]) == [File(b"")]


@pytest.mark.parametrize("declared", [True, False])
def test_more_than_allowed_is_refused_before_it_is_all_there(declared: bool) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1000)

    headers = {"content_length": "9000"} if declared else {}
    with pytest.raises(Problem) as refusal:
        read(endless(), 5000, **headers)
    assert refusal.value.status == 413
    assert taken == (0 if declared else 6)


@pytest.mark.parametrize("multipart", [False, True])
def test_a_large_body_is_held_once(multipart: bool) -> None:
    n = 64

    def chunks() -> Iterator[bytes]:
        if multipart:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.npz"\r\n\r\n'
        for i in range(16 * n):
            yield bytes([i % 256]) * (MIB // 16)
        if multipart:
            yield b"\r\n--b--\r\n"

    headers = {"content_type": "multipart/form-data; boundary=b"} if multipart else {}

    async def measured() -> tuple[int, float, float]:
        tracemalloc.start()
        (file,) = await read_files(request(chunks(), **headers), 2 * n * MIB)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return len(file.content), now / MIB, peak / MIB

    size, now, peak = asyncio.run(measured())
    assert size == n * MIB
    assert now < n + 2, "nothing of it is left behind"
    assert peak < 1.2 * n, "but for the buffer's room to grow, which is not touched"


def form(*parts: tuple[str, bytes], boundary: bytes = b"b", end: bytes = b"--\r\n") -> bytes:
    out = b""
    for head, content in parts:
        out += b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return out + b"--" + boundary + end


@pytest.mark.parametrize("width", [1, 3, 17, 10_000])
def test_parts_are_the_same_from_any_chunks(width: int) -> None:
    tricky = b"\r\n--\r\n--c\r\n-\r\n--" + bytes(range(256)) + b"\r\n-"
    body = form(
        ('Content-Disposition: form-data; name="other"', b"not this"),
        (
            'Content-Disposition: form-data; name="file"; filename="C:\\\\x\\\\a.DAT"\r\n'
            "Content-Type: Application/X",
            tricky,
        ),
        ('content-disposition: form-data; name="file"', b"\xff\x00 no name"),
        ('Content-Disposition: form-data; name="file"; filename="empty"', b""),
    )
    files = read(cut_up(body, width), content_type="multipart/form-data; boundary=b")
    assert [(f.content, f.name, f.media_type) for f in files] == [
        (tricky, "a.DAT", "application/x"),
        (b"\xff\x00 no name", "", ""),
        (b"", "empty", ""),
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (form(("X: y", b"")), "multipart/form-data; boundary=b", "malformed"),
        (form(("X", b"")), "multipart/form-data; boundary=b", "malformed"),
        (form(end=b""), "multipart/form-data; boundary=b", "closing boundary"),
        (b"", "multipart/form-data; boundary=b", "closing boundary"),
        (b"--b--", "multipart/form-data", "no boundary"),
        (b"--b\r\n" + b"A: b\r\n" * 100, "multipart/form-data; boundary=b", "malformed"),
        (b"--" + b"b" * 3000, f"multipart/form-data; boundary={'b' * 3000}", "multipart"),
        (
            form(*[('Content-Disposition: form-data; name="file"', b"")] * 257),
            "multipart/form-data; boundary=b",
            "more than 256 parts",
        ),
        (
            form(('Content-Disposition: form-data; name="other"', b"x")),
            "multipart/form-data; boundary=b",
            "at least one part",
        ),
    ],
)
def test_a_broken_form_is_refused(body: bytes, content_type: str, says: str) -> None:
    with pytest.raises(EcgError, match=says):
        read(cut_up(body, 50), content_type=content_type)
