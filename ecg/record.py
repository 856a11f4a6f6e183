"""One recording, checked once at the door and trusted inside.

A record that lasts longer than `LONG_S` keeps its samples as its file has them: 24 h of 12 leads
are 500 MB of int16, and would be twice that in float32. `Record.piece` turns as much of it into mV
as is asked for.

**How a reader makes such a record.** It checks what the header promises against the bytes that are
there, and hands `make_stored_record` a `Stored`: a function that gives the stored values of a
stretch of time, [lead, time] in any real type, and for each lead the mV of a unit and the value
that stands for 0 mV. The function is called once a piece, in order or not, from any thread, and
should view the body and not copy it:

- the samples lie side by side in one array (NPZ) or interleaved (WFDB 16, ISHNE): its transpose,
  `np.frombuffer(body, "<i2", offset=start).reshape(-1, n_leads).T`, and `Stored.of(that, ...)`;
- in data records of a second or so (EDF): `take(start, stop)` cuts the data records that the
  stretch touches out of `np.frombuffer(...).reshape(n_records, -1)`, and puts one lead's columns of
  them side by side: the copy is as long as the stretch;
- packed (WFDB 212): `take` unpacks the stretch.

What is no longer than `is_long` says goes through `make_record`, as an array of all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from ecg.errors import UnservableError
from ecg.leads import LEADS, canonical
from ecg.limits import LIMITS, Limits

LONG_S = 600.0  # from here on samples stay as they were stored, and the work goes by pieces
LARGEST_MV = 1e8  # no amplifier gives more: such a sample is damage, and counts as missing
PIECE = 1_000_000  # values looked at together where a whole record is looked at
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3}  # micro sign and Greek mu
VOLTAGES = {"v": 1e3, "nv": 1e-6, **MILLIVOLTS}  # what device files use, too


@dataclass(frozen=True)
class Meta:
    """What came with the samples. `record_id` is the sender's, echoed and never logged;
    `synthetic` if the sender says that a model made them."""

    record_id: str | None = None
    ignored_channels: tuple[str, ...] = ()
    synthetic: bool = False


@dataclass(frozen=True, eq=False)
class Stored:
    """Samples as a file holds them: mV = gain * (value - zero).

    take(start, stop): values of any real type, [lead, time]; gain: mV a unit, [lead]; zero: the
    value of 0 mV, [lead]; missing: the value that stands for no sample, if one does.
    """

    take: Callable[[int, int], np.ndarray]
    n_leads: int
    n_samples: int
    gain: np.ndarray
    zero: np.ndarray
    n_bytes: int
    missing: int | None = None

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        gain: Sequence[float],
        zero: Sequence[float] | None = None,
        missing: int | None = None,
    ) -> Stored:
        """Of an array [lead, time], which may be a view of anything."""
        n_leads, n_samples = values.shape
        at = np.zeros(n_leads) if zero is None else np.asarray(zero, dtype=np.float64)
        factor = np.asarray(gain, dtype=np.float64)
        return cls(
            lambda start, stop: values[:, start:stop],
            n_leads,
            n_samples,
            factor,
            at,
            values.nbytes,
            missing,
        )

    def piece(self, start: int, stop: int, rows: slice = slice(None)) -> np.ndarray:
        """float32 mV [lead, time] of the samples from `start` to before `stop`, NaN where one is
        missing; `rows`: of these leads alone."""
        values = self.take(start, stop)[rows]
        zero, gain = self.zero[rows, None], self.gain[rows, None]
        if values.dtype == np.float32 and not zero.any() and (gain == 1.0).all():
            sig = values.copy(order="C")
        else:  # in double precision first, as `in_millivolts` does
            with np.errstate(over="ignore", invalid="ignore"):
                exact = values.astype(np.float64, order="C")
                exact -= zero
                exact *= gain
                sig = exact.astype(np.float32)
        if self.missing is not None:
            sig[values == self.missing] = np.nan
        sig[~_there(sig)] = np.nan
        return sig


class _Sig:
    """The field `sig` of a Record. What is stored otherwise is converted whenever it is read."""

    @overload
    def __get__(self, record: None, owner: type[Record]) -> _Sig: ...
    @overload
    def __get__(self, record: Record, owner: type[Record]) -> np.ndarray: ...
    def __get__(self, record: Record | None, owner: type[Record]) -> _Sig | np.ndarray:
        if record is None:
            raise AttributeError("sig")  # so that it has no default
        samples = vars(record)["sig"]
        return samples.piece(0, samples.n_samples) if isinstance(samples, Stored) else samples

    def __set__(self, record: Record, samples: np.ndarray | Stored) -> None:
        vars(record)["sig"] = samples


@dataclass(frozen=True, eq=False)
class Record:
    """`sig` float32 mV [lead, time], NaN where a sample is missing; `fs` in Hz.

    Of a long record `sig` may be given as `Stored`. It then reads as the same array, but converts
    the whole record each time: `piece` takes what is needed of any record.
    """

    sig: _Sig = _Sig()
    fs: float  # pyright: ignore[reportGeneralTypeIssues]  # `_Sig` is no default
    leads: tuple[str, ...]  # pyright: ignore[reportGeneralTypeIssues]
    meta: Meta = Meta()

    @property
    def samples(self) -> np.ndarray | Stored:
        """`sig` as it is held."""
        return vars(self)["sig"]

    @property
    def n_samples(self) -> int:
        samples = self.samples
        return samples.n_samples if isinstance(samples, Stored) else samples.shape[1]

    @property
    def n_bytes(self) -> int:
        samples = self.samples
        return samples.n_bytes if isinstance(samples, Stored) else samples.nbytes

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.fs

    @property
    def is_long(self) -> bool:
        return is_long(self.n_samples, self.fs)

    def piece(self, start: int, stop: int, rows: slice = slice(None)) -> np.ndarray:
        """float32 mV [lead, time] from sample `start` to before `stop`; perhaps a view."""
        samples = self.samples
        if isinstance(samples, Stored):
            return samples.piece(start, stop, rows)
        return samples[rows, start:stop]


def is_long(n_samples: int, fs: float) -> bool:
    return n_samples > LONG_S * fs


def make_record(
    sig: np.ndarray,
    fs: object,
    leads: Sequence[object] | None,
    units: object,
    meta: Meta | None = None,
    limits: Limits = LIMITS,
) -> Record:
    """A Record from what a file or a request declares, or UnservableError that names the field.

    Args:
        sig: real numbers in `units`, [lead, time]; NaN, infinite or beyond any voltage where a
            sample is missing. Of a
            long record it is kept, not copied.
        fs: Hz; leads: any spelling; units: mV or uV.
    """
    if sig.ndim != 2:
        raise UnservableError(f"has {sig.ndim} dimension(s), expected [lead][time]", "sig")
    names = check_leads(leads, sig.shape[0], limits)
    rate = check_fs(fs, limits)
    check_duration(sig.shape[1], rate, limits)
    if is_long(sig.shape[1], rate):
        stored = Stored.of(sig, [millivolts_a_unit(units)] * len(names))
        return make_stored_record(stored, rate, names, meta, limits)
    limits.check_samples(sig.size, "sig")
    millivolts = in_millivolts(sig, units)
    there = _there(millivolts)
    if not there.all():
        if not there.any():
            raise UnservableError("holds no finite sample", "sig")
        millivolts[~there] = np.nan
    return Record(millivolts, rate, names, meta or Meta())


def make_stored_record(
    stored: Stored,
    fs: object,
    leads: Sequence[object] | None,
    meta: Meta | None = None,
    limits: Limits = LIMITS,
) -> Record:
    """A Record whose samples stay as they are: see above. Errors as in `make_record`."""
    names = check_leads(leads, stored.n_leads, limits)
    rate = check_fs(fs, limits)
    check_duration(stored.n_samples, rate, limits)
    width = max(1, PIECE // stored.n_leads)
    starts = range(0, stored.n_samples, width)
    if all(
        np.isnan(stored.piece(start, min(start + width, stored.n_samples))).all()
        for start in starts
    ):
        raise UnservableError("holds no finite sample", "sig")
    return Record(stored, rate, names, meta or Meta())


def _there(millivolts: np.ndarray) -> np.ndarray:
    """Where a sample is a voltage; NaN is less than nothing."""
    return np.abs(millivolts) < LARGEST_MV


def check_duration(n_samples: int, rate: float, limits: Limits = LIMITS) -> None:
    """Errors: UnservableError where so many samples at `rate` Hz are too short or too long."""
    if n_samples < limits.min_duration_s * rate:
        raise UnservableError(
            f"{n_samples} samples at {rate:g} Hz last {n_samples / rate:.2f} s; "
            f"at least {limits.min_duration_s:g} s are needed",
            "sig",
        )
    check_not_too_long(n_samples, rate, limits)


def check_not_too_long(n_samples: float, rate: float, limits: Limits = LIMITS) -> None:
    """Of what is still to be allocated. Errors: UnservableError."""
    if n_samples > limits.max_duration_s * rate:
        raise UnservableError(
            f"lasts {n_samples / rate / 3600:.4g} h; at most {limits.max_duration_s / 3600:.4g} h",
            "sig",
        )


def check_fs(fs: object, limits: Limits = LIMITS) -> float:
    """`fs` as a float in Hz, or UnservableError."""
    if fs is None:
        raise UnservableError(
            "is missing: give the sampling frequency in Hz, for example 500", "fs"
        )
    try:
        rate = float(fs)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise UnservableError("is not a number: give the sampling frequency in Hz", "fs") from None
    if isinstance(fs, bool) or not limits.min_fs <= rate <= limits.max_fs:
        raise UnservableError(f"must be between {limits.min_fs:g} and {limits.max_fs:g} Hz", "fs")
    return rate


def check_leads(
    leads: Sequence[object] | None, n_rows: int, limits: Limits = LIMITS
) -> tuple[str, ...]:
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
    check_channels(n_rows, limits, "leads")
    names: list[str] = []
    for i, given in enumerate(leads):
        name = canonical(given) if isinstance(given, str) else None
        if name is None:
            raise UnservableError(f"is not one of {', '.join(LEADS)}", f"leads[{i}]")
        if name in names:
            raise UnservableError(f"repeats lead {name}", f"leads[{i}]")
        names.append(name)
    return tuple(names)


def check_channels(n: int, limits: Limits, where: str = "") -> None:
    """Errors: UnservableError where there are more channels than are read of one record."""
    if n > limits.max_channels:
        raise UnservableError(
            f"holds {n} channels; more than {limits.max_channels} channels are not read", where
        )


def millivolts_a_unit(units: object) -> float:
    """Errors: UnservableError."""
    if units is None:
        raise UnservableError("is missing: say mV or uV", "units")
    factor = MILLIVOLTS.get(units.strip().lower()) if isinstance(units, str) else None
    if factor is None:
        raise UnservableError("must be mV or uV", "units")
    return factor


def in_millivolts(sig: np.ndarray, units: object) -> np.ndarray:
    """`sig` in `units` as a new float32 array in mV, each lead's samples side by side in memory,
    or UnservableError."""
    factor = millivolts_a_unit(units)
    if factor == 1.0 and sig.dtype == np.float32:
        return sig.copy(order="C")
    # In double precision first: uV and mV of one recording must give the same float32.
    with np.errstate(over="ignore"):
        return (np.asarray(sig, dtype=np.float64) * factor).astype(np.float32, order="C")
