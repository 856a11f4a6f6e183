"""The walk along the chain: whether every row is the one that was written, where it was written.

Rows come one at a time and are let go of, so a chain of any length takes the same memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from service.audit.chain import START, Head, Key, Row, digest

SEAL = "audit.seal"  # the action of a row that says up to where rows were exported and deleted
ANCHOR = re.compile(r"(\d+):([0-9a-f]{64})")


class Broken(Exception):
    """What is wrong with the chain, and where first."""


@dataclass
class Report:
    """Of a chain that is whole."""

    n_rows: int = 0
    first: int | None = None
    head: Head = START
    by_key: dict[int, int] = field(default_factory=dict)  # rows under each key of the file
    n_anchors: int = 0


def verify(
    rows: Iterable[Row],
    keys: Sequence[Key] = (None,),
    anchors: dict[int, str] | None = None,
    *,
    excerpt: bool = False,
) -> Report:
    """Walk the chain, one row after the other; or an excerpt of it, that need not begin at the
    first row nor end under the newest key. `anchors`: hashes by seq, as they were known at some
    time. Errors: Broken."""
    report = Report()
    left = dict(anchors or {})
    base: Row | None = None  # the first row, if it is not the chain's first
    sealed = START
    key = 0
    for row in rows:
        if report.first is None:
            report.first = row.seq
            if row.seq != 1:
                base = row
                report.head = Head(row.seq - 1, row.previous)
        _check_place(row, report.head)
        key = _key_of(row, keys, key)
        if row.seq in left and left.pop(row.seq) != row.hash:
            raise Broken(
                f"row {row.seq}: the anchor knows it with another hash; "
                "the chain was written anew up to here"
            )
        if row.action == SEAL and (found := ANCHOR.fullmatch(row.about or "")):
            sealed = max(sealed, Head(int(found[1]), found[2]))
        report.n_rows += 1
        report.by_key[key] = report.by_key.get(key, 0) + 1
        report.head = Head(row.seq, row.hash)
    if not excerpt:
        _check_beginning(base, sealed)
        _check_end(report, left, newest=key == len(keys) - 1)
    report.n_anchors = len(anchors or {}) - len(left)
    return report


def _check_place(row: Row, head: Head) -> None:
    """Errors: Broken where the row does not follow `head`."""
    if row.seq > head.seq + 1:
        missing = f"row {head.seq + 1} is" if row.seq == head.seq + 2 else (
            f"rows {head.seq + 1} to {row.seq - 1} are"
        )  # fmt: skip
        raise Broken(f"{missing} missing")
    if row.seq <= head.seq:
        raise Broken(f"row {row.seq}: comes after row {head.seq}; it was put in, or moved")
    if row.previous != head.hash:
        raise Broken(
            f"row {row.seq}: does not follow row {head.seq} as it stands; "
            "one of them was altered, put in or moved"
        )


def _key_of(row: Row, keys: Sequence[Key], likely: int) -> int:
    """Which key the row's hash is under. Errors: Broken."""
    for i in (likely, *range(len(keys))):
        if digest(row, keys[i]) == row.hash:
            return i
    raise Broken(
        f"row {row.seq}: its hash does not fit its content; it was altered, put in or moved"
    )


def _check_beginning(base: Row | None, sealed: Head) -> None:
    """Errors: Broken where there is no first row, and no seal that says why. A seal that goes
    further than what is deleted is one that was interrupted."""
    if base is not None:
        before = Head(base.seq - 1, base.previous)
        if sealed.seq < before.seq or (sealed.seq == before.seq and sealed != before):
            raise Broken(f"rows before row {base.seq} are missing, and no seal accounts for them")


def _check_end(report: Report, left: dict[int, str], newest: bool) -> None:
    """Errors: Broken."""
    if late := [seq for seq in left if seq > report.head.seq]:
        raise Broken(
            f"rows {report.head.seq + 1} to {max(late)} are missing at the end: an anchor knows one"
        )
    if report.n_rows and not newest:
        raise Broken(
            f"row {report.head.seq}, the last one, is not under the newest key; if the key is new, "
            "have one request recorded first"
        )
