"""A request's body as files in memory: bounded while it is read, and never on a disk.

What comes is gathered in one growing buffer a file, which is handed on without a copy: CPython's
`BytesIO.getvalue` gives its buffer away, and a large one grows by moving pages, not bytes. So a
body takes its size in memory, as it comes in and afterwards. (A buffer as large as the request says
it will be would be filled with zeros first: a request that only says so would then cost as much as
one that sends it.)
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from ecg.errors import TooLargeError, UnreadableError, UnservableError
from ecg.formats import File
from service import problems

MAX_PARTS = 256  # by default
FIELD = b"file"
_MALFORMED = "a multipart body that is truncated or malformed"
Received = Callable[[int], None]
Seen = Callable[[bytes], object]


async def read_files(
    request: Request,
    max_body: int,
    max_parts: int = MAX_PARTS,
    received: Received = lambda n: None,
    seen: Seen | None = None,
) -> list[File]:
    """The files in the request; `received` is told the size of each chunk after the first, and
    `seen` is given each chunk as it came. Errors: Problem 413, EcgError."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_body:
        raise problems.too_large(max_body)
    chunks = _bounded(request, max_body, received, seen)
    content_type = request.headers.get("content-type", "")
    media_type = content_type.lower()
    if media_type.startswith("multipart/form-data"):
        return await _parts(content_type, chunks, max_parts)
    return [File(await _whole(chunks), media_type=media_type)]


async def _bounded(
    request: Request, max_body: int, received: Received, seen: Seen | None
) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        if seen:
            seen(chunk)
        if size:
            received(len(chunk))
        size += len(chunk)
        if size > max_body:
            raise problems.too_large(max_body)
        if chunk:
            yield chunk


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    first, buffer = b"", None
    async for chunk in chunks:
        if buffer is not None:
            buffer.write(chunk)
        elif first:
            buffer = io.BytesIO()
            buffer.write(first)
            buffer.write(chunk)
        else:
            first = chunk  # mostly the only one
    return first if buffer is None else buffer.getvalue()


async def _parts(content_type: str, chunks: AsyncIterator[bytes], max_parts: int) -> list[File]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise UnreadableError("a multipart body whose Content-Type names no boundary")
    parts = _Parts(boundary, max_parts)
    async for chunk in chunks:
        parts.take(chunk)
    if not parts.closed:
        raise UnreadableError("a multipart body that lacks its closing boundary: is it whole?")
    if not parts.files:
        raise UnservableError("a multipart body needs at least one part in the field `file`")
    return parts.files


class _Parts:
    """The parts of a multipart body in the field `file`, each gathered as it comes."""

    def __init__(self, boundary: bytes, max_parts: int) -> None:
        self.max_parts = max_parts
        self.files: list[File] = []
        self.closed = False
        self._n = 0
        self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._buffer: io.BytesIO | None = None  # None: of another field
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end,
                    "on_end": self._close,
                },
            )
        except (FormParserError, ValueError):
            raise UnreadableError(_MALFORMED) from None

    def take(self, chunk: bytes) -> None:
        """Errors: UnreadableError."""
        try:
            self._parser.write(chunk)
        except (FormParserError, ValueError):
            raise UnreadableError(_MALFORMED) from None

    def _begin(self) -> None:
        self._n += 1
        if self._n > self.max_parts:
            raise TooLargeError(f"a multipart body of more than {self.max_parts} parts")
        self._headers = {}

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise UnreadableError(_MALFORMED)
        self._name = options.get(b"filename", b"").decode("utf-8", "replace")
        self._buffer = io.BytesIO() if options[b"name"] == FIELD else None

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._buffer is not None:
            self._buffer.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._buffer is not None:
            name = self._name.replace("\\", "/").split("/")[-1]
            media_type = self._headers.get(b"content-type", b"").decode("latin-1").lower()
            self.files.append(File(self._buffer.getvalue(), name, media_type))
            self._buffer = None

    def _close(self) -> None:
        self.closed = True
