"""Presets are TOML tables; `--set table.key=value` changes one entry; the result is saved."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PRESETS = Path(__file__).parent / "presets"


def add_arguments(parser: argparse.ArgumentParser, model: str) -> None:
    """`--preset`, `--set` and `--dry-run`, the same for every command that trains."""
    names = sorted(p.stem.removeprefix(f"{model}-") for p in PRESETS.glob(f"{model}-*.toml"))
    parser.add_argument("--preset", choices=names, default="cpu")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", dest="overrides"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the configuration and stop")


def load(cls: type[T], model: str, preset: str, overrides: list[str]) -> T:
    """The preset's tables, changed by `overrides`, as the dataclass of dataclasses `cls`.

    Errors: SystemExit that names an unknown table or key.
    """
    tables = tomllib.loads((PRESETS / f"{model}-{preset}.toml").read_text())
    for override in overrides:
        path, _, value = override.partition("=")
        table, _, key = path.partition(".")
        if not key or not value:
            raise SystemExit(f"--set {override}: expected TABLE.KEY=VALUE")
        tables.setdefault(table, {})[key] = _value(value)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := set(tables) - set(fields):
        raise SystemExit(f"unknown table {unknown.pop()!r}; there are {', '.join(fields)}")
    return cls(
        **{
            name: fill(field.default_factory, f"[{name}]", tables.get(name, {}))  # type: ignore
            for name, field in fields.items()
        }
    )


def fill(cls: type[T], name: str, values: Mapping[str, Any]) -> T:
    """The dataclass `cls` with these values. Errors: SystemExit that names what does not fit."""
    try:
        made = cls(**values)
    except TypeError as error:
        raise SystemExit(f"{name}: {error}") from None
    for key, value in values.items():
        if not _fits(value, default := getattr(cls(), key)):
            raise SystemExit(f"{name} {key}: {value!r} should be like {default!r}")
    return made


def dump(config: Any) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2)


def _fits(value: Any, default: Any) -> bool:
    if default is None or type(value) is type(default):
        return True
    return (type(value), type(default)) in ((int, float), (list, tuple))


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
