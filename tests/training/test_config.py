"""Presets are tables; one entry may be changed; what is wrong is named."""

import argparse
import json
from dataclasses import dataclass, field

import pytest

from training import config
from training.loop import LoopConfig
from training.prednet import PredNetConfig
from training.train_classifier import ClassifierConfig


def load(*overrides, preset="smoke"):
    return config.load(ClassifierConfig, "prednet", preset, list(overrides))


def test_a_preset_changes_what_it_names_and_leaves_the_rest():
    smoke = load()
    assert smoke.loop.steps == 20 and smoke.loop.clip == LoopConfig().clip
    assert list(smoke.model.widths) == [8, 8, 16] and smoke.model.kernel == PredNetConfig().kernel


@pytest.mark.parametrize("preset", ["cpu", "gpu", "smoke", "taught"])
def test_every_preset_is_valid_and_printed_whole(preset):
    printed = json.loads(config.dump(load(preset=preset)))
    assert set(printed) == {"model", "loop", "batch", "teacher", "network"}
    assert printed["loop"]["seed"] == 0 and printed["batch"]["lead_set_share"]


@pytest.mark.parametrize(
    ("override", "table", "key", "value"),
    [
        ("loop.steps=3", "loop", "steps", 3),
        ("loop.lr=1e-2", "loop", "lr", 0.01),
        ("loop.lr=1", "loop", "lr", 1),
        ("loop.precision=bf16", "loop", "precision", "bf16"),
        ("model.widths=[4, 8]", "model", "widths", [4, 8]),
        ("batch.source_share={own = 1.0}", "batch", "source_share", {"own": 1.0}),
        ("batch.shorter=0.5", "batch", "shorter", 0.5),
    ],
)
def test_one_entry_is_changed(override, table, key, value):
    assert getattr(getattr(load(override), table), key) == value


def test_the_last_change_counts():
    assert load("loop.steps=3", "loop.steps=4").loop.steps == 4


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("loop.stepz=3", "stepz"),
        ("lop.steps=3", "unknown table 'lop'; there are model, loop, batch"),
        ("steps=3", "--set steps=3: expected TABLE.KEY=VALUE"),
        ("loop.steps", "--set loop.steps: expected TABLE.KEY=VALUE"),
        ("loop.steps=", "expected TABLE.KEY=VALUE"),
        ("loop.steps=many", r"[loop] steps: 'many' should be like 6000"),
        ("loop.steps=1.5", r"[loop] steps: 1.5 should be like 6000"),
        ("loop.steps=true", r"[loop] steps: True should be like 6000"),
        ("model.widths=8", "[model] widths: 8 should be like"),
        ("batch.gain=[1]", "[batch] gain: [1] should be like 0.1"),
    ],
)
def test_a_wrong_change_is_named(override, says):
    with pytest.raises(SystemExit) as end:
        load(override)
    assert says in str(end.value)


def test_what_has_no_default_may_be_anything(tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Part:
        limit: float | None = None

    @dataclass(frozen=True)
    class Whole:
        loop: Part = field(default_factory=Part)

    (tmp_path / "toy-tiny.toml").write_text("[loop]\nlimit = 1.5")
    monkeypatch.setattr(config, "PRESETS", tmp_path)
    assert config.load(Whole, "toy", "tiny", []).loop.limit == 1.5
    assert config.load(Whole, "toy", "tiny", ["loop.limit=[2]"]).loop.limit == [2]


def test_the_command_line_offers_the_presets_there_are(capsys):
    parser = argparse.ArgumentParser()
    config.add_arguments(parser, "prednet")
    given = parser.parse_args(["--preset", "gpu", "--set", "a.b=1", "--set", "c.d=2", "--dry-run"])
    assert (given.preset, given.overrides, given.dry_run) == ("gpu", ["a.b=1", "c.d=2"], True)
    with pytest.raises(SystemExit):
        parser.parse_args(["--preset", "huge"])
    offered = capsys.readouterr().err
    assert all(name in offered for name in ("cpu", "gpu", "smoke"))
