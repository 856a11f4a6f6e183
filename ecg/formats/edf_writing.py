"""A Record -> EDF+ (Kemp and Olivan 2003), and the header's layout.

Our own, not pyEDFlib's writer, which writes to a path alone.
"""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from ecg.formats.counts import MISSING, to_counts
from ecg.record import Record

HEADER_BYTES = 256  # and as many again for each signal
FIELD_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # a signal's; all signals' side by side
SYNTHETIC = "SYNTHETIC_ECG"
_LARGEST = 32_000  # times any step, it fits the header's eight characters
_RECORD_BYTES = 61_440
_TIME_SAMPLES = 12  # of the annotations: +86399.998, two marks and an end


def write(record: Record) -> bytes:
    """EDF+C: int16, of 1 uV, the device's own step, or the least step that holds the record.

    No identity is written, not even `record_id`; the dates, which a record does not have, are
    those that EDF+ has for the unknown. NaN becomes -32768, which lies outside the declared digital
    range. Errors: UnservableError where the samples are no ECG's.
    """
    step, stored = to_counts(record.sig, _LARGEST)
    n_leads, n_samples = stored.shape
    per_record, seconds = _data_records(n_samples, record.fs, n_leads)
    n_records = -(-n_samples // per_record)
    body = np.full((n_records, n_leads * per_record + _TIME_SAMPLES), MISSING, dtype="<i2")
    padded = np.full((n_leads, n_records * per_record), MISSING, dtype="<i2")
    padded[:, :n_samples] = stored
    by_record = padded.reshape(n_leads, n_records, per_record).transpose(1, 0, 2)
    body[:, :-_TIME_SAMPLES] = by_record.reshape(n_records, -1)
    stamps = b"".join(_stamp(i * Decimal(seconds)) for i in range(n_records))
    body[:, -_TIME_SAMPLES:] = np.frombuffer(stamps, "<i2").reshape(n_records, -1)
    header = _header(record, n_records, seconds)
    unit, in_uv = next((u, x) for u, x in (("uV", 1), ("mV", 1e3), ("V", 1e6)) if step <= 100 * x)
    reach = f"{_LARGEST * step / in_uv:.8g}"
    made_by = "none: made by a model" if record.meta.synthetic else ""
    columns = [
        (f"ECG {lead}", made_by, unit, f"-{reach}", reach, -_LARGEST, _LARGEST, "", per_record, "")
        for lead in record.leads
    ]
    columns.append(("EDF Annotations", "", "", "-1", "1", -32768, 32767, "", _TIME_SAMPLES, ""))
    for i, width in enumerate(FIELD_WIDTHS):
        header += "".join(f"{column[i]!s:<{width}}" for column in columns)
    return header.encode("ascii") + body.tobytes()


def _header(record: Record, n_records: int, seconds: str) -> str:
    """Its part that is about the file as a whole; X is EDF+'s word for what is not known."""
    device = SYNTHETIC if record.meta.synthetic else "X"
    n_signals = len(record.leads) + 1
    return "".join(
        f"{value!s:<{width}}"
        for value, width in (
            (0, 8),
            (f"X X X {device}", 80),
            (f"Startdate X X X {device}", 80),
            ("01.01.85", 8),
            ("00.00.00", 8),
            (HEADER_BYTES * (1 + n_signals), 8),
            ("EDF+C", 44),
            (n_records, 8),
            (seconds, 8),
            (n_signals, 4),
        )
    )


def _data_records(n_samples: int, fs: float, n_leads: int) -> tuple[int, str]:
    """Samples and seconds of a data record: about 1 s, a time that eight characters hold or come
    nearest to, a size that EDF allows, and a divisor of the whole where there is one. The rest of
    the last one is missing otherwise."""
    largest = max(1, min(n_samples, (_RECORD_BYTES // 2 - _TIME_SAMPLES) // n_leads))
    ranked = []
    for n in range(min(math.ceil(fs / 10), largest), largest + 1):
        seconds = f"{n / fs:.7g}" if n >= fs else f"{n / fs:.6g}"  # both of 8 characters
        off = abs(n / float(seconds) / fs - 1)
        ranked.append((off if off > 1e-9 else 0, n_samples % n != 0, abs(n - fs), n, seconds))
    *_, per_record, seconds = min(ranked)
    return per_record, seconds


def _stamp(seconds: Decimal) -> bytes:
    return f"+{seconds.normalize():f}\x14\x14".encode().ljust(2 * _TIME_SAMPLES, b"\0")
