"""A WFDB header, after PhysioNet's header(5): the record's line and a line a signal.

Nothing of it is believed before the signal files were found to hold what it promises, and a signal
file is a name without a path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecg.errors import UnreadableError, UnservableError
from ecg.formats.wfdb_samples import FORMATS, n_bytes, n_values
from ecg.limits import Limits
from ecg.record import check_channels, check_fs, check_not_too_long

_NUMBER = r"[-+]?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})(?:[eE][-+]?\d{1,3})?"
_RECORD = re.compile(
    rf"""(?P<name>[-\w]+) (?P<segments>/\d+)? \s+ (?P<n_signals>\d{{1,9}})
    (?: \s+ (?P<fs>{_NUMBER}) (?:/{_NUMBER} (?:\({_NUMBER}\))? )?
        (?: \s+ (?P<n_samples>\d{{1,18}}) (?:\s.*)? )? )? $""",
    re.VERBOSE,
)
# A field that is left out is one that the next does not look like; the description comes last.
_SIGNAL = re.compile(
    rf"""(?P<file>[-\w]+(?:\.[-\w]+)*) \s+ (?P<fmt>\d{{1,9}})
    (?:x(?P<per_frame>\d{{1,9}}))? (?::(?P<skew>\d{{1,18}}))? (?:\+(?P<offset>\d{{1,18}}))? (?!\S)
    (?: \s+ (?P<gain>{_NUMBER}) (?:\((?P<zero>-?\d{{1,18}})\))? (?:/(?P<unit>\S+))? (?!\S) )?
    (?: \s+ \d{{1,9}} (?!\S) )?
    (?: \s+ (?P<adc_zero>-?\d{{1,18}}) (?!\S) )?
    (?: \s+ (?P<first>-?\d{{1,18}}) (?!\S) )?
    (?: \s+ -?\d{{1,18}} (?!\S) )?
    (?: \s+ \d{{1,18}} (?!\S) )?
    (?: \s+ (?P<name>\S.*) )? $""",
    re.VERBOSE,
)
_UNSAID_FS, _UNSAID_GAIN = 250.0, 200.0  # header(5); a gain of 0 says as little


@dataclass(frozen=True)
class Signal:
    """A signal's line: mV or what `unit` says = (value - zero) / gain.

    skew: frames by which its samples lie behind the others' in the file; offset: bytes before the
    first sample of the file; first: the value that differences begin at (format 8).
    """

    file: str
    fmt: str
    per_frame: int
    skew: int
    offset: int
    gain: float
    zero: int
    unit: str
    first: int
    name: str


@dataclass(frozen=True)
class Header:
    """fs: frames a second; n_samples: frames in the record."""

    fs: float
    n_samples: int
    signals: tuple[Signal, ...]

    @property
    def n_values(self) -> int:
        return self.n_samples * sum(signal.per_frame for signal in self.signals)

    @property
    def files(self) -> dict[str, list[int]]:
        """Signal file -> the signals in it, in the order in which their samples take turns."""
        files: dict[str, list[int]] = {}
        for i, signal in enumerate(self.signals):
            files.setdefault(signal.file, []).append(i)
        return files


def parse(lines: Sequence[str], contents: Mapping[str, bytes], limits: Limits) -> Header:
    """The header whose lines, without comments, these are, and whose signal files hold `contents`.
    Errors: UnreadableError; UnservableError for what is a record, but none that is read."""
    record = _RECORD.match(lines[0]) if lines else None
    if record is None:
        raise UnreadableError("a WFDB header without a proper record line")
    if record["segments"]:
        raise UnservableError("a multi-segment WFDB record; send each segment by itself")
    if not 0 < int(record["n_signals"]) == len(lines) - 1:
        raise UnreadableError("a WFDB header that does not describe the signals it announces")
    check_channels(len(lines) - 1, limits)
    signals = tuple(_signal(line) for line in lines[1:])
    if any(signal.fmt not in FORMATS for signal in signals):
        raise UnservableError(f"a WFDB storage format that is not read: {', '.join(FORMATS)} are")
    fs = check_fs(float(record["fs"] or 0) or _UNSAID_FS, limits)
    said = Header(fs, int(record["n_samples"] or 0), signals)
    n_samples = _checked_length(said, contents)
    check_not_too_long(n_samples, fs, limits)
    return Header(fs, n_samples, signals)


def _signal(line: str) -> Signal:
    found = _SIGNAL.match(line)
    if found is None:
        raise UnreadableError("a WFDB header with a signal line that is not one")
    gain = float(found["gain"] or 0) or _UNSAID_GAIN
    per_frame = int(found["per_frame"] or 1)
    if per_frame < 1 or not math.isfinite(gain):
        raise UnreadableError("a WFDB header with an impossible number")
    adc_zero = int(found["adc_zero"] or 0)
    return Signal(
        found["file"],
        found["fmt"],
        per_frame,
        int(found["skew"] or 0),
        int(found["offset"] or 0),
        gain,
        adc_zero if found["zero"] is None else int(found["zero"]),
        found["unit"] or "mV",
        adc_zero if found["first"] is None else int(found["first"]),
        found["name"] or "",
    )


def _checked_length(header: Header, contents: Mapping[str, bytes]) -> int:
    """Frames: what the record's line says, or else what the first file holds; refused where a file
    is too short for them."""
    n_samples = header.n_samples
    for name, inside in header.files.items():
        first, *others = (header.signals[i] for i in inside)
        if any(other.fmt != first.fmt for other in others):
            raise UnreadableError("a WFDB header with several storage formats in one file")
        a_frame = sum(header.signals[i].per_frame for i in inside)
        held = len(contents[name]) - first.offset
        if not n_samples:
            n_samples = n_values(first.fmt, held) // a_frame
        if n_bytes(first.fmt, n_samples * a_frame) > held:
            raise UnreadableError(
                f"the header promises {n_samples} samples; the signal file is too short for them"
            )
        if max(header.signals[i].skew for i in inside) > n_samples:
            raise UnreadableError("the header shifts a signal by more than its length")
    return n_samples
