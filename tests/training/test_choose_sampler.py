"""Samplers beside each other, and the one that is taken: a card with other noise levels, the same
weights, and no figure that is another sampler's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ecg.store import DENOISER, load_generator
from tests.ecg import fake_generator, fake_model
from tests.training.commands import command
from training.shards import Shard, save


@pytest.fixture
def run(tmp_path: Path, a_shard: Callable[..., Shard]) -> Callable[..., str]:
    """The command, over a store and a shard of noise in `tmp_path`."""
    fake_generator.store(tmp_path / "store" / "ldm")
    fake_model.store(tmp_path / "store" / "prednet")
    save(a_shard(n=60, source="ptb-xl"), tmp_path / "ptb-xl.npz")

    def given(*more: object) -> str:
        where = ("--store", tmp_path / "store", "--data", tmp_path, "--out", tmp_path / "out")
        return command("choose_sampler", *where, "--workers", 1, *more, preset=None)

    return given


def rows_of(told: str) -> dict[int, list[str]]:
    """{row: its cells after the number of calls}."""
    lines = [line.split() for line in told.splitlines()[1:]]
    return {int(line[0].rstrip("*")): line[1:] for line in lines}


def test_samplers_are_compared_once_and_one_is_taken(
    run: Callable[..., str], tmp_path: Path
) -> None:
    told = run("--num-steps", 2, 3, "--guided-above", 1.0)
    rows = rows_of(told)
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["2", "3", "1*"]
    assert {n: (row[0], row[1], row[6]) for n, row in rows.items()} == {
        1: ("10", "5", "0"), 2: ("3", "2", "1"), 3: ("5", "3", "1"),
    }  # fmt: skip
    distances = {n: float(row[7]) for n, row in rows.items()}
    assert min(distances.values()) > 0 and len(set(distances.values())) == 3
    assert rows_of(run("--num-steps", 3, "--guided-above", 1.0)) == rows, "made again, or otherwise"

    before = (tmp_path / "store" / "ldm" / DENOISER).read_bytes()
    assert "3 network calls" in run("--take", 2, "--version", "0.1.0")
    card = load_generator(tmp_path / "store" / "ldm").card
    assert (card.version, card.diffusion.num_steps) == ("0.1.0", 2)
    assert card.diffusion.guidance_interval == (1.0, 80.0)
    assert (tmp_path / "store" / "ldm" / DENOISER).read_bytes() == before
    assert "0.1.0" in (tmp_path / "store" / "README.md").read_text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--take", 4, "--version", "1"), "rows 1 to 2"),
        (("--take", 1), "--version"),
        (("--sigma-max", 0.001), "sigma_min below sigma_max"),
        (("--name", "none"), "no card"),
    ],
)
def test_what_cannot_be_done_is_refused(
    run: Callable[..., str], tmp_path: Path, asked: tuple, said: str
) -> None:
    run("--num-steps", 1)
    before = (tmp_path / "store" / "ldm" / "card.json").read_bytes()
    with pytest.raises(AssertionError, match=said):
        run(*asked)
    assert (tmp_path / "store" / "ldm" / "card.json").read_bytes() == before


def test_an_evaluation_of_another_sampler_gives_no_figures(
    run: Callable[..., str], tmp_path: Path
) -> None:
    run("--num-steps", 1)
    kept = json.loads(next((tmp_path / "out").glob("samplers-*.json")).read_text())
    of_first = tmp_path / "evaluation.json"
    of_first.write_text(json.dumps({"diffusion": kept[0]["diffusion"]}))
    with pytest.raises(AssertionError, match="judges another sampler"):
        run("--take", 2, "--version", "0.1.0", "--evaluation", of_first)
