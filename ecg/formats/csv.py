"""CSV: a header row of lead names, a row a sample. fs and units are the sender's to say."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.record import Record, check_fs, check_leads, check_not_too_long, make_record

_DELIMITERS = (",", ";", "\t")
_ROWS_AT_ONCE = 10_000


def matches(file: File) -> bool:
    """Text whose first line names at least one lead."""
    if b"\x00" in file.content[:4096]:
        return False
    return any(canonical(name) for name in _header(file.content)[0])


def claims(file: File) -> bool:
    return file.name.lower().endswith(".csv") or "csv" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    names, delimiter, start = _header(file.content)
    leads = check_leads(names, len(names), hints.limits)
    fs = check_fs(hints.fs, hints.limits)
    body = file.content[start:]
    if not body.strip():
        raise UnservableError("holds no sample below the header")
    n_lines = max(body.count(b"\n"), body.count(b"\r"))
    check_not_too_long(n_lines, fs, hints.limits)
    hints.limits.check_samples(n_lines * len(names), "sig")
    try:
        rows = np.loadtxt(io.BytesIO(body), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        rows = _rows_with_gaps(body, delimiter, len(names))
    if rows.shape[1] != len(names):
        raise UnreadableError(f"has {rows.shape[1]} columns under {len(names)} lead names")
    return [make_record(rows.T, fs, leads, hints.units, limits=hints.limits)]


def write(record: Record) -> bytes:
    """mV, a row a sample, `nan` where one is missing; neither fs nor units have a place in it."""
    out = io.StringIO()
    out.write(",".join(record.leads) + "\n")
    for start in range(0, record.n_samples, _ROWS_AT_ONCE):  # as text they are 30 times as large
        rows = record.piece(start, min(start + _ROWS_AT_ONCE, record.n_samples)).T
        # The shortest digits that give back the same float32.
        out.writelines(",".join(cells) + "\n" for cells in rows.astype(str).tolist())
    return out.getvalue().encode()


def _header(content: bytes) -> tuple[list[str], str, int]:
    """The names in the first line, its delimiter, and where the samples begin."""
    start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    end = content.find(b"\n", start, start + 65_536)
    end = len(content) if end < 0 else end
    line = content[start : min(end, start + 65_536)].decode("utf-8", "replace").strip("\r")
    delimiter = max(_DELIMITERS, key=line.count)
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    return names, delimiter, end + 1


def _rows_with_gaps(body: bytes, delimiter: str, n_columns: int) -> np.ndarray:
    """Row by row, slower: empty cells are missing samples, and errors name their line."""
    done: list[np.ndarray] = []
    rows: list[list[float]] = []
    text = io.TextIOWrapper(io.BytesIO(body), "utf-8")  # any line ends, a piece at a time
    lines = csv.reader(text, delimiter=delimiter)
    for i, cells in enumerate(_parsed(lines), start=2):
        if len(rows) == _ROWS_AT_ONCE:  # as numbers of Python's they are many times as large
            done.append(np.array(rows))
            rows.clear()
        if not cells:
            continue
        if len(cells) != n_columns:
            raise UnreadableError(f"has {len(cells)} cells, expected {n_columns}", f"line {i}")
        try:
            rows.append([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError:
            raise UnservableError("holds something that is not a number", f"line {i}") from None
    return np.concatenate([*done, np.array(rows).reshape(-1, n_columns)])


def _parsed(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from lines
    except csv.Error:
        raise UnreadableError("holds a cell that no number fills") from None
    except UnicodeDecodeError:
        raise UnreadableError("is not UTF-8 text") from None
