"""WFDB: a header and its signal files, read by PhysioNet's own library, without touching a disk.

The library opens paths, and knows cloud paths by their protocol; fsspec's `memory://` is added to
them, so that a record in memory is read like any other.
"""

from __future__ import annotations

import math
import posixpath
import uuid
from collections.abc import Iterable, Sequence

import fsspec
import numpy as np
import wfdb
from wfdb.io import _coreio

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.record import MILLIVOLTS, Meta, Record, make_record

if "memory://" not in _coreio.CLOUD_PROTOCOLS:
    _coreio.CLOUD_PROTOCOLS.append("memory://")

_BITS = {
    "8": 8,
    "16": 16,
    "24": 24,
    "32": 32,
    "61": 16,
    "80": 8,
    "160": 16,
    "212": 12,
    "310": 10.67,
    "311": 10.67,
}
_VOLTS = {"v": 1e3, "nv": 1e-6, **MILLIVOLTS}


def is_header(file: File) -> bool:
    """A text whose record line has a name and counts, or a file named .hea."""
    if file.name.endswith(".hea"):
        return True
    line = _lines(file)[:1]
    words = line[0].split() if line else []
    return len(words) >= 3 and words[1].isdigit() and words[2].split("/")[0].isdigit()


def signal_names(headers: Iterable[File]) -> set[str]:
    """The signal files that the headers speak of."""
    return {line.split()[0] for h in headers for line in _signal_lines(h) if line.split()}


def read(header: File, files: Sequence[File], hints: Hints) -> Record:
    """The record of `header`, its signal files taken from `files` by name."""
    by_name = {f.name: f for f in files}
    wanted = signal_names([header])
    for name in sorted(wanted):
        if name not in by_name:
            raise UnreadableError("the header names a signal file that was not sent with it")
    _check_sizes(header, by_name)
    folder = f"memory://{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe(f"{folder}/record.hea", header.content)
        for name in wanted:
            memory.pipe(posixpath.join(folder, posixpath.basename(name)), by_name[name].content)
        record = wfdb.rdrecord(f"{folder}/record")
        assert isinstance(record, wfdb.Record)
    except Exception:  # the library leaks many kinds; all mean that the bytes are not a record
        raise UnreadableError("a WFDB header that its signal files contradict") from None
    finally:
        memory.rm(folder, recursive=True)
    return _to_record(record, hints)


def _to_record(record: wfdb.Record, hints: Hints) -> Record:
    """The channels that are leads, in mV; others are named as ignored."""
    names, units, signals = record.sig_name or [], record.units or [], record.p_signal
    if signals is None or not names:
        raise UnreadableError("a WFDB record without signals")
    leads = [canonical(name or "") for name in names]
    if len(names) == 1 and hints.leads is not None:
        leads = [canonical(hints.leads[0])]
    elif len(names) == 1 and (names[0] or "").strip().upper() == "ECG":
        leads = ["I"]  # a hand-held recorder's only channel lies along lead I
    rows = [i for i, name in enumerate(leads) if name is not None]
    if not rows:
        raise UnservableError("none of the channels is one of the twelve leads", "leads")
    sig = np.empty((len(rows), len(signals)), dtype=np.float64)
    for row, i in enumerate(rows):
        factor = _VOLTS.get(units[i].lower())
        if factor is None:
            raise UnservableError("a lead is not in V, mV, uV or nV", f"units[{i}]")
        sig[row] = signals[:, i] * factor
    ignored = tuple(names[i] or f"channel {i}" for i in range(len(names)) if i not in rows)
    return make_record(sig, record.fs, [leads[i] for i in rows], "mV", Meta(None, ignored))


def _check_sizes(header: File, by_name: dict[str, File]) -> None:
    """Refuse a header that promises more samples than its files hold, before any is allocated."""
    lines = _lines(header)
    words = lines[0].split() if lines else []
    try:
        n_signals = int(words[1])
        n_samples = int(words[3]) if len(words) > 3 else 0
    except (IndexError, ValueError):
        raise UnreadableError("a WFDB header without a proper record line") from None
    signal_lines = _signal_lines(header)
    if "/" in words[0]:
        raise UnservableError("a multi-segment WFDB record; send each segment by itself")
    if n_signals != len(signal_lines) or n_signals == 0:
        raise UnreadableError(
            f"a WFDB header that announces {n_signals} signals and describes {len(signal_lines)}"
        )
    needed: dict[str, float] = {}
    for line in signal_lines:
        cells = line.split()
        code = cells[1].split("x")[0].split(":")[0].split("+")[0] if len(cells) > 1 else ""
        if code not in _BITS:
            raise UnservableError(f"a WFDB storage format that is not read: {', '.join(_BITS)} are")
        needed[cells[0]] = needed.get(cells[0], 0) + n_samples * _BITS[code] / 8
    for name, n_bytes in needed.items():
        if math.floor(n_bytes) > len(by_name[name].content):
            raise UnreadableError(
                f"the header promises {n_samples} samples; the signal file is too short for them"
            )


def _lines(header: File) -> list[str]:
    text = header.content[:65_536].decode("latin-1")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _signal_lines(header: File) -> list[str]:
    return _lines(header)[1:]
