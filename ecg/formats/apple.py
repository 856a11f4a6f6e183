"""Apple Watch's ECG export: a header of keys and values, then one number a line.

Its keys, its words for hertz and its decimal mark are those of the phone's language, so lines are
known by their values. The header names the patient: nothing of it but fs, units and lead is taken.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import numpy as np

from ecg.errors import TooLargeError, UnreadableError, UnservableError
from ecg.formats.source import File, Hints
from ecg.leads import canonical
from ecg.record import Record, make_record

MAX_BYTES = 8 * 1024 * 1024  # 30 s at 512 Hz are 0.15 MiB
MAX_LINES = 300_000
MAX_HEADER, MAX_LINE = 16_384, 512
_SAMPLE = re.compile(r"[-+−]?\d[\d.,]{0,30}(?:[eE][-+]?\d{1,3})?")
_AROUND = ' \t\r\xa0",;'  # a number may be quoted, and a separator follow it
_HERTZ = (
    *("hertz", "hz", "hercios?", "hércios?", "herc[eůóy]?w?", "hertsi[äa]?", "χερτζ"),
    *("гц", "герц[а]?", "赫兹", "赫茲", "ヘルツ", "헤르츠", "هرتز", "הרץ", "เฮิรตซ์"),
)
_FS = re.compile(rf'[^,;\t]+[,;\t]\s*"?(\d+(?:[.,]\d+)?)\s*(?:{"|".join(_HERTZ)})', re.I)
_UNITS = re.compile(r'(?!"?[µμum]V)[^,;\t]+[,;\t]\s*"?([µμum]V)', re.I)


class _Header(NamedTuple):
    fs: str | None
    units: str | None
    lead: str | None
    n_lines: int


def matches(file: File) -> bool:
    """A text in which fs or units stand in a line of their own, above a line that is a number."""
    whole_lines = file.content[:MAX_HEADER].rpartition(b"\n")[0]
    return _header(_text(whole_lines)) is not None


def claims(file: File) -> bool:
    return False  # it claims to be CSV


def read(file: File, hints: Hints) -> list[Record]:
    """One record of one lead; hints count where the header says nothing."""
    if len(file.content) > MAX_BYTES:
        raise TooLargeError(
            f"an Apple Watch export of more than {MAX_BYTES // 2**20} MiB; they last 30 s"
        )
    if file.content.count(b"\n") > MAX_LINES:
        raise TooLargeError(f"an Apple Watch export of more than {MAX_LINES:,} lines")
    text = _text(file.content)
    header = _header(text[:MAX_HEADER])
    if header is None:
        raise UnreadableError("an Apple Watch export without samples below its header")
    lead = header.lead or (hints.leads[0] if hints.leads else "I")  # as on a wrist
    sig = _samples(text.splitlines()[header.n_lines :])
    fs, units = header.fs or hints.fs, header.units or hints.units
    return [make_record(sig[None], fs, [lead], units, limits=hints.limits)]


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # cut within a letter, or saved by a program of old
        return content.decode("latin-1")


def _header(text: str) -> _Header | None:
    """What the lines above the first number say; None where this is another kind of file."""
    fs = units = lead = None
    asked = False  # behind the line of fs no line speaks of the patient
    for i, whole in enumerate(text.splitlines()):
        line = whole[:MAX_LINE].strip(_AROUND)
        if _SAMPLE.fullmatch(line):
            return _Header(fs, units, lead, i) if i and (fs or units) else None
        if found := _FS.fullmatch(line):
            fs, asked = found[1].replace(",", "."), True
        elif found := _UNITS.fullmatch(line):
            units = found[1]
        elif asked:
            lead = canonical(re.split(r'[\s,;"]', line)[-1]) or lead
    return None


def _samples(lines: list[str]) -> np.ndarray:
    """[time], whatever the decimal mark."""
    text = "\n".join(line.strip(_AROUND) for line in lines).replace("−", "-")
    decimal, grouping = _marks(text)
    if grouping:
        text = text.replace(grouping, "")
    try:
        rows = np.loadtxt(io.StringIO(text.replace(decimal, ".")), ndmin=2, comments=None)
    except (ValueError, OverflowError):
        raise UnservableError("holds a line that is not one number", "sig") from None
    if rows.shape[1] != 1:
        raise UnservableError("holds a line of several numbers", "sig")
    return rows[:, 0]


def _marks(text: str) -> tuple[str, str]:
    """Decimal mark and thousands' mark (perhaps none). Errors: UnreadableError where the numbers
    could be meant either way."""
    if "." not in text or "," not in text:
        return ("," if "," in text else "."), ""
    for decimal, grouping in ((".", ","), (",", ".")):
        # A number with both tells; no digits may then be grouped otherwise than by three.
        told = re.search(rf"\d\{grouping}\d{{3}}\{decimal}\d", text)
        if told and not re.search(rf"\{grouping}(?!\d{{3}}(?!\d))", text):
            return decimal, grouping
    raise UnreadableError("its decimal mark and its thousands' mark cannot be told apart", "sig")
