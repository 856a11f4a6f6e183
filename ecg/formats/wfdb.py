"""WFDB: a header and its signal files, PhysioNet's format.

PhysioNet's own library reads paths, and brings pandas with it; the tests hold that what is read
here is what it reads.
"""

from __future__ import annotations

import io
import math
import posixpath
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import wfdb_header, wfdb_samples, wfdb_stored
from ecg.formats.channels import ignored_names
from ecg.formats.source import File, Hints
from ecg.formats.wfdb_header import Header, Signal
from ecg.leads import canonical
from ecg.record import VOLTAGES, Meta, Record, make_record, make_stored_record

READ_BYTES = 16  # a value as it is stored and as a float
Ignored = tuple[str, ...]
NAME = "record"  # where nobody gave another
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
    limits = hints.limits
    head = wfdb_header.parse(_lines(header), contents, limits)
    rows, leads, ignored = _chosen(head, hints)
    factors = _factors(head, rows)
    if wfdb_stored.can_stay(head):
        stored = wfdb_stored.stored(head, contents, rows, factors)
        return make_stored_record(stored, head.fs, leads, Meta(None, ignored), limits)
    limits.check_unpacked(READ_BYTES * head.n_values)
    sig = np.empty((len(rows), head.n_samples))
    for i, row in _physical(head, contents, rows):
        sig[rows.index(i)] = row
    sig *= np.array(factors)[:, None]
    return make_record(sig, head.fs, leads, "mV", Meta(None, ignored), limits)


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


def _physical(
    header: Header, contents: Mapping[str, bytes], rows: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Each of the signals `rows` and its samples in its unit, float64 [time], NaN where one is
    missing; of several a frame, their mean."""
    for name, inside in header.files.items():
        view = memoryview(contents[name])[header.signals[inside[0]].offset :]
        widths = [header.signals[i].per_frame for i in inside]
        fmt = header.signals[inside[0]].fmt
        frames = wfdb_samples.values(view, fmt, header.n_samples * sum(widths))
        frames = frames.reshape(header.n_samples, sum(widths))
        for i, end, width in zip(inside, np.cumsum(widths), widths, strict=True):
            if i in rows:
                yield i, _one(header.signals[i], frames[:, end - width : end])


def _one(signal: Signal, stored: np.ndarray) -> np.ndarray:
    """One signal's samples in its unit [time] of the values stored for it [frame, in the frame]."""
    if signal.fmt == wfdb_samples.DIFFERENCES:
        steps = stored.reshape(-1).cumsum(dtype=np.int64) + signal.first
        stored = steps.reshape(stored.shape)
    sig = stored.astype(np.float64)
    sig -= signal.zero
    sig /= signal.gain
    if signal.fmt in wfdb_samples.MISSING:
        sig[stored == wfdb_samples.MISSING[signal.fmt]] = np.nan
    sig = sig.mean(axis=1) if signal.per_frame > 1 else sig[:, 0]
    if signal.skew:
        sig[: len(sig) - signal.skew] = sig[signal.skew :].copy()
        sig[len(sig) - signal.skew :] = np.nan
    return sig


def _chosen(header: Header, hints: Hints) -> tuple[list[int], list[str | None], Ignored]:
    """The channels that are leads, which those are, and the names of the others."""
    names = [signal.name for signal in header.signals]
    leads = [canonical(name) for name in names]
    if len(names) == 1 and hints.leads is not None:
        leads = [canonical(hints.leads[0])]
    elif len(names) == 1 and names[0].strip().upper() == "ECG":
        leads = ["I"]  # a hand-held recorder's only channel lies along lead I
    rows = [i for i, name in enumerate(leads) if name is not None]
    if not rows:
        raise UnservableError("none of the channels is one of the twelve leads", "leads")
    others = [(i + 1, name or "") for i, name in enumerate(names) if i not in rows]
    return rows, [leads[i] for i in rows], ignored_names(others)


def _factors(header: Header, rows: Sequence[int]) -> list[float]:
    """mV in the unit of each of the channels `rows`."""
    factors = [VOLTAGES.get(header.signals[i].unit.lower()) for i in rows]
    for i, factor in zip(rows, factors, strict=True):
        if factor is None:
            raise UnservableError("a lead is not in V, mV, uV or nV", f"units[{i}]")
    return [factor for factor in factors if factor is not None]


def _lines(header: File) -> list[str]:
    """Without comments; the first is the record's, the others its signals'."""
    text = header.content[:65_536].decode("utf-8", "replace").removeprefix("\ufeff")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
