"""The samples of a long WFDB record where they lie: formats 16 and 212, as recorders write them.

The library would hold each sample in 8 bytes, twice. What is anything but one sample a frame and a
channel, all in one of the two formats and none shifted, is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import wfdb

from ecg.limits import LIMITS
from ecg.record import LONG_S, Stored, is_long

MISSING = {"16": -32_768, "212": -2_048}
SHORTEST = int(LONG_S * LIMITS.min_fs * 3 / 2)  # bytes of a long record, at least
Take = Callable[[int, int], np.ndarray]  # from one sample to another -> [time, channel]


def may_stay(contents: Mapping[str, bytes]) -> bool:
    """Whether a record of so many bytes may be long, before its header is read."""
    return sum(map(len, contents.values())) >= SHORTEST


def can_stay(head: wfdb.Record) -> bool:
    """Whether the record that the header describes is long, and its samples are as above."""
    fmt = head.fmt or []
    plain = all(n == 1 for n in head.samps_per_frame or []) and not any(head.skew or [])
    known = len(set(fmt)) == 1 and fmt[0] in MISSING and head.sig_len is not None
    return plain and known and head.fs is not None and is_long(head.sig_len, head.fs)


def stored(
    head: wfdb.Record, contents: Mapping[str, bytes], rows: Sequence[int], factors: Sequence[float]
) -> Stored:
    """The channels `rows`; factors: mV in the unit of each. The files were checked to be as long
    as the header says."""
    assert head.fmt and head.file_name and head.adc_gain and head.baseline
    files = list(dict.fromkeys(head.file_name))
    takes: list[tuple[Take, list[int]]] = []
    order: list[int] = []
    for name in files:
        inside = [i for i, other in enumerate(head.file_name) if other == name]
        wanted = [i for i in rows if i in inside]
        offset = (head.byte_offset or [])[inside[0]] or 0
        view = memoryview(contents[name])[offset:]
        reader = _take_16 if head.fmt[0] == "16" else _take_212
        if wanted:
            take = reader(view, len(inside), head.sig_len)
            takes.append((take, [inside.index(i) for i in wanted]))
            order += wanted
    back = [order.index(i) for i in rows]

    def take_all(start: int, stop: int) -> np.ndarray:
        parts = [take(start, stop)[:, columns].T for take, columns in takes]
        return np.concatenate(parts)[back] if len(parts) > 1 else parts[0]

    return Stored(
        take_all,
        len(rows),
        head.sig_len,
        np.array([f / head.adc_gain[i] for i, f in zip(rows, factors, strict=True)]),
        np.array([float(head.baseline[i]) for i in rows]),
        sum(len(contents[name]) for name in files),
        MISSING[head.fmt[0]],
    )


def _take_16(content: memoryview, n_channels: int, n_samples: int) -> Take:
    values = np.frombuffer(content, "<i2", n_samples * n_channels).reshape(-1, n_channels)
    return lambda start, stop: values[start:stop]


def _take_212(content: memoryview, n_channels: int, n_samples: int) -> Take:
    """Two samples in three bytes: the low bytes around one of both high halves."""
    n_values = n_samples * n_channels
    packed = np.frombuffer(content, np.uint8, (3 * n_values + 1) // 2)

    def take(start: int, stop: int) -> np.ndarray:
        stop = min(stop, n_samples)
        first, last = start * n_channels, stop * n_channels
        pairs = packed[first // 2 * 3 : (last + 1) // 2 * 3]
        if len(pairs) % 3:  # a last sample without its other
            pairs = np.append(pairs, np.zeros(3 - len(pairs) % 3, np.uint8))
        low, high, other = pairs.reshape(-1, 3).T.astype(np.int16)
        values = np.empty(2 * len(low), np.int16)
        values[::2] = low | (high & 0x0F) << 8
        values[1::2] = other | (high & 0xF0) << 4
        values = (values ^ 0x800) - 0x800  # the sign of 12 bits
        return values[first % 2 :][: last - first].reshape(-1, n_channels)

    return take
