"""The samples of a WFDB signal file, in the storage formats of PhysioNet's signal(5) that are not
compressed. Each function gives whole numbers, in the file's order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FORMATS = ("8", "16", "24", "32", "61", "80", "160", "212", "310", "311")
# What stands for no sample: the least value of the format. Format 8 has none.
MISSING = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "61": -(2**15),
    "80": -(2**7),
    "160": -(2**15),
    "212": -(2**11),
    "310": -(2**9),
    "311": -(2**9),
}
DIFFERENCES = "8"  # each sample is what is to be added to the one before it


def n_bytes(fmt: str, n: int) -> int:
    """That `n` values take."""
    whole, over = divmod(n, _GROUPS[fmt][0])
    return whole * _GROUPS[fmt][-1] + (_GROUPS[fmt][over] if over else 0)


def n_values(fmt: str, held: int) -> int:
    """That so many bytes hold in whole groups."""
    return max(0, held) * _GROUPS[fmt][0] // _GROUPS[fmt][-1]


def values(content: memoryview, fmt: str, n: int) -> np.ndarray:
    """The first `n` stored values, integers [n]. The content was checked to hold them."""
    if fmt in _ARRAYS:
        return np.frombuffer(content, _ARRAYS[fmt], n)
    return _READERS[fmt](content, n)


def _offset_8(content: memoryview, n: int) -> np.ndarray:
    return np.frombuffer(content, np.uint8, n).astype(np.int16) - 2**7


def _offset_16(content: memoryview, n: int) -> np.ndarray:
    return np.frombuffer(content, "<u2", n).astype(np.int32) - 2**15


def _three_bytes(content: memoryview, n: int) -> np.ndarray:
    """Shifted up in four, and down again with the sign."""
    four = np.zeros((n, 4), np.uint8)
    four[:, 1:] = np.frombuffer(content, np.uint8, 3 * n).reshape(n, 3)
    return four.view("<i4")[:, 0] >> 8


def pairs(content: memoryview, n: int) -> np.ndarray:
    """Format 212, two samples in three bytes: the low bytes around one of both high halves."""
    triplets = _whole(content, n_bytes("212", n), 3).astype(np.int16)
    low, high, other = triplets.T
    out = np.empty((len(triplets), 2), np.int16)
    out[:, 0] = low | (high & 0x0F) << 8
    out[:, 1] = other | (high & 0xF0) << 4
    return _signed(out.reshape(-1)[:n], 12)


def _threes_310(content: memoryview, n: int) -> np.ndarray:
    """Two words of 16 bits with a sample above their lowest bit each; their five highest bits are
    the third sample, low half first."""
    words = _whole(content, n_bytes("310", n), 4).view("<u2").astype(np.int32)
    out = np.empty((len(words), 3), np.int32)
    out[:, :2] = words >> 1 & 0x3FF
    out[:, 2] = words[:, 0] >> 11 | words[:, 1] >> 11 << 5
    return _signed(out.reshape(-1)[:n], 10)


def _threes_311(content: memoryview, n: int) -> np.ndarray:
    """A word of 32 bits with three samples, the first lowest."""
    words = _whole(content, n_bytes("311", n), 4).view("<u4").astype(np.int64)
    out = words >> np.array([0, 10, 20]) & 0x3FF
    return _signed(out.reshape(-1)[:n], 10)


def _whole(content: memoryview, length: int, group: int) -> np.ndarray:
    """uint8 [groups, group] of the first `length` bytes, the last group filled up with zeros."""
    taken = np.frombuffer(content, np.uint8, length)
    if missing := -len(taken) % group:
        taken = np.append(taken, np.zeros(missing, np.uint8))
    return taken.reshape(-1, group)


def _signed(out: np.ndarray, bits: int) -> np.ndarray:
    return (out ^ 1 << bits - 1) - (1 << bits - 1)


# Samples of a group, and the bytes that 1, 2, … of them take:
# the last group of a file may be short.
_GROUPS = {
    **dict.fromkeys(("8", "80"), (1, 1)),
    **dict.fromkeys(("16", "61", "160"), (1, 2)),
    "24": (1, 3),
    "32": (1, 4),
    "212": (2, 2, 3),
    "310": (3, 2, 4, 4),
    "311": (3, 2, 3, 4),
}
_ARRAYS = {"8": "i1", "16": "<i2", "32": "<i4", "61": ">i2"}
_READERS: dict[str, Callable[[memoryview, int], np.ndarray]] = {
    "24": _three_bytes,
    "80": _offset_8,
    "160": _offset_16,
    "212": pairs,
    "310": _threes_310,
    "311": _threes_311,
}
