"""What a reader gets: bytes with a name, hints from outside, and a bound on unpacking; and several
records as one array, for the writers that hold several."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.limits import LIMITS, Limits
from ecg.record import Record, make_record

MOST_FILES = 16_384  # whatever the limits say
ENTRY_BYTES = 46  # of a zip's table, at least
LOCAL_HEADER_BYTES = 30  # before a member, without its name
CHUNK = 1024 * 1024
_DAMAGED = "a zip that is truncated, damaged or encrypted"


@dataclass(frozen=True)
class File:
    """A file in memory. `name` and `media_type` are what the sender claims, perhaps empty."""

    content: bytes
    name: str = ""
    media_type: str = ""

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The content as a zip, its table read; an entry of it takes far more memory than its
        bytes. Errors: TooLargeError, UnreadableError."""
        room = len(self.content) // ENTRY_BYTES
        if room > MOST_FILES and self.content.count(b"PK\x01\x02") > MOST_FILES:
            raise TooLargeError(f"a zip of too many files; at most {MOST_FILES} are read")
        try:
            return zipfile.ZipFile(io.BytesIO(self.content))
        except Exception:  # the library leaks many kinds; all mean that the bytes are not a zip
            raise UnreadableError(_DAMAGED) from None


@dataclass(frozen=True)
class Hints:
    """What the sender says beside the file, for formats that do not carry it themselves."""

    fs: str | None = None
    leads: tuple[str, ...] | None = None
    units: str | None = None
    limits: Limits = LIMITS


def check_files(n: int, limits: Limits) -> None:
    """Errors: TooLargeError where a zip holds more files than are read."""
    if n > limits.max_files:
        raise TooLargeError(f"a zip of too many files; at most {limits.max_files} are read")


def check_count(n: int, limits: Limits) -> None:
    """Errors: UnservableError where there are more records than a request may hold."""
    if n > limits.max_records:
        raise UnservableError(
            f"holds {n} records; at most {limits.max_records} are answered at once", "records"
        )


def make_records(
    sigs: Sequence[np.ndarray] | np.ndarray,
    fs: object,
    leads: Sequence[object] | None,
    units: object,
    limits: Limits,
) -> list[Record]:
    """A record of each [lead, time]; together they keep to the limits. Errors as in `make_record`,
    with the record's place where there are several."""
    records: list[Record] = []
    for i, sig in enumerate(sigs):
        try:
            records.append(make_record(sig, fs, leads, units, limits=limits))
        except EcgError as error:
            raise (error.within(f"records[{i}]") if len(sigs) > 1 else error) from None
        limits = limits.less(records[-1].n_bytes)
    return records


def stacked(records: Sequence[Record]) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """mV [lead, time] of one record, [n, lead, time] of several; their fs and leads. Errors:
    UnservableError where there is none, or where they differ in shape, fs or leads."""
    if not records:
        raise UnservableError("holds no record", "records")
    first = records[0]
    for i, record in enumerate(records):
        if (record.n_samples, record.fs, record.leads) != (first.n_samples, first.fs, first.leads):
            raise UnservableError(
                "differs from the first in length, fs or leads; write each to a file of its own",
                f"records[{i}]",
            )
    sig = first.sig if len(records) == 1 else np.stack([record.sig for record in records])
    return sig, first.fs, first.leads


def unpack(file: File, limits: Limits) -> list[File]:
    """The members of a zip. Errors: TooLargeError before more is unpacked than may be."""
    members, taken = [], 0
    check_files(len(file.archive.infolist()), limits)
    for info in file.archive.infolist():
        name = info.filename  # may be empty, on which `is_dir` raises
        if name.endswith("/") or name.startswith("__MACOSX/"):  # macOS puts its own files in
            continue
        content = inflate(file, info, limits, taken)
        taken += len(content)
        members.append(File(bytes(content), name.replace("\\", "/")))
    return members


def inflate(file: File, info: zipfile.ZipInfo, limits: Limits, taken: int) -> bytes | memoryview:
    """One member of a zip of which `taken` bytes were unpacked before; a view of it where it is not
    packed. No more than its declared size is ever inflated, so that is what is checked. Errors:
    TooLargeError, UnreadableError."""
    limits.check_unpacked(taken + info.file_size)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableError("a zip packed otherwise than by deflate, which alone is read")
    if (stored := _stored(file.content, info)) is not None:
        return stored
    content = io.BytesIO()
    try:
        with file.archive.open(info) as member:
            while chunk := member.read(CHUNK):
                content.write(chunk)
    except Exception:  # as above
        raise UnreadableError(_DAMAGED) from None
    return content.getvalue()


def _stored(body: bytes, info: zipfile.ZipInfo) -> memoryview | None:
    """A member that lies in the zip as it is, as NumPy writes arrays: seen where it lies, which
    costs a quarter of what `ZipFile.open` does, and no memory. None where anything about it is
    unusual or wrong."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:  # encrypted
        return None
    at = info.header_offset
    if at < 0 or body[at : at + 4] != b"PK\x03\x04" or len(body) < at + LOCAL_HEADER_BYTES:
        return None
    start = at + LOCAL_HEADER_BYTES + sum(struct.unpack_from("<HH", body, at + 26))
    content = memoryview(body)[start : start + info.file_size]
    whole = len(content) == info.file_size == info.compress_size
    return content if whole and zlib.crc32(content) == info.CRC else None
