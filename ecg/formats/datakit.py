"""What is taken from ecgdatakit: the XLI codec of Philips. Bytes in, counts out, bounded.

Nothing else of it is imported, and no file is written: its parsers read paths.
"""

from __future__ import annotations

import numpy as np
from ecgdatakit.parsing.codecs.lzw import LzwDecoder
from ecgdatakit.parsing.codecs.xli import xli_decode_deltas

from ecg.errors import EcgError, UnreadableError

HEADER_BYTES = 8  # of a lead: its packed size, a version, the first value


def xli_leads(content: bytes, n_leads: int, max_samples: int) -> list[np.ndarray]:
    """The first leads of an XLI block as int64 counts [time], of at most `max_samples` each.

    The library's own loop over leads unpacks without a bound, up to 600 times a body's size.
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
        try:
            leads.append(xli_decode_deltas(_unpacked(packed, 2 * max_samples), first))
        except EcgError:
            raise
        except Exception:  # as any library, on bytes that are not what they claim
            raise UnreadableError("holds a compressed lead that is damaged") from None
        at += HEADER_BYTES + size
    return [lead.astype(np.int64) for lead in leads]


def _unpacked(packed: bytes, max_bytes: int) -> bytes:
    decoder = LzwDecoder(packed, bits=10)
    out = bytearray()
    while (byte := decoder.read()) >= 0:
        if len(out) == max_bytes:
            raise UnreadableError("holds more samples in a compressed lead than it declares")
        out.append(byte)
    return bytes(out)
