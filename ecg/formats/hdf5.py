"""HDF5: `sig` with `fs`, `leads` and `units`, as NPZ; or the layouts that datasets come in.

CODE's `tracings` [n, time, lead]; `ecg`, `data` or `signal`, [lead, time] or [time, lead], one or n
of them. What the file does not say, the sender must. It is opened by `hdf5_apart.py`, in a process
of its own: the library is C code that damaged files can crash.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg.errors import TooLargeError, UnreadableError, UnservableError
from ecg.formats.source import File, Hints, check_count, make_records, stacked
from ecg.leads import LEADS
from ecg.record import Record

SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCKS = (0, 512, 1024, 2048)  # where HDF5 may begin, behind what another program put there
PROGRAM = Path(__file__).with_name("hdf5_apart.py")
WALL_S = 60.0  # it has limits of its own, of CPU time; this is for a machine that stands still
MAX_HEAD = 256 * 1024
_KINDS = {"unreadable": UnreadableError, "unservable": UnservableError, "too large": TooLargeError}
_DAMAGED = "an HDF5 file that is damaged, or takes more memory or time than its size allows"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")


def matches(file: File) -> bool:
    return any(file.content.startswith(SIGNATURE, at) for at in USER_BLOCKS)


def claims(file: File) -> bool:
    return file.name.lower().endswith((".h5", ".hdf5")) or "hdf5" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    if not matches(file):
        raise UnreadableError("does not begin as an HDF5 file")
    head, samples = _apart(file.content, hints.limits.max_unpacked)
    fs = _needed("fs", head["fs"], hints.fs, "500")
    units = _needed("units", head["units"], hints.units, "mV")
    leads = _needed("leads", head["leads"], hints.leads, ",".join(LEADS[:3]) + ",…")
    leads = [leads] if isinstance(leads, str) else leads
    sigs = _by_record(head["name"], samples, len(leads) if isinstance(leads, Sequence) else 0)
    check_count(len(sigs), hints.limits)
    return make_records(sigs, fs, leads, units, hints.limits)


def write(records: Sequence[Record]) -> bytes:
    """`sig` float32 mV [lead, time], or [n, lead, time] of several, with fs, leads and units.

    Errors: UnservableError where the records differ in shape, fs or leads.
    """
    import h5py  # only here: a service, which never writes HDF5, has no use for it

    sig, fs, leads = stacked(records)
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("sig", data=sig, compression="gzip", shuffle=True)
        file["fs"], file["leads"], file["units"] = fs, np.array(leads, dtype="S"), np.bytes_("mV")
        if any(record.meta.synthetic for record in records):
            file["synthetic"] = True
    return out.getvalue()


def _needed(name: str, said: Any, hint: Any, example: str) -> Any:
    """What the file says, or else the sender. Errors: UnservableError."""
    value = hint if said is None else said
    if value is None:
        how = f"send ?{name}={example} (to ecg.convert: --{name} {example})"
        raise UnservableError(f"is not in the file: {how}", name)
    return value[0] if name != "leads" and isinstance(value, list) and len(value) == 1 else value


def _by_record(name: str, samples: np.ndarray, n_leads: int) -> list[np.ndarray]:
    """Each record's samples as [lead, time]."""
    if samples.ndim == 1:
        samples = samples[None]
    if samples.ndim not in (2, 3):
        raise UnservableError(
            f"has {samples.ndim} dimensions, expected those of lead and time, and perhaps n", name
        )
    by_time = samples.shape[-1] == n_leads and samples.shape[-2] != n_leads
    if name == "tracings" or (name != "sig" and by_time):
        samples = samples.swapaxes(-1, -2)
    sigs = list(samples) if samples.ndim == 3 else [samples]
    return [_unpadded(sig) for sig in sigs] if name == "tracings" else sigs


def _unpadded(sig: np.ndarray) -> np.ndarray:
    """Without the zeros at both ends by which CODE brings its records to one length."""
    (there,) = np.nonzero(sig.any(axis=0))
    return sig[:, there[0] : there[-1] + 1] if len(there) else sig


def _apart(content: bytes, max_unpacked: int) -> tuple[dict[str, Any], np.ndarray]:
    """What the file says, and its one array, read by another process. Errors: EcgError."""
    process = subprocess.Popen(  # nosec B603  # ourselves; the file comes through a pipe
        [sys.executable, "-P", str(PROGRAM), str(max_unpacked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HDF5_PLUGIN_PRELOAD": "::",  # no filters from elsewhere
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    assert process.stdin and isinstance(process.stdout, io.BufferedReader)
    late = threading.Timer(WALL_S, process.kill)
    late.start()
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as sent:
            sent.write(content)
        head = _checked(process.stdout.readline(MAX_HEAD), max_unpacked)
        dtype = np.dtype(head["dtype"])
        samples = bytearray(math.prod(head["shape"]) * dtype.itemsize)
        if process.stdout.readinto(samples) != len(samples):
            raise UnreadableError(_DAMAGED)
        return head, np.frombuffer(samples, dtype).reshape(head["shape"])
    finally:
        late.cancel()
        process.kill()
        process.stdout.close()
        process.wait()


def _checked(line: bytes, max_unpacked: int) -> dict[str, Any]:
    """The other process's first line, which may have gone wrong in any way. Errors: EcgError."""
    try:
        head = json.loads(line)
        if refusal := head.get("refusal"):
            kind, problem, where = refusal
            raise _KINDS[kind](problem, where)
        shape, dtype = head["shape"], np.dtype(head["dtype"])
        if dtype.kind not in "fiu" or not 0 <= math.prod(shape) * dtype.itemsize <= max_unpacked:
            raise UnreadableError(_DAMAGED)
    except (ValueError, KeyError, TypeError, AttributeError):  # it crashed, or was stopped
        raise UnreadableError(_DAMAGED) from None
    return head
