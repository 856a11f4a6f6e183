"""XLI, how Philips compresses leads: second differences, their high bytes before their low ones, by
LZW with codes of ten bits. Checked against ecgdatakit's decoder, which unpacks without a bound and
comes with 60 MB of networks.
"""

from __future__ import annotations

import numpy as np

from ecg.errors import UnreadableError

HEADER_BYTES = 8  # of a lead: its packed size, a version, the first difference
BITS = 10
TABLE = 2**BITS - 1  # entries at most; the code that is left ends a lead
BIAS = 64  # of what is stored of a difference


def unpack_leads(content: bytes, n_leads: int, max_samples: int) -> list[np.ndarray]:
    """The first leads of a block as int64 counts [time], of at most `max_samples` each.

    Errors: UnreadableError.
    """
    leads = []
    at = 0
    for _ in range(n_leads):
        size = int.from_bytes(content[at : at + 4], "little")
        packed = content[at + HEADER_BYTES : at + HEADER_BYTES + size]
        first = int.from_bytes(content[at + 6 : at + 8], "little", signed=True)
        if not packed or len(packed) < size:
            raise UnreadableError("holds fewer compressed leads than it declares")
        leads.append(_summed(_inflated(packed, 2 * max_samples), first))
        at += HEADER_BYTES + size
    return leads


def _inflated(packed: bytes, max_bytes: int) -> bytes:
    """LZW (Welch 1984), most significant bits first."""
    most = (max_bytes + 2) * BITS // 8  # a code is a byte at least
    bits = np.unpackbits(np.frombuffer(packed[:most], np.uint8))
    n_codes = len(bits) // BITS
    weights = 1 << np.arange(BITS, dtype=np.int16)[::-1]
    codes = bits[: n_codes * BITS].reshape(n_codes, BITS) @ weights
    table = [bytes([byte]) for byte in range(256)]
    out: list[bytes] = []
    previous, room = b"", max_bytes
    for code in codes.tolist():
        if code == TABLE:
            break
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise UnreadableError("holds a compressed lead that is damaged")
        if previous and len(table) < TABLE:
            table.append(previous + entry[:1])
        room -= len(entry)
        if room < 0:
            raise UnreadableError("holds more samples in a compressed lead than it declares")
        out.append(entry)
        previous = entry
    return b"".join(out)


def _summed(content: bytes, first: int) -> np.ndarray:
    """Samples: the first two as they are, then by their second differences, of which `first` is the
    first and the others come one sample late."""
    half = (len(content) + 1) // 2
    halves = np.frombuffer(content.ljust(2 * half, b"\0"), np.uint8).astype(np.uint16)
    words = (halves[:half] << 8 | halves[half:]).view(np.int16).astype(np.int64)
    if len(words) < 2:
        raise UnreadableError("holds a compressed lead without samples")
    second = -np.concatenate([[first], words[2:-1] - BIAS])[: len(words) - 2]
    slopes = words[1] - words[0] + np.cumsum(second)
    return np.concatenate([words[:2], words[1] + np.cumsum(slopes)])
