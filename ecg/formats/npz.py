"""NPZ, the fast path: `sig` with `fs`, `leads` and `units`; or `data` [n, time, lead].

Nothing is ever unpickled, and no array is allocated before its header was compared with the bytes
that are really there.
"""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats.source import File, Hints, unpack
from ecg.record import Record, make_record

WANTED = ("sig", "data", "fs", "leads", "units")
_VERSIONS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def matches(file: File) -> bool:
    """A zip whose members are arrays."""
    if not file.content.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return file.name.endswith(".npz") or "npz" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    arrays = {
        member.name.removesuffix(".npy"): member.content
        for member in unpack(file, hints.max_unpacked, keep={f"{name}.npy" for name in WANTED})
    }
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
        return [make_record(sig, fs, leads, units)]
    if sig.ndim != 3 or len(sig) == 0:
        raise UnservableError("must be [lead, time] or [n, lead, time], n at least 1", "sig")
    records = []
    for i, one in enumerate(sig):
        try:
            records.append(make_record(one, fs, leads, units))
        except EcgError as error:
            raise error.within(f"records[{i}]") from None
    return records


def _array(content: bytes, name: str) -> np.ndarray:
    """One .npy, its header checked against its bytes."""
    stream = io.BytesIO(content)
    try:
        read_header = _VERSIONS[np.lib.format.read_magic(stream)]
        shape, fortran, dtype = read_header(stream)
    except (KeyError, ValueError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError):
        raise UnreadableError("is not a NumPy array of format 1.0 or 2.0", name) from None
    if dtype.hasobject:
        raise UnreadableError("is a pickled object array; pickles are never read", name)
    n_bytes = math.prod(shape) * dtype.itemsize
    held = len(content) - stream.tell()
    if n_bytes != held:
        raise UnreadableError(f"claims {n_bytes} bytes of samples, but holds {held}", name)
    flat = np.frombuffer(content, dtype=dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _scalar(arrays: dict[str, bytes], name: str, hint: str | None) -> object:
    if name not in arrays:
        return hint
    value = _array(arrays[name], name)
    if value.size != 1 or value.dtype.kind not in "fiuU":
        raise UnservableError("must be a single value", name)
    return value.reshape(()).item()


def _names(arrays: dict[str, bytes], hint: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if "leads" not in arrays:
        return hint
    value = _array(arrays["leads"], "leads")
    if value.ndim != 1 or value.dtype.kind != "U":
        raise UnservableError("must be a 1-d array of unicode strings", "leads")
    return tuple(str(name) for name in value)
