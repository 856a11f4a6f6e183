"""Runs by slices: resumed where they were, and findings made small in processes that may die."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests import campaign


def arguments(results: Path, slices: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    campaign.add_arguments(parser, n=10)
    return parser.parse_args(["--seed", "5", "--slices", str(slices), "--results", str(results)])


def test_slices_that_are_there_are_not_run_again(tmp_path: Path) -> None:
    run: list[int] = []

    def one(seed: int) -> dict[str, Any]:
        run.append(seed)
        if seed == 7:
            raise KeyboardInterrupt
        return {"cases": 10, "wrong": []}

    with pytest.raises(KeyboardInterrupt):
        list(campaign.go_through(arguments(tmp_path, 4), "x", one))
    assert run == [5, 6, 7]
    results = list(campaign.go_through(arguments(tmp_path, 2), "x", one))
    assert run == [5, 6, 7] and [r["seed"] for r in results] == [5, 6]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-5-10.json", "x-6-10.json"]


def test_what_does_not_matter_is_left_out_of_a_finding() -> None:
    content = bytes(range(256)) * 4
    kept = campaign.smaller(content, lambda one: b"\x10" in one and one.endswith(b"\xff"))
    assert kept == b"\x10\xff"


def test_what_kills_or_hangs_a_process_is_told() -> None:
    assert campaign.apart(lambda: "fine") == "fine"
    assert campaign.apart(lambda: os._exit(7)) == "its process ended with 7"  # type: ignore[arg-type]
    assert campaign.apart(lambda: str(time.sleep(60)), limit_s=0.5) == "hangs"
