"""Files that are nearly right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from ecg.errors import EcgError
from ecg.formats import File, Hints, read


def mutated(content: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """`n` of them: bytes changed, parts cut out, doubled or overwritten, and the end gone. The
    beginning, where counts and sizes are, is hit more often than the samples."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        out = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            reach = len(out) if rng.random() < 0.5 else min(len(out), 1024)
            at = int(rng.integers(0, max(reach, 1)))
            length = int(rng.integers(1, 200))
            match rng.integers(0, 6):
                case 0:
                    out[at : at + 1] = rng.bytes(1)
                case 1:
                    out[at : at + 4] = b"\xff" * 4
                case 2:
                    del out[at : at + length]
                case 3:
                    out[at:at] = out[at : at + length]
                case 4:
                    del out[max(at, 1) :]
                case _:
                    out[at : at + 4] = int(rng.integers(0, 1 << 32)).to_bytes(4, "little")
        yield bytes(out)


def survives(content: bytes, n: int = 200, repaired: Callable[[bytes], bytes] = bytes) -> None:
    """Every mutation is read or refused, in time. `repaired` puts right what would only hide the
    rest, such as a CRC."""
    for one in mutated(content, n):
        begun = time.thread_time()
        try:
            records = read([File(repaired(one))], Hints())
        except EcgError:
            records = []
        assert time.thread_time() - begun < 2
        for record in records:
            assert record.sig.dtype == np.float32 and np.isfinite(record.sig).any()
