"""The samples of a long WFDB record where they lie: formats 16 and 212, as recorders write them.

What is anything but one sample a frame and a channel, all in one of the two formats and none
shifted, is unpacked as a whole, in 8 bytes a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ecg.formats import wfdb_samples
from ecg.formats.wfdb_header import Header
from ecg.record import Stored, is_long

Take = Callable[[int, int], np.ndarray]  # from one sample to another -> [time, channel]


def can_stay(header: Header) -> bool:
    """Whether the record is long, and its samples are as above."""
    plain = all(signal.per_frame == 1 and not signal.skew for signal in header.signals)
    fmt, *others = {signal.fmt for signal in header.signals}
    return plain and not others and fmt in _TAKERS and is_long(header.n_samples, header.fs)


def stored(
    header: Header, contents: Mapping[str, bytes], rows: Sequence[int], factors: Sequence[float]
) -> Stored:
    """The signals `rows`; factors: mV in the unit of each."""
    takes: list[tuple[Take, list[int]]] = []
    order: list[int] = []
    fmt = header.signals[0].fmt
    for name, inside in header.files.items():
        wanted = [i for i in rows if i in inside]
        view = memoryview(contents[name])[header.signals[inside[0]].offset :]
        if wanted:
            take = _TAKERS[fmt](view, len(inside), header.n_samples)
            takes.append((take, [inside.index(i) for i in wanted]))
            order += wanted
    back = [order.index(i) for i in rows]

    def take_all(start: int, stop: int) -> np.ndarray:
        parts = [take(start, stop)[:, columns].T for take, columns in takes]
        return np.concatenate(parts)[back] if len(parts) > 1 else parts[0]

    chosen = [header.signals[i] for i in rows]
    return Stored(
        take_all,
        len(rows),
        header.n_samples,
        np.array([f / signal.gain for signal, f in zip(chosen, factors, strict=True)]),
        np.array([float(signal.zero) for signal in chosen]),
        sum(len(contents[name]) for name in header.files),
        wfdb_samples.MISSING[fmt],
    )


def _take_16(content: memoryview, n_channels: int, n_samples: int) -> Take:
    values = np.frombuffer(content, "<i2", n_samples * n_channels).reshape(-1, n_channels)
    return lambda start, stop: values[start:stop]


def _take_212(content: memoryview, n_channels: int, n_samples: int) -> Take:
    def take(start: int, stop: int) -> np.ndarray:
        stop = min(stop, n_samples)
        first, last = start * n_channels, stop * n_channels
        values = wfdb_samples.pairs(content[first // 2 * 3 :], last - first // 2 * 2)
        return values[first % 2 :].reshape(-1, n_channels)

    return take


_TAKERS = {"16": _take_16, "212": _take_212}
