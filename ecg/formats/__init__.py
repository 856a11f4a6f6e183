"""Bytes -> Records. The content decides which reader; names and declared types are hints."""

from __future__ import annotations

from collections.abc import Sequence

from ecg.errors import EcgError, TooLargeError, UnknownFormatError, UnreadableError, UnservableError
from ecg.formats import csv, json, npz, wfdb
from ecg.formats.source import File, Hints, unpack
from ecg.record import Record

READABLE = "JSON, NPZ, CSV, or a WFDB record (.hea and .dat, or a zip of them)"
MAX_RECORDS = 64

__all__ = ["MAX_RECORDS", "READABLE", "File", "Hints", "read"]


def read(files: Sequence[File], hints: Hints) -> list[Record]:
    """All records in `files`, in order, or an EcgError that says which one and what.

    Files of one WFDB record may come as several; any other file stands for itself.
    """
    if not files:
        raise UnreadableError("there is no file in the request")
    files = _unzipped(files, hints)
    headers = [f for f in files if wfdb.is_header(f)]
    parts = wfdb.signal_names(headers)
    records: list[Record] = []
    for i, file in enumerate(files):
        if file.name in parts:
            continue
        where = f"files[{i}]" if len(files) > 1 else ""
        try:
            if file in headers:
                records.append(wfdb.read(file, files, hints))
            else:
                records.extend(_read_one(file, hints))
        except EcgError as error:
            raise (error.within(where) if where else error) from None
    if not records:
        raise UnreadableError("there is no record in the request")
    if len(records) > MAX_RECORDS:
        raise UnservableError(
            f"holds {len(records)} records; at most {MAX_RECORDS} are answered at once", "records"
        )
    return records


def _unzipped(files: Sequence[File], hints: Hints) -> list[File]:
    """Zips replaced by what is in them, but for NPZ, which is a zip of arrays."""
    out: list[File] = []
    allowance = hints.max_unpacked
    for file in files:
        if file.content.startswith(b"PK\x03\x04") and not npz.matches(file):
            members = unpack(file, allowance)
            allowance -= sum(len(m.content) for m in members)
            if allowance < 0:
                raise TooLargeError(f"unpacks to more than {hints.max_unpacked} bytes")
            out.extend(members)
        else:
            out.append(file)
    return out


def _read_one(file: File, hints: Hints) -> list[Record]:
    for reader in (npz, json, csv):
        if reader.matches(file):
            return reader.read(file, hints)
    if file.content.startswith(b"\x80") or not file.content:
        kind = "an empty body" if not file.content else "a pickle, which is never read"
        raise UnknownFormatError(f"this is {kind}; send {READABLE}")
    raise UnknownFormatError(f"not recognised by its content; send {READABLE}")
