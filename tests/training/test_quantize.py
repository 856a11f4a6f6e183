"""Stored classifiers become one in int8 that says nearly the same, and says what it is."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ecg.prepare import Preparation
from ecg.statements import STATEMENTS
from ecg.store import CARD, WEIGHTS, load_classifier, open_session
from tests.ecg import fake_model
from tests.training.commands import command
from training import evaluate
from training.export import INPUTS, example, export_onnx
from training.graphs import first_convolutions, masks_apart, mean_of
from training.prednet import Committee, PredNet, PredNetConfig
from training.shards import Shard, save

CODES = ("NORM", "AFIB")
NARROW = PredNetConfig(widths=(8, 8, 16), stem_stride=4)


def network(seed: int) -> PredNet:
    torch.manual_seed(seed)
    model = PredNet(1 + len(CODES), NARROW)
    for module in model.modules():  # as if trained: statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "bootstrap", lambda *_: (0.0, 1.0))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> list[onnx.ModelProto]:
    """Of a committee of two, and the same with other kernels."""
    path = tmp_path_factory.mktemp("graphs") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter, of its own past
        export_onnx(Committee([network(1), network(2)]).eval(), 1000, path)
    first, second = onnx.load(path), onnx.load(path)
    for i in second.graph.initializer:
        if i.name.endswith("weight"):
            i.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(i)[::-1], i.name))
    return [first, second]


def stored(folder: Path, graph: onnx.ModelProto, version: str, **changes: object) -> Path:
    folder.mkdir(parents=True)
    content = graph.SerializeToString()
    (folder / WEIGHTS).write_bytes(content)
    given = {"sha256": hashlib.sha256(content).hexdigest(), "statements": CODES, **changes}
    card = fake_model.card(name=folder.name, version=version, **given)
    (folder / CARD).write_text(card.model_dump_json())
    return folder


def answers(graph: onnx.ModelProto | bytes, n: int, seed: int = 0) -> np.ndarray:
    weights = graph if isinstance(graph, bytes) else graph.SerializeToString()
    feeds = {k: x.numpy() for k, x in zip(INPUTS, example(n, 1000, seed), strict=True)}
    return open_session(weights, "cpu", 1)[0].run(None, feeds)[0]


def test_the_mean_is_by_shares(graphs: list[onnx.ModelProto]) -> None:
    one, two = (answers(g, 5) for g in graphs)
    whole = mean_of([onnx.ModelProto.FromString(g.SerializeToString()) for g in graphs], [1, 2])
    assert np.abs(answers(whole, 5) - (one + 2 * two) / 3).max() < 1e-5


def test_masks_apart_are_the_same_function(graphs: list[onnx.ModelProto]) -> None:
    for graph in graphs:
        apart = masks_apart(graph)
        assert np.abs(answers(apart, 7) - answers(graph, 7)).max() < 1e-5
        read = {i.name: i.dims for i in apart.graph.initializer}
        widest = [
            read[n.input[1]][1] for n in apart.graph.node if n.name in first_convolutions(apart)
        ]
        assert set(widest) == {1, 8}, "none reads the masks any more"


@pytest.fixture
def places(tmp_path: Path, graphs: list[onnx.ModelProto], a_shard: Callable[..., Shard]):
    """Two stored models, and a shard that they fit."""
    (tmp_path / "data").mkdir()
    save(a_shard(100), tmp_path / "data" / "a.npz")
    for name, graph in zip(("one", "two"), graphs, strict=True):
        stored(tmp_path / "store" / name, graph, "1")
    return tmp_path


def quantize(places: Path, *more: object, names: str = "one two", out: str = "out") -> str:
    models = [places / "store" / name for name in names.split()]
    given = ("--version", "2", "--data", places / "data", "--store", places / out)
    return command("quantize", *models, *given, "--segments", 8, *more, preset=None)


def test_the_candidate_is_int8_and_its_card_says_so(
    places: Path, graphs: list[onnx.ModelProto]
) -> None:
    quantize(places, "--shares", 1, 2)
    made = load_classifier(places / "out" / "prednet", "cpu")  # which compares the hash
    card = made.card
    assert (card.name, card.version, card.n_parameters) == ("prednet", "2", 2 * 24)
    assert card.architecture.startswith("int8 (7 bits of weights), first convolutions in float")
    assert "shares 1:2, of one 1 (a weighted sum) and two 1 (a weighted sum)" in card.architecture
    assert {m.data for m in card.metrics} == {"a fold 9"}, "fold 10 was not looked at"
    weights = (places / "out" / "prednet" / WEIGHTS).read_bytes()
    graph = onnx.load_from_string(weights).graph
    kernels = [i for i in graph.initializer if i.data_type == onnx.TensorProto.INT8 and i.dims]
    big = {i.name: onnx.numpy_helper.to_array(i) for i in kernels if len(i.dims) == 3}
    n_first = len(first_convolutions(onnx.load_from_string(weights)))
    assert len(big) == sum(n.op_type == "Conv" for n in graph.node) - n_first
    assert max(np.abs(k.astype(int)).max() for k in big.values()) <= 64
    whole = mean_of([onnx.ModelProto.FromString(g.SerializeToString()) for g in graphs], [1, 2])
    exact, near = answers(whole, 16), answers(weights, 16)
    assert 0 < np.abs(near - exact).mean() < 0.5 * exact.std(axis=0).mean()


def test_the_same_command_makes_the_same_bytes_and_company_changes_nothing(places: Path) -> None:
    quantize(places, out="first")
    quantize(places, "--report", out="second")
    first, second = ((places / n / "prednet" / WEIGHTS).read_bytes() for n in ("first", "second"))
    assert first == second
    card = load_classifier(places / "second" / "prednet", "cpu").card
    assert {m.data for m in card.metrics} == {"a fold 9", "a fold 10"}
    feeds = {k: x.numpy() for k, x in zip(INPUTS, example(16, 1000), strict=True)}
    session = open_session(first, "cpu", 1)[0]
    together = session.run(None, feeds)[0]
    for rows in ([3], [15, 0], list(range(5, 16))):
        some = session.run(None, {k: x[rows] for k, x in feeds.items()})[0]
        assert np.array_equal(some, together[rows])


def test_what_cannot_be_made_is_refused_in_words(
    places: Path, graphs: list[onnx.ModelProto]
) -> None:
    with pytest.raises(AssertionError, match="2 numbers above 0 are needed"):
        quantize(places, "--shares", 1)
    with pytest.raises(AssertionError, match="--keep-float nothing: the convolutions are"):
        quantize(places, "--keep-float", "nothing")
    with pytest.raises(AssertionError, match="is one of the models"):
        quantize(places, "--name", "one", out="store")
    other = next(c for c in STATEMENTS if c not in CODES)
    changed = {"statements": (other, "AFIB")}
    stored(places / "store" / "three", graphs[0], "1", **changed)
    with pytest.raises(AssertionError, match="differ in their statements"):
        quantize(places, names="one three")
    with pytest.raises(AssertionError, match="holds no classifier"):
        quantize(places, names="one nothing")
    save_otherwise = {"preparation": Preparation(highpass_hz=1.0)}
    stored(places / "store" / "four", graphs[0], "1", **save_otherwise)
    with pytest.raises(AssertionError, match="was prepared otherwise"):
        quantize(places, names="four")
