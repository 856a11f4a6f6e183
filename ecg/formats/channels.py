"""Channels of a device's file -> one Record: leads on a common time axis, the others named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg.errors import UnreadableError, UnservableError
from ecg.leads import canonical
from ecg.limits import Limits
from ecg.record import (
    VOLTAGES,
    Meta,
    Record,
    check_channels,
    check_fs,
    check_not_too_long,
    in_millivolts,
    make_record,
)

MAX_IGNORED = 32  # names echoed in an answer
MAX_SPREAD = 8  # times the longest lead: how far apart leads may begin
CHUNK = 1 << 20
NEAR = 2e-4  # how far a written interval may be off a whole number of Hz: a third digit lost
MICROVOLTS = {
    **{unit: 1e3 * factor for unit, factor in VOLTAGES.items()},
    "microvolts": 1.0,
    "millivolts": 1e3,
}
# A name out of a file is only repeated where it is one that channels have: it could be anyone's.
_LEAD = (
    r"I{1,3}|-?aV[RLF](?:NEG)?|[VC]\d{0,2}[RL]?|[DAJXYZ]|V[XYZ]|[AE][SI1-4]|C[CMS]5|MCL\d"
    r"|ML(?:I|II|III)"
)
_SITE = r"(?:(?:FP|AF|FC|FT|CP|TP|PO|[FCTPOMANE])(?:Z|\d{1,2})|[LR]OC)"
_OTHER = (
    r"RESP|PACE|PLETH|ABP|ART|CVP|PAP|ICP|N?IBP|S[pa]O2|(?:ET)?CO2|PULSE|TEMP|HR|PR|STATUS|EVENTS?"
    r"|MARKER|TRIGGER|ACC[XYZ]?|AIRFLOW|FLOW|SNORE|POSITION|THOR|ABDO|CHEST|BATTERY"
)
_KNOWN = re.compile(
    rf"(?:(?:MDC_(?:ECG_(?:LEAD|ELEC_POTL)_)?|E[CK]G |LEAD |ECG LEAD )?(?:{_LEAD}|{_OTHER})"
    rf"|(?:E[CKEMO]G)(?: {_SITE}(?:-{_SITE})?)?"
    # a code of the nomenclature's partition 2, and a place in FHIR
    r"|MDC 1[3-9]\d{4}|(?:(?:entry|contained|component)\[\d{1,7}\](?:\.resource)?\.?)+)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Channel:
    """`sig` float32 mV [time], from sample `start` on; `name` as the file spells it."""

    name: str
    sig: np.ndarray
    start: int = 0


def scaled(counts: np.ndarray, microvolts: float, origin: float = 0.0) -> np.ndarray:
    """Counts of `microvolts` each, zero at `origin` uV, as float32 mV: in double precision up to
    there, so that formats that hold the same counts give the same bits."""
    out = np.empty(len(counts), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, len(counts), CHUNK):
            piece = counts[at : at + CHUNK].astype(np.float64) * microvolts
            out[at : at + CHUNK] = in_millivolts(piece + origin if origin else piece, "uV")
    return out


def fs_of_interval(seconds: float) -> float:
    """Hz, whole where the interval was written with too few digits for it (3.333 ms: 300 Hz)."""
    if not 0 < seconds < np.inf:
        raise UnservableError("is missing: the interval between samples must be positive", "fs")
    rate = 1 / seconds
    return float(round(rate)) if rate < 1e6 and abs(rate - round(rate)) < NEAR * rate else rate


def to_record(channels: Sequence[Channel], fs: object, limits: Limits) -> Record:
    """One Record; a lead may come in several pieces, and is NaN where it has none.

    Errors: UnservableError where no channel is a lead, one comes twice, or fs is impossible;
    UnreadableError where leads lie too far apart to belong together.
    """
    rate = check_fs(fs, limits)
    check_channels(len(channels), limits)
    pieces: dict[str, list[Channel]] = {}
    for channel in channels:
        if (lead := canonical(channel.name)) is not None:
            pieces.setdefault(lead, []).append(channel)
    if not pieces:
        raise UnservableError("none of the channels is one of the twelve leads", "leads")
    others = [(i, c.name) for i, c in enumerate(channels, start=1) if canonical(c.name) is None]
    meta = Meta(None, ignored_names(others))
    placed = [piece for of_lead in pieces.values() for piece in of_lead]
    first = min(piece.start for piece in placed)
    span = max(piece.start + len(piece.sig) for piece in placed) - first
    if span > MAX_SPREAD * max(sum(len(p.sig) for p in ps) for ps in pieces.values()):
        raise UnreadableError("holds leads that begin too far apart to be of one recording")
    check_not_too_long(span, rate, limits)
    limits.check_samples(span * len(pieces), "sig")
    sig = np.full((len(pieces), span), np.nan, dtype=np.float32)
    for row, (lead, of_lead) in enumerate(pieces.items()):
        end = 0
        for piece in sorted(of_lead, key=lambda p: p.start):
            start = piece.start - first
            if start < end:
                raise UnservableError(f"repeats lead {lead}", "leads")
            end = start + len(piece.sig)
            sig[row, start:end] = piece.sig
    return make_record(sig, rate, list(pieces), "mV", meta, limits)


def is_known(name: str) -> bool:
    """Whether it is a channel's usual name, and so nobody's."""
    return _KNOWN.fullmatch(name.strip()) is not None


def ignored_names(channels: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """What to call channels that are not read, given as their place in the file, from 1 on, and
    their name, without repeating what may be a patient's."""
    kept = [
        name.strip() if is_known(name) else f"channel {place}"
        for place, name in channels[:MAX_IGNORED]
    ]
    more = len(channels) - MAX_IGNORED
    return (*dict.fromkeys(kept), *([f"{more} more"] if more > 0 else []))
