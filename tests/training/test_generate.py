"""Sets of generated ECGs, made by the command with the shipped generator."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg.generated import twelve_leads
from ecg.generation import generate as generate_rows
from ecg.generation import generate_many
from ecg.labels import Labels, encode, n_features
from ecg.leads import LEADS
from ecg.store import Generator, load_generator
from service.inflight import InFlight, Order
from tests.conftest import ROOT
from training import generate

FEW = ("--num-steps", 2, "--workers", 1, "--store", ROOT / "models_store")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return load_generator(ROOT / "models_store" / "ldm", "cpu")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "SHARD", 3)


def test_the_same_seed_gives_what_the_service_answers(generator: Generator) -> None:
    labels = Labels("abnormal", ("AFIB",), 63.0, "female", 80.0)
    d = generator.card.diffusion
    order = Order(3, encode(labels, generator.card.statements), 5, d.guidance_scale, d.num_steps)

    async def served() -> np.ndarray:
        return await InFlight(generator, threads=1, max_places=4, max_waiting=8)(order)

    alone = generate_rows(generator, [labels] * 3, range(3), 5)
    assert np.abs(asyncio.run(served()) - alone).max() < 1e-4


def test_a_row_is_the_same_to_the_last_bit_in_any_company(generator: Generator, rng) -> None:
    n_labels = n_features(generator.card.statements)
    x = rng.standard_normal((17, *generator.card.latents)).astype(np.float32)
    sigma = np.exp(rng.standard_normal(17)).astype(np.float32)
    labels = (rng.random((17, n_labels)) < 0.1).astype(np.float32)
    together = generator.denoise(x, sigma, labels)
    for n in (1, 2, 3, 5, 8, 16):
        np.testing.assert_array_equal(generator.denoise(x[:n], sigma[:n], labels[:n]), together[:n])
    decoded = generator.decode(x)
    np.testing.assert_array_equal(generator.decode(x[:1]), decoded[:1])


def test_batches_and_workers_do_not_change_an_ecg(generator: Generator) -> None:
    labels = [Labels("normal"), Labels("abnormal", ("AFLT",)), Labels(), Labels(age=30.0)]
    d = generator.card.diffusion.model_copy(update={"num_steps": 3})
    whole = generate_rows(generator, labels, range(4), 1, d)
    batches = list(generate_many(generator, labels, range(4), 1, d, workers=2, batch_size=3))
    assert [len(b) for b in batches] == [3, 1]
    assert np.abs(np.concatenate(batches) - whole).max() < 1e-4


def test_a_balanced_npz_of_several_shards(run_command, tmp_path: Path, generator) -> None:
    out = tmp_path / "set.npz"
    run_command(generate, *FEW, "--balance", "-n", 7, "--out", out, "--seed", 2, "--png", 1)
    with np.load(out, allow_pickle=False) as f:
        assert f["data"].shape == (7, 1000, 12) and f["data"].dtype == np.float32
        assert f["label"].tolist() == [0, 1, 0, 1, 0, 1, 0]
        assert tuple(f["leads"]) == LEADS and f["fs"] == 100 and f["units"] == "mV"
        assert f["seed"] == 2 and f["synthetic"]
        data = f["data"]
    d = generator.card.diffusion.model_copy(update={"num_steps": 2})
    expected = twelve_leads(generate_rows(generator, [Labels("normal")], [6], 2, d))[0]
    assert np.abs(data[6].T - expected).max() < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set-synthetic-00000.png", "set.npz"]


def test_wfdb_records_say_what_they_are(run_command, tmp_path: Path) -> None:
    out = tmp_path / "records"
    run_command(
        generate, *FEW, "--statements", "AFIB", "--complete", "--age", 70, "-n", 4, "--out", out,
        "--seed", 9,
    )  # fmt: skip
    names = (out / "RECORDS").read_text().split()
    assert names[3] == "000000003/synthetic_9_000000003"
    read = wfdb.rdrecord(str(out / names[3]))
    assert read.p_signal.shape == (1000, 12) and tuple(read.sig_name) == LEADS
    assert "synthetic" in read.comments[0]
    assert read.comments[1] == "asked for: substrate abnormal, AFIB, no other statement, 70 years"


def test_csv_has_a_row_an_ecg_with_its_label_last(run_command, tmp_path: Path) -> None:
    out = tmp_path / "set.csv"
    run_command(generate, *FEW, "--label", "normal", "-n", 4, "--out", out)
    rows = np.loadtxt(out, delimiter=",")
    assert rows.shape == (4, 12001) and (rows[:, -1] == 0).all()


def test_an_interrupted_set_goes_on_from_its_last_shard(
    run_command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*FEW, "--label", "abnormal", "-n", 8)
    run_command(generate, *asked, "--seed", 4, "--out", tmp_path / "whole.npz")
    made: list[int] = []

    def counting(generator, labels, rows, *rest, **options):
        if made == [0, 3]:
            raise KeyboardInterrupt
        made.append(rows[0])
        return generate_many(generator, labels, rows, *rest, **options)

    out = tmp_path / "set.npz"
    monkeypatch.setattr(generate, "generate_many", counting)
    with pytest.raises(KeyboardInterrupt):
        run_command(generate, *asked, "--seed", 4, "--out", out)
    assert not out.exists()
    monkeypatch.setattr(
        generate, "generate_many", lambda *a, **k: made.append(a[2][0]) or generate_many(*a, **k)
    )
    run_command(generate, *asked, "--out", out)  # the seed is the begun set's
    assert made == [0, 3, 6], "shards that were there are not made again"
    with np.load(tmp_path / "whole.npz") as whole, np.load(out) as resumed:
        np.testing.assert_array_equal(resumed["data"], whole["data"])
        assert resumed["seed"] == 4


def test_a_set_is_not_mixed_with_another_nor_overwritten(run_command, tmp_path: Path) -> None:
    out = tmp_path / "set.npz"
    parts = tmp_path / "set.npz.parts"
    run_command(generate, *FEW, "-n", 1, "--out", tmp_path / "other.npz", "--seed", 1)
    with pytest.raises(SystemExit, match="is there already"):
        run_command(generate, *FEW, "-n", 1, "--out", tmp_path / "other.npz")
    parts.mkdir()
    (parts / "plan.json").write_text(json.dumps({"sha256": "0", "seed": 1}))
    with pytest.raises(SystemExit, match="begun with another sha256"):
        run_command(generate, *FEW, "-n", 1, "--out", out, "--seed", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--statements", "AFIB,NOPE"), "NOPE is none of"),
        (("--statements", "AFIB", "--label", "normal"), "contradicts"),
        (("--statements", "AFLT", "--balance"), "contradicts"),
        (("--label", "normal", "--balance"), "leave --label out"),
        (("--complete",), "name the --statements"),
        (("--age", 130), "0 to 120"),
        (("--heart-rate", 10), "20 to 250"),
        (("--guidance-scale", 0.5), "1 .off. to 10"),
        (("--num-steps", 65), "1 to 64"),
        (("-n", 0), "at least 1"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(
    run_command, tmp_path: Path, arguments, message
) -> None:
    given = ("--store", ROOT / "models_store", *arguments)
    with pytest.raises(SystemExit, match=message):
        run_command(generate, *given, "--out", tmp_path / "set.npz")
    assert not list(tmp_path.iterdir())
