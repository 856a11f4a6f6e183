"""A request's body as files in memory: bounded while it is read, and never on a disk."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import File
from service import problems

MAX_PARTS = 256


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, kept from moving large uploads to a temporary file."""

    spool_max_size = sys.maxsize


async def read_files(request: Request, max_body: int) -> list[File]:
    """The files in the request. Errors: Problem 413, EcgError."""
    body = await _read(request, max_body)
    media_type = request.headers.get("content-type", "").lower()
    if media_type.startswith("multipart/form-data"):
        return await _parts(request.headers, body)
    return [File(body, media_type=media_type)]


async def _read(request: Request, max_body: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_body:
        raise problems.too_large(max_body)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_body:
            raise problems.too_large(max_body)
        if chunk:
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _parts(headers: Headers, body: bytes) -> list[File]:
    _, options = parse_options_header(headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not body.rstrip(b"\r\n").endswith(b"--" + boundary + b"--"):
        raise UnreadableError("a multipart body that lacks its closing boundary: is it whole?")

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemoryParser(
        headers, whole(), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=len(body) + 1
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        raise UnreadableError("a multipart body that is truncated or malformed") from None
    files = []
    for part in form.getlist("file"):
        if isinstance(part, UploadFile):
            name = (part.filename or "").replace("\\", "/").split("/")[-1]
            files.append(File(await part.read(), name, (part.content_type or "").lower()))
        else:
            files.append(File(part.encode()))
    await form.close()
    if not files:
        raise UnservableError("a multipart body needs at least one part in the field `file`")
    return files
