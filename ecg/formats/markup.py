"""XML as devices write it: no entity, no DTD and no network, bounded, names without namespaces."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element  # nosec B405  # a type: defusedxml parses

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, XMLParser

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.limits import Limits

MAX_TOKEN = 2 * 1024 * 1024  # a tag or a comment; the parser holds it whole
SNIFFED = 65_536
FED = 65_536  # bytes at a time
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")
_NAME = re.compile(r"<(?:[\w.-]{1,64}:)?([A-Za-z_][\w.-]{0,64})[\s/>]")
_ENDS = {"<?": "?>", "<!--": "-->", "<!": ">"}


def root_name(content: bytes) -> str | None:
    """The name of the outermost element, out of the first bytes; None where it is not XML."""
    text = _head(content)
    at = 0
    while at < len(text):
        at = len(text) - len(text[at:].lstrip())
        opening = next((o for o in ("<?", "<!--", "<!") if text.startswith(o, at)), None)
        if opening is None:
            match = _NAME.match(text, at)
            return match[1] if match else None
        closing = "]>" if opening == "<!" and "[" in text[at : text.find(">", at)] else None
        end = text.find(closing or _ENDS[opening], at)
        if end < 0:
            return None
        at = end + len(closing or _ENDS[opening])
    return None


def parse(content: bytes, limits: Limits) -> Element:
    """The outermost element, tags and attributes without their namespaces.

    Files are often in another encoding than they declare; what is read of them is ASCII, so that
    one that fits every byte does for the rest. Errors: UnreadableError, TooLargeError.
    """
    encodings = [None] if content.startswith(_UTF16) else [None, "utf-8", "iso-8859-1"]
    for encoding in encodings:
        try:
            return _parsed(content, encoding, limits)
        except EcgError:
            raise
        except DefusedXmlException:
            raise UnreadableError("XML that declares entities, which are never read") from None
        except (ParseError, ValueError, LookupError):
            continue
        except Exception:  # as any library, on bytes that are not what they claim
            break
    raise UnreadableError("not well-formed XML")


def text(element: Element | None, path: str) -> str:
    """The text of the first element at `path`, without white space around it; "" if none."""
    return "" if element is None else (element.findtext(path) or "").strip()


def attribute(element: Element | None, path: str, name: str) -> str:
    found = None if element is None else element.find(path)
    return "" if found is None else found.get(name, "").strip()


def from_base64(text: str) -> bytes:
    """Errors: ValueError."""
    packed = text.encode("ascii").translate(None, b" \t\r\n\f\v")  # `split` would make words of it
    return base64.b64decode(packed, validate=True)


def number(value: str, where: str) -> float:
    """A number that the file must hold, or UnservableError naming what it is."""
    try:
        return float(value)
    except ValueError:
        what = "is not a number" if value else "is missing in the file"
        raise UnservableError(what, where) from None


class _Builder:
    """Elements as they come, counted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: list[Element] = []
        self.root: Element | None = None
        self.count = 0
        self.texts: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._flush()
        self.count += 1 + len(attributes)
        if self.count > self.limits.max_xml_elements:
            most = f"{self.limits.max_xml_elements:,}"
            raise TooLargeError(f"XML of more than {most} elements and attributes")
        if len(self.open) >= self.limits.max_depth:
            raise TooLargeError(f"XML of elements nested deeper than {self.limits.max_depth}")
        plain = {_local(name): value for name, value in attributes.items()}
        element = Element(_local(tag), plain)
        if self.open:
            self.open[-1].append(element)
        else:
            self.root = element
        self.open.append(element)

    def data(self, data: str) -> None:
        self.texts.append(data)

    def end(self, tag: str) -> None:
        self._flush()
        self.open.pop()

    def close(self) -> Element:
        assert self.root is not None
        return self.root

    def _flush(self) -> None:
        """What came since the last tag is the open element's, up to its first child."""
        if self.texts and self.open and not len(self.open[-1]):
            self.open[-1].text = (self.open[-1].text or "") + "".join(self.texts)
        self.texts.clear()


def _parsed(content: bytes, encoding: str | None, limits: Limits) -> Element:
    parser = XMLParser(target=_Builder(limits), encoding=encoding, forbid_dtd=False)
    for at in range(0, len(content), FED):
        parser.feed(content[at : at + FED])
        if at - parser.parser.CurrentByteIndex > MAX_TOKEN:
            raise TooLargeError(f"XML of a tag or a comment longer than {MAX_TOKEN // 2**20} MiB")
    return parser.close()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _head(content: bytes) -> str:
    head = content[:SNIFFED]
    if head.startswith(_UTF16):
        order = "utf-16-be" if head[:2] in (b"\xfe\xff", b"\x00<") else "utf-16-le"
        return head.decode(order, "ignore").lstrip("\ufeff")
    return head.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
