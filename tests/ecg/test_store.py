"""The store serves exactly what the card describes, on the device that was asked for."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest

from ecg.errors import StoreError
from ecg.prepare import condition, cut, sample_mask
from ecg.store import CARD, WEIGHTS, Generator, load_classifier, load_generator
from tests.conftest import ROOT
from tests.ecg import fake_generator, fake_model

SHIPPED = ROOT / "models_store" / "prednet"


@pytest.fixture
def folder(tmp_path):
    return fake_model.store(tmp_path / "fake")


@pytest.fixture
def cut_segments(records):
    """Real segments, some with padding and with missing leads."""
    sig = np.concatenate([cut(r, fake_model.card().preparation).sig for r in records.values()])
    n_valid = np.array([1000, 640, 1000, 500])
    lead_mask = np.ones((4, 8), dtype=np.float32)
    lead_mask[2, 3:] = 0
    sig *= lead_mask[:, :, None] * sample_mask(n_valid, 1000)[:, None, :]
    return sig, lead_mask, n_valid


def test_logits_are_the_networks_on_the_conditioned_segments(folder, cut_segments):
    classifier = load_classifier(folder, "cpu")
    sig, lead_mask, n_valid = cut_segments
    expected = fake_model.expected_logits(
        condition(sig, n_valid, classifier.card.preparation), lead_mask, sample_mask(n_valid, 1000)
    )
    logits = classifier.logits(*cut_segments)
    assert classifier.device == "cpu" and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-3, rtol=1e-5)


@pytest.fixture(params=["fake", "shipped"])
def classifier(request, folder):
    if request.param == "shipped" and not (SHIPPED / WEIGHTS).exists():
        pytest.skip("no model is shipped in this checkout")
    return load_classifier(SHIPPED if request.param == "shipped" else folder, "cpu")


def test_a_batch_gives_each_segment_what_it_gets_alone(classifier, cut_segments):
    together = classifier.logits(*cut_segments)
    alone = [classifier.logits(*(a[i : i + 1] for a in cut_segments))[0] for i in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)


def test_threads_at_once_get_what_one_gets_alone(classifier, cut_segments):
    batches = [tuple(np.roll(a, i, axis=0) for a in cut_segments) for i in range(16)]
    serial = [classifier.logits(*batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(lambda batch: classifier.logits(*batch), batches))
    np.testing.assert_array_equal(parallel, serial)


def test_altered_weights_are_refused(folder):
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(StoreError, match="sha256 differs"):
        load_classifier(folder, "cpu")


@pytest.mark.parametrize(("name", "says"), [(WEIGHTS, "no weights at"), (CARD, "no card at")])
def test_a_model_is_never_a_lone_file(folder, name, says):
    (folder / name).unlink()
    with pytest.raises(StoreError, match=says):
        load_classifier(folder, "cpu")


def test_weights_that_do_not_run_are_refused(tmp_path):
    folder = fake_model.store(tmp_path / "fake", sha256=hashlib.sha256(b"not a model").hexdigest())
    (folder / WEIGHTS).write_bytes(b"not a model")
    with pytest.raises(StoreError, match="ONNX Runtime"):
        load_classifier(folder, "cpu")


def test_cuda_is_never_silently_replaced_by_the_cpu(folder, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(StoreError, match="onnxruntime-gpu"):
        load_classifier(folder, "cuda")
    assert load_classifier(folder, "auto").device == "cpu"


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [1, 5, 8]), ("cuda", [1, 8, 8])])
def test_a_gpu_sees_few_batch_sizes_and_the_answer_none_of_the_filling(device, sizes) -> None:
    seen = []

    class Session:
        def run(self, outputs, inputs):
            seen.append(len(inputs["x"]))
            return [inputs["x"] * inputs["sigma"][:, None, None] + inputs["labels"][:, :, None]]

    generator = Generator(None, device, Session(), None)
    for n in (1, 5, 8):
        x, sigma = np.ones((n, 2, 3), np.float32), np.arange(n, dtype=np.float32)
        labels = np.zeros((n, 1), np.float32)
        out = generator.denoise(x, sigma, labels)
        np.testing.assert_array_equal(out, x * sigma[:, None, None])
    assert seen == sizes


def test_a_denoiser_of_other_label_features_is_refused(tmp_path):
    folder = fake_generator.store(tmp_path / "fake-ldm")
    assert load_generator(folder, "cpu").card.statements == fake_generator.STATEMENTS
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "statements": card["statements"][1:]}))
    with pytest.raises(StoreError, match="takes 15 label features, this version gives 14"):
        load_generator(folder, "cpu")


def test_the_runtime_keeps_nothing_of_its_own_and_tells_nobody(tmp_path):
    code = """
import sys
from ecg.store import load_classifier
from pathlib import Path
load_classifier(Path(sys.argv[1]), "cpu")
"""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", code, str(fake_model.store(tmp_path / "fake"))]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "HOME": str(home)}, check=True)
    assert not list(home.rglob("*"))
