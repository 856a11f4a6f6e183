"""The versions of a refinement: each kept, accepted or not, and which is the current one.

A folder a version, `0` the one that all began with: a denoiser's run and, in `store`, its networks
as they are served. `history.json` says how each came about.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.export_generator import export_run
from training.refine.look import Bench, Look

HISTORY = "history.json"
NAME = "ldm"


@dataclass(frozen=True)
class Versions:
    """In `folder`; created from a denoiser's run where there is none yet."""

    folder: Path

    @property
    def history(self) -> dict[str, Any]:
        path = self.folder / HISTORY
        return json.loads(path.read_text()) if path.exists() else {"current": None, "versions": []}

    @property
    def current(self) -> int:
        """Errors: SystemExit where nothing was begun."""
        if (current := self.history["current"]) is None:
            raise SystemExit(f"{self.folder}: no refinement was begun here")
        return current

    def begin(self, run: Path) -> None:
        """Version 0 is that run, unless there is one already. Errors: SystemExit where it began
        with another."""
        weights = torch.load(run / "best.pt", map_location="cpu", weights_only=True)
        if not self.history["versions"]:
            known = json.loads((run / "run.json").read_text())
            self.add(known, weights, {"accepted": True, "run": str(run)})
            return
        first = torch.load(self.run(0) / "best.pt", map_location="cpu", weights_only=True)
        if weights.keys() != first.keys() or any(not w.equal(first[k]) for k, w in weights.items()):
            raise SystemExit(
                f"{self.folder} began with other weights than {run} has: take another --out"
            )

    def add(self, known: dict[str, Any], weights: dict[str, Any], said: dict[str, Any]) -> int:
        """A new version, the current one if it is `accepted`; its number."""
        history = self.history
        number = len(history["versions"])
        run = self.run(number)
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps(known, indent=1))
        torch.save(weights, run / "best.pt")
        self._tell(history, number, said)
        return number

    def judged(self, number: int, said: dict[str, Any]) -> None:
        """What became of a version: {"accepted": …}."""
        self._tell(self.history, number, said)

    def roll_back(self, number: int | None = None) -> int:
        """To the accepted version of that number, or to the one that the current one came from."""
        history = self.history
        current = self.current
        to = history["versions"][current].get("parent") if number is None else number
        if to is None:
            raise SystemExit(f"version {current} is what all began with: there is none before it")
        if not 0 <= to < len(history["versions"]) or not history["versions"][to]["accepted"]:
            raise SystemExit(f"version {to} is none that was accepted")
        history["current"] = to
        self._write(history)
        return to

    def run(self, number: int) -> Path:
        return self.folder / str(number)

    def store(self, number: int) -> Path:
        """The version as it is served, exported where it was not yet."""
        store = self.run(number) / "store"
        if not (store / NAME / "card.json").exists():
            export_run(self.run(number), f"{self._base()}+refined.{number}", NAME, store)
        return store / NAME

    def look(self, number: int, bench: Bench) -> Look:
        return Look(bench, self.run(number), self.store(number))

    def _base(self) -> str:
        known = json.loads((self.run(0) / "run.json").read_text())
        return known.get("imported", {}).get("version", "0.0.0")

    def _tell(self, history: dict[str, Any], number: int, said: dict[str, Any]) -> None:
        versions = history["versions"]
        versions[number:] = [{"version": number, "accepted": False, **said}]
        if said.get("accepted"):
            history["current"] = number
        self._write(history)

    def _write(self, history: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f"{HISTORY}.part"
        beside.write_text(json.dumps(history, indent=1) + "\n")
        beside.replace(self.folder / HISTORY)
