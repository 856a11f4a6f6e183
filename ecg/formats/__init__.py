"""Bytes -> Records, and back. The content decides which reader; names and types are hints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import NamedTuple

from ecg.errors import EcgError, UnknownFormatError, UnreadableError
from ecg.formats import (
    aecg,
    apple,
    csv,
    dicom,
    edf,
    fhir,
    hdf5,
    ishne,
    json,
    muse,
    npz,
    scp,
    sierra,
    wfdb,
)
from ecg.formats.source import File, Hints, check_count, unpack
from ecg.record import Record

READABLE = (
    "JSON, NPZ, HDF5, CSV, a WFDB record (.hea and .dat, or a zip of them), DICOM, EDF or BDF, "
    "HL7 aECG, GE MUSE XML, Philips Sierra XML, SCP-ECG, ISHNE Holter, a FHIR Observation, or an "
    "Apple Watch CSV"
)

__all__ = ["READABLE", "WRITERS", "File", "Hints", "read", "read_at_once"]


# In this order: the first that recognises a file reads it.
_READERS = (
    npz,
    hdf5,
    dicom,
    edf,
    ishne,
    scp,
    aecg,
    muse,
    sierra,
    fhir,
    json,
    wfdb,
    apple,
    csv,
)


class Writer(NamedTuple):
    """`write` gives the bytes of one Record, or of a list of them where a file holds several; the
    first extension is the usual one; `loses` says what the format does not keep of a Record."""

    extensions: tuple[str, ...]
    write: Callable[..., bytes]
    several: bool = False
    loses: str = ""


WRITERS = {
    "npz": Writer((".npz",), npz.write, several=True),
    "hdf5": Writer((".h5", ".hdf5"), hdf5.write, several=True),
    "csv": Writer((".csv",), csv.write, loses="neither fs nor units"),
    "wfdb": Writer((".hea", ".zip"), wfdb.write),
    "dicom": Writer((".dcm",), dicom.write),
    "edf": Writer((".edf",), edf.write),
    "fhir": Writer((".json",), partial(fhir.write, version="R4")),
}


def read(
    files: Sequence[File], hints: Hints, recognised: Callable[[str], None] = lambda name: None
) -> list[Record]:
    """All records in `files`, in order, or an EcgError that says which one and what.

    Files of one WFDB record may come as several; any other file stands for itself. `recognised` is
    told the format of each before it is read: the name of its module here.
    """
    if not files:
        raise UnreadableError("there is no file in the request")
    files = _unzipped(files, hints)
    readers = [_reader(file) for file in files]
    headers = [f for f, reader in zip(files, readers, strict=True) if reader is wfdb]
    parts = {name for header in headers for name in wfdb.signal_names(header)}
    records: list[Record] = []
    left = hints  # what was unpacked for one file is not there for the next
    for i, (file, reader) in enumerate(zip(files, readers, strict=True)):
        if file.name in parts and reader is not wfdb:
            continue
        where = f"files[{i}]" if len(files) > 1 else ""
        recognised(reader.__name__.rpartition(".")[2] if reader else "unknown")
        try:
            if reader is wfdb:
                records.append(wfdb.read(file, files, left))
            elif reader is not None:
                records.extend(reader.read(file, left))
            else:
                raise _unknown(file)
        except EcgError as error:
            raise (error.within(where) if where else error) from None
        check_count(len(records), hints.limits)
        if len(files) > 1:
            held = sum(r.n_bytes for r in records)
            left = replace(hints, limits=hints.limits.less(held))
    if not records:
        raise UnreadableError("there is no record in the request")
    return records


def read_at_once(files: Sequence[File]) -> bool:
    """Whether an event loop may read them itself, instead of handing them to a thread."""
    return len(files) == 1 and npz.read_at_once(files[0])


def _unzipped(files: Sequence[File], hints: Hints) -> list[File]:
    """Zips replaced by what is in them, each in a folder of its own, but for NPZ, which is a zip
    of arrays."""
    out: list[File] = []
    left = hints.limits
    for i, file in enumerate(files):
        if file.content.startswith(b"PK\x03\x04") and not npz.matches(file):
            members = unpack(file, left)
            left = left.less(sum(len(m.content) for m in members))
            out.extend(replace(m, name=f"{i}/{m.name}") for m in members)
        else:
            out.append(file)
    return out


def _reader(file: File) -> ModuleType | None:
    """The one that recognises the content, or else the one of the name or the declared type."""
    for says in ("matches", "claims"):
        for reader in _READERS:
            if getattr(reader, says)(file):
                return reader
    return None


def _unknown(file: File) -> UnknownFormatError:
    if file.content.startswith(b"\x80") or not file.content:
        kind = "an empty body" if not file.content else "a pickle, which is never read"
        return UnknownFormatError(f"this is {kind}; send {READABLE}")
    return UnknownFormatError(f"not recognised by its content; send {READABLE}")
