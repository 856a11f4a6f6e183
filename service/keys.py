"""API keys, made and ended: python -m service.keys create --name "MUSE bridge" --scopes classify"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from service.access import keyring
from service.access.scopes import SCOPES
from service.database import connect, upgrade
from service.settings import Settings

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: there is no such key, or the database failed; 2: asked wrongly."""
    asked = _parser().parse_args(arguments)
    try:
        engine = connect(Settings().database_url)
        upgrade(engine)
        return asked.do(engine, asked)
    except (SQLAlchemyError, ValidationError, ValueError) as error:
        kind = type(getattr(error, "orig", None) or error).__name__
        _say(f"the database of ECG_DATABASE_URL could not be used: {kind}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.keys",
        description="Keys are kept in the database that ECG_DATABASE_URL names, as hashes. A "
        "service that uses it knows of a change within ECG_KEYS_CACHE_S.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="a new key, told once, on standard output")
    create.set_defaults(do=_create)
    create.add_argument("--name", type=_name, required=True, help="whose it is, for the list")
    create.add_argument(
        "--scopes",
        type=_scopes,
        required=True,
        help=f"what it may ask, separated by commas: {', '.join(sorted(SCOPES))}",
    )
    create.add_argument("--expires", type=_span, metavar="SPAN", help="90d, 12h, 30m; else never")
    create.add_argument("--per-minute", type=_count, metavar="N", help="requests, else 429")
    create.add_argument("--at-once", type=_count, metavar="N", help="requests, else 429")

    listing = verbs.add_parser("list", help="every key, without its secret")
    listing.set_defaults(do=_list)

    revoke = verbs.add_parser("revoke", help="end a key")
    revoke.set_defaults(do=_revoke)
    revoke.add_argument("id", metavar="ID")

    rotate = verbs.add_parser("rotate", help="a new key in the place of one, which ends later")
    rotate.set_defaults(do=_rotate)
    rotate.add_argument("id", metavar="ID")
    rotate.add_argument(
        "--grace",
        type=_span,
        metavar="SPAN",
        default=timedelta(days=1),
        help="in which the old one still opens; 1d where nothing is said",
    )
    rotate.add_argument("--expires", type=_span, metavar="SPAN", help="of the new one; else never")
    return parser


def _create(engine: Engine, asked: argparse.Namespace) -> int:
    expires = datetime.now(UTC) + asked.expires if asked.expires else None
    key, text = keyring.create(
        engine, asked.name, asked.scopes, expires, asked.per_minute, asked.at_once
    )
    _say(f"key {key.id}, {_until(expires)}; this is the only time that it is shown:")
    print(text)
    return 0


def _list(engine: Engine, _: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    heads = ("ID", "STATE", "CREATED", "EXPIRES", "PER MINUTE", "AT ONCE", "SCOPES", "NAME")
    rows = [heads] + [
        (
            key.id,
            key.state(now),
            _day(key.created),
            _day(key.expires),
            str(key.per_minute or "-"),
            str(key.at_once or "-"),
            ",".join(sorted(key.scopes)),
            key.name,
        )
        for key in keyring.all_of(engine)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())
    return 0


def _revoke(engine: Engine, asked: argparse.Namespace) -> int:
    if not keyring.revoke(engine, asked.id):
        return _no_such(asked.id)
    _say(f"key {asked.id} is revoked")
    return 0


def _rotate(engine: Engine, asked: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    found = [key for key in keyring.all_of(engine) if key.id == asked.id]
    if not found or found[0].state(now) != "valid":
        return _no_such(asked.id)
    text = keyring.rotate(engine, found[0], asked.grace, asked.expires)
    _say(f"key {asked.id} opens for another {asked.grace}; this, shown only now, replaces it:")
    print(text)
    return 0


def _no_such(id: str) -> int:  # noqa: A002
    _say(f"there is no valid key {id}: see `python -m service.keys list`")
    return 1


def _name(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text) <= 200:
        raise argparse.ArgumentTypeError("must be 1 to 200 printable characters")
    return text


def _scopes(text: str) -> frozenset[str]:
    scopes = frozenset(word.strip() for word in text.split(","))
    if unknown := scopes - SCOPES:
        offered = ", ".join(sorted(SCOPES))
        raise argparse.ArgumentTypeError(f"no scope {sorted(unknown)[0]!r}; there are {offered}")
    return scopes


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number of days, hours or minutes: 90d, 12h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,6}", text):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 9999999")
    return int(text)


def _until(expires: datetime | None) -> str:
    return f"valid until {expires:%Y-%m-%d %H:%M} UTC" if expires else "valid until it is revoked"


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "-"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
