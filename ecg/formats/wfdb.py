"""WFDB: a header and its signal files, read by PhysioNet's own library, without touching a disk.

The library opens paths, and knows cloud paths by their protocol; fsspec's `memory://` is added to
them, so that a record in memory is read like any other.
"""

from __future__ import annotations

import io
import math
import posixpath
import uuid
import zipfile
from collections.abc import Mapping, Sequence

import fsspec
import numpy as np
import wfdb
from wfdb.io import _coreio
from wfdb.io.header import rx_record, rx_signal

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import wfdb_stored
from ecg.formats.channels import ignored_names
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.limits import Limits
from ecg.record import (
    VOLTAGES,
    Meta,
    Record,
    check_channels,
    check_fs,
    check_not_too_long,
    make_record,
    make_stored_record,
)

if "memory://" not in _coreio.CLOUD_PROTOCOLS:
    _coreio.CLOUD_PROTOCOLS.append("memory://")

READ_BYTES = 8  # a sample in each of the library's two arrays
UNSAID_FS = 250.0  # header(5)
Ignored = tuple[str, ...]
NAME = "record"  # where nobody gave another
_BYTES = {  # a sample
    "8": 1,
    "16": 2,
    "24": 3,
    "32": 4,
    "61": 2,
    "80": 1,
    "160": 2,
    "212": 3 / 2,
    "310": 4 / 3,
    "311": 4 / 3,
}
MAX_GAIN = 10_000  # units a mV: 0.1 uV each
_LARGEST, _MISSING = 32_767, -32_768  # of format 16


def matches(file: File) -> bool:
    """A header: a text whose record line has a name and counts."""
    line = _lines(file)[:1]
    words = line[0].split() if line else []
    if len(words) < 3 or not words[1].isdigit():
        return False
    return words[2].split("/")[0].replace(".", "", 1).isdigit()


def claims(file: File) -> bool:
    return file.name.lower().endswith(".hea")


def signal_names(header: File) -> set[str]:
    """The signal files that the header speaks of, each beside it in its folder."""
    folder = posixpath.dirname(header.name)
    return {posixpath.join(folder, line.split()[0]) for line in _lines(header)[1:]}


def read(header: File, files: Sequence[File], hints: Hints) -> Record:
    """The record of `header`, its signal files taken from `files` by name."""
    contents: dict[str, bytes] = {}
    for name in sorted(signal_names(header)):
        sent = [f.content for f in files if f.name == name]
        if not sent:
            raise UnreadableError("the header names a signal file that was not sent with it")
        if len(sent) > 1:
            raise UnreadableError(
                "the header names a signal file of which several were sent; put each record into "
                "a zip or a folder of a zip of its own"
            )
        contents[posixpath.basename(name)] = sent[0]
    n_values = _check_sizes(header, contents, hints.limits)
    folder, name = f"memory://{uuid.uuid4().hex}", uuid.uuid4().hex
    memory = fsspec.filesystem("memory")
    try:
        # Only what was checked is read, and no comments, in which patients are described.
        memory.pipe(f"{folder}/{name}.hea", "\n".join(_lines(header)).encode())
        if wfdb_stored.may_stay(contents):
            head = wfdb.rdheader(f"{folder}/{name}")
            if isinstance(head, wfdb.Record) and wfdb_stored.can_stay(head):
                return _where_it_lies(head, contents, hints)
        hints.limits.check_unpacked(READ_BYTES * n_values)
        for signal_name, content in contents.items():
            memory.pipe(f"{folder}/{signal_name}", content)
        record = wfdb.rdrecord(f"{folder}/{name}")
        assert isinstance(record, wfdb.Record)
    except EcgError:
        raise
    except Exception:  # the library leaks many kinds; all mean that the bytes are not a record
        raise UnreadableError("a WFDB header that its signal files contradict") from None
    finally:
        memory.rm(folder, recursive=True)
    return _to_record(record, hints)


def write(record: Record) -> bytes:
    """A zip of a header and its signal file, in format 16."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in write_files(record, NAME).items():
            archive.writestr(name, content)
    return out.getvalue()


def write_files(
    record: Record, name: str, gain: float | None = None, comments: Sequence[str] = ()
) -> dict[str, bytes]:
    """File name -> content: header and signal file (WFDB's header(5) and signal(5), format 16).

    Args:
        name: of letters, digits, hyphens and underscores.
        gain: units a mV; by default each lead's own, the largest power of ten, up to MAX_GAIN, by
            which it fits. What does not fit a given one is cut off.
    """
    lines = [f"{name} {len(record.leads)} {record.fs:.12g} {record.n_samples}"]
    stored = np.empty((len(record.leads), record.n_samples), dtype="<i2")
    for i, (lead, out) in enumerate(zip(record.leads, stored, strict=True)):
        row = record.piece(0, record.n_samples, slice(i, i + 1))[0]
        by = gain or _gain(row)
        units = np.round(row.astype(np.float64) * by).clip(-_LARGEST, _LARGEST)
        out[:] = np.where(np.isnan(row), _MISSING, np.nan_to_num(units))
        checksum = int(out.sum(dtype=np.int64)) & 0xFFFF
        checksum = checksum - 0x10000 if checksum >= 0x8000 else checksum
        lines.append(f"{name}.dat 16 {by:g}(0)/mV 16 0 {out[0]} {checksum} 0 {lead}")
    lines += ["# synthetic"] * record.meta.synthetic + [f"# {comment}" for comment in comments]
    header = "\n".join(lines) + "\n"
    return {f"{name}.hea": header.encode(), f"{name}.dat": stored.T.tobytes()}


def _gain(row: np.ndarray) -> float:
    peak = float(np.max(np.abs(row), initial=0.0, where=~np.isnan(row)))
    fits = 10.0 ** math.floor(math.log10(_LARGEST / peak)) if peak > 0 else MAX_GAIN
    return min(fits, MAX_GAIN)


def _to_record(record: wfdb.Record, hints: Hints) -> Record:
    """The channels that are leads, in mV; others are named as ignored."""
    signals = record.p_signal
    if signals is None:
        raise UnreadableError("a WFDB record without signals")
    rows, leads, ignored = _chosen(record, hints)
    sig = np.empty((len(rows), len(signals)), dtype=np.float64)
    for row, (i, factor) in enumerate(zip(rows, _factors(record, rows), strict=True)):
        sig[row] = signals[:, i] * factor
    return make_record(sig, record.fs, leads, "mV", Meta(None, ignored), hints.limits)


def _where_it_lies(head: wfdb.Record, contents: Mapping[str, bytes], hints: Hints) -> Record:
    """The same of a long record, whose samples are left in their files."""
    rows, leads, ignored = _chosen(head, hints)
    stored = wfdb_stored.stored(head, contents, rows, _factors(head, rows))
    return make_stored_record(stored, head.fs, leads, Meta(None, ignored), hints.limits)


def _chosen(record: wfdb.Record, hints: Hints) -> tuple[list[int], list[str | None], Ignored]:
    """The channels that are leads, which those are, and the names of the others."""
    names = record.sig_name or []
    if not names:
        raise UnreadableError("a WFDB record without signals")
    leads = [canonical(name or "") for name in names]
    if len(names) == 1 and hints.leads is not None:
        leads = [canonical(hints.leads[0])]
    elif len(names) == 1 and (names[0] or "").strip().upper() == "ECG":
        leads = ["I"]  # a hand-held recorder's only channel lies along lead I
    rows = [i for i, name in enumerate(leads) if name is not None]
    if not rows:
        raise UnservableError("none of the channels is one of the twelve leads", "leads")
    others = [(i + 1, name or "") for i, name in enumerate(names) if i not in rows]
    return rows, [leads[i] for i in rows], ignored_names(others)


def _factors(record: wfdb.Record, rows: Sequence[int]) -> list[float]:
    """mV in the unit of each of the channels `rows`."""
    units = record.units or []
    factors = [VOLTAGES.get(units[i].lower()) for i in rows]
    for i, factor in zip(rows, factors, strict=True):
        if factor is None:
            raise UnservableError("a lead is not in V, mV, uV or nV", f"units[{i}]")
    return [factor for factor in factors if factor is not None]


def _check_sizes(header: File, contents: Mapping[str, bytes], limits: Limits) -> int:
    """How many values a header promises; refused where that is more than its files hold or than
    the limits allow, before any of it is allocated.

    The fields are taken by the library's own patterns: what is checked is what it will read.
    """
    lines = _lines(header)
    record = rx_record.match(lines[0]) if lines else None
    if record is None:
        raise UnreadableError("a WFDB header without a proper record line")
    if record["n_seg"]:
        raise UnservableError("a multi-segment WFDB record; send each segment by itself")
    signals = [match for line in lines[1:] if (match := rx_signal.match(line))]
    if not record["n_sig"] == str(len(signals)) == str(len(lines) - 1) or not signals:
        raise UnreadableError("a WFDB header that does not describe the signals it announces")
    check_channels(len(signals), limits)
    if any(signal["fmt"] not in _BYTES for signal in signals):
        raise UnservableError(f"a WFDB storage format that is not read: {', '.join(_BYTES)} are")
    n_samples = _number(record["sig_len"]) if record["sig_len"] else None
    for name in dict.fromkeys(signal["file_name"] for signal in signals):
        inside = [signal for signal in signals if signal["file_name"] == name]
        a_frame = sum(_number(s["samps_per_frame"], 1) for s in inside) * _BYTES[inside[0]["fmt"]]
        start = _number(inside[0]["byte_offset"])
        held = len(contents[name]) - start
        if n_samples is None:  # as the library does, out of the first file
            n_samples = int(held / a_frame) if a_frame else 0
        if math.floor(n_samples * a_frame) > held:
            raise UnreadableError(
                f"the header promises {n_samples} samples; the signal file is too short for them"
            )
        if max(_number(s["skew"]) for s in inside) > n_samples:
            raise UnreadableError("the header shifts a signal by more than its length")
    assert n_samples is not None  # there is a signal, and it has a file
    fs = check_fs(record["fs"] or UNSAID_FS, limits)
    check_not_too_long(n_samples, fs, limits)
    return n_samples * sum(_number(signal["samps_per_frame"], 1) for signal in signals)


def _number(digits: str, default: int = 0) -> int:
    try:
        return int(digits) if digits else default
    except ValueError:  # thousands of digits
        raise UnreadableError("a WFDB header with an impossible number") from None


def _lines(header: File) -> list[str]:
    """Without comments; the first is the record's, the others its signals'."""
    text = header.content[:65_536].decode("utf-8", "replace").removeprefix("\ufeff")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
