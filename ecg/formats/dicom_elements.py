"""DICOM's bytes -> the few elements that a waveform needs (PS3.5 chapter 7, PS3.10 chapter 7).

Our own, not pydicom's reader: a file of nothing but tiny elements takes that minutes and gigabytes,
and it warns of odd values by quoting them, which may be a patient's, through warnings that all
threads share. Here every element is counted, most are stepped over, and no sample is copied.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ecg.errors import TooLargeError, UnreadableError
from ecg.limits import Limits

PREAMBLE_BYTES = 128
MAX_TEXT = 256

_KEYWORDS = (
    *("MediaStorageSOPClassUID", "SOPClassUID", "SyntheticData", "WaveformSequence"),
    *("MultiplexGroupTimeOffset", "WaveformOriginality", "NumberOfWaveformChannels"),
    *("NumberOfWaveformSamples", "SamplingFrequency", "MultiplexGroupLabel"),
    *("ChannelDefinitionSequence", "WaveformBitsAllocated", "WaveformSampleInterpretation"),
    *("WaveformPaddingValue", "WaveformData", "ChannelLabel", "ChannelSourceSequence"),
    *("ChannelSensitivity", "ChannelSensitivityUnitsSequence", "ChannelBaseline"),
    *("ChannelSensitivityCorrectionFactor", "CodeValue", "LongCodeValue", "CodeMeaning"),
)
_WANTED = {tag: keyword for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None}
_SEQUENCES = {tag for tag in _WANTED if dictionary_VR(tag) == "SQ"}
_LAST = tag_for_keyword("WaveformSequence") or 0  # what comes behind it is never looked at
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_META_GROUP_LENGTH, _TRANSFER_SYNTAX = 0x00020000, 0x00020010
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT"}
_LONG_VRS |= {b"UV"}
_SHORT_VRS = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"}
_SHORT_VRS |= {b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
_DAMAGED = "a DICOM file that is truncated or damaged"

Order = Literal["little", "big"]


class Item:
    """A data set, or an item of a sequence: values by their keyword, of those that are wanted."""

    def __init__(self, order: Order) -> None:
        self.order: Order = order
        self.values: dict[str, memoryview | list[Item]] = {}

    def raw(self, keyword: str) -> memoryview:
        """The bytes of a value; none where it is absent."""
        value = self.values.get(keyword)
        return value if isinstance(value, memoryview) else memoryview(b"")

    def items(self, keyword: str) -> list[Item]:
        value = self.values.get(keyword)
        return value if isinstance(value, list) else []

    def text(self, keyword: str) -> str:
        """The first value, without padding; empty where it is absent."""
        first = bytes(self.raw(keyword)[:MAX_TEXT]).split(b"\\")[0]
        try:
            text = first.decode()
        except UnicodeDecodeError:  # a micro sign, mostly
            text = first.decode("latin-1")
        return text.strip(" \0\t\r\n")

    def number(self, keyword: str) -> float | None:
        """A decimal string. Errors: UnreadableError where it is no number."""
        text = self.text(keyword)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UnreadableError("is not a number", keyword)
        return value

    def integer(self, keyword: str) -> int | None:
        """An unsigned binary integer of 2 or 4 bytes."""
        raw = self.raw(keyword)
        if not len(raw):
            return None
        if len(raw) not in (2, 4):
            raise UnreadableError("is not an integer of 2 or 4 bytes", keyword)
        return int.from_bytes(raw, self.order)


def data_set(content: bytes, limits: Limits) -> Item:
    """The elements of a file, with or without preamble and file meta information.

    Errors: UnreadableError; TooLargeError before more is inflated than may be.
    """
    body = memoryview(content)
    start = PREAMBLE_BYTES + 4 if body[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM" else 0
    start, syntax, media_class = _file_meta(body, start, limits)
    if syntax == DeflatedExplicitVRLittleEndian:
        body, start = memoryview(_inflated(body[start:], limits)), 0
    explicit, order = _encoding(body, start)
    found, _ = _Walk(body, order, limits).elements(start, len(body), explicit, 0)
    if media_class and "SOPClassUID" not in found.values:
        found.values["SOPClassUID"] = media_class
    return found


def _file_meta(body: memoryview, start: int, limits: Limits) -> tuple[int, str, memoryview | None]:
    """Where the data set begins, its transfer syntax, and the SOP class that is spoken of."""
    walk = _Walk(body, "little", limits)
    at, end, syntax = start, len(body), ""
    media_class = None
    while at + 8 <= end and body[at : at + 2] == b"\x02\0":
        tag, _, length, at = walk.header(at, end, explicit=True)
        if length > end - at:
            raise UnreadableError(_DAMAGED)
        value = body[at : at + length]
        at += length
        if tag == _META_GROUP_LENGTH and length == 4:
            end = min(end, at + int.from_bytes(value, "little"))
        elif tag == _TRANSFER_SYNTAX:
            syntax = bytes(value[:64]).decode("ascii", "replace").strip(" \0")
        elif _WANTED.get(tag) == "MediaStorageSOPClassUID":
            media_class = value
    return at, syntax, media_class


def _inflated(packed: memoryview, limits: Limits) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = inflate.decompress(packed, max(limits.max_unpacked, 1))
    except zlib.error:
        raise UnreadableError(_DAMAGED) from None
    if inflate.unconsumed_tail:
        limits.check_unpacked(limits.max_unpacked + 1)
    return unpacked


def _encoding(body: memoryview, at: int) -> tuple[bool, Order]:
    """Whether VRs are written, and the byte order. Taken from the first element, not from the
    transfer syntax, with which files do not always agree: its group is small, and its VR, if there
    is one, would be an impossible length."""
    first = bytes(body[at : at + 8])
    order: Order = "big" if first[:1] == b"\0" and first[1:2] != b"\0" else "little"
    return first[4:6] in _LONG_VRS | _SHORT_VRS, order


class _Walk:
    """One pass over the elements, each counted, whichever sequence it is in."""

    def __init__(self, body: memoryview, order: Order, limits: Limits) -> None:
        self.body = body
        self.limits = limits
        self.order: Order = order
        mark = "<" if order == "little" else ">"
        self.tag_and_length = struct.Struct(f"{mark}HHL").unpack_from
        self.long = struct.Struct(f"{mark}L").unpack_from
        self.short = struct.Struct(f"{mark}H").unpack_from
        self.left = limits.max_dicom_elements

    def header(self, at: int, end: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty where none is written), length, and where the value begins."""
        self.left -= 1
        if self.left < 0:
            raise TooLargeError(f"holds more than {self.limits.max_dicom_elements:,} elements")
        group, element, length = self.tag_and_length(self.body, at)
        tag = group << 16 | element
        vr = bytes(self.body[at + 4 : at + 6]) if explicit else b""
        if vr in _LONG_VRS:
            if at + 12 > end:
                raise UnreadableError(_DAMAGED)
            return tag, vr, self.long(self.body, at + 8)[0], at + 12
        if vr in _SHORT_VRS:
            return tag, vr, self.short(self.body, at + 6)[0], at + 8
        return tag, b"", length, at + 8  # items, and elements that a writer left implicit

    def elements(self, at: int, end: int, explicit: bool, depth: int) -> tuple[Item, int]:
        """The wanted elements up to `end`, or to the end of an item of undefined length."""
        if depth > self.limits.max_depth:
            most = self.limits.max_depth
            raise TooLargeError(f"a DICOM file of sequences nested deeper than {most}")
        found = Item(self.order)
        while at + 8 <= end:
            tag, vr, length, at = self.header(at, end, explicit)
            if tag in (_ITEM_END, _SEQUENCE_END) or depth == 0 and tag > _LAST:
                break
            if length != _UNDEFINED and length > end - at:
                raise UnreadableError(_DAMAGED)
            if length == _UNDEFINED or tag in _SEQUENCES:
                stop = end if length == _UNDEFINED else at + length
                # What a writer did not know (UN) it kept as it was sent, which is implicit.
                value, after = self.items(at, stop, explicit and vr != b"UN", depth + 1)
                at = after if length == _UNDEFINED else stop
            else:
                value = self.body[at : at + length]
                at += length
            if tag in _WANTED:
                found.values[_WANTED[tag]] = value
        return found, at

    def items(self, at: int, end: int, explicit: bool, depth: int) -> tuple[list[Item], int]:
        """Those of a sequence, up to `end` or to its delimiter."""
        items: list[Item] = []
        while at + 8 <= end:
            tag, _, length, at = self.header(at, end, explicit=False)
            if tag == _SEQUENCE_END:
                return items, at
            if tag != _ITEM or length != _UNDEFINED and length > end - at:
                raise UnreadableError(_DAMAGED)
            item, after = self.elements(
                at, end if length == _UNDEFINED else at + length, explicit, depth
            )
            at = after if length == _UNDEFINED else at + length
            items.append(item)
        return items, at
