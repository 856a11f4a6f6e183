"""What a reader gets: bytes with a name, hints from outside, and a bound on unpacking."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

from ecg.errors import TooLargeError, UnreadableError

MAX_MEMBERS = 4096


@dataclass(frozen=True)
class File:
    """A file in memory. `name` and `media_type` are what the sender claims, perhaps empty."""

    content: bytes
    name: str = ""
    media_type: str = ""


@dataclass(frozen=True)
class Hints:
    """What the sender says beside the file, for formats that do not carry it themselves."""

    fs: str | None = None
    leads: tuple[str, ...] | None = None
    units: str | None = None
    max_unpacked: int = 512 * 1024 * 1024


def unpack(file: File, max_bytes: int, keep: set[str] | None = None) -> list[File]:
    """The members of a zip (of the names in `keep`, or all), or TooLargeError before more than
    `max_bytes` were unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            infos = [
                info
                for info in archive.infolist()
                if not info.is_dir() and (keep is None or info.filename in keep)
            ]
            if len(infos) > MAX_MEMBERS:
                raise TooLargeError(f"a zip of {len(infos)} files; at most {MAX_MEMBERS} are read")
            members = []
            for info in infos:
                members.append(
                    File(_inflate(archive, info, max_bytes), info.filename.split("/")[-1])
                )
                max_bytes -= len(members[-1].content)
            return members
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError):
        raise UnreadableError("a zip that is truncated, damaged or encrypted") from None


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> bytes:
    """One member. The declared size is checked first, the true one while inflating."""
    too_large = TooLargeError(
        "unpacks to more than this service accepts; send fewer or shorter records"
    )
    if info.file_size > max_bytes:
        raise too_large
    with archive.open(info) as member:
        content = member.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise too_large
    return content
