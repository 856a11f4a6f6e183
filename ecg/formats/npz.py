"""NPZ, the fast path: `sig` with `fs`, `leads` and `units`; or `data` [n, time, lead].

Nothing is ever unpickled, and no array is allocated before its header was compared with the bytes
that are really there.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.source import (
    File,
    Hints,
    check_count,
    check_files,
    inflate,
    make_records,
    stacked,
)
from ecg.limits import Limits
from ecg.record import Record, make_record

WANTED = ("sig", "data", "fs", "leads", "units")
AT_ONCE = 256 * 1024  # bytes, unpacked
MAX_HEADER = 10_000  # NumPy's own limit
Content = bytes | memoryview
_VERSIONS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def matches(file: File) -> bool:
    """A zip whose members are arrays."""
    if not file.content.startswith(b"PK"):
        return False
    try:
        return any(name.endswith(".npy") for name in file.archive.namelist())
    except UnreadableError:
        return False


def claims(file: File) -> bool:
    return file.content.startswith(b"PK") and (
        file.name.lower().endswith(".npz") or "npz" in file.media_type
    )


def read(file: File, hints: Hints) -> list[Record]:
    arrays = _members(file, hints.limits)
    fs = _scalar(arrays, "fs", hints.fs)
    units = _scalar(arrays, "units", hints.units)
    leads = _names(arrays, hints.leads)
    if "sig" in arrays:
        sig = _array(arrays["sig"], "sig")
    elif "data" in arrays:
        data = _array(arrays["data"], "data")
        if data.ndim != 3:
            raise UnservableError(f"has {data.ndim} dimension(s), expected [n, time, lead]", "data")
        sig = data.transpose(0, 2, 1)
    else:
        raise UnservableError("holds neither sig [lead, time] nor data [n, time, lead]")
    if sig.dtype.kind not in "fiu":
        raise UnservableError(f"has type {sig.dtype}, expected float32 or int16", "sig")
    if sig.ndim == 2:
        return [make_record(sig, fs, leads, units, limits=hints.limits)]
    if sig.ndim != 3 or len(sig) == 0:
        raise UnservableError("must be [lead, time] or [n, lead, time], n at least 1", "sig")
    check_count(len(sig), hints.limits)
    return make_records(sig, fs, leads, units, hints.limits)


def write(records: Sequence[Record]) -> bytes:
    """`sig` float32 mV [lead, time], or [n, lead, time] of several, with fs, leads and units.

    Stored, not packed, which is the fastest to read. Errors: UnservableError where the records
    differ in shape, fs or leads.
    """
    sig, fs, leads = stacked(records)
    out = io.BytesIO()
    arrays: dict[str, Any] = {"sig": sig, "fs": fs, "leads": np.array(leads), "units": "mV"}
    if any(record.meta.synthetic for record in records):
        arrays["synthetic"] = True
    np.savez(out, **arrays)
    return out.getvalue()


def read_at_once(file: File) -> bool:
    """Whether reading takes no longer than a thread would take to come to it."""
    return matches(file) and sum(i.file_size for i in file.archive.infolist()) <= AT_ONCE


def _members(file: File, limits: Limits) -> dict[str, Content]:
    """The wanted arrays' bytes by name; views where they are not packed, so that the samples of a
    long record are not copied."""
    found: dict[str, Content] = {}
    taken = 0
    check_files(len(file.archive.infolist()), limits)
    for info in file.archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in WANTED and info.filename != name:
            found[name] = inflate(file, info, limits, taken)
            taken += len(found[name])
    return found


def _array(content: Content, name: str) -> np.ndarray:
    """One .npy, its header checked against its bytes."""
    try:
        shape, fortran, dtype, start = _header(_header_bytes(content))
    except Exception:  # the library leaks many kinds
        raise UnreadableError("is not a NumPy array of format 1.0 or 2.0", name) from None
    if dtype.hasobject:
        raise UnreadableError("is a pickled object array; pickles are never read", name)
    if dtype.kind not in "fiuU":
        raise UnservableError("holds neither real numbers nor unicode strings", name)
    if dtype.itemsize == 0 or any(n < 0 for n in shape):
        raise UnreadableError("is not a NumPy array of format 1.0 or 2.0", name)
    n_bytes = math.prod(shape) * dtype.itemsize
    held = len(content) - start
    if n_bytes != held:
        raise UnreadableError(f"claims {n_bytes} bytes of samples, but holds {held}", name)
    flat = np.frombuffer(content, dtype=dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header_bytes(content: Content) -> bytes:
    """Magic, version, length (of 2 bytes in version 1.0, of 4 in 2.0) and header."""
    wide = 2 if content[6:7] == b"\x01" else 4
    n = int.from_bytes(content[8 : 8 + wide], "little")
    return bytes(content[: 8 + wide + min(n, MAX_HEADER)])


@lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, type, and where the samples begin. One client's headers
    are all alike, and take longer to parse than their arrays."""
    stream = io.BytesIO(head)
    shape, fortran, dtype = _VERSIONS[np.lib.format.read_magic(stream)](stream)
    return shape, fortran, dtype, stream.tell()


def _scalar(arrays: dict[str, Content], name: str, hint: str | None) -> object:
    if name not in arrays:
        return hint
    value = _array(arrays[name], name)
    if value.size != 1:
        raise UnservableError("must be a single value", name)
    return _listed(value.ravel(), name)[0]


def _names(arrays: dict[str, Content], hint: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if "leads" not in arrays:
        return hint
    value = _array(arrays["leads"], "leads")
    if value.ndim != 1 or value.dtype.kind != "U":
        raise UnservableError("must be a 1-d array of unicode strings", "leads")
    return tuple(_listed(value, "leads"))


def _listed(value: np.ndarray, name: str) -> list:
    """Errors: UnreadableError for text that is not unicode, of which NumPy makes strings that only
    fail when they are used."""
    if value.dtype.kind == "U" and value.size:
        points = value.view(np.dtype(np.uint32).newbyteorder(value.dtype.byteorder))
        if points.max() > sys.maxunicode:
            raise UnreadableError("holds text that is not unicode", name)
    return value.tolist()
