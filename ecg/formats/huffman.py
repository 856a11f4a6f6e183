"""Huffman codes as SCP-ECG writes them (EN 1064, section 2), decoded by array.

Every bit position is looked up at once, then the chain of codes is followed: a body of any kind
costs a bounded number of steps a bit, which one bit at a time in Python would not.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

import numpy as np

from ecg.errors import UnreadableError

DEFAULT = 19_999  # instead of a number of tables
MAX_PREFIX = 32
MAX_EXTRA = 16
MAX_CODES = 4096  # in all tables
MAX_LOOKUPS = 16_000_000  # bit positions times tables, in one file

# (prefix bits, all bits, 1: a sample or 0: another table, base, code with its first bit lowest)
Code = tuple[int, int, int, int, int]


class Decoder:
    """Samples out of the leads of one file, by its tables."""

    def __init__(self, tables: Sequence[Sequence[Code]]) -> None:
        """Errors: UnreadableError where a code is impossible."""
        codes = [code for table in tables for code in table]
        prefix = np.array([code[0] for code in codes], dtype=np.int64)
        extra = np.array([code[1] for code in codes], dtype=np.int64) - prefix
        if ((prefix < 1) | (prefix > MAX_PREFIX) | (extra < 0) | (extra > MAX_EXTRA)).any():
            raise UnreadableError("has a Huffman code of an impossible length")
        self._length = (prefix + extra).tolist()
        self._prefix, self._extra = prefix, extra
        self._base = np.array([code[3] for code in codes], dtype=np.int64)
        self._switch = [-1 if mode else base - 1 for _, _, mode, base, _ in codes]
        if max(self._switch) >= len(tables) or any(
            code[2] == 0 and not 1 <= code[3] for code in codes
        ):
            raise UnreadableError("has a Huffman code that leads to no table")
        # Of each code, the least and the greatest 32 bits that begin with it.
        least = [_reversed(code[4], code[0]) << (32 - code[0]) for code in codes]
        ends = [low + (1 << (32 - code[0])) for low, code in zip(least, codes, strict=True)]
        self._tables, offset = [], 0
        for table in tables:
            rows = np.arange(offset, offset + len(table))
            rows = rows[np.argsort(np.array(least, dtype=np.uint64)[rows], kind="stable")]
            self._tables.append(
                (rows, np.array(least, np.uint64)[rows], np.array(ends, np.uint64)[rows])
            )
            offset += len(table)
        self._left = MAX_LOOKUPS

    def samples(self, content: bytes, n_samples: int) -> np.ndarray:
        """int64 [n_samples]. Errors: UnreadableError where the bits end before, or fit no code."""
        n_bits = 8 * len(content)
        if n_samples > n_bits:
            raise UnreadableError("promises more samples than its bits can hold")
        windows = _windows(content)
        lookups: dict[int, array[int]] = {}
        table, at = self._lookup(lookups, 0, windows), 0
        length, switch = self._length, self._switch
        positions, codes = [], []
        while len(positions) < n_samples and at < n_bits:
            code = table[at]
            if code < 0:
                break
            if switch[code] < 0:
                positions.append(at)
                codes.append(code)
            else:
                table = self._lookup(lookups, switch[code], windows)
            at += length[code]
        if len(positions) < n_samples or at > n_bits:
            raise UnreadableError("holds a lead that ends before its last sample")
        return self._values(windows, np.array(positions, np.int64), np.array(codes, np.int64))

    def _lookup(self, known: dict[int, array[int]], table: int, windows: np.ndarray) -> array[int]:
        """The code that begins at each bit, by one of the tables; -1 where none does."""
        if table not in known:
            self._left -= len(windows)
            if self._left < 0:
                raise UnreadableError("takes too many Huffman tables to decode")
            rows, least, ends = self._tables[table]
            found = np.searchsorted(least, windows, side="right") - 1
            fits = (found >= 0) & (windows < ends[np.maximum(found, 0)])
            codes = np.where(fits, rows[found], -1).astype(np.int16)  # a list is 16 times as large
            known[table] = array("h", codes.tobytes())
        return known[table]

    def _values(self, windows: np.ndarray, at: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Each code's base, and the signed number behind its prefix."""
        extra = self._extra[codes]
        behind = (windows[at + self._prefix[codes]] >> (32 - extra).astype(np.uint64)).astype(int)
        sign = np.where(extra > 0, 1 << np.maximum(extra - 1, 0), 0)
        return self._base[codes] + np.where(behind & sign, behind - (1 << extra), behind)


def read_tables(section: bytes) -> list[list[Code]]:
    """The tables of section 2, its header removed; none where the samples are not coded.

    Errors: UnreadableError.
    """
    if len(section) < 2:
        raise UnreadableError("ends within the Huffman tables")
    (n_tables,) = struct.unpack_from("<H", section)
    if n_tables == DEFAULT:
        return [_default()]
    tables, at, room = [], 2, MAX_CODES
    for _ in range(n_tables):
        n_codes = struct.unpack_from("<H", section, at)[0] if at + 2 <= len(section) else 0
        room -= n_codes
        if not n_codes or room < 0 or at + 2 + 9 * n_codes > len(section):
            raise UnreadableError("has Huffman tables of an impossible size")
        tables.append(list(struct.iter_unpack("<BBBhI", section[at + 2 : at + 2 + 9 * n_codes])))
        at += 2 + 9 * n_codes
    return tables


def _default() -> list[Code]:
    """EN 1064's own table: n ones, a zero and a sign for +-n up to 8, and two escapes."""
    codes = [(1, 1, 1, 0, 0)]
    for n in range(1, 9):
        ones = (1 << n) - 1
        codes += [(n + 2, n + 2, 1, n, ones), (n + 2, n + 2, 1, -n, ones | 1 << (n + 1))]
    return [*codes, (10, 18, 1, 0, 0b0111111111), (10, 26, 1, 0, 0b1111111111)]


def _windows(content: bytes) -> np.ndarray:
    """The 32 bits that begin at each bit; 64 zeros follow the last."""
    padded = np.frombuffer(content + bytes(13), dtype=np.uint8).astype(np.uint64)
    n = len(content) + 8
    forty = np.zeros(n, dtype=np.uint64)
    for i in range(5):
        forty = forty << np.uint64(8) | padded[i : i + n]
    shifts = np.arange(8, 0, -1, dtype=np.uint64)
    return (forty[:, None] >> shifts & np.uint64(0xFFFFFFFF)).ravel()


def _reversed(code: int, n_bits: int) -> int:
    """Codes are written with their first bit lowest."""
    return int(f"{code & ((1 << n_bits) - 1):0{n_bits}b}"[::-1], 2)
