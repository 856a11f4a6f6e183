"""The one loop on a network of one weight: what is kept, and that stopping changes nothing."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from training.loop import LoopConfig, train

CONFIG = LoopConfig(
    steps=12, batch_size=4, lr=0.05, warmup=3, eval_every=4, precision="no", save_every_s=0.0
)


def network():
    """A dropout, so that the state of the random numbers matters too."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def batches(step, process, processes):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, 3, generator=generator)
    return {"x": x, "y": x.sum(dim=1, keepdim=True)}


def loss(model, batch):
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


class Interrupted(Exception):
    pass


def interrupted_at(last):
    def until(step, process, processes):
        if step == last:
            raise Interrupted
        return batches(step, process, processes)

    return until


def scores(*values):
    """An evaluation whose scores are given."""
    left = list(values)
    return lambda model: {"score": left.pop(0), "other": 0.5}


def weights(run, name="checkpoint.pt"):
    saved = torch.load(run / name, weights_only=True)
    return saved["ema"] if name == "checkpoint.pt" else saved


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("interruptions", [(1,), (5, 9), (11,)])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(interruptions, tmp_path):
    train(network(), loss, batches, scores(1, 2, 3), CONFIG, tmp_path / "whole")
    for last in interruptions:
        torch.manual_seed(last)  # another process, another state
        with pytest.raises(Interrupted):
            train(
                network(), loss, interrupted_at(last), scores(1, 2, 3), CONFIG, tmp_path / "parts"
            )
    train(network(), loss, batches, lambda model: {"score": 3.0}, CONFIG, tmp_path / "parts")
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "parts")
    )
    assert whole["step"] == parts["step"] == 12
    assert same(whole["model"], parts["model"])
    assert same(whole["ema"], parts["ema"])


def test_a_run_stops_after_its_minutes_and_can_be_resumed(tmp_path):
    train(network(), loss, batches, scores(), CONFIG, tmp_path, minutes=0.0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 0
    train(network(), loss, batches, scores(1, 2, 3), CONFIG, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 12


def test_a_finished_run_is_left_as_it_is(tmp_path):
    train(network(), loss, batches, scores(1, 2, 3), CONFIG, tmp_path)
    before = (tmp_path / "best.pt").read_bytes()
    train(network(), loss, batches, scores(), CONFIG, tmp_path)
    assert (tmp_path / "best.pt").read_bytes() == before


@pytest.mark.parametrize(("values", "best"), [((1, 3, 2), 8), ((3, 2, 1), 4), ((1, 2, 3), 12)])
def test_the_averaged_weights_of_the_best_evaluation_are_kept(values, best, tmp_path):
    seen = {}

    def evaluate(model):
        step = 4 * (1 + len(seen))
        seen[step] = {k: v.clone() for k, v in model.state_dict().items()}
        return {"score": values[len(seen) - 1]}

    train(network(), loss, batches, evaluate, CONFIG, tmp_path)
    assert same(weights(tmp_path, "best.pt"), seen[best])
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(h["step"], h["score"]) for h in history] == list(zip((4, 8, 12), values, strict=True))


def test_a_resumed_run_does_not_forget_its_best(tmp_path):
    config = replace(CONFIG, eval_every=4)
    with pytest.raises(Interrupted):
        train(network(), loss, interrupted_at(6), scores(9), config, tmp_path)
    best = weights(tmp_path, "best.pt")
    train(network(), loss, batches, scores(1, 2), config, tmp_path)
    assert same(weights(tmp_path, "best.pt"), best)


def test_another_figure_may_choose(tmp_path):
    config = replace(CONFIG, score="loss", steps=4)
    train(network(), loss, batches, lambda model: {"loss": 1.0}, config, tmp_path)
    assert (tmp_path / "best.pt").exists()


def test_a_run_depends_on_its_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(
            network(), loss, batches, scores(1, 2, 3), replace(CONFIG, seed=seed), tmp_path / name
        )
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert same(a, b) and not same(a, c)


class Recorder(nn.Module):
    """One weight whose gradient is always 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def test_the_learning_rate_warms_up_and_falls_like_a_cosine(tmp_path, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def recorded(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    config = replace(CONFIG, steps=9, warmup=3, lr=0.3)
    train(Recorder(), lambda m, b: m.weight.sum(), batches, scores(1, 2, 3), config, tmp_path)
    falling = [0.15 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, *falling])


def test_what_is_kept_is_an_average_of_the_weights(tmp_path):
    """Of a weight whose steps are known: each batch sets it; decay (1 + s) / (10 + s) at first."""
    values = [1.0, 5.0, -2.0]

    def setting(model, batch):
        with torch.no_grad():
            model.weight.fill_(values.pop(0))
        return 0.0 * model.weight.sum()

    config = replace(CONFIG, steps=3, lr=0.0, ema=0.998)
    train(Recorder(), setting, batches, scores(1.0), config, tmp_path)
    expected = 0.0
    for s, value in enumerate((1.0, 5.0, -2.0), start=1):
        decay = (1 + s) / (10 + s)
        expected = decay * expected + (1 - decay) * value
    assert weights(tmp_path)["weight"].item() == pytest.approx(expected, rel=1e-5)
