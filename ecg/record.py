"""One recording, checked once at the door and trusted inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg.errors import UnservableError
from ecg.leads import LEADS, canonical

MIN_FS, MAX_FS = 50.0, 4000.0
MIN_DURATION_S, MAX_DURATION_S = 5.0, 86_400.0
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3}  # micro sign and Greek mu


@dataclass(frozen=True)
class Meta:
    """What came with the samples. `record_id` is the sender's, echoed and never logged;
    `synthetic` if the sender says that a model made them."""

    record_id: str | None = None
    ignored_channels: tuple[str, ...] = ()
    synthetic: bool = False


@dataclass(frozen=True, eq=False)
class Record:
    """`sig` float32 mV [lead, time], NaN where a sample is missing; `fs` in Hz."""

    sig: np.ndarray
    fs: float
    leads: tuple[str, ...]
    meta: Meta = Meta()

    @property
    def n_samples(self) -> int:
        return self.sig.shape[1]

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.fs


def make_record(
    sig: np.ndarray,
    fs: object,
    leads: Sequence[object] | None,
    units: object,
    meta: Meta | None = None,
) -> Record:
    """A Record from what a file or a request declares, or UnservableError that names the field.

    Args:
        sig: real numbers in `units`, [lead, time]; NaN or infinite where a sample is missing.
        fs: Hz; leads: any spelling; units: mV or uV.
    """
    if sig.ndim != 2:
        raise UnservableError(f"has {sig.ndim} dimension(s), expected [lead][time]", "sig")
    names = check_leads(leads, sig.shape[0])
    rate = check_fs(fs)
    n_samples = sig.shape[1]
    if n_samples < MIN_DURATION_S * rate:
        raise UnservableError(
            f"{n_samples} samples at {rate:g} Hz last {n_samples / rate:.2f} s; "
            f"at least {MIN_DURATION_S:g} s are needed",
            "sig",
        )
    if n_samples > MAX_DURATION_S * rate:
        raise UnservableError(
            f"lasts {n_samples / rate / 3600:.1f} h; at most {MAX_DURATION_S / 3600:g} h",
            "sig",
        )
    millivolts = in_millivolts(sig, units)
    finite = np.isfinite(millivolts)
    if not finite.all():
        if not finite.any():
            raise UnservableError("holds no finite sample", "sig")
        millivolts[~finite] = np.nan
    return Record(millivolts, rate, names, meta or Meta())


def check_fs(fs: object) -> float:
    """`fs` as a float in Hz, or UnservableError."""
    if fs is None:
        raise UnservableError(
            "is missing: give the sampling frequency in Hz, for example 500", "fs"
        )
    try:
        rate = float(fs)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise UnservableError("is not a number: give the sampling frequency in Hz", "fs") from None
    if isinstance(fs, bool) or not MIN_FS <= rate <= MAX_FS:
        raise UnservableError(f"must be between {MIN_FS:g} and {MAX_FS:g} Hz", "fs")
    return rate


def check_leads(leads: Sequence[object] | None, n_rows: int) -> tuple[str, ...]:
    """Canonical names for `n_rows` rows, or UnservableError."""
    if leads is None:
        raise UnservableError(
            f"is missing: name each row of sig, out of {', '.join(LEADS)}", "leads"
        )
    if n_rows == 0 or len(leads) == 0:
        raise UnservableError("is empty: at least one lead is needed", "leads")
    if len(leads) != n_rows:
        raise UnservableError(f"names {len(leads)} leads, but sig has {n_rows} rows", "leads")
    if n_rows > len(LEADS):
        raise UnservableError(f"names {n_rows} leads; there are {len(LEADS)}", "leads")
    names: list[str] = []
    for i, given in enumerate(leads):
        name = canonical(given) if isinstance(given, str) else None
        if name is None:
            raise UnservableError(f"is not one of {', '.join(LEADS)}", f"leads[{i}]")
        if name in names:
            raise UnservableError(f"repeats lead {name}", f"leads[{i}]")
        names.append(name)
    return tuple(names)


def in_millivolts(sig: np.ndarray, units: object) -> np.ndarray:
    """`sig` in `units` as a new float32 array in mV, each lead's samples side by side in memory,
    or UnservableError."""
    if units is None:
        raise UnservableError("is missing: say mV or uV", "units")
    factor = MILLIVOLTS.get(units.strip().lower()) if isinstance(units, str) else None
    if factor is None:
        raise UnservableError("must be mV or uV", "units")
    if factor == 1.0 and sig.dtype == np.float32:
        return sig.copy(order="C")
    # In double precision first: uV and mV of one recording must give the same float32.
    with np.errstate(over="ignore"):
        return (np.asarray(sig, dtype=np.float64) * factor).astype(np.float32, order="C")
