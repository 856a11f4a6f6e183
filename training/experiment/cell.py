"""A cell of the grid: what one process makes from files, and where it is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CELL, DONE, LOG, LOCK = "cell.json", "done.json", "log.txt", "lock"
UNSENT = ("checkpoint.pt", "log", LOG, LOCK)  # what no other cell needs of one


@dataclass(frozen=True)
class Cell:
    """`kind` is one of `training.experiment.kinds`; `settings` are JSON; `needs` are the cells from
    whose files it is made. Its name follows from all of these, so a cell is made once."""

    kind: str
    settings: str
    needs: tuple[Cell, ...] = ()

    @property
    def name(self) -> str:
        said = json.dumps([self.kind, self.settings, [cell.name for cell in self.needs]])
        return f"{self.kind}-{hashlib.sha256(said.encode()).hexdigest()[:10]}"

    def is_done(self, folder: Path) -> bool:
        return (folder / self.name / DONE).exists()


def cell(kind: str, *needs: Cell, **settings: Any) -> Cell:
    return Cell(kind, json.dumps(settings, sort_keys=True), needs)


def begin(one: Cell, folder: Path) -> Path:
    """The cell's own folder, with what it is in it."""
    inside = folder / one.name
    inside.mkdir(parents=True, exist_ok=True)
    described = {
        "kind": one.kind,
        "settings": json.loads(one.settings),
        "needs": [need.name for need in one.needs],
    }
    (inside / CELL).write_text(json.dumps(described, indent=1))
    return inside


def with_needs(cells: list[Cell]) -> list[Cell]:
    """All that must be made for these, each once, needs first."""
    found: dict[Cell, None] = {}

    def visit(one: Cell) -> None:
        for need in one.needs:
            visit(need)
        found.setdefault(one)

    for one in cells:
        visit(one)
    return list(found)
