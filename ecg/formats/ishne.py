"""ISHNE Holter (Badilini 1998): a header of 522 bytes, a variable block, and int16 frames.

Read without ecgdatakit, which copies every sample as float64: of 24 hours, a gigabyte. Here the
samples stay a view on the file's bytes, of a long record for good.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.channels import CHUNK, ignored_names
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.limits import LIMITS, Limits
from ecg.record import (
    Meta,
    Record,
    Stored,
    check_channels,
    check_fs,
    check_not_too_long,
    in_millivolts,
    is_long,
    make_record,
    make_stored_record,
)

MAGIC = b"ISHNE1.0"
HEADER_BYTES = 522
MAX_LEADS = 12
FAULT = -32768  # the value that the specification proposes for a lead that was off
_NAMES = {
    **dict(enumerate(("X", "Y", "Z", "I", "II", "III", "aVR", "aVL", "aVF"), start=2)),
    **dict(enumerate(("V1", "V2", "V3", "V4", "V5", "V6", "ES", "AS", "AI"), start=11)),
}


@dataclass(frozen=True)
class Frames:
    """What the file holds, before anything is copied.

    `counts` int16 [lead, time], a view on the file; `microvolts` per count, of each lead, zero
    where the file does not say; `names` of each, "" where the file does not say.
    """

    counts: np.ndarray
    microvolts: tuple[float, ...]
    names: tuple[str, ...]
    fs: float


def matches(file: File) -> bool:
    return file.content.startswith(MAGIC)


def claims(file: File) -> bool:
    return file.name.lower().endswith((".ecg", ".hol")) or "ishne" in file.media_type.lower()


def read(file: File, hints: Hints) -> list[Record]:
    return [to_record(frames(file.content, hints.limits), hints)]


def frames(content: bytes, limits: Limits = LIMITS) -> Frames:
    """The header's fields and the samples behind it. Errors: UnreadableError, UnservableError."""
    if not content.startswith(MAGIC):
        raise UnreadableError("not an ISHNE file, which begins with ISHNE1.0")
    if len(content) < HEADER_BYTES:
        raise UnreadableError("ends within the header of 522 bytes")
    crc, variable, declared, _, offset = struct.unpack_from("<H4i", content, 8)
    (n_leads,) = struct.unpack_from("<h", content, 156)
    codes = struct.unpack_from("<12h", content, 158)
    resolutions = struct.unpack_from("<12h", content, 206)  # nV
    (fs,) = struct.unpack_from("<h", content, 272)
    start = HEADER_BYTES + variable
    if variable < 0 or start > len(content):
        raise UnreadableError("has a variable block that ends behind the file")
    if crc and not _intact(content, crc, start):
        raise UnreadableError("is damaged: its header does not fit its CRC")
    if not 1 <= n_leads <= MAX_LEADS:
        raise UnreadableError(f"must hold 1 to {MAX_LEADS} leads")
    check_channels(n_leads, limits)
    if start < offset <= len(content):  # some leave room behind the variable block
        start = offset
    n_frames = _n_frames(declared, (len(content) - start) // (2 * n_leads), n_leads)
    flat = np.frombuffer(content, dtype="<i2", offset=start, count=n_frames * n_leads)
    return Frames(
        flat.reshape(n_frames, n_leads).T,
        tuple(max(nanovolts, 0) / 1000 for nanovolts in resolutions[:n_leads]),
        tuple(_NAMES.get(code, "") for code in codes[:n_leads]),
        check_fs(fs, limits),
    )


def to_record(held: Frames, hints: Hints) -> Record:
    """The leads in mV. Recorders often call their channels nothing at all: `hints.leads` names
    them then."""
    names = held.names
    if not any(canonical(name) for name in names) and hints.leads is not None:
        names = hints.leads
        if len(names) != len(held.names):
            raise UnservableError(f"must name {len(held.names)} channels", "leads")
    rows = [i for i, name in enumerate(names) if canonical(name)]
    if not rows:
        raise UnservableError(
            "none of the channels says that it is one of the twelve leads; name them in the query",
            "leads",
        )
    n_samples = held.counts.shape[1]
    check_not_too_long(n_samples, held.fs, hints.limits)
    for i in rows:
        if not held.microvolts[i]:
            raise UnservableError("carries no amplitude resolution", f"leads[{i}]")
    leads = [names[i] for i in rows]
    others = [(i, name) for i, name in enumerate(names, start=1) if not canonical(name)]
    meta = Meta(None, ignored_names(others))
    if is_long(n_samples, held.fs):
        return make_stored_record(_stored(held, rows), held.fs, leads, meta, hints.limits)
    hints.limits.check_samples(len(rows) * n_samples, "sig")
    sig = np.empty((len(rows), n_samples), dtype=np.float32)
    for row, i in enumerate(rows):
        for at in range(0, n_samples, CHUNK):
            piece = held.counts[i, at : at + CHUNK]
            sig[row, at : at + CHUNK] = in_millivolts(piece * held.microvolts[i], "uV")
            sig[row, at : at + CHUNK][piece == FAULT] = np.nan
    return make_record(sig, held.fs, leads, "mV", meta, hints.limits)


def _stored(held: Frames, rows: list[int]) -> Stored:
    return Stored(
        lambda start, stop: held.counts[rows, start:stop],
        len(rows),
        held.counts.shape[1],
        np.array([held.microvolts[i] for i in rows]) * 1e-3,
        np.zeros(len(rows)),
        held.counts.nbytes,
        FAULT,
    )


def _n_frames(declared: int, available: int, n_leads: int) -> int:
    """Writers count samples of a lead or of all, or leave a nominal number: what nearly fits the
    file is meant (a last block may be padded), and the file itself otherwise."""
    for n in (declared, declared // n_leads):
        if 0.9 * available <= n <= available:
            return n
    return available


def _intact(content: bytes, stated: int, end: int) -> bool:
    """Whether the CRC-CCITT fits. The specification leaves its byte order open, and some compute
    it without the variable block."""
    computed = {binascii.crc_hqx(content[10:upto], 0xFFFF) for upto in (HEADER_BYTES, end)}
    return stated in computed or (stated >> 8 | (stated & 0xFF) << 8) in computed
